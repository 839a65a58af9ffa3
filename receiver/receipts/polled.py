"""What the platform answers when it is asked becomes receipts of the feed `poll`: whose each is, and what it says.

No message is ever born here: what can't be joined to one that we asked about is left out, and counted.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import NamedTuple

from receiver.ids import Digest, MessageId, SubmissionId, destination_digest, normalise_destination, transid_root
from receiver.messages.lattice import RANK, Channel, clash, reason_key
from receiver.messages.told import Told
from receiver.platform.status import Entry, entry_of, fact_of_status
from receiver.platform.times import moment
from receiver.platform.words import channel_of
from receiver.receipts.texts import Source, Texts, told_of

ISSUED, OBSERVED = 1, 2  # message.origin; the third is recorded
SHORTEST_NUMBER = 7  # digits of a phone number; a shorter one may stand for another
_VERSION = b"poll\x01"


class Known(NamedTuple):
    """A message that we know under a transid, whether we wait for it or not."""

    id: MessageId
    origin: int
    submission_id: SubmissionId | None
    channel: Channel
    destination: str
    destination_key: Digest
    transid: str
    told: frozenset[bytes] = frozenset()
    """Digests of other recipients that receipts have told of it: the numbers of a customer."""
    is_child: bool = False
    """Of an event: its channel tells it apart from others to the same recipient."""


class Joined(NamedTuple):
    """An entry, and whose it is."""

    message: Known
    told: Told


def receipts_of(
    transid: str, entries: Sequence[Entry], known: Sequence[Known], source: Source
) -> tuple[list[Joined], int]:
    """The receipts in the answer to a question for `transid`, and how many entries could not be joined.

    `known` are all messages that we know under it. Where an answer has one entry and we know one message, that is the
    one we asked about, however the platform spells its recipient: a customer's id becomes a number there. Of a message
    that was only observed several entries of one channel prove nothing: a flow may have sent another to the same
    recipient, of which nobody told us.
    """
    directory = _Directory(transid, known)
    joined, dropped = [], 0
    recipients = [destination_digest(entry.to) if entry.to else None for entry in entries]
    heard = frozenset(recipients)
    owners = [
        directory.whose(e, key, heard, alone=len(entries) == 1) for e, key in zip(entries, recipients, strict=True)
    ]
    channels = [channel_of(entry.channel) if entry.channel else None for entry in entries]
    claims = Counter((owner.id, channel) for owner, channel in zip(owners, channels, strict=True) if owner is not None)
    for entry, message, channel in zip(entries, owners, channels, strict=True):
        if message is None or (message.origin == OBSERVED and claims[message.id, channel] > 1):
            dropped += 1
            continue
        whole = entry.with_what_we_asked_for(transid, message.channel.word, message.destination)
        told = _told(whole, source._replace(submission_id=message.submission_id))
        joined.append(Joined(message, told._replace(candidate=message.id)))
    return joined, dropped


def read(raw: bytes, source: Source) -> list[Told]:
    """The receipt that was stored with these bytes, read anew; its fingerprint is the same. Nothing for other bytes."""
    entry = entry_of(raw)
    return [] if entry is None else [_told(entry, source)]


class _Directory:
    """The messages that go by a transid, found by what an entry says: an answer may have a thousand of both."""

    def __init__(self, asked: str, known: Sequence[Known]) -> None:
        self._asked, self._root = asked.casefold(), transid_root(asked)
        self._by_transid: defaultdict[str, list[Known]] = defaultdict(list)
        self._by_recipient: defaultdict[bytes, list[Known]] = defaultdict(list)
        for one in known:
            self._by_transid[one.transid.casefold()].append(one)
            for key in {one.destination_key, *one.told}:
                self._by_recipient[key].append(one)

    def whose(self, entry: Entry, key: Digest | None, heard: frozenset[Digest | None], *, alone: bool) -> Known | None:
        """The message that an entry to `key` speaks of; None where that is not certain. `heard`: all recipients."""
        if key is None and not alone:
            return None
        name = self._name(entry.transid.casefold())
        named, to_it = self._by_transid.get(name, []), self._by_recipient.get(key or b"", [])
        there = [one for one in to_it if one.transid.casefold() == name]
        if len(named) == 1 and not there:
            one = named[0]
            # only of what we sent do we know all that goes by its transid; another's entry stands beside one of its own
            may_be_spelled_otherwise = one.origin == ISSUED or (
                one.origin != OBSERVED and alone and not _are_two_numbers(one.destination, entry.to)
            )
            is_another_s = bool(to_it) or not heard.isdisjoint({one.destination_key, *one.told})
            there = [one] if key is None or (may_be_spelled_otherwise and not is_another_s) else []
        if len(there) > 1 or (there and there[0].is_child):
            there = [one for one in there if not entry.channel or one.channel is channel_of(entry.channel)]
        return there[0] if len(there) == 1 else None

    def _name(self, told: str) -> str:
        """Under which transid an entry that tells `told` is looked for.

        The very transid counts. Else the one that we asked for, where one of the two is the request's and the other
        has a suffix.
        """
        if not told:
            return self._asked
        if told not in self._by_transid and transid_root(told) == self._root and self._root in (told, self._asked):
            return self._asked
        return told


def _are_two_numbers(ours: str, theirs: str) -> bool:
    """Whether both are phone numbers and end otherwise: no spelling makes one of the other."""
    numbers = [normalise_destination(ours), normalise_destination(theirs)]
    return all(len(n) >= SHORTEST_NUMBER and n.isdigit() for n in numbers) and numbers[0][-6:] != numbers[1][-6:]


def _told(entry: Entry, source: Source) -> Told:
    """The receipt that an entry is. What the words and codes mean is what they mean in a push, but for `failed`."""
    identity = _fingerprint(entry)
    texts: Texts = (
        entry.status,
        entry.channel,
        entry.error_code,
        entry.error_message,
        "",
        entry.to,
        "",
        "",
        entry.transid,
        *("",) * 7,
    )
    told = told_of(texts, False, identity, source, entry.raw)
    fact = fact_of_status(told.channel, entry.status)
    if fact is not told.fact:
        told = told._replace(
            fact=fact,
            rank=RANK[fact],
            clash=clash(told.channel, fact),
            reason_key=reason_key(fact, bool(entry.error_code), bool(told.reason_class), identity),
        )
    return told._replace(told_at=_told_at(entry, source.zone))


def _told_at(entry: Entry, zone: tzinfo) -> datetime | None:
    """When it happened: the entry's last change, which was not before its creation; None where it tells no time."""
    updated, created = moment(entry.last_updated, zone), moment(entry.date_created, zone)
    return max(updated, created) if updated and created else updated


def _fingerprint(entry: Entry) -> bytes:
    """16 bytes that the same answer again has again. Its times are not in them: they may move without anything new."""
    says = (entry.status, entry.transid, entry.to, entry.channel, entry.error_code, entry.error_message)
    return hashlib.sha256(_VERSION + json.dumps(says).encode()).digest()[:16]

"""What a notification says, as texts, and the receipt that they make: one way, however the body was read."""

import re
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from receiver.ids import (
    Digest,
    SubmissionId,
    TenantId,
    digest,
    leg_of,
    new_id,
    normalise_destination,
    parse_id,
    transid_root,
)
from receiver.messages.country import country_of
from receiver.messages.lattice import RANK, Channel, Fact, State, clash, reason_key
from receiver.messages.told import Told, transid_digest
from receiver.platform.codes import CAUSE_BESIDE, channel_of, fact_of, receipt_meaning
from receiver.platform.times import moment

# For each text the names under which it is told, in lower case; the first that says something counts.
NAMES: tuple[tuple[str, ...], ...] = (
    ("deliverystatus", "status"),
    ("deliverychannel", "channel"),
    ("code",),
    ("description",),
    ("additionalinfo",),
    ("destination", "address"),
    ("destinationtype",),
    ("timestamp", "deliverydate"),
    ("transid", "requestid", "messageid", "transactionid"),
    ("correlationid", "clientcorrelator"),
    ("callbackdata",),
    ("subtid",),
    ("deviceid",),
    ("pushid",),
    ("carrier",),
    ("messagecount",),
)
Texts: TypeAlias = tuple[str, str, str, str, str, str, str, str, str, str, str, str, str, str, str, str]
"""One text for each of NAMES, empty where nothing is said. Free of NUL, lone surrogates and blanks around it."""

_TEMPLATE = re.compile(r"\$\([A-Za-z0-9_.]{1,64}\)")
_LONGEST_WORDS = 96  # characters of status, channel and code together: what is kept of them is bounded


class Source(NamedTuple):
    """Where a body came from: whose it is, under which submission's URL, when, and the zone of bare time stamps."""

    tenant: TenantId
    submission_id: SubmissionId | None
    received_at: datetime
    zone: tzinfo = UTC
    headers: str = "{}"


def told_of(texts: Texts, callback_names_it: bool, fingerprint: bytes, source: Source, raw: bytes) -> Told:
    """The receipt that says `texts`. `callback_names_it`: its callbackData is the id of its request, as OneAPI's."""
    (
        status,
        word,
        code,
        description,
        additional,
        destination,
        destination_type,
        stamp,
        transid,
        correlationid,
        callback,
        subtid,
        device,
        push_id,
        carrier,
        count,
    ) = texts
    if "$(" in correlationid or "$(" in callback:
        correlationid, callback = _expanded(correlationid), _expanded(callback)
    known = len(status) + len(word) + len(code) <= _LONGEST_WORDS
    channel, fact, rank, contradicted, reason, reason_class, code_key = (
        _sense(word, status, code) if known else _sense.__wrapped__(word, status, code)
    )
    if reason is not None:
        reason += fingerprint
        if channel in CAUSE_BESIDE:
            reason_class = _class_of(channel, code, description, additional)
            reason = reason_key(fact, bool(code), reason_class != 0, fingerprint)
    tenant, submission_id, received_at, zone, _ = source
    recipient = normalise_destination(destination)
    leg = leg_of("", recipient)
    fresh: Any = new_id()
    candidate: Any = parse_id(correlationid) if correlationid else None
    return Told(
        tenant,
        submission_id,
        candidate,
        _key(transid, correlationid, callback if callback_names_it else "", fingerprint),
        leg_of(subtid, recipient) if subtid else leg,
        leg,
        fresh,
        fingerprint,
        channel,
        fact,
        rank,
        contradicted,
        reason,
        reason_class,
        received_at,
        moment(stamp, zone),
        status,
        code or None,
        code_key,
        (f"{description} · {additional}" if description and additional else description or additional) or None,
        destination or None,
        destination_type or None,
        digest(recipient),
        subtid or None,
        device or push_id or None,
        carrier or None,
        int(count) if count.isdigit() and count.isascii() and len(count) <= 6 else None,
        transid or None,
        correlationid or None,
        digest(correlationid) if correlationid else None,
        callback or None,
        digest(callback) if callback else None,
        country_of(recipient, destination_type),
        raw,
    )


class _Sense(NamedTuple):
    """What a receipt's three words mean. `reason` is the reason key of a negative fact, but for its fingerprint."""

    channel: Channel
    fact: Fact
    rank: State
    clash: Fact
    reason: bytes | None
    reason_class: int | None
    code_key: Digest | None


@lru_cache(maxsize=1024)  # the same few words in nearly every receipt; half a megabyte at most
def _sense(channel_word: str, status: str, code: str) -> _Sense:
    channel = channel_of(channel_word)
    fact = fact_of(channel, status)
    failure_class = _class_of(channel, code, "", "")
    reason = reason_key(fact, bool(code), failure_class != 0, b"")
    return _Sense(
        channel,
        fact,
        RANK[fact],
        clash(channel, fact),
        reason,
        None if reason is None else failure_class,
        digest(code) if code else None,
    )


def _class_of(channel: Channel, code: str, description: str, additional: str) -> int:
    meaning = receipt_meaning(channel, code, description, additional)
    return int(meaning.failure_class) if meaning else 0


def _key(transid: str, correlationid: str, oneapi_callback: str, fingerprint: bytes) -> Digest:
    """What names a message that is not ours: its transid, else its correlationid; never a phone number alone.

    OneAPI hubs put the id of the request into callbackData. A receipt without any id can't be joined to another:
    its own fingerprint is its key.
    """
    if transid:
        return transid_digest(transid_root(transid))
    if correlationid:
        return digest(f"c\0{correlationid.casefold()}")
    if oneapi_callback:
        return digest(f"b\0{oneapi_callback}")
    return digest(f"f\0{fingerprint.hex()}")


def _expanded(text: str) -> str:
    """`text`, or nothing where it is a template that the platform did not fill in: `$(callbackData)`."""
    return "" if _TEMPLATE.fullmatch(text) else text

"""The last word on submissions: the platform's answers, or our own, merged by the same fold as every receipt."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
import msgspec

from receiver.database.pool import Pool
from receiver.ids import NO_LEG, Digest, MessageId, SubmissionId, TenantId, leg_digest, transid_root
from receiver.messages.changes import Change
from receiver.messages.lattice import Channel, Fact
from receiver.messages.store import MOST_TRIES, apply_known, connect, may_try_again
from receiver.messages.told import Feed, Told, told_by_us, transid_digest
from receiver.platform.apis import Api
from receiver.platform.calls import is_queued, was_surely_refused
from receiver.platform.codes import answer_meaning
from receiver.platform.wire import Answer, AnswerItem, Outcome, Recipient
from receiver.sending import outbox, resending
from receiver.sending.claims import Claim, Load
from receiver.sending.outbox import Attempt

# A key for each pair of transid and recipient, where the platform gave another number of transids than of entries.
MOST_KEYS = 20_000
# Of the others nothing is known to be said again: an event starts a flow.
RESENDABLE = frozenset({Api.MESSAGING, Api.MESSAGING_V2})

EXPIRED = Answer(
    Outcome.EXPIRED,
    (AnswerItem("expired", None, "The message expired before it could be sent."),),
    description="expired before it was sent",
)
ABANDONED = Answer(
    Outcome.UNCERTAIN, description="the process that sent it ended before the answer was stored: it may have been sent"
)


@dataclass(frozen=True)
class Done:
    """A submission with the last word on it."""

    claim: Claim
    load: Load
    answer: Answer
    at: datetime

    @property
    def group(self) -> tuple[TenantId, Feed]:
        """Those that are alike in this may be settled together, each kind of lock once and in order."""
        return self.claim.tenant, Feed.OWN if self.answer.http_status is None else Feed.ANSWER


async def settle(
    pool: Pool, group: Sequence[Done], *, keep_content: bool, resend_after: timedelta | None = None
) -> tuple[list[Change], dict[bytes, str]]:
    """Merges the last word on submissions of one group, erases their content and takes them out of the outbox, in one
    transaction. With `resend_after` those with uncertain messages are held to be sent again.

    Returns what changed, and the code of each reason. Raises asyncpg.PostgresError or OSError: nothing was stored.
    """
    tenant, feed = group[0].group
    at = max(done.at for done in group)
    told = [_told(d, r, item) for d in group for r, item in items_of(d.load.recipients, d.answer, d.load.api)]
    ids = [MessageId(recipient.message_id) for done in group for recipient in done.load.recipients]
    keys = [
        key
        for done in group
        for key in keys_of(Channel(done.load.channel), done.load.recipients, done.answer, done.load.api)
    ]
    attempts = [Attempt(done.claim, done.answer, done.at) for done in group]
    held = _to_resend(group, told) if resend_after else []
    changes: list[Change] = []
    async with pool.acquire() as connection:
        for tries_left in range(MOST_TRIES - 1, -1, -1):
            try:
                async with connection.transaction():
                    changes = await connect(connection, at, tenant, keys)
                    changes += await apply_known(connection, at, feed, ids, told)
                    if resend_after and held:
                        await resending.hold(connection, held, at, resend_after)
                    await outbox.finish(connection, attempts, keep_content=keep_content, held=held)
                break
            except asyncpg.PostgresError as error:
                if not tries_left or not may_try_again(error):
                    raise
    return changes, {t.reason_key: t.code or "none" for t in told if t.reason_key is not None}


def _to_resend(group: Sequence[Done], told: Sequence[Told]) -> list[SubmissionId]:
    """Of which messages may go again. Whose client waits in line was told: it decides. Nothing goes three times."""
    uncertain = {t.submission_id for t in told if t.fact is Fact.UNCERTAIN}
    may = [d for d in group if d.load.api in RESENDABLE and not d.claim.in_line and not d.load.is_resend]
    return [d.claim.submission_id for d in may if d.claim.submission_id in uncertain]


def items_of(
    recipients: Sequence[Recipient], answer: Answer, api: Api = Api.MESSAGING
) -> Iterator[tuple[Recipient, AnswerItem]]:
    """What the platform says of each recipient: one item each, in order, or the first for all."""
    each = len(answer.items) == len(recipients)
    first = answer.items[0] if answer.items else AnswerItem("", None, answer.description)
    if not each and answer.outcome is Outcome.ACCEPTED:
        first = next(item for item in answer.items if is_queued(api, item))
    for index, recipient in enumerate(recipients):
        yield recipient, answer.items[index] if each else first


FACTS = {Outcome.REFUSED: Fact.REFUSED, Outcome.UNCERTAIN: Fact.UNCERTAIN, Outcome.EXPIRED: Fact.EXPIRED}
STATUSES = {fact: outcome.value for outcome, fact in FACTS.items()}


def _told(done: Done, recipient: Recipient, item: AnswerItem) -> Told:
    claim, load, answer = done.claim, done.load, done.answer
    said = Fact.REFUSED if was_surely_refused(load.api, item) else Fact.UNCERTAIN  # of one entry among accepted ones
    fact = FACTS.get(answer.outcome) or (Fact.ACCEPTED if is_queued(load.api, item) else said)
    meaning = answer_meaning(load.api.word, item.code)
    shared = len(answer.items) != len(load.recipients) and len(answer.items) > 1
    raw = msgspec.json.encode({"code": item.code, "transid": item.transid, "description": item.description})
    identity = b"\0".join((b"\x01own", claim.submission_id.bytes, fact.name.encode() if fact.name else b"", raw))
    return told_by_us(
        tenant=claim.tenant,
        submission_id=claim.submission_id,
        message_id=MessageId(recipient.message_id),
        channel=Channel(load.channel),
        destination=recipient.value,
        fact=fact,
        fingerprint=hashlib.sha256(identity).digest()[:16],
        at=done.at,
        status="queued" if fact is Fact.ACCEPTED else STATUSES[fact],
        code=item.code or None,
        code_class=int(meaning.failure_class) if meaning else 0,
        description=item.description,
        transid=None if shared else item.transid,
        raw=raw,
    )


def keys_of(
    channel: Channel, recipients: Sequence[Recipient], answer: Answer, api: Api = Api.MESSAGING
) -> list[tuple[Digest, Digest, MessageId]]:
    """Under which transid each message is filed. Where the numbers differ, under each of them: the recipient tells.

    Of events nothing but their own transid can tell: one that they share says of none.
    """
    each = len(answer.items) == len(recipients)
    if answer.outcome is not Outcome.ACCEPTED or (channel is Channel.EVENT and not each):
        return []
    keys: dict[tuple[Digest, Digest], MessageId] = {}
    for index, recipient in enumerate(recipients):
        leg = NO_LEG if channel is Channel.EVENT else leg_digest("", recipient.value)
        identity = MessageId(recipient.message_id)
        for item in (answer.items[index],) if each else answer.items:
            if item.transid and is_queued(api, item) and len(keys) < MOST_KEYS:
                keys[transid_digest(transid_root(item.transid)), leg] = identity
    return [(transid, leg, identity) for (transid, leg), identity in keys.items()]

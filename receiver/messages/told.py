"""One fact told of a message, in the shape in which `apply` takes it."""

from datetime import datetime
from enum import IntEnum
from typing import NamedTuple

from receiver.ids import (
    Digest,
    MessageId,
    SubmissionId,
    TenantId,
    destination_digest,
    digest,
    leg_digest,
    new_id,
)
from receiver.messages.lattice import RANK, Channel, Fact, State, clash, reason_key


class Feed(IntEnum):
    """Who told it. The numbers are stored; the first four are counted in the ledger."""

    PUSH = 1
    IMPORT = 2
    POLL = 3
    REPLAY = 4
    ANSWER = 5
    OWN = 6

    @property
    def word(self) -> str:
        """The feed as clients and metrics read it."""
        return self.name.lower()


class Told(NamedTuple):
    """One receipt, read: the fields of the SQL type `told_v1`, in its order.

    Texts are free of NUL and lone surrogates; `raw` has the bytes as they came.
    """

    tenant: TenantId
    submission_id: SubmissionId | None
    candidate: MessageId | None
    transid_key: Digest
    leg_key: Digest
    issued_leg_key: Digest
    fresh: MessageId
    fingerprint: bytes
    channel: Channel
    fact: Fact
    rank: State
    clash: Fact
    reason_key: bytes | None
    reason_class: int | None
    received_at: datetime
    told_at: datetime | None
    status: str
    code: str | None
    code_key: Digest | None
    description: str | None
    destination: str | None
    destination_type: str | None
    destination_key: Digest
    subtid: str | None
    device: str | None
    carrier: str | None
    message_count: int | None
    transid: str | None
    correlationid: str | None
    correlation_key: Digest | None
    callback_data: str | None
    callback_key: Digest | None
    country: str | None
    raw: bytes

    @property
    def at(self) -> datetime:
        """When it happened: as told, else when we heard of it."""
        return self.told_at or self.received_at

    @property
    def leg(self) -> tuple[object, ...]:
        """Which of a message's legs it speaks of."""
        return (self.channel, self.destination_key, self.subtid, self.device)


class Reject(NamedTuple):
    """A body in which no receipt could be read: the fields of the SQL type `reject_v1`, in its order."""

    tenant: TenantId
    digest: Digest
    reason: str
    detail: str | None
    body: bytes
    headers: str
    at: datetime
    submission_id: SubmissionId | None = None


def transid_digest(root: str) -> Digest:
    """The first half of a message's key, from a transid's root."""
    return digest(f"t\0{root}")


def told_by_us(
    *,
    tenant: TenantId,
    submission_id: SubmissionId,
    message_id: MessageId,
    channel: Channel,
    destination: str,
    fact: Fact,
    fingerprint: bytes,
    at: datetime,
    status: str,
    code: str | None,
    code_class: int,
    description: str | None,
    transid: str | None,
    raw: bytes,
) -> Told:
    """A fact that no receipt told: the platform's answer to a submission, or our own word on it."""
    return Told(
        tenant=tenant,
        submission_id=submission_id,
        candidate=message_id,
        transid_key=transid_digest(transid or ""),
        leg_key=leg_digest("", destination),
        issued_leg_key=leg_digest("", destination),
        fresh=MessageId(new_id()),
        fingerprint=fingerprint,
        channel=channel,
        fact=fact,
        rank=RANK[fact],
        clash=clash(channel, fact),
        reason_key=reason_key(fact, bool(code), code_class != 0, fingerprint),
        reason_class=code_class if reason_key(fact, False, False, fingerprint) else None,
        received_at=at,
        told_at=None,
        status=status,
        code=code,
        code_key=digest(code) if code else None,
        description=description,
        destination=destination,
        destination_type=None,
        destination_key=destination_digest(destination),
        subtid=None,
        device=None,
        carrier=None,
        message_count=None,
        transid=transid,
        correlationid=None,
        correlation_key=None,
        callback_data=None,
        callback_key=None,
        country=None,
        raw=raw,
    )

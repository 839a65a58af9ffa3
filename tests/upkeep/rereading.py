"""Receipts as an older version would have stored them, and what a re-read makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from receiver.database.pool import Connection
from receiver.ids import MessageId, TenantId, new_id
from receiver.messages.lattice import RANK, Channel, Fact, clash, reason_key
from receiver.messages.told import Feed, Told
from receiver.receipts.apply import apply
from receiver.upkeep.reread import Course, Scope, carry_out, from_the_start, look
from receiver.upkeep.reread_figures import Report
from tests.receipts.tellings import body, told_of
from tests.support import now

# All that a re-read could write to. xmin: which transaction wrote a row last.
WRITTEN = """
select (select json_agg((id, xmin::text, version) order by id) from message_state)::text,
       (select json_agg((message_id, fingerprint, xmin::text) order by message_id, fingerprint) from receipt)::text,
       (select count(*) from change), (select count(*) from forward), (select count(*) from walk),
       (select count(*) from awaited)
"""


@dataclass(frozen=True)
class OlderTables:
    """What an older version took words and codes for, where that differs from now."""

    facts: Mapping[str, Fact] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    channels: Mapping[str, Channel] = field(default_factory=dict)
    knew_times: bool = True

    def read(self, told: Told) -> Told:
        """The receipt as that version read it from the same body."""
        channel = self.channels.get(told.channel.word, told.channel)
        fact = self.facts.get(told.status, told.fact)
        failure_class = self.classes.get(told.code or "", told.reason_class or 0)
        reason = reason_key(fact, bool(told.code), failure_class != 0, told.fingerprint)
        return told._replace(
            channel=channel,
            fact=fact,
            rank=RANK[fact],
            clash=clash(channel, fact),
            reason_key=reason,
            reason_class=None if reason is None else failure_class,
            told_at=told.told_at if self.knew_times else None,
        )


def info(status: str, code: str = "", channel: str = "SMS", minute: int = 0) -> dict[str, Any]:
    """A deliveryInfo."""
    return {
        "deliveryChannel": channel,
        "deliveryStatus": status,
        "destination": "447700900123",
        "code": code,
        "timeStamp": f"2026-03-01T12:{minute:02}:00Z",
    }


def telling(
    tenant: TenantId, transid: str, status: str, code: str = "", minute: int = 0, ours: UUID | None = None
) -> Told:
    """A receipt as it is read now."""
    return told_of(body(info(status, code, minute=minute), transid, str(ours or "")), tenant)


async def tell(connection: Connection, *told: Told) -> list[MessageId]:
    """Applies receipts; returns whose they are."""
    fresh = [t._replace(fresh=MessageId(new_id())) for t in told]
    found = (await apply(connection, new_id(), now(), Feed.PUSH, fresh)).messages
    return [message for message in found if message is not None]


def scope(*tenants: TenantId, since: datetime | None = None, only: TenantId | None = None) -> Scope:
    """All that these tenants ever had, or what was born since."""
    return Scope(since or now() - timedelta(days=1), None, only, dict.fromkeys(tenants, UTC))


def course(of: Scope) -> Course:
    """From the start, and a little beyond now: what has just been born is within."""
    begun = from_the_start(of)
    begun.until += timedelta(seconds=1)
    return begun


async def would(connection: Connection, of: Scope) -> Report:
    """What a re-read would change."""
    return await look(connection, course(of))


async def reread(connection: Connection, of: Scope) -> Report:
    """What a re-read changes."""
    return await carry_out(connection, course(of))


async def written(connection: Connection) -> Sequence[object]:
    """What it must not touch where nothing changes."""
    row = await connection.fetchrow(WRITTEN)
    assert row is not None
    return tuple(row)

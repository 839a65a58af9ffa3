"""Messages as sending leaves them once the platform has answered, many at a time: what receipts are told of."""

import hashlib
import itertools
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID, uuid4

import asyncpg

from receiver.database.pool import connect
from receiver.ids import (
    MessageId,
    SubmissionId,
    TenantId,
    destination_digest,
    digest,
    first_id_at,
    leg_digest,
    new_id,
    transid_root,
)
from receiver.messages.lattice import RANK, Channel, Fact
from receiver.messages.told import Feed, transid_digest
from receiver.platform.apis import Api

_numbers = itertools.count(447_100_000_000)
ACCEPTED, QUEUED = Fact.ACCEPTED, "Queued"
BLOCK = 20_000

BATCH = "id tenant created_at first_id last_id message_count"
SUBMISSION = "id tenant batch_id api created_at first_id last_id message_count sent_at answered_at"
ATTEMPT = "submission_id number at outcome http_status code description"
MESSAGE = (
    "id tenant origin channel created_at batch_id submission_id destination destination_type destination_key"
    " correlationid correlation_key callback_data callback_key"
)
STATE = "id tenant origin channel state facts version accepted_at changed_at transid"
RECEIPT = (
    "message_id fingerprint feed channel fact rank clash received_at status code code_key description destination"
    " destination_key transid raw"
)
KEY = "generation tenant transid_key leg_key message_id"
CHANGE = "at message_id version tenant origin channel old_state new_state old_conflict new_conflict"


class Issued(NamedTuple):
    """What a receipt of this message says, and under which URL it comes."""

    id: MessageId
    submission: SubmissionId
    destination: str
    transid: str
    callback: str

    @property
    def correlation(self) -> str:
        """The client's own."""
        return f"c-{self.callback}"


async def issue(
    dsn: str, tenant: TenantId, number: int, per_submission: int = 1, *, at: datetime | None = None, generation: int = 0
) -> list[Issued]:
    """Writes that many accepted messages, so many a submission; all rows of all tables, by COPY.

    With `at` they were born then, and their keys are in that generation.
    """
    connection = await connect(dsn, "bench")
    generation = generation or int(await connection.fetchval("select current from key_generation"))
    issued: list[Issued] = []
    try:
        for start in range(0, number, BLOCK):
            rows, some = _rows(tenant, generation, min(BLOCK, number - start), per_submission, at)
            async with connection.transaction():
                for (table, columns), records in rows.items():
                    await connection.copy_records_to_table(table, records=records, columns=columns.split())
            issued += some
        await look_at_tables(connection)
    finally:
        await connection.close()
    return issued


CHANGED = """
select c.oid::regclass::text as name from pg_class c join pg_stat_user_tables t on t.relid = c.oid
 where c.relkind = 'r' and t.n_mod_since_analyze > 50 + 0.1 * greatest(c.reltuples, 0)
"""


async def look_at_tables(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """What autovacuum has done within a minute, by its rule: statistics of partitions, not of their parents."""
    await connection.execute("select pg_stat_force_next_flush()")
    await connection.execute("select 1")
    for row in await connection.fetch(CHANGED):
        await connection.execute(f"analyze {row['name']}")


Rows = dict[tuple[str, str], list[tuple[object, ...]]]


def _rows(
    tenant: TenantId, generation: int, number: int, per_submission: int, at: datetime | None
) -> tuple[Rows, list[Issued]]:
    mint = new_id if at is None else _minted_at(at)
    now, rank, code_key = at or datetime.now(UTC), int(RANK[ACCEPTED]), digest("1001")
    columns = ("batch", BATCH), ("submission", SUBMISSION), ("attempt", ATTEMPT), ("message", MESSAGE)
    columns += ("message_state", STATE), ("receipt", RECEIPT), ("message_key", KEY), ("change", CHANGE)  # type: ignore[assignment]
    rows: Rows = {table: [] for table in columns}
    batch, submission, attempt, message, state, receipt, key, change = rows.values()
    issued: list[Issued] = []
    while len(issued) < number:
        batch_id, submission_id, transid = mint(), SubmissionId(mint()), str(uuid4())
        members = [
            Issued(MessageId(mint()), submission_id, str(next(_numbers)), transid, f"order-{next(_numbers)}")
            for _ in range(min(per_submission, number - len(issued)))
        ]
        span: tuple[UUID, UUID, int] = (members[0].id, members[-1].id, len(members))
        batch.append((batch_id, tenant, now, *span))
        submission.append((submission_id, tenant, batch_id, Api.MESSAGING, now, *span, now, now))
        attempt.append((submission_id, 1, now, "accepted", 200, "1001", QUEUED))
        raw = b'{"code":"1001","transid":"%s","description":"Queued"}' % transid.encode()
        transid_key = transid_digest(transid_root(transid))
        for m in members:
            to, fingerprint = destination_digest(m.destination), hashlib.sha256(m.id.bytes).digest()[:16]
            born = (tenant, 1, int(Channel.SMS))
            message.append((
                m.id, *born, now, batch_id, submission_id, m.destination, "msisdn", to, m.correlation,
                digest(m.correlation), m.callback, digest(m.callback),
            ))  # fmt: skip
            state.append((m.id, *born, rank, int(ACCEPTED), 1, now, now, transid))
            receipt.append((
                m.id, fingerprint, int(Feed.ANSWER), int(Channel.SMS), int(ACCEPTED), rank, 0, now, "queued", "1001",
                code_key, QUEUED, m.destination, to, transid, raw,
            ))  # fmt: skip
            key.append((generation, tenant, transid_key, leg_digest("", m.destination), m.id))
            change.append((now, m.id, 0, *born, None, 0, None, False))
            change.append((now, m.id, 1, *born, 0, rank, False, False))
        issued += members
    return rows, issued


def _minted_at(moment: datetime) -> Callable[[], UUID]:
    """Ids of a past time, one each millisecond."""
    ticks = itertools.count(first_id_at(moment).int >> 80)
    return lambda: UUID(int=next(ticks) << 80 | 0x7 << 76 | 0x2 << 62 | secrets.randbits(62))

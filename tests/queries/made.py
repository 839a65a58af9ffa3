"""Messages of all kinds, made at random: in the database, and as plain Python remembers them."""

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from receiver.database.pool import Connection, connect
from receiver.ids import born_at, destination_digest, digest, first_id_at, leg_digest, new_id, transid_root
from receiver.messages.lattice import NEGATIVE_STATES, POSITIVE_STATES, Channel, State, is_final
from receiver.messages.told import transid_digest
from receiver.platform.codes import Class
from receiver.queries.filters import ATTENTION, ORIGINS
from tests.support import Database

STATES = [State.QUEUED, State.ACCEPTED, State.SUBMITTED, State.NO_RECEIPT, State.UNDELIVERED, State.FAILED]
STATES += [State.DELIVERED, State.READ]
CHANNELS = (Channel.SMS, Channel.VOICE, Channel.APPLE)
NUMBERS = ("447700900001", "447700900011", "447811900001", "4915112340001", "customer-7")
SENDERS, CODES, COUNTRIES = ("SHOP", "BANK", None), ("7101", "7208"), ("GB", "DE", None)

MESSAGE = """
insert into message (id, tenant, origin, channel, created_at, batch_id, submission_id, destination, destination_type,
                     destination_key, correlationid, correlation_key, callback_data, callback_key, sender)
values ($1, $2, $3, $4, $5, $6, $1, $7, 'msisdn', $8, $9, $10, $11, $12, $13)
"""
STATE = """
insert into message_state (id, tenant, origin, channel, state, reason_key, reason_class, conflict, attention, version,
                           changed_at, transid, country, merged_into)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
"""
RECEIPT = """
insert into receipt (message_id, fingerprint, feed, elsewhere, channel, fact, rank, clash, reason_key, reason_class,
                     received_at, status, code, code_key, destination, destination_key, raw)
values ($1, $2, 1, $3, $4, 4, 20, 0, $5, $6, $7, 'told', $8, $9, $10, $11, '')
"""
KEY = "insert into message_key (generation, tenant, transid_key, leg_key, message_id) values (1, $1, $2, $3, $4)"
BATCH = """
insert into batch (id, tenant, created_at, first_id, last_id, message_count) values ($1, $2, $3, $4, $5, 1)
"""
CHANGE = """
insert into change (at, message_id, version, tenant, origin, channel, old_state, new_state, new_class, new_conflict)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
CHANGED = "update message_state set state = $2, attention = $3, version = version + 1, changed_at = $4 where id = $1"


@dataclass
class Made:
    """A message as it was made."""

    id: UUID
    tenant: int
    origin: int
    channel: Channel
    state: State
    destination: str
    elsewhere: str | None
    transid: str
    correlationid: str
    callback: str
    batch: UUID
    sender: str | None
    country: str | None
    code: str | None
    reason_class: Class | None
    conflict: bool
    changed_at: datetime
    merged: bool = False
    """It turned out to be another one: nobody finds it."""
    version: int = 1
    seq: int = 0

    @property
    def created_at(self) -> datetime:
        return born_at(self.id)

    @property
    def is_final(self) -> bool:
        return is_final(self.state, self.channel)

    def ends_with(self, digits: str) -> bool:
        """Whether a number of it does."""
        return any(n.isdigit() and n.endswith(digits) for n in (self.destination, self.elsewhere or "x"))

    @property
    def reason(self) -> bool:
        """Whether its reason is shown."""
        return self.code is not None and self.state not in POSITIVE_STATES


def random_one(rng: random.Random, tenant: int, at: datetime, batches: Sequence[UUID]) -> Made:
    """A message that was born at `at`, and changed last soon after."""
    state = rng.choice(STATES)
    failed = state in NEGATIVE_STATES or (state is State.DELIVERED and rng.random() < 0.2)
    number = rng.randrange(12)
    return Made(
        id=UUID(int=first_id_at(at).int + new_id().int % (1 << 76) | 7 << 76 | 2 << 62),
        tenant=tenant,
        origin=rng.choice(list(ORIGINS.values())),
        channel=rng.choice(CHANNELS),
        state=state,
        destination=rng.choice(NUMBERS),
        elsewhere=rng.choice((None, None, None, *NUMBERS)),
        transid=f"T-{rng.randrange(40)}",
        correlationid=f"c-{number}",
        callback=f"d-{rng.randrange(6)}",
        batch=rng.choice(batches),
        sender=rng.choice(SENDERS),
        country=rng.choice(COUNTRIES),
        code=rng.choice(CODES) if failed else None,
        reason_class=rng.choice(list(Class)) if failed else None,
        conflict=rng.random() < 0.1,
        changed_at=at + timedelta(seconds=rng.randrange(5)),
        merged=rng.random() < 0.06,
    )


async def write(connection: Connection, made: Iterable[Made]) -> None:
    """Writes them into all tables that searches read, in the order of their last changes."""
    for one in sorted(made, key=lambda m: m.changed_at):
        attention, digests = (
            one.conflict or int(one.state) in ATTENTION,
            (digest(one.correlationid), digest(one.callback)),
        )
        reason = b"\x2d\x01\x01" + one.id.bytes if one.code else None
        common = (one.id, one.tenant, one.origin, int(one.channel))
        to = destination_digest(one.destination)
        names = (one.destination, to, one.correlationid, digests[0], one.callback, digests[1], one.sender)
        kind = int(one.reason_class) if one.reason_class is not None else None
        await connection.execute(MESSAGE, *common, one.created_at, one.batch, *names)
        held = (int(one.state), reason, kind, one.conflict, attention, one.version, one.changed_at)
        await connection.execute(STATE, *common, *held, one.transid, one.country, one.id if one.merged else None)
        told = one.elsewhere or one.destination
        key, code_key = destination_digest(told), digest(one.code) if one.code else None
        values = (reason, kind, one.changed_at, one.code, code_key, told, key)
        await connection.execute(
            RECEIPT, one.id, one.id.bytes, one.elsewhere not in (None, one.destination), int(one.channel), *values
        )
        leg = leg_digest(str(one.id), one.destination)
        await connection.execute(KEY, one.tenant, transid_digest(transid_root(one.transid)), leg, one.id)
        await _log(connection, one, one.created_at, 0, None, State.QUEUED)
        became = None if one.merged else one.state
        one.seq = await _log(connection, one, one.changed_at, one.version, State.QUEUED, became)


async def change(connection: Connection, one: Made, state: State, at: datetime) -> None:
    """The message comes into another state."""
    attention = one.conflict or int(state) in ATTENTION
    await connection.execute(CHANGED, one.id, int(state), attention, at)
    old, one.state, one.changed_at, one.version = one.state, state, at, one.version + 1
    one.seq = await _log(connection, one, at, one.version, old, state)


async def _log(
    connection: Connection,
    one: Made,
    at: datetime,
    version: int,
    old: State | None,
    new: State | None,
) -> int:
    kind = int(one.reason_class) if one.reason_class is not None else None
    before = int(old) if old is not None else None
    after = int(new) if new is not None else None
    values = (one.tenant, one.origin, int(one.channel), before, after, kind, one.conflict)
    return int(await connection.fetchval(CHANGE + " returning seq", at, one.id, version, *values))


def make(database: Database, number: int, span: timedelta, seed: int = 1) -> list[Made]:
    """So many messages, the youngest born a minute ago, the oldest before `span`; one in ten is another tenant's."""
    rng = random.Random(seed)
    tenants = database.tenant(), database.tenant("other")
    begin = datetime.now(UTC) - span

    async def work() -> list[Made]:
        connection = await connect(database.dsn, "tests", session_replication_role="replica")
        try:
            batches = [new_id() for _ in range(4)]
            for batch in batches:
                bounds = first_id_at(begin - timedelta(hours=1)), first_id_at(begin + 2 * span)
                await connection.execute(BATCH, batch, tenants[0], begin, *bounds)
            times = [begin + (span - timedelta(minutes=1)) * n / number for n in range(number)]
            made = [random_one(rng, tenants[rng.random() < 0.1], at, batches) for at in times]
            await write(connection, made)
            return made
        finally:
            await connection.close()

    return asyncio.run(work())

"""The receiver's own probe as it comes in at the receipts door: no receipt, and counted nowhere."""

from collections.abc import Iterable
from uuid import UUID

import msgspec

from receiver.database.pool import Connection

# Only a row that the prober made: who learns its token can write nothing. The first time counts; a row that somebody
# has locked is being marked or judged.
ARRIVED = """
update probe set arrived_at = clock_timestamp()
 where id in (select id from probe where id = any($1::uuid[]) and arrived_at is null for update skip locked)
"""
PATIENCE = "set local lock_timeout = '100ms'"  # receipts come behind: they don't wait for a lock on the table


class _Probe(msgspec.Struct, forbid_unknown_fields=True):
    probe: UUID


def body_of(identity: UUID) -> bytes:
    """What a probe says."""
    return msgspec.json.encode(_Probe(identity))


_BYTES = len(body_of(UUID(int=0)))


def read(body: bytes) -> UUID | None:
    """Which probe it is; None for what is none, were it only a blank that the prober would not have written."""
    if len(body) != _BYTES:
        return None
    try:
        return msgspec.json.decode(body, type=_Probe).probe
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


async def arrived(connection: Connection, bodies: Iterable[bytes]) -> None:
    """Marks these probes, in a transaction of its own. Raises asyncpg.PostgresError, also where it had to wait."""
    async with connection.transaction():
        await connection.execute(PATIENCE)
        await connection.execute(ARRIVED, [identity for body in bodies if (identity := read(body)) is not None])

"""The receiver's own probe as it comes in at the receipts door: no receipt, and counted nowhere."""

from collections.abc import Iterable
from uuid import UUID

import msgspec

from receiver.database.pool import Connection

# Only a row that the prober made: who learns its token can write nothing. The first time counts.
ARRIVED = "update probe set arrived_at = clock_timestamp() where id = any($1::uuid[]) and arrived_at is null"


class _Probe(msgspec.Struct, forbid_unknown_fields=True):
    probe: UUID


def body_of(identity: UUID) -> bytes:
    """What a probe says."""
    return msgspec.json.encode(_Probe(identity))


def read(body: bytes) -> UUID | None:
    """Which probe it is; None for what is none."""
    try:
        return msgspec.json.decode(body, type=_Probe).probe
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


async def arrived(connection: Connection, bodies: Iterable[bytes]) -> None:
    """Marks these probes, in the caller's transaction or one of its own."""
    await connection.execute(ARRIVED, [identity for body in bodies if (identity := read(body)) is not None])

"""Playing captures: a body comes in when its time has come, by the way that the receipts door takes."""

import random
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from receiver.capture.capturing import capture_of
from receiver.capture.stored import load
from receiver.database.pool import Connection
from receiver.ids import TenantId, new_id
from receiver.messages.lattice import Fact, State
from receiver.messages.told import Feed
from receiver.receipts.apply import apply
from receiver.receipts.receipt import Source, read
from receiver.sandbox.capture import Capture, Played, play, written
from receiver.sandbox.capture import read as read_capture

Belief = tuple[str, bool, tuple[str, ...], str, str]


def rows_of(bodies: Iterable[tuple[datetime, bytes]], **message: Any) -> tuple[Any, Any]:
    """Rows as the database gives them, for one observed message and all receipts in these bodies."""
    receipts: dict[bytes, dict[str, Any]] = {}
    identity = new_id()
    for at, body in bodies:
        for told in read(body, Source(TenantId(1), None, at)).receipts:
            receipts.setdefault(told.fingerprint, told._asdict() | {"feed": Feed.PUSH, "message_id": identity})
    first = next(iter(receipts.values()))
    ids = dict.fromkeys(("batch_id", "submission_id", "parent_id", "resend_of", "sender", "template", "reason_code"))
    row = ids | {
        "id": identity,
        "origin": 2,
        "created_at": first["received_at"],
        "channel": first["channel"],
        "destination": first["destination"] or "",
        "destination_type": first["destination_type"] or "",
        **{name: first[name] for name in ("correlationid", "callback_data", "transid")},
        "state": State.SUBMITTED,
        "facts": Fact.SUBMITTED,
        "conflict": False,
        "reason_class": None,
        "has_reason": False,
    }
    return [row | message], list(receipts.values())


async def come_in(connection: Connection, tenant: TenantId, bodies: Iterable[tuple[datetime, bytes]]) -> None:
    """Each body at its time."""
    for at, body in bodies:
        told = read(body, Source(tenant, None, at)).receipts
        if told:
            await apply(connection, new_id(), at, Feed.PUSH, told)


async def captured(connection: Connection, tenant: TenantId, name: str) -> Capture:
    """The capture of a message, through its file."""
    messages, receipts = await load(connection, tenant, name)
    return read_capture(written(capture_of(messages, receipts)))


async def played(
    connection: Connection, tenant: TenantId, capture: Capture, now: datetime, seed: int = 0, **choice: Any
) -> Played:
    """Plays a capture at the door of a database."""
    one = play(capture, random.Random(seed), now=now, **({"speed": 1.0} | choice))
    bodies = [(now + timedelta(seconds=offset), body.encode()) for offset, _, body in one.told]
    await come_in(connection, tenant, bodies)
    return one


async def beliefs(connection: Connection, tenant: TenantId, transid: str) -> Sequence[Belief]:
    """What is believed of each message of a transid, in any order."""
    messages, _ = await load(connection, tenant, transid)
    return sorted(
        (
            State(row["state"]).word,
            row["conflict"],
            tuple(fact.name or "" for fact in Fact(row["facts"])),
            row["reason_code"] or "",
            str(row["reason_class"]) if row["has_reason"] else "",
        )
        for row in messages
    )

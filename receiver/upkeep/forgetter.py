"""The course of forgetting one person: what there is, then round after round until nothing is found any more."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from receiver.database.pool import Connection
from receiver.ids import TenantId, born_at
from receiver.upkeep import forgetting
from receiver.upkeep.person import Person

AT_ONCE = 100  # messages of one transaction: some tens of milliseconds
KEYS_AT_ONCE = 500
IDS_AT_ONCE = 10_000
MOST_ROUNDS = 5  # what comes in meanwhile is found by the next
NOBODY = UUID(int=0)


class Found(msgspec.Struct):
    """What names the person now."""

    messages: int = 0
    receipts: int = 0
    waiting: int = 0
    """Messages that are still to be sent: they are left alone."""
    waiting_calls: int = 0
    """Calls that are still to be sent and whose content names the person: an event's messages have no recipient."""
    contents: int = 0
    quarantined: int = 0
    receipts_until: datetime | None = None
    """Until when the platform may still tell of what was sent."""


class Forgotten(msgspec.Struct):
    """What was erased. `waiting`, `waiting_calls`: what is still to be sent, and was left alone."""

    messages: int = 0
    receipts: int = 0
    keys: int = 0
    contents: int = 0
    quarantined: int = 0
    waiting: int = 0
    waiting_calls: int = 0
    left: int = 0
    """Messages that came in as fast as they were erased."""


async def look(connection: Connection, person: Person, tenant: TenantId | None) -> Found:
    """Counts what names the person, and changes nothing."""
    found = Found()
    after, youngest = NOBODY, None
    while ids := await forgetting.find(connection, person, tenant, after, IDS_AT_ONCE):
        after = ids[-1]
        messages, receipts, youngest = await forgetting.count(connection, ids)
        found.messages += messages
        found.receipts += receipts
        found.waiting += len(await forgetting.waiting(connection, ids))
    if youngest is not None:
        found.receipts_until = forgetting.receipts_until(born_at(youngest))
    contents, waiting = await forgetting.find_contents(connection, person, tenant)
    found.contents, found.waiting_calls = len(contents), len(waiting)
    found.quarantined = len(await forgetting.find_quarantined(connection, person, tenant))
    return found


async def forget(
    connection: Connection, person: Person, tenant: TenantId | None, advance: Callable[[int], None] = lambda _: None
) -> Forgotten:
    """Erases the person. Cut off anywhere, it may be run again. `advance` hears of each message that was erased."""
    done = Forgotten()
    for _ in range(MOST_ROUNDS):
        erased = await _round(connection, person, tenant, done, advance)
        if not erased:
            break
    if not done.messages:  # keys of messages that were dropped: nothing but the person's name leads to them
        await _erase_keys(connection, person, tenant, [], done)
    contents, _ = await forgetting.find_contents(connection, person, tenant)
    quarantined = await forgetting.find_quarantined(connection, person, tenant)
    for submission in contents:
        await forgetting.erase_content(connection, submission)
    for row in quarantined:
        await forgetting.erase_quarantined(connection, person, row)
    done.contents, done.quarantined = len(contents), len(quarantined)
    found = await look(connection, person, tenant)
    done.waiting, done.waiting_calls, done.left = found.waiting, found.waiting_calls, found.messages - found.waiting
    return done


async def _round(
    connection: Connection, person: Person, tenant: TenantId | None, done: Forgotten, advance: Callable[[int], None]
) -> int:
    """Keys, then messages; returns how many messages were erased."""
    erased, after = 0, NOBODY
    while True:
        found = await forgetting.find(connection, person, tenant, after, IDS_AT_ONCE)
        waiting = await forgetting.waiting(connection, found)
        ids = [identity for identity in found if identity not in waiting]
        # First the keys: they are found by the messages' names. Each time that is a look through all of them.
        if ids:
            await _erase_keys(connection, person, tenant, ids, done)
        for start in range(0, len(ids), AT_ONCE):
            erased += await _erase(connection, person, ids[start : start + AT_ONCE], done, advance)
        if not found:
            return erased
        after = found[-1]


async def _erase_keys(
    connection: Connection, person: Person, tenant: TenantId | None, ids: Sequence[UUID], done: Forgotten
) -> None:
    keys = await forgetting.find_keys(connection, person, tenant, ids)
    for start in range(0, len(keys), KEYS_AT_ONCE):
        await forgetting.erase_keys(connection, keys[start : start + KEYS_AT_ONCE])
    done.keys += len(keys)


async def _erase(
    connection: Connection, person: Person, ids: Sequence[UUID], done: Forgotten, advance: Callable[[int], None]
) -> int:
    messages, receipts = await forgetting.erase_messages(connection, person, ids, datetime.now(UTC))
    done.messages += messages
    done.receipts += receipts
    advance(messages)
    return messages

"""Reading stored receipts again with the present tables: what would change, and the change.

It walks over the messages by their ids, oldest first, in chunks. Looking takes no lock. What differs is changed in one
short transaction a chunk, which is also where the walk remembers how far it has come: cut off anywhere, it goes on.
"""

import asyncio
import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from uuid import UUID

import asyncpg
import msgspec

from receiver import __version__
from receiver.database.pool import Connection
from receiver.errors import ReceiverError
from receiver.ids import TenantId, first_id_at
from receiver.messages.store import MOST_TRIES, may_try_again
from receiver.upkeep import reread_rows as rows
from receiver.upkeep.reread_figures import Figures, Outcome, Report
from receiver.upkeep.reread_meaning import Meant, believed, can_be_judged, meant, proven

AT_ONCE = 200  # messages: some 30 ms of reading, and locks for some 20 where all of them change
PAUSE = 0.5  # of the time that a chunk took: two thirds of one core at most
LONGEST_PAUSE = 1.0  # seconds
NOTE_SECONDS = 1.0  # between two notes of how far it has come, while nothing changes
NAME = "reread "


@dataclass(frozen=True)
class Scope:
    """Which messages: born in [since, until), of `tenant` or of all. `zones`: those of the tenants in the settings."""

    since: datetime
    until: datetime | None
    tenant: TenantId | None
    zones: Mapping[TenantId, tzinfo]

    @property
    def name(self) -> str:
        """Under which name its walk is remembered. Another version has other tables: it begins anew."""
        zones = sorted((number, str(zone)) for number, zone in self.zones.items())
        told = repr((__version__, self.since.isoformat(), self.until and self.until.isoformat(), self.tenant, zones))
        return NAME + hashlib.sha256(told.encode()).hexdigest()[:16]


@dataclass
class Course:
    """A walk: over which ids, how far it has come, and what it has counted."""

    scope: Scope
    until: datetime
    after: UUID
    figures: Figures = field(default_factory=Figures)
    is_resumed: bool = False

    @property
    def end(self) -> UUID:
        return first_id_at(self.until)


class _Note(msgspec.Struct):
    """What the row of a walk remembers beside its place."""

    until: datetime
    figures: Figures


@dataclass
class _Chunk:
    """Some messages, and what would become of them. `ids` and `new`: what is to be changed. `last` None: no more."""

    last: UUID | None = None
    figures: Figures = field(default_factory=Figures)
    ids: list[UUID] = field(default_factory=list)
    new: list[Meant] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    channels: dict[UUID, int] = field(default_factory=dict)


def from_the_start(scope: Scope) -> Course:
    """The course of one that only looks, or begins."""
    return Course(scope, scope.until or datetime.now(UTC), first_id_at(scope.since))


async def begin(connection: Connection, scope: Scope, *, restart: bool) -> Course:
    """The course of `scope`: where it was interrupted, else from its start. Raises ReceiverError while another runs."""
    if not await rows.is_alone(connection):
        raise ReceiverError("another `receiver reread` runs on this database: wait for its end")
    await rows.end_old_walks(connection, NAME)
    if restart:
        await rows.end_walk(connection, scope.name)
    walk = await rows.walk(connection, scope.name)
    if walk is None:
        return from_the_start(scope)
    note = msgspec.json.decode(walk["figures"], type=_Note)
    return Course(scope, note.until, walk["last_id"], note.figures, is_resumed=True)


Advance = Callable[[UUID, Figures], None]


async def look(connection: Connection, course: Course, advance: Advance = lambda *_: None) -> Report:
    """What the rest of the course would change. Changes nothing, and takes no lock. `advance` hears of each chunk."""
    after, figures = course.after, Figures()
    while True:
        began = time.monotonic()
        chunk = await _chunk(connection, course, after)
        if chunk.last is None:
            return Report(figures.are_empty, course.scope.since, course.until, figures)
        after = chunk.last
        _add(figures, chunk, chunk.outcomes)
        advance(after, figures)
        await _pause(began)


async def carry_out(connection: Connection, course: Course, advance: Advance = lambda *_: None) -> Report:
    """Changes what differs, chunk by chunk. Raises asyncpg.PostgresError or OSError: then it may be begun again."""
    noted = time.monotonic()
    while True:
        began = time.monotonic()
        chunk = await _change_next(connection, course, is_due=began - noted >= NOTE_SECONDS)
        if chunk.last is None:
            break
        if chunk.ids or began - noted >= NOTE_SECONDS:
            noted = time.monotonic()
        advance(course.after, course.figures)
        await _pause(began)
    await rows.end_walk(connection, course.scope.name)
    return Report(True, course.scope.since, course.until, course.figures)


async def _change_next(connection: Connection, course: Course, *, is_due: bool) -> _Chunk:
    """Changes the next chunk, and notes that; without a change it notes its place only if that `is_due`.

    It looks again where somebody else was faster: a message was merged, dropped or erased meanwhile. Each time it takes
    half as many: where answers come in fast, some message out of 200 is always merged just now.
    """
    for tries_left in range(MOST_TRIES - 1, -1, -1):
        at_once = max(AT_ONCE >> MOST_TRIES - 1 - tries_left, 1)
        chunk = await _chunk(connection, course, course.after, at_once)
        if chunk.last is None:
            return chunk
        figures = msgspec.json.decode(msgspec.json.encode(course.figures), type=Figures)
        now = datetime.now(UTC)
        try:
            async with connection.transaction():
                changed = await rows.change(connection, now, chunk.ids, chunk.new) if chunk.ids else ()
                _add(figures, chunk, [Outcome(**row) for row in changed])
                if chunk.ids or is_due:
                    note = msgspec.json.encode(_Note(course.until, figures)).decode()
                    await rows.advance(connection, course.scope.name, chunk.last, now, note)
        except asyncpg.PostgresError as error:
            if not tries_left or not may_try_again(error):
                raise
        else:
            course.after, course.figures = chunk.last, figures
            return chunk
    raise AssertionError("the last try returns or raises")


async def _chunk(connection: Connection, course: Course, after: UUID, at_once: int = AT_ONCE) -> _Chunk:
    """The next messages: what they are, and would be. Everything in it is of one moment."""
    scope, chunk = course.scope, _Chunk()
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        stored = await rows.next_states(connection, after, course.end, at_once)
        if not stored:
            return chunk
        chunk.last = stored[-1]["id"]
        ids = {row["id"] for row in stored}
        # What a tombstone was merged into has its receipts as they were: it is read again, if the walk is past it.
        owners = {row["merged_into"] for row in stored if row["merged_into"]} - ids
        passed = [owner for owner in owners if first_id_at(scope.since) < owner < chunk.last]
        stored += await rows.states(connection, passed) if passed else []
        live = [row for row in stored if row["merged_into"] is None and scope.tenant in (None, row["tenant"])]
        mine = [row for row in live if row["tenant"] in scope.zones]
        receipts = await rows.receipts(connection, mine)
    told: defaultdict[UUID, list[asyncpg.Record]] = defaultdict(list)
    for receipt in receipts:
        told[receipt["message_id"]].append(receipt)
    chunk.figures.left += len({row["id"] for row in live} & ids) - len({row["id"] for row in mine} & ids)
    for state in mine:
        zone = scope.zones[state["tenant"]]
        _judge(chunk, state, [meant(row, zone) for row in told[state["id"]]], state["id"] in ids)
    return chunk


def _judge(chunk: _Chunk, state: asyncpg.Record, receipts: list[Meant], counts: bool) -> None:
    """Adds a message to its chunk. `counts`: it was met on the walk, and not only behind a tombstone."""
    figures = chunk.figures
    if counts:
        figures.messages += 1
        figures.receipts += len(receipts)
        figures.kept += sum(receipt.kept for receipt in receipts)
    if not can_be_judged(state, receipts):
        figures.left += counts
        return
    new = [receipt for receipt in receipts if receipt.is_new]
    before, now = believed(state), proven(receipts)
    if not new and before == now:
        return
    chunk.ids.append(state["id"])
    chunk.new += new
    chunk.channels[state["id"]] = state["channel"]
    if before != now:
        chunk.outcomes.append(
            Outcome(
                state["id"],
                state["channel"],
                before.fold.state,
                now.fold.state,
                before.reason_class,
                now.reason_class,
                before.fold.conflict,
                now.fold.conflict,
            )
        )


def _add(figures: Figures, chunk: _Chunk, outcomes: Sequence[Outcome]) -> None:
    figures.messages += chunk.figures.messages
    figures.receipts += chunk.figures.receipts
    figures.kept += chunk.figures.kept
    figures.left += chunk.figures.left
    for receipt in chunk.new:
        figures.add_receipt(receipt, chunk.channels[receipt.message_id])
    for outcome in outcomes:
        figures.add_outcome(outcome)


async def _pause(began: float) -> None:
    """Leaves the database and this machine to others for a while: ingest goes on."""
    await asyncio.sleep(min((time.monotonic() - began) * PAUSE, LONGEST_PAUSE))

"""Replaying a body of the quarantine: it is read anew with the present reader, and applied like any other.

A dry run is the same in a transaction that is taken back: what it tells is what would happen, by construction.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from itertools import groupby
from uuid import UUID

import asyncpg

from receiver.database.pool import Connection
from receiver.ids import MessageId, SubmissionId, TenantId, new_id
from receiver.messages.changes import Change
from receiver.messages.lattice import State
from receiver.messages.store import MERGED_MEANWHILE, MOST_TRIES, may_try_again
from receiver.messages.told import Feed, Told
from receiver.receipts import quarantine
from receiver.receipts.apply import Applied, apply_once
from receiver.receipts.counting import count_group
from receiver.receipts.group import GROUP, NOT_THE_RECEIPT
from receiver.receipts.quarantine import APPLIED, NOT_APPLIED, PARTLY, Place, place_of
from receiver.receipts.receipt import Reading, Source, read

READ_ASIDE = 64 * 1024  # bytes; a larger body is read in a thread
IN_THE_BOOKS = frozenset({"applied", "duplicate", "late"})
ORIGINS = {1: "issued", 2: "observed", 3: "recorded"}
CLAIMS_ANOTHER = "it claims a message of another submission; replay it with `believe` if you know better"


@dataclass
class Outcome:
    """What became of one receipt: applied, duplicate, late, forged, refused; or unreadable, for a part without one."""

    told: Told | None
    result: str
    detail: str | None = None
    message_id: MessageId | None = None
    message: str | None = None  # issued, observed, or new: an observed one that this replay makes
    matched_by: str | None = None  # correlationid, submission or key
    state_before: State | None = None
    state_after: State | None = None


@dataclass(frozen=True)
class Replay:
    """What a replay did, or would do."""

    place: Place
    dry_run: bool
    believe: bool
    outcomes: list[Outcome]
    changes: list[Change]

    @property
    def result(self) -> str:
        """`applied`: everything in the body is in the books now; `not_applied`: nothing; else `partly`."""
        done = sum(outcome.result in IN_THE_BOOKS for outcome in self.outcomes)
        return NOT_APPLIED if not done else APPLIED if done == len(self.outcomes) else PARTLY


async def replay(
    connection: Connection,
    row: asyncpg.Record,
    zone: tzinfo,
    names: Mapping[TenantId, str],
    *,
    dry_run: bool,
    believe: bool = False,
) -> Replay:
    """Reads the body of a quarantined row again and applies what is in it; with `dry_run` nothing is written.

    `believe` takes it as if it had come in by the tenant's own URL: no submission speaks against it. A replay may be
    repeated, and two at once do no harm: the second finds duplicates. Raises what `apply` raises; then some of the
    body may have been applied, and it may be replayed again.
    """
    tenant = TenantId(row["tenant"])
    submission = SubmissionId(row["submission_id"]) if row["submission_id"] and not believe else None
    source = Source(tenant, submission, row["first_at"], zone, row["headers"])
    large = len(row["body"]) > READ_ASIDE
    reading: Reading = await asyncio.to_thread(read, row["body"], source) if large else read(row["body"], source)
    outcomes = [
        Outcome(None, "unreadable", f"{reject.reason}: {reject.detail}" if reject.detail else reject.reason)
        for reject in reading.rejects
    ]
    changes: list[Change] = []
    for group in groups(reading.receipts):
        tried = await _transaction(connection, group, keep=not dry_run)
        if not dry_run:
            done = [o for o in tried.outcomes if o.told is not None and o.result in IN_THE_BOOKS]
            applied = Applied([o.result for o in done], tried.changes, [o.message_id for o in done])
            count_group(Feed.REPLAY, names, [o.told for o in done if o.told is not None], applied, ())
        outcomes += tried.outcomes
        changes += tried.changes
    made = Replay(place_of(row), dry_run, believe, outcomes, changes)
    if not dry_run:
        await quarantine.mark_replayed(connection, tenant, made.place, datetime.now(UTC), made.result)
    return made


def groups(receipts: Sequence[Told]) -> Iterator[list[Told]]:
    """The receipts in groups of `GROUP` or a little more: those of one transid stay together.

    Each group is tried on its own, so that a dry run of 10,000 holds no lock for long. Two that could meet (the same
    receipt twice, two of one new message) have the same transid.
    """
    group: list[Told] = []
    for _, same in groupby(sorted(receipts, key=lambda told: told.transid_key), key=lambda told: told.transid_key):
        group += same
        if len(group) >= GROUP:
            yield group
            group = []
    if group:
        yield group


@dataclass
class _Tried:
    outcomes: list[Outcome] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def __add__(self, other: "_Tried") -> "_Tried":
        return _Tried(self.outcomes + other.outcomes, self.changes + other.changes)


async def _transaction(connection: Connection, receipts: Sequence[Told], *, keep: bool) -> _Tried:
    """Applies a group in one transaction, and looks at its messages; commits it, or takes it back."""
    for tries_left in range(MOST_TRIES - 1, -1, -1):
        transaction = connection.transaction()
        await transaction.start()
        try:
            tried = await _try(connection, receipts)
            await _look(connection, tried)
        except BaseException as error:
            if not connection.is_closed():
                await transaction.rollback()
            if isinstance(error, asyncpg.PostgresError) and tries_left and may_try_again(error):
                continue
            raise
        await (transaction.commit() if keep else transaction.rollback())
        return tried
    raise AssertionError("the last try returns or raises")


class _Forged(Exception):
    """Some of a group are forged: `apply` would count them in quarantine once more, where they are already."""

    def __init__(self, results: Sequence[str]) -> None:
        self.results = results


async def _try(connection: Connection, receipts: Sequence[Told]) -> _Tried:
    """Applies what can be applied, within the transaction of the caller."""
    if not receipts:
        return _Tried()
    try:
        async with connection.transaction():  # a savepoint
            applied = await apply_once(connection, new_id(), datetime.now(UTC), Feed.REPLAY, receipts)
            if "forged" in applied.results:
                raise _Forged(applied.results)
    except _Forged as found:
        told = list(zip(receipts, found.results, strict=True))
        believed = await _try(connection, [receipt for receipt, result in told if result != "forged"])
        forged = [Outcome(receipt, "forged", CLAIMS_ANOTHER) for receipt, result in told if result == "forged"]
        return believed + _Tried(forged)
    except (asyncpg.PostgresError, ValueError, TypeError, OverflowError) as error:
        state = getattr(error, "sqlstate", None) or ""
        if state == MERGED_MEANWHILE or state[:2] in NOT_THE_RECEIPT:
            raise
        if len(receipts) == 1:
            return _Tried([Outcome(receipts[0], "refused", f"{type(error).__name__} {state}".strip())])
        half = len(receipts) // 2
        return await _try(connection, receipts[:half]) + await _try(connection, receipts[half:])
    rows = zip(receipts, applied.results, applied.messages, strict=True)
    return _Tried([Outcome(told, result, message_id=message) for told, result, message in rows], applied.changes)


async def _look(connection: Connection, tried: _Tried) -> None:
    """Adds to each outcome what its message was and has become, as the open transaction sees it."""
    ids = {outcome.message_id for outcome in tried.outcomes if outcome.message_id}
    rows = await quarantine.messages(connection, list(ids)) if ids else {}
    born = {told.fresh for outcome in tried.outcomes if (told := outcome.told)}
    before: dict[UUID, State | None] = {}
    for change in tried.changes:
        before.setdefault(change.message_id, change.old)
    for outcome in tried.outcomes:
        row = rows.get(outcome.message_id) if outcome.message_id else None
        if row is None or outcome.told is None:
            continue
        outcome.message = "new" if row["id"] in born else ORIGINS[row["origin"]]
        outcome.matched_by = None if outcome.message == "new" else _matched_by(outcome.told, row)
        outcome.state_after = State(row["state"])
        outcome.state_before = before.get(row["id"], outcome.state_after)


def _matched_by(told: Told, message: asyncpg.Record) -> str:
    if told.candidate == message["id"]:
        return "correlationid"
    return "submission" if told.submission_id and told.submission_id == message["submission_id"] else "key"

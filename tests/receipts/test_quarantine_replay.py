"""Replaying what is in quarantine: what is told beforehand is what happens, and nothing else happens."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC
from uuid import UUID

from prometheus_client import Metric

from receiver import metrics
from receiver.database.pool import Connection, connect
from receiver.ids import MessageId, SubmissionId, TenantId, new_id
from receiver.messages.lattice import State
from receiver.messages.told import Feed
from receiver.receipts.apply import apply
from receiver.receipts.quarantine import Place
from receiver.receipts.receipt import Source, read
from receiver.receipts.replay import Replay, groups, replay
from tests.receipts.quarantining import minutes_ago, put, row
from tests.receipts.tellings import assert_books_balance, body, told_of
from tests.receipts.test_joining import ONE, TWO, delivered, issue, state
from tests.support import Database, now

NAMES: dict[TenantId, str] = {}


def with_connection(database: Database, work: Callable[[Connection], Awaitable[None]]) -> None:
    """Runs `work` on a connection; the books must balance afterwards."""

    async def wrapped() -> None:
        connection = await connect(database.dsn, "tests")
        await work(connection)
        await assert_books_balance(connection)
        await connection.close()

    asyncio.run(wrapped())


async def again(
    connection: Connection, tenant: TenantId, place: Place, *, dry_run: bool = False, believe: bool = False
) -> Replay:
    return await replay(connection, await row(connection, tenant, place), UTC, NAMES, dry_run=dry_run, believe=believe)


def results(done: Replay) -> list[str]:
    return [outcome.result for outcome in done.outcomes]


def sample(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


COUNTED = (
    *(metrics.MESSAGES, metrics.FAILURES, metrics.RECEIPTS, metrics.UNKNOWN_STATUSES, metrics.RECEIPT_LAG),
    *(metrics.ACCEPTED_SECONDS, metrics.SUBMITTED_SECONDS, metrics.DELIVERY),
)


def families() -> list[Metric]:
    """What a replay could move; the rest of the process has figures that move by themselves."""
    return [family for metric in COUNTED for family in metric.collect()]


def test_a_body_that_an_older_reader_rejected_comes_to_its_message(database: Database) -> None:
    tenant = database.tenant()
    NAMES[tenant] = "default"
    labels = {"channel": "sms", "result": "applied", "feed": "replay", "tenant": "default"}
    states = {"channel": "sms", "state": "delivered", "tenant": "default", "feed": "replay"}

    async def work(connection: Connection) -> None:
        (message,), submission = await issue(connection, tenant, ONE)
        at = minutes_ago(90)
        raw = body(delivered(ONE), "t-1", str(message))
        place = await put(connection, tenant, raw, submission=submission, at=at)
        before = sample("receiver_receipts_total", **labels), sample("receiver_messages_total", **states)

        would = await again(connection, tenant, place, dry_run=True)
        done = await again(connection, tenant, place)

        assert sample("receiver_receipts_total", **labels) == before[0] + 1
        assert sample("receiver_messages_total", **states) == before[1] + 1
        for told in (would, done):
            (outcome,) = told.outcomes
            assert (outcome.result, outcome.message_id, outcome.message) == ("applied", message, "issued")
            assert (outcome.matched_by, outcome.state_before) == ("correlationid", State.QUEUED)
            assert outcome.state_after is State.DELIVERED
            assert [(c.message_id, c.old, c.new) for c in told.changes] == [(message, State.QUEUED, State.DELIVERED)]
        assert await state(connection, message) is State.DELIVERED
        receipt = await connection.fetchrow("select feed, received_at, raw from receipt")
        assert receipt is not None
        assert tuple(receipt) == (Feed.REPLAY, at, raw), "it was heard of when it came, not when it was replayed"
        ledger = await connection.fetchrow("select feed, received, applied from intake")
        assert ledger is not None
        assert tuple(ledger) == (Feed.REPLAY, 1, 1)
        kept = await row(connection, tenant, place)
        assert (kept["replay_result"], kept["told"], kept["reason"]) == ("applied", 1, "reader_failed")
        assert kept["replayed_at"] is not None

    with_connection(database, work)


def test_a_second_replay_finds_duplicates_and_changes_nothing(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        place = await put(connection, tenant, body(delivered(ONE), "t-1"))
        first = await again(connection, tenant, place)
        assert [(o.result, o.message, o.state_before) for o in first.outcomes] == [("applied", "new", None)]
        counts = await connection.fetchval("select count(*) from change")
        assert results(await again(connection, tenant, place, dry_run=True)) == ["duplicate"]
        second = await again(connection, tenant, place)
        assert [(o.result, o.message, o.matched_by) for o in second.outcomes] == [("duplicate", "observed", "key")]
        assert second.changes == []
        assert await connection.fetchval("select count(*) from change") == counts
        assert second.result == "applied"

    with_connection(database, work)


def test_a_dry_run_writes_not_one_row_and_counts_nothing(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (message,), submission = await issue(connection, tenant, ONE)
        (other,), _ = await issue(connection, tenant, TWO)
        bodies = [
            (body(delivered(ONE), "t-1", str(message)), "reader_failed", submission),
            (body(delivered(TWO), "t-2", str(other)), "forged", submission),
            (body(delivered("447700900009"), "t-9"), "database_refused", None),
            (b"<xml/>", "xml", None),
            (b"", "empty", None),
        ]
        places = [await put(connection, tenant, raw, reason, submission=by) for raw, reason, by in bodies]
        before = await asyncio.to_thread(database.counts)
        rows = await connection.fetch("select q::text from quarantine q order by 1")
        figures = families()
        told = [await again(connection, tenant, place, dry_run=True) for place in places]
        assert [results(one) for one in told] == [["applied"], ["forged"], ["applied"], ["unreadable"], ["unreadable"]]
        assert told[2].outcomes[0].message == "new"
        assert await asyncio.to_thread(database.counts) == before
        assert await connection.fetch("select q::text from quarantine q order by 1") == rows
        assert families() == figures
        assert await state(connection, message) is State.QUEUED
        locks = "select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'"
        assert await connection.fetchval(locks) == 0

    with_connection(database, work)


def test_what_is_still_unreadable_stays_as_it_was_but_for_the_mark(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        place = await put(connection, tenant, b"<deliveryInfo/>", "xml")
        done = await again(connection, tenant, place)
        assert [(o.result, (o.detail or "")[:3]) for o in done.outcomes] == [("unreadable", "xml")]
        assert await connection.fetchval("select count(*) from quarantine") == 1
        kept = await row(connection, tenant, place)
        assert (kept["replay_result"], kept["told"], kept["body"]) == ("not_applied", 1, b"<deliveryInfo/>")
        assert await connection.fetchval("select count(*) from intake") == 0

    with_connection(database, work)


def test_a_forged_one_is_still_forged_unless_it_is_believed(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (_,), submission = await issue(connection, tenant, ONE)
        (other,), _ = await issue(connection, tenant, TWO)
        raw = body(delivered(TWO), "t-2", str(other))
        applied = await apply(connection, new_id(), now(), Feed.PUSH, [told_of(raw, tenant, submission)])
        assert applied.results == ["forged"]
        kept = await connection.fetchrow("select week, digest from quarantine")
        assert kept is not None
        place = Place(kept["week"], kept["digest"])

        assert results(await again(connection, tenant, place)) == ["forged"]
        assert await state(connection, other) is State.QUEUED
        marked = await row(connection, tenant, place)
        assert (marked["told"], marked["replay_result"]) == (1, "not_applied"), "a replay is no telling"

        believed = await again(connection, tenant, place, believe=True)
        assert [(o.result, o.message_id, o.matched_by) for o in believed.outcomes] == [
            ("applied", other, "correlationid")
        ]
        assert await state(connection, other) is State.DELIVERED
        assert (await row(connection, tenant, place))["replay_result"] == "applied"

    with_connection(database, work)


def test_a_forged_one_costs_its_neighbours_nothing(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (message,), submission = await issue(connection, tenant, ONE)
        (other,), _ = await issue(connection, tenant, TWO)
        parts = [body(delivered(ONE), "t-1", str(message)), body(delivered(TWO), "t-2", str(other)), b'{"x": 1}']
        whole = b"[" + b",".join(parts) + b"]"
        place = await put(connection, tenant, whole, submission=submission)
        done = await again(connection, tenant, place)
        assert sorted(results(done)) == ["applied", "forged", "unreadable"]
        assert done.result == "partly"
        assert (await state(connection, message), await state(connection, other)) == (State.DELIVERED, State.QUEUED)
        assert await connection.fetchval("select count(*) from quarantine") == 1
        assert await connection.fetchval("select sum(applied) from intake") == 1

    with_connection(database, work)


def test_what_the_database_refused_is_tried_again_and_refused_or_applied(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        poison, good = body(delivered(ONE), "t-poison"), body(delivered(TWO), "t-good")
        place = await put(connection, tenant, b"[" + poison + b"," + good + b"]", "database_refused")
        await connection.execute("alter table message add constraint no_poison check (destination <> '447700900001')")
        for dry_run in (True, False):
            done = await again(connection, tenant, place, dry_run=dry_run)
            assert {o.told.transid: o.result for o in done.outcomes if o.told} == {
                "t-poison": "refused",
                "t-good": "applied",
            }
            assert [o.detail for o in done.outcomes if o.result == "refused"] == ["CheckViolationError 23514"]
            assert done.result == "partly"
        await connection.execute("alter table message drop constraint no_poison")
        assert sorted(results(await again(connection, tenant, place))) == ["applied", "duplicate"]
        assert (await row(connection, tenant, place))["replay_result"] == "applied"

    with_connection(database, work)


def test_an_observed_message_that_a_replay_files_as_ours_is_shown_as_ours(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        (message,), _ = await issue(connection, tenant, ONE)
        await apply(connection, new_id(), now(), Feed.PUSH, [told_of(body(delivered(ONE), "t-1"), tenant)])
        place = await put(connection, tenant, body(delivered(ONE, deliveryStatus="Read"), "t-1", str(message)))
        would = await again(connection, tenant, place, dry_run=True)
        done = await again(connection, tenant, place)
        for told in (would, done):
            assert [(o.message_id, o.message) for o in told.outcomes] == [(message, "issued")]
            assert [c.message_id for c in told.changes if c.new is None] != [message]
        assert [(c.message_id, c.old, c.new) for c in would.changes] == [
            (c.message_id, c.old, c.new) for c in done.changes
        ]

    with_connection(database, work)


def test_a_large_body_is_tried_in_groups_that_keep_a_transid_together(database: Database) -> None:
    tenant = database.tenant()
    many = [body(delivered(ONE, code=str(n)), f"t-{n % 300}") for n in range(900)] + [body(delivered(ONE), "t-0")] * 2
    whole = b"[" + b",".join(many) + b"]"
    reading = read(whole, Source(tenant, None, now()))
    made = list(groups(reading.receipts))
    assert sum(len(group) for group in made) == len(reading.receipts) == 902
    assert len(made) > 2
    keys = [{told.transid_key for told in group} for group in made]
    assert not any(one & other for n, one in enumerate(keys) for other in keys[:n])

    async def work(connection: Connection) -> None:
        place = await put(connection, tenant, whole)
        would = await again(connection, tenant, place, dry_run=True)
        assert await connection.fetchval("select count(*) from message") == 0
        done = await again(connection, tenant, place)
        assert sorted(results(would)) == sorted(results(done)) == ["applied"] * 901 + ["duplicate"]
        assert await connection.fetchval("select count(*) from message") == 300

    with_connection(database, work)


def test_two_replays_of_the_same_body_at_once_apply_it_once(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        many = [body(delivered(ONE, code=str(n)), f"t-{n % 40}") for n in range(200)]
        place = await put(connection, tenant, b"[" + b",".join(many) + b"]")
        others = [await connect(database.dsn, "tests") for _ in range(4)]
        done = await asyncio.gather(*(again(other, tenant, place, dry_run=n == 3) for n, other in enumerate(others)))
        for other in others:
            await other.close()
        real = done[:3]
        assert sum(results(one).count("applied") for one in real) == 200
        assert {one.result for one in real} == {"applied"}
        assert await connection.fetchval("select count(*) from receipt") == 200
        assert await connection.fetchval("select count(*) from message") == 40
        assert (await row(connection, tenant, place))["replay_result"] == "applied"

    with_connection(database, work)


def test_a_replay_and_pushes_of_the_same_receipts_at_once_agree(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        many = [body(delivered(ONE, code=str(n)), f"t-{n % 30}") for n in range(120)]
        place = await put(connection, tenant, b"[" + b",".join(many) + b"]")
        told = [told_of(raw, tenant) for raw in many]

        async def push(start: int) -> None:
            own = await connect(database.dsn, "tests")
            for n in range(0, 120, 10):
                group = [told[(start + n + k) % 120]._replace(fresh=MessageId(new_id())) for k in range(10)]
                await apply(own, new_id(), now(), Feed.PUSH, group)
            await own.close()

        other = await connect(database.dsn, "tests")
        _, _, done = await asyncio.gather(push(0), push(60), again(other, tenant, place))
        await other.close()
        assert done.result == "applied"
        assert await connection.fetchval("select count(*) from receipt") == 120

    with_connection(database, work)


def test_a_receipt_whose_week_is_gone_is_late_and_in_the_books(database: Database) -> None:
    tenant = database.tenant()
    old = SubmissionId(UUID("0190c3f2-5a1b-7c3d-8e4f-0123456789ab"))

    async def work(connection: Connection) -> None:
        place = await put(connection, tenant, body(delivered(ONE), "t-1"), submission=old)
        done = await again(connection, tenant, place)
        assert (results(done), done.result) == (["late"], "applied")

    with_connection(database, work)


def test_the_headers_are_kept_as_they_were(database: Database) -> None:
    tenant = database.tenant()

    async def work(connection: Connection) -> None:
        kept = await row(connection, tenant, await put(connection, tenant, b"x", headers='{"user-agent": "probe"}'))
        assert json.loads(kept["headers"]) == {"user-agent": "probe"}

    with_connection(database, work)

"""What never came: who is waited for, who is given up, what is counted, by a clock that is moved."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from receiver import metrics
from receiver.ids import MessageId, first_id_at
from receiver.messages.lattice import Channel, Fact, State
from receiver.messages.told import Feed
from receiver.upkeep import awaiting, completeness, learning
from receiver.upkeep.awaiter import Awaiter
from receiver.upkeep.awaiting import Fence
from receiver.waits import DEFAULTS, Waits
from tests.support import Database, cloned
from tests.upkeep.waiting import DAY, HOUR, MINUTE, SECOND, World, in_world, settle

OWN_RECEIPTS = "select count(*) from receipt where message_id = $1 and feed = 6 and fact = $2"
TABLES = ["message", "message_state", "receipt", "change", "submission", "awaited", "walk", "push_count", "usual_time"]


@pytest.fixture(scope="module")
def one_database(postgres: str, template: str) -> Iterator[Database]:
    """One for all tests here: to clone it took longer than most of them."""
    with cloned(postgres, template, "awaiting") as made:
        yield made


@pytest.fixture
def database(one_database: Database) -> Database:
    """Without messages, and nothing waited for."""
    for table in TABLES:
        one_database.fetch(f"delete from {table}")
    return one_database


def test_a_message_of_which_nothing_is_told_is_no_receipt_after_its_channel_s_patience_and_not_before(
    database: Database,
) -> None:
    async def work(one: World) -> None:
        began = one.at - HOUR
        accepted, submitted = await one.sent(began), await one.sent(began)
        await one.told(submitted, Fact.SUBMITTED, began + SECOND)
        call, app = await one.sent(began, Channel.VOICE), await one.sent(began, Channel.PUSH)
        await one.told(call, Fact.ENDED, began + MINUTE)
        worker = one.awaiter()
        for hours, given_up in (
            (0, set()),
            (5.9, set()),
            (6.1, {call}),
            (71.9, {call}),
            (72.1, {call, accepted, submitted}),
        ):
            one.at = began + timedelta(hours=hours)
            await settle(worker)
            states = {m: await one.state(m) for m in (accepted, submitted, call, app)}
            assert {m for m, state in states.items() if state == State.NO_RECEIPT} == given_up, hours
        one.at = began + 28 * DAY + SECOND
        await settle(worker)
        assert await one.state(app) == State.NO_RECEIPT
        assert await one.value("select count(*) from awaited") == 0
        assert await one.counted() == (0, 0)
        assert await one.value("select count(*) from change where new_state = 30 and feed = 6") == 4

    in_world(database, work)


def test_a_late_final_receipt_corrects_it(database: Database) -> None:
    async def work(one: World) -> None:
        began = one.at - HOUR
        message = await one.sent(began)
        one.at = began + 73 * HOUR
        await settle(one.awaiter())
        assert await one.state(message) == State.NO_RECEIPT
        await one.told(message, Fact.SUBMITTED, one.at)
        assert await one.state(message) == State.NO_RECEIPT
        await one.told(message, Fact.DELIVERED, one.at)
        assert await one.state(message) == State.DELIVERED
        await settle(one.awaiter())
        assert await one.counted() == (0, 0), "it was given up: nobody waited for it any more"

    in_world(database, work)


NEVER_GIVEN_UP: list[tuple[Channel, tuple[Fact, ...]]] = [
    (Channel.SMS, ()),
    (Channel.SMS, (Fact.UNCERTAIN,)),
    (Channel.APPLE, (Fact.ACCEPTED, Fact.SUBMITTED)),
    (Channel.EVENT, (Fact.ACCEPTED,)),
    (Channel.SMS, (Fact.ACCEPTED, Fact.DELIVERED)),
    (Channel.SMS, (Fact.REFUSED,)),
]


def test_what_was_never_sent_for_certain_or_is_final_is_never_given_up(database: Database) -> None:
    async def work(one: World) -> None:
        began = one.at - HOUR
        messages = []
        for channel, facts in NEVER_GIVEN_UP:
            messages.append(await one.born(began, channel))
            for fact in facts:
                await one.told(messages[-1], fact, began + SECOND)
        before, worker = [await one.state(message) for message in messages], one.awaiter()
        assert before == [0, State.UNCERTAIN, State.SUBMITTED, State.ACCEPTED, State.DELIVERED, State.REFUSED]
        for days in (0, 3, 4, 10, 30, 60):
            one.at = began + timedelta(days=days, hours=2)
            await settle(worker)
        assert [await one.state(message) for message in messages] == before
        assert [bool(await one.awaited(message)) for message in messages] == [True, True, *[False] * 4]

    in_world(database, work)


def test_patience_counts_from_the_send_and_not_from_when_it_was_handed_in(database: Database) -> None:
    async def work(one: World) -> None:
        began = one.at - HOUR
        message = await one.born(began)
        worker = one.awaiter()
        await settle(worker)
        await one.told(message, Fact.ACCEPTED, began + 10 * HOUR, Feed.ANSWER)
        for hours, state in ((73, State.ACCEPTED), (81.9, State.ACCEPTED), (82.1, State.NO_RECEIPT)):
            one.at = began + timedelta(hours=hours)
            await settle(worker)
            assert await one.state(message) == state, hours

    in_world(database, work)


def test_a_wrong_time_of_the_platform_s_neither_hurries_nor_stops_us(database: Database) -> None:
    async def work(one: World) -> None:
        began = one.at - HOUR
        early, late = await one.born(began), await one.born(began)
        for message in (early, late):
            await one.told(message, Fact.SUBMITTED, began)
        await one.connection.execute(
            "update message_state set submitted_at = $2 where id = $1", early, datetime(1999, 1, 1, tzinfo=UTC)
        )
        await one.connection.execute(
            "update message_state set submitted_at = $2 where id = $1", late, datetime(2099, 1, 1, tzinfo=UTC)
        )
        worker = one.awaiter()
        await settle(worker)
        assert await one.state(early) == await one.state(late) == State.SUBMITTED
        one.at = began + 73 * HOUR
        await settle(worker)
        assert await one.state(early) == await one.state(late) == State.NO_RECEIPT

    in_world(database, work)


def test_what_waited_here_for_days_has_its_patience_from_when_it_went_out_whatever_the_platform_s_clock_says(
    database: Database,
) -> None:
    async def work(one: World) -> None:
        began = one.at - 90 * HOUR
        message = await one.born(began)
        await one.connection.execute(
            "insert into submission (id, tenant, batch_id, api, created_at, first_id, last_id, message_count, sent_at)"
            " values ($1, $2, $1, 1, $3, $1, $1, 1, $4)",
            message,
            one.tenant,
            began,
            one.at,
        )
        await one.told(message, Fact.SUBMITTED, one.at)
        await one.connection.execute("update message_state set submitted_at = $2 where id = $1", message, began)
        worker = one.awaiter()
        await settle(worker)
        assert await one.state(message) == State.SUBMITTED
        row = await one.awaited(message)
        assert row is not None
        assert row["look_at"] == one.at + 72 * HOUR
        one.at += 72 * HOUR
        await settle(worker)
        assert await one.state(message) == State.NO_RECEIPT

    in_world(database, work)


def test_what_was_pushed_is_told_from_what_we_had_to_find_out(database: Database) -> None:
    async def work(one: World) -> None:
        began = one.at - 2 * HOUR
        pushed, polled, imported, both, late, never, own = [await one.sent(began) for _ in range(7)]
        await one.told(pushed, Fact.DELIVERED, began + MINUTE)
        await one.told(imported, Fact.UNDELIVERED, began + MINUTE, Feed.IMPORT)
        await one.told(both, Fact.FAILED, began + MINUTE, Feed.POLL)
        await one.told(both, Fact.FAILED, began + 20 * MINUTE, Feed.PUSH)
        await one.told(own, Fact.CANCELLED, began + MINUTE, Feed.OWN)
        worker = one.awaiter()
        one.at = began + 16 * MINUTE
        await settle(worker)
        assert await one.counted() == (2, 1)
        for message in (polled, late):
            await one.told(message, Fact.DELIVERED, began + 30 * MINUTE, Feed.POLL)
            await one.connection.execute("update awaited set look_at = $2 where message_id = $1", message, one.at)
        one.at = began + 30 * MINUTE + SECOND
        await settle(worker)
        assert await one.counted() == (2, 1), "the platform may be telling it again just now"
        await one.told(late, Fact.DELIVERED, began + 33 * MINUTE)
        one.at = began + 35 * MINUTE
        await settle(worker)
        assert await one.counted() == (3, 2)
        assert await one.value("select array_agg(message_id) from awaited") == [never]

    in_world(database, work)


def test_counts_stand_under_the_hour_of_birth_the_tenant_and_the_channel(database: Database) -> None:
    async def work(one: World) -> None:
        hour = one.at.replace(minute=0, second=0, microsecond=0) - 3 * HOUR
        for at, channel in ((hour, Channel.SMS), (hour + 59 * MINUTE, Channel.SMS), (hour + HOUR, Channel.VOICE)):
            await one.told(await one.sent(at, channel), Fact.DELIVERED, at + SECOND)
        await settle(one.awaiter())
        rows = await one.connection.fetch("select * from push_count order by hour")
        assert [tuple(row) for row in rows] == [
            (hour, one.tenant, Channel.SMS, 2, 0),
            (hour + HOUR, one.tenant, Channel.VOICE, 1, 0),
        ]

    in_world(database, work)


def test_a_tombstone_is_neither_counted_nor_waited_for(database: Database) -> None:
    async def work(one: World) -> None:
        began = one.at - HOUR
        final, silent, later = await one.sent(began), await one.sent(began), await one.sent(began)
        await one.told(final, Fact.DELIVERED, began + SECOND)
        for message in (final, silent):
            await one.connection.execute("update message_state set merged_into = $1 where id = $1", message)
        worker = one.awaiter()
        await settle(worker)
        assert await one.counted() == (0, 0)
        assert await one.value("select array_agg(message_id) from awaited") == [later]
        await one.connection.execute("update message_state set merged_into = $1 where id = $1", later)
        one.at += 73 * HOUR
        await settle(worker)
        assert await one.state(later) == State.ACCEPTED
        assert await one.awaited(later) is None

    in_world(database, work)


def test_what_went_with_its_week_is_waited_for_no_longer(database: Database) -> None:
    async def work(one: World) -> None:
        message = await one.born(one.at - HOUR)
        worker = one.awaiter()
        await settle(worker)
        assert await one.awaited(message)
        for table in ("message", "message_state"):
            await one.connection.execute(f"delete from {table} where id = $1", message)
        one.at += 30 * DAY
        await settle(worker)
        assert await one.awaited(message) is None

    in_world(database, work)


def test_the_platform_may_be_asked_from_the_usual_time_on_and_only_for_what_has_a_transid(database: Database) -> None:
    async def work(one: World) -> None:
        began = one.at - 20 * MINUTE
        known, unknown, quick = await one.sent(began), await one.born(began), await one.sent(began + 18 * MINUTE)
        worker = one.awaiter()
        await settle(worker)
        row, other = await one.awaited(known), await one.awaited(unknown)
        assert row is not None
        assert other is not None
        assert row["poll_at"] == one.at
        assert other["poll_at"] is None
        assert await one.awaited(quick) is None
        await one.told(unknown, Fact.ACCEPTED, one.at, Feed.ANSWER, transid="T")
        one.at += HOUR
        await settle(worker)
        other = await one.awaited(unknown)
        assert other is not None
        assert other["poll_at"] == one.at
        # from the first question on it is the asker's own
        await one.connection.execute("update awaited set polls = 3, poll_at = null")
        one.at += 10 * HOUR
        await settle(worker)
        assert await one.value("select count(*) from awaited where polls = 3 and poll_at is null") == 3

    in_world(database, work)


def test_a_message_is_overdue_when_nearly_all_of_its_channel_and_country_are_heard_of(database: Database) -> None:
    async def work(one: World) -> None:
        began = one.at - 5 * HOUR
        times = [began + n * SECOND for n in range(200)]
        for country, seconds, count in (("GB", 40, 200), ("NO", 1800, 200), ("FR", 7, 99)):
            messages = await one.many_sent(times[:count], country=country)
            slow = {0, 100} if count == 200 else set()
            heard = [at + (2 if n in slow else 1) * seconds * SECOND for n, at in enumerate(times[:count])]
            await one.many_told(messages, heard, Fact.DELIVERED)
        worker = one.awaiter()
        await worker.learn()
        rows = await one.connection.fetch("select channel, country, seconds, messages from usual_time order by country")
        assert [tuple(row) for row in rows] == [
            (Channel.SMS, "", 1800.0, 499),
            (Channel.SMS, "GB", 40.0, 200),
            (Channel.SMS, "NO", 1800.0, 200),
        ]
        sent = one.at - 16 * MINUTE
        waiting = {country: await one.sent(sent, country=country) for country in ("GB", "NO", "FR", None)}
        call = await one.sent(sent, Channel.VOICE, country="GB")
        await settle(worker)

        async def overdue(message: MessageId) -> timedelta:
            row = await one.awaited(message)
            assert row is not None
            return row["overdue_at"] - sent  # type: ignore[no-any-return]

        minutes = timedelta(seconds=1800)
        assert {country: round_up(await overdue(m)) for country, m in waiting.items()} == {
            "GB": timedelta(seconds=40),
            "NO": minutes,
            "FR": minutes,
            None: minutes,
        }
        assert round_up(await overdue(call)) == DEFAULTS["voice"].usual, "of so few nothing is learned"

    in_world(database, work)


def round_up(time: timedelta) -> timedelta:
    """To the second: an id knows milliseconds."""
    return timedelta(seconds=round(time.total_seconds()))


def test_nothing_is_learned_from_messages_that_had_no_time_to_be_slow_nor_from_what_was_asked_for(
    database: Database,
) -> None:
    async def work(one: World) -> None:
        young = await one.many_sent([one.at - 10 * MINUTE] * 120)
        await one.many_told(young, [one.at - 9 * MINUTE] * 120, Fact.DELIVERED)
        asked = await one.many_sent([one.at - 5 * HOUR] * 120, Channel.VOICE)
        await one.many_told(asked, [one.at - HOUR] * 120, Fact.DELIVERED, Feed.POLL, Channel.VOICE)
        await one.awaiter().learn()
        assert await one.value("select count(*) from usual_time") == 0

    in_world(database, work)


def test_a_figure_is_never_above_the_patience() -> None:
    now = datetime.now(UTC)
    heard = [learning.Heard(Channel.VOICE, "GB", now - DAY, 1e6)] * 100
    waits = {Channel.VOICE: DEFAULTS["voice"]}
    learned = learning.learn(heard, waits, now)
    assert learned[Channel.VOICE, "GB"] == learning.Usual(DEFAULTS["voice"].patience, 100)


def test_a_message_that_is_committed_long_after_its_id_was_minted_is_not_passed(database: Database) -> None:
    async def work(one: World) -> None:
        worker = one.awaiter(sms=Waits(5 * SECOND, HOUR))
        await settle(worker)
        late = await one.born(one.at - MINUTE, noticed=True)
        very_late = await one.born(one.at - HOUR, noticed=True)
        await one.told(late, Fact.DELIVERED, one.at)
        one.at += HOUR
        await settle(worker)
        assert await one.counted() == (1, 0)
        assert await one.awaited(very_late) is not None

    in_world(database, work)


def test_what_is_born_after_a_clock_that_was_ahead_was_set_back_is_not_passed(database: Database) -> None:
    async def work(one: World) -> None:
        worker = one.awaiter()
        await settle(worker)
        ahead = first_id_at(one.at + HOUR)
        await one.connection.execute("update walk set last_id = $1", ahead)
        message = await one.born(datetime.now(UTC), noticed=True)
        one.at += 3 * HOUR
        await settle(worker)
        assert await one.awaited(message) is not None

    in_world(database, work)


def test_a_late_birth_ahead_of_the_walk_counts_once(database: Database) -> None:
    async def work(one: World) -> None:
        worker = one.awaiter()
        await settle(worker)
        message = await one.born(one.at - MINUTE, noticed=True)
        await one.told(message, Fact.DELIVERED, one.at)
        one.at += MINUTE
        await settle(worker)
        assert await one.counted() == (0, 0)
        one.at += HOUR
        await settle(worker)
        assert await one.counted() == (1, 0)
        assert await one.awaited(message) is None

    in_world(database, work)


def test_the_walk_waits_for_whoever_may_still_commit_a_message(database: Database) -> None:
    async def work(one: World) -> None:
        worker = one.awaiter(sms=Waits(5 * SECOND, HOUR))
        await settle(worker)
        writing = one.unnoticed.transaction()
        await writing.start()
        slow = await one.born(datetime.now(UTC))
        one.at = datetime.now(UTC) + HOUR
        began = await one.value("select clock_timestamp()")
        while await one.value("select clock_timestamp()") < began + 3 * SECOND:
            await worker.once()
            await asyncio.sleep(0.1)
        passed = await awaiting.cursors(one.connection, [Channel.SMS])
        assert passed[Channel.SMS] < slow
        await writing.commit()
        while (await awaiting.cursors(one.connection, [Channel.SMS]))[Channel.SMS] < slow:
            await worker.once()
        await settle(worker)
        assert await one.awaited(slow) is not None

    in_world(database, work)


def test_a_fence_is_passed_when_all_who_were_there_have_gone(database: Database) -> None:
    async def work(one: World) -> None:
        fence = Fence()
        first = await fence.look(one.connection)
        assert first is not None
        async with one.unnoticed.transaction():
            await one.born(one.at)
            assert await fence.look(one.connection) == first
            assert await fence.look(one.connection) == first
        async with one.unnoticed.transaction():
            await one.born(one.at)
            second = await fence.look(one.connection)
            assert second is not None
            assert first <= second
        assert (await fence.look(one.connection) or first) > second

    in_world(database, work)


def test_another_usual_time_does_not_count_again(database: Database) -> None:
    async def work(one: World) -> None:
        began = one.at - 5 * HOUR
        for channel in (Channel.SMS, Channel.VOICE, Channel.PUSH):
            for n in range(3):
                message = await one.sent(began + n * MINUTE, channel)
                await one.told(message, Fact.DELIVERED, began + 4 * MINUTE)
        await settle(one.awaiter())
        assert await one.counted() == (9, 0)
        await one.told(await one.sent(one.at - 2 * MINUTE), Fact.DELIVERED, one.at)
        await settle(one.awaiter(sms=Waits(HOUR, DAY)))
        assert await one.counted() == (9, 0)
        await settle(one.awaiter(push=Waits(MINUTE, DAY), sms=Waits(MINUTE, DAY)))
        assert await one.counted() == (10, 0)

    in_world(database, work)


def test_what_is_counted_goes_with_its_week(database: Database) -> None:
    async def work(one: World) -> None:
        oldest = await one.value("select born_at_v1(min(first_id::text)::uuid) from week")
        for hour in (oldest - HOUR, oldest - 2 * HOUR, oldest):
            await one.connection.execute("insert into push_count (hour, tenant, channel) values ($1, 1, 1)", hour)
        await one.awaiter().learn()
        assert await one.value("select array_agg(hour) from push_count") == [oldest]

    in_world(database, work)


@pytest.fixture
def _clean_gauges() -> Iterator[None]:
    yield
    completeness.hide()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Returns when it holds; fails after 20 seconds."""
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def shows(awaited: str) -> Callable[[], Awaitable[bool]]:
    """Whether the number of messages that wait is shown as that."""

    async def asked() -> bool:
        return shown()["receiver_awaited_messages"] == awaited

    return asked


def shown() -> dict[str, str]:
    names = ("receiver_push_completeness", "receiver_overdue", "receiver_awaited", "receiver_walk_behind")
    lines = [line for line in metrics.scrape().decode().splitlines() if line.startswith(names)]
    return dict(line.rsplit(" ", 1) for line in lines)


@pytest.mark.usefixtures("_clean_gauges")
def test_what_waits_and_how_complete_the_push_was_is_shown(database: Database) -> None:
    async def work(one: World) -> None:
        began = one.at - 2 * HOUR
        for feed in (Feed.PUSH, Feed.PUSH, Feed.REPLAY, Feed.POLL):
            await one.told(await one.sent(began), Fact.DELIVERED, began + MINUTE, feed)
        old = await one.sent(one.at - 30 * HOUR)
        await one.told(old, Fact.DELIVERED, one.at - 29 * HOUR, Feed.IMPORT)
        await one.sent(began)
        await one.sent(began, Channel.VOICE)
        worker = one.awaiter()
        await settle(worker)
        await worker.measure()
        assert shown() == {
            'receiver_push_completeness_ratio{channel="sms"}': "0.75",
            'receiver_overdue_messages{channel="sms",tenant="default"}': "1.0",
            'receiver_overdue_messages{channel="voice",tenant="default"}': "1.0",
            "receiver_awaited_messages": "2.0",
            "receiver_walk_behind_seconds": shown()["receiver_walk_behind_seconds"],
        }
        assert 0 <= float(shown()["receiver_walk_behind_seconds"]) < 60

    in_world(database, work)


@pytest.mark.usefixtures("_clean_gauges")
def test_only_who_has_the_duty_works_and_shows_it(database: Database) -> None:
    async def work(one: World) -> None:
        message = await one.sent(one.at - HOUR)
        held = False
        worker = Awaiter(one.pool, {}, DEFAULTS, held=lambda: held)
        running = asyncio.create_task(worker.run())

        await until(shows("NaN"))
        assert await one.value("select count(*) from walk") == 0
        held = True
        await until(shows("1.0"))
        assert await one.awaited(message) is not None
        held = False
        await until(shows("NaN"))
        assert shown() == {"receiver_awaited_messages": "NaN", "receiver_walk_behind_seconds": "NaN"}
        held = True
        await until(shows("1.0"))
        await worker.close()
        await running
        assert shown()["receiver_awaited_messages"] == "NaN"

    in_world(database, work)


def test_a_database_that_goes_away_is_told_once_and_the_work_goes_on(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(one: World) -> None:
        worker = Awaiter(one.pool, {}, DEFAULTS)
        running = asyncio.create_task(worker.run())
        kill = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'receiver awaiter'"

        async def told() -> bool:
            await one.connection.execute(kill)
            return "waiting_failed" in caplog.messages

        await until(told)
        message = await one.sent(one.at - HOUR)

        async def found() -> bool:
            return await one.awaited(message) is not None

        await until(found)
        await worker.close()
        await running

    in_world(database, work)

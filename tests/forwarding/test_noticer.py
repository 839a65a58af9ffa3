"""Failures in the change log become notices in the queue: each change once, whoever dies, and none too many."""

import asyncio
import contextlib
from datetime import datetime, timedelta

import asyncpg
import pytest

from receiver.failure_settings import ALSO, FailureNotices
from receiver.forwarding.digest import MOST_GROUPS
from receiver.forwarding.queue import MOST_NOTICES
from receiver.ids import new_id
from receiver.messages.told import Feed
from receiver.receipts.apply import apply
from receiver.upkeep import forgetting
from receiver.upkeep.person import person_of
from tests.forwarding.clients import NUMBER, delivered, until
from tests.forwarding.noticing import Clock, Stage, all_of, at_work, failed, noticed, observed_name, stage
from tests.receipts.tellings import told_of
from tests.support import Database, now

URL = "https://hooks.example/failures"
EACH = FailureNotices(URL)
DIGEST = FailureNotices(URL, digest_seconds=60)


def test_each_change_into_failure_is_told_once_and_nothing_else(database: Database) -> None:
    async def work(scene: Stage) -> None:
        await scene.fail()  # before anybody looked
        noticer = await scene.begun()
        place = await scene.connection.fetchval("select snapshot::text from noticed")
        message = await scene.fail()
        arrived, _ = await scene.issue(None)
        await scene.tell(delivered("t-1", str(arrived)))
        await all_of(noticer)
        assert await scene.ids() == [str(message)]
        for again in (failed(message), failed(message), failed(message, "7401", "Failed")):  # told again, and worse
            await scene.tell(again)
            await all_of(noticer)
        assert await scene.ids() == [str(message)]
        await scene.connection.execute("update noticed set snapshot = $1::text::pg_snapshot", place)
        await all_of(noticer)
        assert await scene.ids() == [str(message)]

    stage(database, work, EACH)


def test_a_notice_says_what_is_known_of_the_failure(database: Database) -> None:
    async def work(scene: Stage) -> None:
        noticer = await scene.begun()
        message = await scene.fail()
        await all_of(noticer)
        (notice,) = await scene.notices()
        assert (notice["shape"], notice["kind"], notice["tenant"]) == (1, "failure", "default")
        assert (notice["id"], notice["state"], notice["old_state"]) == (str(message), "undelivered", "queued")
        assert (notice["channel"], notice["origin"], notice["final"]) == ("sms", "issued", True)
        assert (notice["code"], notice["reason_class"]) == ("7207", "temporary")
        assert "out of coverage" in notice["reason"]
        assert (notice["correlationid"], notice["callbackData"]) == ("order-1", "the client's")
        assert len(notice["notice"]) == 32
        (row,) = await scene.rows()
        assert (row["message_id"], row["url"], row["tenant"]) == (message, URL, scene.tenant)
        assert row["created_at"] == row["due_at"], "its age is how long it has waited here"
        assert row["expires_at"] - row["due_at"] == timedelta(hours=72)

    stage(database, work, EACH)


@pytest.mark.parametrize("also", [None, *ALSO])
def test_what_is_told_besides_is_chosen(database: Database, also: str | None) -> None:
    told = FailureNotices(URL, also=frozenset([also] if also else ()))

    async def work(scene: Stage) -> None:
        noticer = await scene.begun()
        failing = await scene.fail()
        ids = {None: str(failing), "imported": str(await scene.fail(feed=Feed.IMPORT))}
        for word, state in (("cancelled", 40), ("no_receipt", 30)):
            await scene.log(1, state)
            ids[word] = str(await scene.connection.fetchval("select message_id from change order by seq desc limit 1"))
        name = observed_name()
        await scene.tell(failed(name))
        ids["observed"] = str(await scene.connection.fetchval("select id from message where correlationid = $1", name))
        await all_of(noticer)
        assert await scene.ids() == [
            ids[word] for word in (None, "imported", "cancelled", "no_receipt", "observed") if word in (None, also)
        ]

    stage(database, work, told)


def test_a_message_given_up_that_fails_later_is_told_of_twice(database: Database) -> None:
    async def work(scene: Stage) -> None:
        noticer = await scene.begun()
        await scene.log(1, 30)
        await scene.connection.execute(
            "insert into change (at, message_id, version, tenant, origin, channel, feed, old_state, new_state)"
            " select at, message_id, 3, tenant, 1, 1, 1, 30, 46 from change"
        )
        await all_of(noticer)
        assert [notice["state"] for notice in await scene.notices()] == ["no_receipt", "failed"]
        assert len({notice["notice"] for notice in await scene.notices()}) == 2

    stage(database, work, FailureNotices(URL, also=frozenset(["no_receipt"])))


def test_what_commits_late_is_told_once_whatever_was_read_before(database: Database) -> None:
    async def work(scene: Stage) -> None:
        noticer = await scene.begun()
        late, _ = await scene.issue(None)
        async with scene.pool.acquire() as slow:
            open_one = slow.transaction()
            await open_one.start()
            await apply(slow, new_id(), now(), Feed.PUSH, [told_of(failed(late), scene.tenant)])
            others = [await scene.fail() for _ in range(3)]
            await all_of(noticer)
            assert await scene.ids() == [str(other) for other in others]
            await open_one.commit()
        await all_of(noticer)
        await all_of(noticer)
        assert await scene.ids() == [*(str(other) for other in others), str(late)]

    stage(database, work, EACH)


def test_a_long_log_is_read_in_steps_without_a_gap(database: Database) -> None:
    async def work(scene: Stage) -> None:
        noticer = await scene.begun(most_changes=2)
        ids = [str(await scene.fail()) for _ in range(7)]
        steps = 1
        while await noticer.once():
            steps += 1
        assert steps >= 3
        assert await scene.ids() == ids

    stage(database, work, EACH)


def test_what_was_open_while_the_log_was_read_in_steps_is_told_once(database: Database) -> None:
    async def work(scene: Stage) -> None:
        noticer, told = await scene.begun(most_changes=2), list[str]()
        async with contextlib.AsyncExitStack() as stack:
            slow = []
            for _ in range(3):  # before, among and behind what the steps end at
                late, _submission = await scene.issue(None)
                connection = await stack.enter_async_context(scene.pool.acquire())
                slow.append(connection.transaction())
                await slow[-1].start()
                await apply(connection, new_id(), now(), Feed.PUSH, [told_of(failed(late), scene.tenant)])
                told += [str(late), *[str(await scene.fail()) for _ in range(3)]]
            await noticer.once()
            await slow[1].commit()
            await all_of(noticer)
            await slow[0].commit()
            await noticer.once()
            await slow[2].commit()
        await all_of(noticer)
        assert sorted(await scene.ids()) == sorted(told)

    stage(database, work, EACH)


def test_several_noticers_at_once_tell_each_failure_once(database: Database) -> None:
    async def work(scene: Stage) -> None:
        await scene.begun()
        async with at_work(scene.noticer()), at_work(scene.noticer()):
            ids = [str(await scene.fail()) for _ in range(40)]
            await asyncio.gather(*(scene.noticer().once() for _ in range(3)))

            async def all_there() -> bool:
                return len(await scene.ids()) >= len(ids)

            await until(all_there)
        assert sorted(await scene.ids()) == sorted(ids)

    stage(database, work, EACH)


def test_each_tenant_hears_of_its_own_in_its_own_way(database: Database) -> None:
    async def work(scene: Stage) -> None:
        second, third = scene.tenants.id_of("second"), scene.tenants.id_of("third")
        noticer = await scene.begun()
        mine, theirs, nobody_s = [await scene.fail(tenant) for tenant in (None, second, third)]
        await all_of(noticer)
        rows = await scene.rows()
        assert [(row["tenant"], row["url"]) for row in rows] == [(scene.tenant, URL), (second, f"{URL}/second")]
        first, other = await scene.notices()
        assert first["id"] == str(mine)
        assert str(theirs) in other["text"]
        assert str(nobody_s) not in str([first, other])

    stage(database, work, EACH, FailureNotices(f"{URL}/second", "slack"), None)


def test_of_too_many_at_once_the_newest_wait_and_the_others_are_counted(database: Database) -> None:
    async def work(scene: Stage) -> None:
        before = noticed("dropped")
        noticer = await scene.begun()
        await scene.log(MOST_NOTICES + 500)
        await all_of(noticer)
        newest = await scene.connection.fetch("select message_id from change order by seq desc limit $1", MOST_NOTICES)
        assert [row["message_id"] for row in reversed(newest)] == [
            row["message_id"] for row in await scene.connection.fetch("select message_id from forward order by id")
        ]
        assert noticed("dropped") == before + 500
        await scene.queue("https://hooks.example/receipts", 30)  # receipts have a bound of their own
        await scene.log(200)
        await all_of(noticer)
        await scene.forwarder(most_waiting=20).tidy()
        held = "select count(*) filter (where body is null) as receipts, count(body) as notices from forward"
        assert [tuple(row) for row in await scene.connection.fetch(held)] == [(20, MOST_NOTICES)]
        assert noticed("dropped") == before + 700
        await scene.connection.execute("update forward set due_at = 'infinity'")
        await scene.queue("https://hooks.example/receipts", 30)
        await scene.connection.execute("update forward set due_at = 'infinity'")
        await scene.log(50)
        await all_of(noticer)
        await scene.connection.execute("update forward set due_at = 'infinity' where body is not null")
        await scene.forwarder(most_waiting=20).tidy()
        assert [tuple(row) for row in await scene.connection.fetch(held)] == [(20, MOST_NOTICES)], "given up, likewise"

    stage(database, work, EACH)


def test_what_waits_goes_where_the_settings_say_now(database: Database) -> None:
    async def before(scene: Stage) -> None:
        noticer = await scene.begun()
        for tenant in (None, scene.tenants.id_of("second"), None):
            await scene.fail(tenant)
        await all_of(noticer)
        await scene.connection.execute(
            "update forward set due_at = 'infinity' where id = (select max(id) from forward)"
        )
        await scene.queue(URL, 1)  # a receipt, which is another matter

    async def after(scene: Stage) -> None:
        await all_of(scene.noticer())
        rows = [(row["url"], row["host"]) for row in await scene.rows()]
        new = ("https://new.example/failures", "https://new.example")
        old = (URL, "https://hooks.example")
        assert rows == [new, old, new, old]

    stage(database, before, EACH, EACH)
    stage(database, after, FailureNotices("https://new.example/failures"), None)


def test_nothing_is_told_of_what_a_restore_brought_or_of_longer_than_a_day_ago(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "receiver.notices")

    async def work(scene: Stage) -> None:
        for change in ("cluster = 1", "at = now() - interval '25 hours'"):
            noticer = await scene.begun()
            await scene.fail()
            await scene.connection.execute(f"update noticed set {change}")
            await all_of(noticer)
            message = await scene.fail()
            await all_of(noticer)
            assert await scene.ids() == [str(message)], change
            await scene.connection.execute("delete from forward")

    stage(database, work, EACH)
    begun = [record.levelname for record in caplog.records if record.getMessage() == "failure_notices_begin"]
    assert begun == ["INFO", "WARNING", "WARNING"]


def test_erasing_a_person_removes_what_waits_and_the_names_of_what_is_told_later(database: Database) -> None:
    async def work(scene: Stage) -> None:
        noticer = await scene.begun()
        waits, other = await scene.fail(), await scene.fail()
        await all_of(noticer)
        not_yet = await scene.fail()
        person = person_of(NUMBER)
        assert person is not None
        await forgetting.erase_messages(scene.connection, person, [waits, not_yet], now())
        await all_of(noticer)
        told = [(notice["id"], notice["correlationid"], notice["callbackData"]) for notice in await scene.notices()]
        assert told == [(str(other), "order-1", "the client's"), (str(not_yet), None, None)]

    stage(database, work, EACH)


SUMS = """
select s.word, count(*) from change c
  join message_state m on m.id = c.message_id join receipt r on r.message_id = m.id
 cross join lateral (values (coalesce(nullif({0}, ''), 'none'))) s(word)
 where c.new_state in (45, 46) and c.old_state < 40 group by 1
"""


def test_a_digest_has_the_sums_that_sql_has(database: Database) -> None:
    async def work(scene: Stage) -> None:
        clock = Clock()
        noticer = await scene.begun(clock=clock)
        kinds = [
            ("7207", "Undelivered"),
            ("7207", "Undelivered"),
            ("7101", "Failed"),
            ("", "Failed"),
            ("x<y", "Failed"),
        ]
        ids = []
        for n in range(20):
            code, status = kinds[n % len(kinds)]
            ids.append(str(await scene.fail(code=code, status=status)))
            if n == 9:
                await all_of(noticer)
                noticer = scene.noticer(clock=clock)  # another process goes on
                clock.move(59)
                await all_of(noticer)
        assert await scene.notices() == []
        clock.move(1)
        await all_of(noticer)
        (notice,) = await scene.notices()
        assert (notice["kind"], notice["messages"], notice["other_groups"]) == ("digest", 20, 0)
        for part, column in (("code", "r.code"), ("channel", "'sms'"), ("country", "m.country")):
            counted = await scene.connection.fetch(SUMS.format(column))
            assert notice["by"][part] == {row["word"]: row["count"] for row in counted}, part
        assert notice["by"]["state"] == {"failed": 12, "undelivered": 8}
        assert sum(notice["by"]["reason_class"].values()) == 20
        assert sum(group["messages"] for group in notice["groups"]) == 20
        largest = notice["groups"][0]
        assert (largest["code"], largest["state"], largest["messages"]) == ("7207", "undelivered", 8)
        assert largest["examples"] == [ids[0], ids[1], ids[5]]
        (bounds,) = await scene.connection.fetch("select min(at), max(at) from change where new_state in (45, 46)")
        assert [datetime.fromisoformat(notice[name]) for name in ("first", "last")] == list(bounds)
        clock.move(3600)
        await all_of(noticer)
        assert len(await scene.notices()) == 1, "an empty span is no news"

    stage(database, work, DIGEST)


def test_a_digest_stays_small_whatever_fails(database: Database) -> None:
    async def work(scene: Stage) -> None:
        clock = Clock()
        noticer = await scene.begun(clock=clock)
        await scene.connection.execute(
            "insert into change (at, message_id, version, tenant, origin, channel, feed, country, old_state, new_state)"
            " select now(), gen_random_uuid(), 2, $1, 1, 1, 1, 'X' || n, 20, 46 from generate_series(1, 10000) n",
            scene.tenant,
        )
        await all_of(noticer)
        figures = await scene.connection.fetchval("select jsonb_array_length(figures->'groups') from failure_digest")
        assert figures == MOST_GROUPS + 1
        clock.move(61)
        await all_of(noticer)
        (notice,) = await scene.notices()
        assert (notice["messages"], len(notice["groups"]), notice["other_groups"]) == (10_000, 50, 151)
        assert notice["by"]["country"]["other"] == 10_000 - MOST_GROUPS
        (row,) = await scene.rows()
        assert len(row["body"]) < 40_000

    stage(database, work, DIGEST)


@pytest.mark.parametrize("told", [EACH, None], ids=["each", "nowhere"])
def test_a_digest_in_hand_ends_when_the_setting_changes(database: Database, told: FailureNotices | None) -> None:
    async def gather(scene: Stage) -> None:
        noticer = await scene.begun()
        await scene.fail()
        await all_of(noticer)
        assert await scene.notices() == []

    async def later(scene: Stage) -> None:
        await all_of(scene.noticer())
        assert [notice["messages"] for notice in await scene.notices()] == ([1] if told else [])
        assert await scene.connection.fetchval("select count(*) from failure_digest") == 0

    stage(database, gather, DIGEST)
    stage(database, later, told)


def test_a_step_that_fails_is_done_again(database: Database) -> None:
    async def work(scene: Stage) -> None:
        noticer = await scene.begun()
        message = await scene.fail()
        await scene.connection.execute("alter table forward rename to away")
        with pytest.raises(asyncpg.UndefinedTableError):
            await noticer.once()
        async with at_work(noticer):
            await scene.connection.execute("alter table away rename to forward")

            async def there() -> bool:
                return await scene.ids() == [str(message)]

            await until(there)

    stage(database, work, EACH)


@pytest.mark.parametrize("feed", [*Feed, None], ids=[*(feed.word for feed in Feed), "nobody"])
def test_whoever_tells_a_failure_it_is_told_on_unless_an_old_export_does(database: Database, feed: Feed | None) -> None:
    async def work(scene: Stage) -> None:
        noticer = await scene.begun()
        await scene.log(1, feed=feed)
        await all_of(noticer)
        assert len(await scene.ids()) == (feed is not Feed.IMPORT)

    stage(database, work, EACH)

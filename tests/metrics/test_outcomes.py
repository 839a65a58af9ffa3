"""Outcomes by country and sender: counted once a change, from the fold, whoever tells and whoever folds."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from receiver import metrics
from receiver.database.pool import NOT_THERE, Pool, connect, open_pool
from receiver.ids import MessageId, TenantId
from receiver.messages.lattice import Channel, Fact, State
from receiver.messages.outcomes import came_into
from receiver.messages.told import Feed
from receiver.upkeep.folder import Folder
from receiver.upkeep.outcomes import Cohort, Moved, Names, Outcomes
from tests.metrics.figures import Figures, Service, figures, info
from tests.support import Database, now

GB, DE, US = "4477009001{:02}", "4915112345{:03}", "1202555{:04}"

# The same from the log itself, in other words than the code's.
COUNTED = """
select o.word as outcome, c.country, c.feed, m.sender, count(*)::float8 as n
  from change c join message m on m.id = c.message_id
 cross join lateral (select array['queued', 'accepted', 'delivered', 'failed', 'no_receipt'] as w) w
 cross join lateral (
   select case when c.new_state in (60, 70) then 'delivered' when c.new_state in (10, 20, 25) then 'accepted'
               when c.new_state = 30 then 'no_receipt' when c.new_state >= 42 then 'failed' end as word,
          case when c.old_state in (60, 70) then 'delivered' when c.old_state in (10, 20, 25) then 'accepted'
               when c.old_state = 30 then 'no_receipt' when c.old_state >= 42 then 'failed' end as before) o
 where c.tenant = $1 and c.origin = 1 and o.word is not null and o.word is distinct from o.before
 group by 1, 2, 3, 4
"""
Work = Callable[[Service, Pool], Awaitable[None]]


def in_service(database: Database, work: Work) -> None:
    tenant = database.tenant()

    async def wrapped() -> None:
        connection = await connect(database.dsn, "tests", timezone="UTC")
        pool = await open_pool(database.dsn, "statistics", 2, writer=True)
        await work(Service(connection, tenant), pool)
        await connection.close()
        await pool.close()

    asyncio.run(wrapped())


async def fold_all(folder: Folder) -> None:
    while (step := await folder.once()) is None or step.more:
        pass


async def counted(service: Service) -> tuple[Figures, Figures]:
    """By country and by sender, as the log says."""
    countries, senders = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    for row in await service.connection.fetch(COUNTED, service.tenant):
        feed = Feed(row["feed"]).word
        countries["sms", row["country"] or "none", feed, row["outcome"]] += row["n"]
        senders["sms", feed, row["outcome"], row["sender"] or "none"] += row["n"]
    return dict(countries), dict(senders)


def shown(service: Service) -> tuple[Figures, Figures]:
    return figures(metrics.OUTCOMES, service.name), figures(metrics.SENDER_OUTCOMES, service.name)


async def lives(service: Service, rnd: random.Random, feed: Feed = Feed.PUSH, times: int = 1) -> None:
    """Messages to three countries from two senders and none, and all kinds of fates, each told that often."""
    for sender in ("SHOP", "BANK", None):
        numbers = [spelling.format(n) for spelling in (GB, DE, US) for n in range(4)]
        ids = await service.send(numbers, sender)
        by_number = dict(zip(numbers, ids, strict=True))
        refused = rnd.sample(ids, 2)
        await service.answer(refused, Fact.REFUSED)
        await service.answer([one for one in ids if one not in refused])
        told = [
            info(identity, status, number, now(), code="7207" if status == "Undelivered" else "")
            for number, identity in by_number.items()
            for status in rnd.sample(["Submitted", "Delivered", "Undelivered", "Clicked"], rnd.randrange(4))
            if identity not in refused
        ]
        for _ in range(times):
            rnd.shuffle(told)
            for one in told:
                await service.tell([one], feed)


def test_the_figures_are_those_of_the_log_and_telling_again_adds_nothing(database: Database) -> None:
    async def work(service: Service, pool: Pool) -> None:
        rnd, folder = random.Random(3), Folder(pool, outcomes=Outcomes(service.names))
        await lives(service, rnd)
        await fold_all(folder)
        first = shown(service)
        assert first == await counted(service)
        assert {key[1] for key in first[0]} == {"GB", "DE", "US"}
        assert {key[3] for key in first[1]} == {"SHOP", "BANK", "none"}
        assert {key[3] for key in first[0]} >= {"accepted", "delivered", "failed"}

        await lives(service, rnd, times=3)
        await fold_all(folder)
        assert shown(service) == await counted(service)
        delivered = sum(n for key, n in shown(service)[0].items() if key[3] == "delivered")
        there = "select count(*) from message_state where tenant = $1 and state = any($2::smallint[])"
        states = [State.DELIVERED, State.READ]
        assert delivered == await service.connection.fetchval(there, service.tenant, states)

    in_service(database, work)


def test_each_change_counts_in_one_process_whoever_folds(database: Database) -> None:
    """Two processes with the duty at once, as may be for a moment: their figures add up to the log's."""

    async def work(service: Service, pool: Pool) -> None:
        one, two = Service(service.connection, service.tenant), Service(service.connection, service.tenant)
        folders = [Folder(pool, outcomes=Outcomes(each.names)) for each in (one, two)]

        async def fold_now_and_then(folder: Folder, rnd: random.Random) -> None:
            while not done.is_set():
                await folder.once()
                await asyncio.sleep(rnd.random() / 100)

        done, rnd = asyncio.Event(), random.Random(5)
        folding = [asyncio.create_task(fold_now_and_then(folder, random.Random(n))) for n, folder in enumerate(folders)]
        for _ in range(3):
            await lives(service, rnd)
        done.set()
        await asyncio.gather(*folding)
        await fold_all(folders[0])
        both = [Counter(first) + Counter(second) for first, second in zip(shown(one), shown(two), strict=True)]
        assert [dict(figure) for figure in both] == list(await counted(service))
        assert all(shown(each)[0] for each in (one, two)), "one of them never folded: the test shows nothing"

    in_service(database, work)


def test_a_step_that_was_not_committed_counts_nothing(database: Database) -> None:
    async def work(service: Service, pool: Pool) -> None:
        await service.answer(await service.send([GB.format(1)]))
        folder = Folder(pool, outcomes=Outcomes(service.names))
        await service.connection.execute(
            "create function no() returns trigger language plpgsql as $$ begin raise 'no'; end $$;"
            "create constraint trigger no after update on folded deferrable initially deferred"
            " for each row execute function no()"
        )
        with pytest.raises(Exception, match="no"):
            await folder.once()
        assert shown(service) == ({}, {})
        await service.connection.execute("drop trigger no on folded")
        await fold_all(folder)
        assert shown(service)[0] == {("sms", "GB", "answer", "accepted"): 1}

    in_service(database, work)


def test_what_came_by_import_says_so(database: Database) -> None:
    async def work(service: Service, pool: Pool) -> None:
        [message] = await service.send([DE.format(1)], "SHOP")
        await service.answer([message])
        await service.tell([info(message, "Delivered", DE.format(1), now())], Feed.IMPORT)
        await fold_all(Folder(pool, outcomes=Outcomes(service.names)))
        assert shown(service)[0] == {
            ("sms", "DE", "answer", "accepted"): 1,
            ("sms", "DE", "import", "delivered"): 1,
        }

    in_service(database, work)


def test_only_what_we_sent_counts(database: Database) -> None:
    async def work(service: Service, pool: Pool) -> None:
        observed = {
            "deliveryChannel": "SMS",
            "deliveryStatus": "Delivered",
            "destination": GB.format(7),
            "transid": "x-1",
        }
        await service.tell([observed])
        await fold_all(Folder(pool, outcomes=Outcomes(service.names)))
        assert shown(service) == ({}, {})

    in_service(database, work)


def test_what_was_observed_before_it_was_known_as_ours_counts_once_when_it_is_joined(database: Database) -> None:
    async def work(service: Service, pool: Pool) -> None:
        number, folder = "447700900123", Folder(pool, outcomes=Outcomes(service.names))
        [message] = await service.send([number])
        told = info(message, "Delivered", number, now()) | {"correlationid": ""}
        await service.tell([told])
        assert await service.connection.fetchval("select count(*) from message_state") == 2, "nobody knows whose it is"
        await fold_all(folder)
        assert shown(service) == ({}, {})
        await service.answer([message])
        await service.tell([told, info(message, "Read", number, now())])
        await fold_all(folder)
        accepted, delivered = ("sms", "GB", "answer", "accepted"), ("sms", "GB", "push", "delivered")
        assert shown(service)[0] == {accepted: 1, delivered: 1}

    in_service(database, work)


def test_a_failure_after_an_acceptance_is_a_rise_from_0(database: Database) -> None:
    async def work(service: Service, pool: Pool) -> None:
        await service.answer(await service.send([GB.format(1)], "SHOP"))
        await fold_all(Folder(pool, outcomes=Outcomes(service.names)))
        labels = {"tenant": service.name, "channel": "sms", "outcome": "failed", "feed": "push"}
        value = metrics.REGISTRY.get_sample_value
        assert value("receiver_outcomes_total", {**labels, "country": "GB"}) == 0
        assert value("receiver_sender_outcomes_total", {**labels, "sender": "SHOP"}) == 0

    in_service(database, work)


def test_the_busiest_of_the_week_have_labels_and_the_rest_is_other(database: Database) -> None:
    async def work(service: Service, pool: Pool) -> None:
        first = Folder(pool, outcomes=Outcomes({}))
        for number, sender, messages in ((GB, "C", 1), (DE, "A", 3), (US, "B", 2)):
            ids = await service.send([number.format(n) for n in range(messages)], sender)
            await service.answer(ids)
        await fold_all(first)
        folder = Folder(pool, outcomes=Outcomes(service.names, most=2))  # the next process
        for number, by in ((GB, "C"), (GB, None), (US, "B"), (DE, "A")):
            await service.answer(await service.send([number.format(9)], by))
        await fold_all(folder)
        accepted = ("answer", "accepted")
        assert shown(service) == (
            {("sms", "DE", *accepted): 1, ("sms", "US", *accepted): 1, ("sms", "other", *accepted): 2},
            {("sms", *accepted, "A"): 1, ("sms", *accepted, "B"): 1, ("sms", *accepted, "other"): 1}
            | {("sms", *accepted, "none"): 1},
        )

    in_service(database, work)


def test_senders_without_a_label_come_back_from_the_fold_as_one(database: Database) -> None:
    async def work(service: Service, pool: Pool) -> None:
        outcomes = Outcomes(service.names, most=2)
        folder = Folder(pool, outcomes=outcomes)
        for number, sender in enumerate(f"S{n}" for n in range(12)):
            await service.answer(await service.send([GB.format(number)], sender))
        await service.answer(await service.send([GB.format(20)]))
        while not (first := await folder.once()):
            pass
        assert len(first.moved) == 13, "all are told while there is room"
        for number, sender in enumerate(f"S{n}" for n in range(12)):
            await service.answer(await service.send([GB.format(number)], sender))
        await service.answer(await service.send([GB.format(20)]))
        while not (second := await folder.once()):
            pass
        assert {one.sender: one.messages for one in second.moved} == dict.fromkeys(outcomes.senders.all or [], 1) | {
            "": 10,
            None: 1,
        }
        _, senders = shown(service)
        assert senders == {
            ("sms", "answer", "accepted", name): 2 for name in [*(outcomes.senders.all or []), "none"]
        } | {("sms", "answer", "accepted", "other"): 20}

    in_service(database, work)


def test_what_is_read_anew_is_no_news(database: Database) -> None:
    """A re-read of a year would be an outage that nobody has; what never came we tell ourselves too, and it counts."""

    async def work(service: Service, pool: Pool) -> None:
        one, two = await service.send([GB.format(1), GB.format(2)])
        await service.answer([one, two])
        folder = Folder(pool, outcomes=Outcomes(service.names))
        await fold_all(folder)
        changed = """
            insert into change (at, message_id, version, tenant, origin, channel, feed, country, old_state, new_state)
            values (now(), $1, 9, $2, 1, 1, 6, 'GB', 10, $3)"""
        for message, state in ((one, State.UNDELIVERED), (two, State.NO_RECEIPT)):
            await service.connection.execute(changed, message, service.tenant, state)
        await fold_all(folder)
        assert shown(service)[0] == {("sms", "GB", "answer", "accepted"): 2, ("sms", "GB", "own", "no_receipt"): 1}

    in_service(database, work)


def test_a_database_that_was_away_at_the_start_is_asked_again_who_is_busiest(database: Database) -> None:
    async def work(service: Service, pool: Pool) -> None:
        await service.answer(await service.send([GB.format(1)], "SHOP"))
        await fold_all(Folder(pool, outcomes=Outcomes({})))
        outcomes, gone = Outcomes(service.names, most=1), await connect(database.dsn, "tests")
        await service.connection.execute("select pg_terminate_backend($1)", gone.get_server_pid())
        with pytest.raises((asyncpg.PostgresError, *NOT_THERE)):
            await outcomes.begin(gone, now())
        await outcomes.begin(service.connection, now())
        assert outcomes.senders.all == ["SHOP"]

    in_service(database, work)


def test_a_name_keeps_its_label_and_a_free_one_goes_to_who_comes_next() -> None:
    names = Names(2)
    assert [names.label(name) for name in ("a", "b", "c", "a", "", None)] == ["a", "b", "other", "a", "other", "none"]
    names.fill(["c", "d"])
    assert [names.label(name) for name in ("a", "b", "c")] == ["a", "b", "other"]


@pytest.mark.parametrize(
    ("old", "new", "outcome"),
    [
        (State.QUEUED, State.ACCEPTED, "accepted"),
        (State.UNCERTAIN, State.SUBMITTED, "accepted"),
        (State.ACCEPTED, State.SUBMITTED, None),
        (None, State.QUEUED, None),
        (None, State.DELIVERED, "delivered"),
        (State.DELIVERED, State.READ, None),
        (State.UNDELIVERED, State.DELIVERED, "delivered"),
        (State.DELIVERED, State.BOUNCED, "failed"),
        (State.QUEUED, State.CANCELLED, None),
        (State.CANCELLED, State.DELIVERED, "delivered"),
        (State.SUBMITTED, State.NO_RECEIPT, "no_receipt"),
        (State.NO_RECEIPT, State.UNDELIVERED, "failed"),
    ],
)
def test_a_change_counts_when_it_leads_into_another_group(old: State | None, new: State, outcome: str | None) -> None:
    assert came_into(old, new) == outcome


def test_what_was_imported_is_known_by_the_hour_and_taken_back_when_an_import_says_otherwise() -> None:
    outcomes, tenant = Outcomes({}), TenantId(1)

    def moved(old: State, new: State, messages: int, hour: int | None = 7, feed: Feed = Feed.IMPORT) -> Moved:
        return Moved(tenant, Channel.SMS, "GB", None, feed, hour, old, new, messages)

    outcomes.count([moved(State.ACCEPTED, State.UNDELIVERED, 5), moved(State.ACCEPTED, State.FAILED, 1, 8)])
    outcomes.count(
        [moved(State.UNDELIVERED, State.DELIVERED, 2), moved(State.ACCEPTED, State.FAILED, 9, None, Feed.PUSH)]
    )
    cohort = Cohort(7, tenant, Channel.SMS, "GB")
    assert dict(outcomes.imported(cohort)) == {"failed": 3, "delivered": 2}
    outcomes.forget_before(8)
    assert dict(outcomes.imported(cohort)) == {}
    assert dict(outcomes.imported(cohort._replace(hour=8))) == {"failed": 1}


def test_ids_are_not_labels(database: Database) -> None:
    async def work(service: Service, pool: Pool) -> None:
        ids: list[MessageId] = await service.send([GB.format(n) for n in range(3)])
        await service.answer(ids)
        await fold_all(Folder(pool, outcomes=Outcomes(service.names)))
        text = metrics.scrape().decode()
        assert not [one for one in ids if str(one) in text or one.hex in text]
        assert GB.format(1) not in text

    in_service(database, work)

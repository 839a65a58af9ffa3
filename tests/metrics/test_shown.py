"""What is shown of the roll-ups: the same as a count over the messages, by who holds the duty and by nobody else."""

import asyncio
import random
from datetime import datetime, timedelta
from typing import Any

from receiver import metrics
from receiver.messages.lattice import Channel, Fact, State
from receiver.messages.told import Feed
from receiver.upkeep import roll_up, shown
from receiver.upkeep.folder import Folder
from receiver.upkeep.learning import Usual, store
from receiver.upkeep.outcomes import Outcomes
from receiver.upkeep.shown import Shower
from receiver.waits import DEFAULTS
from tests.metrics.figures import HOUR, MINUTE, Figures, figures
from tests.support import Database, eventually
from tests.upkeep.waiting import World, in_world

DAY = timedelta(days=1)
# Births by hand have no row in the log; without one the roll-up would count each from its first change on.
BIRTHS = """
insert into change (at, message_id, version, tenant, origin, channel, country, new_state, new_lags)
select now(), s.id, 0, s.tenant, s.origin, s.channel, s.country, 0, 0 from message_state s
"""
BY_STATE = """
select s.channel, s.state, case
         when born_at_v1(s.id) >= $1::timestamptz - interval '1 hour' then 'hour'
         when born_at_v1(s.id) >= $1::timestamptz - interval '23 hours' then 'day'
         when born_at_v1(s.id) >= date_trunc('day', $1::timestamptz, 'UTC') - interval '6 days' then 'week'
         else 'older' end as age, count(*)::float8 as n
  from message_state s where s.merged_into is null group by 1, 2, 3
"""
OF_HOUR = """
select s.country, s.state, count(*)::float8 as n from message_state s
 where s.channel = $1 and born_at_v1(s.id) >= $2 and born_at_v1(s.id) < $2 + interval '1 hour' group by 1, 2
"""


def shower(one: World, name: str, outcomes: Outcomes | None = None, **more: Any) -> Shower:
    return Shower(one.pool, {one.tenant: name}, outcomes or Outcomes({}), DEFAULTS, now=lambda: one.at, **more)


async def fold_all(one: World, outcomes: Outcomes | None = None) -> None:
    await one.connection.execute(BIRTHS)
    folder = Folder(one.pool, outcomes=outcomes)
    while (step := await folder.once()) is None or step.more:
        pass


def test_the_bands_of_age_are_all_times_once_and_their_bounds_are_those_of_cohorts() -> None:
    now = datetime.fromisoformat("2026-03-05T00:00:00+00:00")
    for minutes in range(0, 2 * 24 * 60, 7):
        bands = roll_up.ages(now + minutes * MINUTE)
        hours = [band for band in bands if band[1] == 1]
        assert [band[2] for band in bands[:4]] == [band[3] for band in bands[1:]]
        assert all(begin <= until for _, _, begin, until in bands)
        days = [at for _, _, *both in bands if _ == 24 for at in both]
        assert all(at == at.replace(hour=0) for at in days)
        assert all(at == at.replace(minute=0, second=0) for _, _, *both in hours for at in both)


def test_messages_by_state_and_age_are_those_of_a_count(database: Database) -> None:
    async def work(one: World) -> None:
        rnd, hour = random.Random(11), one.at.replace(minute=0, second=0, microsecond=0)
        ages = [MINUTE, HOUR, 2 * HOUR, 5 * HOUR, 23 * HOUR, DAY, 30 * HOUR, 3 * DAY, 6 * DAY, 7 * DAY, 8 * DAY]
        for age in ages * 4:
            at = rnd.choice((hour - age, one.at - age))
            message = await one.sent(at, rnd.choice((Channel.SMS, Channel.EMAIL)), country=rnd.choice(("GB", None)))
            if rnd.random() < 0.5:
                await one.told(message, rnd.choice((Fact.DELIVERED, Fact.FAILED)), at + MINUTE)
        await fold_all(one)
        worker = shower(one, "by state")
        for later, bands in ((0 * DAY, {"hour", "day", "week", "older"}), (3 * DAY, {"week", "older"})):
            one.at += later
            await worker.once()
            wanted = {
                (row["age"], Channel(row["channel"]).word, State(row["state"]).word): row["n"]
                for row in await one.connection.fetch(BY_STATE, hour + later)
            }
            assert figures(metrics.STATES, "by state") == wanted
            assert {age for age, _, _ in wanted} == bands
        shown.hide()
        assert figures(metrics.STATES, "by state") == {}

    in_world(database, work)


async def mature(one: World, hour: datetime, channel: Channel) -> Figures:
    groups = {10: "pending", 20: "pending", 30: "no_receipt", 45: "failed", 46: "failed", 42: "failed", 60: "delivered"}
    found: Figures = {}
    for row in await one.connection.fetch(OF_HOUR, channel, hour):
        if row["state"] in groups:
            key = channel.word, row["country"] or "none", groups[row["state"]]
            found[key] = found.get(key, 0) + row["n"]
    return found


def test_the_mature_cohort_is_the_newest_full_hour_whose_usual_time_is_over(database: Database) -> None:
    async def work(one: World) -> None:
        usual = timedelta(minutes=40)
        await store(one.connection, {(Channel.SMS, ""): Usual(usual, 1000)}, one.at)
        over = one.at - usual
        hour = over.replace(minute=0, second=0, microsecond=0) - HOUR
        fates = [None, Fact.SUBMITTED, Fact.DELIVERED, Fact.UNDELIVERED, Fact.FAILED, Fact.NO_RECEIPT, Fact.CANCELLED]
        for number, at in enumerate([hour - MINUTE, hour, hour + 30 * MINUTE, hour + 59 * MINUTE, hour + HOUR] * 14):
            message = await one.sent(at, country=("GB", "DE", None)[number % 3])
            fate = fates[number % 7]
            if fate is not None:
                await one.told(message, fate, at + MINUTE, Feed.OWN if fate is Fact.NO_RECEIPT else Feed.PUSH)
        await one.sent(hour + MINUTE, Channel.APPLE)  # of which no delivery is ever told
        await fold_all(one)
        await shower(one, "mature").once()
        wanted = await mature(one, hour, Channel.SMS)
        assert figures(metrics.MATURE, "mature") == wanted
        assert {outcome for *_, outcome in wanted} == {"pending", "delivered", "failed", "no_receipt"}
        told = metrics.REGISTRY.get_sample_value("receiver_mature_hour_timestamp_seconds", {"channel": "sms"})
        assert told == hour.timestamp()
        shown.hide()

    in_world(database, work)


def test_what_was_imported_is_not_in_the_mature_cohort(database: Database) -> None:
    async def work(one: World) -> None:
        names = {one.tenant: "imports"}
        outcomes, hour = Outcomes(names), one.at.replace(minute=0, second=0, microsecond=0) - 30 * HOUR
        await store(one.connection, {(Channel.SMS, ""): Usual(one.at - hour - HOUR, 1000)}, one.at)
        for number in range(6):
            message = await one.sent(hour + number * MINUTE)
            await one.told(message, Fact.UNDELIVERED, hour + HOUR, Feed.IMPORT if number < 4 else Feed.PUSH)
        await fold_all(one, outcomes)
        await shower(one, "imports", outcomes).once()
        assert figures(metrics.MATURE, "imports") == {("sms", "GB", "failed"): 2}
        shown.hide()

    in_world(database, work)


def test_only_who_has_the_duty_shows_it(database: Database) -> None:
    async def work(one: World) -> None:
        held = False
        await one.sent(one.at)
        await fold_all(one)
        worker = shower(one, "duty", held=lambda: held)
        running = asyncio.create_task(worker.run())

        def showing() -> bool:
            return bool(figures(metrics.STATES, "duty"))

        def silent() -> bool:
            return not showing()

        assert silent()
        for is_held, as_it_should in ((True, showing), (False, silent), (True, showing)):
            held = is_held
            await asyncio.to_thread(eventually, as_it_should)
        await worker.close()
        await running
        assert silent()
        [hours] = metrics.MATURE_HOUR.collect()
        assert hours.samples == []

    in_world(database, work)

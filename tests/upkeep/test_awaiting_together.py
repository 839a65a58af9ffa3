"""The same walk by several workers, in any order of events, killed anywhere: each message is counted once."""

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import asyncpg
import pytest

from receiver.messages.lattice import Channel, Fact, State
from receiver.messages.told import Feed
from tests.support import Database, eventually
from tests.upkeep.waiting import DAY, HOUR, MINUTE, SECOND, World, in_world, settle

MESSAGES = 40
FATES = ("pushed", "replayed", "polled", "imported", "polled, then pushed", "refused", "cancelled", "silent", "queued")
COUNTED = {"pushed": 0, "replayed": 0, "polled, then pushed": 0, "polled": 1, "imported": 1}


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_counted_is_a_plain_count_whatever_comes_in_between(database: Database, seed: int) -> None:
    rng = random.Random(seed)
    began = datetime.now(UTC) - 3 * DAY

    async def work(one: World) -> None:
        workers = [one.awaiter(), one.awaiter()]
        expected, events = [0, 0], list[tuple[datetime, int, str, Fact, Feed]]()
        births: list[tuple[datetime, int, str, bool]] = []
        for n in range(MESSAGES):
            fate, late = rng.choice(FATES), rng.random() < 0.3
            at = began + timedelta(minutes=rng.uniform(0, 20 * 60))
            births.append((at, n, fate, late))
            # what is committed late is told of later
            events += [(when, n, fate, fact, feed) for when, fact, feed in told(rng, fate, at + late * 9 * HOUR)]
            if fate in COUNTED:
                expected[COUNTED[fate]] += 1
        moments = [(at + late * 8 * HOUR, 0, n) for at, n, _, late in births]
        moments += [(event[0], 1, k) for k, event in enumerate(events)]
        ids = {}
        for when, kind, index in sorted(moments):
            one.at = when - SECOND
            if rng.random() < 0.5:
                await asyncio.gather(*(worker.once() for worker in rng.choice((workers, workers[:1], workers[1:]))))
            if kind == 0:
                at, n, _, late = births[index]
                ids[n] = await one.born(at, noticed=late)
            else:
                _, n, _, fact, feed = events[index]
                await one.told(ids[n], fact, when, feed)
        for hours in (48, 66, 72, 91, 102):  # accepted after 29 hours at most
            one.at = began + timedelta(hours=hours)
            await asyncio.gather(*(settle(worker) for worker in workers))
        assert await one.counted() == tuple(expected)
        assert {n for n, identity in ids.items() if await one.awaited(identity)} == {
            n for _, n, fate, _ in births if fate == "queued"
        }
        assert {n for n, identity in ids.items() if await one.state(identity) == State.NO_RECEIPT} == {
            n for _, n, fate, _ in births if fate == "silent"
        }

    in_world(database, work)


def told(rng: random.Random, fate: str, at: datetime) -> Iterator[tuple[datetime, Fact, Feed]]:
    """When which fact of a message is told, and by whom."""
    if fate == "queued":
        return
    if fate in ("refused", "cancelled"):
        yield at, *((Fact.REFUSED, Feed.ANSWER) if fate == "refused" else (Fact.CANCELLED, Feed.OWN))
        return
    yield at, Fact.ACCEPTED, Feed.ANSWER
    if rng.random() < 0.5:
        yield at + SECOND, Fact.SUBMITTED, Feed.PUSH
    final = rng.choice((Fact.DELIVERED, Fact.UNDELIVERED, Fact.FAILED))
    heard = at + timedelta(minutes=rng.choice((1, 14, 30, 600, 1500)))
    first = {"pushed": Feed.PUSH, "replayed": Feed.REPLAY, "imported": Feed.IMPORT}.get(fate, Feed.POLL)
    if fate != "silent":
        yield heard, final, first
    if fate == "polled, then pushed":
        yield heard + timedelta(seconds=rng.randrange(239)), final, Feed.PUSH
    elif fate == "pushed" and rng.random() < 0.3:
        yield heard + HOUR, final, Feed.POLL


# 12,000 messages of four days ago. Of ten one is silent, two are told of by an import, the others by push.
FILL = """
with born as materialized (
  select n, (lpad(to_hex(floor(extract(epoch from $2::timestamptz) * 1000)::bigint + n * 100), 12, '0') || '7000'
             || '8000' || lpad(to_hex(n), 12, '0'))::uuid as id,
         $2::timestamptz + n * interval '0.1 s' as at,
         case when n % 10 = 0 then 0 when n % 10 < 3 then 2 else 1 end as feed
    from generate_series(1, $3::int) n),
m as (
  insert into message (id, tenant, origin, channel, created_at, submission_id, destination, destination_type,
                       destination_key)
  select id, $1, 1, 1, at, id, '447700900123', 'msisdn', decode(md5(n::text), 'hex') from born),
r as (
  insert into receipt (message_id, fingerprint, feed, channel, fact, rank, clash, received_at, status, destination_key,
                       raw)
  select id, decode(md5(n::text), 'hex'), feed, 1, 2048, 60, 0, at + interval '1 minute', 'Delivered',
         decode(md5(n::text), 'hex'), '' from born where feed > 0)
insert into message_state (id, tenant, origin, channel, state, facts, accepted_at, delivered_at, changed_at)
select id, $1, 1, 1, case when feed > 0 then 60 else 10 end, case when feed > 0 then 2050 else 2 end, at,
       case when feed > 0 then at + interval '1 minute' end, at from born
"""
MANY = 12_000
PROGRESS = "select (select sum(pushed + missed) from push_count), (select count(*) from change where new_state = 30)"


def test_workers_that_are_killed_while_others_work_lose_nothing_and_do_nothing_twice(database: Database) -> None:
    async def fill(one: World) -> None:
        await one.unnoticed.execute(FILL, one.tenant, one.at - 4 * DAY, MANY)

    in_world(database, fill)
    with contextlib.ExitStack() as stack:
        steady = start(database)
        stack.callback(end, steady)
        for _ in range(3):
            before = database.fetch(PROGRESS)
            killed = start(database)
            stack.callback(end, killed)
            eventually(partial(has_gone_on, database, before))
            killed.send_signal(signal.SIGKILL)
            killed.wait()
            steady.send_signal(signal.SIGKILL)
            steady.wait()
            steady = start(database)
            stack.callback(end, steady)
        eventually(lambda: done(database), seconds=60)
        assert steady.poll() is None

    async def look(one: World) -> None:
        await settle(one.awaiter())
        assert await one.counted() == (MANY * 7 // 10, MANY * 2 // 10)
        silent = await one.connection.fetchrow(
            "select count(*) as all, count(distinct message_id) as each from change where new_state = 30"
        )
        assert silent is not None
        assert tuple(silent) == (MANY // 10, MANY // 10)
        assert await one.value("select count(*) from receipt where feed = 6") == MANY // 10
        assert await one.value("select count(*) from awaited") == 0

    in_world(database, look)


def has_gone_on(database: Database, before: list[asyncpg.Record]) -> bool:
    """Whether anything was committed since; true too when there is nothing left to do."""
    return database.fetch(PROGRESS) != before or done(database)


def done(database: Database) -> bool:
    """Whether everything has been counted or given up."""
    counted, silent = database.fetch(PROGRESS)[0]
    return bool((counted or 0) + silent == MANY)


def start(database: Database) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "tests.upkeep.awaiter_process", database.dsn])


def end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def test_a_large_table_is_never_read_from_end_to_end(database: Database) -> None:
    """Plans are kept: also one that was made while a week held twenty messages."""

    async def work(one: World) -> None:
        began = one.at - 4 * DAY
        for n in range(20):
            message = await one.sent(began + n * SECOND, Channel.SMS)
            if n % 2:
                await one.told(message, Fact.DELIVERED, began + MINUTE, rng_feed(n))
        await one.connection.execute("vacuum analyze")
        one.at = began + HOUR
        worker = one.awaiter()
        await settle(worker)
        await worker.learn()
        await one.unnoticed.execute(FILL, one.tenant, began + 2 * HOUR, 3_000)
        before = await scans(one)
        one.at = datetime.now(UTC)
        await settle(worker)
        await worker.learn()
        await worker.measure()
        assert await one.value("select count(*) from change where new_state = 30") == 10 + 300
        await one.pool.close()
        assert await scans(one) == before

    in_world(database, work)


def rng_feed(n: int) -> Feed:
    return (Feed.PUSH, Feed.POLL, Feed.IMPORT)[n % 3]


async def scans(one: World) -> dict[str, int]:
    """How often each of the large tables has been read as a whole."""
    await one.connection.execute("select pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
    rows = await one.connection.fetch(
        "select relname, seq_scan from pg_stat_user_tables where relname ~ '^(message|message_state|receipt)_2'"
    )
    return {row["relname"]: row["seq_scan"] for row in rows}

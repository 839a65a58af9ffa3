"""`apply` against the plain fold: any order, repetition and split, over concurrent groups, gives the same belief."""

import asyncio
import itertools
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.database.pool import Connection, Pool, open_pool
from receiver.ids import SubmissionId, TenantId, new_id
from receiver.messages.lattice import Channel
from receiver.messages.told import Feed, Told
from receiver.platform.apis import Api
from receiver.receipts.apply import apply
from receiver.sending import outbox
from receiver.sending.request import Asked, Request
from tests.receipts.tellings import NUMBER, assert_books_balance, belief, body, life, told_of, truth
from tests.support import Database, now

EXAMPLES = 250
_numbers = itertools.count(1)


@st.composite
def groups_of(draw: st.DrawFn, count: int) -> list[list[int]]:
    """The numbers below `count`, each at least once, in any order, some again, split into groups."""
    order = draw(st.permutations(range(count)))
    again = draw(st.lists(st.integers(0, count - 1), max_size=6)) if count else []
    told = [*order, *again]
    draw(st.randoms(use_true_random=False)).shuffle(told)
    cuts = sorted(draw(st.sets(st.integers(1, len(told) - 1), max_size=4))) if len(told) > 1 else []
    return [told[a:b] for a, b in itertools.pairwise([0, *cuts, len(told)])]


async def apply_at_once(pool: Pool, groups: Sequence[Sequence[Told]]) -> None:
    """Applies the groups over as many connections as the pool has, all at the same time."""

    async def one(group: Sequence[Told]) -> None:
        async with pool.acquire() as connection:
            await apply(connection, new_id(), now(), Feed.PUSH, group)

    await asyncio.gather(*(one(group) for group in groups))


def heard_later(told: Told, seconds: int) -> Told:
    """The same receipt, heard at another time."""
    return told._replace(received_at=told.received_at + timedelta(seconds=seconds))


async def issue(connection: Connection, tenant: TenantId) -> tuple[UUID, SubmissionId]:
    """A message of ours to NUMBER: its id, and its submission's."""
    asked = Asked("msisdn", NUMBER, NUMBER, None)
    request = Request(Api.MESSAGING, Channel.SMS, b"{}", (asked,), None, None, None, 2, None, None)
    accepted = await outbox.accept(connection, tenant, request, now())
    identity = accepted.messages[0][0]
    return identity, await connection.fetchval("select submission_id from message where id = $1", identity)


@given(data=st.data())
@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def _example(runner: asyncio.Runner, pool: Pool, tenant: TenantId, data: st.DataObject) -> None:
    infos: list[dict[str, Any]] = data.draw(life())
    groups = data.draw(groups_of(len(infos)))
    way = data.draw(st.sampled_from(["observed", "our id", "our url"]))
    runner.run(_check(pool, tenant, infos, groups, way))


async def _check(pool: Pool, tenant: TenantId, infos: list[dict[str, Any]], groups: list[list[int]], way: str) -> None:
    transid = f"t-{next(_numbers)}"
    async with pool.acquire() as connection:
        identity, submission = await issue(connection, tenant) if way != "observed" else (None, None)
    correlationid = str(identity) if way == "our id" else "the client's own"
    told = [
        told_of(body(info, transid, correlationid), tenant, submission if way == "our url" else None) for info in infos
    ]
    # each telling is heard at a time of its own, a repetition perhaps before what it repeats
    nth = itertools.count(1)
    tellings = [[heard_later(told[n], next(nth) * 7919 % 600) for n in group] for group in groups]
    await apply_at_once(pool, tellings)
    async with pool.acquire() as connection:
        if identity is None:
            found = await connection.fetch("select id from message_state where transid = $1", transid)
            assert len(found) == 1, "one key, one message"
            identity = found[0]["id"]
        assert await belief(connection, identity) == truth([t for group in tellings for t in group])


def test_any_order_repetition_and_split_gives_the_belief_of_the_plain_fold(database: Database) -> None:
    tenant = database.tenant()
    with asyncio.Runner() as runner:
        pool = runner.run(open_pool(database.dsn, "tests", 4, writer=True))
        _example(runner, pool, tenant)

        async def balance() -> None:
            async with pool.acquire() as connection:
                await assert_books_balance(connection)
            await pool.close()

        runner.run(balance())


def test_many_messages_in_common_groups_come_out_as_the_plain_fold_says(database: Database) -> None:
    """Groups that mix births and known messages, over four connections, with every receipt told twice."""
    tenant, rnd = database.tenant(), random.Random(20260301)

    async def work() -> None:
        pool = await open_pool(database.dsn, "tests", 4, writer=True)
        lives = [life_of(rnd) for _ in range(200)]
        told = {f"m{n}": [told_of(body(i, f"m{n}"), tenant) for i in infos] for n, infos in enumerate(lives)}
        everything = [t for group in told.values() for t in group] * 2
        rnd.shuffle(everything)
        await apply_at_once(pool, [everything[n : n + 37] for n in range(0, len(everything), 37)])
        async with pool.acquire() as connection:
            for transid, group in told.items():
                identity = await connection.fetchval("select id from message_state where transid = $1", transid)
                assert await belief(connection, identity) == truth(group)
            assert await connection.fetchval("select count(*) from message") == len(told)
            await assert_books_balance(connection)
        await pool.close()

    asyncio.run(work())


def life_of(rnd: random.Random) -> list[dict[str, Any]]:
    """A life without hypothesis, for tests that need many."""
    statuses = ("Submitted", "Delivered", "Undelivered", "Failed", "Clicked", "Read")
    return [
        {
            "deliveryChannel": "SMS",
            "deliveryStatus": rnd.choice(statuses),
            "destination": NUMBER,
            "code": rnd.choice(("", "7101", "7207")),
            "timeStamp": f"2026-03-01T12:{rnd.randrange(60):02}:00Z",
        }
        for _ in range(rnd.randrange(1, 9))
    ]

"""The sender in one process, with a clock in its hand: leases, abandoned claims, splitting, backoff."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.access.tenants import Tenants
from receiver.access.tokens import NotifyTokens
from receiver.database.pool import open_pool
from receiver.ids import normalise_destination
from receiver.platform.client import PlatformClient
from receiver.platform.wire import Answer, AnswerItem, Outcome, messaging_answer
from receiver.sending import outbox
from receiver.sending.dispatcher import Dispatcher, backoff
from receiver.sending.request import Asked, Request, check
from receiver.tenant_settings import Tenant
from tests.sending.platforms import Platform, recording_platform, sms
from tests.support import PLATFORM_KEY, SECRET, Database, run

NUMBER = "447700900001"
TIMEOUT = 5.0
LEASE = timedelta(seconds=TIMEOUT + 45)


class Sender:
    """A dispatcher with its own pool, at a time that the test chooses."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", client: PlatformClient, tenants: Tenants) -> None:
        self.at = datetime.now(UTC)
        self.pool = pool
        self.dispatcher = Dispatcher(
            pool,
            client,
            tenants,
            NotifyTokens(SECRET),
            "https://receiver.example",
            concurrency=4,
            timeout=TIMEOUT,
            keep_content=False,
            clock=lambda: self.at,
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.dispatcher.run())

    async def kill(self) -> None:
        """Ends it as a kill -9 would: its calls are cut, nothing is stored, nothing is told."""
        calls = [task for task in asyncio.all_tasks() if task.get_name().startswith("dispatch ")]
        for task in [*calls, *([self._task] if self._task else [])]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def stop(self) -> None:
        await self.dispatcher.close()
        if self._task:
            await asyncio.wait_for(self._task, 10)


@contextlib.asynccontextmanager
async def sender(database: Database, platform: Platform) -> AsyncIterator[Sender]:
    pool = await open_pool(database.dsn, "tests", 4, writer=True)
    try:
        tenants = Tenants([Tenant("default", platform_url=platform.url, platform_key=PLATFORM_KEY)])
        async with pool.acquire() as connection:
            await tenants.load(connection)
        async with PlatformClient(TIMEOUT, 4) as client:
            yield Sender(pool, client, tenants)
    finally:
        pool.terminate()


async def hand_in(one: Sender, *numbers: str, **more: Any) -> list[str]:
    request = check(sms(*numbers, **more))
    assert isinstance(request, Request)
    async with one.pool.acquire() as connection:
        tenant = await connection.fetchval("select id from tenant")
        accepted = await outbox.accept(connection, tenant, request, one.at)
    return [str(identity) for identity, _ in accepted.messages]


async def value(one: Sender, query: str, *values: object) -> Any:
    async with one.pool.acquire() as connection:
        return await connection.fetchval(query, *values)


async def until(one: Sender, query: str, expected: object) -> None:
    async with asyncio.timeout(10):
        while await value(one, query) != expected:  # noqa: ASYNC110 (a row has no event)
            await asyncio.sleep(0.02)


async def called(platform: Platform, times: int) -> None:
    async with asyncio.timeout(10):
        while len(platform.calls) < times:  # noqa: ASYNC110 (it is called from another thread)
            await asyncio.sleep(0.01)


STATE = "select state from message_state"
UNCERTAIN, ACCEPTED, QUEUED = 5, 10, 0


def test_a_dispatcher_that_is_killed_leaves_the_message_uncertain_and_nobody_sends_it_again(
    database: Database,
) -> None:
    async def main(platform: Platform) -> None:
        platform.reply = lambda _: None
        async with sender(database, platform) as dead:
            await hand_in(dead, NUMBER)
            dead.start()
            await called(platform, 1)
            await dead.kill()
        async with sender(database, platform) as heir:
            heir.at = dead.at + LEASE - timedelta(seconds=1)
            await heir.dispatcher._tidy()
            assert await heir.dispatcher._claim() == 0, "the lease holds"
            assert await value(heir, STATE) == QUEUED
            heir.at = dead.at + LEASE + timedelta(seconds=1)
            heir.start()
            await until(heir, STATE, UNCERTAIN)
            assert await value(heir, "select outcome from attempt") == "uncertain"
            assert await value(heir, "select count(*) from outbox") == 0
            assert await value(heir, "select content from submission") is None
            heir.at += timedelta(days=1)
            assert await heir.dispatcher._claim() == 0
            await heir.stop()
        assert len(platform.calls) == 1

    with recording_platform() as platform:
        run(main(platform))


def test_a_claim_that_ended_before_the_call_is_sent_after_its_lease(database: Database) -> None:
    async def main(platform: Platform) -> None:
        async with sender(database, platform) as one:
            await hand_in(one, NUMBER)
            async with one.pool.acquire() as connection:  # what a process does that dies right after its claim
                tenant = await connection.fetchval("select id from tenant")
                (dead,) = await outbox.claim(connection, [tenant], one.at, 1, LEASE)
            one.at += LEASE + timedelta(seconds=1)
            one.start()
            await until(one, STATE, ACCEPTED)
            async with one.pool.acquire() as connection:
                assert not await outbox.mark_sent(connection, dead, one.at), "the claim is not its any more"
            await one.stop()
        assert len(platform.calls) == 1

    with recording_platform() as platform:
        run(main(platform))


def test_an_answer_that_comes_after_the_lease_ran_out_is_still_believed(database: Database) -> None:
    async def main(platform: Platform) -> None:
        def answer_late(_call: Any) -> tuple[int, bytes]:
            platform.let_go.wait(10)
            return 200, b'{"response":[{"code":"1001","transid":"late","description":"Queued"}]}'

        platform.reply = answer_late
        async with sender(database, platform) as slow, sender(database, platform) as other:
            await hand_in(slow, NUMBER)
            slow.start()
            await called(platform, 1)
            other.at = slow.at + LEASE + timedelta(seconds=1)
            await other.dispatcher._tidy()
            assert await value(other, STATE) == UNCERTAIN
            platform.let_go.set()
            await until(slow, STATE, ACCEPTED)
            await slow.stop()
        assert len(platform.calls) == 1

    with recording_platform() as platform:
        run(main(platform))


def test_two_dispatchers_never_send_one_submission_twice(database: Database) -> None:
    async def main(platform: Platform) -> None:
        async with sender(database, platform) as one, sender(database, platform) as other:
            for n in range(30):
                await hand_in(one, str(447700900100 + n))
            one.start()
            other.start()
            await until(one, "select count(*) from outbox", 0)
            await one.stop()
            await other.stop()
        assert sorted(call.numbers[0] for call in platform.calls) == [str(447700900100 + n) for n in range(30)]

    with recording_platform() as platform:
        run(main(platform))


def test_closing_waits_for_the_call_under_way_and_stores_its_answer(database: Database) -> None:
    async def main(platform: Platform) -> None:
        def answer_slowly(_call: Any) -> tuple[int, bytes]:
            platform.let_go.wait(10)
            return 200, b'{"response":[{"code":"1001","transid":"t","description":"Queued"}]}'

        platform.reply = answer_slowly
        async with sender(database, platform) as one:
            await hand_in(one, NUMBER)
            one.start()
            await called(platform, 1)
            stopping = asyncio.create_task(one.stop())
            await hand_in(one, "447700900002")
            one.dispatcher.wake()
            platform.let_go.set()
            await stopping
            assert await value(one, "select count(*) from message_state where state = 10") == 1
        assert len(platform.calls) == 1, "nothing new is begun while closing"

    with recording_platform() as platform:
        run(main(platform))


def test_no_connection_is_held_while_the_platform_thinks(database: Database) -> None:
    async def main(platform: Platform) -> None:
        platform.reply = lambda _: None
        async with sender(database, platform) as one:
            for n in range(4):
                await hand_in(one, str(447700900100 + n))
            one.start()
            await called(platform, 4)
            async with asyncio.timeout(2):
                held = [await one.pool.acquire() for _ in range(4)]
            for connection in held:
                await one.pool.release(connection)
            await one.kill()

    with recording_platform() as platform:
        run(main(platform))


def test_the_urgent_goes_first(database: Database) -> None:
    async def main(platform: Platform) -> None:
        async with sender(database, platform) as one:
            for number, priority in (("447700900001", "1"), ("447700900002", None), ("447700900003", "3")):
                await hand_in(one, number, **({"priority": priority} if priority else {}))
            async with one.pool.acquire() as connection:
                tenant = await connection.fetchval("select id from tenant")
                order = []
                for _ in range(3):
                    (claim,) = await outbox.claim(connection, [tenant], one.at, 1, LEASE)
                    order.append((await outbox.load(connection, claim.submission_id)).recipients[0].value)
        assert order == ["447700900003", "447700900002", "447700900001"]

    with recording_platform() as platform:
        run(main(platform))


SPELLINGS = st.sampled_from(
    [f"{front}{number}" for number in (44770090000, 44770090001, 44770090002) for front in ("", "+", "00")]
)


@given(st.lists(SPELLINGS, max_size=40), st.integers(min_value=1, max_value=5))
def test_a_submission_holds_each_recipient_once_and_every_message_is_in_one(values: list[str], limit: int) -> None:
    asked = [Asked("msisdn", value, normalise_destination(value), None) for value in values]
    parts = outbox.split(asked, limit)
    assert sorted(index for part in parts for index in part) == list(range(len(asked)))
    for part in parts:
        recipients = [asked[index].normalised for index in part]
        assert len(recipients) == len(set(recipients)) <= limit
        assert part == sorted(part)


def test_the_wait_grows_to_a_minute_and_credentials_wait_a_minute_at_once() -> None:
    trouble = Answer(Outcome.NOT_SENT)
    assert timedelta(seconds=1) <= backoff(1, trouble) <= timedelta(seconds=2)
    assert timedelta(seconds=30) <= backoff(32_767, trouble) <= timedelta(seconds=60)
    for code in ("7001", "7002", "7007"):
        assert backoff(1, Answer(Outcome.LATER, (AnswerItem(code, None, None),))) == timedelta(seconds=60)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["1001", "7001", "\0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["response", "code", "transid", "description", "x"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.integers(min_value=200, max_value=599), st.binary(max_size=60) | JSON.map(msgspec.json.encode))
def test_any_answer_of_the_platform_has_an_outcome(status: int, body: bytes) -> None:
    answer = messaging_answer(status, body)
    assert answer.outcome in (Outcome.ACCEPTED, Outcome.REFUSED, Outcome.LATER, Outcome.UNCERTAIN)
    texts = [answer.description, *(t for item in answer.items for t in (item.code, item.transid, item.description))]
    assert not any("\0" in text for text in texts if text), "Postgres takes no NUL"
    if answer.outcome is Outcome.ACCEPTED:
        assert any(item.code == "1001" for item in answer.items)


@pytest.mark.parametrize("code", ["7001", "7002", "7006", "7007", "7020"])
@pytest.mark.parametrize("status", [200, 400, 500])
def test_what_may_pass_is_tried_again_whatever_the_http_status(code: str, status: int) -> None:
    body = msgspec.json.encode({"response": {"code": code, "description": "x", "transid": str(uuid4())}})
    assert messaging_answer(status, body).outcome is Outcome.LATER

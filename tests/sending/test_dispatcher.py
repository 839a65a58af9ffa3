"""The sender in one process, with a clock in its hand: leases, abandoned claims, splitting, backoff."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.ids import normalise_destination
from receiver.platform.apis import Api
from receiver.platform.calls import answer_of
from receiver.platform.wire import Outcome
from receiver.sending import claims, outbox
from receiver.sending.caller import backoff
from receiver.sending.claims import Share
from receiver.sending.lanes import Family, Lane
from receiver.sending.request import Asked
from tests.sending.platforms import Platform, recording_platform
from tests.sending.senders import (
    ACCEPTED,
    LEASE,
    NUMBER,
    QUEUED,
    STATE,
    UNCERTAIN,
    called,
    hand_in,
    sender,
    until,
    value,
)
from tests.support import Database, run


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
            await heir.dispatcher._tidying.tidy()
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
                (dead,) = await claims.claim(connection, [Share(Lane(tenant, Family.PLATFORM), 1)], one.at, 1, LEASE)
            one.at += LEASE + timedelta(seconds=1)
            one.start()
            await until(one, STATE, ACCEPTED)
            async with one.pool.acquire() as connection:
                assert not await claims.mark_sent(connection, [dead], one.at, LEASE), "the claim is not its any more"
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
            other.start()
            await until(other, STATE, UNCERTAIN)
            platform.let_go.set()
            await until(slow, STATE, ACCEPTED)
            await slow.stop()
            await other.stop()
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


def test_the_wait_of_a_submission_grows_to_a_minute() -> None:
    assert timedelta(seconds=1) <= backoff(1) <= timedelta(seconds=2)
    assert timedelta(seconds=30) <= backoff(32_767) <= timedelta(seconds=60)


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
    answer = answer_of(Api.MESSAGING, status, body)
    assert answer.outcome in (Outcome.ACCEPTED, Outcome.REFUSED, Outcome.LATER, Outcome.UNCERTAIN)
    texts = [answer.description, *(t for item in answer.items for t in (item.code, item.transid, item.description))]
    assert not any("\0" in text for text in texts if text), "Postgres takes no NUL"
    if answer.outcome is Outcome.ACCEPTED:
        assert any(item.code == "1001" for item in answer.items)


@pytest.mark.parametrize("code", ["7001", "7002", "7006", "7007", "7020"])
@pytest.mark.parametrize("status", [200, 400, 500])
def test_what_may_pass_is_tried_again_whatever_the_http_status(code: str, status: int) -> None:
    body = msgspec.json.encode({"response": {"code": code, "description": "x", "transid": str(uuid4())}})
    assert answer_of(Api.MESSAGING, status, body).outcome is Outcome.LATER

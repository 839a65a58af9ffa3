"""What a drop-in door sends itself: now or never, through the same lanes and calls, and every answer is the last."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from receiver.ids import SubmissionId
from receiver.platform.wire import Answer, Outcome
from receiver.sending.request import Request, check
from tests.sending.platforms import Call, Platform, Reply, queued, recording_platform, refused, sms
from tests.sending.senders import ACCEPTED, LEASE, UNCERTAIN, Sender, called, hand_in, sender, take_in, until, value
from tests.support import Database, run

NUMBER = "447700900001"
REFUSED, EXPIRED = 42, 41
STATE = "select state from message_state order by id desc limit 1"


async def begin(one: Sender, *numbers: str, **more: Any) -> list[SubmissionId]:
    """Accepts an SMS as a drop-in door does."""
    request = check(sms(*(numbers or (NUMBER,)), **more))
    assert isinstance(request, Request)
    return (await take_in(one, request, in_line_lease=LEASE)).submissions


async def send(one: Sender, within: float = 2.0, **more: Any) -> Answer:
    (answer,) = await one.dispatcher.send_now(await begin(one, **more), one.tenants.id_of("default"), within)
    return answer


async def nothing_is_sent_later(one: Sender, platform: Platform) -> None:
    """However long it takes, and whoever looks."""
    calls = len(platform.calls)
    assert await value(one, "select count(*) from outbox") == 0
    one.at += timedelta(days=1)
    await one.dispatcher._tidying.tidy()
    assert await one.dispatcher._claim() == 0
    assert len(platform.calls) == calls


def test_the_answer_is_heard_and_stored(database: Database) -> None:
    async def main(platform: Platform) -> None:
        platform.reply = lambda _: queued("t-1")
        async with sender(database, platform) as one:
            one.start()
            answer = await send(one)
            assert (answer.outcome, answer.items[0].transid) == (Outcome.ACCEPTED, "t-1")
            assert b"t-1" in answer.raw
            assert await value(one, STATE) == ACCEPTED
            await nothing_is_sent_later(one, platform)
            await one.stop()
        assert len(platform.calls) == 1

    with recording_platform() as platform:
        run(main(platform))


def test_two_spellings_of_one_number_are_two_calls_and_two_answers(database: Database) -> None:
    async def main(platform: Platform) -> None:
        async with sender(database, platform) as one:
            one.start()
            submissions = await begin(one, NUMBER, f"+{NUMBER}")
            answers = await one.dispatcher.send_now(submissions, one.tenants.id_of("default"), 2.0)
            await one.stop()
        assert [answer.outcome for answer in answers] == [Outcome.ACCEPTED, Outcome.ACCEPTED]
        assert len(platform.calls) == 2

    with recording_platform() as platform:
        run(main(platform))


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (refused("7006"), "7006"),
        (refused("7004"), "7004"),
        (refused("7020"), "7020"),
        ((429, b"slow down"), "7020"),
        (refused("7001"), "7001"),
        ((401, b""), "7001"),
    ],
)
def test_what_would_be_tried_again_is_refused_and_never_sent_later(database: Database, reply: Reply, code: str) -> None:
    async def main(platform: Platform) -> None:
        platform.reply = lambda _: reply
        async with sender(database, platform) as one:
            one.start()
            answer = await send(one)
            assert (answer.outcome, answer.code) == (Outcome.REFUSED, code)
            assert await value(one, STATE) == REFUSED
            await one.stop()
            await nothing_is_sent_later(one, platform)
        assert len(platform.calls) == 1

    with recording_platform() as platform:
        run(main(platform))


def test_where_nobody_listens_it_is_refused(database: Database) -> None:
    async def main() -> None:
        platform = Platform(url="http://127.0.0.1:9")
        async with sender(database, platform) as one:
            one.start()
            answer = await send(one)
            assert (answer.outcome, answer.code) == (Outcome.REFUSED, "7006")
            await one.stop()

    run(main())


def test_what_is_not_answered_is_uncertain(database: Database) -> None:
    async def main(platform: Platform) -> None:
        platform.reply = lambda _: (500, b"<html>")
        async with sender(database, platform) as one:
            one.start()
            assert (await send(one)).outcome is Outcome.UNCERTAIN
            assert await value(one, STATE) == UNCERTAIN
            await one.stop()

    with recording_platform() as platform:
        run(main(platform))


@pytest.mark.parametrize(("trouble", "code"), [("7020", "7020"), ("7007", "7007")])
def test_a_lane_that_is_held_up_refuses_without_a_call_and_one_after_the_wait_opens_it(
    database: Database, trouble: str, code: str
) -> None:
    async def main(platform: Platform) -> None:
        platform.reply = lambda _: refused(trouble)
        async with sender(database, platform) as one:
            one.start()
            await send(one)
            answer = await send(one)
            assert (answer.outcome, answer.code, answer.http_status) == (Outcome.REFUSED, code, None)
            assert len(platform.calls) == 1
            assert await value(one, STATE) == REFUSED
            platform.reply = lambda _: queued("t")
            one.at += timedelta(seconds=61)
            assert (await send(one)).outcome is Outcome.ACCEPTED
            await until(one, "select pauses = 0 and stopped_at is null from lane", True)
            assert (await send(one)).outcome is Outcome.ACCEPTED
            await one.stop()

    with recording_platform() as platform:
        run(main(platform))


def test_it_waits_for_its_turn_in_the_rate_and_not_for_longer_than_its_client(database: Database) -> None:
    async def main(platform: Platform) -> None:
        async with sender(database, platform, rate=2.0) as one:
            one.start()
            loop = asyncio.get_running_loop()
            began = loop.time()
            answers = [await send(one, within=0.9) for _ in range(4)]
            assert [answer.code for answer in answers] == ["1001", "1001", "1001", "1001"]
            assert loop.time() - began >= 0.4, (
                "the time of the database stands still: 2 at once, then half a second each"
            )
            assert [(await send(one, within=0.9)).code, len(platform.calls)] == ["7020", 4]
            await nothing_is_sent_later(one, platform)
            await one.stop()

    with recording_platform() as platform:
        run(main(platform))


def hold(platform: Platform) -> Callable[[Call], Reply]:
    def reply(_: Call) -> Reply:
        platform.let_go.wait(10)
        return queued("t")

    return reply


def test_where_no_call_is_free_in_time_it_is_7020(database: Database) -> None:
    async def main(platform: Platform) -> None:
        platform.reply = hold(platform)
        async with sender(database, platform, at_once=1) as one:
            await hand_in(one, "447700900002")
            one.start()
            await called(platform, 1)
            answer = await send(one, within=0.2)
            assert (answer.outcome, answer.code) == (Outcome.REFUSED, "7020")
            assert await value(one, STATE) == REFUSED
            platform.let_go.set()
            await until(one, "select count(*) from outbox", 0)
            await one.stop()
        assert len(platform.calls) == 1

    with recording_platform() as platform:
        run(main(platform))


def test_a_client_that_hangs_up_ends_neither_the_call_nor_its_settling(database: Database) -> None:
    async def main(platform: Platform) -> None:
        platform.reply = hold(platform)
        async with sender(database, platform) as one:
            one.start()
            sending = asyncio.create_task(send(one))
            await called(platform, 1)
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
            platform.let_go.set()
            await until(one, STATE, ACCEPTED)
            await one.stop()

    with recording_platform() as platform:
        run(main(platform))


def test_one_whose_process_died_before_the_call_is_refused_and_after_it_uncertain(database: Database) -> None:
    async def main(platform: Platform) -> None:
        async with sender(database, platform) as one:
            await begin(one)
            (sent,) = await begin(one)
            async with one.pool.acquire() as connection:
                await connection.execute("update submission set sent_at = now() where id = $1", sent)
            one.at += LEASE + timedelta(seconds=1)
            one.start()
            await until(one, "select count(*) from outbox", 0)
            states = "select array_agg(state order by id)::text from message_state"
            assert await value(one, states) == f"{{{REFUSED},{UNCERTAIN}}}"
            await one.stop()
            await nothing_is_sent_later(one, platform)
        assert platform.calls == []

    with recording_platform() as platform:
        run(main(platform))


def test_what_expired_is_not_sent_in_line_either(database: Database) -> None:
    async def main(platform: Platform) -> None:
        async with sender(database, platform) as one:
            one.start()
            assert (await send(one, expiry="2020-01-01T00:00:00Z")).outcome is Outcome.EXPIRED
            assert await value(one, STATE) == EXPIRED
            await one.stop()
        assert platform.calls == []

    with recording_platform() as platform:
        run(main(platform))

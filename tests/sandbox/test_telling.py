"""The platform's delivery policy, seen from a notifyurl."""

import asyncio
import time
from typing import Any

import pytest

from receiver.sandbox import magic
from receiver.sandbox.sandbox import Sandbox
from receiver.sandbox.settings import SandboxSettings
from receiver.sandbox.teller import Verdict, verdict
from tests.sandbox import KEY, Recorder, Stage, play


def status_of(on: Stage) -> list[str]:
    return [status for _, status, _ in on.recorder.told]


async def ledger_of(on: Stage) -> dict[str, Any]:
    found: dict[str, Any] = (await on.client.get("/sandbox/ledger")).json()
    return found


def test_a_receipt_answered_503_is_told_again_byte_for_byte() -> None:
    async def scene(on: Stage) -> None:
        await on.send(magic.FAILED)
        await on.quiet()
        assert len(on.recorder.bodies) == 2
        assert on.recorder.bodies[0] == on.recorder.bodies[1]
        assert (await ledger_of(on))["answers"] == {"200": 1, "503": 1}

    play(scene, Recorder(answer=lambda turn: 503 if turn == 0 else 200))


def test_a_submitted_told_again_lands_after_delivered() -> None:
    async def scene(on: Stage) -> None:
        await on.send(magic.DELIVERED)
        await on.quiet()
        assert status_of(on) == ["Submitted", "Delivered", "Submitted"]

    play(scene, Recorder(answer=lambda turn: 503 if turn == 0 else 200))


def test_a_receipt_answered_400_is_dropped_for_ever() -> None:
    async def scene(on: Stage) -> None:
        await on.send(magic.DELIVERED)
        await on.quiet()
        assert status_of(on) == ["Submitted", "Delivered"]
        assert await ledger_of(on) == {
            "submissions": {"1001": 1},
            "calls": {},
            "taken": 0,
            "taken_twice": 0,
            "messages": {"delivered": 1},
            "channels": {"sms": 1},
            "troubles": {},
            "receiver": {
                "distinct": 1,
                "repeated": 0,
                "forged": 0,
                "unreadable": 0,
                "unknown": 0,
                "unanswered": {"receipts": 0, "forged": 0, "unreadable": 0},
            },
            "receipts": {"planned": 2, "told": 1, "dropped": 1, "given_up": 0, "lost": 0, "pending": 0},
            "answers": {"200": 1, "400": 1},
        }

    play(scene, Recorder(answer=lambda turn: 400 if turn == 0 else 200))


def test_a_receipt_is_given_up_after_three_further_tries() -> None:
    async def scene(on: Stage) -> None:
        started = time.monotonic()
        await on.send(magic.FAILED)
        await on.quiet()
        assert len(on.recorder.bodies) == 4
        assert time.monotonic() - started >= 3 * 60 * 0.002 * 0.95
        ledger = await ledger_of(on)
        assert ledger["receipts"] == {"planned": 1, "told": 0, "dropped": 0, "given_up": 1, "lost": 0, "pending": 0}
        assert ledger["answers"] == {"503": 4}

    play(scene, Recorder(answer=lambda _turn: 503))


def test_a_notifyurl_that_does_not_answer_in_time_is_tried_again() -> None:
    async def scene(on: Stage) -> None:
        await on.send(magic.FAILED)
        await on.quiet()
        assert (await ledger_of(on))["answers"] == {"200": 1, "timeout": 1}

    play(scene, Recorder(answer=lambda turn: None if turn == 0 else 200), timeout=1.0)


def test_a_refused_connection_is_tried_again_and_given_up() -> None:
    async def scene(on: Stage) -> None:
        await on.send(magic.FAILED, notifyurl="http://127.0.0.1:1/")
        await on.quiet()
        assert (await ledger_of(on))["answers"] == {"unreachable": 3}
        assert on.sandbox.ledger.given_up == 1

    play(scene, retries=(1.0, 1.0))


def test_a_redirect_is_not_followed() -> None:
    async def scene(on: Stage) -> None:
        await on.send(magic.FAILED)
        await on.quiet()
        assert (await ledger_of(on))["answers"] == {"307": 1}
        assert on.sandbox.ledger.dropped == 1

    play(scene, Recorder(answer=lambda _turn: 307))


@pytest.mark.parametrize(
    "status", [*range(202, 209), 226, 301, 302, 307, 308, 400, 402, *range(404, 412), 414, 415, 416, 418, 505]
)
def test_the_platform_never_tries_again_after(status: int) -> None:
    assert verdict(status) is Verdict.DROPPED


@pytest.mark.parametrize("status", [401, 403, 412, 413, 417, *range(421, 430), 431, 451, 500, 501, 502, 503, 504])
def test_the_platform_tries_again_after(status: int) -> None:
    assert verdict(status) is Verdict.AGAIN


def test_no_more_receipts_are_on_their_way_than_there_are_tellers() -> None:
    async def scene(on: Stage) -> None:
        await on.send(*(magic.FAILED for _ in range(20)))
        await on.until(lambda: on.sandbox.ledger.answers["timeout"] >= 3)
        # Each teller has hung up as often as it timed out, and holds at most one more.
        assert len(on.recorder.bodies) <= on.sandbox.ledger.answers["timeout"] + 3

    play(scene, Recorder(answer=lambda _turn: None), tellers=3, timeout=0.05, speed=0.0)


def test_many_receipts_are_all_told_once() -> None:
    async def scene(on: Stage) -> None:
        numbers = [f"447700900{place}" for place in range(100, 300)]
        await on.post(on.sms(destination=[{"msisdn": [number]} for number in numbers]))
        await on.quiet()
        assert len(set(on.recorder.bodies)) == len(on.recorder.bodies) == on.sandbox.ledger.told

    play(scene, speed=0.0)


def test_a_request_beyond_the_pending_limit_is_answered_7020() -> None:
    async def scene(on: Stage) -> None:
        await on.send("447700900010", "447700900011")
        answer = await on.post(on.sms("447700900012"))
        assert answer.json()["response"]["code"] == "7020"

    play(scene, pending_max=2, speed=100.0)


def test_closing_is_prompt_while_a_notifyurl_hangs_and_receipts_wait() -> None:
    async def scene(on: Stage) -> None:
        await on.send(magic.FAILED, notifyurl=on.recorder.url)
        early = asyncio.create_task(on.post(on.sms(magic.EARLY)))
        await on.until(lambda: len(on.recorder.bodies) >= 2)
        started = time.monotonic()
        await on.sandbox.close()
        assert time.monotonic() - started < 3
        # Who waits for receipts before the answer is let go, and nobody is promised more.
        assert (await early).json()["response"][0]["code"] == "1001"
        assert (await on.post(on.sms(magic.DELIVERED))).json()["response"]["code"] == "7006"
        await on.sandbox.close()

    play(scene, Recorder(answer=lambda _turn: None))


def test_a_sandbox_closed_before_it_runs_ends_at_once() -> None:
    async def main() -> None:
        sandbox = Sandbox(SandboxSettings(keys=(KEY,)))
        await sandbox.close()
        await sandbox.run()
        with pytest.raises(RuntimeError):
            await sandbox.run()

    asyncio.run(main())


def test_cancelling_the_run_closes_the_sandbox() -> None:
    async def main() -> None:
        sandbox = Sandbox(SandboxSettings(keys=(KEY,)))
        running = asyncio.create_task(sandbox.run())
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await sandbox.close()

    asyncio.run(main())

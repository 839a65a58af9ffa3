"""Scripted scenarios: which call meets which trouble, what it looks like on the wire, and what was taken."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
import uvloop

from receiver.sandbox import magic
from receiver.sandbox.channels import FAMILIES
from receiver.sandbox.scenario import CAMPAIGN, EVENTS, MESSAGING, STATUS, V2, BadScenario, read_json, read_toml
from tests.sandbox import KEY, Recorder, Stage, play, stage
from tests.sandbox.test_answers import body

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]
TOML = b"""
[[step]]
path = "/resources/v1/messaging"
channel = "sms"
from = 2
to = 4
every = 2
code = "7020"
http = 429
retry_after = 3

[[step]]
trouble = "hang"
taken = false
slow = 0.5

[[step]]
fate = "twice"
transids = "suffixed"
receipts_after = 1.5
"""


def code_of(answer: httpx2.Response) -> str:
    response = answer.json()["response"]
    return str((response[0] if isinstance(response, list) else response)["code"])


async def wire(on: Stage, request: bytes) -> tuple[bytes, str]:
    """What comes back to `request` until the connection ends, and how it ends."""
    port = on.client.base_url.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    came, end = b"", "closed"
    try:
        writer.write(request)
        async with asyncio.timeout(5):
            while chunk := await reader.read(4096):
                came += chunk
    except ConnectionResetError:
        end = "reset"
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return came, end


def raw(request: dict[str, Any], path: str = MESSAGING, missing: int = 0) -> bytes:
    content = json.dumps(request).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nkey: {KEY}\r\ncontent-length: {len(content) + missing}\r\n\r\n"
    return head.encode() + content


@contextlib.asynccontextmanager
async def hanging(on: Stage, request: dict[str, Any]) -> AsyncIterator[None]:
    """A call of which nothing comes back; left at the end."""
    call = asyncio.create_task(on.call(MESSAGING, request))
    await on.until(lambda: on.sandbox.ledger.submissions["hang"] == 1)
    yield
    assert not call.done()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


def run_on(loop: Callable[[], asyncio.AbstractEventLoop], scene: Callable[[Stage], Any]) -> None:
    async def main() -> None:
        async with stage() as on:
            await scene(on)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("taken", [True, False])
def test_a_reset_comes_in_mid_answer_and_is_one_on_the_wire(
    loop: Callable[[], asyncio.AbstractEventLoop], taken: bool
) -> None:
    async def scene(on: Stage) -> None:
        await on.play({"trouble": "reset", "taken": taken, "to": 1})
        came, end = await wire(on, raw(on.sms(magic.FAILED, correlationid="m-1")))
        assert came.startswith(b"HTTP/1.1 200 OK\r\n")
        assert came.endswith(b"\r\n\r\n{")
        assert b"content-length: 1024" in came
        assert end == "reset"
        await on.quiet()
        assert len(on.recorder.told) == (1 if taken else 0)
        assert code_of(await on.post(body())) == "1001"
        ledger = await on.ledger()
        assert (ledger["submissions"], ledger["taken"]) == ({"reset": 1, "1001": 1}, int(taken))

    run_on(loop, scene)


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_a_call_can_be_closed_before_its_body_is_read(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def scene(on: Stage) -> None:
        await on.play({"trouble": "refuse_before", "path": MESSAGING, "to": 1})
        came, _ = await wire(on, raw(on.sms(magic.FAILED), missing=100))  # its end is never sent
        assert came == b""
        assert code_of(await on.post(body())) == "1001"
        ledger = await on.ledger()
        assert ledger["submissions"] == {"refuse_before": 1, "1001": 1}
        assert sum(ledger["messages"].values()) == 1

    run_on(loop, scene)


@pytest.mark.parametrize("taken", [None, True, False])
def test_a_call_that_hangs_was_taken_unless_the_step_says_otherwise(taken: bool | None) -> None:
    async def scene(on: Stage) -> None:
        step: dict[str, object] = {"trouble": "hang"}
        await on.play(step if taken is None else step | {"taken": taken})
        async with hanging(on, on.sms(magic.DELIVERED, correlationid="m-1")):
            await on.quiet()
            told = [status for _, status, _ in on.recorder.told]
            assert told == ([] if taken is False else ["Submitted", "Delivered"])
            assert (await on.ledger())["taken"] == (taken is not False)

    play(scene)


def test_the_receipts_of_an_early_number_are_told_before_its_call_hangs() -> None:
    async def scene(on: Stage) -> None:
        await on.play({"trouble": "hang"})
        async with hanging(on, on.sms(magic.EARLY)):
            assert on.recorder.answered == 2

    play(scene, speed=100.0)


@pytest.mark.parametrize(
    ("step", "status", "code"),
    [
        ({"code": "7020"}, 200, "7020"),
        ({"code": "7020", "http": 429}, 429, "7020"),
        ({"code": "7006"}, 200, "7006"),
        ({"code": "7001"}, 200, "7001"),
        ({"code": "7002"}, 200, "7002"),
        ({"code": "7007"}, 200, "7007"),
        ({"code": "7777"}, 200, "7777"),
        ({"http": 429}, 429, None),
        ({"http": 500}, 500, None),
        ({"http": 502}, 502, None),
        ({"http": 503}, 503, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("taken", [True, False])
def test_a_call_can_be_failed_by_code_and_status_taken_or_not(
    step: dict[str, object], status: int, code: str | None, taken: bool
) -> None:
    async def scene(on: Stage) -> None:
        await on.play(step | {"taken": taken, "retry_after": 7})
        answer = await on.post(on.sms(magic.FAILED, correlationid="m-1"))
        assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
        if code is None:
            assert answer.headers["content-type"] == "text/html"
        else:
            assert code_of(answer) == code
        await on.quiet()
        assert len(on.recorder.told) == int(taken)
        ledger = await on.ledger()
        assert ledger["submissions"] == {code or str(status): 1}
        assert (sum(ledger["messages"].values()), ledger["taken"]) == (int(taken), int(taken))

    play(scene)


@pytest.mark.parametrize(
    ("path", "step", "status", "told"),
    [
        (V2, {"code": "7020"}, 400, {"code": "7020", "message": "Max transaction limit exceeded"}),
        (V2, {"code": "7007", "http": 403}, 403, {"code": "7007", "message": "Service inactive"}),
        (V2, {"code": "7001"}, 401, None),
        (CAMPAIGN, {"code": "499"}, 200, {"code": 499, "description": "Failed"}),
        (CAMPAIGN, {"code": "429", "http": 429}, 429, {"code": 429, "description": "Throttled"}),
        (CAMPAIGN, {"code": "1003"}, 200, {"code": 1003, "description": "No recommendation available"}),
    ],
    ids=str,
)
def test_each_path_fails_in_its_own_envelope(path: str, step: dict[str, object], status: int, told: object) -> None:
    async def scene(on: Stage) -> None:
        await on.play(step | {"path": path})
        answer = await on.call(path, body())
        assert answer.status_code == status
        assert (answer.json() if answer.content else None) == told
        assert (await on.ledger())["calls"] == {path: {step["code"]: 1}}

    play(scene)


def test_events_and_the_status_can_be_failed_too() -> None:
    async def scene(on: Stage) -> None:
        await on.play({"path": EVENTS, "code": "7025"}, {"path": STATUS, "http": 503})
        answer = await on.call(EVENTS, {"events": [{"evtid": "1"}]})
        assert answer.json()["response"]["description"] == "Mandatory custom parameters missing"
        assert (await on.client.get(f"{STATUS}/t-1", headers={"key": KEY})).status_code == 503
        assert (await on.client.get(f"{STATUS}/t-1")).status_code == 503

    play(scene)


def test_steps_match_by_path_channel_and_number_and_the_first_wins() -> None:
    async def scene(on: Stage) -> None:
        await on.play(
            {"channel": "sms", "from": 2, "to": 6, "every": 2, "code": "7006"},
            {"path": V2, "code": "7007"},
            {"from": 6, "code": "7020"},
        )
        codes = [code_of(await on.post(body())) for _ in range(4)]
        push = body(deliverychannel="push", channels={"push": {}})
        codes.append(code_of(await on.post(push)))
        codes += [code_of(await on.post(body())) for _ in range(3)]
        # the second, fourth and sixth sms; from the sixth call of all on the rest
        assert codes == ["1001", "7006", "1001", "7006", "1001", "7020", "7006", "7020"]
        steps = (await on.client.get("/sandbox/scenario")).json()["step"]
        assert [(one["seen"], one["met"]) for one in steps] == [(7, 3), (0, 0), (8, 2)]

    play(scene)


def test_a_step_meets_the_calls_to_one_country_alone() -> None:
    async def scene(on: Stage) -> None:
        await on.play({"destination": "34", "fate": "failed"}, {"fate": "delivered"})
        for numbers in (("34600000001", "+34600000002"), ("447700900101",), ("34600000003", "447700900102")):
            await on.send(*numbers)
        await on.call(EVENTS, {"events": [{"evtid": "1", "parameters": {"children": 0}}]})
        await on.quiet()
        words = {number: told[-1][0] for number, told in on.recorder.by_destination.items()}
        assert words == {
            "34600000001": "Failed",
            "34600000002": "Failed",
            "447700900101": "Delivered",
            "34600000003": "Delivered",
            "447700900102": "Delivered",
        }
        steps = (await on.client.get("/sandbox/scenario")).json()["step"]
        assert [(one["seen"], one["met"]) for one in steps] == [(1, 1), (4, 3)]

    play(scene)


def test_a_call_that_the_platform_refuses_by_itself_meets_no_trouble() -> None:
    async def scene(on: Stage) -> None:
        await on.play({"trouble": "reset"})
        assert code_of(await on.post(body(route="FAST"))) == "7004"
        assert code_of(await on.post(body(), "wrong")) == "7001"
        assert (await on.ledger())["submissions"] == {"7001": 1, "7004": 1}

    play(scene)


@pytest.mark.parametrize("step", [{}, {"code": "7006"}, {"http": 503, "taken": True}], ids=str)
def test_a_slow_answer_comes_after_its_seconds(step: dict[str, object]) -> None:
    async def scene(on: Stage) -> None:
        await on.play(step | {"slow": 0.15})
        began = time.monotonic()
        await on.post(body())
        assert time.monotonic() - began >= 0.15

    play(scene)


def test_an_answer_comes_after_its_milliseconds_while_receipts_do_not_wait() -> None:
    async def scene(on: Stage) -> None:
        began = time.monotonic()
        call = asyncio.create_task(on.send(magic.FAILED))
        await on.until(lambda: len(on.recorder.bodies) == 1)
        assert not call.done()
        await call
        assert 0.2 <= time.monotonic() - began < 2

    play(scene, answer_ms=200, speed=0.0)


@pytest.mark.parametrize("channel", ["sms", "voice", "push", "wa", "twitter"])
def test_a_step_fixes_the_fate_of_what_is_taken_on_any_channel(channel: str) -> None:
    names = {"sms": "sms", "voice": "voice", "push": "push"}
    block = {names.get(channel, "OTT-Messaging"): {"text": "a", "callflowid": "1", channel: {"text": "a"}}}

    async def scene(on: Stage) -> None:
        request = on.sms(deliverychannel=channel, channels=block)
        for place, fate in enumerate(("delivered", "undelivered", "failed", "silent", "twice", "early")):
            await on.play({"fate": fate})
            del on.recorder.bodies[:]
            await on.post(request | {"destination": [{"msisdn": [f"44770090010{place}"]}]})
            at_answer = len(on.recorder.bodies)
            await on.quiet()
            words = [status.capitalize() for _, status, _ in on.recorder.told]
            good = [step.word.status.capitalize() for step in FAMILIES[channel].good[0].steps]
            match fate:
                case "delivered":
                    assert words == good
                case "undelivered" | "failed":
                    assert words[-1] in ("Undelivered", "Failed")
                case "silent":
                    assert words == []
                case "twice":
                    assert words == good * 2
                    assert on.recorder.bodies[: len(good)] == on.recorder.bodies[len(good) :]
                case "early":
                    assert words == good
                    assert at_answer == len(good)

    play(scene)


def test_a_step_chooses_the_transids_and_lets_the_receipts_come_later() -> None:
    async def scene(on: Stage) -> None:
        await on.play({"transids": "value", "receipts_after": 0.2, "to": 1})
        began = time.monotonic()
        assert len(await on.send(magic.FAILED, magic.EARLY)) == 2
        assert on.recorder.bodies == []
        await on.quiet()
        assert time.monotonic() - began >= 0.2
        assert len(await on.send(magic.FAILED, magic.FAILED)) == 1

    play(scene, speed=0.0)


def test_the_ledger_tells_what_was_sent_twice() -> None:
    async def scene(on: Stage) -> None:
        await on.play({"code": "7006", "from": 2, "to": 2}, {"http": 503, "taken": True, "from": 3, "to": 3})
        twins = [{"msisdn": [magic.FAILED], "correlationid": "m-1"}, {"msisdn": [magic.SILENT], "correlationid": "m-1"}]
        for destination in (
            twins,  # twice in one submission is once taken
            [{"msisdn": [magic.FAILED], "correlationid": "m-2"}],  # 7006: not taken
            [{"msisdn": [magic.FAILED], "correlationid": "m-2"}],  # 503: taken
            [{"msisdn": [magic.FAILED], "correlationid": "m-3"}],
            [{"msisdn": [magic.FAILED], "correlationid": "m-3"}],  # taken again
            [{"msisdn": [magic.FAILED]}],  # nobody can tell
        ):
            await on.post(on.sms(destination=destination))
        ledger = await on.ledger()
        assert (ledger["taken"], ledger["taken_twice"]) == (3, 1)
        taken = [(one["correlationid"], one["taken"]) for one in await on.messages()]
        assert taken == [("m-1", 1), ("m-1", 1), ("m-2", 1), ("m-3", 2), ("m-3", 2), ("", 0)]

    play(scene)


def test_a_scenario_given_at_run_time_replaces_the_one_of_the_file() -> None:
    async def scene(on: Stage) -> None:
        assert code_of(await on.post(body())) == "1001"
        assert code_of(await on.post(body())) == "7020"
        await on.play({"code": "7006"})
        assert code_of(await on.post(body())) == "7006"
        await on.play()
        assert code_of(await on.post(body())) == "1001"

    play(scene, scenario=read_toml(b'[[step]]\nfrom = 2\ncode = "7020"\n'))


def test_a_file_and_a_body_of_the_same_shape_say_the_same() -> None:
    steps = read_toml(TOML)
    assert len(steps) == 3
    same = {
        "step": [
            {
                "path": MESSAGING,
                "channel": "sms",
                "from": 2,
                "to": 4,
                "every": 2,
                "code": "7020",
                "http": 429,
                "retry_after": 3,
            },
            {"trouble": "hang", "taken": False, "slow": 0.5},
            {"fate": "twice", "transids": "suffixed", "receipts_after": 1.5},
        ]
    }
    assert read_json(json.dumps(same).encode()) == steps


BAD: list[tuple[dict[str, object], str]] = [
    ({"path": "/elsewhere"}, "path"),
    ({"from": 0}, "from"),
    ({"from": 3, "to": 2}, "to"),
    ({"every": 0}, "every"),
    ({"trouble": "flood"}, "trouble"),
    ({"trouble": "hang", "code": "7020"}, "trouble"),
    ({"http": 200}, "http"),
    ({"http": 600}, "http"),
    ({"retry_after": 5}, "retry_after"),
    ({"slow": -1}, "slow"),
    ({"receipts_after": -1}, "receipts_after"),
    ({"taken": False}, "taken"),
    ({"trouble": "refuse_before", "channel": "sms"}, "refuse_before"),
    ({"trouble": "refuse_before", "destination": "34"}, "refuse_before"),
    ({"trouble": "refuse_before", "taken": True}, "refuse_before"),
    ({"code": "7020", "fate": "silent"}, "fate"),
    ({"transids": "many"}, "transids"),
    ({"fate": "eaten"}, "fate"),
    ({"number": 4}, "number"),
]


@pytest.mark.parametrize(("step", "named"), BAD, ids=str)
def test_a_step_that_makes_no_sense_is_refused_and_the_present_scenario_stays(
    step: dict[str, object], named: str
) -> None:
    async def scene(on: Stage) -> None:
        await on.play({"code": "7020"})
        answer = await on.client.post("/sandbox/scenario", json={"step": [{}, step]})
        assert answer.status_code == 422
        assert named in answer.json()["error"]
        assert code_of(await on.post(body())) == "7020"

    play(scene)
    with pytest.raises(BadScenario, match=named):
        read_json(json.dumps({"step": [{}, step]}).encode())


def test_hostile_receipts_and_scripted_troubles_go_together() -> None:
    async def scene(on: Stage) -> None:
        await on.play({"trouble": "reset", "every": 2})
        for place in range(40):
            with contextlib.suppress(httpx2.TransportError):
                await on.send(f"447700900{place + 100}", correlationid=f"m-{place}")
        await on.quiet()
        ledger = await on.ledger()
        assert ledger["submissions"] == {"1001": 20, "reset": 20}
        assert (ledger["taken"], ledger["taken_twice"]) == (40, 0)

    play(scene, Recorder(), profile="hostile", seed=5, speed=0.0005)

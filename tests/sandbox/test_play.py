"""Playing a captured sequence: these bodies, in this order, with these gaps, of a fresh message each time."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from receiver.sandbox.capture import BadCapture, read
from receiver.sandbox.scenario import read_json
from receiver.sandbox.settings import SandboxSettings
from receiver.sandbox.stamps import all_moved, moved
from tests.sandbox import Recorder, Stage, play
from tests.sandbox.test_doors import status_of
from tests.sandbox.test_losing import exported

TRANSID, NUMBER, OTHER, MAIL = (
    "1fb0cdd5-1111-4222-8333-444455556666",
    "447700900101",
    "447700900102",
    "reader000003@example.com",
)


def step(
    gap: float, status: str, destination: str = NUMBER, *, stamp: Any = "2002-01-01T00:00:05.250+5:30", **ids: str
) -> dict[str, Any]:
    info = {"deliveryStatus": status, "deliveryChannel": "SMS", "destination": destination, "timeStamp": stamp}
    ids = {"transid": TRANSID, "correlationid": "correlation-000004", "callbackData": 'say "callback-000005"', **ids}
    body = json.dumps({"deliveryInfoNotification": {"deliveryInfo": info, **ids}})
    return {"gap": gap, "status": status, "channel": "SMS", "code": "7500", "body": body}


def capture(*steps: dict[str, Any]) -> dict[str, Any]:
    names = {
        "destination": [NUMBER, OTHER, MAIL],
        "transid": [TRANSID],
        "correlationid": ["correlation-000004"],
        "callbackData": ["callback-000005"],
    }
    return {"capture": 1, "messages": [{"channel": "sms", "state": "delivered"}], "names": names, "steps": list(steps)}


WHOLE = capture(
    step(1.0, "Submitted", transid=f"URN:UUID:{TRANSID.upper()}_7"),
    {"gap": 4.0, "feed": "answer", "status": "Queued", "code": "1001"},
    step(5.0, "Delivered", "+44 7700 900101"),
    step(0.0, "Delivered", f"00{OTHER}", stamp=1009843210000),
    step(0.0, "Read", MAIL.upper(), stamp="yesterday"),
)


async def ask(on: Stage, scenario: dict[str, Any], **more: Any) -> Any:
    return await on.client.post("/sandbox/play", json={"scenario": scenario, "notifyurl": on.recorder.url} | more)


def test_bodies_are_told_in_order_with_scaled_gaps_and_fresh_names() -> None:
    async def scene(on: Stage) -> None:
        began, at = time.monotonic(), datetime.now(UTC)
        answer = await ask(on, WHOLE, speed=0.02)
        assert (answer.status_code, answer.json()["receipts"]) == (202, 4)
        await on.quiet()
        assert time.monotonic() - began >= 0.2
        told = on.recorder.notifications
        infos = [one["deliveryInfo"] for one in told]
        assert [info["deliveryStatus"] for info in infos] == ["Submitted", "Delivered", "Delivered", "Read"]
        [transid] = answer.json()["transids"]
        assert [one["transid"] for one in told] == [f"URN:UUID:{transid.upper()}_7", *[transid] * 3]
        assert transid != TRANSID
        first, spaced, other, mail = (info["destination"] for info in infos)
        assert (spaced[:4], spaced[8], len(spaced)) == ("+44 ", " ", 15)
        assert spaced.replace(" ", "") == f"+{first}"
        assert first.startswith("447700900")
        assert other.startswith("00447700900")
        assert other[2:] != first
        assert mail.isupper()
        assert mail.endswith("@EXAMPLE.COM")
        assert mail != MAIL.upper()
        assert len({one["correlationid"] for one in told}) == len({one["callbackData"] for one in told}) == 1
        assert told[0]["callbackData"].startswith('say "callback-')
        assert "correlation-000004" not in (one["correlationid"] for one in told)
        stamp = datetime.fromisoformat(infos[0]["timeStamp"].replace("+5:30", "+00:00"))
        assert infos[0]["timeStamp"].endswith(".250+5:30")
        assert abs(stamp - at + timedelta(seconds=5)) < timedelta(seconds=10)
        assert abs(infos[2]["timeStamp"] / 1000 - at.timestamp()) < 10
        assert infos[3]["timeStamp"] == "yesterday"

    play(scene)


def test_each_time_is_another_message_and_is_in_the_ledger() -> None:
    async def scene(on: Stage) -> None:
        answer = await ask(on, WHOLE, speed=0, times=5)
        await on.quiet()
        assert len(set(answer.json()["transids"])) == 5
        assert len(on.recorder.bodies) == len(set(on.recorder.bodies)) == 20
        assert (await on.ledger())["receipts"]["told"] == 20
        messages = await on.messages()
        assert {(m["fate"], m["channel"], m["status"], m["final_told"]) for m in messages} == {
            ("played", "sms", "delivered", True)
        }
        assert [m["transid"] for m in messages] == answer.json()["transids"]

    play(scene)


def test_what_was_played_and_dropped_is_exported_as_it_was_told() -> None:
    async def scene(on: Stage) -> None:
        await ask(on, WHOLE, speed=0)
        await on.quiet()
        payloads = [one["df_payload"] for one in await exported(on)]
        assert payloads == [json.loads(body) for body in on.recorder.bodies]

    play(scene, Recorder(answer=lambda _turn: 400))


def test_as_a_step_of_a_scenario_it_is_the_fate_of_what_was_sent() -> None:
    async def scene(on: Stage) -> None:
        await on.play({"capture": WHOLE, "lose": 0.0})
        [transid] = await on.send("447700900777", correlationid="mine", callbackData='a "b"')
        assert [one["status"] for one in await status_of(on, transid)] == ["delivered"]
        await on.quiet()
        told = on.recorder.notifications
        assert [one["transid"] for one in told] == [f"URN:UUID:{transid.upper()}_7", *[transid] * 3]
        assert {one["correlationid"] for one in told} == {"mine"}
        assert {one["callbackData"] for one in told} == {'say "a "b""'}
        assert [one["deliveryInfo"]["destination"] for one in told][:2] == ["447700900777", "+44 7700 900777"]
        assert (await on.messages())[0]["fate"] == "captured"

    play(scene, speed=0.0, lose=1.0)


@pytest.mark.parametrize(
    "change",
    [
        {"capture": 2},
        {"steps": []},
        {"messages": []},
        {"names": {"transid": [""]}},
        {"steps": [{"gap": -1}]},
        {"steps": [{"gap": 1, "unheard": 1}]},
        {"steps": "none"},
    ],
    ids=str,
)
def test_what_is_no_capture_is_refused(change: dict[str, Any]) -> None:
    async def scene(on: Stage) -> None:
        bad = WHOLE | change
        with pytest.raises(BadCapture):
            read(json.dumps(bad).encode())
        assert (await ask(on, bad)).status_code == 422
        answer = await on.client.post("/sandbox/scenario", json={"step": [{"capture": bad}]})
        assert answer.status_code == 422

    play(scene)


@pytest.mark.parametrize(
    "more",
    [{"times": 0}, {"times": 10_001}, {"speed": -1}, {"notifyurl": "http://example.com/"}, {"notifyurl": ""}],
    ids=str,
)
def test_what_can_not_be_played_is_refused_with_the_reason(more: dict[str, Any]) -> None:
    async def scene(on: Stage) -> None:
        answer = await ask(on, WHOLE, **more)
        assert answer.status_code == 422
        assert answer.json()["error"]
        assert (await ask(on, WHOLE, times=3)).status_code == 429

    play(scene, pending_max=10)


def test_a_capture_goes_into_a_scenario_of_settings_too() -> None:
    [step] = read_json(json.dumps({"step": [{"capture": WHOLE}]}).encode())
    assert SandboxSettings(keys=("k",), scenario=(step,)).scenario[0].capture is not None
    assert msgspec.to_builtins(step)["capture"]["names"] == WHOLE["names"]


@pytest.mark.parametrize(
    ("stamp", "later"),
    [
        ("2002-01-01T23:59:59.250+5:30", "2002-01-02T00:01:00.250+5:30"),
        ("2002-01-01 23:59:59 +0530", "2002-01-02 00:01:00 +0530"),
        ("2002-01-01T23:59:59", "2002-01-02T00:01:00"),
        (" 2002-01-01T23:59:59Z ", "2002-01-02T00:01:00Z"),
        ("20020101235959", "20020102000100"),
        ("1009843200", "1009843261"),
        ("1009843200123", "1009843261123"),
        ("Tue, 01 Jan 2002 23:59:59 +0000", "Wed, 02 Jan 2002 00:01:00 +0000"),
        ("2002-02-30T23:59:59", None),
        ("yesterday", None),
        ("9999-12-31T23:59:59", None),
        ("12", None),
    ],
)
def test_a_time_stamp_is_moved_in_its_own_spelling(stamp: str, later: str | None) -> None:
    assert moved(stamp, timedelta(seconds=61)) == later
    inner = json.dumps({"TimeStamp": stamp, "code": "1009843299"})
    for body in (inner, json.dumps({"df_payload": inner})):
        assert all_moved(body, timedelta(seconds=61)) == body.replace(stamp, later or stamp)

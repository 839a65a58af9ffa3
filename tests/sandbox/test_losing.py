"""Receipts that the platform loses: never told, in its export, and no secret to its status."""

import json
import time
from collections import Counter, defaultdict
from typing import Any

import httpx2
import pytest

from receiver.receipts.receipt import read
from receiver.sandbox import magic
from receiver.sandbox.scenario import STATUS
from tests.sandbox import KEY, Recorder, Stage, play
from tests.sandbox.test_doors import status_of
from tests.sandbox.test_tell import FAST, SOURCE, counted, messages_of, tell

LOSING: dict[str, Any] = {**FAST, "lose": 0.3}


async def exported(on: Stage, **choice: int) -> list[dict[str, Any]]:
    answer = await on.client.get("/sandbox/export", params=choice)
    assert answer.headers["content-type"] == "application/json"
    found: list[dict[str, Any]] = answer.json()
    return found


def fingerprints(entries: list[dict[str, Any]]) -> Counter[bytes]:
    """Of an export, as a receiver reads it."""
    if not entries:
        return Counter()
    reading = read(json.dumps(entries).encode(), SOURCE)
    assert not reading.rejects
    return Counter(told.fingerprint for told in reading.receipts)


@pytest.mark.parametrize("profile", ["honest", "hostile"])
def test_what_is_told_and_what_is_exported_are_all_that_was_planned(profile: str) -> None:
    async def scene(on: Stage) -> None:
        planned = (await tell(on, messages=700, profile=profile)).json()["receipts"]
        await on.quiet()
        ledger = (await on.ledger())["receipts"]
        assert ledger["planned"] == planned == sum(ledger[n] for n in ("told", "dropped", "given_up", "lost"))
        assert 0.2 * planned < ledger["lost"] < 0.4 * planned

        entries = [one for m in await messages_of(on) for one in m["receipts"] if one["kind"] == "receipt"]
        by_outcome: dict[str, set[bytes]] = defaultdict(set)
        for one in entries:
            by_outcome[one["outcome"]].add(read(one["told"].encode(), SOURCE).receipts[0].fingerprint)
        lost = by_outcome["lost"]
        export = fingerprints(await exported(on))
        came, _ = counted(on.recorder.bodies)
        assert lost
        assert not lost & came.keys()
        assert lost <= export.keys()
        assert export.keys() | came.keys() == set().union(*by_outcome.values()), "every receipt came, or is exported"

    play(scene, **LOSING)


def test_losing_draws_by_the_seed_alone_and_changes_nothing_else() -> None:
    found: list[list[tuple[object, ...]]] = []

    async def scene(on: Stage) -> None:
        await tell(on, messages=120, profile="hostile")
        await on.quiet()
        found.append(
            [
                (m["destination"], m["fate"], one["status"], one["troubles"], one["outcome"] == "lost")
                for m in await messages_of(on)
                for one in m["receipts"]
            ]
        )

    for choice in (LOSING, {**LOSING, "speed": 0.001, "tellers": 3}, {**LOSING, "lose": 0.6}, FAST):
        play(scene, **choice)
    one, again, more, none = found
    assert one == again
    assert [row[:-1] for row in one] == [row[:-1] for row in more] == [row[:-1] for row in none]
    assert all(much[-1] for little, much in zip(one, more, strict=True) if little[-1])
    assert sum(bool(row[-1]) for row in more) > sum(bool(row[-1]) for row in one) > 0
    assert not any(row[-1] for row in none)


def test_the_share_of_a_step_and_of_a_telling_go_before_the_option() -> None:
    async def scene(on: Stage) -> None:
        await on.play({"lose": 0.0, "to": 1}, {"lose": 1.0, "to": 2})
        for _ in range(3):
            await on.send(magic.DELIVERED)
        await tell(on, messages=3, channels=["sms"], lose=0.0)
        await on.quiet()
        outcomes = [{one["outcome"] for one in m["receipts"]} for m in await messages_of(on)]
        assert outcomes == [{"acknowledged"}, {"lost"}, {"lost"}, *[{"acknowledged"}] * 3]
        assert (await tell(on, messages=1, lose=1.5)).status_code == 422

    play(scene, **FAST, lose=1.0)


def test_the_status_knows_what_was_lost_and_the_ledger_that_nobody_was_told() -> None:
    async def scene(on: Stage) -> None:
        transids = [(await on.send(number))[0] for number in (magic.DELIVERED, magic.FAILED, magic.SILENT)]
        found = [(await status_of(on, transid))[0]["status"] for transid in transids]
        assert found == ["delivered", "failed", "sent"]
        assert on.recorder.bodies == []
        messages = await messages_of(on)
        assert [m["final_told"] for m in messages] == [False, False, None]
        assert [m["status"] for m in messages] == found

    play(scene, speed=0.0, lose=1.0)


def test_a_final_receipt_is_told_not_told_or_nobody_can_say() -> None:
    def answer(turn: int) -> int:
        return (200, 200, 400, 503, 503)[turn] if turn < 5 else 200

    async def scene(on: Stage) -> None:
        for _ in range(3):
            await on.send(magic.FAILED if on.recorder.bodies else magic.DELIVERED)
            await on.until(lambda: on.sandbox.ledger.answers.total() >= 2)
            await on.quiet()
        assert [m["final_told"] for m in await messages_of(on)] == [True, False, None]
        on.sandbox.ledger.answers.clear()

    play(scene, Recorder(answer=answer), speed=0.0, retries=(0.0,))


def test_the_export_says_what_the_last_try_met() -> None:
    async def scene(on: Stage) -> None:
        for notifyurl in (on.recorder.url, on.recorder.url, "http://127.0.0.1:1/"):
            await on.send(magic.FAILED, notifyurl=notifyurl)
            await on.quiet()
        await on.play({"lose": 1.0})
        await on.send(magic.FAILED)
        found = await exported(on)
        assert [list(one) for one in found] == [["df_payload", "df_status", "df_status_text", "df_response_status"]] * 4
        assert {one["df_status"] for one in found} == {"2"}
        assert [(one["df_status_text"], one["df_response_status"]) for one in found] == [
            ("HTTP Status 410", "410"),
            ("HTTP Status 503", "503"),
            ("Connection refused", ""),
            ("HTTP Status 500", "500"),
        ]
        assert {one["df_payload"]["deliveryInfoNotification"]["deliveryInfo"]["code"] for one in found} == {"7101"}
        assert await exported(on, after=1, limit=2) == found[1:3]
        assert await exported(on, after=4) == []
        assert (await on.client.get("/sandbox/export", params={"after": "x"})).status_code == 400

    play(scene, Recorder(answer=lambda turn: 410 if turn == 0 else 503), speed=0.0, retries=(0.0,))


def test_nothing_that_was_taken_or_forged_is_exported() -> None:
    async def scene(on: Stage) -> None:
        await tell(on, messages=20, profile="honest")
        for place in range(60):
            await on.send(f"447700900{place + 100}", notifyurl=f"{on.recorder.url}/{place}", correlationid=f"m-{place}")
        await on.quiet()
        assert (await on.ledger())["receiver"]["forged"] == 0
        entries = [one for m in await messages_of(on) for one in m["receipts"]]
        assert "forged" in {one["kind"] for one in entries}
        assert fingerprints(await exported(on)).total() == (await on.ledger())["receipts"]["dropped"] - sum(
            one["refused"] for one in entries if one["kind"] != "receipt"
        )

    play(scene, Recorder(answer=lambda _turn: 404), profile="hostile", seed=5, **FAST)


def test_what_is_told_again_is_no_event_to_the_status() -> None:
    async def scene(on: Stage) -> None:
        [transid] = await on.send(magic.TWICE)
        assert [one["status"] for one in await status_of(on, transid)] == ["delivered"]

    play(scene, speed=0.0)


def test_the_status_of_a_push_that_one_of_several_devices_has_is_delivered() -> None:
    async def scene(on: Stage) -> None:
        await tell(on, messages=60, profile="honest", channels=["push"])
        pushed = {m["fate"]: m["status"] for m in await messages_of(on)}
        assert pushed["two devices"] == pushed["three devices"] == "delivered"
        assert pushed["failed"] == "failed"

    play(scene, speed=0.0, failed=0.3)


def test_the_status_tells_the_time_of_what_happened_last() -> None:
    async def scene(on: Stage) -> None:
        [transid] = await on.send(magic.DELIVERED)
        [record] = on.sandbox.ledger.of_transid(transid)
        sent, delivered = (offset for offset, _ in record.steps)
        await on.quiet()
        [found] = await status_of(on, transid)
        assert record.sent_at is not None
        told = time.strptime(found["last_updated"], "%a, %d %b %Y %H:%M:%S UTC")
        assert sent < delivered
        happened = time.gmtime(record.sent_at.timestamp() + delivered)
        assert told[:6] == happened[:6]

    play(scene, speed=0.3)


@pytest.mark.parametrize(
    ("step", "status", "code"),
    [
        ({"code": "7020"}, 200, "7020"),
        ({"code": "7020", "http": 429}, 429, "7020"),
        ({"http": 429, "retry_after": 3}, 429, None),
        ({"http": 503}, 503, None),
        ({"slow": 0.2}, 200, None),
    ],
    ids=["7020", "429 and 7020", "429", "503", "slow"],
)
def test_a_step_of_a_scenario_meets_the_status_and_no_other_call(
    step: dict[str, object], status: int, code: str | None
) -> None:
    async def scene(on: Stage) -> None:
        await on.play({"path": STATUS, "to": 1} | step)
        [transid] = await on.send(magic.DELIVERED)
        began = time.monotonic()
        answer = await on.client.get(f"{STATUS}/{transid}", headers={"key": KEY})
        assert time.monotonic() - began >= float(str(step.get("slow", 0)))
        assert answer.status_code == status
        if code:
            assert answer.json()["response"]["code"] == code
        assert answer.headers.get("retry-after") == (str(step["retry_after"]) if "retry_after" in step else None)
        assert len(await status_of(on, transid)) == 1, "the next one is answered"

    play(scene, **FAST)


@pytest.mark.parametrize("trouble", ["hang", "reset", "refuse_before"])
def test_a_status_call_that_is_never_answered_ends_as_the_scenario_says(trouble: str) -> None:
    async def scene(on: Stage) -> None:
        await on.play({"path": STATUS, "to": 1, "trouble": trouble})
        [transid] = await on.send(magic.DELIVERED)
        with pytest.raises(httpx2.TransportError):
            await on.client.get(f"{STATUS}/{transid}", headers={"key": KEY}, timeout=1.0)
        assert len(await status_of(on, transid)) == 1

    play(scene, **FAST)

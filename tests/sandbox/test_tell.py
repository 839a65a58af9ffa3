"""`POST /sandbox/tell` and the ledger: what the sandbox says it told is what a notifyurl got."""

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from receiver.ids import TenantId
from receiver.receipts.receipt import Source, read
from receiver.sandbox.channels import FAMILIES
from receiver.sandbox.parcel import Fault, Kind, Parcel, Telling
from receiver.sandbox.teller import Errand
from tests.sandbox import SPEED, Recorder, Stage, play

SOURCE = Source(TenantId(1), None, datetime.now(UTC))
FAST: dict[str, Any] = {"speed": 0.0005, "tellers": 16}


async def tell(on: Stage, **asked: Any) -> httpx2.Response:
    return await on.client.post("/sandbox/tell", json={"notifyurl": on.recorder.url, "seed": 7} | asked)


async def ledger_of(on: Stage) -> dict[str, Any]:
    found: dict[str, Any] = (await on.client.get("/sandbox/ledger")).json()
    return found


async def messages_of(on: Stage, limit: int = 1000) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = (await on.client.get("/sandbox/ledger/messages", params={"after": after, "limit": limit})).json()
        assert len(page["messages"]) <= limit
        found += page["messages"]
        after = page["next"]
    return found


def counted(bodies: list[bytes]) -> tuple[Counter[bytes], int]:
    """How often each receipt came, by its fingerprint, and how many bodies could not be read."""
    receipts: Counter[bytes] = Counter()
    unreadable = 0
    for body in bodies:
        reading = read(body, SOURCE)
        receipts.update(told.fingerprint for told in reading.receipts)
        unreadable += len(reading.rejects)
    return receipts, unreadable


def test_what_is_planned_is_answered_202_and_told_over_all_channels() -> None:
    async def scene(on: Stage) -> None:
        answer = await tell(on, messages=70, profile="honest")
        assert answer.status_code == 202
        planned = answer.json()
        assert (planned["messages"], planned["troubles"]) == (70, {})
        assert planned["channels"] == dict.fromkeys(FAMILIES, 5)
        await on.quiet()
        assert len(on.recorder.bodies) == planned["receipts"] == (await ledger_of(on))["receipts"]["told"]

    play(scene, **FAST)


def test_the_ledger_adds_up_against_what_a_notifyurl_got() -> None:
    async def scene(on: Stage) -> None:
        planned = (await tell(on, messages=700, profile="hostile")).json()
        await on.until(lambda: on.sandbox.ledger.pending == 0)
        ledger = await ledger_of(on)
        answers, receiver = ledger["answers"], ledger["receiver"]
        assert ledger["receipts"]["planned"] == planned["receipts"]
        assert ledger["troubles"] == planned["troubles"]
        assert set(answers) == {"200", "not_sent", "not_read"}
        await on.until(lambda: len(on.recorder.bodies) == answers["200"] + answers["not_read"])
        receipts, unreadable = counted(on.recorder.bodies)
        assert len(receipts) == receiver["distinct"] + receiver["unknown"]
        came = receiver["distinct"] + receiver["repeated"] + receiver["unanswered"]["receipts"]
        assert receipts.total() == came
        assert unreadable == receiver["unreadable"]
        assert receiver["forged"] == 0

        entries = [one for message in await messages_of(on) for one in message["receipts"]]
        told = {}
        for one in entries:
            if one["kind"] == "receipt":
                [alone] = read(one["told"].encode(), SOURCE).receipts
                told[alone.fingerprint] = one["acknowledged"] + one["unanswered"]
        assert +Counter(told) == receipts
        assert (
            Counter(one["outcome"] for one in entries if one["kind"] == "receipt")["acknowledged"]
            == receiver["distinct"]
        )
        assert all(one["sent_at"] <= one["answered_at"] for one in entries if one["outcome"] == "acknowledged")

    play(scene, **FAST)


def test_one_seed_makes_up_the_same_messages_whatever_the_timing() -> None:
    found: list[list[Any]] = []

    async def scene(on: Stage) -> None:
        await tell(on, messages=150, profile="hostile")
        await on.quiet()
        found.append(
            [
                (
                    *(m[name] for name in ("destination", "channel", "correlationid", "fate")),
                    *((one["status"], one["code"], one["channel"], one["troubles"]) for one in m["receipts"]),
                )
                for m in await messages_of(on, 40)
            ]
        )

    play(scene, **FAST)
    play(scene, speed=0.002, tellers=3)
    assert found[0] == found[1]


def test_the_receipts_of_a_message_go_round_over_several_notifyurls() -> None:
    async def scene(on: Stage) -> None:
        urls = [f"{on.recorder.url}/{place}" for place in (1, 2)]
        await tell(on, messages=40, profile="honest", notifyurl=urls)
        await on.quiet()
        paths = Counter(head.split()[1] for head in on.recorder.heads)
        assert len(paths) == 2
        assert min(paths.values()) > 0.4 * paths.total()

    play(scene, **FAST)


@pytest.mark.parametrize(
    "asked",
    [
        {"messages": 0},
        {"messages": 50_001},
        {"messages": "many"},
        {"messages": 1, "channels": ["pigeon"]},
        {"messages": 1, "channels": []},
        {"messages": 1, "profile": "kind"},
        {"messages": 1, "notifyurl": "http://example.com/"},
        {"messages": 1, "notifyurl": []},
        {"messages": 1, "notifyurls": []},
    ],
    ids=str,
)
def test_what_cannot_be_told_is_refused_with_the_reason(asked: dict[str, Any]) -> None:
    async def scene(on: Stage) -> None:
        answer = await tell(on, **asked)
        assert answer.status_code == 422
        assert answer.json()["error"]

    play(scene)


def test_more_than_may_wait_is_refused() -> None:
    async def scene(on: Stage) -> None:
        assert (await tell(on, messages=11)).status_code == 429
        assert (await tell(on, messages=3)).status_code == 202

    play(scene, pending_max=10)


def test_the_ledger_keeps_the_newest_messages_and_counts_all() -> None:
    async def scene(on: Stage) -> None:
        await tell(on, messages=30, profile="honest")
        await on.quiet()
        assert [m["number"] for m in await messages_of(on, limit=4)] == list(range(21, 31))
        assert sum((await ledger_of(on))["messages"].values()) == 30
        assert (await on.client.get("/sandbox/ledger/messages", params={"after": "x"})).status_code == 400

    play(scene, kept=10, **FAST)


def parcel_with(*faults: Fault) -> Parcel:
    return Parcel(0.0, (Telling(Kind.RECEIPT, "Delivered", info=b'{"deliveryStatus":"Delivered"}'),), faults=faults)


async def send(on: Stage, parcel: Parcel) -> float:
    """Seconds until the parcel was told or given up."""
    began = time.monotonic()
    errand = Errand(httpx2.URL(on.recorder.url), asyncio.get_running_loop().time(), [parcel])
    on.sandbox._teller.take(errand)
    await on.quiet()
    return time.monotonic() - began


def test_a_receipt_lost_on_its_way_is_told_again_after_the_waits_of_the_retry_table() -> None:
    async def scene(on: Stage) -> None:
        parcel = parcel_with(Fault.NOT_SENT, Fault.NOT_READ)
        assert await send(on, parcel) >= 2 * 60 * SPEED
        assert on.recorder.bodies == [parcel.body()] * 2
        assert (await ledger_of(on))["answers"] == {"200": 1, "not_read": 1, "not_sent": 1}
        [telling] = parcel.tellings
        assert (telling.outcome, telling.acknowledged, telling.unanswered) == ("acknowledged", 1, 1)

    play(scene)


@pytest.mark.parametrize(("fault", "outcome"), [(Fault.NOT_SENT, "untold"), (Fault.NOT_READ, "unknown")])
def test_a_receipt_lost_four_times_is_given_up(fault: Fault, outcome: str) -> None:
    async def scene(on: Stage) -> None:
        parcel = parcel_with(*[fault] * 4)
        assert await send(on, parcel) >= 3 * 60 * SPEED
        assert (on.sandbox.ledger.given_up, on.sandbox.ledger.told) == (1, 0)
        assert parcel.tellings[0].outcome == outcome
        assert on.sandbox.ledger.unknown == (outcome == "unknown")

    play(scene)


def test_a_receipt_that_met_a_503_may_have_been_stored() -> None:
    async def scene(on: Stage) -> None:
        parcel = parcel_with()
        await send(on, parcel)
        assert (parcel.tellings[0].acknowledged, parcel.tellings[0].unanswered) == (1, 1)
        assert on.sandbox.ledger.unknown == 0

    play(scene, Recorder(answer=lambda turn: 503 if turn == 0 else 200))


@pytest.mark.parametrize(
    ("answer", "answered"),
    [
        (b"", "unreachable"),
        (b"HTTP/1.1 2", "unreachable"),
        (b"nonsense\r\n\r\n", "unreachable"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "200"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "200"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200"),
    ],
    ids=str,
)
def test_only_an_answer_with_a_status_counts_as_one(answer: bytes, answered: str) -> None:
    class Odd(Recorder):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"}")
            writer.write(answer)
            writer.close()

    async def scene(on: Stage) -> None:
        parcel = parcel_with()
        await send(on, parcel)
        tries = on.sandbox.ledger.answers[answered]
        assert tries == (1 if answered == "200" else 4)
        assert parcel.tellings[0].outcome == ("acknowledged" if answered == "200" else "unknown")

    play(scene, Odd())


def test_messages_that_are_really_sent_meet_the_hostile_profile_too() -> None:
    async def scene(on: Stage) -> None:
        for place in range(150):
            await on.send(f"447700900{place + 100}", notifyurl=f"{on.recorder.url}/{place}", correlationid=f"m-{place}")
        await on.quiet()
        ledger = await ledger_of(on)
        assert {"lost", "early", "forged", "reordered", "truncated", "wrapped"} <= set(ledger["troubles"])
        forged = [
            (m["correlationid"], one) for m in await messages_of(on) for one in m["receipts"] if one["kind"] == "forged"
        ]
        assert len(forged) == ledger["receiver"]["forged"] > 0
        for mine, one in forged:
            [claim] = read(one["told"].encode(), SOURCE).receipts
            assert claim.correlationid != mine
            came = [n for n, body in enumerate(on.recorder.bodies) if body == one["told"].encode()]
            assert {on.recorder.heads[n].split()[1].rpartition("/")[2] for n in came} == {mine.removeprefix("m-")}

    play(scene, Recorder(), profile="hostile", seed=5, **FAST)

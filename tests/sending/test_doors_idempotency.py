"""The Idempotency-Key: one key and one body are one set of messages, whoever calls, and however close together."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from receiver.database.pool import connect
from receiver.ids import Digest, digest
from receiver.messages.lattice import State
from receiver.sending import outbox
from receiver.sending.idempotency import KEPT, Earlier, IdempotencyKey, earlier
from receiver.sending.request import Request, check
from receiver.web import Problem
from tests.receipts.tellings import body
from tests.sending.doors import Doors, with_doors
from tests.sending.platforms import sms
from tests.support import Database, now, receiver_process

NUMBERS = ("447700900001", "447700900002", "447700900001")
EVENTS = {"events": [{"evtid": "a", "correlationid": "c-1"}, {"evtid": "b"}]}
CAMPAIGN = {"event-id": "birthday", "event-key": "447700900001"}
SENT = {"request": sms(*NUMBERS[:2]), "answer": {"response": [{"code": "1001", "transid": "T-1"}]}}

DOORS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/messages", sms(*NUMBERS, correlationid="order-1")),
    ("/v1/events", EVENTS),
    ("/v1/campaign-events", CAMPAIGN),
    ("/v1/messages/sent", SENT),
]


async def move_on(doors: Doors, identity: str) -> None:
    """Changes a message's state: what was answered stays as it was."""
    if (await doors.api.delete(f"/v1/messages/{identity}")).status_code == 409:
        info = {"deliveryChannel": "SMS", "deliveryStatus": "Delivered", "destination": NUMBERS[0], "code": "7500"}
        await doors.tell(body(info, "T-1"))
        assert await doors.state(identity) is State.DELIVERED


async def counted(doors: Doors) -> list[str]:
    text = (await doors.api.get("/metrics")).text
    return [line for line in text.splitlines() if line.startswith("receiver_messages_total{")]


@pytest.mark.parametrize(("path", "asked"), DOORS, ids=[path for path, _ in DOORS])
def test_the_same_call_again_is_answered_as_the_first_time_and_sends_nothing(
    database: Database, path: str, asked: dict[str, Any]
) -> None:
    async def work(doors: Doors) -> None:
        first = await doors.post(path, asked, idempotency_key="key-1")
        assert first.status_code in (201, 202)
        assert "idempotency-replayed" not in first.headers
        await move_on(doors, first.json()["messages"][0]["id"])
        after = await doors.counts()
        figures = await counted(doors)
        again = await doors.post(path, asked, idempotency_key="key-1")
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers["idempotency-replayed"] == "true"
        assert await doors.counts() == after
        assert await counted(doors) == figures

    with_doors(database, work)


def test_another_body_or_another_door_under_the_same_key_is_a_conflict(database: Database) -> None:
    async def work(doors: Doors) -> None:
        assert (await doors.post("/v1/events", EVENTS, idempotency_key="k")).status_code == 202
        after = await doors.counts()
        for path, asked in (
            ("/v1/events", {"events": [{"evtid": "c"}]}),
            ("/v1/messages", sms(NUMBERS[0])),
            ("/v1/messages/sent", SENT),
            ("/v1/campaign-events", CAMPAIGN),
        ):
            answer = await doors.post(path, asked, idempotency_key="k")
            assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_conflict")
        blank = await doors.api.post(
            "/v1/events", content=json.dumps(EVENTS, indent=1), headers={"idempotency-key": "k"}
        )
        assert blank.status_code == 409, "the body is compared byte by byte"
        assert await doors.counts() == after

    with_doors(database, work)


def test_a_key_is_the_tenants_own(database: Database, tmp_path: Path) -> None:
    config = tmp_path / "receiver.toml"
    config.write_text("[tenant.other]\nplatform_url = 'http://127.0.0.1:9'\nplatform_key = 'x'\n")

    async def work(doors: Doors) -> None:
        answers = [
            await doors.api.post("/v1/events", json=EVENTS, headers={"idempotency-key": "k"} | who)
            for who in ({}, doors.as_tenant("other"))
        ]
        assert [a.status_code for a in answers] == [202, 202]
        assert [a.headers.get("idempotency-replayed") for a in answers] == [None, None]
        assert await doors.value("select count(distinct tenant) from batch") == 2

    with_doors(database, work, "other", RECEIVER_CONFIG=str(config))


@pytest.mark.parametrize("key", ["", " ", "with blank", "x" * 256, "\N{LATIN SMALL LETTER E WITH ACUTE}", "a\tb"])
def test_what_can_not_be_a_key_is_refused(database: Database, key: str) -> None:
    async def work(doors: Doors) -> None:
        before = await doors.counts()
        headers = [(b"idempotency-key", key.encode("latin-1"))]
        answer = await doors.api.post("/v1/events", json=EVENTS, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_idempotency_key")
        assert await doors.counts() == before

    with_doors(database, work)


def test_two_values_are_refused_and_the_longest_key_is_taken(database: Database) -> None:
    async def work(doors: Doors) -> None:
        twice = [("idempotency-key", "a"), ("idempotency-key", "a")]
        assert (await doors.api.post("/v1/events", json=EVENTS, headers=twice)).status_code == 400
        assert (await doors.post("/v1/events", EVENTS, idempotency_key="!~" * 127 + "x")).status_code == 202

    with_doors(database, work)


def test_a_refused_call_is_not_remembered(database: Database) -> None:
    async def work(doors: Doors) -> None:
        assert (await doors.post("/v1/events", {"events": []}, idempotency_key="k")).status_code == 422
        good = await doors.post("/v1/events", EVENTS, idempotency_key="k")
        assert good.status_code == 202
        assert "idempotency-replayed" not in good.headers

    with_doors(database, work)


def request() -> Request:
    checked = check(sms(NUMBERS[0]))
    assert isinstance(checked, Request)
    return checked


def test_a_key_is_kept_for_a_day(database: Database) -> None:
    async def work(doors: Doors) -> None:
        key = IdempotencyKey(digest("key"), digest("request"))
        at = now()
        async with doors.connection.transaction():
            assert await earlier(doors.connection, key, at) is None
            await outbox.accept(doors.connection, doors.tenant, request(), at, idempotency=key.pair)
        soon, later = at + KEPT - timedelta(seconds=1), now() + KEPT + timedelta(seconds=1)
        async with doors.connection.transaction():
            found = await earlier(doors.connection, key, soon)
            assert isinstance(found, Earlier)
            with pytest.raises(Problem, match="another request"):
                await earlier(doors.connection, IdempotencyKey(key.key, Digest(bytes(16))), soon)
            assert await earlier(doors.connection, key, later) is None

    with_doors(database, work)


def test_of_two_calls_at_once_the_second_waits_for_the_first(database: Database) -> None:
    """On two connections: the first has accepted and not committed while the second asks."""

    async def work(doors: Doors) -> None:
        key = IdempotencyKey(digest("key"), digest("request"))
        other = await connect(database.dsn, "tests")

        async def second() -> Earlier | None:
            async with other.transaction():
                return await earlier(other, key, now())

        async with doors.connection.transaction():
            assert await earlier(doors.connection, key, now()) is None
            accepted = await outbox.accept(doors.connection, doors.tenant, request(), now(), idempotency=key.pair)
            task = asyncio.create_task(second())
            while not await doors.value("select count(*) from pg_locks where not granted and locktype = 'advisory'"):
                assert not task.done()
        found = await task
        assert found is not None
        assert found.batch_id == accepted.batch_id
        assert [identity for identity, _, _ in found.messages] == [identity for identity, _ in accepted.messages]
        await other.close()

    with_doors(database, work)


def test_many_calls_with_one_key_at_two_processes_make_one_set_of_messages(database: Database, tmp_path: Path) -> None:
    key, many, rounds = database.key(), 12, 8
    asked = json.dumps(sms(*NUMBERS)).encode()
    with (
        receiver_process(database, tmp_path) as one,
        receiver_process(database, tmp_path) as two,
        ThreadPoolExecutor(many) as pool,
    ):
        for nth in range(rounds):  # the first ones open the connections, and do not race
            headers = {"authorization": f"Bearer {key}", "idempotency-key": f"storm-{nth}"}

            def call(number: int, headers: dict[str, str] = headers) -> httpx2.Response:
                url = (one, two)[number % 2].url
                return httpx2.post(f"{url}/v1/messages", content=asked, headers=headers, trust_env=False, timeout=20)

            answers = list(pool.map(call, range(many)))
            assert {answer.status_code for answer in answers} == {202}
            assert len({answer.content for answer in answers}) == 1
            assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert database.value("select count(*) from batch") == rounds
    assert database.value("select count(*) from message") == rounds * len(NUMBERS)

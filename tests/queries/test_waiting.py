"""Waiting for a message: woken from wherever its receipt comes in, holding no connection, and answered at the end."""

import asyncio
import itertools
import os
import re
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from starlette.datastructures import QueryParams
from starlette.requests import Request

from receiver.ids import new_id
from receiver.messages.lattice import Channel, Fact, State
from receiver.queries.one_message import Mark, Whole
from receiver.queries.waiting import Ended, Until, WaitingRoom, read_wish
from receiver.web import Problem
from tests.queries.one import World, world
from tests.sending.platforms import receipt, tell
from tests.support import Receiver, eventually, receiver_process

WAITERS = 600


@pytest.fixture(scope="module")
def here(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(postgres, template, tmp_path_factory.mktemp("waiting"), "waiting", RECEIVER_RATE_LIMIT="0") as made:
        yield made


@pytest.fixture(scope="module")
def another(here: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A second process on the same database."""
    folder = tmp_path_factory.mktemp("another")
    with receiver_process(here.receiver.database, folder, RECEIVER_ROLES="notify,api") as receiver:
        yield receiver


class Waiter(threading.Thread):
    """Somebody who waits for a message."""

    def __init__(self, here: World, identity: str, **parameters: str) -> None:
        super().__init__()
        self._here, self._identity = here, identity
        self._headers = {"if-none-match": known} if (known := parameters.pop("known", "")) else {}
        self._parameters = parameters
        before = waiting(here.receiver)
        self.start()
        eventually(lambda: waiting(here.receiver) > before)

    def run(self) -> None:
        with self._here.receiver.client(self._here.key) as client:
            path = f"/v1/messages/{self._identity}"
            self.answer = client.get(path, params=self._parameters, headers=self._headers, timeout=70)

    def answered(self) -> httpx2.Response:
        self.join(30)
        assert not self.is_alive()
        return self.answer


def waiting(receiver: Receiver) -> int:
    """How many wait at a process, as it says itself."""
    found = re.search(r"^receiver_waiters (\S+)$", httpx2.get(f"{receiver.url}/metrics", trust_env=False).text, re.M)
    assert found is not None
    return int(float(found[1]))


def ask(here: World, identity: str, known: str = "", **parameters: str) -> tuple[httpx2.Response, float]:
    headers = {"if-none-match": known} if known else {}
    began = time.monotonic()
    answer = here.api.get(f"/v1/messages/{identity}", params=parameters, headers=headers)
    return answer, time.monotonic() - began


def test_a_waiter_is_answered_when_a_receipt_comes_in_at_another_process(here: World, another: Receiver) -> None:
    identity = here.send()[1][0]
    waiter = Waiter(here, identity, wait="60", until="delivered")
    number = here.get(identity)["destination"]
    began = time.monotonic()
    for status in ("Submitted", "Delivered"):
        assert tell(another.notify_url(), receipt(status, "", number, correlationid=identity)) == 200
    answer = waiter.answered()
    assert time.monotonic() - began < 10
    assert (answer.status_code, answer.headers["x-wait"], answer.json()["state"]) == (200, "met", "delivered")
    assert answer.headers["etag"] == here.api.get(f"/v1/messages/{identity}").headers["etag"]


def test_what_is_so_already_is_answered_at_once(here: World) -> None:
    identity = here.send()[1][0]
    here.told(identity, "Submitted")
    answer, seconds = ask(here, identity, wait="60", until="submitted")
    assert (answer.headers["x-wait"], answer.json()["state"]) == ("met", "submitted")
    here.told(identity, "Undelivered", "7207")
    for until in ("final", "delivered", "submitted"):
        answer, more = ask(here, identity, wait="60", until=until)
        assert (answer.headers["x-wait"], answer.json()["state"]) == ("met", "undelivered"), until
        seconds += more
    assert seconds < 20


def test_time_ends_the_waiting_with_the_present_message(here: World) -> None:
    identity = here.send()[1][0]
    answer, seconds = ask(here, identity, wait="0.5")
    assert (answer.status_code, answer.headers["x-wait"]) == (200, "timeout")
    assert answer.json()["state"] == "accepted"
    assert 0.5 <= seconds < 10
    same, _ = ask(here, identity, known=answer.headers["etag"], wait="0.2", until="change")
    assert (same.status_code, same.content, same.headers["x-wait"]) == (304, b"", "timeout")


def test_a_change_is_anything_newer_than_what_is_known(here: World) -> None:
    identity = here.send()[1][0]
    first = here.api.get(f"/v1/messages/{identity}").headers["etag"]
    waiter = Waiter(here, identity, known=first, wait="60", until="change")
    here.told(identity, "Clicked")
    answer = waiter.answered()
    assert (answer.headers["x-wait"], answer.json()["clicks"], answer.json()["state"]) == ("met", 1, "accepted")
    late, _ = ask(here, identity, known=first, wait="60", until="change")
    assert (late.headers["x-wait"], late.json()["clicks"]) == ("met", 1), "what changed before it was asked counts"
    waiter = Waiter(here, identity, wait="60", until="change")
    here.told(identity, "Submitted")
    assert waiter.answered().json()["state"] == "submitted"


def test_a_waiter_for_an_observed_message_that_turns_out_to_be_ours_follows_it(here: World) -> None:
    transid = "T-447700866660"
    assert tell(here.receiver.notify_url(), receipt("Submitted", "7501", "447700866660", transid=transid)) == 200
    observed = here.api.get("/v1/messages", params={"transid": transid}).json()["messages"][0]["id"]
    waiter = Waiter(here, observed, wait="60", until="final")
    _, ids = here.send_to("447700866660")
    eventually(lambda: here.get(observed)["merged_from"] == observed)
    here.told(ids[0], "Delivered", number="447700866660")
    answer = waiter.answered().json()
    assert (answer["id"], answer["merged_from"], answer["state"]) == (ids[0], observed, "delivered")


def test_an_unknown_message_is_not_waited_for(here: World) -> None:
    identity = here.send()[1][0]
    answer = here.stranger.get(f"/v1/messages/{identity}", params={"wait": "60"})
    assert (answer.status_code, answer.json()["code"]) == (404, "message_not_found")


def test_who_hangs_up_takes_nobody_s_place(here: World) -> None:
    identity = here.send()[1][0]
    before = waiting(here.receiver)
    with pytest.raises(httpx2.ReadTimeout), here.receiver.client(here.key) as client:
        client.get(f"/v1/messages/{identity}", params={"wait": "60"}, timeout=1)
    eventually(lambda: waiting(here.receiver) == before)


def test_a_key_that_is_revoked_while_its_client_waits_learns_nothing_more(here: World) -> None:
    identity = here.send()[1][0]
    key = here.receiver.database.key("read")
    waiter = Waiter(replace(here, key=key), identity, wait="60", until="final")
    here.receiver.database.fetch(
        "update api_key set revoked_at = now() where prefix = $1", "_".join(key.split("_")[:2])
    )
    with here.receiver.client(key) as client:
        eventually(lambda: client.get(f"/v1/messages/{identity}").status_code == 401)
    here.told(identity, "Delivered")
    answer = waiter.answered()
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_hundreds_wait_and_whoever_asks_is_still_answered_quickly(here: World) -> None:
    ids = list(itertools.chain.from_iterable(here.send(60)[1] for _ in range(WAITERS // 60)))

    async def work() -> tuple[list[httpx2.Response], list[float], int]:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        headers = {"authorization": f"Bearer {here.key}"}
        async with httpx2.AsyncClient(
            base_url=here.receiver.url, headers=headers, trust_env=False, timeout=60, limits=limits
        ) as client:
            waiters = [
                asyncio.create_task(client.get(f"/v1/messages/{one}", params={"wait": "60", "until": "final"}))
                for one in ids
            ]
            deadline = time.monotonic() + 40
            while await asyncio.to_thread(waiting, here.receiver) < len(ids):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            await client.get(f"/v1/messages/{ids[0]}")
            took = []
            for one in ids[:20]:
                began = time.monotonic()
                assert (await client.get(f"/v1/messages/{one}")).status_code == 200
                took.append(time.monotonic() - began)
            connections = await asyncio.to_thread(_connections, here)
            for one in ids:
                body = receipt("Delivered", "7500", "447700900000", correlationid=one)
                assert (await client.post(here.receiver.notify_url(), json=body)).status_code == 200
            return await asyncio.gather(*waiters), took, connections

    answers, took, connections = asyncio.run(work())
    assert {answer.json()["state"] for answer in answers} == {"delivered"}
    assert {answer.headers["x-wait"] for answer in answers} == {"met"}
    assert [answer.json()["id"] for answer in answers] == ids
    assert sorted(took)[len(took) // 2] < 0.5, took
    assert connections <= 8


def _connections(here: World) -> int:
    """How many connections the readers of all processes have on this database."""
    return int(
        here.receiver.database.value(
            "select count(*) from pg_stat_activity where application_name = 'receiver queries'"
            " and datname = current_database() and state <> 'idle'"
        )
    )


def test_too_many_waiters_are_told_so_and_at_the_end_all_are_answered_at_once(
    postgres: str, template: str, tmp_path: Path
) -> None:
    with world(postgres, template, tmp_path, "waiting_end", RECEIVER_WAITERS="2") as here:
        identity = here.send()[1][0]
        waiters = [Waiter(here, identity, wait="60") for _ in range(2)]
        refused, _ = ask(here, identity, wait="60")
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_waiters")
        assert int(refused.headers["retry-after"]) > 0
        assert here.get(identity)["state"] == "accepted", "who does not wait is answered"
        began = time.monotonic()
        os.kill(here.receiver.process.pid, signal.SIGTERM)
        for waiter in waiters:
            answer = waiter.answered()
            assert (answer.status_code, answer.headers["x-wait"]) == (200, "draining")
            assert answer.json()["state"] == "accepted"
        assert here.receiver.process.wait(20) == 0
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("wait", ["0.5", "60.0", "60", "0.0001", "1e1", "5E-1", "00.5"])
def test_any_spelling_of_a_number_of_seconds_is_taken(wait: str) -> None:
    assert read_wish(QueryParams({"wait": wait})) == (float(wait), Until.FINAL)


@pytest.mark.parametrize(
    "wait", ["0", "0e9", "60.001", "9e999", "-1", "nan", "inf", "1_0", " 1", "5.", "\u0661", "0x1"]
)
def test_what_is_no_number_of_seconds_is_named(wait: str) -> None:
    with pytest.raises(Problem) as refused:
        read_wish(QueryParams({"wait": wait}))
    assert [error.pointer for error in refused.value.errors] == ["wait"]


class Hall:
    """Some who wait for one message in a room of their own: nothing changes but what the test says."""

    def __init__(self) -> None:
        self.identity = new_id()
        self.room = WaitingRoom(300)
        self.change, self.hang_up, self.answer = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.answer.set()
        self.reads = 0
        self.state = State.ACCEPTED

    @asynccontextmanager
    async def listen(self, identity: UUID) -> AsyncIterator["Hall"]:
        yield self

    async def changed(self, seconds: float) -> bool:
        await self.change.wait()
        self.change.clear()
        return True

    async def read(self) -> Whole:
        self.reads += 1
        await self.answer.wait()
        row: Any = {"id": self.identity}
        return Whole(row, (), False, (), None, (), Mark(self.state, Channel.SMS, Fact(0), None, '"1"'))

    async def receive(self) -> dict[str, str]:
        await self.hang_up.wait()
        return {"type": "http.disconnect"}

    def waiter(self, seconds: float, alike: object = None) -> "asyncio.Task[tuple[Whole, Ended]]":
        wish, request = (seconds, Until.FINAL), Request({"type": "http"}, self.receive)
        return asyncio.create_task(
            self.room.wait(self, self.read, self.identity, wish, frozenset(), request, alike=alike or object())
        )

    async def until_read(self, times: int) -> None:
        for _ in range(1_000):
            await asyncio.sleep(0)
        assert self.reads == times


def test_one_who_looks_again_when_the_process_ends_holds_up_nobody() -> None:
    async def scenario() -> None:
        hall = Hall()
        waiters = [hall.waiter(60)]
        await hall.until_read(1)
        hall.answer.clear()
        hall.change.set()
        await hall.until_read(2)  # and has no answer yet
        hall.answer.set()
        waiters += [hall.waiter(60) for _ in range(5)]
        hall.answer.clear()
        await hall.room.close()
        hall.answer.set()
        answers = await asyncio.wait_for(asyncio.gather(*waiters), 5)
        assert {ended for _, ended in answers} == {Ended.DRAINING}

    asyncio.run(scenario())


def test_those_whom_one_change_wakes_share_one_look_and_none_takes_an_older_one() -> None:
    async def scenario() -> None:
        hall = Hall()
        waiters = [hall.waiter(60, "alike") for _ in range(200)]
        await hall.until_read(1)
        hall.change.set()
        await hall.until_read(2)
        hall.answer.clear()
        hall.change.set()
        await hall.until_read(3)  # and has no answer yet
        waiters += [hall.waiter(60, "alike") for _ in range(20)]
        await hall.until_read(4)  # the look that is under way may be older than what they wait for
        waiters += [hall.waiter(60, f"of their own {n}") for n in range(2)]
        await hall.until_read(6)
        hall.answer.set()
        await hall.until_read(6)
        hall.state = State.DELIVERED
        hall.change.set()
        answers = await asyncio.wait_for(asyncio.gather(*waiters), 5)
        assert {ended for _, ended in answers} == {Ended.MET}
        assert hall.reads == 9, "one of all that are alike, and one of each of the two"

    asyncio.run(scenario())


def test_one_whose_time_is_up_in_the_moment_in_which_the_process_ends_holds_up_nobody() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        hall, began = Hall(), loop.time()
        waiters = [hall.waiter(0.5), hall.waiter(60)]
        ends: list[asyncio.Task[None]] = []
        loop.call_at(began + 0.3, time.sleep, 0.5)  # so that what follows is due at once
        loop.call_at(began + 0.4, lambda: ends.append(asyncio.create_task(hall.room.close())))
        answers = await asyncio.wait_for(asyncio.gather(*waiters), 5)
        assert answers[1][1] is Ended.DRAINING
        await ends[0]

    asyncio.run(scenario())

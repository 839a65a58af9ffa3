"""Several processes: duties move when their holder dies, roles and ports are split, one port is shared."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from receiver.access.tokens import NotifyTokens
from receiver.database.leases import EVERY_SECONDS, LOOK_SECONDS, TTL_SECONDS
from tests.doors.telling import delivered
from tests.sending.platforms import queued, recording_platform, sms
from tests.support import SECRET, Database, Receiver, eventually, free_port, receiver_process

DUTIES = ("partitions", "quarantine")


def held(receiver: Receiver) -> int:
    """How many duties the process says that it does."""
    text = httpx2.get(f"{receiver.url}/metrics", trust_env=False, timeout=20).text
    found = [line for line in text.splitlines() if line.startswith("receiver_duty_held{")]
    assert len(found) >= len(DUTIES)
    return sum(line.endswith(" 1.0") for line in found)


@pytest.fixture
def two(database: Database, tmp_path: Path) -> Iterator[tuple[Receiver, Receiver]]:
    """Two receivers on one database; the first one does the duties."""
    with ExitStack() as stack:
        first = stack.enter_context(receiver_process(database, tmp_path))
        eventually(lambda: held(first) >= len(DUTIES))
        second = stack.enter_context(receiver_process(database, tmp_path))
        assert held(second) == 0
        yield first, second


def test_a_killed_holder_is_replaced_within_ten_seconds(two: tuple[Receiver, Receiver]) -> None:
    first, second = two
    assert TTL_SECONDS + EVERY_SECONDS + 2 * LOOK_SECONDS < 10
    eventually(lambda: "receiver_partition_days_ahead 2" in _figures(first))
    assert "receiver_partition_days_ahead NaN" in _figures(second)
    first.process.kill()
    began = time.monotonic()
    eventually(lambda: held(second) >= len(DUTIES))
    eventually(lambda: "receiver_partition_days_ahead 2" in _figures(second))
    assert time.monotonic() - began < 10, "it holds the duty, and does it"


def test_a_stopped_holder_is_replaced_and_knows_it_when_it_wakes(two: tuple[Receiver, Receiver]) -> None:
    first, second = two
    os.kill(first.process.pid, signal.SIGSTOP)
    try:
        eventually(lambda: held(second) >= len(DUTIES))
    finally:
        os.kill(first.process.pid, signal.SIGCONT)
    assert held(first) == 0, "by its own clock, before it has asked the database"
    assert held(second) >= len(DUTIES)


def test_who_ends_well_hands_over_at_once(two: tuple[Receiver, Receiver]) -> None:
    first, second = two
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(20) == 0
    eventually(lambda: held(second) >= len(DUTIES), TTL_SECONDS - 2)


def _figures(receiver: Receiver) -> str:
    return httpx2.get(f"{receiver.url}/metrics", trust_env=False, timeout=20).text


def test_each_role_in_a_process_of_its_own(database: Database, tmp_path: Path) -> None:
    with ExitStack() as stack:
        platform = stack.enter_context(recording_platform())
        platform.reply = lambda _: queued("t-1")
        notify, api, dispatch, upkeep = (
            stack.enter_context(receiver_process(database, tmp_path, platform_url=platform.url, RECEIVER_ROLES=role))
            for role in ("notify", "api", "dispatch", "upkeep")
        )
        key = database.key()
        for one in (notify, api, dispatch, upkeep):
            with one.client(key) as client:
                assert client.get("/livez").status_code == 200
                assert client.get("/openapi.json").status_code == 200
                assert client.get("/v1/messages").status_code == (200 if one is api else 404)
                assert client.get(one.notify_url()).status_code == (200 if one is notify else 404)
                assert ("receiver_duty_held{" in client.get("/metrics").text) is (one is upkeep)
        with api.client(key) as client:
            message = client.post("/v1/messages", json=sms("447700900001")).json()["messages"][0]["id"]
            began = time.monotonic()
            eventually(lambda: client.get(f"/v1/messages/{message}").json()["state"] == "accepted")
            assert time.monotonic() - began < 5, "the dispatcher looks twice a second"
            answer = client.post(
                "/resources/v1/messaging", json=sms("447700900002"), headers={"authorization": "", "key": key}
            )
            assert answer.json()["response"][0]["code"] == "1001", "the process of the drop-in door calls itself"
        assert len(platform.calls) == 2
        with notify.client() as client:
            assert client.post(notify.notify_url(), content=delivered("told")).status_code == 200
        assert _connections(database, "queries", "sending", "forwarding") == {"sending", "queries", "forwarding"}
        for one in (notify, api, dispatch, upkeep):
            one.process.send_signal(signal.SIGTERM)
        assert [one.process.wait(20) for one in (notify, api, dispatch, upkeep)] == [0, 0, 0, 0]


def _connections(database: Database, *names: str) -> set[str]:
    rows = database.fetch("select distinct application_name from pg_stat_activity where datname = current_database()")
    return {row[0].removeprefix("receiver ") for row in rows} & set(names)


def test_the_receipts_door_on_a_port_of_its_own(database: Database, tmp_path: Path) -> None:
    port = free_port()
    with receiver_process(database, tmp_path, RECEIVER_NOTIFY_PORT=str(port)) as receiver:
        outside = f"http://127.0.0.1:{port}"
        token = NotifyTokens(SECRET).sign("default")
        with httpx2.Client(trust_env=False) as client:
            for path in (
                "/",
                "/livez",
                "/readyz",
                "/metrics",
                "/openapi.json",
                "/v1/messages",
                "/resources/v1/messaging",
            ):
                answer = client.get(outside + path)
                assert (answer.status_code, answer.text) == (404, "not found\n"), path
            assert client.post(f"{outside}/notify/{token}", content=delivered("outside")).status_code == 200
            assert client.head(f"{outside}/notify/{token}").status_code == 200
            for near in ("/notify", "/Notify/x", "//notify/x", "/notify/x/y"):
                assert client.post(outside + near, content=b"{}").status_code == 401, near
            assert client.post(receiver.notify_url(), content=delivered("inside")).status_code == 404
            for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
                assert client.get(receiver.url + path).status_code == 200, path
    assert database.value("select count(*) from receipt") == 1


def test_several_processes_share_a_port(database: Database, tmp_path: Path) -> None:
    shared = {"RECEIVER_PORT": str(free_port()), "RECEIVER_REUSE_PORT": "yes"}
    with ExitStack() as stack:
        first, second = (stack.enter_context(receiver_process(database, tmp_path, **shared)) for _ in range(2))
        eventually(lambda: len({_whoever_answers(first) for _ in range(20)}) == 2)
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(20) == 0
        with second.client() as client:
            assert client.post(second.notify_url(), content=delivered("told")).status_code == 200


def _whoever_answers(receiver: Receiver) -> str:
    """Tells the processes behind a port apart: one of them has the duty."""
    text = httpx2.get(f"{receiver.url}/metrics", trust_env=False).text
    return next(line for line in text.splitlines() if line.startswith("receiver_duty_held{"))


def test_without_that_a_taken_port_is_one_sentence(database: Database, tmp_path: Path) -> None:
    with receiver_process(database, tmp_path) as receiver:
        port = receiver.url.rpartition(":")[2]
        # `up` would be answered by the first one; so only the end of the second can end the wait
        second = receiver_process(database, tmp_path, up="/nothing", RECEIVER_PORT=port)
        with pytest.raises(AssertionError, match=f"port {port} on 127.0.0.1 is taken"), second:
            pass


def test_one_that_refuses_to_serve_takes_no_call_from_those_that_share_its_port(
    database: Database, tmp_path: Path
) -> None:
    shared = {"RECEIVER_PORT": str(free_port()), "RECEIVER_REUSE_PORT": "yes"}
    over, told = threading.Event(), []

    def ask(url: str) -> None:
        while not over.is_set():
            try:
                told.append(str(httpx2.get(url, trust_env=False, timeout=20).status_code))
            except httpx2.HTTPError as error:
                told.append(type(error).__name__)

    with receiver_process(database, tmp_path, **shared) as receiver:
        asking = threading.Thread(target=ask, args=(f"{receiver.url}/livez",))
        asking.start()
        try:
            newcomer = receiver_process(Database(database.server, "nosuch"), tmp_path, up="/nothing", **shared)
            with pytest.raises(AssertionError, match="does not exist"), newcomer:
                pass
        finally:
            over.set()
            asking.join()
    assert set(told) == {"200"}

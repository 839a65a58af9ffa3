"""Postgres goes away and comes back, or is not there yet: nobody has to restart anything, and every end is in time."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from receiver.database.embedded import visiting
from receiver.database.migrate import migrate
from tests.conftest import BINARIES
from tests.journey.trouble.own_postgres import OwnPostgres, clone, own_postgres
from tests.receipts.tellings import body
from tests.sending.platforms import recording_platform, sms
from tests.support import (
    SECRET,
    Database,
    Receiver,
    environment_of,
    eventually,
    free_port,
    receiver_command,
    receiver_process,
    run,
)


def delivered(number: int) -> bytes:
    info = {"deliveryChannel": "SMS", "deliveryStatus": "Delivered", "destination": "447700900001"}
    return body(info, f"away-{number}")


def tell(url: str, number: int) -> httpx2.Response:
    return httpx2.post(url, content=delivered(number), trust_env=False, timeout=20)


def test_while_postgres_is_away_the_door_says_503_and_afterwards_200_again(tmp_path: Path) -> None:
    folder, binaries = tmp_path / "data", Path(BINARIES) if BINARIES else None
    os.chmod(tmp_path, 0o755)
    with visiting(folder, binaries=binaries) as cluster:
        database = Database(cluster.dsn, "receiver")
        run(migrate(database.dsn))
    with visiting(folder, binaries=binaries):
        running = receiver_process(database, tmp_path, RECEIVER_SPOOL="off")
        receiver = running.__enter__()
        assert tell(receiver.notify_url(), 1).status_code == 200
    try:
        refused = tell(receiver.notify_url(), 2)
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        with receiver.client(key="rk_0123456789ab_x") as client:
            assert client.get("/readyz").status_code == 503
            assert client.get("/livez").status_code == 200
            assert client.get("/v1/messages").status_code == 503
            assert client.get("/metrics").status_code == 200
        with visiting(folder, binaries=binaries):
            eventually(lambda: tell(receiver.notify_url(), 2).status_code == 200)
            eventually(lambda: httpx2.get(f"{receiver.url}/readyz", trust_env=False).status_code == 200)
            assert database.value("select count(*) from receipt") == 2
            assert receiver.process.poll() is None
    finally:
        running.__exit__(None, None, None)
    assert receiver.process.returncode == 0
    assert "Traceback" not in receiver.log.read_text()


@pytest.fixture
def postgres_of_its_own(tmp_path: Path) -> Iterator[OwnPostgres]:
    with own_postgres(tmp_path / "data") as postgres:
        yield postgres


def warnings(receiver: Receiver) -> str:
    return " ".join(httpx2.get(f"{receiver.url}/readyz", trust_env=False, timeout=20).json()["warnings"])


def test_it_starts_without_postgres_and_goes_on_when_it_comes(postgres_of_its_own: OwnPostgres, tmp_path: Path) -> None:
    postgres = postgres_of_its_own
    database = Database(postgres.dsn, "receiver")
    key = database.key()
    postgres.stop()
    with receiver_process(database, tmp_path, up="/livez", RECEIVER_SPOOL="off") as receiver:
        assert tell(receiver.notify_url(), 1).status_code == 503
        assert "does not answer" in warnings(receiver)
        with receiver.client(key) as api:
            for path in ("/v1/messages", "/v1/quarantine"):
                assert (api.get(path).status_code, api.get(path).json()["code"]) == (503, "database_away")
            sent = api.post("/v1/messages", json=sms("447700900001"))
            assert (sent.status_code, sent.json()["code"]) == (503, "database_away")
            dropped_in = api.post("/resources/v1/messaging", json=sms("447700900001"), headers={"key": key})
            assert (dropped_in.status_code, dropped_in.json()["response"]["code"]) == (503, "7006")
            assert api.get("/metrics").status_code == 200
            postgres.start()
            eventually(lambda: httpx2.get(f"{receiver.url}/readyz", trust_env=False).status_code == 200)
            assert api.get("/v1/messages").status_code == 200
            assert api.post("/v1/messages", json=sms("447700900001")).status_code == 202
        assert tell(receiver.notify_url(), 1).status_code == 200
        assert "does not answer" not in warnings(receiver)
        assert database.value("select count(*) from receipt") == 1
    assert receiver.process.returncode == 0
    assert "Traceback" not in receiver.log.read_text()


def test_an_older_schema_at_the_start_is_an_error_and_later_a_warning(
    postgres_of_its_own: OwnPostgres, tmp_path: Path
) -> None:
    postgres = postgres_of_its_own
    Database(postgres.dsn, "receiver").fetch("create database empty")
    empty = Database(postgres.dsn, "empty")
    with pytest.raises(AssertionError, match="receiver: the database is empty"), receiver_process(empty, tmp_path):
        pass
    with pytest.raises(AssertionError, match=r"receiver: the database .* does not exist"):
        receiver_process(Database(postgres.dsn, "missing"), tmp_path).__enter__()
    wrong = Database(postgres.dsn.replace(postgres.password, "wrong"), "empty")
    with pytest.raises(AssertionError, match="check the user and the password") as refused:
        receiver_process(wrong, tmp_path).__enter__()
    assert "wrong" not in str(refused.value), "the password stays out of the words"
    postgres.stop()
    with receiver_process(empty, tmp_path, up="/livez", RECEIVER_SPOOL="off") as receiver:
        postgres.start()
        eventually(lambda: "the database is empty" in warnings(receiver))
        assert receiver.process.poll() is None
        with receiver.client("rk_0123456789ab_x") as api:
            assert api.get("/v1/messages").status_code == 503
            run(migrate(empty.dsn))
            eventually(lambda: api.get("/readyz").status_code == 200)
            assert api.get("/v1/messages").status_code == 401
        assert receiver.log.read_text().count("the database is empty") == 1, "told once, not at each try"


def test_everybody_reconnects_after_postgres_was_killed(postgres_of_its_own: OwnPostgres, tmp_path: Path) -> None:
    database = clone(postgres_of_its_own, "killed")
    key = database.key()
    with recording_platform() as platform, receiver_process(database, tmp_path, platform_url=platform.url) as receiver:
        with receiver.client(key) as api:
            assert api.post("/v1/messages", json=sms("447700900001")).status_code == 202
            eventually(lambda: len(platform.calls) == 1 and _duties(api) == {"1.0"})
            postgres_of_its_own.kill()
            assert api.get("/v1/messages").status_code == 503
            eventually(lambda: _duties(api) == {"0.0"})
            postgres_of_its_own.start()
            eventually(lambda: api.post("/v1/messages", json=sms("447700900002")).status_code == 202)
            eventually(lambda: len(platform.calls) >= 2)
            eventually(lambda: _duties(api) == {"1.0"})
            eventually(lambda: tell(receiver.notify_url(), 1).status_code == 200)
            eventually(lambda: api.get("/v1/messages").json()["messages"][0]["state"] == "delivered")
        assert receiver.process.poll() is None
        assert "Traceback" not in receiver.log.read_text()


def _duties(api: httpx2.Client) -> set[str]:
    lines = api.get("/metrics").text.splitlines()
    return {line.split()[1] for line in lines if line.startswith("receiver_duty_held{")}


@pytest.mark.parametrize("trouble", ["stopped", "frozen"])
def test_it_ends_in_time_while_postgres_is(trouble: str, postgres_of_its_own: OwnPostgres, tmp_path: Path) -> None:
    postgres = postgres_of_its_own
    database = clone(postgres, trouble)
    with recording_platform() as platform:
        with receiver_process(database, tmp_path, platform_url=platform.url) as receiver:
            with receiver.client(database.key()) as api:
                assert api.post("/v1/messages", json=sms("447700900001")).status_code == 202
            assert tell(receiver.notify_url(), 1).status_code == 200
            eventually(lambda: platform.calls)
            (postgres.stop if trouble == "stopped" else postgres.freeze)()
            with contextlib.suppress(httpx2.HTTPError):  # a receipt on its way, whatever becomes of it
                httpx2.post(receiver.notify_url(), content=delivered(2), trust_env=False, timeout=0.2)
            began = time.monotonic()
            receiver.process.send_signal(signal.SIGTERM)
            assert receiver.process.wait(30) == 0
            assert time.monotonic() - began < 20.5
            postgres.thaw()
        assert "end_hangs" not in receiver.log.read_text(), "in good order, and not by force"


def refuses(url: str) -> bool:
    try:
        httpx2.get(f"{url}/livez", trust_env=False)
    except httpx2.HTTPError:
        return True
    return False


def test_a_second_signal_leaves_at_once_while_postgres_is_frozen(
    postgres_of_its_own: OwnPostgres, tmp_path: Path
) -> None:
    with receiver_process(clone(postgres_of_its_own, "twice"), tmp_path) as receiver:
        postgres_of_its_own.freeze()
        with contextlib.suppress(httpx2.HTTPError):
            httpx2.post(receiver.notify_url(), content=delivered(2), trust_env=False, timeout=0.2)
        receiver.process.send_signal(signal.SIGTERM)
        eventually(lambda: refuses(receiver.url))
        began = time.monotonic()
        receiver.process.send_signal(signal.SIGTERM)
        assert receiver.process.wait(30) == 0
        assert time.monotonic() - began < 8, "not the whole grace"
        postgres_of_its_own.thaw()


def test_a_signal_while_it_starts_ends_it_with_0(tmp_path: Path) -> None:
    with socket.socket() as silent:  # a server that takes connections and says nothing: the first try lasts
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        variables = {
            "RECEIVER_DATABASE_URL": f"postgresql://receiver@127.0.0.1:{silent.getsockname()[1]}/receiver",
            "RECEIVER_PUBLIC_URL": "https://receiver.example",
            "RECEIVER_PORT": str(free_port()),
            "RECEIVER_SECRET": SECRET,
            "RECEIVER_SPOOL": "off",
        }
        log = tmp_path / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*receiver_command(), "serve"], env=environment_of(**variables), stdout=output, stderr=output
            )
        try:
            silent.settimeout(30)
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
        assert "Traceback" not in log.read_text()

"""The spool of real processes: one that never saw Postgres, one that was killed, and the commands for what is left."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx2

from tests.receipts.spooling import delivered
from tests.support import (
    SECRET,
    Database,
    Receiver,
    environment_of,
    eventually,
    free_port,
    receiver_command,
    receiver_process,
)


def tell(receiver: Receiver, *numbers: int) -> list[int]:
    """The status of each answer."""
    with httpx2.Client(trust_env=False, timeout=20) as http:
        return [http.post(receiver.notify_url(), content=delivered(number)).status_code for number in numbers]


def command(dsn: str, folder: Path, *words: str) -> Any:
    """The JSON that `receiver spool …` prints."""
    environment = environment_of(RECEIVER_DATABASE_URL=dsn, RECEIVER_SPOOL=str(folder), RECEIVER_SECRET=SECRET)
    told = subprocess.run(
        [*receiver_command(), "spool", *words, "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def away() -> str:
    """The address of a Postgres that does not answer."""
    return f"postgresql://receiver:a-password@127.0.0.1:{free_port()}/receiver"


def test_a_receiver_that_never_saw_postgres_takes_receipts_and_what_it_leaves_is_drained_by_command(
    database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "spool"
    settings = {"RECEIVER_DATABASE_URL": away(), "RECEIVER_SPOOL": str(folder)}
    with receiver_process(database, tmp_path, **settings) as receiver:
        assert tell(receiver, *range(20)) == [200] * 20
        with receiver.client() as http:
            ready = http.get("/readyz")
            assert (ready.status_code, ready.json()["ready"]) == (200, True)
            assert any("20 receipts wait in the spool" in warning for warning in ready.json()["warnings"])
            scraped = http.get("/metrics").text
            assert "receiver_spool_bodies 20.0" in scraped
            assert "receiver_spool_taken_total 20.0" in scraped
        [file] = command(database.dsn, folder, "show")["files"]
        assert file["held_by"].endswith(f":{receiver.process.pid}")
        left = command(database.dsn, folder, "drain")
        assert (left["drained"], list(left["held_by_others"])) == (0, [file["file"]])
        receiver.process.kill()
        receiver.process.wait(10)
    [file] = command(database.dsn, folder, "show")["files"]
    assert (file["bodies"], file["held_by"]) == (20, None)
    assert command(database.dsn, folder, "drain")["drained"] == 20
    assert command(database.dsn, folder, "drain")["drained"] == 0
    assert command(database.dsn, folder, "show")["files"] == []
    assert database.value("select count(*) from receipt") == 20
    assert database.value("select sum(received) from intake where feed = 1") == 20


def test_what_waits_at_a_sigterm_is_drained_by_the_next_receiver(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    settings = {"RECEIVER_SPOOL": str(folder)}
    with receiver_process(database, tmp_path, RECEIVER_DATABASE_URL=away(), **settings) as receiver:
        assert tell(receiver, *range(5)) == [200] * 5
        receiver.process.send_signal(signal.SIGTERM)
        assert receiver.process.wait(20) == 0
    assert "Traceback" not in receiver.log.read_text()
    with receiver_process(database, tmp_path, **settings) as receiver:
        eventually(lambda: database.value("select count(*) from receipt") == 5)
        assert tell(receiver, 6) == [200]
    assert list(folder.iterdir()) == []


def test_without_a_spool_the_door_says_503(database: Database, tmp_path: Path) -> None:
    port = free_port()
    environment = environment_of(
        RECEIVER_DATABASE_URL=away(),
        RECEIVER_SPOOL="off",
        RECEIVER_SECRET=SECRET,
        RECEIVER_PORT=str(port),
        RECEIVER_PUBLIC_URL="https://receiver.example",
    )
    process = subprocess.Popen([*receiver_command(), "serve"], env=environment, stderr=subprocess.DEVNULL)
    receiver = Receiver(f"http://127.0.0.1:{port}", process, database, tmp_path)
    try:
        eventually(lambda: answers(receiver))
        assert tell(receiver, 1) == [503]
        with receiver.client() as http:
            assert http.get("/readyz").status_code == 503
    finally:
        process.kill()
        process.wait(10)


def answers(receiver: Receiver) -> bool:
    try:
        with receiver.client() as http:
            return http.get("/livez").status_code == 200
    except httpx2.HTTPError:
        return False

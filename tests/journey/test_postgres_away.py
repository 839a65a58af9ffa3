"""Postgres goes away and comes back: no receipt is acknowledged in between, and nobody has to restart anything."""

import os
import signal
from pathlib import Path

import httpx2

from receiver.database.embedded import visiting
from receiver.database.migrate import migrate
from tests.conftest import BINARIES
from tests.receipts.tellings import body
from tests.support import Database, eventually, receiver_process, run


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
        running = receiver_process(database, tmp_path)
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


def test_a_receiver_whose_embedded_postgres_was_killed_ends_with_1(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    os.chmod(tmp_path, 0o755)
    with visiting(folder) as cluster:
        run(migrate(cluster.dsn))
    environment = {"RECEIVER_DATABASE_URL": "", "RECEIVER_DATA_DIR": str(folder)}
    with receiver_process(Database("", ""), tmp_path, **environment) as receiver:
        pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        assert receiver.process.wait(30) == 1
    assert "embedded Postgres has ended" in receiver.log.read_text()

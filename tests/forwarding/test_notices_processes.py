"""Receivers as processes: from a receipt to the address for failures, one or two of them, and killed in between."""

import json
import signal
from pathlib import Path

import httpx2

from tests.forwarding.clients import ClientServer, client_server, delivered
from tests.forwarding.noticing import SECRET, failed
from tests.support import Database, Receiver, eventually, receiver_process

SECRET_PATH = "/services/T0/a-secret-path"


def settings(client: ClientServer) -> dict[str, str]:
    return {
        "RECEIVER_FAILURE_URL": f"{client.url}{SECRET_PATH}",
        "RECEIVER_FAILURE_SECRET": SECRET,
        "RECEIVER_FAILURE_ALSO": "observed",
        "RECEIVER_FORWARD_ALLOW": "127.0.0.1",
    }


def fail(receiver: Receiver, *names: str) -> None:
    """Messages that others have sent fail."""
    for name in names:
        assert httpx2.post(receiver.notify_url(), content=failed(name), trust_env=False).status_code == 200


def told(client: ClientServer) -> list[str]:
    """Of which of them the client was told."""
    return [json.loads(body)["correlationid"] for body in client.bodies]


def begun(database: Database) -> bool:
    """Whether failures are looked for from now on."""
    return bool(database.value("select count(*) from noticed"))


def test_each_failure_is_told_by_one_of_two_processes_though_the_first_is_killed(
    database: Database, tmp_path: Path
) -> None:
    with client_server() as client, receiver_process(database, tmp_path, **settings(client)) as first:
        eventually(lambda: begun(database))
        with receiver_process(database, tmp_path, **settings(client)) as second:
            names = [f"theirs-{n}" for n in range(30)]
            fail(first, *names[:10])
            eventually(lambda: len(client.told) >= 5, seconds=40)
            fail(second, *names[10:20])
            first.process.send_signal(signal.SIGKILL)
            first.process.wait()
            fail(second, *names[20:])
            fail(second, *names[20:])
            # what the first one was about to tell has its lease; nobody waits for that here
            database.fetch("update forward set lease_until = lease_until - interval '1 minute'")
            eventually(lambda: set(told(client)) == set(names), seconds=40)
            eventually(lambda: database.value("select count(*) from forward") == 0)
            notices = {json.loads(body)["notice"] for body in client.bodies}
            assert len(notices) == 30, "told again it is the same notice"
            figures = httpx2.get(f"{second.url}/metrics", trust_env=False).text
            assert 'receiver_failure_notices_total{result="taken",tenant="default"}' in figures
            assert 'receiver_duty_held{duty="failure notices"} 1.0' in figures
        for receiver in (first, second):
            logged = receiver.log.read_text()
            assert SECRET_PATH not in logged
            assert SECRET not in logged
            assert "447700900001" not in logged


def test_what_failed_while_nobody_ran_is_told_later(database: Database, tmp_path: Path) -> None:
    with client_server() as client:
        with receiver_process(database, tmp_path, **settings(client)) as receiver:
            eventually(lambda: begun(database))
            fail(receiver, "theirs-1")
            eventually(lambda: told(client) == ["theirs-1"])
        with receiver_process(database, tmp_path, RECEIVER_ROLES="notify") as only_hears:
            fail(only_hears, "theirs-2")
        assert database.value("select count(*) from forward") == 0
        with receiver_process(database, tmp_path, **settings(client)):
            eventually(lambda: told(client) == ["theirs-1", "theirs-2"])


def test_without_the_setting_the_log_is_not_looked_at(database: Database, tmp_path: Path) -> None:
    with receiver_process(database, tmp_path) as receiver:
        fail(receiver, "theirs-1")
        assert httpx2.post(receiver.notify_url(), content=delivered("t-1"), trust_env=False).status_code == 200
        eventually(lambda: database.value("select count(*) from duty where name = 'statistics'"))
        assert database.value("select count(*) from duty where name = 'failure notices'") == 0
        assert not begun(database)

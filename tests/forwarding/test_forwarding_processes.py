"""A receiver as a process: from the receipts door to the client's address, and killed in between."""

import signal
from pathlib import Path

import httpx2

from tests.forwarding.clients import client_server, delivered
from tests.support import Database, eventually, receiver_process


def test_a_receipt_that_was_acknowledged_goes_on_though_the_process_was_killed(
    database: Database, tmp_path: Path
) -> None:
    with client_server() as client:
        client.answers["/x"] = lambda: None  # it hangs: the process is killed with the call under way
        settings = {"RECEIVER_FORWARD_TO": f"{client.url}/x", "RECEIVER_FORWARD_ALLOW": "127.0.0.1"}
        bodies = [delivered(f"t-{n}") for n in range(20)]
        with receiver_process(database, tmp_path, **settings) as receiver:
            for body in bodies:
                assert httpx2.post(receiver.notify_url(), content=body, trust_env=False).status_code == 200
            eventually(lambda: client.told)
            receiver.process.send_signal(signal.SIGKILL)
            receiver.process.wait()
        assert database.value("select count(*) from forward where lease_until is not null") > 0
        del client.answers["/x"]
        client.told.clear()
        database.fetch("update forward set lease_until = lease_until - interval '1 minute'")  # their leases run out
        with receiver_process(database, tmp_path, **settings) as receiver:
            eventually(lambda: database.value("select count(*) from forward") == 0)
            assert {telling.raw for telling in list(client.told)} == set(bodies)
            figures = httpx2.get(f"{receiver.url}/metrics", trust_env=False).text
            assert 'receiver_forwards_total{result="taken",tenant="default"} 20.0' in figures


def test_a_host_that_is_left_alone_stands_in_the_warnings(database: Database, tmp_path: Path) -> None:
    settings = {"RECEIVER_FORWARD_TO": "http://127.0.0.1:9/a-secret-path", "RECEIVER_FORWARD_ALLOW": "127.0.0.1"}
    with receiver_process(database, tmp_path, **settings) as receiver:
        for n in range(8):
            httpx2.post(receiver.notify_url(), content=delivered(f"t-{n}"), trust_env=False)

        def warned() -> bool:
            text = httpx2.get(f"{receiver.url}/readyz", trust_env=False).text
            assert "secret" not in text
            return "receipts or notices do not reach http://127.0.0.1:9:" in text

        eventually(warned)
    assert "a-secret-path" not in receiver.log.read_text()

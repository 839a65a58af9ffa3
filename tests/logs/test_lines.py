"""What a running receiver writes: JSON and nothing else where nobody watches, readable lines at a terminal."""

import json
import os
import pty
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from tests.sending.platforms import sms
from tests.support import (
    PLATFORM_KEY,
    SECRET,
    Database,
    Receiver,
    environment_of,
    eventually,
    free_port,
    receiver_command,
    receiver_process,
)

NUMBER = "447700900077"


def events(receiver: Receiver) -> list[dict[str, Any]]:
    """Every line as JSON; a line that is none fails the test."""
    return [json.loads(line) for line in receiver.log.read_text().splitlines()]


def broken_message(database: Database, client: httpx2.Client) -> str:
    """The id of a message whose row no reader can understand."""
    accepted = client.post("/v1/messages", json=sms(NUMBER))
    assert accepted.status_code == 202, accepted.text
    [message] = accepted.json()["messages"]
    database.fetch("update message_state set state = 99 where id = $1", message["id"])
    return str(message["id"])


def test_every_line_is_json_from_the_start_through_faults_to_the_end(database: Database, tmp_path: Path) -> None:
    key = database.key()
    with receiver_process(database, tmp_path, RECEIVER_LOG_LEVEL="debug") as receiver:
        with receiver.client(key) as client:
            assert client.post("/v1/messages", content=b"no json").status_code == 400
            assert client.post(receiver.notify_url()[:-4], content=b"{").status_code == 401
            identity = broken_message(database, client)
            failed = client.get(f"/v1/messages/{identity}", headers={"x-request-id": "seen-by-the-client"})
            assert failed.status_code == 500, failed.text
        with socket.create_connection(("127.0.0.1", int(receiver.url.rpartition(":")[2]))) as raw:
            raw.sendall(b"\x00\x01 no HTTP\r\n\r\n")
            raw.recv(1000)
        eventually(lambda: "library" in {event["event"] for event in events(receiver)})
    found = events(receiver)
    assert all(set(event) >= {"at", "level", "logger", "event"} and event["level"] in LEVELS for event in found), found
    names = [event["event"] for event in found]
    assert {"listening", "duty_taken", "notify_refused", "library"} <= set(names)
    faults = [event for event in found if event["event"] == "request_failed"]
    assert len(faults) == 1, [(one["door"], one.get("request_id"), one["traceback"][-900:]) for one in faults]
    fault = faults[0]
    assert (fault["request_id"], fault["door"]) == ("seen-by-the-client", "/v1/messages/{id}")
    assert "Traceback" in fault["traceback"]
    [accepted] = [event for event in found if event["event"] == "batch_accepted"]
    assert accepted["message_id"] == identity
    assert accepted["request_id"]
    assert not [event for event in found if "Exception in ASGI" in event.get("text", "")], "told once"


LEVELS = {"debug", "info", "warning", "error", "critical"}


def test_above_debug_a_traceback_has_no_words_of_an_error(database: Database, tmp_path: Path) -> None:
    key = database.key()
    with receiver_process(database, tmp_path) as receiver, receiver.client(key) as client:
        identity = broken_message(database, client)
        assert client.get(f"/v1/messages/{identity}").status_code == 500
        faults = [event for event in events(receiver) if event["event"] == "request_failed"]
        assert len(faults) == 1, [(one["door"], one.get("request_id"), one["traceback"][-900:]) for one in faults]
        fault = faults[0]
    assert fault["reason"] == "ValueError"
    assert fault["traceback"].endswith("\nValueError")
    assert NUMBER not in receiver.log.read_text()


def at_a_terminal(environment: dict[str, str], enough: Callable[[str], bool]) -> str:
    """What `receiver serve` shows at a terminal until it is enough, and at its end."""
    master, slave = pty.openpty()
    process = subprocess.Popen([*receiver_command(), "serve"], env=environment, stdout=slave, stderr=slave)
    os.close(slave)
    shown, ended, deadline = "", False, time.monotonic() + 45
    try:
        while time.monotonic() < deadline:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    shown += os.read(master, 65536).decode()
                except OSError:  # the other side has ended
                    break
            if enough(shown) and not ended:
                process.send_signal(signal.SIGTERM)
                ended = True
        assert process.wait(25) == 0, shown
        return shown.replace("\r\n", "\n")
    finally:
        os.close(master)
        if process.poll() is None:
            process.kill()
            process.wait()


def test_at_a_terminal_lines_are_for_the_eyes(database: Database, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    settings = {
        "DATABASE_URL": database.dsn,
        "PORT": url.rpartition(":")[2],
        "PUBLIC_URL": url,
        "PLATFORM_URL": "http://127.0.0.1:9",
        "PLATFORM_KEY": PLATFORM_KEY,
        "SECRET": SECRET,
        "SPOOL": str(tmp_path / "spool"),
    }
    environment = environment_of(**{f"RECEIVER_{name}": value for name, value in settings.items()})
    shown = at_a_terminal(environment, lambda text: "duty_taken duty=partitions" in text)
    lines = shown.splitlines()
    assert f"receiver listens on {url}" in lines
    assert any(line[2] == line[5] == ":" and " info    duty_taken duty=" in line for line in lines), shown
    assert not any(line.startswith("{") for line in lines)

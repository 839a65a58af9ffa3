"""`receiver capture` and what the sandbox makes of its file: a real sequence, told again to a real door."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from receiver.messages.lattice import State
from tests.cli.test_commands import command, one_sentence
from tests.sending.platforms import receipt, sandbox_platform, sms, tell
from tests.sending.test_through_sandbox import settled
from tests.support import Database, environment_of, eventually, free_port, receiver_command, receiver_process

NUMBER, TRANSID = "447911123456", "5f09295d-aaaa-4bbb-8ccc-123456789abc"


def states(database: Database, origin: int = 2) -> list[int]:
    query = "select state from message_state where origin = $1 and merged_into is null order by state"
    return [row["state"] for row in database.fetch(query, origin)]


def test_a_fallback_is_captured_and_told_again_to_another_receiver(
    database: Database, fresh_database: Callable[[], Database], tmp_path: Path
) -> None:
    file = tmp_path / "fallback.json"
    with receiver_process(database, tmp_path) as receiver:
        one_sentence(command("capture", TRANSID, DATABASE_URL=database.dsn), "no message")
        for status, code, subtid in (("Submitted", "7501", ""), ("Failed", "7200", ""), ("Delivered", "7500", "2")):
            told = receipt(status, code, NUMBER, transid=TRANSID, subtid=subtid, correlationid="order-4711")
            assert tell(receiver.notify_url(), told) == 200
    assert states(database) == [State.FAILED, State.DELIVERED]

    ran = command("capture", TRANSID.upper(), "--out", str(file), DATABASE_URL=database.dsn)
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr
    assert "3 receipts of 2 messages" in ran.stderr
    text = file.read_text()
    assert not [name for name in (NUMBER, TRANSID, "order-4711") if name in text]
    capture = json.loads(text)
    assert [(m["state"], m["origin"]) for m in capture["messages"]] == [
        ("failed", "observed"),
        ("delivered", "observed"),
    ]
    assert [
        (step["status"], step.get("subtid"), step["message"]) for step in capture["steps"] if "message" in step
    ] == [("Delivered", "2", 2)]
    one_sentence(command("capture", TRANSID, "--tenant", "nobody", DATABASE_URL=database.dsn), "nobody", code=2)

    other = fresh_database()
    with (
        sandbox_platform(speed=0.0) as platform,
        receiver_process(other, tmp_path, platform_url=platform.url) as receiver,
    ):
        url = f"{platform.url}/sandbox/play"
        asked = {"scenario": capture, "notifyurl": receiver.notify_url(), "times": 2}
        assert httpx2.post(url, json=asked, trust_env=False).status_code == 202
        eventually(lambda: states(other) == [State.FAILED, State.FAILED, State.DELIVERED, State.DELIVERED])
        with played_by_command(file, receiver.notify_url(), tmp_path):
            eventually(lambda: len(states(other)) == 6)

        httpx2.post(f"{platform.url}/sandbox/scenario", json={"step": [{"capture": capture}]}, trust_env=False)
        with receiver.client(other.key()) as client:
            [message] = client.post("/v1/messages", json=sms("447700900123")).json()["messages"]
            found: dict[str, Any] = settled(client, message["id"], "delivered")
        assert other.value("select count(*) from receipt where message_id = $1::uuid and feed = 1", message["id"]) == 3
        assert found["destination"] == "447700900123"
        assert len(states(other)) == 6, "all are of the message that was sent"

        sent = json.loads(command("capture", message["id"], DATABASE_URL=other.dsn).stdout)
        assert message["id"] not in json.dumps(sent)
        assert "447700900123" not in json.dumps(sent)
        assert sorted(step["feed"] for step in sent["steps"]) == ["answer", "push", "push", "push"]
        assert [step["status"] for step in sent["steps"] if "body" in step] == ["Submitted", "Failed", "Delivered"]


class played_by_command:
    """`receiver sandbox --play` in a process of its own."""

    def __init__(self, file: Path, notifyurl: str, folder: Path) -> None:
        options = ["--port", str(free_port()), "--speed", "0", "--notifyurl", notifyurl, "--play", str(file)]
        self._arguments, self._log = [*receiver_command(), "sandbox", *options], folder / "sandbox.log"

    def __enter__(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(self._arguments, env=environment_of(), stdout=output, stderr=output)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        assert self._process.wait(20) == 0, self._log.read_text()


def test_a_file_that_is_no_capture_ends_the_sandbox(tmp_path: Path) -> None:
    file = tmp_path / "capture.json"
    file.write_text("{}")
    ran = command("sandbox", "--play", str(file), "--notifyurl", "http://127.0.0.1:1/")
    assert ran.returncode == 2, ran.stderr

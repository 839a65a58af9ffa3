"""The commands that ask: what they print, with which code they end, and that they work in a pipe."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from receiver.client import Client
from tests.cli.cutting import cutting
from tests.sending.platforms import receipt, tell
from tests.support import Receiver, eventually, receiver_command

Ran = subprocess.CompletedProcess[str]
MANY = 60


@pytest.fixture(scope="module")
def messages(receiver: Receiver, variables: dict[str, str]) -> list[str]:
    """The ids of MANY messages: the first was delivered, the second was not."""
    with Client(receiver.url, variables["RECEIVER_API_KEY"]) as client:
        body = {
            "deliverychannel": "sms",
            "channels": {"sms": {"text": "Hello", "type": "1", "senderid": "SHOP"}},
            "destination": [{"msisdn": [f"4477009{n:05}" for n in range(MANY)]}],
            "callbackData": '"a", b',
        }
        ids = [message["id"] for message in client.send(body)["messages"]]
        for number, (status, code) in enumerate([("Delivered", "7500"), ("Undelivered", "7207")]):
            told = receipt(status, code, f"4477009{number:05}", correlationid=ids[number])
            assert tell(receiver.notify_url(), told) == 200
        eventually(lambda: client.get(ids[1])["final"] and client.get(ids[0])["final"])
        eventually(lambda: all(m["state"] != "queued" for m in client.find({"callbackData": '"a", b'})))
    return ids


def command(variables: dict[str, str], *arguments: str) -> Ran:
    return subprocess.run(
        [*receiver_command(), *arguments], env=variables, capture_output=True, text=True, timeout=60, check=False
    )


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_find_prints_a_table_and_lines_of_json(variables: dict[str, str], messages: list[str]) -> None:
    shown = command(variables, "find", "--state", "undelivered", "--callback-data", '"a", b', "--total", "--from", "1h")
    assert shown.returncode == 0, shown.stderr
    assert messages[1] in shown.stdout
    assert "out of coverage" in shown.stdout
    assert shown.stderr == "1 message\n"
    found = command(variables, "find", "--callback-data", '"a", b', "--all", "--json")
    assert [m["id"] for m in lines(found.stdout)] == sorted(messages, reverse=True)
    some = command(variables, "find", "--changed-from", "1h", "--final", "--limit", "1", "--json")
    assert len(lines(some.stdout)) == 1
    nothing = command(variables, "find", "--correlationid", "nobody")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "no message has all of that\n")


def test_wrong_options_are_told_with_code_2_or_by_the_receiver(variables: dict[str, str]) -> None:
    for arguments, says in [
        (("find", "--from", "yesterday"), "no time"),
        (("find", "--from", "2026-01-01T10:00:00"), "no zone"),
        (("wait", "x", "--timeout", "soon"), "no time to wait"),
        (("wait", "x", "--until", "eaten"), "eaten"),
        (("tail", "--since", "1h", "--from-id", "x"), "--from-id"),
    ]:
        ran = command(variables, *arguments)
        assert (ran.returncode, says in ran.stderr) == (2, True), (arguments, ran.stderr)
    refused = command(variables, "find", "--state", "eaten")
    assert refused.returncode == 1
    assert "state: it takes one of" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("number", "until", "timeout", "code", "says"),
    [
        (0, "delivered", "60", 0, ""),
        (1, "final", "1m", 0, ""),
        (1, "delivered", "60", 3, "undelivered is its last word"),
        (2, "delivered", "0.3", 4, "not delivered within 0.3 s"),
        (None, "delivered", "60", 1, "nothing is known of"),
    ],
    ids=["reached", "final", "unreachable", "timeout", "unknown"],
)
def test_the_exit_code_of_wait_tells_a_script(
    variables: dict[str, str], messages: list[str], number: int | None, until: str, timeout: str, code: int, says: str
) -> None:
    identity = "0199c3f2-5a1b-7c3d-8e4f-0123456789ab" if number is None else messages[number]
    ran = command(variables, "wait", identity, "--until", until, "--timeout", timeout)
    assert ran.returncode == code, ran.stderr
    assert says in ran.stderr
    if number is not None:
        assert identity in ran.stdout


def test_wait_waits_a_minute_where_no_time_is_said(variables: dict[str, str], messages: list[str]) -> None:
    ran = command(variables, "wait", messages[0])
    assert (ran.returncode, ran.stderr) == (0, "")


def test_show_explains(variables: dict[str, str], messages: list[str]) -> None:
    shown = command(variables, "show", messages[1], "--explain")
    assert shown.returncode == 0, shown.stderr
    assert "Undelivered 7207" in shown.stdout
    told = json.loads(command(variables, "show", "447700900001", "--explain", "--json").stdout)
    assert told["id"] == messages[1]


def test_stats_are_a_table_and_json(receiver: Receiver, variables: dict[str, str], messages: list[str]) -> None:
    def counted() -> Any:
        ran = command(variables, "stats", "--by", "channel", "--from", "24h", "--origin", "issued", "--json")
        assert ran.returncode == 0, ran.stderr
        groups = json.loads(ran.stdout)["groups"]
        return groups and groups[0]["failed"] == 1 and groups[0]

    group = eventually(counted, seconds=40, every=0.5)
    assert (group["messages"], group["delivered"]) == (MANY, 1)
    shown = command(variables, "stats", "--by", "day,channel", "--from", "24h", "--origin", "issued")
    assert shown.returncode == 0, shown.stderr
    assert "50.0 %" in shown.stdout
    assert " 1/2 " in shown.stdout


class Tail:
    """A `receiver tail` that runs."""

    def __init__(self, variables: dict[str, str], file: Path, *arguments: str) -> None:
        self.file = file
        with file.open("wb") as out, file.with_suffix(".err").open("wb") as err:
            self.process = subprocess.Popen(
                [*receiver_command(), "tail", *arguments], env=variables, stdout=out, stderr=err
            )

    def text(self) -> str:
        return self.file.read_text()

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()


def test_tail_prints_what_was_and_what_comes_until_ctrl_c(
    receiver: Receiver, variables: dict[str, str], messages: list[str], tmp_path: Path
) -> None:
    tail = Tail(variables, tmp_path / "all", "--since", "1h", "--json", "--channel", "sms")
    failed = Tail(variables, tmp_path / "failed", "--since", "1h", "--failed")
    try:
        eventually(lambda: len(tail.text().splitlines()) >= MANY and messages[1] in failed.text(), seconds=30)
        for number, (status, code) in ((3, ("Undelivered", "7207")), (4, ("Delivered", "7500"))):
            told = receipt(status, code, f"4477009{number:05}", correlationid=messages[number])
            assert tell(receiver.notify_url(), told) == 200
        eventually(lambda: messages[4] in tail.text().splitlines()[-1] and messages[3] in failed.text())
    finally:
        codes = tail.interrupt(), failed.interrupt()
    assert codes == (0, 0)
    changes = lines(tail.text())
    assert len({change["id"] for change in changes}) == MANY
    assert [c["state"] for c in changes if c["id"] == messages[3]][-1] == "undelivered"
    assert messages[4] not in failed.text()
    place = changes[-2]["event"]
    again = Tail(variables, tmp_path / "again", "--from-id", place, "--json")
    try:
        eventually(lambda: messages[4] in again.text())
    finally:
        assert again.interrupt() == 0
    assert [change["id"] for change in lines(again.text())] == [messages[4]]


def test_tail_that_can_not_begin_there_says_what_to_do(variables: dict[str, str]) -> None:
    ran = command(variables, "tail", "--from-id", "nonsense")
    assert ran.returncode == 1
    assert "bad_event_id" in ran.stderr
    assert "receiver find --changed-from" in ran.stderr


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_an_export_is_there_when_it_is_whole(
    variables: dict[str, str], messages: list[str], tmp_path: Path, form: str
) -> None:
    file = tmp_path / f"all.{form}"
    asked = ("--output", str(file), "--callback-data", '"a", b')
    ran = command(variables, "export", *asked, "--json")
    assert ran.returncode == 0, ran.stderr
    whole = file.read_bytes()
    assert json.loads(ran.stderr) == {"file": str(file), "messages": MANY, "bytes": len(whole)}
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name]
    out = command(variables, "export", "--format", form, "--callback-data", '"a", b')
    assert out.stdout.encode() == whole.replace(b"\r\n", b"\n")
    assert "is there already" in command(variables, "export", *asked).stderr
    # an earlier run that was killed within a record
    file.rename(part := file.with_name(f"{file.name}.part"))
    os.truncate(part, len(whole) * 2 // 3)
    Path(f"{part}.json").write_text(json.dumps({"format": form, "filters": {"callbackData": ['"a", b']}}))
    assert "--resume" in command(variables, "export", *asked).stderr
    other = command(variables, "export", "--output", str(file), "--resume", "--state", "failed")
    assert (other.returncode, "other filters" in other.stderr) == (1, True)
    resumed = command(variables, "export", *asked, "--resume")
    assert (resumed.returncode, resumed.stderr) == (0, f"{MANY} messages in {file}\n")
    assert file.read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name]


def test_an_export_that_is_killed_goes_on(
    receiver: Receiver, variables: dict[str, str], messages: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "all.ndjson"
    asked = ["export", "--output", str(file), "--callback-data", '"a", b']
    budgets = iter([2500])
    with cutting(receiver.url, lambda: next(budgets, 10)) as proxy:  # after the first, nothing comes on
        stuck = variables | {"RECEIVER_URL": proxy.url}
        with subprocess.Popen([*receiver_command(), *asked], env=stuck, stderr=subprocess.PIPE) as process:
            eventually(lambda: proxy.cuts >= 2, seconds=30)
            process.send_signal(signal.SIGINT)
            try:
                assert process.wait(20) == 130
            finally:
                process.kill()
            assert process.stderr is not None
            assert b"--resume" in process.stderr.read()
    assert not file.exists()
    resumed = command(variables, *asked, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert [m["id"] for m in lines(file.read_text())] == sorted(messages, reverse=True)


@pytest.mark.parametrize(
    "arguments",
    ["find --all --json", "find --all", "export", "tail --since 1h --json"],
    ids=["find", "table", "export", "tail"],
)
def test_a_pipe_that_closes_is_no_error(variables: dict[str, str], messages: list[str], arguments: str) -> None:
    with subprocess.Popen(
        [*receiver_command(), *arguments.split()], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        try:
            assert process.wait(30) in (0, 1)  # what it wrote before may fit into the pipe
        finally:
            process.kill()
        assert process.stderr.read() == b""


def test_the_commands_take_an_id_of_our_kind_that_is_the_client_s(variables: dict[str, str]) -> None:
    theirs = "01a1fda7-9714-779d-a3fc-b1fa03eda994"
    sent = command(variables, "send", "--to", "447700909999", "--text", "Hello", "--correlationid", theirs, "--json")
    ours = json.loads(sent.stdout)["messages"][0]["id"]
    for arguments in (("wait", theirs, "--timeout", "0", "--json"), ("show", theirs, "--explain", "--json")):
        assert json.loads(command(variables, *arguments).stdout)["id"] == ours, arguments
    empty = command(variables, "show", " ")
    assert (empty.returncode, empty.stderr) == (1, "receiver: an empty text is no id\n")

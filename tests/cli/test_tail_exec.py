"""`receiver tail --exec`: once for each change in order, again only what was in hand, and ended when it must be."""

import json
import os
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from receiver.client import Client
from tests.sending.platforms import receipt, tell
from tests.support import Receiver, eventually, receiver_command

WAIT = 60.0  # seconds: the command starts in one, on a quiet machine


@pytest.fixture
def messages(receiver: Receiver, variables: dict[str, str]) -> list[str]:
    """The ids of ten messages of the platform's."""
    with Client(receiver.url, variables["RECEIVER_API_KEY"]) as client:
        body = {
            "deliverychannel": "sms",
            "channels": {"sms": {"text": "Hello", "type": "1", "senderid": "SHOP"}},
            "destination": [{"msisdn": [f"4477009{n:05}"], "correlationid": f"order {n}"} for n in range(10)],
        }
        sent = client.send(body)
        eventually(lambda: client.batch(sent["batch_id"])["states"] == {"accepted": 10}, seconds=WAIT)
    return [message["id"] for message in sent["messages"]]


def become(
    receiver: Receiver, messages: list[str], number: int, status: str = "Undelivered", code: str = "7207"
) -> str:
    """A receipt of one of them comes in."""
    told = receipt(status, code, f"4477009{number:05}", correlationid=messages[number])
    assert tell(receiver.notify_url(), told) == 200
    return messages[number]


class Tail:
    """A `receiver tail --failed --exec` that runs, and what its command has written."""

    def __init__(self, folder: Path, variables: dict[str, str], script: str, *options: str) -> None:
        self.folder, self.cursor, self.said = folder, folder / "cursor", folder / "said"
        self.script = folder / "run"
        self.script.write_text(f"#!/bin/sh\n{script}\n")
        self.script.chmod(self.script.stat().st_mode | stat.S_IXUSR)
        self.errors = folder / "errors"
        words = ["tail", "--failed", "--exec", f"'{self.script}' 'an argument'", "--cursor-file", str(self.cursor)]
        with (folder / "out").open("ab") as out, self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [*receiver_command(), *words, *options],
                env={**variables, "SAID": str(self.said)},
                stdout=out,
                stderr=errors,
            )

    def __enter__(self) -> "Tail":
        eventually(lambda: self.cursor.exists() or self.process.poll() is not None, seconds=WAIT)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def lines(self) -> list[str]:
        return self.said.read_text().splitlines() if self.said.exists() else []

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(WAIT)


PARTS = ("ID", "STATE", "CODE", "CLASS", "CHANNEL", "CORRELATIONID")
ENVIRONMENT = f"""
echo "$1|{"|".join(f"$RECEIVER_CHANGE_{part}" for part in PARTS)}" >> "$SAID"
cat > "$SAID.$RECEIVER_CHANGE_ID"
"""
ID = 'echo "$RECEIVER_CHANGE_ID" >> "$SAID"'


def test_the_command_hears_of_each_failure_once(
    receiver: Receiver, variables: dict[str, str], messages: list[str], tmp_path: Path
) -> None:
    with Tail(tmp_path, variables, ENVIRONMENT) as tail:
        become(receiver, messages, 0, "Delivered", "7500")
        failed = [become(receiver, messages, n) for n in (1, 2, 3)]
        become(receiver, messages, 1)  # told again
        become(receiver, messages, 2, "Failed", "7401")  # and worse than it was
        failed.append(become(receiver, messages, 4))
        eventually(lambda: len(tail.lines()) == 4, seconds=WAIT)
        assert tail.stop() == 0
    assert [line.split("|")[:3] for line in tail.lines()] == [["an argument", one, "undelivered"] for one in failed]
    assert tail.lines()[0] == f"an argument|{failed[0]}|undelivered|7207|temporary|sms|order 1"
    change: dict[str, Any] = json.loads(Path(f"{tail.said}.{failed[0]}").read_text())
    assert (change["id"], change["state"], change["code"]) == (failed[0], "undelivered", "7207")
    assert "out of coverage" in change["reason"]
    assert change["event"]
    assert tail.errors.read_text() == ""


def test_a_tail_that_is_killed_repeats_what_was_in_hand_and_misses_nothing(
    receiver: Receiver, variables: dict[str, str], messages: list[str], tmp_path: Path
) -> None:
    hanging = f'{ID}\ntest ! -e "$SAID.hang" || exec sleep 60'
    with Tail(tmp_path, variables, hanging) as tail:
        done = become(receiver, messages, 0)
        eventually(lambda: tail.lines() == [done], seconds=WAIT)
        kept = tail.cursor.read_text()
        eventually(lambda: tail.cursor.read_text() != "" and _settled(tail), seconds=WAIT)
        Path(f"{tail.said}.hang").touch()
        in_hand = become(receiver, messages, 1)
        eventually(lambda: tail.lines() == [done, in_hand], seconds=WAIT)
        missed = become(receiver, messages, 2)
        _kill_with_its_command(tail)
    while_away = become(receiver, messages, 3)
    Path(f"{tail.said}.hang").unlink()
    with Tail(tmp_path, variables, hanging) as again:
        eventually(lambda: len(again.lines()) >= 5, seconds=WAIT)
        later = become(receiver, messages, 4)
        eventually(lambda: later in again.lines(), seconds=WAIT)
        assert again.stop(signal.SIGTERM) == 0
    assert again.lines() == [done, in_hand, in_hand, missed, while_away, later]
    assert again.cursor.read_text() != kept
    assert not list(tmp_path.glob("*.new"))


def _settled(tail: Tail) -> bool:
    """Whether no command runs, and what was done is in the file."""
    children = Path(f"/proc/{tail.process.pid}/task/{tail.process.pid}/children").read_text().split()
    return not children


def _kill_with_its_command(tail: Tail) -> None:
    children = Path(f"/proc/{tail.process.pid}/task/{tail.process.pid}/children").read_text().split()
    tail.process.kill()
    tail.process.wait()
    for child in children:
        os.kill(int(child), signal.SIGKILL)


@pytest.mark.parametrize("strict", [False, True], ids=["goes-on", "strict"])
def test_a_command_that_fails_is_told(
    receiver: Receiver, variables: dict[str, str], messages: list[str], tmp_path: Path, strict: bool
) -> None:
    script = f"{ID}\nexit 3"
    with Tail(tmp_path, variables, script, *(["--exec-strict"] if strict else [])) as tail:
        first = become(receiver, messages, 0)
        eventually(lambda: "ended with 3" in tail.errors.read_text(), seconds=WAIT)
        assert f"the command for {first} ended with 3" in tail.errors.read_text()
        if strict:
            assert tail.process.wait(WAIT) == 1
        else:
            second = become(receiver, messages, 1)
            eventually(lambda: tail.lines() == [first, second], seconds=WAIT)
            assert tail.stop() == 0
    if strict:
        with Tail(tmp_path, variables, ID, "--exec-strict") as again:
            eventually(lambda: again.lines() == [first, first], seconds=WAIT)
            assert again.stop() == 0


@pytest.mark.parametrize("ends_by", ["timeout", "ctrl-c", "sigterm"])
def test_a_command_that_hangs_is_ended_with_all_that_it_started(
    receiver: Receiver, variables: dict[str, str], messages: list[str], tmp_path: Path, ends_by: str
) -> None:
    script = 'trap "" TERM\nsleep 300 &\necho "$!" >> "$SAID"\nwait'
    seconds = "1" if ends_by == "timeout" else "60"
    with Tail(tmp_path, variables, script, "--exec-timeout", seconds) as tail:
        become(receiver, messages, 0)
        eventually(tail.lines, seconds=WAIT)
        if ends_by == "timeout":
            eventually(lambda: "was ended after 1 s" in tail.errors.read_text(), seconds=WAIT)
            assert tail.stop() == 0
        else:
            assert tail.stop(signal.SIGINT if ends_by == "ctrl-c" else signal.SIGTERM) == 0
    eventually(lambda: not Path(f"/proc/{tail.lines()[0]}").exists() or _is_dead(tail.lines()[0]), seconds=WAIT)


def _is_dead(process: str) -> bool:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--exec", "no-such-command-here"), 2, "there is no command"),
        (("--exec", "sh -c 'open"), 2, "can't be read"),
        (("--exec", ""), 2, "there is no command"),
        (("--exec-strict",), 2, "goes with --exec"),
        (("--cursor-file", "x", "--from-id", "y"), 2, "give one"),
        (("--cursor-file", "/proc/no/such"), 1, "can't be written"),
    ],
    ids=["missing", "quotes", "empty", "strict", "two-places", "unwritable"],
)
def test_wrong_options_are_told(variables: dict[str, str], options: tuple[str, ...], code: int, says: str) -> None:
    ran = subprocess.run(
        [*receiver_command(), "tail", *options], env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, says in " ".join(ran.stderr.split())) == (code, True), ran.stderr


def test_a_place_that_is_none_is_told_with_its_file(variables: dict[str, str], tmp_path: Path) -> None:
    for text, says in (("nonsense", f"begin without {tmp_path / 'cursor'}"), ("", "is no file of a tail")):
        (tmp_path / "cursor").write_text(text)
        ran = subprocess.run(
            [*receiver_command(), "tail", "--cursor-file", str(tmp_path / "cursor")],
            env=variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ran.returncode, says in ran.stderr) == (1, True), ran.stderr


def test_the_past_is_told_once_though_it_was_cut_off(
    receiver: Receiver, variables: dict[str, str], messages: list[str], tmp_path: Path
) -> None:
    """With --since the place is kept when all of the past has been told: else a part of it would be missed."""
    failed = [become(receiver, messages, n) for n in (0, 1)]
    with Client(receiver.url, variables["RECEIVER_API_KEY"]) as client:
        eventually(lambda: all(client.get(one)["final"] for one in failed), seconds=WAIT)
    words = ["tail", "--failed", "--since", "1h", "--cursor-file", str(tmp_path / "cursor"), "--exec", "false"]
    ended = subprocess.run(
        [*receiver_command(), *words, "--exec-strict"],
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert not (tmp_path / "cursor").exists()
    with Tail(tmp_path, variables, ID, "--since", "1h") as tail:
        eventually(lambda: set(failed) <= set(tail.lines()), seconds=WAIT)
        assert tail.stop() == 0
    before = tail.lines()
    with Tail(tmp_path, variables, ID, "--since", "1h") as again:
        new = become(receiver, messages, 2)
        eventually(lambda: new in again.lines(), seconds=WAIT)
        assert again.stop() == 0
    assert again.lines() == [*before, new]

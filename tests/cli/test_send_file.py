"""`receiver send --file`, run as a person or a script runs it, against a receiver's door at the socket."""

import asyncio
import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from receiver.__main__ import main
from tests.cli.recording_receiver import LOST, Answer, Call, RecordingReceiver, problem, recording_receiver
from tests.sending.platforms import recording_platform
from tests.support import cloned, environment_of, receiver_command, receiver_process

KEY = "rk_0123456789ab_" + "x" * 43
SMS = {"deliverychannel": "sms", "channels": {"sms": {"text": "Hello"}}}
PERSONAL = {"deliverychannel": "sms", "channels": {"sms": {"text": "Hello {name}"}}}

# The command with its memory measured: its peak in bytes is the last line of standard error.
MEASURED = """
import sys, tracemalloc
from receiver.cli import send_file
from receiver.cli.commands import application
tracemalloc.start()
try:
    application(standalone_mode=False)
finally:
    print(tracemalloc.get_traced_memory()[1], file=sys.stderr)
"""

Ran = subprocess.CompletedProcess[str]


def run_here(arguments: list[str], environment: dict[str, str]) -> Ran:
    """The front door of the command line, with its words and its exit code caught."""
    output, errors, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(sys, "argv", ["receiver", *arguments]),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Ran(arguments, code, output.getvalue(), errors.getvalue())


@pytest.fixture
def receiver() -> Iterator[RecordingReceiver]:
    with recording_receiver() as receiver:
        yield receiver


class Folder:
    """A file of recipients, its template, and the command that sends it."""

    def __init__(self, path: Path, url: str) -> None:
        self.path, self.file, self.template = path, path / "messages.csv", path / "body.json"
        self.state, self.rejects = path / "messages.csv.sent.jsonl", path / "messages.csv.rejected.csv"
        self.environment = environment_of(RECEIVER_URL=url, RECEIVER_API_KEY=KEY) | {"COLUMNS": "200"}
        self.body(SMS)

    def body(self, body: object) -> None:
        self.template.write_text(json.dumps(body))

    def rows(self, count: int, name: str = "Ann", first: int = 1) -> None:
        """Numbers 1000001, …, each with a name; "{}" in it is the row's number."""
        with self.file.open("a" if first > 1 else "w") as file:
            file.write("msisdn,name\n" if first == 1 else "")
            file.writelines(f"{number_of(n)},{name.format(n)}\n" for n in range(first, first + count))

    def arguments(self, *more: str) -> list[str]:
        return ["send", "--file", str(self.file), "--template", str(self.template), *more]

    def send(self, *more: str) -> Ran:
        """The command in this process: a start of its own takes a second."""
        return run_here(self.arguments(*more), self.environment)

    def sent(self, *more: str) -> dict[str, Any]:
        """What a run that went well says of itself."""
        ran = self.send("--json", *more)
        assert ran.returncode == 0, ran.stderr
        told: dict[str, Any] = json.loads(ran.stdout)
        return told

    @contextlib.contextmanager
    def started(self, *more: str) -> "Iterator[subprocess.Popen[str]]":
        """The command while it runs; killed when the block ends."""
        command = [*receiver_command(), *self.arguments(*more)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=self.environment, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def folder(tmp_path: Path, receiver: RecordingReceiver) -> Folder:
    return Folder(tmp_path, receiver.url)


def number_of(row: int) -> str:
    return str(1_000_000 + row)


def numbers(first: int, last: int) -> dict[str, int]:
    """Each of these rows, once."""
    return {number_of(row): 1 for row in range(first, last + 1)}


class Hold:
    """Keeps a call and all later ones waiting until the test lets go."""

    def __init__(self, receiver: RecordingReceiver, at: int, *, taken: bool = False) -> None:
        self.reached, self._at = threading.Event(), at
        if taken:
            receiver.after = self
        else:
            receiver.before = self
        self.over = threading.Event()  # set from the test's thread, hence no event of asyncio

    async def __call__(self, call: Call) -> Answer | None:
        if call.number >= self._at:
            self.reached.set()
            await asyncio.to_thread(self.over.wait, 50)
        return None


def test_every_row_is_handed_in_once_a_thousand_a_call(receiver: RecordingReceiver, folder: Folder) -> None:
    folder.rows(3_500)
    told = folder.sent()
    assert (told["rows"], told["sent"], told["rejected"], told["rejects"]) == (3_500, 3_500, 0, None)
    assert receiver.taken == numbers(1, 3_500)
    assert sorted(len(body["destination"]) for body in receiver.bodies) == [500, 1000, 1000, 1000]
    assert receiver.bodies[0]["channels"] == SMS["channels"]
    assert not folder.rejects.exists()


def test_a_text_of_one_s_own_is_a_call_of_one_s_own(receiver: RecordingReceiver, folder: Folder) -> None:
    folder.body(PERSONAL)
    folder.rows(30, "number {}")
    folder.sent()
    told = {
        body["destination"][0]["msisdn"][0]: body["channels"]["sms"]["text"]
        for body in receiver.bodies
        if len(body["destination"]) == 1
    }
    assert told == {number_of(n): f"Hello number {n}" for n in range(1, 31)}


def test_as_many_calls_are_in_flight_as_were_asked_for_and_the_first_goes_alone(
    receiver: RecordingReceiver, folder: Folder
) -> None:
    alone, three = [], threading.Barrier(3, timeout=20)

    async def together(call: Call) -> Answer | None:
        if call.number == 1:
            alone.append(receiver.most_at_once)
        elif call.number <= 4:
            await asyncio.to_thread(three.wait)
        return None

    receiver.before = together
    folder.body(PERSONAL)
    folder.rows(60, "number {}")
    folder.sent("--concurrency", "3")
    assert (alone, receiver.most_at_once) == ([1], 3)


@pytest.mark.parametrize("taken", [False, True], ids=["before it was taken", "after it was taken"])
def test_a_killed_run_goes_on_where_it_stopped_and_sends_no_row_twice(
    receiver: RecordingReceiver, folder: Folder, taken: bool
) -> None:
    folder.body(PERSONAL)
    folder.rows(2_400, "text {}")
    with folder.file.open("a") as file:
        file.writelines(f"{number_of(n)},Ann\n" for n in range(2_401, 8_001))
    hold = Hold(receiver, 2_402, taken=taken)  # of 2,406: the four that may be in flight are not all that is left
    with folder.started() as process:
        assert hold.reached.wait(50)
        process.kill()
    hold.over.set()
    assert receiver.taken != numbers(1, 8_000)
    already = len(receiver.calls)
    told = folder.sent()
    assert receiver.taken == numbers(1, 8_000)
    assert told["sent_earlier"] >= 2_000
    assert told["sent"] + told["repeated"] + told["sent_earlier"] == 8_000
    assert told["repeated"] or not taken
    assert len(receiver.calls) - already < 500, "what was finished is not asked for again"


def test_a_call_that_was_cut_off_is_repeated_as_it_was_although_the_file_grew(
    receiver: RecordingReceiver, folder: Folder
) -> None:
    folder.rows(1_500)
    hold = Hold(receiver, 2, taken=True)
    with folder.started() as process:
        assert hold.reached.wait(50)
        process.kill()
    hold.over.set()
    folder.rows(100, first=1_501)
    told = folder.sent()
    assert (told["sent_earlier"], told["repeated"], told["sent"]) == (1_000, 500, 100)
    assert receiver.taken == numbers(1, 1_600)


def test_a_half_written_line_of_the_state_is_forgotten(receiver: RecordingReceiver, folder: Folder) -> None:
    folder.rows(1_500)
    folder.sent()
    whole = folder.state.read_bytes()
    folder.state.write_bytes(whole[:-10])
    assert folder.sent()["rows"] == 1_500
    assert receiver.taken == numbers(1, 1_500)
    assert folder.sent()["sent_earlier"] == 1_500


def test_the_state_names_each_chunk_and_its_batches(receiver: RecordingReceiver, folder: Folder) -> None:
    folder.rows(1_500)
    folder.sent()
    head, *lines = [json.loads(line) for line in folder.state.read_text().splitlines()]
    assert (head["job"], head["receiver"]) == ("messages.csv", receiver.url)
    done = {tuple(line["done"]): line["batches"] for line in lines if "done" in line}
    assert set(done) == {(1, 1_000), (1_001, 1_500)}
    assert all(len(batches) == 1 for batches in done.values())
    assert KEY not in folder.state.read_text()


def test_a_run_whose_state_is_lost_sends_nothing_twice(receiver: RecordingReceiver, folder: Folder) -> None:
    folder.rows(1_500)
    folder.sent()
    folder.state.unlink()
    told = folder.sent()
    assert (told["sent"], told["repeated"]) == (0, 1_500)
    assert receiver.taken == numbers(1, 1_500)


def test_rows_that_were_added_are_sent_by_the_next_run(receiver: RecordingReceiver, folder: Folder) -> None:
    folder.rows(1_500)
    folder.sent()
    folder.rows(1_700, first=1_501)
    told = folder.sent()
    assert (told["sent_earlier"], told["sent"]) == (1_500, 1_700)
    assert receiver.taken == numbers(1, 3_200)


def test_rows_that_were_added_after_the_state_was_lost_are_no_reason_to_send_others_twice(
    receiver: RecordingReceiver, folder: Folder
) -> None:
    folder.rows(1_500)
    folder.sent()
    folder.state.unlink()
    folder.rows(100, first=1_501)
    ran = folder.send()
    assert ran.returncode == 1
    assert "row 1001 was handed in before" in ran.stderr
    assert receiver.taken == numbers(1, 1_500)
    assert folder.sent("--job", "another", "--state", str(folder.path / "another"))["sent"] == 1_600


def test_rows_that_were_sent_may_not_change(receiver: RecordingReceiver, folder: Folder) -> None:
    folder.rows(1_500)
    folder.sent()
    lines = folder.file.read_text().splitlines()
    for changed in (lines[:1300], [*lines[:5], *lines[6:]], [*lines[:1200], "1,other", *lines[1201:]]):
        folder.file.write_text("\n".join(changed) + "\n")
        ran = folder.send()
        assert ran.returncode == 1
        assert "are not those that" in ran.stderr
    assert receiver.taken == numbers(1, 1_500)


def test_the_state_of_another_sending_is_refused(receiver: RecordingReceiver, folder: Folder) -> None:
    folder.rows(10)
    folder.sent()
    assert "another job" in folder.send("--job", "x").stderr
    whole = folder.file.read_text()
    folder.file.write_text(whole.replace("msisdn", "destination"))
    assert "another id type" in folder.send("--id-type", "customerid").stderr
    folder.file.write_text(whole)
    folder.body({**SMS, "priority": "3"})
    assert "another template" in folder.send().stderr
    folder.body(SMS)
    folder.environment["RECEIVER_URL"] = "http://127.0.0.1:9"
    assert f"a sending to {receiver.url}" in folder.send().stderr
    before = folder.template.read_bytes()
    assert "is no state of a sending" in folder.send("--state", str(folder.template)).stderr
    assert folder.template.read_bytes() == before
    assert receiver.taken == numbers(1, 10)


def test_two_runs_at_once_are_refused(receiver: RecordingReceiver, folder: Folder) -> None:
    folder.rows(10)
    hold = Hold(receiver, 1)
    with folder.started() as process:
        assert hold.reached.wait(50)
        second = folder.send()
        hold.over.set()
        process.communicate(timeout=30)
    assert second.returncode == 1
    assert "another run is sending this file" in second.stderr
    assert receiver.taken == numbers(1, 10)


async def _refuses_two(call: Call) -> Answer | None:
    bad = {number_of(5): "msisdn/0", number_of(1_200): "msisdn/0"}
    errors = [
        (f"/destination/{index}/{bad[to]}", f"{to} is no number")
        for index, to in enumerate(call.recipients)
        if to in bad
    ]
    return problem(422, "rule_broken", *errors) if errors else None


def test_a_bad_row_is_set_aside_with_its_reason_and_the_others_are_sent(
    receiver: RecordingReceiver, folder: Folder
) -> None:
    receiver.before = _refuses_two
    folder.rows(1_500)
    with folder.file.open("a") as file:
        file.write('1,"too, many",fields\n')
    ran = folder.send("--json")
    assert ran.returncode == 1
    assert f"3 rows were rejected: {folder.rejects}" in ran.stderr
    told = json.loads(ran.stdout)
    assert (told["sent"], told["rejected"], told["rejects"]) == (1_498, 3, str(folder.rejects))
    assert receiver.taken == {k: v for k, v in numbers(1, 1_500).items() if k not in (number_of(5), number_of(1_200))}
    assert folder.rejects.read_text().splitlines() == [
        "row,reason,msisdn,name",
        "5,1000005 is no number,1000005,Ann",
        "1200,1001200 is no number,1001200,Ann",
        '1501,"the row has 3 fields, the header 2",1,"too, many"',
    ]
    assert len({call.key for call in receiver.calls}) == len(receiver.calls) == 4
    again = folder.send("--json")
    assert (json.loads(again.stdout)["rejected_earlier"], again.returncode) == (3, 1)
    assert len(folder.rejects.read_text().splitlines()) == 4


def test_the_rejected_rows_can_be_sent_once_they_are_mended(receiver: RecordingReceiver, folder: Folder) -> None:
    receiver.before = _refuses_two
    folder.rows(10)
    folder.send()
    folder.rejects.write_text(folder.rejects.read_text().replace(number_of(5), "447700900005"))
    folder.file = folder.rejects
    assert folder.sent()["sent"] == 1
    assert receiver.taken["447700900005"] == 1


def test_a_run_that_is_killed_after_it_wrote_its_rejects_lists_each_row_once(
    receiver: RecordingReceiver, folder: Folder
) -> None:
    receiver.before = _refuses_two
    folder.rows(1_500)
    assert folder.send().returncode == 1
    rejects, state = folder.rejects.read_text(), folder.state.read_bytes()
    assert len(rejects.splitlines()) == 3
    *lines, last = state.splitlines(keepends=True)
    assert b'"done"' in last
    folder.state.write_bytes(b"".join(lines))  # the rejects are written first
    assert json.loads(folder.send("--json").stdout)["rejected"] == 1
    assert folder.rejects.read_text() == rejects
    assert receiver.taken == {to: 1 for to in numbers(1, 1_500) if to not in (number_of(5), number_of(1_200))}


def test_a_text_that_is_refused_rejects_its_rows_alone(receiver: RecordingReceiver, folder: Folder) -> None:
    async def too_long(call: Call) -> Answer | None:
        refused = ("/channels/sms/text", "text is too long")
        return problem(422, "rule_broken", refused) if "long" in call.body["channels"]["sms"]["text"] else None

    receiver.before = too_long
    folder.body(PERSONAL)
    folder.file.write_text("msisdn,name\n1,Ann\n2,long\n3,Eve\n4,long\n")
    told = json.loads(folder.send("--json").stdout)
    assert (told["sent"], told["rejected"]) == (2, 2)
    assert folder.rejects.read_text().count("text is too long") == 2


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (problem(422, "rule_broken", ("/channels/sms/senderid", "no sender")), "no sender"),
        (problem(422, "tenant_cannot_send", ("", "no platform")), "tenant_cannot_send"),
        (problem(401, "unauthorized"), "401"),
        (problem(413, "body_too_large"), "413"),
        (Answer(404, {}), "is no receiver"),
    ],
)
def test_what_is_wrong_with_every_call_stops_at_the_first(
    receiver: RecordingReceiver, folder: Folder, answer: Answer, says: str
) -> None:
    async def refuse(_call: Call) -> Answer | None:
        return answer

    receiver.before = refuse
    folder.body(PERSONAL)
    folder.rows(3_000, "text {}")
    ran = folder.send()
    assert ran.returncode == 1
    assert says in ran.stderr
    assert "0 of 3000 rows are done; when this is mended, give the same command again" in ran.stderr
    assert "receiver send --file" in ran.stderr
    assert len(receiver.calls) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        problem(503, "database_away", retry_after="0"),
        problem(429, "too_many", retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
        problem(409, "idempotency_in_progress", retry_after="0"),
        Answer(502, {}, {"retry-after": "0"}),
        LOST,
    ],
    ids=["503", "429", "409", "502", "lost"],
)
@pytest.mark.parametrize("taken", [False, True], ids=["before it was taken", "after it was taken"])
def test_a_call_that_fails_for_now_is_made_again_under_its_key(
    receiver: RecordingReceiver, folder: Folder, trouble: Answer, taken: bool
) -> None:
    async def fails_first(call: Call) -> Answer | None:
        return trouble if [other.key for other in receiver.calls].count(call.key) == 1 else None

    if taken:
        receiver.after = fails_first
    else:
        receiver.before = fails_first
    folder.rows(1_500)
    ran = folder.send("--json")
    assert ran.returncode == 0, ran.stderr
    assert "the receiver can't take more now" in ran.stderr
    assert receiver.taken == numbers(1, 1_500)
    assert (len(receiver.calls), len({call.key for call in receiver.calls})) == (4, 2)


def test_the_wait_is_as_long_as_the_receiver_asks(receiver: RecordingReceiver, folder: Folder) -> None:
    async def busy(call: Call) -> Answer | None:
        return problem(429, "too_many", retry_after="1") if call.number == 1 else None

    receiver.before = busy
    folder.rows(10)
    assert folder.sent()["seconds"] >= 1.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_waits_for_what_is_in_flight_and_says_how_to_go_on(
    receiver: RecordingReceiver, folder: Folder, number: signal.Signals
) -> None:
    folder.rows(9_000)
    hold = Hold(receiver, 4)
    with folder.started("--concurrency", "2") as process:
        assert hold.reached.wait(50)
        process.send_signal(number)
        hold.over.set()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    *_, line = errors.splitlines()
    assert line.startswith("receiver: stopped: ")
    assert "of 9000 rows are done; give the same command again to go on from there: receiver send --file" in line
    assert sum(receiver.taken.values()) < 9_000
    taken = sum(receiver.taken.values())
    assert json.loads(folder.send("--json").stdout)["sent_earlier"] == taken
    assert receiver.taken == numbers(1, 9_000)


def test_ctrl_c_ends_a_long_wait(receiver: RecordingReceiver, folder: Folder) -> None:
    async def busy(_call: Call) -> Answer | None:
        return problem(503, "database_away", retry_after="500")

    receiver.before = busy
    folder.rows(10)
    with folder.started() as process:
        assert process.stderr is not None
        assert "again in 5" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert "stopped: 0 of 10 rows are done" in errors


def _begun_days_ago(receiver: RecordingReceiver, folder: Folder) -> None:
    folder.rows(1_500)
    folder.sent()
    head, *lines = folder.state.read_text().splitlines()
    begun = [json.loads(line) for line in lines if '"begun"' in line]
    begun[0]["at"] = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    kept = [line for line in lines if '"done": [1001' in line]
    folder.state.write_text("\n".join([head, *map(json.dumps, begun), *kept]) + "\n")
    receiver.calls.clear()


def test_rows_whose_key_is_forgotten_are_neither_sent_nor_left_out_without_being_told(
    receiver: RecordingReceiver, folder: Folder
) -> None:
    _begun_days_ago(receiver, folder)
    ran = folder.send()
    assert ran.returncode == 1
    for part in ("rows 1 to 1000", "may have been sent", "--uncertain send", "--uncertain skip"):
        assert part in ran.stderr
    assert receiver.calls == []


def test_rows_whose_key_is_forgotten_are_sent_or_skipped_as_told(receiver: RecordingReceiver, folder: Folder) -> None:
    _begun_days_ago(receiver, folder)
    state = folder.state.read_text()
    assert folder.sent("--uncertain", "send")["repeated"] == 1_000  # this receiver forgets no key
    folder.state.write_text(state)
    told = json.loads(folder.send("--uncertain", "skip", "--json").stdout)
    assert (told["sent"], told["rejected"], told["sent_earlier"]) == (0, 1_000, 500)
    assert len(receiver.calls) == 1
    assert folder.rejects.read_text().count("it may have been sent") == 1_000


def test_a_dry_run_checks_every_row_prints_the_first_body_and_sends_nothing(
    receiver: RecordingReceiver, folder: Folder
) -> None:
    folder.body(PERSONAL)
    folder.rows(1_500)
    del folder.environment["RECEIVER_API_KEY"]
    ran = folder.send("--dry-run")
    assert ran.returncode == 0, ran.stderr
    assert "1500 of 1500 rows can be sent, in 2 calls" in ran.stdout
    assert '"text": "Hello Ann"' in ran.stdout
    assert ran.stdout.count("msisdn") == 1
    with folder.file.open("a") as file:
        file.write(",empty\n")
    ran = folder.send("--dry-run", "--json")
    told = json.loads(ran.stdout)
    assert ran.returncode == 1
    assert (told["rows"], told["good"], told["faults"]) == (
        1_501,
        1_500,
        [{"row": 1_501, "reason": "msisdn is empty"}],
    )
    assert receiver.calls == []
    assert set(folder.path.iterdir()) == {folder.file, folder.template}


def test_a_file_that_can_not_be_read_to_its_end_sends_nothing(receiver: RecordingReceiver, folder: Folder) -> None:
    folder.rows(2_000)
    with folder.file.open("a") as file:
        file.write('1,"open\n')
    ran = folder.send()
    assert ran.returncode == 1
    assert "row 2001" in ran.stderr
    assert receiver.calls == []


def test_an_earlier_sending_s_rejects_are_not_written_over(receiver: RecordingReceiver, folder: Folder) -> None:
    folder.rows(10)
    folder.rejects.write_text("precious")
    assert "move it away" in folder.send().stderr
    assert folder.rejects.read_text() == "precious"
    assert receiver.calls == []


def test_json_lines_are_sent_and_rejected_as_json_lines(receiver: RecordingReceiver, folder: Folder) -> None:
    folder.body(PERSONAL)
    folder.file = folder.path / "messages.jsonl"
    folder.file.write_text('{"customerid": "a", "name": "Ann"}\n{"customerid": "b"}\n')
    assert json.loads(folder.send("--json").stdout)["sent"] == 1
    assert receiver.bodies[0]["destination"] == [{"customerid": ["a"]}]
    [rejected] = (folder.path / "messages.jsonl.rejected.jsonl").read_text().splitlines()
    assert json.loads(rejected) == {"customerid": "b", "row": "2", "reason": "the row has no name"}


def test_a_rate_is_kept_on_average(receiver: RecordingReceiver, folder: Folder) -> None:
    folder.rows(3_000)
    assert folder.sent("--rate", "4000")["seconds"] >= 0.5


def test_options_that_do_not_belong_together_are_told(folder: Folder) -> None:
    folder.rows(1)
    assert "belong together" in folder.send("--text", "x").stderr
    assert "belong together" in run_here(["send", "--file", str(folder.file)], folder.environment).stderr


def test_a_terminal_gets_a_bar_and_a_log_does_not(receiver: RecordingReceiver, folder: Folder) -> None:
    folder.rows(2_500)
    ran = folder.send()
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "2500 messages were handed in; 0 of 2500 rows were rejected.\n"
    folder.state.unlink()
    master, slave = pty.openpty()
    environment = folder.environment | {"TERM": "xterm"}
    command = [*receiver_command(), *folder.arguments()]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=slave) as process:
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # so the other end of a terminal ends
            while part := os.read(master, 65536):
                shown += part
    os.close(master)
    assert process.returncode == 0
    assert b"2500/2500" in shown


def test_memory_does_not_grow_with_the_rows(receiver: RecordingReceiver, folder: Folder) -> None:
    receiver.quiet = True
    peaks = []
    folder.body(PERSONAL)
    for count in (5_000, 50_000):
        folder.file = folder.path / f"{count}.csv"
        folder.rows(count, "Ann in a text that is a little longer")
        command = [sys.executable, "-c", MEASURED, *folder.arguments("--concurrency", "2")]
        ran = subprocess.run(command, env=folder.environment, capture_output=True, text=True, timeout=120, check=False)
        assert ran.returncode == 0, ran.stderr
        peaks.append(int(ran.stderr.splitlines()[-1]))
    assert peaks[1] < peaks[0] * 1.5, peaks


def test_a_real_receiver_takes_each_row_once_and_names_the_bad_one(
    postgres: str, template: str, tmp_path: Path
) -> None:
    with (
        cloned(postgres, template, "send_file") as database,
        recording_platform() as platform,
        receiver_process(database, tmp_path, platform_url=platform.url) as real,
    ):
        folder = Folder(tmp_path, real.url)
        folder.environment["RECEIVER_API_KEY"] = database.key()
        folder.body(PERSONAL)
        rows = ("msisdn,name,correlationid", "447700900001,Ann,a", f"447700900002,Ann,{'b' * 51}", "447700900003,Eve,c")
        folder.file.write_text("\n".join(rows) + "\n")
        told = json.loads(folder.send("--json").stdout)
        assert (told["sent"], told["rejected"]) == (2, 1)
        assert folder.rejects.read_text().splitlines()[1].startswith("2,")
        folder.state.unlink()
        folder.rejects.unlink()
        told = json.loads(folder.send("--json").stdout)
        assert (told["sent"], told["repeated"], told["rejected"]) == (0, 2, 1)
        kept = database.fetch("select destination, correlationid from message order by destination")
        assert [tuple(row) for row in kept] == [("447700900001", "a"), ("447700900003", "c")]

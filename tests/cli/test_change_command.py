"""The command of `receiver tail --exec` by itself: what it is handed, and that nothing of it is left."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from receiver.cli.change_command import ChangeCommand
from tests.support import eventually

CHANGE = {"id": "an-id", "state": "failed", "country": None, "code": "71\0 01", "correlationid": "$(touch broken); `x`"}


def script(folder: Path, text: str) -> str:
    """A command line that runs this shell script."""
    (folder / "script").write_text(text)
    return f"sh '{folder / 'script'}'"


def test_what_a_change_says_is_no_shell_s_to_read(tmp_path: Path) -> None:
    text = (
        f'printf "%s" "$RECEIVER_CHANGE_CORRELATIONID|$RECEIVER_CHANGE_CODE|$RECEIVER_CHANGE_COUNTRY" > {tmp_path}/said'
    )
    assert ChangeCommand(script(tmp_path, f"{text}; cat > {tmp_path}/input"), 20).run(CHANGE) is None
    assert (tmp_path / "said").read_text() == "$(touch broken); `x`|71 01|"
    assert json.loads((tmp_path / "input").read_text()) == CHANGE
    assert not Path("broken").exists()


@pytest.mark.parametrize(
    "text", ["exec <&-; sleep 0.2", "true", "head -c 1 > /dev/null"], ids=["closes", "never", "part"]
)
def test_who_does_not_read_the_change_to_its_end_has_not_failed(tmp_path: Path, text: str) -> None:
    assert ChangeCommand(script(tmp_path, text), 20).run(CHANGE | {"reason": "x" * 1_000_000}) is None


def test_how_a_run_went_is_told_in_words(tmp_path: Path) -> None:
    for text, words in (("exit 3", "ended with 3"), ("kill -9 $$", "was ended by signal 9")):
        assert ChangeCommand(script(tmp_path, text), 20).run(CHANGE) == words
    program = tmp_path / "program"
    program.write_text("no program")
    program.chmod(0o700)
    said = ChangeCommand(str(program), 20).run(CHANGE)
    assert said is not None
    assert "could not be started" in said


def test_what_it_started_ends_with_it_though_it_does_not_want_to(tmp_path: Path) -> None:
    stubborn = f'(trap "" TERM; echo > {tmp_path}/deaf; exec sleep 300) &\necho "$!" > {tmp_path}/started\nwait'
    command = ChangeCommand(script(tmp_path, stubborn), 2)
    assert command.run(CHANGE) == "was ended after 2 s"
    assert (tmp_path / "deaf").exists()
    eventually(lambda: has_ended(int((tmp_path / "started").read_text())))


def test_who_ends_when_asked_is_not_killed(tmp_path: Path) -> None:
    tidy = f'trap "echo > {tmp_path}/tidied; exit" TERM\nsleep 300 &\nwait'
    assert ChangeCommand(script(tmp_path, tidy), 2).run(CHANGE) == "was ended after 2 s"
    assert (tmp_path / "tidied").exists()


def test_many_runs_leave_no_dead_processes() -> None:
    before, command = children(), ChangeCommand("true", 20)
    for _ in range(10):
        assert command.run(CHANGE) is None
    assert children() == before


def test_a_second_ctrl_c_leaves_nothing_either(tmp_path: Path) -> None:
    deaf = f'trap "echo > {tmp_path}/asked" TERM\necho "$$" > {tmp_path}/new\nmv {tmp_path}/new {tmp_path}/started\n'
    ours = "import sys\nfrom receiver.cli.change_command import ChangeCommand\nChangeCommand(sys.argv[1], 60).run({})\n"
    line = script(tmp_path, f"{deaf}while :; do sleep 0.05; done")
    with subprocess.Popen([sys.executable, "-c", ours, line], stderr=subprocess.DEVNULL) as process:
        for sign in ("started", "asked"):
            eventually((tmp_path / sign).exists, seconds=60)
            process.send_signal(signal.SIGINT)
        process.wait(60)
    eventually(lambda: has_ended(int((tmp_path / "started").read_text())))


def children() -> set[str]:
    """Our own processes, dead ones too."""
    return {name for task in Path("/proc/self/task").iterdir() for name in (task / "children").read_text().split()}


def has_ended(process: int) -> bool:
    """Whether it is gone, or dead and nobody has looked."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True

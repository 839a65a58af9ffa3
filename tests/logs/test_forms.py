"""A line is a line and tells no words, whoever logs it: our own code, a library, the loop, Python itself."""

import json
import logging
import os
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from receiver.logs import News

NUMBER = "447700900077"


def logged(code: str, level: str = "info", **environment: str) -> list[dict[str, Any]]:
    """What a process logs that does this; every line of its standard error has to be one of JSON."""
    program = f"import logging\nfrom receiver import logs\nlogs.set_up({level!r})\n{textwrap.dedent(code)}"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, env={**os.environ, **environment}
    )
    return [json.loads(line) for line in ended.stderr.decode().splitlines()]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_no_text_breaks_a_line(encoding: str) -> None:
    text = "é\u2028\x85\n\x1b[2J\ud800" + "x" * 100_000
    code = f"logging.getLogger('receiver.x').warning('odd', extra={{'host': {text!a}}})"
    [line] = logged(code, PYTHONIOENCODING=encoding)
    assert line["host"] == text


def test_of_a_task_that_nobody_waited_for_the_words_are_not_told() -> None:
    code = f"""
        import asyncio, gc
        async def fail(): raise ValueError("{NUMBER}")
        async def main():
            task = asyncio.create_task(fail())
            await asyncio.sleep(0.01)
            def broken(body): raise ValueError(body)
            asyncio.get_running_loop().call_soon(broken, "{NUMBER}")
            await asyncio.sleep(0.01)
        asyncio.run(main())
        gc.collect()
    """
    lines = logged(code)
    assert {line["text"] for line in lines} == {
        "Task exception was never retrieved",
        "Exception in callback main.",
    }
    assert NUMBER not in json.dumps(lines)
    assert NUMBER in json.dumps(logged(code, "debug"))


def test_what_python_can_not_raise_is_an_event() -> None:
    code = f"""
        class Odd:
            def __del__(self): raise ValueError("{NUMBER}")
        Odd()
    """
    [line] = logged(code)
    assert (line["event"], line["reason"], line["level"]) == ("fault_ignored", "ValueError", "error")
    assert NUMBER not in json.dumps(line)


def test_a_library_that_logs_in_odd_ways_harms_nobody() -> None:
    code = """
        log = logging.getLogger("a.library")
        log.warning("%d of %d", "one")
        log.log(35, "between two levels")
        log.error("first line\\nhost=private")
        print("went on", flush=True)
    """
    lines = logged(code)
    assert [(line["event"], line["text"]) for line in lines] == [
        ("library", "%d of %d"),
        ("library", "between two levels"),
        ("library", "first line"),
    ]


def test_at_a_terminal_no_text_moves_the_cursor_or_begins_a_line() -> None:
    code = """
        said = {"name": "receiver.x", "levelname": "INFO", "msg": "odd", "host": "a\\n\\x1b[2Jb"}
        print(logs.PrettyFormatter().format(logging.makeLogRecord(said))[9:])
    """
    program = f"import logging\nfrom receiver import logs\n{textwrap.dedent(code)}"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert shown.stdout == "info    odd host=a\\n\\x1b[2Jb\n"


def test_what_any_stranger_can_make_the_server_say_comes_once_a_minute() -> None:
    at = 0.0
    news = News(lambda: at)

    def told(text: str) -> dict[str, Any] | None:
        record = logging.makeLogRecord({"name": "uvicorn.error", "msg": text})
        return vars(record) if news.filter(record) else None

    assert told("Invalid HTTP request received.")
    assert told("Unsupported upgrade request.")
    assert [told("Invalid HTTP request received.") for _ in range(500)] == [None] * 500
    at = 61.0
    assert (told("Invalid HTTP request received.") or {})["not_told"] == 500
    at = 122.0
    assert "not_told" not in (told("Invalid HTTP request received.") or {})

"""The examples of docs/client.md run as they stand, one after the other."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from tests.sending.platforms import sandbox_platform
from tests.support import Database, receiver_process

PAGE = Path(__file__).parent.parent.parent / "docs" / "client.md"


def test_the_examples_of_the_page_run(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    with (
        sandbox_platform() as platform,
        receiver_process(database, tmp_path, platform_url=platform.url) as receiver,
    ):
        monkeypatch.setenv("RECEIVER_URL", receiver.url)
        monkeypatch.setenv("RECEIVER_API_KEY", database.key())
        shown, names = io.StringIO(), {"__name__": "page"}
        with contextlib.redirect_stdout(shown):
            for number, block in enumerate(blocks):
                exec(compile(block, f"{PAGE.name}, example {number + 1}", "exec"), names)
    assert shown.getvalue().startswith("reached delivered\n")
    assert " undelivered\n" in shown.getvalue() or " delivered\n" in shown.getvalue()
    assert shown.getvalue().endswith(f"{names['message_id']}\n")

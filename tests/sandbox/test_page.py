"""docs/sandbox.md says what the sandbox does."""

import re
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from receiver.cli.commands import application, load
from receiver.sandbox import event, hostile, magic, spelling
from receiver.sandbox.channels import FAMILIES
from receiver.sandbox.scenario import ScenarioStep, read_toml
from receiver.sandbox.settings import SandboxSettings
from tests.test_docs import table

PAGE = Path(__file__).parent.parent.parent / "docs" / "sandbox.md"


def test_the_page_shows_every_magic_number() -> None:
    assert table("sandbox.md", "number", "name") == [[row.number, row.name, row.happens] for row in magic.TABLE]


@pytest.mark.parametrize(
    ("head", "shares"),
    [
        ("of messages", hostile.OF_MESSAGES),
        ("of bodies", hostile.OF_BODIES),
        ("of receipts", spelling.SHARES),
    ],
)
def test_the_page_shows_every_trouble_with_its_share(head: str, shares: dict[str, float]) -> None:
    shown = {row[0]: row[1] for row in table("sandbox.md", head)}
    assert shown == {name: f"{share * 100:g} %" for name, share in shares.items()}


def test_the_page_shows_every_channel_with_its_statuses() -> None:
    for name, told_as, statuses in table("sandbox.md", "channel", "told as"):
        family = FAMILIES[name]
        words = {step.word.status for one in (*family.good, *family.bad) for step in one.steps if not step.channel}
        assert (told_as, {word.strip("` ") for word in statuses.split(",")}) == (family.told_as, words)
    assert [row[0] for row in table("sandbox.md", "channel", "told as")] == list(FAMILIES)


def test_the_page_shows_every_field_of_a_step() -> None:
    shown = {name.strip("` ") for row in table("sandbox.md", "field of a step") for name in row[0].split(",")}
    assert shown == {field.encode_name for field in msgspec.structs.fields(ScenarioStep)}


def test_the_page_shows_every_option() -> None:
    shown = [row[0] for row in table("sandbox.md", "option")]
    assert shown == [option.opts[0] for option in load("sandbox").params if option.name != "help"]


def test_the_scenario_of_the_page_can_be_played() -> None:
    text = PAGE.read_text()
    [example] = re.findall(r"```toml\n(.*?)```", text, re.S)
    assert len(read_toml(example.encode())) == 5


def test_the_event_of_the_page_sends_its_children() -> None:
    [example] = [one for one in re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.S) if "evtid" in one]
    [found] = event.read(example.replace("…", "x").encode(), SandboxSettings(keys=("k",))).events
    assert [(child.channel, child.destination, child.subtid) for child in found.children] == [
        ("sms", "447700900001", "1"),
        ("email", "jo@example.com", "2"),
        ("push", "", "3"),
    ]


def test_a_profile_that_is_none_is_refused() -> None:
    answer = CliRunner().invoke(application, ["sandbox", "--profile", "kind"])
    assert answer.exit_code == 2


def test_a_scenario_file_that_cannot_be_read_ends_the_command(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    for content in (None, b"[[step]", b"\xff", b"step = 3"):
        if content is not None:
            file.write_bytes(content)
        answer = CliRunner().invoke(application, ["sandbox", "--scenario", str(file)])
        assert answer.exit_code == 2, content


def test_a_service_without_a_secret_ends_the_command() -> None:
    for service in ("svc", "svc=", "svc=not base64!"):
        answer = CliRunner().invoke(application, ["sandbox", "--service", service])
        assert answer.exit_code == 2, service

"""docs/sandbox.md says what the sandbox does."""

import pytest
from typer.testing import CliRunner

from receiver.cli.commands import application
from receiver.sandbox import hostile, magic, spelling
from receiver.sandbox.channels import FAMILIES
from tests.test_docs import table


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


def test_a_profile_that_is_none_is_refused() -> None:
    answer = CliRunner().invoke(application, ["sandbox", "--profile", "kind"])
    assert answer.exit_code == 2

"""`receiver doctor` as an operator runs it: content with what is well, exit code 1 and the name of what is not."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from receiver.cli.commands import application
from receiver.database.embedded import visiting
from receiver.doctor.examination import CHECKS
from tests.doctor.examining import DATABASE_CHECKS
from tests.sending.platforms import sandbox_platform
from tests.support import (
    PLATFORM_KEY,
    SECRET,
    Database,
    environment_of,
    eventually,
    free_port,
    receiver_command,
    receiver_process,
)
from tests.test_docs import table

SECRETS = (SECRET, PLATFORM_KEY)


@dataclass
class Looked:
    """What it printed, and its exit code."""

    code: int
    text: str

    @property
    def checks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.text)["checks"]
        return found

    def failed(self) -> set[str]:
        return {check["name"] for check in self.checks if check["result"] == "failure"}


def looked(code: int, said: str, complaints: str) -> Looked:
    assert complaints == "", complaints
    assert not [secret for secret in SECRETS if secret in said]
    assert "/notify/" not in said.replace("Lead /notify/ of", "")
    return Looked(code, said)


def look(settings: dict[str, str], *words: str) -> Looked:
    """The command as an operator calls it, in this process: to start one costs a second of a processor."""
    none: dict[str, str | None] = dict.fromkeys(name for name in os.environ if name.startswith("RECEIVER_"))
    done = CliRunner().invoke(application, ["doctor", *words], env={**none, **settings})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return looked(done.exit_code, done.stdout, done.stderr)


def look_from_outside(settings: dict[str, str], *words: str) -> Looked:
    """The same in a process of its own."""
    done = subprocess.run(
        [*receiver_command(), "doctor", *words],
        env=environment_of(**settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return looked(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[str]:
    """The address of a simulated platform."""
    with sandbox_platform() as platform:
        yield platform.url


class Installed(NamedTuple):
    """A receiver that serves."""

    settings: dict[str, str]
    secret: str
    dsn: str

    def on(self, dsn: str) -> dict[str, str]:
        """The same settings with a database of one's own."""
        own = {"RECEIVER_DATABASE_URL": dsn, "RECEIVER_SECRET": self.secret, "RECEIVER_DATA_DIR": ""}
        return self.settings | own | {"RECEIVER_SPOOL": str(Path(self.settings["RECEIVER_DATA_DIR"], "spool"))}


@pytest.fixture(scope="module")
def installed(sandbox: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """One with an embedded Postgres and a secret of its own making, which has done its first background duties."""
    folder, port = tmp_path_factory.mktemp("installed"), free_port()
    data = folder / "data"
    settings = {
        "RECEIVER_DATA_DIR": str(data),
        "RECEIVER_PORT": str(port),
        "RECEIVER_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "RECEIVER_PLATFORM_URL": sandbox,
        "RECEIVER_PLATFORM_KEY": PLATFORM_KEY,
    }
    assert CliRunner().invoke(application, ["migrate"], env=settings).exit_code == 0
    nothing = {"RECEIVER_DATABASE_URL": "", "RECEIVER_SECRET": "", "RECEIVER_SPOOL": ""}
    with (
        receiver_process(Database("", "embedded"), folder, platform_url=sandbox, **nothing, **settings),
        visiting(data) as cluster,
    ):
        held = "select count(*) from duty where until > now()"
        eventually(lambda: Database(cluster.dsn, "receiver").value(held))
        yield Installed(settings, (data / "secret").read_text().strip(), cluster.dsn)


def test_a_healthy_installation_pleases_it(installed: Installed) -> None:
    found = look_from_outside(installed.settings, "--json")
    ended = {(check["name"], check["result"]) for check in found.checks}
    assert found.code == 0, found.text
    assert {name for name, result in ended if result == "skipped"} == {"certificate", "outside clock"}
    assert {name for name, result in ended if result == "warning"} == {"settings"}, "the token alone opens the door"
    assert {name for name, _ in ended} == {check.name for check in CHECKS}
    assert json.loads(found.text)["result"] == "warning"
    assert installed.secret not in found.text


def test_it_is_read_by_people_too(installed: Installed) -> None:
    found = look(installed.on(installed.dsn), "--full")
    lines = found.text.splitlines()
    assert "ok       schema: the schema is 0001" in lines
    assert any(line.startswith("warning  settings: ") for line in lines)
    assert any(line.startswith("         → Set ") for line in lines)
    assert found.code == 0


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"RECEIVER_PLATFORM_KEY": "the key of another service"}, {"platform"}),
        ({"RECEIVER_SECRET": "the secret of another installation"}, {"public address"}),
        ({"RECEIVER_SPOOL": "/dev/null"}, {"spool folder"}),
    ],
    ids=["platform key", "secret", "spool"],
)
def test_it_names_what_was_broken_on_purpose(installed: Installed, changes: dict[str, str], failed: set[str]) -> None:
    found = look(installed.settings | changes, "--json")
    assert (found.code, found.failed()) == (1, failed), found.text


def test_it_names_every_setting_that_can_t_be_read_and_ends_with_1(installed: Installed) -> None:
    found = look_from_outside(
        installed.settings | {"RECEIVER_QUARANTINE_DAYS": "0", "RECEIVER_NONSENSE": "1"}, "--json"
    )
    assert (found.code, found.failed()) == (1, {"settings"}), found.text
    said = " ".join(check["found"] for check in found.checks if check["name"] == "settings")
    assert "RECEIVER_QUARANTINE_DAYS" in said
    assert "RECEIVER_NONSENSE" in said, "every one at once"


@pytest.mark.parametrize("password", ["half/other", "half?other", "half#other", "half@other/", "[half"])
def test_a_password_that_was_not_quoted_is_not_shown(installed: Installed, password: str) -> None:
    dsn = f"postgresql://somebody:{password}@127.0.0.1:{free_port()}/receiver"
    found = look(installed.on(dsn), "--json")
    assert (found.code, found.failed()) == (1, {"database"})
    assert "half" not in found.text
    assert "other" not in found.text.replace("the others", "").replace("another", "")


def test_it_goes_on_when_postgres_is_away(installed: Installed) -> None:
    away = f"postgresql://somebody:{SECRET.replace(' ', '')}@127.0.0.1:{free_port()}/receiver"
    found = look(installed.on(away), "--json")
    results = {check["name"]: check["result"] for check in found.checks}
    assert found.code == 1
    assert found.failed() == {"database"}
    assert {results[name] for name in DATABASE_CHECKS} == {"skipped"}
    assert (results["public address"], results["platform"]) == ("ok", "ok")
    assert SECRET.replace(" ", "") not in found.text


def test_what_is_missing_for_serving_keeps_it_from_nothing_else(installed: Installed) -> None:
    found = look({k: v for k, v in installed.settings.items() if k != "RECEIVER_PUBLIC_URL"}, "--json")
    results = {check["name"]: check["result"] for check in found.checks}
    assert (found.code, results["settings"], results["schema"]) == (1, "failure", "ok")


def test_where_there_is_no_embedded_postgres_yet_none_is_made(installed: Installed, tmp_path: Path) -> None:
    found = look(installed.settings | {"RECEIVER_DATA_DIR": str(tmp_path / "data")}, "--json")
    assert found.failed() == {"database"}
    assert "receiver migrate" in found.text
    assert not (tmp_path / "data").exists()


def test_the_page_explains_every_check() -> None:
    assert [row[0] for row in table("doctor.md", "check")] == [check.name for check in CHECKS]

"""`receiver doctor` as an operator runs it: content with what is well, exit code 1 and the name of what is not."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from receiver.doctor.examination import CHECKS
from tests.doctor.examining import DATABASE_CHECKS
from tests.support import (
    PLATFORM_KEY,
    SECRET,
    Database,
    Receiver,
    cloned,
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


def look(settings: dict[str, str], *words: str) -> Looked:
    done = subprocess.run(
        [*receiver_command(), "doctor", *words],
        env=environment_of(**settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == "", done.stderr
    assert not [secret for secret in SECRETS if secret in done.stdout]
    assert "/notify/" not in done.stdout.replace("Lead /notify/ of", "")
    return Looked(done.returncode, done.stdout)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a simulated platform in a process of its own."""
    port, log = free_port(), tmp_path_factory.mktemp("sandbox") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*receiver_command(), "sandbox", "--port", str(port), "--key", PLATFORM_KEY],
            env=environment_of(),
            stdout=output,
            stderr=output,
        )
    try:
        eventually(lambda: process.poll() is not None or "listens" in log.read_text())
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def installed(
    postgres: str, template: str, sandbox: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Receiver, dict[str, str]]]:
    """A receiver that serves and has done its first background duties, and the settings that it has."""
    folder = tmp_path_factory.mktemp("installed")
    with (
        cloned(postgres, template, "doctor") as database,
        receiver_process(database, folder, platform_url=sandbox) as receiver,
    ):
        eventually(lambda: database.value("select count(*) from duty where until > now()"))
        settings = {
            "RECEIVER_DATABASE_URL": database.dsn,
            "RECEIVER_PUBLIC_URL": receiver.url,
            "RECEIVER_PLATFORM_URL": sandbox,
            "RECEIVER_PLATFORM_KEY": PLATFORM_KEY,
            "RECEIVER_SECRET": SECRET,
            "RECEIVER_SPOOL": str(folder / f"spool-{database.name}"),
        }
        yield receiver, settings


Installed = tuple[Receiver, dict[str, str]]


def test_a_healthy_installation_pleases_it(installed: Installed) -> None:
    _, settings = installed
    looked = look(settings, "--json")
    ended = {(check["name"], check["result"]) for check in looked.checks}
    assert looked.code == 0, looked.text
    assert {name for name, result in ended if result == "skipped"} == {"certificate", "outside clock"}
    assert {name for name, result in ended if result == "warning"} == {"settings"}, "the token alone opens the door"
    assert {name for name, _ in ended} == {check.name for check in CHECKS}
    assert json.loads(looked.text)["result"] == "warning"


def test_it_is_read_by_people_too(installed: Installed) -> None:
    _, settings = installed
    looked = look(settings, "--full")
    lines = looked.text.splitlines()
    assert "ok       schema: the schema is 0001" in lines
    assert any(line.startswith("warning  settings: ") for line in lines)
    assert any(line.startswith("         → Set ") for line in lines)
    assert looked.code == 0


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"RECEIVER_PLATFORM_KEY": "the key of another service"}, {"platform"}),
        ({"RECEIVER_SECRET": "the secret of another installation"}, {"public address"}),
        ({"RECEIVER_SPOOL": "/dev/null"}, {"spool folder"}),
        ({"RECEIVER_QUARANTINE_DAYS": "0", "RECEIVER_NONSENSE": "1"}, {"settings"}),
    ],
    ids=["platform key", "secret", "spool", "settings"],
)
def test_it_names_what_was_broken_on_purpose(installed: Installed, changes: dict[str, str], failed: set[str]) -> None:
    looked = look({**installed[1], **changes}, "--json")
    assert (looked.code, looked.failed()) == (1, failed), looked.text
    if "settings" in failed:
        said = " ".join(check["found"] for check in looked.checks if check["name"] == "settings")
        assert "RECEIVER_QUARANTINE_DAYS" in said
        assert "RECEIVER_NONSENSE" in said, "every one at once"


def test_it_goes_on_when_postgres_is_away(installed: Installed) -> None:
    away = f"postgresql://somebody:{SECRET.replace(' ', '')}@127.0.0.1:{free_port()}/receiver"
    looked = look({**installed[1], "RECEIVER_DATABASE_URL": away}, "--json")
    results = {check["name"]: check["result"] for check in looked.checks}
    assert looked.code == 1
    assert looked.failed() == {"database"}
    assert {results[name] for name in DATABASE_CHECKS} == {"skipped"}
    assert (results["public address"], results["platform"]) == ("ok", "ok")
    assert SECRET.replace(" ", "") not in looked.text


def test_what_is_missing_for_serving_keeps_it_from_nothing_else(installed: Installed) -> None:
    looked = look({k: v for k, v in installed[1].items() if k != "RECEIVER_PUBLIC_URL"}, "--json")
    results = {check["name"]: check["result"] for check in looked.checks}
    assert (looked.code, results["settings"], results["schema"]) == (1, "failure", "ok")


def test_an_embedded_postgres_that_serves_is_looked_at_and_none_is_made(sandbox: str, tmp_path: Path) -> None:
    port = free_port()
    settings = {
        "RECEIVER_DATA_DIR": str(tmp_path / "data"),
        "RECEIVER_PORT": str(port),
        "RECEIVER_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "RECEIVER_PLATFORM_URL": sandbox,
        "RECEIVER_PLATFORM_KEY": PLATFORM_KEY,
    }
    looked = look(settings, "--json")
    assert looked.failed() == {"database"}
    assert "receiver migrate" in looked.text
    assert not (tmp_path / "data").exists()
    subprocess.run([*receiver_command(), "migrate"], env=environment_of(**settings), check=True, timeout=120)
    nothing = {"RECEIVER_DATABASE_URL": "", "RECEIVER_SECRET": "", "RECEIVER_SPOOL": ""}
    with receiver_process(Database("", "embedded"), tmp_path, platform_url=sandbox, **nothing, **settings):
        eventually(lambda: look(settings, "--json").code == 0, seconds=60)


def test_the_page_explains_every_check() -> None:
    assert [row[0] for row in table("doctor.md", "check")] == [check.name for check in CHECKS]

"""The commands, run as a person or a script runs them: what they print, and with which code they end."""

import hashlib
import json
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from receiver.access.tokens import NotifyTokens
from receiver.cli.commands import LINES, load
from tests.sending.platforms import receipt, recording_platform, tell
from tests.support import SECRET, Database, Receiver, cloned, environment_of, receiver_command, receiver_process

ROOT = Path(__file__).parent.parent.parent
Ran = subprocess.CompletedProcess[str]


def command(*arguments: str, **variables: str) -> Ran:
    environment = environment_of(**{f"RECEIVER_{name}": value for name, value in variables.items()}) | {
        "COLUMNS": "200"
    }
    return subprocess.run(
        [*receiver_command(), *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def one_sentence(ran: Ran, *words: str, code: int = 1) -> None:
    """It failed, and said why in one line on standard error."""
    assert ran.returncode == code, ran.stderr
    lines = [line for line in ran.stderr.splitlines() if line]
    assert len(lines) == 1, ran.stderr
    assert lines[0].startswith("receiver: ")
    for word in words:
        assert word in lines[0]
    assert ran.stdout == ""


@pytest.fixture(scope="module")
def receiver(postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("cli")
    with (
        cloned(postgres, template, "cli") as database,
        recording_platform() as platform,
        receiver_process(database, folder, platform_url=platform.url) as receiver,
    ):
        yield receiver


SERVING = {"PUBLIC_URL": "https://receiver.example", "SECRET": SECRET}


def test_help_lists_every_command_and_so_does_no_command_at_all() -> None:
    ran = command("--help")
    assert (ran.returncode, command().stdout.strip()) == (0, ran.stdout.strip())
    lines = ran.stdout.splitlines()
    shown = [(words[1], " ".join(words[2:-1])) for words in map(str.split, lines) if words[:1] == ["│"]]
    panels = list(dict.fromkeys(line.panel for line in LINES.values()))
    assert [line.strip("╭─╮ ") for line in lines if line.startswith("╭")] == ["Options", *panels]
    assert shown[2:] == [(name, line.help.replace("`", "")) for name, line in LINES.items()]
    assert "create" in command("keys", "--help").stdout
    assert command("--version").stdout.strip() == "0.1.0"


@pytest.mark.parametrize("name", LINES)
def test_the_line_of_a_command_is_what_its_own_help_begins_with(name: str) -> None:
    found = load(name)
    assert found.name == name
    assert " ".join(found.help.partition("\n\n")[0].split()) == LINES[name].help


# The front door, and then the names of all modules that are imported by its end.
IMPORTED = """
import sys
from receiver.__main__ import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
HEAVY = {"receiver.app", "aiohttp", "asyncpg", "httpx2", "uvicorn", "sqlalchemy"}


@pytest.mark.parametrize(
    ("arguments", "needed", "needless"),
    [
        ("--version", "receiver.cli.commands", HEAVY),
        ("--help", "receiver.cli.commands", HEAVY),
        ("sandbox --help", "receiver.cli.sandbox", {"receiver.app", "aiohttp", "asyncpg"}),
        ("serve --help", "receiver.cli.serve", {"receiver.sandbox", "sqlalchemy"}),
        ("keys create --help", "receiver.cli.keys", HEAVY - {"asyncpg"}),
        ("show --help", "receiver.cli.user", {"receiver.app", "receiver.cli.send_file"}),
    ],
)
def test_a_start_imports_only_what_its_command_needs(arguments: str, needed: str, needless: set[str]) -> None:
    """All rooms together take most of a second of a processor."""
    start = [sys.executable, "-c", IMPORTED, *arguments.split()]
    ran = subprocess.run(start, env=environment_of(), capture_output=True, text=True, timeout=60, check=True)
    found = set(ran.stderr.split())
    assert needed in found
    assert not needless & found


def test_migrating_twice_is_as_good_as_once(fresh_database: Callable[[], Database]) -> None:
    database = fresh_database()
    database.fetch("drop schema public, receiver_v1 cascade")
    database.fetch("create schema public")
    first = command("migrate", DATABASE_URL=database.dsn)
    assert (first.returncode, "was empty" in first.stdout) == (0, True), first.stderr
    counts = database.counts()
    second = command("migrate", "--json", DATABASE_URL=database.dsn)
    assert second.returncode == 0
    told = json.loads(second.stdout)
    assert told["before"] == told["after"]
    assert database.counts() == counts
    assert counts["week"] > 0


def test_a_key_is_shown_once_and_only_its_hash_is_stored(receiver: Receiver) -> None:
    database = receiver.database
    ran = command("keys", "create", "--name", "mine", "--scopes", "read", DATABASE_URL=database.dsn)
    assert ran.returncode == 0, ran.stderr
    key = ran.stdout.strip()
    assert key.startswith("rk_")
    assert "only its hash" in ran.stderr
    row = database.fetch("select a::text as whole, hash, scopes from api_key a where name = 'mine'")[0]
    assert row["hash"] == hashlib.sha256(key.encode()).digest()
    assert row["scopes"] == ["read"]
    assert key.rpartition("_")[2] not in row["whole"]
    with receiver.client(key) as client:
        assert client.get("/v1/messages").status_code == 200


def test_a_key_in_json(receiver: Receiver) -> None:
    ran = command("keys", "create", "--name", "j", "--json", DATABASE_URL=receiver.database.dsn)
    assert set(json.loads(ran.stdout)) > {"key", "prefix", "tenant", "scopes"}


def test_a_key_that_can_not_be_made_is_one_sentence(receiver: Receiver) -> None:
    dsn = receiver.database.dsn
    one_sentence(command("keys", "create", DATABASE_URL=dsn), "--name", code=2)
    one_sentence(command("keys", "create", "--name", "x", "--scopes", "fly", DATABASE_URL=dsn), "fly", code=2)
    one_sentence(command("keys", "create", "--name", "x", "--tenant", "nobody", DATABASE_URL=dsn), "nobody", code=2)


def test_the_notify_url_bears_the_tenant_s_token(receiver: Receiver) -> None:
    variables = {"DATABASE_URL": receiver.database.dsn, **SERVING}
    expected = f"https://receiver.example/notify/{NotifyTokens(SECRET).sign('default')}"
    assert command("notify-url", **variables).stdout == f"{expected}\n"
    assert json.loads(command("notify-url", "--json", **variables).stdout)["url"] == expected
    one_sentence(command("notify-url", DATABASE_URL=receiver.database.dsn, SECRET=SECRET), "PUBLIC_URL", code=2)


def test_send_and_show(receiver: Receiver) -> None:
    variables = {"URL": receiver.url, "API_KEY": receiver.database.key()}
    sent = command("send", "--to", "447700900001", "--text", "Hello", "--correlationid", "[/red] [x]", **variables)
    assert sent.returncode == 0, sent.stderr
    identity, number, state = sent.stdout.split()
    assert (number, state) == ("447700900001", "queued")
    told = receipt("Failed", "7101", number, correlationid=identity, description="[/bold] \x1b[31m", transid="[/]")
    assert tell(receiver.notify_url(), told) == 200
    shown = command("show", identity, **variables)
    assert shown.returncode == 0, shown.stderr
    for part in (identity, number, "failed", "7101", "[/red] [x]", "timeline"):
        assert part in shown.stdout
    assert "\x1b" not in shown.stdout
    for other in ("[/red] [x]", f"+{number}"):
        found = json.loads(command("show", other, "--json", **variables).stdout)
        assert (found["id"], found["state"]) == (identity, "failed")


def test_several_messages_of_one_number_are_a_table(receiver: Receiver) -> None:
    variables = {"URL": receiver.url, "API_KEY": receiver.database.key()}
    for _ in range(2):
        sent = command("send", "--to", "447700900002", "--text", "Hello", "--json", **variables)
        assert json.loads(sent.stdout)["messages"][0]["state"] == "queued"
    shown = command("show", "447700900002", **variables)
    assert shown.stdout.count("447700900002") == 2
    assert len(json.loads(command("show", "447700900002", "--json", **variables).stdout)) == 2


def test_a_body_in_a_file_is_sent_and_a_broken_rule_is_told(receiver: Receiver, tmp_path: Path) -> None:
    variables = {"URL": receiver.url, "API_KEY": receiver.database.key()}
    file = tmp_path / "body.json"
    file.write_text('{"deliverychannel": "pigeon"}')
    refused = command("send", "--body", str(file), **variables)
    assert refused.returncode == 1
    assert "422" in refused.stderr
    assert "/destination" in refused.stderr
    assert "Traceback" not in refused.stderr
    file.write_text("no json")
    one_sentence(command("send", "--body", str(file), **variables), "no JSON")
    one_sentence(command("send", "--body", str(tmp_path), **variables), "can't be read")
    one_sentence(command("send", **variables), "--to")


def test_a_user_s_command_that_can_not_work_is_one_sentence(receiver: Receiver) -> None:
    key = receiver.database.key()
    one_sentence(command("show", "x"), "RECEIVER_API_KEY")
    one_sentence(command("show", "x", API_KEY="rk_x", URL=receiver.url), "401")
    one_sentence(command("show", "nothing", API_KEY=key, URL=receiver.url), "nothing is known")


def test_every_bad_setting_is_a_line_and_the_code_is_2() -> None:
    ran = command("serve", PORT="x", MAX_BODY="y", PLATFORM_KEY="a-secret-key", PROT="1")
    assert ran.returncode == 2
    lines = ran.stderr.splitlines()
    assert all(line.startswith("receiver: ") for line in lines)
    for name in ("PORT", "MAX_BODY", "PROT", "PUBLIC_URL", "SECRET", "DATABASE_URL"):
        assert f"RECEIVER_{name}" in ran.stderr
    assert "a-secret-key" not in ran.stderr


def test_a_port_that_is_taken_is_one_sentence(receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = command("serve", DATABASE_URL=receiver.database.dsn, PORT=port, **SERVING)
        one_sentence(ran, port, "taken", "RECEIVER_PORT")


def test_a_database_that_is_not_there_is_one_sentence(receiver: Receiver) -> None:
    away = "postgresql://someone:a-password@127.0.0.1:9/receiver"
    for arguments in (("migrate",), ("keys", "create", "--name", "x")):  # `serve` waits for it
        ran = command(*arguments, DATABASE_URL=away, **_free())
        one_sentence(ran, "does not answer", "127.0.0.1:9")
        assert "a-password" not in ran.stderr
    missing = receiver.database.dsn.replace(receiver.database.name, "no_such_database")
    for arguments in (("migrate",), ("serve",)):
        one_sentence(command(*arguments, DATABASE_URL=missing, **_free()), "does not exist")


def _free() -> dict[str, str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return {"PORT": str(probe.getsockname()[1]), **SERVING}


def test_a_schema_that_is_missing_or_old_names_the_command(fresh_database: Callable[[], Database]) -> None:
    database = fresh_database()
    database.fetch("update alembic_version set version_num = '0000'")
    one_sentence(command("serve", DATABASE_URL=database.dsn, **_free()), "0000", "receiver migrate")
    database.fetch("drop table alembic_version")
    for arguments in (("serve",), ("keys", "create", "--name", "x")):
        one_sentence(command(*arguments, DATABASE_URL=database.dsn, **_free()), "receiver migrate")


def test_a_folder_that_can_not_be_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    for arguments in (("serve",), ("migrate",)):
        ran = command(*arguments, DATA_DIR=str(file / "data"), **_free())
        one_sentence(ran, str(file))


def test_an_unknown_command_is_told() -> None:
    ran = command("snd")
    assert ran.returncode == 2
    assert "No such command 'snd'. Did you mean 'send'" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout, built with what is installed: nothing is fetched."""
    pytest.importorskip("hatchling", reason="hatchling is not installed: pip install hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT)]
    ran = subprocess.run(build, capture_output=True, text=True, timeout=120, check=False, env=environment_of())
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (made,) = folder.glob("*.whl")
    return made


def test_a_wheel_holds_the_migrations_and_the_marker_of_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "receiver/py.typed" in names
    sources = [path for path in (ROOT / "migrations").rglob("*") if path.suffix in (".py", ".sql", ".mako")]
    migrations = {str(path.relative_to(ROOT / "migrations")) for path in sources}
    assert {f"receiver/_migrations/{name}" for name in migrations} <= names
    assert any(name.endswith(".sql") for name in migrations)
    assert not [name for name in names if name.startswith("tests/")]


def test_the_migrations_of_an_installed_wheel_are_found_and_work(
    wheel: Path, tmp_path: Path, fresh_database: Callable[[], Database]
) -> None:
    """The wheel's files alone, on a path of their own."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    database = fresh_database()
    database.fetch("drop schema public, receiver_v1 cascade")
    database.fetch("create schema public")
    environment = environment_of(RECEIVER_DATABASE_URL=database.dsn) | {"PYTHONPATH": str(tmp_path / "installed")}
    ran = subprocess.run(
        [sys.executable, "-m", "receiver", "migrate"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "was empty" in ran.stdout

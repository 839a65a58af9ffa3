"""The house keeps its shape: who may know whom, how large a module may be, where SQL may stand."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "receiver"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 300

# What stands above or beside all rooms; it knows none of them.
GROUND = {"__init__", "environment", "errors", "ids", "logs", "metrics", "settings", "targets", "tenant_settings"} | {
    "aside",
    "asked_time",
    "at_once",
    "client",
    "document",
    "failure_settings",
    "frame",
    "openapi",
    "problem_codes",
    "reading_page",
    "vocabulary_of_keepers",
    "short_way",
    "stopping",
    "turns",
    "waits",
    "web",
    "workers",
}

# What knows all rooms.
ABOVE = {"__main__", "app", "cli", "contract", "duties", "house", "query_doors"} | {
    "vocabulary",
    "vocabulary_of_questions",
}

# room -> the rooms that it may import. Doors, workers, SQL, nouns: never up. `sending` and `receipts` never meet.
ARROWS: dict[str, set[str]] = {
    "database": set(),
    "messages": {"database"},
    "access": {"database", "messages"},
    "platform": {"messages"},
    "sending": {"access", "database", "messages", "platform"},
    "receipts": {"access", "database", "messages", "platform"},
    "queries": {"access", "database", "messages", "platform"},
    "forwarding": {"access", "database", "messages", "platform"},
    "upkeep": {"access", "database", "messages", "platform", "receipts"},
    "probe": {"access", "database", "receipts"},
    "sandbox": set(),
    "doctor": {"access", "database", "messages", "platform", "receipts"},
    "capture": {"database", "messages", "platform", "receipts", "sandbox"},
}
PURE_NAMES_OF_MESSAGES = {"receiver.messages.lattice"}
SQL_FILES = {
    "database/leases.py",
    "database/migrate.py",
    "database/online_index.py",
    "database/partitions.py",
    "database/pool.py",
    "database/reader.py",
    "database/retention.py",
    "database/postgres_server.py",
    "access/key_book.py",
    "access/keys.py",
    "access/tenants.py",
    "messages/log_steps.py",
    "messages/store.py",
    "receipts/apply.py",
    "receipts/asked.py",
    "receipts/drained.py",
    "receipts/imports.py",
    "receipts/probed.py",
    "probe/rows.py",
    "receipts/ledger.py",
    "receipts/quarantine.py",
    "receipts/quarantine_bounds.py",
    "receipts/spool_file.py",
    "upkeep/awaiting.py",
    "upkeep/completeness.py",
    "upkeep/folding.py",
    "upkeep/forgetting.py",
    "upkeep/learning.py",
    "upkeep/reconciling.py",
    "upkeep/reread_rows.py",
    "upkeep/roll_up.py",
    "upkeep/sweeping.py",
    "doctor/books.py",
    "doctor/database.py",
    "doctor/roll_up.py",
    "doctor/work.py",
    "sending/cancel.py",
    "sending/claims.py",
    "sending/idempotency.py",
    "sending/lanes.py",
    "sending/outbox.py",
    "sending/recorded.py",
    "sending/resending.py",
    "queries/batch.py",
    "queries/hours.py",
    "queries/log.py",
    "queries/looks.py",
    "queries/one_message.py",
    "queries/search.py",
    "queries/totals.py",
    "queries/statistics.py",
    "forwarding/failures.py",
    "forwarding/queue.py",
    "capture/stored.py",
}
SQL = re.compile(
    r"^\s*(select\s.+\sfrom\s|insert into\s|update\s+\w+\s+set\s|delete from\s|with\s+\w+ as|create\s+table\s)", re.I
)


def name_of(module: Path) -> str:
    return str(module.relative_to(PACKAGE))


@cache
def tree(module: Path) -> ast.Module:
    """A module as Python reads it: several tests look through each."""
    return ast.parse(module.read_text())


def imports(module: Path) -> Iterator[str]:
    """The modules of this project that a module imports, wherever the import stands."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "receiver":
            for alias in node.names:
                deeper = PACKAGE.joinpath(*node.module.split(".")[1:], alias.name)
                is_module = deeper.with_suffix(".py").exists() or deeper.is_dir()
                yield f"{node.module}.{alias.name}" if is_module else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "receiver")


def room_of(module: str) -> str:
    """The room of `receiver.room.module`, or the name of a module on the ground floor."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_room_knows_only_the_rooms_below_it(module: Path) -> None:
    room = module.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room in ABOVE:
        return
    for imported in imports(module):
        target = room_of(imported)
        if room in GROUND:
            assert target in GROUND, f"{name_of(module)} is on the ground floor and imports {imported}"
        elif target != room and target not in GROUND:
            assert target in ARROWS[room], f"{name_of(module)} imports {imported}"
        if room == "platform" and target == "messages":
            assert imported in PURE_NAMES_OF_MESSAGES, f"{name_of(module)} imports {imported}"


def test_every_room_has_its_arrows() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert rooms - GROUND == {*ARROWS, "cli"}


def test_the_two_ways_never_meet() -> None:
    for room, other in (("sending", "receipts"), ("receipts", "sending")):
        for module in (PACKAGE / room).glob("*.py"):
            assert not [name for name in imports(module) if room_of(name) == other], module


@pytest.mark.parametrize("module", [*MODULES, *sorted((ROOT / "grafana").glob("*.py"))], ids=lambda p: p.name)
def test_no_module_is_longer_than_a_reader_can_hold(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_sql_stands_only_in_the_files_for_it(module: Path) -> None:
    if name_of(module) in SQL_FILES:
        return
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = next((line for line in node.value.splitlines() if SQL.match(line)), None)
            assert found is None or _is_prose(found), f"{name_of(module)}:{node.lineno}: {found}"


def _is_prose(line: str) -> bool:
    """A sentence that begins with a word of SQL: it ends like one."""
    return line.rstrip().endswith((".", ":", ","))


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_every_module_says_what_it_is_for(module: Path) -> None:
    assert ast.get_docstring(tree(module)), name_of(module)


def test_nothing_is_named_after_nothing() -> None:
    assert not [name_of(m) for m in MODULES if re.search(r"utils?|helpers?|manager|common|misc", m.stem)]


def test_no_text_of_the_repository_names_a_folder_of_a_machine() -> None:
    places = re.compile(r"(?<![\w.])/(?:work|root|home)/\w")
    for path in (p for p in ROOT.rglob("*") if p.suffix in {".py", ".md", ".toml", ".sql", ".yml", ".ini", ".txt"}):
        if not {".venv", ".venv-fuzz", ".fuzz"} & set(path.parts) and path != Path(__file__):
            assert not places.search(path.read_text()), path

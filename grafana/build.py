"""Writes the dashboards' JSON and the rules' YAML from their Python; `--check` only tells which files have drifted."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

# Run as a script, Python puts this folder on its path and not the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from grafana.delivery import delivery
from grafana.find import find
from grafana.intake import intake
from grafana.rules import text
from grafana.sending import sending

FOLDER = Path(__file__).resolve().parent / "dashboards"
RULES = Path(__file__).resolve().parent / "alerts" / "receiver.rules.yml"

DASHBOARDS: dict[str, Callable[[], Dashboard]] = {
    "delivery.json": delivery,
    "find.json": find,
    "intake.json": intake,
    "sending.json": sending,
}


def rendered() -> dict[str, str]:
    """The text of every dashboard file by its name; the same at every call."""
    return {
        name: json.dumps(make().build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for name, make in DASHBOARDS.items()
    }


def drifted(folder: Path = FOLDER) -> list[str]:
    """Names of files in `folder` that differ from their source, are missing, or have none."""
    wanted = rendered()
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def write(folder: Path = FOLDER) -> list[str]:
    """Makes `folder` what the sources say and returns the names of the files that changed."""
    changed = drifted(folder)
    wanted = rendered()
    folder.mkdir(parents=True, exist_ok=True)
    for name in changed:
        if name in wanted:
            (folder / name).write_text(wanted[name], encoding="utf-8")
        else:
            (folder / name).unlink()
    return changed


def rules_drifted(file: Path = RULES) -> bool:
    """Whether the file of rules differs from its source, or is missing."""
    return not file.exists() or file.read_text(encoding="utf-8") != text()


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the files are as their sources say (after writing, always); 1 when `--check` found drift."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name drifted files")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the dashboards are")
    parser.add_argument("--rules", type=Path, default=RULES, help="the file of rules")
    options = parser.parse_args(arguments)
    if not options.check:
        written = [options.folder / name for name in write(options.folder)]
        if rules_drifted(options.rules):
            options.rules.write_text(text(), encoding="utf-8")
            written.append(options.rules)
        for file in written:
            print(f"wrote {file}")
        return 0
    stale = [options.folder / name for name in drifted(options.folder)]
    if rules_drifted(options.rules):
        stale.append(options.rules)
    for file in stale:
        print(f"{file} differs from its source: run `python grafana/build.py`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())

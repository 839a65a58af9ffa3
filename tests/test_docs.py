"""The documentation says what the code does: tables, codes, settings, metrics, links and commands are compared."""

import ast
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client import Info as PrometheusInfo

from receiver import metrics
from receiver.app import OPERATIONS
from receiver.cli.commands import application
from receiver.messages.lattice import (
    CEILING,
    NEGATIVE_STATES,
    NORMAL,
    POSITIVE_STATES,
    Channel,
    Fact,
    State,
)
from receiver.platform.codes import (
    ANSWER_CODES,
    BOUNCES,
    CAUSES,
    CHANNELS,
    RECEIPT_CODES,
    STATUSES,
    VOICE_STATUSES,
    Class,
    Meaning,
)
from receiver.queries.filters import PARAMETERS
from receiver.settings import SETTINGS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
MODULES = sorted(path for path in (ROOT / "receiver").rglob("*.py") if "sandbox" not in path.parts)


def table(page: str, *first_cells: str) -> list[list[str]]:
    """The rows of the one table on `page` whose head begins with `first_cells`; code marks are removed."""
    found: list[list[list[str]]] = []
    rows: list[list[str]] | None = None
    for line in [*(DOCS / page).read_text(encoding="utf-8").splitlines(), ""]:
        if not line.startswith("|"):
            rows = None
            continue
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if rows is None:
            rows = []
            if cells[: len(first_cells)] == list(first_cells):
                found.append(rows)
        elif not set(line) <= set("|- :"):
            rows.append(cells)
    assert len(found) == 1, f"{len(found)} tables of {page} begin with {first_cells}"
    return found[0]


def section(page: str, heading: str) -> list[list[str]]:
    """The rows of the one table under a heading of `page`."""
    text = (DOCS / page).read_text(encoding="utf-8")
    body = re.split(r"^## ", text.split(f"\n## {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in body.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def word(fact: Fact) -> str:
    assert fact.name is not None
    return fact.name.lower()


def kind(state: State) -> str:
    return "negative" if state in NEGATIVE_STATES else "positive" if state in POSITIVE_STATES else "open"


def test_every_state_stands_in_the_table_with_its_number_and_kind() -> None:
    assert [row[:3] for row in table("states.md", "number")] == [
        [str(int(state)), state.word, kind(state)] for state in State
    ]


def test_every_status_word_stands_in_the_table_with_what_it_proves() -> None:
    assert dict(table("states.md", "status word")) == {status: word(fact) for status, fact in STATUSES.items()}
    assert dict(table("states.md", "voice status")) == {status: word(fact) for status, fact in VOICE_STATUSES.items()}


def test_every_channel_word_stands_in_the_table() -> None:
    assert dict(table("states.md", "channel word")) == {told: channel.word for told, channel in CHANNELS.items()}


def test_facts_without_a_rank_are_explained() -> None:
    named = {row[0] for row in table("states.md", "fact")}
    assert named == {"clicked", "complained", "noted", "unknown"}


def test_ceilings_and_normal_pairs_are_those_of_the_lattice() -> None:
    assert dict(table("states.md", "ceiling of")) == {channel.word: state.word for channel, state in CEILING.items()}
    assert sorted(table("states.md", "normal on")) == sorted(
        [channel.word, word(positive), word(negative)]
        for channel, pairs in NORMAL.items()
        for positive, negative in pairs
    )


@pytest.mark.parametrize(
    ("heading", "codes"),
    [
        ("Receipts of any channel", RECEIPT_CODES[None]),
        ("Receipts of SMS and MMS", RECEIPT_CODES[Channel.SMS]),
        ("Receipts of voice", RECEIPT_CODES[Channel.VOICE]),
        ("E-mail bounces", BOUNCES),
        ("WhatsApp causes", CAUSES),
        ("Answers of Messaging", ANSWER_CODES["messaging"]),
        ("Answers of Custom Event", ANSWER_CODES["events"]),
        ("Answers of Campaign", ANSWER_CODES["campaign"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_code_stands_in_its_table_with_class_and_sentence(heading: str, codes: Mapping[str, Meaning]) -> None:
    assert section("codes.md", heading) == [[code, m.failure_class.word, m.sentence] for code, m in codes.items()]


def test_no_table_of_codes_is_left_out() -> None:
    assert set(RECEIPT_CODES) == {None, Channel.SMS, Channel.MMS, Channel.VOICE}
    assert RECEIPT_CODES[Channel.MMS] is RECEIPT_CODES[Channel.SMS]
    assert set(ANSWER_CODES) == {"messaging", "messaging_v2", "events", "campaign"}
    assert ANSWER_CODES["messaging_v2"] is ANSWER_CODES["messaging"]


def test_every_class_is_explained() -> None:
    assert [row[0] for row in section("codes.md", "Classes")] == [failure_class.word for failure_class in Class]


def test_every_setting_stands_in_the_table_with_its_default() -> None:
    assert [row[:3] for row in table("settings.md", "variable")] == [
        [f"RECEIVER_{setting.name}", setting.default or "", "yes" if setting.secret else "no"] for setting in SETTINGS
    ]


def exposed() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Name as scraped, type and labels of every metric of the service."""
    suffix = {"counter": "_total", "info": "_info"}
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram | PrometheusInfo):
            [family] = metric.describe()
            # prometheus-client has no public way to ask for the names of labels
            labels = tuple(metric._labelnames) if family.type != "info" else ("version",)
            yield family.name + suffix.get(family.type, ""), family.type, labels


def test_every_metric_stands_in_the_table_with_its_labels() -> None:
    stated = {
        (name, sort, tuple(label.strip() for label in labels.split(",") if label.strip()))
        for name, sort, labels, _ in table("metrics.md", "metric")
    }
    assert stated == set(exposed())


def test_every_metric_of_the_registry_is_known_here() -> None:
    assert {family.name for family in metrics.REGISTRY.collect()} == {
        name.removesuffix("_total") if sort == "counter" else name.removesuffix("_info") if sort == "info" else name
        for name, sort, _ in exposed()
    }


def alerts() -> dict[str, str]:
    """The runbook_url of every alert."""
    rules: dict[str, str] = {}
    for file in (ROOT / "grafana" / "alerts").glob("*.rules.yml"):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            told = [rule for rule in group["rules"] if "alert" in rule]
            rules |= {rule["alert"]: rule["annotations"]["runbook_url"] for rule in told}
    return rules


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    headings = re.findall(r"^## (.+)$", (DOCS / "runbooks.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(alerts())


@pytest.mark.parametrize("alert", sorted(alerts()))
def test_the_runbook_url_of_an_alert_leads_somewhere(alert: str) -> None:
    file, _, anchor = alerts()[alert].partition("#")
    assert anchor in anchors(ROOT / file)


@cache
def tree(module: Path) -> ast.Module:
    """A module as Python reads it: several tests look through all."""
    return ast.parse(module.read_text(encoding="utf-8"))


def calls(*names: str) -> Iterator[tuple[ast.Call, dict[str, object], Path]]:
    """Every call of one of `names` in the service, and the constants of its module."""
    for file in MODULES:
        constants: dict[str, object] = {}
        for node in tree(file).body:
            if not isinstance(node, ast.Assign):
                continue
            for target in node.targets:
                if isinstance(target, ast.Name) and isinstance(node.value, ast.Constant):
                    constants[target.id] = node.value.value
                elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    for part, value in zip(target.elts, node.value.elts, strict=False):
                        if isinstance(part, ast.Name) and isinstance(value, ast.Constant):
                            constants[part.id] = value.value
        for found in ast.walk(tree(file)):
            if isinstance(found, ast.Call) and isinstance(found.func, ast.Name) and found.func.id in names:
                yield found, constants, file


def text_of(node: ast.expr, constants: Mapping[str, object], file: Path) -> str:
    """The text of a constant, or of a name that stands for one; a code that is computed can't be documented."""
    value = (
        node.value if isinstance(node, ast.Constant) else constants.get(node.id) if isinstance(node, ast.Name) else None
    )
    assert value is not None, f"{file.name}:{node.lineno}: this code is no constant"
    return str(value)


def test_every_problem_that_can_be_answered_is_explained() -> None:
    answered = {
        (text_of(call.args[0], constants, file), text_of(call.args[1], constants, file))
        for call, constants, file in calls("Problem")
    }
    assert {(row[0], row[1]) for row in table("errors.md", "status", "code")} == answered


def test_every_field_code_is_explained() -> None:
    answered = {text_of(call.args[1], constants, file) for call, constants, file in calls("FieldError")}
    assert {row[0] for row in table("errors.md", "field code")} == answered


def test_every_reason_of_the_quarantine_is_explained() -> None:
    given = {
        text_of(call.args[0], constants, file)
        for call, constants, file in calls("Unreadable")
        if not isinstance(call.args[0], ast.Attribute)  # handed on from another, not given here
    }
    given |= {"reader_failed", "database_refused", "forged"}
    assert {row[0] for row in table("errors.md", "quarantine reason")} == given


def test_every_door_stands_in_the_api_page() -> None:
    headings = re.findall(r"^## (\w+ /\S*)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(f"{operation.method} {operation.path}" for operation in OPERATIONS)


def test_every_door_stands_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for operation in OPERATIONS:
        assert f"{operation.method} {operation.path}`" in readme, operation.path


def test_every_parameter_of_a_search_stands_in_the_api_page() -> None:
    assert [row[0] for row in table("api.md", "parameter")] == list(PARAMETERS)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """The relative links of a page."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [link for link in LINK.findall(text) if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_linked_from_the_readme_or_the_index() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in (ROOT / "README.md", DOCS / "README.md")
        for link in links(page)
    }
    assert not [name_of(page) for page in DOCS.rglob("*.md") if page.resolve() not in linked]


def test_every_page_that_the_code_names_is_there() -> None:
    named = re.compile(r"docs/[\w/-]+\.md")
    for folder in ("receiver", "migrations", "grafana"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in {".py", ".sql", ".yml"}:
                for page in named.findall(file.read_text(encoding="utf-8")):
                    assert (ROOT / page).exists(), f"{name_of(file)} names {page}"


def shown_commands() -> Iterator[tuple[str, list[str]]]:
    """Every `receiver …` line of the shell blocks, with its page."""
    for page in PAGES:
        for language, body in FENCE.findall(page.read_text(encoding="utf-8")):
            for line in body.splitlines() if language == "sh" else ():
                if line.startswith("receiver "):
                    yield name_of(page), shlex.split(line)[1:]


@pytest.mark.parametrize(
    ("page", "words"), list(shown_commands()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_shown_exists_with_its_options(page: str, words: list[str]) -> None:
    command: Any = typer.main.get_command(application)
    context = typer.Context(command)
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"{page}: receiver {' '.join(words)}"
        _, command, words = command.resolve_command(context, words)
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options, f"{page}: {words}"

"""The dashboards' SQL runs in the role for reports, asks the views alone, and no text in a box becomes SQL."""

import asyncio
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from grafana.queries import filled_sql, statements
from receiver.database.pool import connect
from receiver.database.reader import make_reader
from receiver.messages.lattice import NEGATIVE_STATES, State
from tests.queries.made import Made, make
from tests.support import Database, cloned

STATEMENTS = dict(statements())
ALL = pytest.mark.parametrize("where", sorted(STATEMENTS))
BOXES = ("destination", "correlationid", "transid", "callback", "message", "code")
NOTHING = {name: [""] for name in BOXES} | {"tenant": ["default", "other"], "channel": ["sms", "voice", "apple"]}
ROLE = f"grafana {os.getpid()}"
# What people paste, and what somebody might try.
PASTED = ["", " ", "'", "''", "\\", "\\'", "x' or true --", "'); select 1; --", "$1", "/*", "€", "%", "447700900001'"]
# The example of docs/statistics.md: 1,000 SMS of an hour.
EXAMPLE = {
    State.DELIVERED: 900,
    State.READ: 20,
    State.UNDELIVERED: 40,
    State.FAILED: 10,
    State.REFUSED: 5,
    State.NO_RECEIPT: 12,
    State.SUBMITTED: 8,
    State.QUEUED: 2,
    State.CANCELLED: 2,
    State.UNCERTAIN: 1,
}
COUNTED = {f"n{int(state)}{'_0' if state in NEGATIVE_STATES else ''}": n for state, n in EXAMPLE.items()}
COHORT = f"""
insert into cohort_state (at, hours, tenant, side, value, channel, country, origin, conflict, {", ".join(COUNTED)})
values ($1, 1, $2, 0, '', 1, 'GB', 1, false, {", ".join(map(str, COUNTED.values()))})
"""


@dataclass(frozen=True)
class Reader:
    """Asks as Grafana does, in the role that `receiver sql-role` makes."""

    database: Database

    def ask(self, where: str, **chosen: Sequence[str]) -> list[asyncpg.Record]:
        """The rows of the statement that stands there, with these variables, over the last two days."""
        end = datetime.now(UTC) + timedelta(minutes=1)
        text = filled_sql(STATEMENTS[where], NOTHING | chosen, end - timedelta(days=2), end)

        async def work() -> list[asyncpg.Record]:
            connection = await connect(self.database.dsn, "tests")
            try:
                await connection.execute(f'set session authorization "{ROLE}"')
                return await connection.fetch(text)
            finally:
                await connection.close()

        return asyncio.run(work())


@pytest.fixture(scope="module")
def made(postgres: str, template: str) -> Iterator[tuple[Reader, list[Made]]]:
    """300 messages of the last 20 hours, and who asks for them."""

    async def role(database: Database) -> None:
        connection = await connect(database.dsn, "tests")
        await make_reader(connection, ROLE)
        await connection.close()

    with cloned(postgres, template, "statements") as database:
        messages = make(database, 300, timedelta(hours=20))
        asyncio.run(role(database))
        try:
            yield Reader(database), messages
        finally:
            database.fetch(f'drop owned by "{ROLE}"')
            database.fetch(f'drop role "{ROLE}"')


def place(title: str) -> str:
    """Where the panel with that title stands."""
    [where] = [where for where in STATEMENTS if f": {title}" in where]
    return where


FOUND, ONE = place("Which messages bear these names?"), place("What do we believe of this message?")
TIMELINE, FAILED = place("What was told of this message"), place("Which messages failed last?")


def test_there_are_panels_and_variables_in_sql() -> None:
    assert "dashboards/find.json: variable tenant" in STATEMENTS
    assert sum(where.startswith("dashboards/delivery.json") for where in STATEMENTS) == 2
    assert sum(where.startswith("dashboards/find.json") for where in STATEMENTS) == 5


@ALL
def test_a_statement_asks_the_views_alone_and_quotes_every_variable(where: str) -> None:
    text = STATEMENTS[where]
    tables = re.findall(r"\b(?:from|join)\s+([a-z_][\w.]*)", text)
    assert tables
    assert all(table.startswith("receiver_v1.") or table == "told.received_at" for table in tables), tables
    assert re.findall(r"\$\{\w+\}|\$(?!__time)[a-z_]\w*", text) == []
    if "receiver_v1.tenants" not in text:
        assert "${tenant:sqlstring}" in text


@ALL
def test_a_statement_runs_where_nothing_is_chosen_or_known(made: tuple[Reader, list[Made]], where: str) -> None:
    reader, _ = made
    reader.ask(where)
    assert reader.ask(where, tenant=[], channel=[]) == [] or "variable" in where


@ALL
@pytest.mark.parametrize("text", PASTED)
def test_no_text_in_a_box_becomes_sql(made: tuple[Reader, list[Made]], where: str, text: str) -> None:
    reader, _ = made
    rows = reader.ask(where, **{name: [text] for name in BOXES})
    if where in (FOUND, ONE, TIMELINE):
        assert rows == []
    # a choice comes by the page's address, so it too may be anything
    others = reader.ask(where, tenant=[text], channel=[text])
    assert others == [] or "variable" in where


def test_every_name_of_a_message_finds_it(made: tuple[Reader, list[Made]]) -> None:
    reader, messages = made
    one = next(one for one in messages if not one.merged)
    names = {"destination": one.destination, "correlationid": one.correlationid, "transid": one.transid}
    for box, text in (names | {"callback": one.callback}).items():
        assert str(one.id) in {row["id"] for row in reader.ask(FOUND, **{box: [text]})}, box
        assert reader.ask(FOUND, **{box: [text]}, tenant=["nobody"]) == []
    assert [row["id"] for row in reader.ask(FOUND, correlationid=[str(one.id)])] == [str(one.id)]


def test_a_message_is_shown_with_all_that_was_told_of_it(made: tuple[Reader, list[Made]]) -> None:
    reader, messages = made
    one = next(one for one in messages if not one.merged and one.origin == 1)
    [shown] = reader.ask(ONE, message=[str(one.id).upper()])
    assert (shown["id"], shown["state"], shown["destination"]) == (str(one.id), one.state.word, one.destination)
    told = [row["what"] for row in reader.ask(TIMELINE, message=[str(one.id)])]
    assert told == ["handed in", "told"]
    assert reader.ask(TIMELINE, message=[str(one.id)], tenant=["nobody"]) == []


def test_the_newest_failures_are_those_and_may_be_asked_by_code(made: tuple[Reader, list[Made]]) -> None:
    reader, messages = made
    failed = [one for one in messages if not one.merged and one.state in NEGATIVE_STATES]
    newest = [str(one.id) for one in sorted(failed, key=lambda one: one.id, reverse=True)][:100]
    assert [row["id"] for row in reader.ask(FAILED)] == newest
    assert [row["id"] for row in reader.ask(FAILED, code=["other"])] == newest
    codes = {row["id"]: row["code"] for row in reader.ask(FAILED)}
    assert set(codes.values()) == {"7101", "7208"}
    rows = reader.ask(FAILED, code=["7101"])
    assert {row["code"] for row in rows} == {"7101"}
    assert {row["id"] for row in rows} >= {name for name, code in codes.items() if code == "7101"}
    assert reader.ask(FAILED, code=["none"]) == []


def test_the_figures_of_an_hour_are_those_of_the_statistics(made: tuple[Reader, list[Made]]) -> None:
    reader, _ = made
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    reader.database.fetch(COHORT, hour, reader.database.tenant())

    [row] = reader.ask(place("How did each hour end"))
    assert (row["hour"], row["origin"], row["messages"]) == (hour, "issued", 1000)
    assert (row["delivered"], row["failed"], row["no receipt"], row["open"], row["not sent"]) == (920, 55, 12, 11, 2)
    assert round(row["delivered of ended"], 3) == 0.944
    assert round(row["coverage"], 3) == 0.980
    assert row["settled"] == 0.989

    [bar] = reader.ask(place("What became of the messages of each hour?"))
    assert bar["time"] == hour
    assert sum(value for name, value in bar.items() if name != "time") == 1000


def test_a_variable_without_quotes_is_refused_and_macros_are_times() -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    text = filled_sql("$__timeFilter(a.b) and $__timeFrom() < $__timeTo()", {}, at, at + timedelta(hours=1))
    first, last = "'2026-03-01T12:00:00.000000Z'", "'2026-03-01T13:00:00.000000Z'"
    assert text == f"a.b BETWEEN {first} AND {last} and {first} < {last}"
    assert filled_sql("array[${a:sqlstring}]", {"a": ["x", "o'y"]}, at, at) == "array['x','o''y']"
    with pytest.raises(ValueError):
        filled_sql("${a}", {"a": ["x"]}, at, at)

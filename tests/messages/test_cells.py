"""The cells of the statistics: a column for whatever can become of a message, and numbers that count by class."""

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from receiver.messages.cells import CLASSES, COLUMNS, DIGITS, NAMES, counted, summed
from receiver.messages.lattice import NEGATIVE_STATES, State
from receiver.platform.codes import Class
from tests.support import Database

COUNTS = st.dictionaries(st.integers(1, 255), st.integers(1, 10**11), max_size=60)
MORE_OR_LESS = st.dictionaries(st.integers(1, 255), st.integers(-(10**10), 10**11).filter(bool), max_size=60)


def number_of(counts: dict[int, int]) -> int:
    return sum(n * 10 ** (DIGITS * lag_class) for lag_class, n in counts.items())


def test_every_state_has_a_column_and_every_class_of_a_failure_one() -> None:
    assert list(CLASSES) == [int(one) for one in Class]
    assert len(set(NAMES)) == len(NAMES)
    wanted = {(state, one) for state in State for one in (CLASSES if state in NEGATIVE_STATES else [0])}
    assert {(column.state, column.code_class) for column in COLUMNS} == wanted


def test_the_table_has_the_columns_and_the_view_has_a_row_for_each(database: Database) -> None:
    columns = database.fetch(
        "select attname from pg_attribute where attrelid = 'cohort_state'::regclass and attname ~ '^n[0-9]'"
    )
    assert {row["attname"] for row in columns} == set(NAMES)
    values = ", ".join(str(n) for n in range(1, len(NAMES) + 1))
    database.fetch(
        f"insert into cohort_state (at, hours, tenant, side, value, channel, country, origin, conflict, "
        f"{', '.join(NAMES)}) values (date_trunc('hour', now()), 1, 1, 0, '', 1, 'GB', 1, true, {values})"
    )
    rows = database.fetch("select state, class, conflict, messages from cohort")
    assert {(row["state"], row["class"]): row["messages"] for row in rows} == {
        (column.state, column.code_class): n for n, column in enumerate(COLUMNS, 1)
    }
    assert all(row["conflict"] for row in rows)
    assert len(rows) == len(COLUMNS)


@given(MORE_OR_LESS)
def test_a_number_says_what_was_counted_also_where_some_are_short(counts: dict[int, int]) -> None:
    assert counted(number_of(counts)) == counts


def test_numbers_as_postgres_sends_them_are_added_up(database: Database) -> None:
    """Small and large counts, some short, next to each other and far apart."""

    @given(st.lists(st.one_of(COUNTS, MORE_OR_LESS), min_size=1, max_size=30))
    def drawn(examples: list[dict[int, int]]) -> None:
        cases.extend(examples)

    cases: list[dict[int, int]] = [{}, {1: 1}, {255: 1}, {3: 9_999}, {3: 10_000}, {3: 99_999_999}, {3: 10**8, 4: 10**8}]
    drawn()
    texts = [str(number_of(case)) for case in cases]
    sent = database.fetch(
        "select numeric_send(t::numeric) as sent from unnest($1::text[]) with ordinality u(t, n)", texts
    )
    for case, row in zip(cases, sent, strict=True):
        first, up_to = summed(row["sent"])
        here = [max(case.get(lag_class, 0), 0) for lag_class in range(256)]
        assert (up_to[-1] if case else 0) == sum(here)
        wanted = list(accumulate(here))
        assert [up_to[n - first] if first <= n < first + len(up_to) else None for n in range(256)][
            first : first + len(up_to)
        ] == wanted[first : first + len(up_to)]
        assert sum(here[:first]) == sum(here[first + len(up_to) :]) == 0

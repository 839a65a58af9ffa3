"""Who is recognised in texts and bodies of others, alike in Python and in Postgres."""

import pytest

from receiver.upkeep.person import is_in, person_of
from tests.support import Database

NUMBER = "447700900001"


@pytest.mark.parametrize(
    ("destination", "text", "there"),
    [
        (NUMBER, f"x{NUMBER}", True),
        (f"+{NUMBER}", f"%20{NUMBER}", True),
        (NUMBER, f"00{NUMBER}", True),
        (NUMBER, "+44 (7700) 900-001", True),
        (NUMBER, f"\\u002b{NUMBER}", True),
        (NUMBER, f"1{NUMBER}", False),
        (NUMBER, f"{NUMBER}2", False),
        ("Ann.O'Hara@example.com", "to=ann.o%27hara%40EXAMPLE.com", True),
        ("ann@example.com", "joann@example.com", False),
        ("C-12", '{"customer": "C-12"}', True),
        ("C-12", "AC-123", False),
        ("Zoë.1234567", "Zo\\u00eb.1234567", True),
    ],
)
def test_who_is_recognised_in_a_text_by_python_and_by_postgres(
    postgres: str, destination: str, text: str, there: bool
) -> None:
    person = person_of(destination)
    assert person is not None
    assert is_in(person, text.encode()) is there
    database = Database(postgres, "receiver")
    assert database.value("select encode($1::bytea, 'escape') ~* $2", text.encode(), person.pattern) is there

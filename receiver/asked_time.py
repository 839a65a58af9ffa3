"""A time in a query: with a zone, and of no other age."""

from datetime import UTC, datetime

from receiver.web import FieldError


def asked_time(name: str, text: str | None, errors: list[FieldError]) -> datetime | None:
    """The parameter `name` as a time in UTC, None where it is not given. What is wrong with it goes to `errors`."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text.replace(" ", "+"))  # a + that was not escaped comes as a blank
        if when.tzinfo is None or not 1970 < when.year < 9999:
            raise ValueError
    except ValueError:
        errors.append(FieldError(name, "bad_parameter", "it takes a time with a zone, such as 2026-01-31T18:00:00Z"))
        return None
    return when.astimezone(UTC)

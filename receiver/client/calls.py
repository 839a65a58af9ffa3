"""The calls as data: what goes out, and what an answer to it means. Nothing here speaks to anybody."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from receiver.client.errors import ApiError, CannotResume
from receiver.errors import ReceiverError

JSON = {"content-type": "application/json"}
NO_RESUMING = ("event_too_old", "bad_event_id")


@dataclass(frozen=True)
class Call:
    """One request. What may name a person is not in its repr."""

    method: str
    path: str = field(repr=False)
    parameters: Sequence[tuple[str, str]] = field(default=(), repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)
    repeatable: bool = True  # asked twice it is as good as asked once
    patience: float = 0.0  # seconds that the receiver may take of its own accord, beside the timeout


@dataclass(frozen=True)
class Answer:
    """What came back; of one that is read as it comes the content is empty. Names of headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    content: bytes = field(default=b"", repr=False)


def send_call(body: Mapping[str, Any], idempotency_key: str | None) -> Call:
    """Hands in a Messaging v1 body."""
    # written here, not by the library: the receiver compares bytes, and they must outlive the library's version
    content = json.dumps(body, separators=(",", ":")).encode()
    if idempotency_key is None:
        return Call("POST", "/v1/messages", headers=JSON, content=content, repeatable=False)
    return Call("POST", "/v1/messages", headers={**JSON, "idempotency-key": idempotency_key}, content=content)


def message_call(message_id: str, wait: float | None = None, until: str | None = None, etag: str | None = None) -> Call:
    """Asks for one message, and waits `wait` seconds at most until it is so."""
    asked = {"wait": None if wait is None else f"{wait:.3f}".rstrip("0").rstrip("."), "until": until}
    headers = {} if etag is None else {"if-none-match": etag}
    return Call("GET", f"/v1/messages/{part(message_id)}", pairs(asked), headers, patience=wait or 0.0)


def part(text: str) -> str:
    """A part of a path."""
    return quote(text, safe="") or "-"  # without it another door would be asked


def pairs(parameters: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Parameters as they are written: several values of a list or a tuple, none of None. Raises ReceiverError."""
    found = []
    for name, given in parameters.items():
        values: Iterable[Any] = given if isinstance(given, list | tuple | set | frozenset) else (given,)
        found += [(name, _written(name, value)) for value in values if value is not None]
    return tuple(found)


def _written(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ReceiverError(f"{name}: a time needs a zone, such as datetime.now(UTC)")
        return value.isoformat()
    return str(value)


def object_of(answer: Answer, url: str, *proof: str) -> dict[str, Any]:
    """The object that was answered. Raises ApiError for what is none, or bears none of the fields in `proof`."""
    body = _object(answer)
    if body is None or not body.keys() & {*proof}:
        raise ApiError(answer.status, "no_receiver", f"{url} is no receiver: it answered otherwise")
    return body


def refusal(answer: Answer, url: str) -> ApiError:
    """A refusal in words: the problem's title, and a line for each broken field."""
    body, status, wait = _object(answer), answer.status, retry_after(answer)
    if body is None or not isinstance(body.get("title"), str):
        message = f"{url} is no receiver: it answered {status} without a reason"
        return ApiError(status, "no_receiver", message, retry_after=wait)
    code = str(body.get("code", ""))
    told = body.get("errors")
    errors = [error for error in told if isinstance(error, dict)] if isinstance(told, list) else []
    lines = [f"{body['title']} ({status} {code})"]
    lines += [f"  {e.get('pointer') or 'body'}: {e.get('detail', '')}" for e in errors]
    kind = CannotResume if code in NO_RESUMING else ApiError
    return kind(status, code, "\n".join(lines), errors, wait)


def retry_after(answer: Answer) -> float | None:
    """The seconds that the answer asks us to wait: told as such, or as a date."""
    told = answer.headers.get("retry-after", "")
    try:
        seconds = float(told)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(told).astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _object(answer: Answer) -> dict[str, Any] | None:
    try:
        body = json.loads(answer.content)
    except (ValueError, RecursionError):  # the other: a million brackets
        return None
    return body if isinstance(body, dict) else None

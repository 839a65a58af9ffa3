"""A body as JSON: encodings, byte-order marks, what JSON forbids but platforms send, and values as text."""

import json
import re
import sys
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from typing import Any

import msgspec

_BLANKS = b" \t\r\n\v\f\0"
_SURROGATE = re.compile("[\ud800-\udfff]")
_FORM = re.compile(rb"[\w.\-]{1,64}=")


class Unreadable(Exception):
    """A body, or a part of one, in which there is no receipt: a stable reason, and a detail for people."""

    def __init__(self, reason: str, detail: str | None = None, raw: bytes | None = None) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.raw = reason, detail, raw


def utf8(body: bytes) -> bytes:
    """A body as UTF-8 without byte-order mark and blanks around it."""
    if body.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        body = body.decode("utf-16", "replace").encode("utf-8", "surrogatepass")
    return body.strip(_BLANKS).removeprefix(BOM_UTF8).strip(_BLANKS)


def parse(text: bytes) -> Any:
    """The JSON value of a text. Lenient in what JSON forbids but platforms send; raises Unreadable."""
    if not text:
        raise Unreadable("empty")
    if text.startswith(b"<") and not text[:64].lower().startswith((b"<!doctype html", b"<html")):
        raise Unreadable("xml", "XML is not read: switch the notification to JSON")
    try:
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # lone surrogates, NaN, raw control characters, bytes that are no UTF-8
            return json.loads(text.decode("utf-8", "replace"), strict=False)
    except RecursionError:
        raise Unreadable("nested_too_deeply") from None
    except json.JSONDecodeError as error:
        raise Unreadable("not_json", f"{_looks_like(text)}{error}"[:200]) from None
    except ValueError:  # Python's own limit: the time to read a whole number grows with the square of its length
        most = sys.get_int_max_str_digits()
        raise Unreadable("not_json", f"a whole number of more than {most:,} digits: none so long is read") from None


def _looks_like(text: bytes) -> str:
    """What a body that is no JSON seems to be, for whoever opens the quarantine."""
    if text.startswith(b"<"):
        return "a page of HTML: "
    if text.startswith(b"\x1f\x8b"):
        return "compressed with gzip: "
    if text.startswith(b"--"):
        return "a multipart form: "
    if _FORM.match(text):
        return "a form: "
    return ""


def slices(text: bytes, value: list[Any]) -> list[bytes]:
    """The bytes of each element of a list, as they came; encoded anew where the list is not strict JSON."""
    try:
        return [bytes(raw) for raw in msgspec.json.decode(text, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [json.dumps(item).encode() for item in value]


def text_of(value: object) -> str:
    """Any JSON value as text that Postgres can hold: blanks stripped, NUL and lone surrogates replaced."""
    if value is None:
        return ""
    text = value.strip() if isinstance(value, str) else _spelled(value)
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if not text.isascii() and _SURROGATE.search(text):
        text = text.encode("utf-8", "replace").decode()
    return text


def _spelled(value: object) -> str:
    """A value that is no string, as a person would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))  # which escapes lone surrogates

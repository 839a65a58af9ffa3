"""The part of a request that goes out as the client wrote it: written down as JSON, or the reason why it can't be."""

from collections.abc import Iterator
from typing import Any

import msgspec

from receiver.sending.fields import Broken, has_surrogate, part
from receiver.web import json_of

# Whoever sends it reads it again with less of the stack left than the door had.
MOST_NESTED = 100
# 12.10 is an amount in somebody's text: as a float it would go out as 12.1.
_AS_WRITTEN = msgspec.json.Decoder(float_hook=lambda number: msgspec.Raw(number.encode()))


def as_written(body: bytes) -> Any:
    """The JSON value of `body`; a number with a point or an exponent is a msgspec.Raw, which is encoded as it stood.

    Raises Problem 400 for what is not JSON.
    """
    try:
        return _AS_WRITTEN.decode(body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return json_of(body)  # which says where it breaks


def encoded(content: dict[str, Any], broken: Broken) -> bytes:
    """`content` as JSON; empty if it was noted as broken."""
    if _is_deeper(content, MOST_NESTED):
        broken.wrong("", f"the body is nested deeper than {MOST_NESTED} levels")
        return b""
    try:
        return msgspec.json.encode(content)
    except ValueError:  # UnicodeEncodeError is one
        named = {error.pointer for error in broken.errors}
        for pointer in _unwritable(content, ""):
            if pointer not in named:
                broken.wrong(pointer, "it holds half a surrogate pair, or a number that is too long")
        return b""


def _is_deeper(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels + 1):
        inner = [v for v in layer if isinstance(v, dict | list)]
        if not inner:
            return False
        layer = [child for v in inner for child in (v.values() if isinstance(v, dict) else v)]
    return True


def _unwritable(value: Any, pointer: str) -> Iterator[str]:
    """Where in `value` stands what JSON in UTF-8 can't hold."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if has_surrogate(key):
                yield f"{pointer}/{part(key)}"
            yield from _unwritable(inner, f"{pointer}/{part(key)}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _unwritable(inner, f"{pointer}/{index}")
    else:
        try:
            msgspec.json.encode(value)
        except ValueError:
            yield pointer

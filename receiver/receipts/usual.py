"""Reading the usual body by a short way: one notification with nothing but plain texts, as the platform pushes it.

It only ever does what `notifications` and `texts` do, in a quarter of the time, for it does once for each set of keys
what they do for each body: it lower-cases and sorts the keys, says which of them means what, and lays out the canonical
form. Whatever is unusual (numbers, lists, escapes, other alphabets, doubled or missing keys, wrappers, other dialects)
it leaves to them. A test holds the two ways against each other.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from receiver.receipts.notification import FINGERPRINT_VERSION, canonical_of, fingerprint_of
from receiver.receipts.texts import NAMES, Texts

MOST_BYTES = 4096  # so that the keys of all shapes together take a megabyte at most
MOST_SHAPES = 256

_decode = msgspec.json.Decoder(dict[str, str | dict[str, str | dict[str, str]]]).decode
_NOTIFICATION, _INFO = "deliveryInfoNotification", "deliveryInfo"
_NOT_BESIDE = frozenset([_NOTIFICATION.lower(), _INFO.lower()])  # a second of these is to be weighed
_ELSEWHERE = frozenset(["address", "link", "resourceurl"])  # where OneAPI's hubs put what is looked for there


class _Shape(NamedTuple):
    """What is the same for all bodies with the same keys in the same order.

    `form` is the canonical form in pieces, every second one a hole; `in_form` picks the values for the holes, `texts`
    those of NAMES.
    """

    form: list[str]
    in_form: Callable[[Sequence[Any]], Sequence[Any]]
    texts: Callable[[Sequence[Any]], Any]


def usual(body: bytes) -> tuple[Texts, bytes] | None:
    """The texts and the fingerprint of the one notification in a usual `body`; None for any other body."""
    # Without a backslash no string holds a quote, a backslash or a control character: its value is its spelling.
    if len(body) > MOST_BYTES or b"\\" in body or not body.isascii():
        return None
    try:
        wrapped = _decode(body)
        outer: Any = wrapped.pop(_NOTIFICATION)
        if type(outer) is not dict or (wrapped and not _NOT_BESIDE.isdisjoint(map(str.lower, wrapped))):
            return None
        info = outer.pop(_INFO)
        if type(info) is not dict:
            return None
        shape = _shape(len(outer), *outer, *info)
        if shape is None:
            return None
        values = [*outer.values(), *info.values()]
        texts = shape.texts([*map(str.strip, values), ""])
        form = shape.form[:]
        form[1::2] = shape.in_form(values)
    except (msgspec.DecodeError, KeyError, TypeError):  # TypeError: an object where a text should be
        return None
    if not texts[0]:
        return None  # without a status it must be looked at whether it is a receipt at all
    return texts, fingerprint_of("".join(form).encode())


@lru_cache(maxsize=MOST_SHAPES)
def _shape(beside: int, *keys: str) -> _Shape | None:
    """What the keys of a body say, the first `beside` of them beside its deliveryInfo; None if they are unusual."""
    low = [key.lower() for key in keys]
    places = {name: place for place, name in enumerate(low)}
    told = [[name for name in names if name in places] for names in NAMES]
    doubled = len(places) < len(keys) or any(len(names) > 1 for names in told)
    if doubled or _ELSEWHERE & set(low) or _INFO.lower() in places or len(keys) < 2:
        return None
    # No key holds a backslash, so none is spelt like a hole.
    whole = FINGERPRINT_VERSION + canonical_of(dict.fromkeys(keys[:beside], "\\"), dict.fromkeys(keys[beside:], "\\"))
    pieces = whole.decode().split("\\\\")
    form = [piece for place in pieces for piece in (place, "")][:-1]
    outer, inner = sorted(range(beside), key=low.__getitem__), sorted(range(beside, len(keys)), key=low.__getitem__)
    before = [place for place in outer if low[place] < _INFO.lower()]
    in_form = [*before, *inner, *outer[len(before) :]]
    texts = itemgetter(*(places[names[0]] if names else len(keys) for names in told))
    return _Shape(form, itemgetter(*in_form), texts)

"""Names and what stands for them: one stand-in for one recipient or id, in the spelling in which it was told."""

import json
import re
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from urllib.parse import quote, quote_plus
from uuid import UUID

from receiver.ids import normalise_destination, transid_root
from receiver.sandbox.capture import BETWEEN, spelt_like

DESTINATION, TRANSID, CORRELATION, CALLBACK, DEVICE = (
    "destination",
    "transid",
    "correlationid",
    "callbackData",
    "device",
)

SHORTEST_INSIDE = 4  # characters of a name that is found inside of words; a shorter one only as a word of its own
_FIRST_NUMBER = 100
MOST_TRIES = 100
_TEMPLATE = re.compile(r"\$\([A-Za-z0-9_.]{1,64}\)")
_SCHEMES = re.compile(r"(?:(?:tel|sms|sips?|mailto):\s*)*", re.IGNORECASE)
_URN = re.compile(r"(?:urn:uuid:)?", re.IGNORECASE)
_SUFFIX = re.compile(r"(?:_[0-9]+)+$")


class Names:
    """The names of one capture. All must be added before the first is replaced: no stand-in may be an original."""

    def __init__(self) -> None:
        self._norms: dict[str, list[str]] = {}
        self._first: dict[str, tuple[str, str]] = {}
        self._spellings: dict[str, str] = {}
        self._standins: dict[str, str] = {}
        self._hidden: dict[tuple[str, str], str] = {}
        self._counts: Counter[str] = Counter()

    def add(self, kind: str, text: str | None) -> None:
        """Takes a name in; what is empty or an unfilled template is none. The first of a kind is the message's own."""
        text = (text or "").strip()
        if not text or _TEMPLATE.fullmatch(text):
            return
        norm = _norm(kind, text)
        self._first.setdefault(norm, (kind, text))
        for one in {text, norm, _bare(text)} - {""}:
            self._spellings.setdefault(one, norm)
        norms = self._norms.setdefault(kind, [])
        if norm not in norms:
            norms.append(norm)

    @property
    def kinds(self) -> dict[str, list[str]]:
        """The stand-ins by kind."""
        return {kind: list(map(self._standin, norms)) for kind, norms in self._norms.items()}

    @property
    def originals(self) -> set[str]:
        """Every name as it was told, and as it is compared."""
        return set(self._spellings)

    def told(self, kind: str, text: str) -> str:
        """What stands for a name that was told, in its spelling: blanks, prefixes, suffixes and case are kept."""
        core = text.strip()
        if not core or _TEMPLATE.fullmatch(core):
            return text
        self.add(kind, core)
        standin = self._standin(_norm(kind, core))
        if kind == DESTINATION:
            spelt = _address(core, standin)
        elif kind in (TRANSID, CORRELATION):
            spelt = self._identity(kind, core, standin)
        else:
            spelt = standin
        return text.replace(core, spelt)

    def hidden(self, kind: str, text: str) -> str:
        """What stands for a text that is no name of a message: `kind-1`, `kind-2` and so on."""
        if (kind, text) not in self._hidden:
            self._counts[kind] += 1
            self._hidden[kind, text] = f"{kind}-{self._counts[kind]}"
        return self._hidden[kind, text]

    def finder(self) -> tuple[str, Callable[[str], str]]:
        """A pattern for every name, wherever and however it stands in a text, and what stands for a match of it."""
        known: dict[str, str] = {}
        for name, norm in self._spellings.items():
            standin = self._standin(norm)
            for one in {name, name.upper(), name.lower(), name.casefold(), name.title()}:
                for spelt in {one, quote(one, safe=""), quote_plus(one), json.dumps(one)[1:-1]}:
                    known.setdefault(spelt, standin)
        branches = [_branch(name) for name in sorted(known, key=len, reverse=True)]
        folded = {_folded(name): standin for name, standin in known.items()}

        def standin_of(match: str) -> str:
            standin = folded.get(_folded(match)) or folded.get("".join(filter(str.isdigit, match)), "name")
            return quote(standin, safe="") if "%" in match else spelt_like(match, standin)

        return "|".join(branches), standin_of

    def _identity(self, kind: str, core: str, standin: str) -> str:
        """An id between its prefix and its suffix."""
        prefix = _URN.match(core)
        assert prefix is not None
        root = core[prefix.end() :]
        suffix = _SUFFIX.search(root) if kind == TRANSID else None
        tail = "" if suffix is None or suffix.start() == 0 else suffix[0]
        tail = "".join(f"_{one if len(one) <= 2 else self._suffix(one)}" for one in tail.split("_")[1:])
        return prefix[0] + (standin.upper() if root.isupper() else standin) + tail

    def _suffix(self, digits: str) -> str:
        return self.hidden("suffix", digits).replace("suffix-", "10")

    def _standin(self, norm: str) -> str:
        if norm not in self._standins:
            kind, text = self._first[norm]
            for _ in range(MOST_TRIES):
                self._counts["names"] += 1
                standin = _made(kind, norm, text, self._counts["names"])
                if not any(_meet(standin, one.casefold()) for one in self._spellings):
                    break
            self._standins[norm] = standin
        return self._standins[norm]


def _meet(standin: str, original: str) -> bool:
    return standin in original or (len(original) > SHORTEST_INSIDE and original in standin)


def _made(kind: str, norm: str, text: str, number: int) -> str:
    if kind == DESTINATION:
        if norm.isdigit():
            return f"447700900{_FIRST_NUMBER + number:03}"
        return f"reader{number:06}@example.com" if "@" in norm else f"recipient-{number:06}"
    if kind == TRANSID:
        return str(_uuid(number))
    if kind == CORRELATION:
        bare = _bare(text)
        if re.fullmatch(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", bare, re.IGNORECASE):
            return str(_uuid(number)) if "-" in bare else _uuid(number).hex
        return f"correlation-{number:06}"
    if kind == CALLBACK:
        return f"callback-{number:06}".ljust(len(text), "x")  # as long: that may be what went wrong
    return f"{kind}-{number:06}"


def _uuid(number: int) -> UUID:
    """The `number`-th UUID of a sequence that looks like none."""
    return UUID(bytes=blake2b(b"%d" % number, digest_size=16).digest(), version=4)


def _norm(kind: str, text: str) -> str:
    """What is compared: two spellings of one name have one."""
    if kind == DESTINATION:
        return normalise_destination(text)
    if kind == TRANSID:
        return transid_root(text)
    return _bare(text).casefold() if kind == CORRELATION else text


def _bare(text: str) -> str:
    """An id or an address without what stands in front of it."""
    text = text[_SCHEMES.match(text).end() :]  # type: ignore[union-attr]  # it matches nothing, too
    return text[_URN.match(text).end() :]  # type: ignore[union-attr]


def _address(core: str, standin: str) -> str:
    """A stand-in for an address, with the scheme, the prefix and the punctuation that it was told with."""
    scheme = _SCHEMES.match(core)
    assert scheme is not None
    rest = core[scheme.end() :]
    if not standin.isdigit():
        return scheme[0] + (standin.upper() if rest.isupper() else standin)
    user, at, _ = rest.partition("@")
    lead = re.match(r"\+?\s*(?:00(?=[\s().\-]*[1-9]))?", user)
    assert lead is not None
    spelt = spelt_like(user[lead.end() :], standin)
    return scheme[0] + lead[0] + spelt + (f"{at}example.com" if at else "")


def _branch(name: str) -> str:
    if name.isdigit() and name.isascii() and len(name) >= SHORTEST_INSIDE:
        return BETWEEN.join(name)
    if len(name) < SHORTEST_INSIDE:
        return rf"(?<!\w){re.escape(name)}(?!\w)"
    return re.escape(name)


def _folded(text: str) -> str:
    return text.casefold()

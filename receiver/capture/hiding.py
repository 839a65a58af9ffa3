"""Hiding whom a body speaks of: the structure, the platform's words and codes stay, names and numbers are replaced."""

import contextlib
import html
import json
import re
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import Any, Final
from urllib.parse import unquote

from receiver.capture.names import CALLBACK, CORRELATION, DESTINATION, DEVICE, TRANSID, Names
from receiver.messages.lattice import Channel, Fact
from receiver.platform.codes import RECEIPT_CODES
from receiver.platform.words import CHANNELS, fact_of, squeeze
from receiver.receipts.body import Unreadable, parse, text_of
from receiver.receipts.notification import DOCUMENTED
from receiver.sandbox.capture import BETWEEN
from receiver.sandbox.stamps import moved

KINDS: Final = {
    "destination": DESTINATION,
    "address": DESTINATION,
    "transid": TRANSID,
    "requestid": TRANSID,
    "messageid": TRANSID,
    "transactionid": TRANSID,
    "correlationid": CORRELATION,
    "clientcorrelator": CORRELATION,
    "callbackdata": CALLBACK,
    "deviceid": DEVICE,
    "pushid": DEVICE,
}
# Keys that stay; any other is a text of the original, too.
KEYS: Final = (
    frozenset(map(str.lower, DOCUMENTED))
    | set(KINDS)
    | {
        "status",
        "channel",
        "deliverydate",
        "errorcode",
        "href",
        "rel",
        "resourceurl",
        "deliveryinfolist",
        "df_status",
        "df_status_text",
        "df_response_status",
        "x-wx-gtrid",
        "dataintegration",
    }
)
CODES: Final = frozenset(code for table in RECEIPT_CODES.values() for code in table)
_WORD = re.compile(r"[^\W\d_][^\W\d_ \-()]*(?:[ \-()]{1,2}[^\W\d_]*){0,6}")
_CODE = re.compile(r"[A-Za-z_.\-]{0,6}\d{1,5}|[A-Za-z_.\-]{1,10}")
_DATE_LIKE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?[\d.:+\-Z ]{0,12}")
_PATH = frozenset({"requests", "subscriptions", "deliveryinfos", "outbound", "inbound", "smsmessaging", "v1", "1"})
_PLACES = frozenset({"code", "errorcode", "messagecount", "timestamp", "deliverydate", "subtid", "deliverystatus"})
_LINKS = frozenset({"href", "resourceurl", "link"})
_TAG = re.compile(r"(<[^<>]*>)")
_ATTRIBUTE = re.compile(r"""(\s[\w:.\-]{1,64})\s*=\s*("[^"]*"|'[^']*')""")
_PLAIN_TAG = re.compile(r"""</?[\w:.\-]{1,64}(?:\s[\w:.\-]{1,64}\s*=\s*(?:"[^"]*"|'[^']*'))*\s*/?>""")
_PROLOGUE = re.compile(r"""<\?xml version="1.[01]"(?: encoding="[Uu][Tt][Ff]-?(?:8|16)")?\s*\?>""")

# What a text may hold, from the left: what stays, then what is replaced. The platform's own numbers stay: WhatsApp's
# `(#131049)`, SMTP's `550 5.7.1`.
_STAYS = r"\(#\d{1,6}\)|(?<!\d)[245]\d\d[ \-][245]\.\d{1,2}\.\d{1,3}(?![\d.])"
_URL = r"[a-z][a-z0-9+]{0,20}://\S+|www\.\S+"
_MAIL = r"(?:\"[^\"@]{1,64}\"|[^\s<>|;,:()\"'@%]{1,128})(?:@|%40)[^\s<>|;,:()\"']{1,256}"
_MIXED = r"(?<![\w\-])(?=[\w\-]*\d)(?=[\w\-]*[^\W\d_])[\w\-]{8,}"
_HOST = r"(?<![\w.\-])(?:[\w\-]{1,63}\.){1,9}[^\W\d_]{2,63}(?![\w\-])"
_NUMBER = rf"\d(?:{BETWEEN}\d){{6,}}|\d{{5,}}"
_ADDRESS = r"(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}|(?<![\w:])(?:[0-9a-f]{1,4}:){1,6}(?::[0-9a-f]{1,4}){1,6}"
# What spells a letter, a digit, a dot or a hyphen otherwise: nobody needs it, and a name could hide in it.
_ESCAPED = re.compile(
    r"%(?:3[0-9]|[46][1-9a-f]|[57][0-9a]|2[de]|5f|7e)|&#(?:x[0-9a-f]{1,6}|[0-9]{1,7});?", re.IGNORECASE
)
_LETTERS = re.compile(r"[^\W\d_]+")
_IN_STAMPS = re.compile(
    r"t|z|[ap]m|gmt|utc|[cew]es?t|[ecmp][sd]t|bst|ist|mon|tue|wed|thu|fri|sat|sun"
    r"|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec",
    re.IGNORECASE,
)


class Hider:
    """Hides the names of one capture; time stamps are moved `by` whole seconds."""

    def __init__(self, names: Names, by: timedelta) -> None:
        self._names = names
        self._by = by

    @cached_property
    def _finder(self) -> tuple[re.Pattern[str], Callable[[str], str]]:
        names, standin_of = self._names.finder()
        known = rf"(?P<known>{names})|" if names else ""
        rest = rf"(?P<stays>{_STAYS})|(?P<url>{_URL})|(?P<mail>{_MAIL})|(?P<token>{_MIXED})"
        rest = rf"{rest}|(?P<host>{_HOST}|{_ADDRESS})|(?P<number>{_NUMBER})"
        return re.compile(known + rest, re.IGNORECASE), standin_of

    def text(self, text: str) -> str:
        """A free text without names, addresses and long numbers; all else stays. All names must be known by now."""
        pattern, standin_of = self._finder
        text = plain(text)

        def replaced(found: re.Match[str]) -> str:
            match found.lastgroup:
                case "known":
                    return standin_of(found[0])
                case "url":
                    return "https://example.com/"
                case "mail":
                    return self._names.hidden("somebody", found[0].casefold()) + "@example.com"
                case "token":
                    return self._names.hidden("id", found[0].casefold())
                case "host":
                    return self._names.hidden("host", found[0].casefold()) + ".example"
                case "number":
                    return re.sub(r"\d", "#", found[0])
            return found[0]

        return pattern.sub(replaced, text)

    def value(self, value: Any, key: str = "", *, within_text: bool = False) -> Any:
        """A JSON value without names, told under `key` (lower case); inside of a text's value `within_text`."""
        if isinstance(value, dict):
            deeper = within_text or key in ("description", "additionalinfo")
            return {self._key(name): self.value(v, name.lower(), within_text=deeper) for name, v in value.items()}
        if isinstance(value, list):
            return [self.value(one, key, within_text=within_text) for one in value]
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._string(value, key, within_text)
        if key not in KINDS and key not in _PLACES:
            return value if abs(value) < 1000 and isinstance(value, int) else type(value)(1000.5)
        hidden = self._string(text_of(value), key, within_text)
        try:  # a number stays one
            return int(hidden)
        except ValueError:
            return hidden

    def _key(self, key: str) -> str:
        return key if key.lower() in KEYS else self._names.hidden("field", key)

    def _string(self, text: str, key: str, within_text: bool) -> str:
        if not text.strip():
            return text
        if key in KINDS:
            return self._names.told(KINDS[key], text)
        if text.lstrip()[:1] in ("{", "["):
            try:
                return json.dumps(
                    self.value(parse(text.encode("utf-8", "surrogatepass")), key, within_text=within_text)
                )
            except Unreadable:
                pass
        return self._by_key(text, key, within_text)

    def _by_key(self, text: str, key: str, within_text: bool) -> str:
        match key:
            case "deliverystatus" | "status" | "deliverychannel" | "channel" | "destinationtype" | "rel":
                return self.word(text)
            case "code" | "errorcode" | "df_status" | "df_response_status":
                return self.code(text)
            case "messagecount":
                return text if text.strip().isdigit() and len(text.strip()) <= 3 else self.text(text)
            case "timestamp" | "deliverydate":
                return self._stamp(text)
            case "description" | "additionalinfo" | "df_status_text":
                return self.text(text)
            case "href" | "resourceurl" | "link":
                return self._link(text)
            case "subtid":
                return self.node(text)
            case "carrier":
                return self._names.hidden("carrier", text.strip())
            case "deliverytransinfo":
                return self._xml(text)
        if within_text:
            return self.text(text)
        return text if text.strip().isdigit() and len(text.strip()) <= 3 else self._names.hidden("text", text)

    def word(self, text: str) -> str:
        """A status, a channel or a type: what is in our tables stays, and of all else what is a word."""
        plain = text.strip()
        known = squeeze(plain) in CHANNELS or any(
            fact_of(channel, plain) is not Fact.UNKNOWN for channel in (Channel.SMS, Channel.VOICE)
        )
        if known or (len(plain) <= 40 and _WORD.fullmatch(plain) and self.text(plain) == plain):
            return text
        return text.replace(plain, self._names.hidden("word", plain))

    def code(self, text: str) -> str:
        """A code, where it looks like one."""
        plain = text.strip()
        if plain in CODES or (_CODE.fullmatch(plain) and self.text(plain) == plain):
            return text
        return text.replace(plain, self._names.hidden("code", plain))

    def node(self, text: str) -> str:
        """A flow node: equal ones stay equal; the number of a sub-message stays."""
        plain = text.strip()
        if plain.isdigit() and len(plain) <= 2:
            return text
        return text.replace(plain, self._names.hidden("node", plain)) if plain else text

    def _stamp(self, text: str) -> str:
        """A time stamp; with other words in it, it is a text."""
        if not all(map(_IN_STAMPS.fullmatch, _LETTERS.findall(text))):
            return self._names.hidden("text", text)
        return moved(text, self._by) or (text if _DATE_LIKE.fullmatch(text.strip()) else self.text(text))

    def _link(self, text: str) -> str:
        """A link of the same depth; what names the request stands for its transid."""
        path = re.sub(r"^[a-z][a-z0-9+]*://[^/?#]*", "", text.strip(), flags=re.IGNORECASE).partition("?")[0]
        shown = [self._part(part) for part in path.split("/")]
        return "https://hub.example" + "/".join(shown) if "://" in text else "/".join(shown)

    def _part(self, part: str) -> str:
        if _names_one(part):
            return self._names.told(TRANSID, part)
        return part if not part or part.lower() in _PATH else self._names.hidden("part", part)

    def _xml(self, text: str) -> str:
        """An XML text with its tags: what is between them and in attributes is replaced but for known words."""
        if "<" not in text:
            return self.text(text)
        parts = _TAG.split(text)
        return "".join(self._said(part) if place % 2 == 0 else self._tag(part) for place, part in enumerate(parts))

    def _tag(self, tag: str) -> str:
        if _PROLOGUE.fullmatch(tag):
            return tag
        if not _PLAIN_TAG.fullmatch(tag):
            return "<!-- -->"  # a comment or what else has no structure
        shown = _ATTRIBUTE.sub(lambda found: f'{found[1]}="{self._said(found[2][1:-1])}"', tag)
        bare = _ATTRIBUTE.sub("", tag)
        return shown if self.text(bare) == bare else "<tag/>"

    def _said(self, said: str) -> str:
        word = said.strip()
        if not word or fact_of(Channel.VOICE, word) is not Fact.UNKNOWN:
            return said
        bare = self._finder[0].sub("", plain(said))
        return self._names.hidden("text", word) if bare == plain(said) or _LETTERS.search(bare) else self.text(said)


def plain(text: str) -> str:
    """A text in which letters and digits stand for themselves."""
    if "%" not in text and "&#" not in text:
        return text
    return _ESCAPED.sub(lambda found: html.unescape(unquote(found[0])), text)


def collect(value: Any, names: Names, key: str = "") -> None:
    """Adds every name that a body tells to `names`."""
    if isinstance(value, dict):
        for name, one in value.items():
            collect(one, names, name.lower())
    elif isinstance(value, list):
        for one in value:
            collect(one, names, key)
    elif key in KINDS and not isinstance(value, bool):
        names.add(KINDS[key], text_of(value))
    elif isinstance(value, str):
        if key in _LINKS:
            for part in filter(_names_one, value.partition("?")[0].split("/")):
                names.add(TRANSID, part)
        elif value.lstrip()[:1] in ("{", "["):
            with contextlib.suppress(Unreadable):
                collect(parse(value.encode("utf-8", "surrogatepass")), names, key)


def _names_one(part: str) -> bool:
    """Whether a part of a path may be an id."""
    return any(map(str.isdigit, part)) and part.lower() not in _PATH

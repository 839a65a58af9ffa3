"""Reading RECEIVER_… variables and the files that they name. Knows no setting: receiver/settings.py lists them."""

import base64
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta, tzinfo
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

# What the user's commands read: they speak HTTP and open no database (receiver/cli/user.py).
CLIENT_VARIABLES = frozenset({"URL", "API_KEY", "API_KEY_FILE"})
OF_A_CHANGE = "CHANGE_"  # what begins so was handed to the command of `receiver tail --exec`
SHORTEST_SECRET = 16  # characters
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # a token of RFC 9110


@dataclass(frozen=True)
class Setting:
    """One variable: its name without RECEIVER_, what it means, its default as text, whether it is a secret."""

    name: str
    meaning: str
    default: str | None = None
    secret: bool = False


class Reader:
    """Reads the variables that there are; collects what is wrong instead of stopping at the first."""

    def __init__(self, environment: Mapping[str, str], settings: Sequence[Setting]) -> None:
        self.environment = environment
        self.problems: list[str] = []
        self.known = {setting.name: setting for setting in settings}
        for variable in sorted(environment):
            name = variable.removeprefix("RECEIVER_")
            if name.startswith(OF_A_CHANGE):
                continue
            if variable.startswith("RECEIVER_") and name not in CLIENT_VARIABLES and name not in self.known:
                base = self.known.get(name.removesuffix("_FILE"))
                if base is None or not base.secret:
                    self.problems.append(f"{variable} is no setting: see docs/settings.md for those that there are")

    def text(self, name: str) -> str | None:
        """The value, from the variable or its file, else the default; empty counts as missing."""
        variable, value = f"RECEIVER_{name}", self.environment.get(f"RECEIVER_{name}", "").strip()
        file = self.environment.get(f"{variable}_FILE", "").strip() if self.known[name].secret else ""
        if value and file:
            self.problems.append(f"{variable} and {variable}_FILE are both set: keep one")
        if file:
            value = self.secret_file(f"{variable}_FILE", file)
        return value or self.known[name].default

    def secret_file(self, where: str, file: str) -> str:
        """The text in a secret's file; the reason where there is none."""
        try:
            text = Path(file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            self.problems.append(f"{where}: {file} can't be read: {reason}")
            return ""
        if not text:
            self.problems.append(f"{where}: {file} is empty")
        return text

    def whole(self, name: str, least: int, most: int) -> int:
        """A whole number within its bounds."""
        text = self.text(name) or ""
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most):
            self.problems.append(f"RECEIVER_{name} is {text!r}: it takes a whole number from {least} to {most}")
            return least
        return int(text)

    def yes(self, name: str) -> bool:
        """yes or no, in the usual spellings."""
        return self.yes_or_no(f"RECEIVER_{name}", self.text(name) or "")

    def yes_or_no(self, where: str, text: str) -> bool:
        """Whether `text` is a yes; a problem when it is neither that nor a no."""
        text = text.lower()
        if text not in ("yes", "no", "true", "false", "1", "0", "on", "off"):
            self.problems.append(f"{where} is {text!r}: it takes yes or no")
        return text in ("yes", "true", "1", "on")

    def long_enough(self, where: str, secret: str | None) -> None:
        """A problem when a secret is set and could be guessed."""
        if secret and len(secret) < SHORTEST_SECRET:
            self.problems.append(f"{where} is too short: it takes {SHORTEST_SECRET} characters or more")

    def header_name(self, where: str, text: str | None) -> str | None:
        """The name of an HTTP header, in small letters."""
        if text and not _HEADER_NAME.fullmatch(text):
            self.problems.append(f"{where} is {text!r}: it takes the name of a header, such as Authorization")
            return None
        return text.lower() if text else None

    def key(self, where: str, text: str | None) -> str | None:
        """A secret that goes out in an HTTP header."""
        if text and not (text.isascii() and text.isprintable()):
            self.problems.append(f"{where} can't stand in an HTTP header: it takes one line of ASCII")
        return text

    def base64(self, where: str, text: str | None) -> str | None:
        """A secret in base64, still encoded."""
        try:
            if text and base64.b64decode(text, validate=True):
                return text
        except ValueError:
            pass
        if text:
            self.problems.append(f"{where} is no base64: it takes the secret as the platform shows it")
        return None

    def one_of(self, where: str, text: str, words: Sequence[str]) -> str:
        """One of some words."""
        if text not in words:
            self.problems.append(f"{where} is {text!r}: it takes {' or '.join(words)}")
        return text

    def per_second(self, where: str, text: str | None) -> float | None:
        """A rate, or None for none."""
        if not text:
            return None
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", text) or not float(text):
            self.problems.append(f"{where} is {text!r}: it takes a number such as 50 or 0.5")
            return None
        return float(text)

    def minutes(self, where: str, text: str | None, most: int) -> timedelta | None:
        """A time in whole minutes, or None for none and for 0."""
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= most):
            self.problems.append(f"{where} is {text!r}: it takes whole minutes, 0 to {most}")
            return None
        return timedelta(minutes=int(text)) or None

    def url(self, where: str, text: str | None) -> str | None:
        """A base address without a slash at its end, or the reason why it is none."""
        if not text:
            return None
        try:
            parts = urlsplit(text)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and "?" not in text
            good = good and (parts.port is None or parts.port > 0) and "@" not in parts.netloc
            good = good and "#" not in text and not re.search(r"[\s\x00-\x1f\x7f]", text)
        except ValueError:
            good = False
        if not good:
            self.problems.append(
                f"{where} is no address: it takes https://host[:port][/path], without a user, a query or blanks"
            )
            return None
        if urlsplit(text).scheme == "http" and not is_loopback(text):
            self.problems.append(f"{where} is not https: only a loopback address may be plain http")
        return text.rstrip("/")

    def zone(self, where: str, name: str) -> tzinfo:
        """A time zone by its IANA name."""
        try:
            return UTC if name == "UTC" else ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            self.problems.append(f"{where} is {name!r}: it takes the name of a time zone such as Europe/London")
            return UTC


def is_loopback(url: str) -> bool:
    """Whether `url` points to this machine; False for what is no URL."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

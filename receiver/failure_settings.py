"""What a tenant's settings say of failure notices: where they go, in which shape, and which failures they tell."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from receiver.environment import Reader, Setting
from receiver.targets import Allowed, refused_target

FAILURE_SETTINGS = (
    Setting("FAILURE_URL", "Where each final failure is posted.", secret=True),
    Setting("FAILURE_FORMAT", "How: json, or slack for what takes Slack's incoming webhooks.", "json"),
    Setting("FAILURE_DIGEST_SECONDS", "Seconds of failures in one notice; 0: each by itself. slack: 60, json: 0."),
    Setting("FAILURE_SECRET", "Signs the notices: x-hub-signature.", secret=True),
    Setting("FAILURE_ALSO", "What is told besides, commas between: no_receipt, cancelled, observed, imported."),
)
FORMATS = ("json", "slack")
ALSO = ("no_receipt", "cancelled", "observed", "imported")
LONGEST_DIGEST = 86_400  # seconds
USUAL_DIGEST = {"json": 0, "slack": 60}  # Slack takes about one message a second


@dataclass(frozen=True)
class FailureNotices:
    """Where a tenant's failures are posted, and which. Neither address nor secret is in its repr."""

    url: str = field(repr=False)
    format: str = "json"
    digest_seconds: int = 0
    """So many seconds of failures go in one notice; 0: each by itself."""
    secret: str | None = field(default=None, repr=False)
    also: frozenset[str] = frozenset()
    """What is told beside the failures of messages that were sent: words of ALSO."""


def read_failure_notices(
    reader: Reader, texts: Mapping[str, str | None], where: Callable[[str], str], allowed: Allowed
) -> FailureNotices | None:
    """One tenant's settings of this kind; None where no address is set. The reader collects what is wrong."""
    reader.long_enough(where("FAILURE_SECRET"), texts["FAILURE_SECRET"])
    chosen = reader.one_of(where("FAILURE_FORMAT"), texts["FAILURE_FORMAT"] or "json", FORMATS)
    seconds = _seconds(reader, where("FAILURE_DIGEST_SECONDS"), texts["FAILURE_DIGEST_SECONDS"], chosen)
    also = frozenset(part.strip().lower() for part in (texts["FAILURE_ALSO"] or "").split(",") if part.strip())
    if also - set(ALSO):
        unknown = ", ".join(sorted(also - set(ALSO)))
        reader.problems.append(f"{where('FAILURE_ALSO')} has {unknown}: it takes some of {', '.join(ALSO)}")
    url = texts["FAILURE_URL"]
    if not url:
        for name in ("FAILURE_FORMAT", "FAILURE_SECRET", "FAILURE_DIGEST_SECONDS", "FAILURE_ALSO"):
            if texts[name] and (name, texts[name]) != ("FAILURE_FORMAT", "json"):  # what it is by itself
                reader.problems.append(f"{where(name)} is set, and {where('FAILURE_URL')} is missing")
        return None
    if reason := refused_target(url, allowed):
        reader.problems.append(f"no failure can be posted to {where('FAILURE_URL')}: {reason}")
    return FailureNotices(url, chosen, seconds, texts["FAILURE_SECRET"] or None, also)


def _seconds(reader: Reader, where: str, text: str | None, chosen: str) -> int:
    if text is None or text == "":
        return USUAL_DIGEST.get(chosen, 0)
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= LONGEST_DIGEST):
        reader.problems.append(f"{where} is {text!r}: it takes a whole number from 0 to {LONGEST_DIGEST}")
        return 0
    return int(text)

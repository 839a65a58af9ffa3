"""Scenarios: an ordered list of steps that say which calls meet which trouble, and what becomes of what they sent."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from receiver.sandbox.capture import Capture
from receiver.sandbox.transids import Transids

MESSAGING: Final = "/resources/v1/messaging"
STATUS: Final = "/resources/v1/messaging/status"
V2: Final = "/v2/messages"
EVENTS: Final = "/resources/v1/events/externalevent"
CAMPAIGN: Final = "/imicampaignapi/resources/v3/events"
PATHS: Final = (MESSAGING, STATUS, V2, EVENTS, CAMPAIGN)

Trouble = Literal["hang", "reset", "refuse_before"]
Fate = Literal["delivered", "undelivered", "failed", "silent", "twice", "early"]


class BadScenario(ValueError):
    """The scenario can't be played; says which step is wrong and why."""


class ScenarioStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Which calls, and what happens to them."""

    path: str = ""
    """One of PATHS; empty: all of them."""
    channel: str = ""
    """The deliverychannel; empty: whatever it is, or none."""
    destination: str = ""
    """What all recipients of the call begin with, such as the digits of a country; empty: whoever they are."""
    first: int = msgspec.field(default=1, name="from")
    """The first of the calls that match path, channel and destination, counted from 1."""
    last: int | None = msgspec.field(default=None, name="to")
    """The last of them; None: there is no last."""
    every: int = 1
    """Only each `every`-th from the first on."""
    trouble: Trouble | None = None
    code: str = ""
    """The call is answered with this code, in the envelope of its API."""
    http: int | None = None
    """The HTTP status of that; without a code a bare one, as of a gateway."""
    retry_after: int | None = None
    """Seconds in the answer's Retry-After."""
    taken: bool | None = None
    """Whether the platform took what was sent, whatever it answered; None: after `hang` and `reset` only."""
    slow: float = 0.0
    """Seconds before the answer, or before the trouble; not scaled by `speed`."""
    transids: Transids | None = None
    fate: Fate | None = None
    """What becomes of the messages, in place of a draw."""
    capture: Capture | None = None
    """What `receiver capture` wrote, as what becomes of the messages."""
    lose: float | None = None
    """The share of their receipts that is dropped for ever; None: as is set."""
    receipts_after: float = 0.0
    """Seconds by which all receipts come later; not scaled by `speed`."""

    @property
    def takes(self) -> bool:
        """Whether the call is judged and taken as if nothing had been scripted, whatever is answered."""
        if self.taken is not None:
            return self.taken
        return self.trouble in ("hang", "reset") or not self.fails

    @property
    def fails(self) -> bool:
        """Whether another answer is given than the true one."""
        return self.trouble is not None or bool(self.code) or self.http is not None

    def wrong(self) -> str:
        """What is wrong with it; empty: nothing."""
        wrong = ""
        then = (self.transids, self.fate, self.capture, self.lose)
        follows = self.receipts_after > 0 or any(one is not None for one in then)
        for bad, text in (
            (self.path and self.path not in PATHS, f"path: one of {', '.join(PATHS)}"),
            (self.first < 1, "from: at least 1"),
            (self.last is not None and self.last < self.first, "to: not before from"),
            (self.every < 1, "every: at least 1"),
            (self.trouble and (self.code or self.http), "trouble: without code and http"),
            (self.http is not None and not 200 <= self.http <= 599, "http: 200 to 599"),
            (self.http is not None and self.http < 400 and not self.code, "http: below 400 only with a code"),
            (self.retry_after is not None and not (self.code or self.http), "retry_after: with code or http"),
            (not 0 <= self.slow <= 3_600, "slow: 0 to 3600 seconds"),
            (not 0 <= self.receipts_after <= 86_400, "receipts_after: 0 to 86400 seconds"),
            (self.taken is False and not self.fails, "taken: an answered call was taken"),
            (
                self.trouble == "refuse_before" and (self.channel or self.destination or self.taken),
                "refuse_before: nothing is read, so there is no channel and no destination, and nothing is taken",
            ),
            (self.fate and self.capture, "fate, capture: one of them"),
            (self.capture is not None and (wrong := self.capture.wrong()), wrong),
            (self.lose is not None and not 0 <= self.lose <= 1, "lose: a share, 0 to 1"),
            (follows and not self.takes, "transids, fate, capture, lose, receipts_after: nothing is taken"),
        ):
            if bad:
                return text
        return ""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    step: list[ScenarioStep]


def read_toml(text: bytes) -> tuple[ScenarioStep, ...]:
    """The steps of a scenario file; raises BadScenario."""
    try:
        return _checked(msgspec.toml.decode(text, type=_File))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadScenario(str(error)) from None


def read_json(body: bytes) -> tuple[ScenarioStep, ...]:
    """The steps of the same shape in JSON; raises BadScenario."""
    try:
        return _checked(msgspec.json.decode(body, type=_File))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadScenario(str(error)) from None


def _checked(file: _File) -> tuple[ScenarioStep, ...]:
    for place, step in enumerate(file.step, 1):
        if wrong := step.wrong():
            raise BadScenario(f"step {place}: {wrong}")
    return tuple(file.step)


class Scenario:
    """The steps that are played, and how many calls each of them has seen and met."""

    def __init__(self, steps: Sequence[ScenarioStep] = ()) -> None:
        self.steps = tuple(steps)
        self._seen: Counter[int] = Counter()
        self._met: Counter[int] = Counter()
        self._has_refusals = any(step.trouble == "refuse_before" for step in self.steps)

    def refuses(self, path: str) -> bool:
        """Whether a call is closed before its body is read; no other step counts such a call."""
        if not self._has_refusals:
            return False
        return self._find(path, "", (), before=True) is not None

    def step_for(self, path: str, channel: str, recipients: Sequence[str] = ()) -> ScenarioStep | None:
        """The first step that the call meets. Every step that matches path, channel and destination counts it."""
        return self._find(path, channel, recipients, before=False) if self.steps else None

    def as_json(self) -> dict[str, Any]:
        """The body of `GET /sandbox/scenario`."""
        told: list[dict[str, Any]] = []
        for place, step in enumerate(self.steps):
            told.append(msgspec.to_builtins(step) | {"seen": self._seen[place], "met": self._met[place]})
        return {"step": told}

    def _find(self, path: str, channel: str, recipients: Sequence[str], *, before: bool) -> ScenarioStep | None:
        found = None
        for place, step in enumerate(self.steps):
            if (step.trouble == "refuse_before") is not before:
                continue
            if (step.path and step.path != path) or (step.channel and step.channel != channel):
                continue
            if step.destination and not (recipients and all(one.startswith(step.destination) for one in recipients)):
                continue
            self._seen[place] += 1
            number = self._seen[place]
            inside = step.first <= number and (step.last is None or number <= step.last)
            if found is None and inside and (number - step.first) % step.every == 0:
                found = step
                self._met[place] += 1
        return found

"""What is told of a message, and when: scripts of receipts, and the draw among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# A message always draws as many numbers, whatever its script: so a magic destination, or another
# share, leaves the fates of all later messages as they were. 4 choices + the 9 steps of the longest script.
DICE: Final = 13
JITTER: Final = 0.25  # a delay of 4 s is drawn from 3 to 5 s


@dataclass(frozen=True, slots=True)
class Word:
    """What one receipt says: status, code, description and more in the platform's spelling."""

    status: str
    code: str
    description: str
    additional: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One telling of a script."""

    after: float
    """Seconds, unscaled, after the step before (or after the submission)."""
    word: Word
    repeats: int | None = None
    """The place of the step that is told again, byte for byte."""
    device: int = 0
    """Which of the recipient's devices it speaks of, where there are several."""
    channel: str = ""
    """The channel that it speaks of, where that is not the message's own: an RCS message that falls back to SMS."""
    subtid: str = ""
    """The node of the flow, or the sub-message, that it speaks of."""


@dataclass(frozen=True, slots=True)
class Script:
    """The fate of a message."""

    name: str
    steps: tuple[Step, ...] = ()
    before_answer: bool = False
    """All steps are told, and answered, before the submission itself is answered."""


@dataclass(frozen=True, slots=True)
class Shares:
    """The shares of fates that aren't delivered; each 0 to 1, their sum too."""

    undelivered: float
    failed: float
    silent: float


SUBMITTED: Final = Word("Submitted", "7501", "Submitted")
DELIVERED: Final = Word("Delivered", "7500", "Delivered")
OUT_OF_COVERAGE: Final = Word("Undelivered", "7207", "Out of coverage")
INVALID_SENDER: Final = Word("Failed", "7101", "Invalid Sender ID")
INVALID_ADDRESS: Final = Word("Failed", "7102", "Invalid address")

UNDELIVERED_WORDS: Final = (
    OUT_OF_COVERAGE,
    Word("Undelivered", "7208", "Message expired"),
    Word("Undelivered", "7206", "SIM full"),
    Word("Undelivered", "7203", "Unknown subscriber"),
    Word("Undelivered", "7204", "No credit"),
    Word("Undelivered", "7201", "Failed at operator"),
    Word("Undelivered", "7209", "Part of the message undelivered"),
)
FAILED_WORDS: Final = (
    INVALID_SENDER,
    INVALID_ADDRESS,
    Word("Failed", "7109", "Do not disturb"),
    Word("Failed", "7111", "Spam"),
    Word("Failed", "7202", "Failed at platform"),
    Word("Failed", "7720", "Blocked"),
    Word("Failed", "7006", "Internal error"),
    Word("Failed", "7107", "Message too long"),
    Word("Failed", "7205", "Binary message error"),
    Word("Failed", "7210", "Billing configuration error"),
    Word("Failed", "7211", "Billing configuration missing"),
    Word("Failed", "7283", "Landline number"),
    Word("Failed", "7302", "Rate limit exceeded"),
    Word("Failed", "7607", "Message type not allowed"),
)
CARRIERS: Final = ("UKVOD", "UKTEF", "UKEE", "UKH3G")

_SUBMITTED = Step(1.0, SUBMITTED)
_DELIVERED = Step(3.0, DELIVERED)  # 4 s after the submission


def undelivered(word: Word) -> Script:
    """Submitted, and 3 s after the submission `word`."""
    return Script("undelivered", (_SUBMITTED, Step(2.0, word)))


def failed(word: Word) -> Script:
    """`word` alone, 3 s after the submission: it was never handed on."""
    return Script("failed", (Step(3.0, word),))


DELIVERED_SCRIPT: Final = Script("delivered", (_SUBMITTED, _DELIVERED))
SILENT_SCRIPT: Final = Script("silent")
# The second Submitted comes after Delivered: who takes the last word for the truth is caught.
TWICE_SCRIPT: Final = Script(
    "twice", (_SUBMITTED, _DELIVERED, Step(1.0, SUBMITTED, repeats=0), Step(1.0, DELIVERED, repeats=1))
)
EARLY_SCRIPT: Final = Script("early", (Step(0.0, SUBMITTED), Step(0.0, DELIVERED)), before_answer=True)


def draw(shares: Shares, dice: Sequence[float]) -> Script:
    """The script of an ordinary sms message, by the first two of its `dice` (each 0 <= d < 1)."""
    fate, which = dice[0], dice[1]
    if fate < shares.failed:
        return failed(FAILED_WORDS[int(which * len(FAILED_WORDS))])
    if fate < shares.failed + shares.undelivered:
        return undelivered(UNDELIVERED_WORDS[int(which * len(UNDELIVERED_WORDS))])
    if fate < shares.failed + shares.undelivered + shares.silent:
        return SILENT_SCRIPT
    return DELIVERED_SCRIPT


def carrier(dice: Sequence[float]) -> str:
    """The network that takes the message, by the third of its `dice`."""
    return CARRIERS[int(dice[2] * len(CARRIERS))]


def spread(dice: Sequence[float]) -> float:
    """What the waits before further tries are multiplied by: 0.95 to 1.05, by the fourth of its `dice`."""
    return 0.95 + 0.1 * dice[3]


def pace(script: Script, dice: Sequence[float], speed: float) -> tuple[float, ...]:
    """Seconds from the submission to each step, never falling, scaled by `speed`."""
    at = 0.0
    offsets = []
    for step, die in zip(script.steps, dice[4:], strict=False):
        at += step.after * (1 - JITTER + 2 * JITTER * die) * speed
        offsets.append(at)
    return tuple(offsets)

"""The channels: the words that each can tell, as scripts, and the kind of recipient that each has.

Source: the platform's public documents. Real waits (a bounce comes up to 14 hours after Delivered, a push up to 28
days late) are shortened to seconds; their order is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from receiver.sandbox.script import (
    DELIVERED,
    FAILED_WORDS,
    OUT_OF_COVERAGE,
    SILENT_SCRIPT,
    SUBMITTED,
    UNDELIVERED_WORDS,
    Script,
    Shares,
    Step,
    Word,
    failed,
    undelivered,
)

READ: Final = Word("Read", "7502", "Read")
CLICKED: Final = Word("Clicked", "7528", "Clicked")
NO_CONSENT: Final = Word("Failed", "9002", "Recipient has not consented to message")
INVALID_TEMPLATE: Final = Word("Failed", "7108", "Invalid template")
INVALID_MEDIA: Final = Word("Failed", "7740", "Invalid media details", "Invalid media URL")
NO_PROFILE: Final = Word("Failed", "7105", "Customer profile not found")
EXPIRED: Final = Word("Failed", "7005", "Request expired")


@dataclass(frozen=True, slots=True)
class Family:
    """What a channel tells."""

    told_as: str
    """How receipts spell the channel."""
    recipient: str
    """The kind of recipient that a made-up message has."""
    good: tuple[Script, ...]
    bad: tuple[Script, ...]
    also: tuple[str, ...] = ()
    """Other spellings that have been seen."""


def _script(name: str, *words: Word | Step) -> Script:
    """A script whose bare words follow each other at 1 s."""
    return Script(name, tuple(word if isinstance(word, Step) else Step(1.0, word) for word in words))


def _voice(status: str, code: str, description: str = "") -> Word:
    return Word(status, code, description or status.capitalize())


def _whatsapp(number: int, text: str) -> Word:
    """WhatsApp's own cause stands in additionalInfo, behind a code that says nothing."""
    return Word("Failed", "7200", "Unknown Status", f"(#{number})  | {text}")


def _bounce(description: str, additional: str) -> Word:
    return Word("Bounce", "7520", description, additional)


_OFFERED = _voice("OFFERED", "7407")
_ACCEPTED = _voice("ACCEPTED", "7408")
_ANSWERED = _voice("ANSWERED", "7519")
_DROPPED = _voice("DROPPED", "7409")
_DISCONNECTED = _voice("DISCONNECTED", "7410")
_RELEASED = _voice("RELEASED", "")
_CONNECT = _voice("TROMBONE CONNECT", "7411", "Trombone connected")
_RELEASE = _voice("TROMBONE RELEASE", "7412", "Trombone released")

_BOUNCES = (
    _bounce("Permanent_General", "5.7.1|failed|smtp; 550 5.7.1 Message rejected"),
    _bounce("Permanent_NoEmail", "5.1.1|failed|smtp; 550-5.1.1 The email account does not exist."),
    _bounce("Permanent_Suppressed", "the address is on the suppression list"),
    _bounce("Transient_General", "4.4.7|failed|smtp; 421 4.4.7 Message expired"),
    _bounce("Transient_General", "5.4.1|failed|smtp;550 5.4.1 Recipient address rejected"),
    _bounce("Transient_MailboxFull", "4.2.2|failed|smtp; 452 4.2.2 The mailbox is full"),
    _bounce("Transient_MessageTooLarge", "5.3.4|failed|smtp; 552 5.3.4 Message too big"),
    _bounce("Transient_ContentRejected", "5.6.0|failed|smtp; 554 5.6.0 Content rejected"),
    _bounce("Transient_AttachmentRejected", "5.7.0|failed|smtp; 552 5.7.0 Attachment rejected"),
)
_NOT_VERIFIED = Word("Not verified", "7522", "Email address is not verified")
_INVALID = Word("Invalid", "7523", "Invalid email address")
_COMPLAINT = Word("Complaint", "7521", "Complaint", "abuse")

_PLAIN = _script("delivered", SUBMITTED, Step(3.0, DELIVERED))
_PLAIN_READ = _script("read", SUBMITTED, DELIVERED, Step(2.0, READ))
_ALONE = _script("delivered", Step(2.0, DELIVERED))
_SAID_FAILED = _script("failed", SUBMITTED, Word("Failed", "7200", "Unknown Status"))
_CHAT_BAD = (_SAID_FAILED, failed(NO_CONSENT), failed(INVALID_TEMPLATE), failed(EXPIRED))

_SMS = Family(
    "SMS",
    "number",
    good=(
        _PLAIN,
        _PLAIN,
        _PLAIN,
        _script("late", SUBMITTED, Word("Un-Delivered", "7207", "Out of coverage"), Step(4.0, DELIVERED)),
        _script("clicked", SUBMITTED, DELIVERED, CLICKED, Step(2.0, CLICKED)),
    ),
    bad=(
        *(undelivered(word) for word in UNDELIVERED_WORDS),
        *(failed(word) for word in FAILED_WORDS),
        failed(NO_CONSENT),
        failed(EXPIRED),
        # a code that contradicts its status, as in the platform's own samples
        _script("failed", Word("Submitted", "7102", "Invalid address"), Word("Failed", "7102", "Invalid address")),
    ),
    also=("sms", "Sms"),
)
_VOICE = Family(
    "voice",
    "number",
    good=(
        _script("answered", _OFFERED, _ACCEPTED, _ANSWERED, Step(5.0, _RELEASED)),
        _script("answered", _OFFERED, _ACCEPTED, _ANSWERED, Step(5.0, _DISCONNECTED)),
        _script("connected", _OFFERED, _ACCEPTED, _ANSWERED, _CONNECT, Step(3.0, _RELEASE), _DISCONNECTED),
    ),
    bad=(
        _script("no answer", _OFFERED, _ACCEPTED, Step(4.0, _voice("FAILED", "7401", "No answer"))),
        _script("busy", _OFFERED, _voice("FAILED", "7402", "Busy")),
        _script("failed", _voice("FAILED", "7404", "Others")),
        _script("rejected", _OFFERED, _voice("REJECTED", "7406")),
        _script("dropped", _OFFERED, _ACCEPTED, _DROPPED),
    ),
    also=("VOICE", "Voice"),
)
_PUSH = Family(
    "push",
    "customer",
    good=(
        _PLAIN,
        _PLAIN_READ,
        _script(
            "two devices",
            Step(1.0, SUBMITTED, device=1),
            Step(0.0, SUBMITTED, device=2),
            Step(1.0, DELIVERED, device=2),
            Step(2.0, Word("Failed", "7104", "Invalid app id"), device=1),
        ),
        _script(
            "three devices",
            *(Step(0.5, SUBMITTED, device=device) for device in (1, 2, 3)),
            *(Step(0.5, DELIVERED, device=device) for device in (1, 2, 3)),
            Step(2.0, READ, device=3),
        ),
    ),
    bad=(failed(NO_PROFILE), failed(Word("Failed", "7104", "Invalid app id")), _SAID_FAILED),
    also=("PUSH", "Push"),
)
_RT = Family(
    "rt",
    "application",
    good=(_PLAIN, _PLAIN_READ, _script("clicked", SUBMITTED, DELIVERED, READ, CLICKED)),
    bad=(failed(NO_PROFILE), failed(Word("Failed", "7104", "Invalid app id")), _SAID_FAILED),
    also=("RT", "appmessaging"),
)
_MESSENGER = Family(
    "messenger", "page user", good=(_PLAIN, _PLAIN_READ), bad=_CHAT_BAD, also=("fb", "Messenger", "facebook")
)
_WHATSAPP = Family(
    "whatsapp",
    "number",
    good=(_PLAIN, _PLAIN_READ, _PLAIN_READ),
    bad=(
        failed(_whatsapp(131049, "In order to maintain a healthy ecosystem engagement, the message failed.")),
        failed(_whatsapp(131026, "Message undeliverable")),
        _script("failed", SUBMITTED, _whatsapp(131047, "Re-engagement message")),
        failed(INVALID_TEMPLATE),
        failed(NO_CONSENT),
    ),
    also=("wa", "WhatsApp", "WHATSAPP"),
)
_EMAIL = Family(
    "email",
    "email",
    good=(
        _PLAIN,
        _script("read", SUBMITTED, DELIVERED, READ, READ),
        _script("clicked", SUBMITTED, DELIVERED, READ, CLICKED, CLICKED),
        _script("complained", SUBMITTED, DELIVERED, Step(5.0, _COMPLAINT)),
    ),
    bad=(
        *(_script("bounced", SUBMITTED, word) for word in _BOUNCES),
        *(_script("bounced late", SUBMITTED, DELIVERED, Step(8.0, word)) for word in _BOUNCES),
        failed(_NOT_VERIFIED),
        failed(_INVALID),
        failed(NO_CONSENT),
        failed(INVALID_TEMPLATE),
    ),
    also=("Email", "EMAIL", "e-mail"),
)
_FALLBACK = (
    Step(1.0, SUBMITTED, channel="sms", subtid="2"),
    Step(2.0, DELIVERED, channel="sms", subtid="2"),
)
_RCS = Family(
    "rcs",
    "number",
    good=(
        _PLAIN,
        _PLAIN_READ,
        _script("fell back", SUBMITTED, Step(4.0, Word("Failed", "7200", "Unknown Status")), *_FALLBACK),
    ),
    bad=(
        failed(INVALID_MEDIA),
        _SAID_FAILED,
        _script(
            "fell back in vain",
            failed(INVALID_MEDIA).steps[0],
            _FALLBACK[0],
            Step(2.0, OUT_OF_COVERAGE, channel="sms", subtid="2"),
        ),
    ),
    also=("RCS",),
)
_MMS = Family(
    "mms",
    "number",
    good=(_PLAIN,),
    bad=(failed(INVALID_MEDIA), failed(Word("Failed", "7202", "Failed at platform")), _SAID_FAILED),
    also=("MMS",),
)
_APPLE = Family(
    "applebusinesschat",
    "business chat user",
    good=(_script("submitted", SUBMITTED),),
    bad=(failed(Word("Failed", "7314", "Invalid application details", "the business id is not registered")),),
)

# By the name that a request gives them; below the line those that only flows send.
FAMILIES: Final = {
    "sms": _SMS,
    "voice": _VOICE,
    "push": _PUSH,
    "rt": _RT,
    "appmessaging": _RT,
    "fb": _MESSENGER,
    "twitter": Family("twitter", "social user", good=(_ALONE,), bad=(failed(_SAID_FAILED.steps[1].word),)),
    "wa": _WHATSAPP,
    "wechat": Family("wechat", "open id", good=(_ALONE,), bad=(failed(_SAID_FAILED.steps[1].word),)),
    # ---
    "email": _EMAIL,
    "rcs": _RCS,
    "mms": _MMS,
    "applebusinesschat": _APPLE,
    "instagram": Family("instagram", "page user", good=(_PLAIN, _PLAIN_READ), bad=_CHAT_BAD),
}


def draw(channel: str, shares: Shares, dice: Sequence[float]) -> Script:
    """The script of a message on `channel`, by the first two of its `dice` (each 0 <= d < 1)."""
    family, fate = FAMILIES[channel], dice[0]
    bad = shares.failed + shares.undelivered
    if bad <= fate < bad + shares.silent:
        return SILENT_SCRIPT
    scripts = family.bad if fate < bad else family.good
    return scripts[int(dice[1] * len(scripts))]

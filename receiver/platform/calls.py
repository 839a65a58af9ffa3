"""What is sent to each of the platform's doors, and what its answer proves: one of each an api."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from receiver.platform import campaign, events, messaging, messaging_v2
from receiver.platform.apis import Api
from receiver.platform.times import moment
from receiver.platform.wire import Answer, AnswerItem, Call, Outcome, Recipient

LONGEST_WAIT = 3600.0  # seconds that we let the platform put us off at a time

_JUDGES: dict[Api, Callable[[int, bytes], Answer]] = {
    Api.MESSAGING: messaging.judge,
    Api.MESSAGING_V2: messaging_v2.judge,
    Api.EVENTS: events.judge,
    Api.CAMPAIGN: campaign.judge,
}
# v2 and Campaign have no code for it: there an id without a code accepts.
_CODES = {Api.MESSAGING: messaging.CODES, Api.EVENTS: events.CODES}


def call_of(api: Api, content: bytes, recipients: Sequence[Recipient], notifyurl: str) -> Call:
    """The call that sends `content` to `recipients`, with our ids and our notifyurl where the api takes them.

    Of EVENTS `content` holds one event a recipient, in their order; ValueError when it does not. What the client
    wrote goes out to the byte. Raises msgspec.DecodeError for content that is no JSON object.
    """
    match api:
        case Api.MESSAGING:
            return messaging.call(content, recipients, notifyurl)
        case Api.MESSAGING_V2:
            return messaging_v2.call(content, recipients, notifyurl)
        case Api.EVENTS:
            return events.call(content, recipients, notifyurl)
        case Api.CAMPAIGN:
            return campaign.call(content)


def answer_of(api: Api, status: int, body: bytes, retry_after: str | None = None) -> Answer:
    """What the platform's answer to a call that it took as a whole proves. Never raises.

    `retry_after` is the header of that name; what can't be read counts as none.
    """
    return replace(_JUDGES[api](status, body), retry_after=seconds_of(retry_after), raw=body)


def is_queued(api: Api, item: AnswerItem) -> bool:
    """Whether this entry of an accepted answer was taken: the others of a mixed one were not."""
    if (codes := _CODES.get(api)) is not None:
        return item.code == codes.queued
    return not item.code and item.transid is not None


def was_surely_refused(api: Api, item: AnswerItem) -> bool:
    """Whether this entry of an accepted answer says that it was not taken; another word for queued does not."""
    codes = _CODES.get(api, messaging.CODES)
    return bool(item.code) and codes.outcome(item.code) not in (Outcome.UNCERTAIN, Outcome.ACCEPTED)


def seconds_of(retry_after: str | None) -> float | None:
    """The wait that a Retry-After header asks for, 0 to 3600 seconds; None for none and for nonsense."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_WAIT)
    until = moment(text, UTC)
    if until is None:
        return None
    return min(max((until - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_WAIT)

"""What a client may ask of Webex Campaign, checked before anything is written: 1002 missing, 1001 wrong.

The platform takes no correlationid and no notifyurl here, so no receipt can be joined: accepted is all that is known.
"""

from typing import Any

import msgspec

from receiver.ids import normalise_destination
from receiver.messages.lattice import Channel
from receiver.platform.apis import Api
from receiver.sending.content import encoded
from receiver.sending.destinations import Asked
from receiver.sending.fields import Broken, mandatory_name, part
from receiver.sending.request import NORMAL_PRIORITY, Request
from receiver.web import FieldError

MISSING, WRONG = "1002", "1001"

MOST_PARAMS = 400
LARGEST_PARAMS = 24 * 1_024  # bytes, written as JSON
NEVER = (None, "NULL", "null")


class CampaignBroken(Broken):
    """The broken rules in the codes of Webex Campaign."""

    def missing(self, pointer: str, detail: str) -> None:
        self.errors.append(FieldError(pointer, MISSING, detail))

    def wrong(self, pointer: str, detail: str) -> None:
        self.errors.append(FieldError(pointer, WRONG, detail))


def check_campaign(body: Any) -> Request | list[FieldError]:
    """The request in `body` (a decoded JSON value), which is one message, or every rule that it breaks."""
    broken = CampaignBroken()
    if not isinstance(body, dict):
        broken.wrong("", "the body must be a JSON object")
        return broken.errors
    mandatory_name(body, "event-id", "/event-id", broken)
    key = mandatory_name(body, "event-key", "/event-key", broken).strip()
    if "event-params" in body:
        _params(body["event-params"], broken)
    content = encoded(body, broken)
    if not broken.errors and "event-params" in body:
        _measure(body["event-params"], broken)
    if broken.errors:
        return broken.errors
    return Request(
        api=Api.CAMPAIGN,
        channel=Channel.CAMPAIGN,
        content=content,
        messages=(Asked("event-key", key, normalise_destination(key), None),),
        callback_data=None,
        sender=None,
        template=None,
        priority=NORMAL_PRIORITY,
        expires_at=None,
        notifyurl=None,
    )


def _params(params: Any, broken: Broken) -> None:
    if not isinstance(params, dict):
        broken.wrong("/event-params", "event-params must be an object; leave it out if there are none")
        return
    if len(params) > MOST_PARAMS:
        broken.wrong("/event-params", f"there are {len(params)} event-params, {MOST_PARAMS} at most")
        return
    for name, value in params.items():
        if value in NEVER:
            broken.wrong(f"/event-params/{part(name)}", "a param may not be null, nor the words NULL or null")


def _measure(params: dict[str, Any], broken: Broken) -> None:
    number = len(msgspec.json.encode(params))
    if number > LARGEST_PARAMS:
        broken.wrong("/event-params", f"event-params have {number} bytes, {LARGEST_PARAMS} at most")

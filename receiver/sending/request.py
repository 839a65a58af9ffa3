"""What a client may ask us to send: the platform's Messaging v1 body, checked before anything is written.

Every broken rule is named at once, with the platform's own code: 7003 missing, 7004 wrong, 7009 too many.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from receiver.messages.lattice import Channel
from receiver.platform.apis import Api
from receiver.sending.channel_blocks import WAYS, check_channels
from receiver.sending.content import encoded
from receiver.sending.destinations import Asked, destinations_of
from receiver.sending.fields import Broken, correlationid_of, expiry_of, is_empty, name_of, notifyurl_of, plain
from receiver.web import FieldError

__all__ = ["Asked", "Request", "check"]

MISSING, WRONG = "7003", "7004"

LONGEST_CALLBACK = 2_000  # characters
PRIORITIES = {"1": 1, "2": 2, "3": 3}
NORMAL_PRIORITY = 2
ROUTES = ("IMMD", "LCGD", "LCBE")
# Each recipient gets its own of these from us.
NOT_CONTENT = ("destination", "correlationid", "notifyurl")


class MessagingBroken(Broken):
    """The broken rules in the codes of Messaging."""

    def missing(self, pointer: str, detail: str) -> None:
        self.errors.append(FieldError(pointer, MISSING, detail))

    def wrong(self, pointer: str, detail: str) -> None:
        self.errors.append(FieldError(pointer, WRONG, detail))


@dataclass(frozen=True)
class Request:
    """A request that keeps every rule. `content` is what goes out of it, as the platform will read it.

    Of Messaging it is what every recipient gets; of Custom Event the body without notifyurl, whose `events` stand in
    the order of `messages`; of Campaign the body. `notifyurl` is the client's own: receipts are forwarded there.
    """

    api: Api
    channel: Channel
    content: bytes
    messages: tuple[Asked, ...]
    callback_data: str | None
    sender: str | None
    template: str | None
    priority: int
    expires_at: datetime | None
    notifyurl: str | None


def check(body: Any) -> Request | list[FieldError]:
    """The request in `body` (a decoded JSON value), or every rule that it breaks."""
    broken = MessagingBroken()
    if not isinstance(body, dict):
        broken.wrong("", "the body must be a JSON object")
        return broken.errors
    word = _deliverychannel(body, broken)
    template = _template(body, broken)
    sender = check_channels(body, word, template is not None, broken)
    correlationid = correlationid_of(body, "", broken)
    callback = _callback(body, broken)
    _route(body, broken)
    expires_at = expiry_of(body, broken)
    notifyurl = notifyurl_of(body, broken)
    messages = destinations_of(body, correlationid, broken)
    content = encoded({k: v for k, v in body.items() if k not in NOT_CONTENT}, broken)
    if broken.errors or word is None:
        return broken.errors
    return Request(
        api=Api.MESSAGING,
        channel=WAYS[word].channel,
        content=content,
        messages=tuple(messages),
        callback_data=callback,
        sender=sender,
        template=template,
        priority=PRIORITIES.get(name_of(body.get("priority")) or "", NORMAL_PRIORITY),
        expires_at=expires_at,
        notifyurl=notifyurl,
    )


def _deliverychannel(body: dict[str, Any], broken: Broken) -> str | None:
    word = body.get("deliverychannel")
    if word in (None, ""):
        broken.missing("/deliverychannel", "deliverychannel is mandatory")
    elif not isinstance(word, str) or word not in WAYS:
        broken.wrong("/deliverychannel", f"it takes one of {', '.join(WAYS)}")
    else:
        return word
    return None


def _template(body: dict[str, Any], broken: Broken) -> str | None:
    message = body.get("message")
    if message is None:
        return None
    if not isinstance(message, dict):
        broken.wrong("/message", "message must be an object with template and parameters")
        return None
    if not isinstance(message.get("parameters"), dict | None):
        broken.wrong("/message/parameters", "parameters must be an object")
    template = name_of(message.get("template"))
    if template is None or is_empty(template):
        broken.missing("/message/template", "a message needs the id of its template")
        return None
    return plain(template, "/message/template", broken)


def _callback(body: dict[str, Any], broken: Broken) -> str | None:
    value = body.get("callbackData")
    if value in (None, ""):
        return None
    if not isinstance(value, str):
        broken.wrong("/callbackData", "callbackData must be a string")
        return None
    if len(value) > LONGEST_CALLBACK:
        broken.wrong("/callbackData", f"callbackData has {len(value)} characters, {LONGEST_CALLBACK:,} at most")
    return plain(value, "/callbackData", broken)


def _route(body: dict[str, Any], broken: Broken) -> None:
    route = body.get("route")
    if route not in (None, "") and route not in ROUTES:
        broken.wrong("/route", f"it takes one of {', '.join(ROUTES)}")

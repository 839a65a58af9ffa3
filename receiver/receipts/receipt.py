"""Reading what the platform tells: from a body to receipts. Reading cannot raise.

The dialects that unwrap a body are in `receipts/notification.py`; here one notification becomes one `Told`.
"""

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo

from receiver.ids import (
    Digest,
    MessageId,
    SubmissionId,
    TenantId,
    digest,
    leg_of,
    new_id,
    normalise_destination,
    parse_id,
    transid_root,
)
from receiver.messages.lattice import RANK, clash, reason_key
from receiver.messages.told import Reject, Told, transid_digest
from receiver.platform.codes import channel_of, fact_of, receipt_meaning
from receiver.platform.times import moment
from receiver.receipts.body import Unreadable, text_of
from receiver.receipts.notification import Notification, canonical, notifications

MOST_LINKS = 8
FINGERPRINT_VERSION = b"\x01"
_TEMPLATE = re.compile(r"\$\([A-Za-z0-9_.]{1,64}\)")


@dataclass(frozen=True)
class Source:
    """Where a body came from: whose it is, under which submission's URL, when, and the zone of bare time stamps."""

    tenant: TenantId
    submission_id: SubmissionId | None
    received_at: datetime
    zone: tzinfo = UTC
    headers: str = "{}"


@dataclass
class Reading:
    """What a body holds: receipts, and the parts in which none could be read."""

    receipts: list[Told] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


def read(body: bytes, source: Source) -> Reading:
    """Every receipt in `body`. What can't be read comes back as a reject with its reason; nothing raises."""
    reading = Reading()
    try:
        found = notifications(body)
    except Unreadable as why:
        reading.rejects.append(reject(body, source, why.reason, why.detail))
        return reading
    except Exception as error:
        # The last line of defence: a body that breaks the reader is kept and told, never answered with an error.
        reading.rejects.append(_broken(body, source, error))
        return reading
    for item in found:
        if isinstance(item, Unreadable):
            reading.rejects.append(reject(item.raw or body, source, item.reason, item.detail))
            continue
        try:
            reading.receipts.append(_told(item, source))
        except Exception as error:
            reading.rejects.append(_broken(item.raw, source, error))
    return reading


def reject(body: bytes, source: Source, reason: str, detail: str | None) -> Reject:
    """A body for the quarantine; the same body of the same tenant has the same digest."""
    key = hashlib.blake2b(b"%d\0%s\0" % (source.tenant, reason.encode()) + body, digest_size=16).digest()
    return Reject(
        source.tenant,
        digest(key.hex()),
        reason,
        detail,
        body,
        source.headers,
        source.received_at,
        source.submission_id,
    )


def _broken(body: bytes, source: Source, error: Exception) -> Reject:
    """The reject for a body that broke the reader. Running out of stack is the body's fault, anything else is ours."""
    reason = "nested_too_deeply" if isinstance(error, RecursionError) else "reader_failed"
    return reject(body, source, reason, type(error).__name__)


def fingerprint(notification: Notification) -> bytes:
    """128 bits that say which telling this is: the notification's own fields as told, whatever wrapped them."""
    return hashlib.sha256(FINGERPRINT_VERSION + canonical(notification)).digest()[:16]


def _told(n: Notification, source: Source) -> Told:
    say = n.said.get

    def text(name: str) -> str:
        return "" if (value := say(name)) is None else text_of(value)

    status = text("deliverystatus") or text("status")
    destination = text("destination") or text("address")
    transid = text("transid") or text("requestid") or text("messageid") or text("transactionid") or _last_segment(n)
    correlationid = _expanded(text("correlationid") or text("clientcorrelator"))
    callback = _expanded(text("callbackdata"))
    code = text("code") or _error_code(n)
    description = text("description")
    additional = text("additionalinfo")
    subtid = text("subtid")

    channel = channel_of(text("deliverychannel") or text("channel"))
    fact = fact_of(channel, status)
    identity = fingerprint(n)
    meaning = receipt_meaning(channel, code, description, additional)
    failure_class = int(meaning.failure_class) if meaning else 0
    reason = reason_key(fact, bool(code), failure_class != 0, identity)
    recipient = normalise_destination(destination)
    leg = leg_of("", recipient)
    described = f"{description} · {additional}" if description and additional else description or additional
    return Told(
        tenant=source.tenant,
        submission_id=source.submission_id,
        candidate=_as_message_id(correlationid),
        transid_key=_key(transid, correlationid, callback if n.is_oneapi else "", identity),
        leg_key=leg_of(subtid, recipient) if subtid else leg,
        issued_leg_key=leg,
        fresh=MessageId(new_id()),
        fingerprint=identity,
        channel=channel,
        fact=fact,
        rank=RANK[fact],
        clash=clash(channel, fact),
        reason_key=reason,
        reason_class=failure_class if reason else None,
        received_at=source.received_at,
        told_at=moment(text("timestamp") or text("deliverydate"), source.zone),
        status=status,
        code=code or None,
        code_key=digest(code) if code else None,
        description=described or None,
        destination=destination or None,
        destination_type=text("destinationtype") or None,
        destination_key=digest(recipient),
        subtid=subtid or None,
        device=text("deviceid") or text("pushid") or None,
        carrier=text("carrier") or None,
        message_count=_count(text("messagecount")),
        transid=transid or None,
        correlationid=correlationid or None,
        correlation_key=digest(correlationid) if correlationid else None,
        callback_data=callback or None,
        callback_key=digest(callback) if callback else None,
        raw=n.raw,
    )


def _key(transid: str, correlationid: str, oneapi_callback: str, identity: bytes) -> Digest:
    """What names a message that is not ours: its transid, else its correlationid; never a phone number alone.

    OneAPI hubs put the id of the request into callbackData. A receipt without any id can't be joined to another:
    its own fingerprint is its key.
    """
    if transid:
        return transid_digest(transid_root(transid))
    if correlationid:
        return digest(f"c\0{correlationid.casefold()}")
    if oneapi_callback:
        return digest(f"b\0{oneapi_callback}")
    return digest(f"f\0{identity.hex()}")


def _as_message_id(correlationid: str) -> MessageId | None:
    identity = parse_id(correlationid) if correlationid else None
    return MessageId(identity) if identity else None


def _expanded(text: str) -> str:
    """`text`, or nothing where it is a template that the platform did not fill in: `$(callbackData)`."""
    return "" if text.startswith("$(") and _TEMPLATE.fullmatch(text) else text


def _error_code(n: Notification) -> str:
    """The code of a OneAPI hub, whose word for it is errorCode; its 0 says that there is none."""
    code = text_of(n.said.get("errorcode")) if n.is_oneapi else ""
    return "" if code == "0" else code


def _last_segment(n: Notification) -> str:
    """The last path segment of OneAPI's `link.href`: the id of the request, where nothing else names it.

    Of several links the one to the request counts, and never the one to a subscription, which all receipts share.
    """
    link, own = n.said.get("link"), n.said.get("resourceurl")
    if link is None and own is None:
        return ""
    links = link[:MOST_LINKS] if isinstance(link, list) else [link]
    hrefs = [v for item in links if isinstance(item, dict) for k, v in item.items() if k.lower() == "href"]
    hrefs = [text_of(href) for href in (*hrefs, own) if isinstance(href, str)]
    hrefs = [href for href in hrefs if "/subscriptions/" not in href]
    href = next((href for href in hrefs if "/requests/" in href), hrefs[0] if hrefs else "")
    path = href.partition("?")[0].rstrip("/").removesuffix("/deliveryInfos")
    return path.rpartition("/")[2]


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else None

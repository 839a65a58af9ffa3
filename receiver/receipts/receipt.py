"""Reading what the platform tells: from a body to receipts. Reading cannot raise.

The dialects that unwrap a body are in `receipts/notification.py`; here one notification becomes one `Told`.
"""

import hashlib
from dataclasses import dataclass, field

from receiver.ids import digest
from receiver.messages.told import Reject, Told
from receiver.receipts.body import Unreadable, text_of
from receiver.receipts.notification import Notification, fingerprint, notifications
from receiver.receipts.texts import NAMES, Source, Texts, told_of
from receiver.receipts.usual import usual

__all__ = ["Reading", "Source", "read", "reject"]

MOST_LINKS = 8
_TRANSID, _CODE = NAMES.index(("transid", "requestid", "messageid", "transactionid")), NAMES.index(("code",))


@dataclass(slots=True)
class Reading:
    """What a body holds: receipts, and the parts in which none could be read."""

    receipts: list[Told] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


def read(body: bytes, source: Source) -> Reading:
    """Every receipt in `body`. What can't be read comes back as a reject with its reason; nothing raises."""
    try:
        short = usual(body)
        if short is not None:
            texts, identity = short
            return Reading([told_of(texts, False, identity, source, body)])
    except Exception as error:
        return Reading(rejects=[_broken(body, source, error)])
    return read_at_length(body, source)


def read_at_length(body: bytes, source: Source) -> Reading:
    """As `read`, and by the way that reads any body."""
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


def _told(n: Notification, source: Source) -> Told:
    return told_of(_texts(n), n.is_oneapi, fingerprint(n), source, n.raw)


def _texts(n: Notification) -> Texts:
    say = n.said.get
    texts = [next((text for name in names if (text := text_of(say(name)))), "") for names in NAMES]
    texts[_TRANSID] = texts[_TRANSID] or _last_segment(n)
    texts[_CODE] = texts[_CODE] or _error_code(n)
    return tuple(texts)  # type: ignore[return-value]  # as many as NAMES


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

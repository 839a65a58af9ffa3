"""What the platform tells, made before it is sent: whole requests, with bodies in the shapes of its documents."""

import json
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench.issued import Issued
from bench.wrk import post
from receiver.access.tokens import NotifyTokens
from tests.support import SECRET

SAMPLES = Path(__file__).parent.parent / "tests" / "samples" / "receipts"
APART = 1_000  # messages between a submitted receipt and its delivered one
TWICE = 0.3
WORDS = (("Submitted", "7501"), ("Delivered", "7500"))

SMS = (
    '{"deliveryInfoNotification":{"deliveryInfo":{"timeStamp":"%s","Description":"%s","code":"%s","messageCount":"1",'
    '"deliveryChannel":"SMS","additionalInfo":"","destination":"%s","destinationType":"msisdn","deliveryStatus":"%s"},'
    '"carrier":"","subtid":"","transid":"%s","callbackData":"%s","correlationid":"%s"}}'
)


def sms(word: str, code: str, destination: str, transid: str, callback: str, correlationid: str) -> bytes:
    """A receipt as an SMS service writes it today."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return (SMS % (at, word, code, destination, word, transid, callback, correlationid)).encode()


def _paths(issued: Sequence[Issued], tenant: str) -> dict[Issued, str]:
    tokens = NotifyTokens(SECRET)
    return {m: f"/notify/{tokens.sign(tenant, m.submission)}" for m in issued}


def of_issued(issued: Sequence[Issued], tenant: str = "default") -> Iterator[bytes]:
    """Two for each message, each under its submission's URL: submitted, and some thousand receipts later delivered."""
    paths = _paths(issued, tenant)
    for start in range(0, len(issued), APART):
        for word, code in WORDS:
            for m in issued[start : start + APART]:
                yield post(paths[m], sms(word, code, m.destination, m.transid, m.callback, str(m.id)))


def of_issued_and_again(issued: Sequence[Issued], tenant: str = "default") -> Iterator[bytes]:
    """`of_issued`, but three of ten requests are one of those that went out some hundred before."""
    due, past = 0.0, deque[bytes](maxlen=500)
    for request in of_issued(issued, tenant):
        yield request
        past.append(request)
        due += TWICE / (1 - TWICE)
        if due >= 1:
            due -= 1
            yield past[0]


def of_observed(number: int, tenant: str = "default") -> Iterator[bytes]:
    """Receipts of messages that nobody here knows, each the first of its own, under the tenant's URL."""
    path = f"/notify/{NotifyTokens(SECRET).sign(tenant)}"
    for n in range(number):
        yield post(path, sms(*WORDS[1], str(447_700_000_000 + n), str(uuid4()), "", ""))


def of_nobody(number: int) -> Iterator[bytes]:
    """Requests like those of `of_issued`, for servers that don't look at them."""
    submission = [Issued(uuid4(), uuid4(), "447100000000", str(uuid4()), "order-1") for _ in range(1_000)]  # type: ignore[arg-type]
    paths = list(_paths(submission, "default").values())
    for n in range(number):
        body = sms(*WORDS[n % 2], str(447_100_000_000 + n), submission[n % 1000].transid, f"order-{n}", str(uuid4()))
        yield post(paths[n % 1000], body)


def of_dialects(issued: Sequence[Issued], tenant: str = "default") -> Iterator[bytes]:
    """Two for each message, in turns in every shape of the samples; one receipt in each."""
    shapes = [json.loads(file.read_text()) for file in sorted(SAMPLES.glob("*.json"))]
    paths = _paths(issued, tenant)
    for start in range(0, len(issued), APART):
        for second in (0, 1):
            for n, m in enumerate(issued[start : start + APART]):
                yield post(paths[m], _told(shapes[(2 * n + second) % len(shapes)], m))


def _told(shape: Any, m: Issued) -> bytes:
    if isinstance(shape, list):  # an export: only the first of its notifications
        shape = shape[:1]
    inner = shape[0]["df_payload"] if isinstance(shape, list) else shape
    notification = inner["deliveryInfoNotification"]
    info = notification["deliveryInfo"]
    info["address" if "address" in info else "destination"] = m.destination
    if "transid" in notification:
        suffix = notification["transid"].partition("_")[2]
        notification["transid"] = m.transid + (f"_{suffix}" if suffix else "")
        notification["correlationid"] = str(m.id)
    return json.dumps(shape, separators=(",", ":"), ensure_ascii=False).encode()

"""What the tests of reading share: the samples, a source, and short ways from a body to its receipts."""

import json
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

from receiver.ids import TenantId
from receiver.messages.told import Reject, Told
from receiver.receipts.receipt import Source, read

SAMPLES = Path(__file__).parent.parent / "samples"
RECEIVED = datetime(2026, 3, 1, 12, tzinfo=UTC)
TENANT = TenantId(7)


def source(zone: tzinfo = UTC) -> Source:
    return Source(TENANT, None, RECEIVED, zone)


def sample(name: str, folder: str = "receipts") -> bytes:
    return (SAMPLES / folder / f"{name}.json").read_bytes()


def sample_names() -> list[str]:
    return sorted(path.stem for path in (SAMPLES / "receipts").glob("*.json"))


def body(info: Any, **outer: Any) -> bytes:
    """A pushed notification with this deliveryInfo and these fields beside it."""
    return json.dumps({"deliveryInfoNotification": {"deliveryInfo": info, **outer}}).encode()


def told(body: bytes, zone: tzinfo = UTC) -> list[Told]:
    """The receipts of a body in which everything can be read."""
    reading = read(body, source(zone))
    assert reading.rejects == []
    return reading.receipts


def one(body: bytes, zone: tzinfo = UTC) -> Told:
    """The only receipt of a body."""
    (receipt,) = told(body, zone)
    return receipt


def refused(body: bytes) -> Reject:
    """The only reject of a body in which nothing can be read."""
    reading = read(body, source())
    assert reading.receipts == []
    (reject,) = reading.rejects
    return reject

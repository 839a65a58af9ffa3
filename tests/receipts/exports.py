"""Files of receipts as the platform exports them, as a person keeps them, and as a spreadsheet has them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

COLUMNS = ("timeStamp", "Description", "code", "deliveryChannel", "destination", "destinationType", "deliveryStatus")


def notification(n: int, status: str = "Delivered", of: str = "t") -> dict[str, Any]:
    """The n-th receipt of a made-up campaign, as it is pushed."""
    info = {
        "timeStamp": "2026-11-20T10:00:00Z",
        "Description": 'Message "delivered"; to {handset},\n[ok]' if n % 7 == 0 else "Message delivered",
        "code": "7500",
        "deliveryChannel": "SMS",
        "destination": f"4477009{n:05d}",
        "destinationType": "msisdn",
        "deliveryStatus": status,
    }
    beside = {"subtid": "", "transid": f"{of}-{n:08d}-226b48d66ba0", "callbackData": "order", "correlationid": ""}
    return {"deliveryInfoNotification": {"deliveryInfo": info, **beside}}


def pushed(n: int, of: str = "t") -> bytes:
    """Its body."""
    return json.dumps(notification(n, of=of)).encode()


def exported(numbers: Iterable[int], of: str = "t") -> bytes:
    """The platform's export of failed notifications."""
    failed = {"df_status": "2", "df_status_text": "HTTP Status 429", "df_response_status": "429"}
    return (
        b"["
        + b",\n".join(json.dumps({"df_payload": notification(n, of=of), **failed}).encode() for n in numbers)
        + b"]"
    )


def in_lines(numbers: Iterable[int], of: str = "t") -> bytes:
    """A raw body a line."""
    return b"".join(pushed(n, of) + b"\n" for n in numbers)


def as_csv(numbers: Iterable[int], of: str = "t") -> bytes:
    """All fields of the receipts, as a spreadsheet keeps them."""
    rows = [";".join([*COLUMNS, "subtid", "transid", "callbackData", "correlationid"])]
    for n in numbers:
        inner = notification(n, of=of)["deliveryInfoNotification"]
        texts = [inner["deliveryInfo"][column] for column in COLUMNS]
        texts += [inner[name] for name in ("subtid", "transid", "callbackData", "correlationid")]
        rows.append(";".join('"' + text.replace('"', '""') + '"' for text in texts))
    return "\r\n".join(rows).encode()


FORMS = {"export": exported, "lines": in_lines, "csv": as_csv}


def write(path: Path, content: bytes) -> Path:
    """The file with this content."""
    path.write_bytes(content)
    return path

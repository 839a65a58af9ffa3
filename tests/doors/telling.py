"""What the tests of the receipts door share: a receipt to tell, signatures, certificates, and the door's figures."""

import hashlib
import hmac
import subprocess
from pathlib import Path

import httpx2

from tests.receipts.tellings import body
from tests.support import Receiver
from tests.tools import need

NUMBER = "447700900001"


def delivered(transid: str) -> bytes:
    """A receipt of a message that nobody sent here."""
    return body({"deliveryChannel": "SMS", "deliveryStatus": "Delivered", "destination": NUMBER}, transid)


def signature(secret: str, raw: bytes, algorithm: str = "sha256") -> str:
    """The hex HMAC of `raw`."""
    return hmac.new(secret.encode(), raw, getattr(hashlib, algorithm)).hexdigest()


def figures(receiver: Receiver) -> dict[str, float]:
    """Every series of the receipts door by its name and labels."""
    lines = httpx2.get(f"{receiver.url}/metrics", trust_env=False).text.splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith("receiver_notify_")
    }


def added(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """What was counted in between, by series without the family's name."""
    return {
        series.removeprefix("receiver_notify_"): value - before.get(series, 0)
        for series, value in after.items()
        if value != before.get(series, 0)
    }


def certificate(folder: Path, name: str = "tls") -> tuple[Path, Path]:
    """A self-made certificate for 127.0.0.1 and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    options = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-days", "2", "-nodes"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run(
        [need("openssl"), "req", "-x509", *curve, *options, "-out", str(cert), "-keyout", str(key)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return cert, key

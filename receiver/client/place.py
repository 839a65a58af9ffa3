"""Where a receiver is and with which key: from the environment, checked before anything is sent."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2

from receiver.errors import ReceiverError

# each wait and each stream holds a connection: the library's 100 would let no others through
LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
DEFAULT_URL = "http://127.0.0.1:8000"


def place_of(environment: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """RECEIVER_URL, and RECEIVER_API_KEY or what the file RECEIVER_API_KEY_FILE holds. Raises ReceiverError."""
    key, file = environment.get("RECEIVER_API_KEY", ""), environment.get("RECEIVER_API_KEY_FILE", "")
    if not key and file:
        try:
            key = Path(file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise ReceiverError(f"RECEIVER_API_KEY_FILE: {file} can't be read: {reason}") from None
    if not key:
        raise ReceiverError("RECEIVER_API_KEY is missing: make a key with `receiver keys create`")
    return environment.get("RECEIVER_URL") or DEFAULT_URL, key


def options_of(url: str, api_key: str, timeout: float) -> dict[str, Any]:
    """The options of an HTTP client for one receiver. Raises ReceiverError for what can't be a key."""
    if not (api_key.isascii() and api_key.isprintable()):
        raise ReceiverError("the API key is no key: a key looks like rk_…")
    headers = {"authorization": f"Bearer {api_key}"}
    return {"base_url": url, "headers": headers, "timeout": timeout, "trust_env": False, "limits": LIMITS}


def no_address(url: str, error: Exception) -> ReceiverError:
    """That is no address."""
    return ReceiverError(f"{url!r} is no address for RECEIVER_URL ({error}): it begins with http:// or https://")


def nobody(url: str, error: Exception) -> str:
    """Nobody is there."""
    return f"no receiver answers at {url} ({type(error).__name__}): is it running, is RECEIVER_URL right?"

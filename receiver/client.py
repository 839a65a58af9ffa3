"""The Python client of a receiver: small, typed, and what the command line itself uses."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2

from receiver.errors import ReceiverError

DEFAULT_URL = "http://127.0.0.1:8000"


class ApiError(ReceiverError):
    """The receiver said no: `status`, its stable `code`, and the broken fields in words.

    `errors` are the broken fields as told (pointer, code, detail); `retry_after` is in seconds, where it was told.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        errors: Sequence[Mapping[str, Any]] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.errors, self.retry_after = status, code, errors, retry_after


class NoAnswer(ReceiverError):
    """Nobody answered, or the connection was lost: what was asked for may have been done, or not."""


class Client:
    """Speaks HTTP with one receiver. The key is not in its repr."""

    def __init__(self, url: str, api_key: str, timeout: float = 30.0) -> None:
        """Raises ReceiverError for what is no address, or can't be a key."""
        self._url = url.rstrip("/")
        if not (api_key.isascii() and api_key.isprintable()):
            raise ReceiverError("the API key is no key: a key looks like rk_…")
        try:
            self._http = httpx2.Client(
                base_url=self._url, headers={"authorization": f"Bearer {api_key}"}, timeout=timeout, trust_env=False
            )
        except httpx2.InvalidURL as error:
            raise ReceiverError(f"{url!r} is no address of a receiver ({error}): is RECEIVER_URL right?") from None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """A client for RECEIVER_URL with RECEIVER_API_KEY, or the key in the file RECEIVER_API_KEY_FILE."""
        key, file = environment.get("RECEIVER_API_KEY", ""), environment.get("RECEIVER_API_KEY_FILE", "")
        if not key and file:
            try:
                key = Path(file).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not text"
                raise ReceiverError(f"RECEIVER_API_KEY_FILE: {file} can't be read: {reason}") from None
        if not key:
            raise ReceiverError("RECEIVER_API_KEY is missing: make a key with `receiver keys create`")
        return cls(environment.get("RECEIVER_URL") or DEFAULT_URL, key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    @property
    def url(self) -> str:
        """The receiver's address."""
        return self._url

    def send(self, body: Mapping[str, Any], idempotency_key: str | None = None) -> dict[str, Any]:
        """Hands in a Messaging v1 body; returns batch_id and messages. Raises ApiError, or NoAnswer.

        After NoAnswer nobody knows whether the messages were taken. With the same `idempotency_key` the same body may
        be handed in again all the same: the receiver sends it once, and answers as it did the first time. Then
        `replayed` is true in what is returned.
        """
        if idempotency_key is None:
            return self._call("POST", "/v1/messages", json=body)
        # written here, not by the library: the receiver compares bytes, and they must outlive the library's version
        content = json.dumps(body, separators=(",", ":")).encode()
        headers = {"idempotency-key": idempotency_key, "content-type": "application/json"}
        return self._call("POST", "/v1/messages", content=content, headers=headers)

    def get(self, message_id: str) -> dict[str, Any]:
        """One message with its timeline. Raises ApiError, with status 404 for one that is not there."""
        return self._call("GET", f"/v1/messages/{quote(message_id, safe='')}")

    def find(self, filters: Mapping[str, str | list[str]]) -> Iterator[dict[str, Any]]:
        """All messages that `filters` let through, newest first, page after page. Raises ApiError.

        The filters are the parameters of GET /v1/messages.
        """
        cursor: dict[str, str] = {}
        while True:
            page = self._call("GET", "/v1/messages", params={**filters, **cursor})
            yield from page["messages"]
            if not page["next_cursor"]:
                return
            cursor = {"cursor": page["next_cursor"]}

    def _call(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **how)
        except httpx2.UnsupportedProtocol as error:
            raise ReceiverError(_nobody(self._url, error)) from None
        except httpx2.HTTPError as error:
            raise NoAnswer(_nobody(self._url, error)) from None
        if response.status_code >= 400:
            raise _said_no(response, self._url)
        body = _object(response)
        if body is None or not body.keys() & {"messages", "id"}:
            raise ApiError(response.status_code, "no_receiver", f"{self._url} is no receiver: it answered otherwise")
        if "idempotency-replayed" in response.headers:
            body["replayed"] = True
        return body


def _object(response: httpx2.Response) -> dict[str, Any] | None:
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _nobody(url: str, error: Exception) -> str:
    return f"no receiver answers at {url} ({type(error).__name__}): is it running, is RECEIVER_URL right?"


def _said_no(response: httpx2.Response, url: str) -> ApiError:
    """The refusal in words: the problem's title, and a line for each broken field."""
    body, status, wait = _object(response), response.status_code, _retry_after(response)
    if body is None or "title" not in body:
        message = f"{url} is no receiver: it answered {status} without a reason"
        return ApiError(status, "no_receiver", message, retry_after=wait)
    lines = [f"{body['title']} ({status} {body.get('code', '')})"]
    errors = body.get("errors", [])
    lines += [f"  {e['pointer'] or 'body'}: {e['detail']}" for e in errors]
    return ApiError(status, str(body.get("code", "")), "\n".join(lines), errors, wait)


def _retry_after(response: httpx2.Response) -> float | None:
    """The seconds that the answer asks us to wait: told as such, or as a date."""
    told = response.headers.get("retry-after", "")
    try:
        seconds = float(told)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(told).astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None

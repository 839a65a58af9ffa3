"""What the receipts door says, and how it is counted. `routes.py` says when."""

import logging
import traceback
from functools import cache
from pathlib import Path
from typing import Any

from prometheus_client import Counter

from receiver import at_once, metrics
from receiver.access.signatures import Refusal, Signed
from receiver.platform.retries import tells_again

log = logging.getLogger("receiver.notify")

RETRY_SECONDS = b"10"

Answer = tuple[dict[str, Any], dict[str, Any]]


def _answer(status: int, text: bytes, *headers: tuple[bytes, bytes]) -> Answer:
    base = [(b"content-length", b"%d" % len(text)), *headers]
    if text:
        base.append((b"content-type", b"text/plain"))
    return (
        {"type": "http.response.start", "status": status, "headers": base},
        {"type": "http.response.body", "body": text},
    )


STORED = _answer(200, b"")  # the server would hand a text to the kernel in a call of its own: a tenth of the whole
READY = _answer(200, b"ready\n")
TOO_LARGE = _answer(413, b"the body is over the limit\n", (b"connection", b"close"))
NOT_NOW = _answer(503, b"not stored: tell it again\n", (b"retry-after", RETRY_SECONDS))
SAID = {200: at_once.said(*STORED), 503: at_once.said(*NOT_NOW)}
REFUSED = {
    Refusal.ADDRESS: _answer(401, b"this address is not one of ours: ask for it with `receiver notify-url`\n"),
    Refusal.HEADER: _answer(401, b"the required header is missing or wrong\n"),
    Refusal.SIGNATURE_MISSING: _answer(401, b"the signature is missing\n"),
    Refusal.SIGNATURE_WRONG: _answer(401, b"the signature is wrong\n"),
}


class Waiting:
    """Who waits for a receipt that was taken at once: its answer goes out when the intake says what came of it."""

    __slots__ = ("_answer", "_is_done")

    def __init__(self, answer: at_once.Answer) -> None:
        self._answer, self._is_done = answer, False

    def done(self) -> bool:
        """Whether it was answered."""
        return self._is_done

    def set_result(self, _: None) -> None:
        """It is durable."""
        self._end(200, SAID[200])

    def set_exception(self, _: BaseException) -> None:
        """It is not."""
        self._end(503, SAID[503])

    def _end(self, status: int, answer: at_once.Said) -> None:
        self._is_done = True
        answers_with(status).inc()
        try:
            self._answer(answer)
        except Exception as error:  # of this connection: those beside it must hear theirs
            log_fault(error)


@cache
def answers_with(status: int) -> Counter:
    """The count of the answers with this status."""
    return metrics.NOTIFY_RESPONSES.labels(str(status), "yes" if tells_again(status) else "no")


@cache
def signed_as(signed: Signed, tenant: str) -> Counter:
    """The count of a tenant's bodies whose signature was worth that."""
    return metrics.NOTIFY_SIGNATURES.labels(signed.value, tenant)


def log_fault(error: Exception) -> None:
    """Says where it broke, not with what words: the text of an error can hold a body or a token."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "nowhere"
    log.error("notify_failed", extra={"reason": type(error).__name__, "where": where})

"""Hands in one call of a file: tried until it is answered, and without the rows that the receiver refuses.

A call's `Idempotency-Key` is made of the job, the template and its first row: a repeated call is the same call, and
rows that were changed after they were sent meet a key that belongs to another body.
"""

import hashlib
import random
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from receiver.cli.body_template import BodyTemplate
from receiver.cli.chunks import Call, Entry, Reading
from receiver.cli.rows import Row
from receiver.client import ApiError, Client, NoAnswer, Sent
from receiver.errors import ReceiverError

PATIENCE_SECONDS = 600.0  # of one call, from its first failure
FIRST_PATIENCE_SECONDS = 15.0  # where nobody ever answered: a wrong address is likelier than a bad moment
FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 60.0
LEAST_WAIT = 0.2  # where `Retry-After: 0` would have us ask without a pause
CONFLICT = "idempotency_conflict"
_ENTRY = re.compile(r"/destination/(\d+)(/|$)")


class Shown(Protocol):
    """Who is told how it goes, from any thread."""

    def advance(self, rows: int) -> None: ...

    def note(self, text: str) -> None: ...


class Stopped(Exception):
    """The run ends before the file does: somebody asked for it, or a call failed."""


@dataclass(frozen=True)
class Handed:
    """What became of a call: the batch, how many messages were taken, the rows that were refused with the reason.

    `repeated` are those of the messages that an earlier run had handed in already.
    """

    batch_id: str | None
    sent: int
    rejected: list[tuple[Row, str]]
    repeated: int = 0


class Calls:
    """Makes calls, from any thread, until `stopping` is set."""

    def __init__(
        self,
        client: Client,
        reading: Reading,
        template: BodyTemplate,
        job: str,
        shown: Shown,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._client, self._reading, self._template, self._job = client, reading, template, job
        self._shown, self._patience = shown, patience
        self.stopping = threading.Event()
        self.answered = False  # whether the receiver ever took a call of this run

    def hand_in(self, call: Call) -> Handed:
        """Hands in a call; what is refused row by row is left out and the rest goes under another key.

        Raises ReceiverError for what would befall every other call too, and Stopped.
        """
        entries, rejected = call.entries, list[tuple[Row, str]]()
        while entries:
            try:
                body = self._reading.body(replace(call, entries=entries))
                answer, failures = self._try(body, self._key(call, [row.number for row, _ in rejected]))
                # after a failure of this run it may have been this run's own
                repeated = len(entries) if answer.get("replayed") and not failures else 0
                return Handed(str(answer["batch_id"]), len(entries), rejected, repeated)
            except ApiError as error:
                if error.code == CONFLICT:
                    raise _handed_in_before(call, self._job) from None
                refused = self._refused(error, entries)
                if not refused:
                    raise
                rejected += [(entries[index].row, reason) for index, reason in refused.items()]
                entries = [entry for index, entry in enumerate(entries) if index not in refused]
        return Handed(None, 0, rejected)

    def _key(self, call: Call, without: Sequence[int]) -> str:
        first = call.entries[0].row.number
        parts = (self._job, self._template.sha256, self._reading.id_type, first, *without)
        return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:40]

    def _refused(self, error: ApiError, entries: Sequence[Entry]) -> dict[int, str]:
        """Which entries a 422 speaks of, and why. Empty when it speaks of what all rows share: none can be sent."""
        if error.status != 422 or error.code != "rule_broken":
            return {}
        reasons: dict[int, list[str]] = {}
        for broken in error.errors:
            pointer, detail = str(broken["pointer"]), str(broken["detail"])
            if (entry := _ENTRY.match(pointer)) and int(entry[1]) < len(entries):
                reasons.setdefault(int(entry[1]), []).append(detail)
            elif self._template.is_of_a_row(pointer):
                for index in range(len(entries)):
                    reasons.setdefault(index, []).append(detail)
            else:
                return {}
        return {index: "; ".join(dict.fromkeys(details)) for index, details in sorted(reasons.items())}

    def _try(self, body: dict[str, Any], key: str) -> tuple[Sent, int]:
        """The answer to one call, and how often it failed before. Raises ApiError, NoAnswer, Stopped."""
        failures, since = 0, time.monotonic()
        while True:
            if self.stopping.is_set():
                raise Stopped
            try:
                answer = self._client.send(body, key)
            except (ApiError, NoAnswer) as error:
                failures += 1
                hopeless = isinstance(error, NoAnswer) and not self.answered
                patience = min(FIRST_PATIENCE_SECONDS, self._patience) if hopeless else self._patience
                delay = _delay(error, failures)
                if not _may_pass(error) or time.monotonic() + delay - since > patience:
                    raise
                says = f"{error.status} {error.code}" if isinstance(error, ApiError) else "no answer"
                self._shown.note(f"the receiver can't take more now ({says}): again in {delay:.0f} s")
                self.stopping.wait(delay)
            else:
                self.answered = True
                if failures:
                    self._shown.note("")
                return answer, failures


def _may_pass(error: ReceiverError) -> bool:
    """Whether the same call may do better later."""
    if not isinstance(error, ApiError):
        return True
    return error.status >= 500 or (error.status in (409, 429) and error.code != CONFLICT)


def _delay(error: ReceiverError, failures: int) -> float:
    """Seconds until the next try: what the receiver asks for and a little more, or doubling with jitter."""
    asked = error.retry_after if isinstance(error, ApiError) else None
    if asked is not None:
        return max(LEAST_WAIT, asked + random.uniform(0, 0.1 * asked))
    return random.uniform(0.5, 1.0) * min(FIRST_BACKOFF * 2.0 ** min(failures, 10), LONGEST_BACKOFF)


def _handed_in_before(call: Call, job: str) -> ReceiverError:
    first = call.entries[0].row.number
    return ReceiverError(
        f"row {first} was handed in before under the job {job!r}, in a call with other content: the file was changed "
        "and its state is lost, or this is another sending: then give it a --job name of its own"
    )

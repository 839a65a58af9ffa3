"""What can go wrong with a call, as a program or a person has to know it."""

from collections.abc import Mapping, Sequence
from typing import Any

from receiver.errors import ReceiverError


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


class CannotResume(ApiError):
    """The stream can't go on from that id: what changed meanwhile has to be searched.

    Its code is `event_too_old`, `bad_event_id` for an id that is none of this database, or `restored`.
    """


class NoAnswer(ReceiverError):
    """Nobody answered, or the connection was lost: what was asked for may have been done, or not."""


class Garbled(ReceiverError):
    """What came is no stream, or no export, of a receiver."""

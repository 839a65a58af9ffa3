"""Changes as a receiver tells them."""

from typing import Any, NamedTuple, TypedDict, cast


class Change(TypedDict):
    """A message has changed: what it is now, and the state before. `state` is null where it was merged into another."""

    id: str
    version: int
    at: str
    state: str | None
    old_state: str | None
    final: bool
    channel: str
    origin: str
    country: str | None
    reason_class: str | None
    conflict: bool
    correlationid: str | None
    sent_correlationid: str | None
    callbackData: str | None
    batch_id: str | None
    merged_into: str | None


class StreamEvent(NamedTuple):
    """One event of a stream. Whoever keeps `id` when it has dealt with the event can go on behind it."""

    id: str
    name: str
    data: dict[str, Any]

    @property
    def change(self) -> Change:
        """What has changed."""
        return cast(Change, self.data)

"""Figures as a receiver answers them: of a batch, and of many messages."""

from typing import NotRequired, TypedDict

from receiver.client.message_shapes import Reason


class Slow(TypedDict):
    """The slowest message of its kind: how many seconds it took, or has waited."""

    id: str
    seconds: float
    state: str


class Slowest(TypedDict):
    """The one that took longest to be delivered, and the one that has been open longest; null where there is none."""

    delivered: Slow | None
    open: Slow | None


class Failure(TypedDict):
    """Messages that did not arrive for one reason; `example` is the id of one of them."""

    state: str
    reason: Reason | None
    messages: int
    example: str


class Batch(TypedDict):
    """What has become of the messages of one call."""

    batch_id: str
    created_at: str
    handed_in: int
    messages: int
    resent: int
    final: int
    open: int
    conflicts: int
    states: dict[str, int]
    delivered_share: float | None
    slowest: Slowest
    failures: list[Failure]
    failures_cut: bool
    first_change_at: str | None
    last_change_at: str | None


class Rate(TypedDict):
    """A part of a whole, and both of them; null where the whole is nothing."""

    value: float | None
    numerator: int
    denominator: int


class Latency(TypedDict):
    """Seconds that a part of the messages did not exceed, and of how many that is known."""

    messages: int
    p50: float
    p90: float
    p95: float
    p99: float


class Maturity(TypedDict):
    """How much of the group can still change. `mature`: nearly all that is to come has been heard of."""

    mature: bool
    settled: Rate


class Group(TypedDict):
    """The figures of one group. `messages` = queued + not_sent + uncertain + pending + at_ceiling + no_receipt +
    delivered + failed + other.
    """

    at: NotRequired[str]
    channel: NotRequired[str]
    tenant: NotRequired[str]
    country: NotRequired[str | None]
    origin: NotRequired[str]
    sender: NotRequired[str]
    template: NotRequired[str]
    carrier: NotRequired[str]
    code_class: NotRequired[str | None]
    messages: int
    queued: int
    not_sent: int
    uncertain: int
    accepted: int
    pending: int
    at_ceiling: int
    no_receipt: int
    delivered: int
    read: int
    failed: int
    refused: int
    failed_by_class: dict[str, int]
    conflict: int
    other: int
    confirmed_rate: Rate
    delivered_of_accepted: Rate
    read_of_delivered: Rate
    coverage: Rate
    maturity: Maturity
    latency: NotRequired[dict[str, Latency]]


Deliveries = TypedDict(
    "Deliveries",
    {
        "as_of": str,
        "from": str,
        "to": str,
        "kept_from": str | None,
        "by": list[str],
        "latency_error": float,
        "groups": list[Group],
    },
)
"""What became of the messages born from `from` to `to`, as far as it was counted at `as_of`."""

"""Changes as events of a stream: what each says, who wants it, and what waits for a client that reads slowly.

A change is encoded once for a tenant, and those who want the same share the bytes.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import msgspec

from receiver import metrics
from receiver.ids import TenantId
from receiver.messages.lattice import POSITIVE_STATES, Channel, State, is_final
from receiver.platform.codes import Class
from receiver.queries.positions import Cut, Position, id_within, window_of

MOST_WAITING = 10_000  # events for one client
MOST_WAITING_BYTES = 2 * 1024 * 1024
ORIGINS = {1: "issued", 2: "observed", 3: "recorded"}
_STATES = {int(state): state for state in State}
_CHANNELS = {int(channel): channel for channel in Channel}
_CLASSES = {int(one): one.word for one in Class}


class Change(msgspec.Struct):
    """A message has changed: what it is now, and the state before. `state` is null where it was merged into another."""

    id: str
    version: int
    at: datetime
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


def change_of(row: asyncpg.Record) -> Change:
    """A change from its row in the log."""
    old, new = _STATES.get(row["old_state"]), _STATES.get(row["new_state"])
    channel, identity = _CHANNELS[row["channel"]], str(row["message_id"])
    is_bad = new is not None and new not in POSITIVE_STATES and row["new_class"] is not None
    return Change(
        id=identity,
        version=row["version"],
        at=row["at"],
        state=new.word if new is not None else None,
        old_state=old.word if old is not None else None,
        final=new is not None and is_final(new, channel),
        channel=channel.word,
        origin=ORIGINS[row["origin"]],
        country=row["country"],
        reason_class=_CLASSES[row["new_class"]] if is_bad else None,
        conflict=bool(row["new_conflict"]),
        correlationid=row["correlationid"],
        sent_correlationid=identity if row["origin"] == 1 else row["correlationid"],
        callbackData=row["callback_data"],
        batch_id=str(row["batch_id"]) if row["batch_id"] else None,
        merged_into=str(row["merged_into"]) if row["merged_into"] else None,
    )


@dataclass(frozen=True)
class Wanted:
    """What a stream lets through. Several values of one filter mean any of them; none means all."""

    channel: frozenset[str] = frozenset()
    state: frozenset[str] = frozenset()
    origin: frozenset[str] = frozenset()
    batch_id: frozenset[str] = frozenset()
    correlationid: frozenset[str] = frozenset()
    callback_data: frozenset[str] = frozenset()
    id: frozenset[str] = frozenset()
    final: bool | None = None

    def lets(self, change: Change) -> bool:
        """Whether the change is wanted."""
        return (
            (self.final is None or change.final == self.final)
            and (not self.state or change.state in self.state)
            and (not self.channel or change.channel in self.channel)
            and (not self.origin or change.origin in self.origin)
            and (not self.id or change.id in self.id)
            and (not self.batch_id or change.batch_id in self.batch_id)
            and (not self.callback_data or change.callbackData in self.callback_data)
            and (
                not self.correlationid
                or change.correlationid in self.correlationid
                or change.sent_correlationid in self.correlationid
            )
        )


@dataclass(frozen=True, slots=True)
class Events:
    """Some events as they go out, and the id of the last one."""

    data: bytes
    count: int
    last: str


def event(name: str, identity: str, data: bytes) -> bytes:
    """One event as it goes out."""
    return b"event: %b\nid: %b\ndata: %b\n\n" % (name.encode(), identity.encode(), data)


class Encoded:
    """The changes of one tenant in one read, each encoded once, when it is first wanted."""

    def __init__(self, window: bytes, rows: Sequence[asyncpg.Record]) -> None:
        self._window = window
        self._rows = [(change_of(row), row["seq"]) for row in rows]
        self._bytes: dict[int, tuple[bytes, str]] = {}

    def wanted(self, wanted: Wanted) -> Events | None:
        """Those that are wanted; None for none."""
        chosen = [self._encoded(change, seq) for change, seq in self._rows if wanted.lets(change)]
        if not chosen:
            return None
        return Events(b"".join(data for data, _ in chosen), len(chosen), chosen[-1][1])

    def _encoded(self, change: Change, seq: int) -> tuple[bytes, str]:
        made = self._bytes.get(seq)
        if made is None:
            identity = id_within(self._window, seq)
            made = self._bytes[seq] = (event("change", identity, msgspec.json.encode(change)), identity)
        return made


class Outlet:
    """What waits for one client: a bounded queue, which is emptied and closed when it runs over."""

    def __init__(self, tenant: TenantId, wanted: Wanted) -> None:
        self.tenant, self.wanted = tenant, wanted
        self.ended: str | None = None
        """Why nothing more comes: overflow, draining, restored."""
        self.stirred = asyncio.Event()
        self._waiting: deque[Events] = deque()
        self._count = self._bytes = 0

    def put(self, events: Events) -> None:
        """More events."""
        if self.ended:
            return
        self._waiting.append(events)
        self._count += events.count
        self._bytes += len(events.data)
        if self._count > MOST_WAITING or self._bytes > MOST_WAITING_BYTES:
            self.end("overflow")
        self.stirred.set()

    def take(self, most: int) -> list[Events]:
        """What goes out next: some `most` bytes, or one entry."""
        taken: list[Events] = []
        size = 0
        while self._waiting and (not taken or size + len(self._waiting[0].data) <= most):
            one = self._waiting.popleft()
            taken.append(one)
            size += len(one.data)
            self._count -= one.count
        self._bytes -= size
        return taken

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    def end(self, reason: str) -> None:
        """Nothing more comes; what an overflow left waiting is given up: the client asks for it again."""
        self.ended = self.ended or reason
        if reason == "overflow":
            self._waiting.clear()
            self._count = self._bytes = 0
        self.stirred.set()


class Outlets:
    """All open streams of a process, by tenant and by what they want."""

    def __init__(self) -> None:
        self._open: dict[TenantId, dict[Wanted, set[Outlet]]] = {}

    def add(self, outlet: Outlet, position: Position) -> None:
        """From now on changes are told to it; all up to `position` have been."""
        self._open.setdefault(outlet.tenant, {}).setdefault(outlet.wanted, set()).add(outlet)

    def remove(self, outlet: Outlet) -> None:
        """It is told nothing more."""
        groups = self._open.get(outlet.tenant, {})
        groups.get(outlet.wanted, set()).discard(outlet)
        if not groups.get(outlet.wanted):
            groups.pop(outlet.wanted, None)
        if not groups:
            self._open.pop(outlet.tenant, None)

    def tenants(self) -> Sequence[TenantId]:
        """Whose changes are wanted."""
        return list(self._open)

    def tell(self, cluster: int, before: Cut, until: Cut, rows: Sequence[asyncpg.Record]) -> None:
        """Puts more changes into the streams that want them."""
        window = window_of(cluster, before, until)
        by_tenant: dict[TenantId, list[asyncpg.Record]] = {}
        for row in rows:
            if row["tenant"] in self._open:
                by_tenant.setdefault(row["tenant"], []).append(row)
        for tenant, own in by_tenant.items():
            encoded = Encoded(window, own)
            for wanted, outlets in self._open[tenant].items():
                events = encoded.wanted(wanted)
                if events is None:
                    continue
                for outlet in outlets:
                    outlet.put(events)
                metrics.STREAM_EVENTS.inc(events.count * len(outlets))

    def end(self, reason: str) -> None:
        """Ends all."""
        for groups in self._open.values():
            for outlets in groups.values():
                for outlet in outlets:
                    outlet.end(reason)

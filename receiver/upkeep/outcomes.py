"""What became of messages, counted once a change, by country and by sender: from what the fold has added up.

The fold tells a change to one process, after its commit. So none is counted twice, whoever takes the duty over.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg
from prometheus_client import Counter as PrometheusCounter

from receiver import metrics
from receiver.database.pool import Connection, is_away
from receiver.ids import TenantId
from receiver.messages.lattice import Channel
from receiver.messages.outcomes import ACCEPTED, DELIVERED, FAILED, NO_RECEIPT, OUTCOME, came_into
from receiver.messages.told import Feed
from receiver.upkeep import roll_up

log = logging.getLogger("receiver.upkeep")

MOST_NAMES = 30
NONE, OTHER = "none", "other"
# Who tells of it as a rule: these are there with 0 as soon as anything of a country or sender is.
USUAL = (
    (ACCEPTED, Feed.ANSWER),
    (FAILED, Feed.ANSWER),
    (DELIVERED, Feed.PUSH),
    (FAILED, Feed.PUSH),
    (NO_RECEIPT, Feed.OWN),
)
FEEDS = {int(feed): feed for feed in Feed}
CHANNELS = {int(channel): channel for channel in Channel}


class Moved(NamedTuple):
    """So many messages of ours that went from one state to another. `hour`, of their birth: only of imported ones.

    `sender`: "" stands for all that have no label.
    """

    tenant: TenantId
    channel: int
    country: str
    sender: str | None
    feed: int | None
    hour: int | None
    old: int | None
    new: int
    messages: int


class Cohort(NamedTuple):
    """The messages of an hour (hours since 1970), as far as they have labels."""

    hour: int
    tenant: TenantId
    channel: Channel
    country: str


class Names:
    """A bounded set of names: who has a label keeps it, and while there is room whoever comes next gets one."""

    def __init__(self, most: int = MOST_NAMES) -> None:
        self._most = most
        self._known: set[str] = set()

    def label(self, name: str | None) -> str:
        """The name, `other`, or `none` where there is none."""
        if not name:
            return NONE if name is None else OTHER
        if name not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(name)
        return name

    @property
    def all(self) -> list[str] | None:
        """Those that have a label, once no other gets one."""
        return sorted(self._known) if len(self._known) >= self._most else None

    def fill(self, names: Iterable[str]) -> None:
        """Gives these a label, the first of them first."""
        for name in names:
            self.label(name)


class Outcomes:
    """Counts what the fold hands over; knows which countries and senders have labels, and what was imported."""

    def __init__(self, tenants: Mapping[TenantId, str], most: int = MOST_NAMES) -> None:
        self._tenants = tenants
        self.countries, self.senders = Names(most), Names(most)
        self._has_begun = False
        self._born: dict[PrometheusCounter, set[tuple[str, ...]]] = {
            metrics.OUTCOMES: set(),
            metrics.SENDER_OUTCOMES: set(),
        }
        self._imported: defaultdict[Cohort, Counter[str]] = defaultdict(Counter)

    async def begin(self, connection: Connection, now: datetime) -> None:
        """Gives labels to the busiest of the last week, once; if Postgres can't tell in time, to whoever comes.

        Raises what says that Postgres is not there.
        """
        if self._has_begun:
            return
        try:
            await self._fill(connection, now)
        except asyncpg.PostgresError as error:
            if is_away(error) and not isinstance(error, asyncpg.QueryCanceledError):
                raise  # at the next step, then
            log.warning("labels_not_filled", extra={"reason": type(error).__name__})
        self._has_begun = True

    async def _fill(self, connection: Connection, now: datetime) -> None:
        self.countries.fill(await roll_up.busiest(connection, roll_up.BY_COUNTRY, now, MOST_NAMES))
        self.senders.fill(await roll_up.busiest(connection, roll_up.BY_SENDER, now, MOST_NAMES))

    @metrics.harmless
    def count(self, moved: Sequence[Moved]) -> None:
        """Adds a committed step of the fold to the metrics."""
        by_country, by_sender = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
        for one in moved:
            outcome = came_into(one.old, one.new)
            channel = CHANNELS.get(one.channel)
            if outcome is None or channel is None:
                continue
            if one.hour is not None:
                self._remember(one, one.hour, channel, outcome)
            tenant, feed = self._tenants.get(one.tenant, "unknown"), FEEDS.get(one.feed or 0, Feed.OWN).word
            country, sender = self.countries.label(one.country or None), self.senders.label(one.sender)
            by_country[tenant, channel.word, country, outcome, feed] += one.messages
            by_sender[tenant, channel.word, sender, outcome, feed] += one.messages
        self._add(metrics.OUTCOMES, by_country)
        self._add(metrics.SENDER_OUTCOMES, by_sender)

    def imported(self, cohort: Cohort) -> Mapping[str, int]:
        """How many of a cohort came into each outcome by import, as far as this process has seen."""
        return self._imported.get(cohort, {})

    def forget_before(self, hour: int) -> None:
        """What was imported is of no use any more for hours before this one."""
        for cohort in [cohort for cohort in self._imported if cohort.hour < hour]:
            del self._imported[cohort]

    def _remember(self, one: Moved, hour: int, channel: Channel, outcome: str) -> None:
        there = self._imported[Cohort(hour, one.tenant, channel, self.countries.label(one.country or None))]
        before = OUTCOME.get(one.old) if one.old is not None else None
        if before is not None and there[before] > 0:
            there[before] -= one.messages
        there[outcome] += one.messages

    def _add(self, counter: PrometheusCounter, kinds: Mapping[tuple[str, ...], int]) -> None:
        for kind in {kind[:3] for kind in kinds} - self._born[counter]:
            self._born[counter].add(kind)
            for outcome, feed in USUAL:
                counter.labels(*kind, outcome, feed.word)
        for labels, messages in kinds.items():
            counter.labels(*labels).inc(messages)

"""Shows what the statistics say now: messages by state and age, and what became of the newest hour that is mature."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg
from prometheus_client import Gauge

from receiver import metrics
from receiver.database.leases import LOOK_SECONDS
from receiver.database.pool import NOT_THERE, Pool
from receiver.ids import TenantId
from receiver.messages.lattice import CEILING, Channel, State
from receiver.messages.outcomes import ACCEPTED, OUTCOME
from receiver.messages.patience import waits_of
from receiver.upkeep import learning, roll_up
from receiver.upkeep.outcomes import Cohort, Outcomes
from receiver.upkeep.rounds import round_until_closed
from receiver.waits import Waits

log = logging.getLogger("receiver.upkeep")

EVERY_SECONDS = 20.0
REST = 19  # however long it takes: a twentieth of the time
HOUR = timedelta(hours=1)
STATES = {int(state): state.word for state in State}
CHANNELS = {int(channel): channel.word for channel in Channel}
AT_A_TIME = 500  # rows or series: some milliseconds
Labels = tuple[str, ...]
PENDING = "pending"  # of a mature message that was accepted: no last word has come


class Shower:
    """Measures every 20 seconds while the duty is this process's; then nothing of it is shown."""

    def __init__(
        self,
        pool: Pool,
        tenants: Mapping[TenantId, str],
        outcomes: Outcomes,
        channels: Mapping[str, Waits],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        held: Callable[[], bool] = lambda: True,
    ) -> None:
        self._pool, self._tenants, self._outcomes, self._now, self._held = pool, tenants, outcomes, now, held
        self._waits = {channel: waits for channel, waits in waits_of(channels).items() if channel not in CEILING}
        self._kept, self._mature = set[Labels](), set[Labels]()  # what is shown of messages by state, and by fate
        self._closing = asyncio.Event()
        self._last_failure: str | None = None

    async def run(self) -> None:
        """Measures until closed."""
        due = 0.0
        while not self._closing.is_set():
            began = time.monotonic()
            if not self._held():
                due = 0.0
                hide()
            elif began >= due:
                await round_until_closed(self._round(), self._closing, given_up=None)
                due = time.monotonic() + max(EVERY_SECONDS, (time.monotonic() - began) * REST)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._closing.wait()
        hide()

    async def close(self) -> None:
        """Ends the waiting, and gives up what is in hand."""
        self._closing.set()

    async def once(self) -> None:
        """Measures, and shows it where the duty is still ours."""
        now = self._now()
        async with self._pool.acquire() as connection:
            learned = await learning.stored(connection)
            hours = {channel: _mature(learned, channel, waits, now) for channel, waits in self._waits.items()}
            kept = await roll_up.kept(connection, now)
            born = await roll_up.born(connection, hours)
        became = await self._became(born)
        if self._held() and not self._closing.is_set():
            await self._show_kept(kept)
            await self._show_mature(became, hours)

    async def _round(self) -> None:
        try:
            await self.once()
        except (asyncpg.PostgresError, *NOT_THERE) as error:
            reason = f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()
            if self._last_failure != reason:
                log.error("statistics_not_shown", extra={"reason": reason})  # noqa: TRY400
            self._last_failure = reason
            hide()
        else:
            self._last_failure = None

    async def _became(self, born: Sequence[roll_up.Born]) -> Counter[tuple[TenantId, int, str, str]]:
        """What became of these, by what has a label; a part at a time, for there may be thousands."""
        found = Counter[tuple[TenantId, int, str, str]]()
        for number, one in enumerate(born):
            if number % AT_A_TIME == 0:
                await asyncio.sleep(0)
            if outcome := OUTCOME.get(one.state):
                country = self._outcomes.countries.label(one.country or None)
                found[one.tenant, one.channel, country, PENDING if outcome == ACCEPTED else outcome] += one.messages
        return found

    async def _show_kept(self, kept: Sequence[roll_up.Kept]) -> None:
        figures = Counter[Labels]()
        for one in kept:
            words = CHANNELS.get(one.channel, "unknown"), STATES.get(one.state, "unknown"), one.age
            figures[self._tenants.get(one.tenant, "unknown"), *words] += one.messages
        await _show(metrics.STATES, self._kept, figures)
        self._kept = set(figures)

    async def _show_mature(
        self, became: Mapping[tuple[TenantId, int, str, str], int], hours: Mapping[Channel, datetime]
    ) -> None:
        figures = Counter[Labels]()
        for (tenant, number, country, outcome), messages in became.items():
            channel = Channel(number)
            imported = self._outcomes.imported(Cohort(_number(hours[channel]), tenant, channel, country))
            labels = self._tenants.get(tenant, "unknown"), channel.word, country, outcome
            figures[labels] += max(messages - imported.get(outcome, 0), 0)
        self._outcomes.forget_before(_number(min(hours.values())))
        await _show(metrics.MATURE, self._mature, figures)
        self._mature = set(figures)
        for channel, hour in hours.items():
            metrics.MATURE_HOUR.labels(channel.word).set(hour.timestamp())


async def _show(gauge: Gauge, before: Iterable[Labels], figures: Mapping[Labels, int]) -> None:
    """These in place of those before, a part at a time. A series that was there stays: to make one takes longest."""
    for labels in before:
        if labels not in figures:
            gauge.remove(*labels)
    for number, (labels, messages) in enumerate(figures.items()):
        if number % AT_A_TIME == 0:
            await asyncio.sleep(0)
        gauge.labels(*labels).set(messages)


def hide() -> None:
    """Shows nothing of what another process measures."""
    for gauge in (metrics.STATES, metrics.MATURE, metrics.MATURE_HOUR):
        gauge.clear()


def _mature(learned: learning.Learned, channel: Channel, waits: Waits, now: datetime) -> datetime:
    """When the newest full hour began of whose messages nearly all have been heard of by now."""
    over = now - learning.expected(learned, channel, learning.EVERYWHERE, waits)
    return over.replace(minute=0, second=0, microsecond=0) - HOUR


def _number(hour: datetime) -> int:
    """The hour as the roll-up numbers it: since 1970."""
    return int(hour.timestamp()) // 3600

"""Which process does a background duty now: leases in the table `duty`, which end by the database's clock.

A lease is no lock: a process that was stopped in the middle of something goes on with it when it is woken. What must
never be done twice at once has an advisory lock of its own; the lease keeps the others from trying.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg

from receiver import metrics
from receiver.aside import begin_aside
from receiver.database.pool import NOT_THERE, Pool

log = logging.getLogger("receiver.duties")

# A dead holder is replaced within TTL + EVERY = 8.5 s. A holder has four tries before it must stop believing.
TTL_SECONDS = 7.0
EVERY_SECONDS = 1.5
MARGIN_SECONDS = 1.0  # two clocks that do not run alike, and the answer's way back
TRY_SECONDS = 1.5
LOOK_SECONDS = 0.5  # how soon whoever does the duty sees that it is his

# Taken when nobody has it, renewed when it is ours; the order of names keeps two takers from waiting for each other.
# A lease that lasts longer than any is of a clock that has been put back since: its holder may be dead.
TAKE = """
insert into duty as d (name, holder, place, taken_at, until)
select wanted, $2, $3, now(), now() + $4::interval from unnest($1::text[]) as wanted order by wanted
on conflict (name) do update
   set taken_at = case when d.holder = excluded.holder then d.taken_at else excluded.taken_at end,
       holder = excluded.holder, place = excluded.place, until = excluded.until
 where d.holder = excluded.holder or d.until <= now() or d.until > now() + 2 * $4::interval
returning name
"""
GIVE_BACK = "update duty set until = now() where holder = $1 and until > now()"


def _boottime() -> float:
    """Seconds that go on while the process is stopped, and where the system can tell, while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Leases:
    """A worker that takes and renews the leases of this process, all of them in one statement."""

    def __init__(self, pool: Pool, *, ttl: float = TTL_SECONDS, clock: Callable[[], float] = _boottime) -> None:
        self._pool, self._ttl, self._clock = pool, ttl, clock
        self._holder = uuid4()
        self._place = f"{socket.gethostname()}:{os.getpid()}"
        self._duties: list[str] = []
        self._until: dict[str, float] = {}
        self._believed: set[str] = set()
        self._closing = asyncio.Event()

    def duty(self, name: str) -> Callable[[], bool]:
        """One more duty that this process is ready for. What it returns says whether it is ours now."""
        self._duties.append(name)
        metrics.DUTY_HELD.labels(name).set_function(lambda: float(self.held(name)))
        return lambda: self.held(name)

    def held(self, name: str) -> bool:
        """Whether this process holds the lease, for certain: it says no before the lease ends in the database."""
        return self._clock() < self._until.get(name, 0.0)

    async def run(self) -> None:
        """Takes and renews until closed; then gives everything back."""
        while not self._closing.is_set():
            began = self._clock()
            await self._within(self.renew(), TRY_SECONDS)
            self._tell_changes()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(EVERY_SECONDS - (self._clock() - began), 0.0)):
                    await self._closing.wait()
        if self._until:
            self._until.clear()
            await self._within(self._give_back(), TRY_SECONDS)

    async def close(self) -> None:
        """Gives back what is held: another process need not wait until it ends by itself."""
        self._closing.set()

    async def renew(self) -> None:
        """Takes what nobody holds and renews what is ours, once."""
        asked_at = self._clock()
        async with self._pool.acquire() as connection:
            duration = timedelta(seconds=self._ttl)
            rows = await connection.fetch(TAKE, self._duties, self._holder, self._place, duration)
        if self._closing.is_set():
            return
        ours = {row["name"] for row in rows}
        for name in self._duties:
            if name in ours:
                self._until[name] = asked_at + self._ttl - MARGIN_SECONDS
            else:
                self._until.pop(name, None)

    async def _give_back(self) -> None:
        async with self._pool.acquire() as connection:
            await connection.execute(GIVE_BACK, self._holder)

    async def _within(self, statement: Coroutine[Any, Any, None], seconds: float) -> None:
        """Waits for one statement for so long and no longer, whatever the server does."""
        task = begin_aside(statement, "lease")
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            task.cancel()
            return
        with contextlib.suppress(asyncpg.PostgresError, *NOT_THERE):  # held until it ends by itself; tried again soon
            task.result()

    def _tell_changes(self) -> None:
        now = {name for name in self._duties if self.held(name)}
        for name in sorted(now ^ self._believed):
            log.info("duty_taken" if name in now else "duty_lost", extra={"duty": name})
        self._believed = now

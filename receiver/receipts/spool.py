"""The spool of a process: its own file, and those of the dead that it has taken over. What waits there is durable.

Each file is touched by one thread only; the loop never waits for the disk.
"""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from receiver import metrics
from receiver.ids import new_id
from receiver.receipts import spool_folder
from receiver.receipts.arrival import Arrival, Unit
from receiver.receipts.spool_file import ROW_BYTES, SpoolFile, is_damage
from receiver.receipts.spool_held import Held, take_orphans

log = logging.getLogger("receiver.spool")
T = TypeVar("T")

APPEND_SECONDS = 5.0  # with the two for Postgres well within the platform's ten
MOST_TAKEN = 32  # orphans at a time, four descriptors each: a process often has no more than 1,024
RECHECK_PART = 0.95  # of the limit: above it nothing more is promised to a balancer

_EVER = datetime.min.replace(tzinfo=UTC)


class NotSpooled(Exception):
    """The spool could not take it: the text says why."""


class Spool:
    """Takes arrivals while Postgres can't; gives them back oldest first. Closed, it leaves what waits for the next."""

    def __init__(self, folder: Path, most_bytes: int, installations: Sequence[bytes]) -> None:
        self.folder, self._most_bytes, self._installations = folder, most_bytes, list(installations)
        self.filled = asyncio.Event()
        """Set when something was added."""
        self._own: Held | None = None
        self._taken: list[Held] = []
        self._skipped: set[UUID] = set()
        self._unusable: set[UUID] = set()
        self.foreign: set[UUID] = set()
        """Files of another installation, which are left alone."""
        self._trouble: str | None = "it has not been opened"
        self._refusal: str | None = None
        self._size, self._aside, self._left = 0, 0, 0
        self._appending: asyncio.Future[None] | None = None
        self._own_thread = ThreadPoolExecutor(1, "spool")
        self._other_thread = ThreadPoolExecutor(1, "spools of others")
        metrics.SPOOL_BODIES.set_function(lambda: float(self.bodies))
        metrics.SPOOL_BYTES.set_function(lambda: float(self.bytes))
        metrics.SPOOL_OLDEST.set_function(lambda: self.age)
        metrics.SPOOL_LIMIT.set(most_bytes)

    @property
    def bodies(self) -> int:
        """Bodies that wait, in all files of this process."""
        return sum(held.file.bodies for held in self._held())

    @property
    def bytes(self) -> int:
        """Their bytes."""
        return sum(held.file.bytes for held in self._held())

    @property
    def age(self) -> float:
        """Seconds since the oldest of them came; 0 for none."""
        oldest = min((held.file.oldest for held in self._held() if held.file.oldest), default=None)
        return 0.0 if oldest is None else max((datetime.now(UTC) - oldest).total_seconds(), 0.0)

    @property
    def identity(self) -> UUID | None:
        """The id of the file that this process appends to."""
        return self._own.identity if self._own else None

    def can_take(self) -> bool:
        """Whether the next arrival will be taken, as far as one knows."""
        return self._own is not None and self._trouble is None and self._size < self._most_bytes * RECHECK_PART

    def warnings(self) -> list[str]:
        """That it is in use, and what is wrong with it."""
        said = []
        if self.bodies:
            said.append(f"{self.bodies} receipts wait in the spool, the oldest for {self.age:.0f} s")
        if self._left:
            said.append(f"{self._left} more spool files in {self.folder} wait until these are drained")
        if self._trouble is not None:
            said.append(f"the spool {self.folder} can't be used: {self._trouble}")
        elif self._size >= self._most_bytes * RECHECK_PART:
            said.append("the spool is full (RECEIVER_SPOOL_MB)")
        if self._aside:
            said.append(f"{self._aside} damaged spool files were set aside in {self.folder}")
        if self._unusable:
            said.append(
                f"{len(self._unusable)} spool files in {self.folder} can't be opened: see spool_not_taken in the log"
            )
        if self.foreign:
            said.append(
                f"{len(self.foreign)} spool files in {self.folder} belong to another RECEIVER_SECRET: left alone"
            )
        return said

    async def open(self) -> None:
        """Makes the folder and this process's own file. Never raises: `warnings` and the log say what is wrong."""
        try:
            await self._in(self._own_thread, self._make_own)
        except (OSError, sqlite3.Error) as error:
            self._say(error)

    async def append(self, key: UUID, arrivals: Sequence[Arrival], *, apart: bool = False) -> None:
        """On return `arrivals` are on the disk, as one unit. Raises NotSpooled: then they may be there or not.

        `apart`: they may be in Postgres already, under their key.
        """
        try:
            await self._append(key, arrivals, apart)
        except NotSpooled as error:
            metrics.SPOOL_REFUSED.inc(len(arrivals))
            if self._refusal != str(error):  # the first of a row
                log.error("not_spooled", extra={"reason": str(error)})  # noqa: TRY400
            self._refusal = str(error)
            raise
        self._refusal = None
        metrics.SPOOLED.inc(len(arrivals))
        self.filled.set()

    async def look(self) -> None:
        """Takes over what dead processes left behind, and tries again what did not work before. Never raises."""
        try:
            if self._own is None:
                await self._in(self._own_thread, self._make_own)
            elif self._trouble is not None:
                await self._in(self._own_thread, self._try_own)
                self._trouble = None
            elif self._own.file.has_rest and not self._own.file.is_broken:
                await self._in(self._own_thread, self._own.file.take_out)
        except (OSError, sqlite3.Error) as error:
            self._say(error)
        try:  # all the same: where the disk is full of them, draining them makes room
            await self.adopt()
        except (OSError, sqlite3.Error) as error:
            self._say(error)

    async def adopt(self) -> None:
        """Takes over the files of dead processes. Raises OSError for a folder that can't be read."""
        if not self.folder.is_dir():
            return
        known = {held.identity for held in self._held()} | self._skipped | self.foreign
        told, ours = self._unusable, self._installations
        most = MOST_TAKEN - len(self._taken)
        found = await self._in(self._other_thread, lambda: take_orphans(self.folder, known, told, ours, most))
        self._taken += found.orphans
        self._unusable, self._left = found.unusable, found.left
        self.foreign |= found.foreign
        self._size = await self._in(self._own_thread, self._measure)

    async def oldest(self) -> tuple[Held, Unit] | None:
        """The unit that came first of all that wait. Raises sqlite3.Error or OSError if it can't be read now."""
        while True:
            candidates = [held for held in self._held() if held.waits or held is not self._own]
            if not candidates:
                return None
            held = min(candidates, key=lambda one: one.file.oldest or _EVER)
            unit = await self._in(self._thread_of(held), held.file.next_unit)
            if unit is not None:
                return held, unit
            await self._emptied(held)

    async def drained(self, held: Held, unit: Unit) -> None:
        """Forgets a unit whose effect is in Postgres."""
        await self._in(self._thread_of(held), lambda: held.file.done(unit))
        metrics.DRAINED.inc(len(unit.arrivals))

    async def close(self) -> None:
        """Closes all files and gives them back; one that holds nothing is removed."""
        for held in self._held():
            with contextlib.suppress(OSError, sqlite3.Error):
                await self._in(self._thread_of(held), held.leave)
        self._own, self._taken = None, []
        self._trouble = "it is closed"
        self._own_thread.shutdown(wait=False)
        self._other_thread.shutdown(wait=False)

    def _held(self) -> list[Held]:
        return [*self._taken, *([self._own] if self._own else [])]

    def _thread_of(self, held: Held) -> ThreadPoolExecutor:
        return self._own_thread if held is self._own else self._other_thread

    async def _in(self, thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, work)

    async def _append(self, key: UUID, arrivals: Sequence[Arrival], apart: bool) -> None:
        if self._own is None:
            raise NotSpooled(self._trouble or "there is no file")
        if self._appending is not None and not self._appending.done():
            raise NotSpooled("the disk is slow")
        loop = asyncio.get_running_loop()
        self._appending = loop.run_in_executor(self._own_thread, self._write, key, arrivals, apart)
        self._appending.add_done_callback(lambda future: future.cancelled() or future.exception())
        try:
            async with asyncio.timeout(APPEND_SECONDS):
                await asyncio.shield(self._appending)
        except TimeoutError:
            raise NotSpooled("the disk is slow") from None
        except (sqlite3.Error, OSError) as error:
            self._say(error)
            raise NotSpooled(str(error)) from None
        self._trouble = None

    def _write(self, key: UUID, arrivals: Sequence[Arrival], apart: bool) -> None:
        own = self._whole_own()
        self._size = self._measure()
        if self._size + sum(len(a.body) + ROW_BYTES for a in arrivals) > self._most_bytes:
            raise NotSpooled("it is full (RECEIVER_SPOOL_MB)")
        try:
            own.file.append(key, arrivals, apart=apart)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            own.file.is_broken = True
        new = self._whole_own()  # removed while we wrote, it would be found by nobody after us
        if new is own:
            return
        new.file.append(key, arrivals, apart=True)  # what was written to the other file drains too
        if not new.file.is_there():
            raise NotSpooled("its files are removed while it writes")

    def _whole_own(self) -> Held:
        """This process's file; a new one if it is damaged or not in the folder. Raises OSError or sqlite3.Error."""
        own = self._own
        if own is None:
            return self._make_own()
        if not own.file.is_broken and not own.file.is_there():
            own.file.is_broken = True
            log.error("spool_file_gone", extra={"spool": str(own.identity)})
        return self._renew(own) if own.file.is_broken else own

    def _renew(self, broken: Held) -> Held:
        """A new file of our own in place of `broken`: what can be read of that is drained like an orphan's."""
        if self._own is broken:  # not if the other one who noticed was faster
            self._taken.append(broken)
            self._own = None
        return self._own or self._make_own()

    def _try_own(self) -> None:
        self._whole_own().file.try_write()

    def _make_own(self) -> Held:
        """A new file of this process's own. Raises OSError or sqlite3.Error."""
        spool_folder.make(self.folder)
        claim = None
        while claim is None:
            claim = spool_folder.claim(self.folder, new_id())
        try:
            made = Held(claim, SpoolFile.create(claim.path, self._installations[0]))
        except BaseException:
            claim.remove()
            raise
        self._own, self._trouble = made, None
        return made

    def _measure(self) -> int:
        self._aside = len(spool_folder.set_aside(self.folder))
        free = self._own.file.free_bytes() if self._own and not self._own.file.is_broken else 0
        return spool_folder.bytes_on_disk(self.folder) - free

    async def _emptied(self, held: Held) -> None:
        """A file that has nothing more: an orphan's is removed, a damaged one set aside."""
        if held is self._own:
            if not held.file.is_broken:
                return
            await self._in(self._own_thread, lambda: self._renew(held))
        self._taken.remove(held)
        try:
            await self._in(self._other_thread, held.leave)
            if self._left and not self._taken:
                await self.adopt()
            elif held.file.is_broken or not self._taken:  # not for each of thousands: it looks at them all
                self._size = await self._in(self._own_thread, self._measure)
        except (OSError, sqlite3.Error) as error:
            self._skipped.add(held.identity)
            self._say(error)

    def _say(self, error: Exception) -> None:
        """Remembers what is wrong with the disk, and logs it when it is news."""
        reason = str(error)
        if self._trouble != reason:
            log.error("spool_not_usable", extra={"reason": reason})
        self._trouble = reason

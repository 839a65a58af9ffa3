"""What a check is, what it finds, and what it may look at."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import asyncpg

from receiver.database.pool import connect
from receiver.settings import Settings

CONNECT_SECONDS = 4.0
CLOSE_SECONDS = 1.0


class Result(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


class Verdict(NamedTuple):
    """What was found, in one sentence, and what to do about it. `of`: the tenant that it is about."""

    result: Result
    found: str
    cure: str = ""
    of: str = ""


def ok(found: str, of: str = "") -> Verdict:
    """All is well."""
    return Verdict(Result.OK, found, "", of)


def warning(found: str, cure: str, of: str = "") -> Verdict:
    """It works, and will not for ever, or not as it should."""
    return Verdict(Result.WARNING, found, cure, of)


def failure(found: str, cure: str, of: str = "") -> Verdict:
    """Something does not work: receipts or messages wait, or will be lost."""
    return Verdict(Result.FAILURE, found, cure, of)


def skipped(why: str, of: str = "") -> Verdict:
    """It could not be looked at, or there is nothing to look at."""
    return Verdict(Result.SKIPPED, why, "", of)


class Disk(NamedTuple):
    """A disk's room, in bytes."""

    total: int
    free: int


@dataclass
class Installation:
    """What the checks look at. Secrets are not in its repr."""

    settings: Settings | None
    problems: Sequence[str] = ()
    """What is wrong with the settings."""
    dsn: str | None = field(default=None, repr=False)
    trouble: str = ""
    """Why there is no dsn, in a sentence."""
    secret: str | None = field(default=None, repr=False)
    full: bool = False
    """Whether every receipt is counted, however many there are."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    room: Callable[[Path], Disk] = lambda folder: _room(folder)
    progress: Callable[[int, int], None] = lambda done, of: None
    away: bool = False
    """Set by the check of the database: the others that need it are skipped."""

    @property
    def chosen(self) -> Settings:
        """The settings, for the checks that are not made without them."""
        assert self.settings is not None
        return self.settings

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """A connection of the check's own. Raises DatabaseError in one sentence, TimeoutError."""
        assert self.dsn is not None
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await connect(self.dsn, "doctor", statement_timeout="10000", plan_cache_mode="auto")
        try:
            yield connection
        finally:  # one that hangs is cut off
            try:
                await asyncio.wait_for(connection.close(), CLOSE_SECONDS)
            except (TimeoutError, OSError, asyncpg.InterfaceError, asyncpg.PostgresError):
                connection.terminate()


@dataclass(frozen=True)
class Check:
    """One check: docs/doctor.md has its name, its meaning and its cure."""

    name: str
    run: Callable[[Installation], Awaitable[Sequence[Verdict]]]
    database: bool = False
    """Whether it needs one that answers."""
    settings: bool = True
    """Whether it needs settings that can be read."""
    seconds: float = 8.0
    """The most that it may take."""


class Finding(NamedTuple):
    """A verdict with the name of its check."""

    name: str
    verdict: Verdict


def _room(folder: Path) -> Disk:
    usage = shutil.disk_usage(folder)
    return Disk(usage.total, usage.free)

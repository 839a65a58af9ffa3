"""Stores the last words in groups: while one commit is in flight, what finishes meanwhile is the next group."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import asyncpg

from receiver.access.tenants import Tenants
from receiver.database.pool import NOT_THERE, Pool
from receiver.messages.changes import count
from receiver.messages.told import Feed
from receiver.platform.codes import Class, known_code
from receiver.sending.settle import Done, settle

T = TypeVar("T")

TRIES = 6  # 0.5 + 1 + 2 + 4 + 8 s: a Postgres that restarts is back by then
MOST_CALLS, MOST_MESSAGES = 64, 2_000  # in a group; 2,000 messages take 100 ms
CLASSES = {int(c): c.word for c in Class}
# The connection, a deadlock, no room, an operator: the same statement may go well later.
PASSING = ("08", "40", "53", "57")


class Settler:
    """A worker that settles what it is handed. `close` lets it finish all that it has."""

    def __init__(self, pool: Pool, tenants: Tenants, *, keep_content: bool) -> None:
        self._pool, self._tenants, self._keep_content = pool, tenants, keep_content
        self._waiting: deque[tuple[Done, asyncio.Future[None]]] = deque()
        self._wake = asyncio.Event()
        self._closing = False

    async def settle(self, done: Done) -> None:
        """Returns when it is committed. Raises what kept it from that, after trying for 15 seconds."""
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((done, stored))
        self._wake.set()
        await stored

    async def close(self) -> None:
        """`run` returns when nothing waits any more."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """Settles until closed."""
        while self._waiting or not self._closing:
            if self._waiting:
                await self._store(self._next_group())
            else:
                self._wake.clear()
                await self._wake.wait()

    def _next_group(self) -> list[tuple[Done, "asyncio.Future[None]"]]:
        """What waits longest, and what may go with it; the others keep their order."""
        group = [self._waiting.popleft()]
        kind, messages = group[0][0].group, len(group[0][0].load.recipients)
        left: list[tuple[Done, asyncio.Future[None]]] = []
        while self._waiting and len(group) < MOST_CALLS:
            done, stored = self._waiting.popleft()
            if done.group == kind and messages + len(done.load.recipients) <= MOST_MESSAGES:
                group.append((done, stored))
                messages += len(done.load.recipients)
            else:
                left.append((done, stored))
        self._waiting.extendleft(reversed(left))
        return group

    async def _store(self, group: Sequence[tuple[Done, "asyncio.Future[None]"]]) -> None:
        failure: Exception | None = None
        try:
            await with_patience(lambda: self._settle([done for done, _ in group]))
        except Exception as error:  # whatever it is, it goes to those who wait, and the others are settled
            if len(group) > 1 and not _is_passing(error):
                for one in group:
                    await self._store([one])
                return
            failure = error
        for _, stored in group:
            if failure is None and not stored.done():
                stored.set_result(None)
            elif failure is not None and not stored.done():
                stored.set_exception(failure)

    async def _settle(self, group: Sequence[Done]) -> None:
        settings = self._tenants.settings_of(group[0].claim.tenant)
        resend_after = settings.resend_uncertain if settings else None
        changes, codes = await settle(self._pool, group, keep_content=self._keep_content, resend_after=resend_after)
        count(changes, Feed.ANSWER, self._tenants.names, {k: known_code(v) for k, v in codes.items()}, CLASSES)


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(PASSING)
    return isinstance(error, NOT_THERE)


async def with_patience(store: Callable[[], Awaitable[T]]) -> T:
    """What `store` gives, tried again while Postgres is away: what is lost here becomes uncertain.

    Raises what went wrong at once where trying again does not help, else after 15 seconds.
    """
    for tries in range(TRIES):
        try:
            return await store()
        except (asyncpg.PostgresError, *NOT_THERE) as error:
            if tries == TRIES - 1 or not _is_passing(error):
                raise
            await asyncio.sleep(0.5 * 2**tries)
    raise AssertionError("the last try returns or raises")

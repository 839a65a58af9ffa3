"""A running receiver, and what it knows of itself: its roles, its workers, whether it can do its work."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from receiver.access.tenants import AtTheDoor, Tenants
from receiver.access.tokens import PROBE, NotifyTokens
from receiver.database.pool import Pool, Pools, can_write
from receiver.forwarding.forwarder import Forwarder
from receiver.frame import Readiness
from receiver.platform.credentials import can_send, messaging_api_of
from receiver.probe.prober import Prober
from receiver.receipts.breaker import Breaker
from receiver.receipts.intake import Intake
from receiver.receipts.spool import Spool
from receiver.receipts.waiting import NotDurable
from receiver.sending.dispatcher import Dispatcher
from receiver.settings import Settings
from receiver.upkeep.gate import Behind, Gate
from receiver.upkeep.reconciler import Reconciler
from receiver.web import JsonResponse
from receiver.workers import Worker

# Who borrows from `write_pool`, by the role that brings them: one connection each, and one for /readyz. Nobody may wait
# for another: the breaker's probe gives up after two seconds, and Postgres would count as away though it is well.
WRITERS = {
    "notify": 2,  # the drain; the breaker's probe
    "api": 2,  # a replay, of which there is one at a time; the last use of keys
    "upkeep": 6,  # partitions, quarantine, retention, awaiting, ledger, probe
}


def writers_of(roles: Collection[str]) -> int:
    """How many connections a process with these roles may need in `write_pool` at one time."""
    return 1 + sum(number for role, number in WRITERS.items() if role in roles)


@dataclass
class House:
    """A running receiver: its application, its workers in the order of closing, and what it knows of itself."""

    settings: Settings
    tenants: Tenants
    tokens: NotifyTokens
    gate: Gate
    pools: Pools
    write_pool: Pool
    workers: list[tuple[str, Worker]] = field(default_factory=list)
    intake: Intake | None = None
    spool: Spool | None = None
    breaker: Breaker | None = None
    dispatcher: Dispatcher | None = None
    forwarder: Forwarder | None = None
    reconciler: Reconciler | None = None
    prober: Prober | None = None
    app: Starlette = field(init=False)
    served: ASGIApp = field(init=False)
    """What a server serves: `app`, or with a port of its own for receipts both applications."""
    draining: bool = False
    early: list[Worker] = field(default_factory=list)
    """Workers whose end begins with the signal: they may take as long as the dispatcher, and both have the time."""
    _ending: "list[asyncio.Task[None]]" = field(default_factory=list)

    def has(self, role: str) -> bool:
        """Whether this process has the role."""
        return role in self.settings.roles

    def behind(self, name: str, worker: Worker) -> None:
        """One more worker, which begins when the database has been opened."""
        self.workers.append((name, Behind(self.gate, worker)))

    def drain(self) -> None:
        """From now on /readyz says no: a balancer sends nothing more."""
        self.draining = True
        self._ending = self._ending or [asyncio.create_task(early.close()) for early in self.early]

    async def readyz(self, request: Request) -> Response:
        """200 as long as a receipt can be made durable here; all else that is wrong is a warning."""
        warnings = [*self.gate.warnings(), *(self.dispatcher.trouble.values() if self.dispatcher else ())]
        warnings += self._without_platform()
        warnings += self.forwarder.warnings() if self.forwarder else []
        warnings += self.reconciler.warnings() if self.reconciler else []
        warnings += self.prober.warnings() if self.prober else []
        warnings += self.tenants.unprotected()
        warnings += self.spool.warnings() if self.spool else []
        there = await self.database_is_there()
        spools = self.spool is not None and self.spool.can_take()
        ready = not self.draining and (there or spools)
        if self.draining:
            warnings.insert(0, "this process is draining")
        elif not there and self.gate.is_open:
            what = f": receipts {'go to the spool' if spools else 'are answered 503'}" if self.has("notify") else ""
            warnings.insert(0, f"the database does not answer{what}")
        return JsonResponse(Readiness(ready, warnings), 200 if ready else 503)

    async def database_is_there(self) -> bool:
        """Whether the database takes writes now."""
        known_away = self.breaker is not None and self.breaker.is_open
        return self.gate.is_open and not known_away and await can_write(self.write_pool)

    def at_the_door(self, name: str) -> AtTheDoor | None:
        """The tenant of a token; without its number until the database is open. Raises NotDurable while nobody can say
        whether it is one.
        """
        tenant = self.tenants.at_the_door(name)
        if not self.gate.is_open:
            if tenant is None and name != PROBE:
                raise NotDurable("the database has not been opened yet")
            return tenant._replace(id=None) if tenant else None
        return tenant

    def _without_platform(self) -> list[str]:
        return [
            f"tenant {tenant.name} has no platform address or key: it can listen, not send"
            for tenant in self.settings.tenants
            if not can_send(tenant, messaging_api_of(tenant))
        ]

"""The background duties, each done by the one process that holds its lease: as `app` builds them into a house."""

import contextlib

from receiver.database.leases import Leases
from receiver.forwarding.noticer import Noticer
from receiver.house import House
from receiver.messages.patience import waits_of
from receiver.platform.client import PlatformClient
from receiver.probe.prober import Prober
from receiver.upkeep.awaiter import Awaiter
from receiver.upkeep.folder import Folder
from receiver.upkeep.ledger import LedgerKeeper
from receiver.upkeep.outcomes import Outcomes
from receiver.upkeep.partitions import PartitionKeeper
from receiver.upkeep.quarantine import QuarantineKeeper
from receiver.upkeep.reconciler import CALLS, Reconciler
from receiver.upkeep.reconciler_pace import gaps
from receiver.upkeep.retention import RetentionKeeper
from receiver.upkeep.shown import Shower

RECONCILERS = 2  # connections at most: one claims, one stores; who waits for the platform holds none
STATUS_SECONDS, STATUS_CONNECT_SECONDS = 10.0, 5.0


async def open_duties(house: House, stack: contextlib.AsyncExitStack) -> None:
    """Builds the background duties, where the process has the role. `stack` closes what they call out with."""
    if not house.has("upkeep"):
        return
    leases = Leases(await house.pools.add("leases", 1, writer=True))
    held, days, megabytes = leases.duty, house.settings.quarantine_days, house.settings.quarantine_mb
    house.behind("partitions", PartitionKeeper(house.write_pool, held("partitions")))
    trimmer = QuarantineKeeper(house.write_pool, days, megabytes * 1024 * 1024, held=held("quarantine"))
    house.behind("quarantine", trimmer)
    dropping = RetentionKeeper(house.write_pool, house.settings.retention_days, held=held("retention"))
    house.behind("retention", dropping)
    awaiting = Awaiter(house.write_pool, house.tenants.names, house.settings.waits, held=held("awaiting"))
    house.behind("awaiting", awaiting)
    counting = LedgerKeeper(house.write_pool, house.settings.ledger_check_hours, held=held("ledger"))
    house.behind("ledger", counting)
    outcomes, folds = Outcomes(house.tenants.names), held("statistics")
    statistics = await house.pools.add("statistics", 2, writer=True)
    house.behind("statistics", Folder(statistics, held=folds, outcomes=outcomes))
    house.behind("figures", Shower(statistics, house.tenants.names, outcomes, house.settings.waits, held=folds))
    house.reconciler = Reconciler(
        await house.pools.add("reconciler", RECONCILERS, writer=True),
        await stack.enter_async_context(PlatformClient(STATUS_SECONDS, CALLS, STATUS_CONNECT_SECONDS)),
        house.tenants,
        gaps(waits_of(house.settings.waits)),
        held=held("reconciler"),
    )
    house.behind("reconciler", house.reconciler)
    probe_seconds, public_url = house.settings.probe_seconds, house.settings.public_url
    house.prober = Prober(house.write_pool, public_url, house.tokens, probe_seconds, held=held("probe"))
    house.behind("probe", house.prober)
    house.early.append(house.prober)  # it would find our own door closing
    if any(tenant.failures for tenant in house.settings.tenants):
        pool = await house.pools.add("notices", 1, writer=True)
        house.behind("failure notices", Noticer(pool, house.tenants, held=held("failure notices")))
    house.behind("leases", leases)  # behind all duties: given back when they have ended

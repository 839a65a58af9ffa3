"""The tenants as this process knows them: their names in tokens and settings, their numbers in rows."""

from collections.abc import Iterable, Sequence
from datetime import UTC, tzinfo
from typing import NamedTuple

from receiver.access.signatures import NO_PROTECTION, Protection
from receiver.database.pool import Connection
from receiver.ids import TenantId
from receiver.tenant_settings import Tenant

ENSURE = "insert into tenant (name) select unnest($1::text[]) on conflict (name) do nothing"
ALL = "select id, name from tenant order by id"
# A tenant that forwarded once may have clients of its own with a notifyurl: `forwards` is never taken back.
FORWARD = """
update tenant t set forward_to = u.url, forwards = t.forwards or u.url is not null
  from unnest($1::text[], $2::text[]) as u(name, url) where t.name = u.name and t.forward_to is distinct from u.url
"""

IN_ITS_TABLE = "signature_required or notify_header in its table"


class AtTheDoor(NamedTuple):
    """What the receipts door needs of a tenant: its number, the zone of bare time stamps, what it asks of a receipt.

    Without a number: it is configured, and the database, which has the numbers, has not answered since the start.
    """

    id: TenantId | None
    zone: tzinfo
    protection: Protection


class Tenants:
    """Names and numbers of all tenants that the database has ever seen, and the settings of the present ones."""

    def __init__(self, configured: Iterable[Tenant]) -> None:
        self._configured = {tenant.name: tenant for tenant in configured}
        self._protections = {name: Protection.of(tenant) for name, tenant in self._configured.items()}
        self._ids: dict[str, TenantId] = {}
        self.names: dict[TenantId, str] = {}

    async def load(self, connection: Connection) -> None:
        """Makes a row for each configured tenant and reads them all."""
        await self.make_known(connection, list(self._configured))

    async def make_known(self, connection: Connection, names: Sequence[str]) -> None:
        """Makes a row for each of `names`, and reads all that there are."""
        await connection.execute(ENSURE, names)
        for row in await connection.fetch(ALL):
            self._ids[row["name"]] = TenantId(row["id"])
            self.names[TenantId(row["id"])] = row["name"]

    async def store_forward_to(self, connection: Connection) -> None:
        """Makes known, to whoever applies receipts, where those of each configured tenant go on to.

        Only for what serves: an operator's command may have been started without these settings.
        """
        tenants = list(self._configured.values())
        await connection.execute(FORWARD, [t.name for t in tenants], [t.forward_to for t in tenants])

    def id_of(self, name: str) -> TenantId:
        """The number of a tenant; KeyError for one that never was."""
        return self._ids[name]

    def is_known(self, name: str) -> bool:
        """Whether its number is known."""
        return name in self._ids

    def zone_of(self, name: str) -> tzinfo:
        """The zone of its bare time stamps."""
        settings = self._configured.get(name)
        return settings.zone if settings else UTC

    def settings_of(self, tenant: TenantId) -> Tenant | None:
        """The settings of a tenant; None for one that is configured no more."""
        return self._configured.get(self.names.get(tenant, ""))

    def at_the_door(self, name: str) -> AtTheDoor | None:
        """The tenant of a token; one that is configured no more still hears its last receipts, by the token alone."""
        identity, settings = self._ids.get(name), self._configured.get(name)
        if identity is None and settings is None:
            return None
        return AtTheDoor(identity, settings.zone if settings else UTC, self._protections.get(name, NO_PROTECTION))

    def unprotected(self) -> list[str]:
        """A warning for each configured tenant whose token alone opens the receipts door."""
        return [
            f"tenant {name} accepts receipts with its token alone: set "
            + ("RECEIVER_SIGNATURE_REQUIRED or RECEIVER_NOTIFY_HEADER" if name == "default" else IN_ITS_TABLE)
            for name, protection in self._protections.items()
            if protection.only_token
        ]

"""The tenants as this process knows them: their names in tokens and settings, their numbers in rows."""

from collections.abc import Iterable
from datetime import UTC, tzinfo

from receiver.database.pool import Connection
from receiver.ids import TenantId
from receiver.settings import Tenant

ENSURE = "insert into tenant (name) select unnest($1::text[]) on conflict (name) do nothing"
ALL = "select id, name from tenant order by id"


class Tenants:
    """Names and numbers of all tenants that the database has ever seen, and the settings of the present ones."""

    def __init__(self, configured: Iterable[Tenant]) -> None:
        self._configured = {tenant.name: tenant for tenant in configured}
        self._ids: dict[str, TenantId] = {}
        self.names: dict[TenantId, str] = {}

    async def load(self, connection: Connection) -> None:
        """Makes a row for each configured tenant and reads them all."""
        await connection.execute(ENSURE, list(self._configured))
        for row in await connection.fetch(ALL):
            self._ids[row["name"]] = TenantId(row["id"])
            self.names[TenantId(row["id"])] = row["name"]

    def id_of(self, name: str) -> TenantId:
        """The number of a tenant; KeyError for one that never was."""
        return self._ids[name]

    def settings_of(self, tenant: TenantId) -> Tenant | None:
        """The settings of a tenant; None for one that is configured no more."""
        return self._configured.get(self.names.get(tenant, ""))

    def at_the_door(self, name: str) -> tuple[TenantId, tzinfo] | None:
        """What the receipts door needs of the tenant of a token: its number and the zone of bare time stamps."""
        identity = self._ids.get(name)
        if identity is None:
            return None
        settings = self._configured.get(name)
        return identity, settings.zone if settings else UTC

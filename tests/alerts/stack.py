"""The whole: Postgres of its own, two tenants with a platform each, the service, its traffic, and who watches it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2

from tests.alerts.pager import Notice, Pager, pager
from tests.alerts.platforms import Platform, platform
from tests.alerts.shortened import write_alertmanager, write_rules
from tests.alerts.traffic import Traffic, traffic
from tests.alerts.watchers import alertmanager, answer, prometheus
from tests.journey.trouble.own_postgres import OwnPostgres, own_postgres
from tests.support import PLATFORM_KEY, Database, Receiver, eventually, receiver_process
from tests.tools import need

SCALE: Final = 60.0  # a minute of the shipped rules is a second here
TENANTS: Final = ("default", "shop")
# Of what is on its way when Postgres stops nobody hears until its lease is over: 75 s, where "old" is 15 minutes. Here
# "old" is 15 s.
SHORT: Final = {"RECEIVER_PLATFORM_TIMEOUT": "5", "RECEIVER_LEASE": "10"}
IN_TIME: Final = 120.0  # seconds in which an alert must have reached the pager, and its end likewise


@dataclass
class Stack:
    """All that runs."""

    postgres: OwnPostgres
    platforms: dict[str, Platform]
    receiver: Receiver
    traffic: Traffic
    prometheus: httpx2.Client
    alertmanager: httpx2.Client
    pager: Pager

    def alerts(self) -> list[dict[str, str]]:
        """The alerts that are pending or firing in Prometheus, or that Alertmanager has not yet seen the end of."""
        seen = [one["metric"] for one in answer(self.prometheus, "ALERTS")]
        held: list[dict[str, Any]] = self.alertmanager.get("/api/v2/alerts").raise_for_status().json()
        return seen + [one["labels"] for one in held]

    def wait_until_quiet(self) -> None:
        """Returns when nobody has an alert on his mind, and the pager knows that all is over."""
        began = now()
        try:
            eventually(lambda: not self.alerts() and not self.pager.open(), seconds=IN_TIME, every=0.5)
        except AssertionError:
            raise AssertionError(f"something goes on; {self.story(began - IN_TIME)}") from None

    def wait_for(self, status: str, alert: str, labels: Mapping[str, str], since: float) -> Notice:
        """The notice that must reach the pager in time."""
        try:
            found: Notice = eventually(
                lambda: self.pager.first(status, alert, labels, since), seconds=IN_TIME, every=0.1
            )
        except AssertionError:
            raise AssertionError(f"{alert} {labels} is not {status}; {self.story(since)}") from None
        return found

    def story(self, since: float) -> str:
        """What the pager was told since then, and what is on, for whoever reads of a failure."""
        told = [
            f"{one.at - since:.0f} s: {one.status} {dict(one.labels)} for {one.receiver}"
            for one in self.pager.since(since)
        ]
        return "\n".join(["the pager was told:", *told, "now:", *map(str, self.alerts()), str(self.traffic.answers)])


@contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    """All of it, running, and ended in the end."""
    for program in ("prometheus", "prometheus-alertmanager"):
        need(program)
    with ExitStack() as running:
        enter = running.enter_context
        postgres = enter(own_postgres(folder / "data"))
        database = Database(postgres.dsn, "receiver")
        keys = {tenant: database.key("send", "read", tenant=tenant) for tenant in TENANTS}
        platforms = {tenant: enter(platform(folder, tenant)) for tenant in TENANTS}
        tenants = folder / "tenants.toml"
        tenants.write_text(
            "\n".join(
                f'[tenant.{name}]\nplatform_url = "{one.url}"\nplatform_key = "{PLATFORM_KEY}"'
                for name, one in platforms.items()
            )
        )
        receiver = enter(receiver_process(database, folder, RECEIVER_CONFIG=str(tenants), **SHORT))
        hook = enter(pager())
        rules, config = folder / "receiver.rules.yml", folder / "alertmanager.yml"
        write_rules(rules, SCALE)
        write_alertmanager(config, SCALE, hook.url)
        manager = enter(alertmanager(folder, config))
        sent = enter(traffic(receiver.url, keys))
        watcher = enter(prometheus(folder, rules=rules, target=receiver.url, alertmanager=str(manager.base_url)))
        yield Stack(postgres, platforms, receiver, sent, watcher, manager, hook)


def now() -> float:
    """Seconds of the monotonic clock."""
    return time.monotonic()

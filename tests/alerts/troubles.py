"""The scripted troubles: each is real while it lasts, and over afterwards."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Final

from tests.alerts.stack import Stack
from tests.alerts.traffic import COUNTRIES, garbage

SLOW: Final = 8.0  # seconds until a receipt: above the shortened bound of 5, and no silence yet


@dataclass(frozen=True)
class Trouble:
    """What happens, and who must be told of it."""

    name: str
    make: Callable[[Stack], AbstractContextManager[object]]
    alert: str
    severity: str
    labels: Mapping[str, str] = field(default_factory=dict)
    """Every notice must have them: the alert of another tenant is another alert."""
    lasts: float = 0.0
    """Seconds at least: so long that what follows from it would tell of itself, were it not muted."""

    def __str__(self) -> str:
        return self.name

    @property
    def reaches(self) -> str:
        """Whom Alertmanager must tell."""
        return {"critical": "pager", "warning": "chat"}[self.severity]


def a_route_fails(stack: Stack) -> AbstractContextManager[None]:
    """Everything that one tenant sends to Spain is undelivered."""
    return stack.platforms["shop"].trouble({"destination": COUNTRIES["ES"], "fate": "undelivered"})


def the_platform_is_silent(stack: Stack) -> AbstractContextManager[None]:
    """It takes what one tenant sends and tells nothing of it."""
    return stack.platforms["shop"].trouble({"fate": "silent"})


def credentials_are_refused(stack: Stack) -> AbstractContextManager[None]:
    """The key of one tenant is good no more, at any door of the platform."""
    return stack.platforms["shop"].trouble({"code": "7001"})


def receipts_come_late(stack: Stack) -> AbstractContextManager[None]:
    """What one tenant sends arrives, but late."""
    return stack.platforms["shop"].trouble({"receipts_after": SLOW, "fate": "delivered"})


@contextmanager
def postgres_stops(stack: Stack) -> Iterator[None]:
    """Its processes end, and come back."""
    stack.postgres.stop()
    try:
        yield
    finally:
        stack.postgres.start()


def quarantine_fills(stack: Stack) -> AbstractContextManager[None]:
    """Somebody who knows a notifyurl posts what nobody can read."""
    return garbage(stack.receiver.notify_url())


_SHOP: Final = {"tenant": "shop"}
OF_RECEIPTS: Final = (
    Trouble(
        "the route to a country fails",
        a_route_fails,
        "ReceiverRouteFailing",
        "critical",
        {**_SHOP, "channel": "sms", "country": "ES"},
        lasts=30,
    ),
    Trouble("receipts come late", receipts_come_late, "ReceiverDeliverySlow", "warning", _SHOP),
    Trouble("the platform is silent", the_platform_is_silent, "ReceiverReceiptsSilent", "critical", _SHOP, lasts=30),
    Trouble(
        "quarantine fills", quarantine_fills, "ReceiverQuarantineGrowing", "warning", {"tenant": "default"}, lasts=10
    ),
)
OF_THE_SERVICE: Final = (
    Trouble(
        "credentials are refused", credentials_are_refused, "ReceiverCredentialsRefused", "critical", _SHOP, lasts=45
    ),
    Trouble("Postgres stops", postgres_stops, "ReceiverDatabaseAway", "critical", lasts=45),
)

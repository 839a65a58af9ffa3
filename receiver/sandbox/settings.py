"""What the one who starts a sandbox chooses."""

import base64
import binascii
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta, timezone
from typing import Final, Literal, get_args

import httpx2

from receiver.sandbox.scenario import ScenarioStep
from receiver.sandbox.transids import Transids

# How receipts are told: as documented, or with all that has been seen to go wrong.
Profile = Literal["honest", "hostile"]
PROFILES: Final[Mapping[str, Profile]] = {"honest": "honest", "hostile": "hostile"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """All choices of one sandbox; raises ValueError that names every bad one."""

    keys: tuple[str, ...] = field(repr=False)
    """The service and profile keys that are let in."""
    services: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The services whose signed tokens are let in: id to secret, in base64."""
    campaign_tokens: tuple[str, ...] = field(default=(), repr=False)
    """The bearers that Webex Campaign lets in."""
    speed: float = 1.0
    """What the platform's own delays are multiplied by: 0.05 is twenty times as fast, 0 is at once."""
    seed: int = 0
    """Decides the fate and the pace of the first message, the second, ... in order of arrival."""
    profile: Profile = "honest"
    """Whether receipts are told as documented, or with all that has been seen to go wrong."""
    transids: Transids = "request"
    zone: timedelta = timedelta(0)
    """The tenant's zone as an offset from UTC, whole minutes; zero is written `Z`."""
    notifyurl: str = field(default="", repr=False)
    """The Notify URL of the service, for requests that name none; empty: nobody is told."""
    strangers: bool = False
    """Whether receipts may be told to a host that isn't loopback."""
    undelivered: float = 0.03
    """The share of ordinary messages that are told Undelivered; the hostile profile has shares of its own."""
    failed: float = 0.02
    """The share of ordinary messages that are told Failed."""
    silent: float = 0.0
    """The share of ordinary messages that are never told of."""
    lose: float = 0.0
    """The share of all receipts that is never told: the platform dropped them for ever."""
    timeout: float = 10.0
    """Seconds that an answer to a receipt is waited for; not scaled by `speed`."""
    retries: tuple[float, ...] = (60.0, 60.0, 60.0)
    """Seconds before each further try of a receipt, scaled by `speed`; then it is given up."""
    tellers: int = 32
    """The most receipts on their way at one time."""
    pending_max: int = 200_000
    """The most receipts that wait to be told (about 250 MB); a request beyond it is answered 7020."""
    kept: int = 50_000
    """The most messages of which the ledger keeps each receipt (about 150 MB); older ones are only counted."""
    refusal_status: int = 200
    """The HTTP status of a refusal: 200 as documented, 400 as also seen."""
    campaign_status: int = 200
    """The HTTP status of a refusal by Webex Campaign: 200, or 500: then 401 and others where the code has one."""
    answer_ms: float = 0.0
    """Milliseconds from a request to its answer, where nothing else takes longer; not scaled by `speed`."""
    scenario: tuple[ScenarioStep, ...] = ()
    """What is played until another scenario is given at run time."""

    def __post_init__(self) -> None:
        wrong = list(self._wrong())
        if wrong:
            raise ValueError("; ".join(wrong))

    @property
    def timezone(self) -> timezone:
        """The zone in which receipts are stamped."""
        return timezone(self.zone)

    def _wrong(self) -> list[str]:
        shares = (self.undelivered, self.failed, self.silent)
        wrong = [
            text
            for bad, text in (
                (not self.keys or not all(self.keys), "keys: at least one, none of them empty"),
                (not 0 <= self.speed <= 1000, "speed: 0 to 1000"),
                (self.transids not in get_args(Transids), f"transids: one of {get_args(Transids)}"),
                (self.profile not in PROFILES, f"profile: one of {tuple(PROFILES)}"),
                (abs(self.zone) >= timedelta(days=1), "zone: less than a day"),
                (self.zone % timedelta(minutes=1) != timedelta(0), "zone: whole minutes"),
                (min(shares) < 0 or sum(shares) > 1, "undelivered, failed, silent: shares, at most 1 in all"),
                (not 0 <= self.lose <= 1, "lose: a share, 0 to 1"),
                (self.timeout <= 0, "timeout: more than 0 seconds"),
                (any(wait < 0 for wait in self.retries), "retries: no negative seconds"),
                (self.tellers < 1, "tellers: at least 1"),
                (self.pending_max < 1, "pending_max: at least 1"),
                (self.kept < 1, "kept: at least 1"),
                (self.refusal_status not in (200, 400), "refusal_status: 200 or 400"),
                (self.campaign_status not in (200, 500), "campaign_status: 200 or 500"),
                (not all(self.campaign_tokens), "campaign_tokens: none of them empty"),
                (not all(map(_is_base64, self.services.values())), "services: secrets in base64"),
                (not 0 <= self.answer_ms <= 3_600_000, "answer_ms: 0 to 3600000"),
            )
            if bad
        ]
        if self.notifyurl:
            try:
                notify_target(self.notifyurl, strangers=self.strangers)
            except ValueError as error:
                wrong.append(str(error))
        return wrong


def notify_target(url: str, *, strangers: bool) -> httpx2.URL:
    """`url` as the teller will use it; raises ValueError if it is not http(s), or a stranger unallowed.

    It is parsed by the client that will post to it, so that both mean the same host. Names other than
    `localhost` count as strangers: what they resolve to now they need not resolve to later.
    """
    try:
        target = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        raise ValueError("notifyurl: not a URL") from None
    if target.scheme not in ("http", "https") or not target.host:
        raise ValueError("notifyurl: not an http or https URL with a host")
    if target.port is not None and not 0 < target.port < 65536:
        raise ValueError("notifyurl: not a port")
    if not strangers and not _is_loopback(target.host):
        raise ValueError("notifyurl: the host is not loopback, and a simulated platform tells no strangers")
    return target


def _is_base64(secret: str) -> bool:
    try:
        return bool(base64.b64decode(secret, validate=True))
    except binascii.Error:
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

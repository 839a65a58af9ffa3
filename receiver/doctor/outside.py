"""The world outside: whether the platform can reach us, lets us in, and keeps the same time."""

import asyncio
import ipaddress
import os
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlsplit
from uuid import uuid4

import aiohttp

from receiver import __version__
from receiver.access.tokens import NotifyTokens
from receiver.doctor.check import Installation, Verdict, failure, ok, skipped, warning
from receiver.doctor.database import judged
from receiver.environment import is_loopback
from receiver.platform.apis import Api
from receiver.platform.client import PlatformClient
from receiver.platform.credentials import Key, base_url_of, credentials_of, what_is_missing
from receiver.platform.status import Result
from receiver.tenant_settings import Tenant

SECONDS = 7.0
DAYS_WARNING, DAYS_FAILURE = 21, 3
# Of an HTTP date, which tells whole seconds.
TOLERABLE = timedelta(seconds=5)
READY = b"ready"

NOT_OURS = "Something else answers there. Lead /notify/ of the public address to the receiver, unchanged."


async def public_url(installation: Installation) -> Sequence[Verdict]:
    """HEAD with each tenant's own token, through DNS and TLS as the platform does it: 200 is wanted."""
    chosen = installation.chosen
    if installation.secret is None:
        return [skipped("there is no secret that we can read, to make a token with; `receiver serve` makes it")]
    parts = urlsplit(chosen.public_url)
    if not (addresses := await _addresses(parts)):
        cure = "Correct RECEIVER_PUBLIC_URL, or the DNS entry."
        return [failure(f"the name {parts.hostname} does not resolve", cure)]
    found = []
    if not is_loopback(chosen.public_url) and not any(ipaddress.ip_address(one).is_global for one in addresses):
        cure = "The platform needs a public one; where this machine alone sees it so, ask from outside."
        found.append(warning(f"{parts.hostname} resolves to private addresses only", cure))
    tokens = NotifyTokens(installation.secret)
    async with _session() as session:
        found += await asyncio.gather(
            *(
                _door(session, f"{chosen.public_url}/notify/{tokens.sign(tenant.name)}", tenant.name)
                for tenant in chosen.tenants
            )
        )
    return found


async def _door(session: aiohttp.ClientSession, url: str, tenant: str) -> Verdict:
    try:
        async with session.head(url, allow_redirects=False) as answer:
            status = answer.status
        if status == 200:
            async with session.get(url, allow_redirects=False) as answer:
                if answer.status != 200 or not (await answer.content.read(64)).startswith(READY):
                    return failure("it answers 200, and is not the receipts door", NOT_OURS, tenant)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return _unreached(error, tenant)
    if status == 200:
        return ok("HEAD with the tenant's token is answered 200", tenant)
    cures = {
        401: "Another RECEIVER_SECRET serves there, or another installation: set the same for doctor and serve.",
        404: NOT_OURS,
        405: "Something in front does not let HEAD through, by which the platform tests the address.",
        502: "The proxy does not reach the receiver: is `receiver serve` running?",
        503: "The receiver can't take receipts now, or it does not run behind its proxy: see its /readyz.",
        504: "The proxy does not reach the receiver: is `receiver serve` running?",
    }
    if 300 <= status < 400:
        cure = "The platform follows no redirects and drops the receipt: set RECEIVER_PUBLIC_URL to where it leads."
        return failure(f"it redirects (HTTP {status})", cure, tenant)
    cure = cures.get(status, "See what answers at the public address; 200 is wanted.")
    return failure(f"it answers {status}", cure, tenant)


def _unreached(error: BaseException, tenant: str) -> Verdict:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cure = "Install a valid certificate with its whole chain; the platform speaks to no other."
        return failure(f"its certificate is refused: {_why(error.certificate_error)}", cure, tenant)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return failure("it does not speak TLS", "Let the proxy, or RECEIVER_TLS_CERT, speak https there.", tenant)
    why = "no answer in time" if isinstance(error, TimeoutError) else _why(error)
    cure = "Is `receiver serve` running, and the way to it open? Some networks can't reach their own public address."
    return failure(f"it can't be reached: {why}", cure, tenant)


async def certificate(installation: Installation) -> Sequence[Verdict]:
    """Whether the certificate of the public address is good, and for how long."""
    parts = urlsplit(installation.chosen.public_url)
    if parts.scheme != "https":
        return [skipped("the public address is plain http on this machine")]
    host = parts.hostname or ""
    try:
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(
                host, parts.port or 443, ssl=ssl.create_default_context(), server_hostname=host
            )
    except ssl.SSLCertVerificationError as error:
        cure = "Install a valid certificate with its whole chain, and see that it is renewed by itself."
        return [failure(f"it is refused: {_why(error)}", cure)]
    except (OSError, TimeoutError):
        return [skipped("the address can't be reached")]
    try:
        shown = writer.get_extra_info("peercert")
    finally:
        writer.transport.abort()
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC)
    days = (ends - installation.now()).days
    said = f"it is good for {days} more days, until {ends.date()}"
    cure = "Renew it, and see why it was not renewed by itself."
    if days < DAYS_FAILURE:
        return [failure(said, cure)]
    return [warning(said, cure) if days < DAYS_WARNING else ok(said)]


async def platform(installation: Installation) -> Sequence[Verdict]:
    """A status call for a transid that nobody has: the answer tells whether the credentials are good."""
    tenants = installation.chosen.tenants
    async with PlatformClient(SECONDS, len(tenants), connect=3.0) as client:
        return list(await asyncio.gather(*(_let_in(client, tenant) for tenant in tenants)))


async def _let_in(client: PlatformClient, tenant: Tenant) -> Verdict:
    base_url, credentials = base_url_of(tenant, Api.MESSAGING), credentials_of(tenant, Api.MESSAGING)
    if base_url is None or credentials is None:
        missing = what_is_missing(tenant, Api.MESSAGING)
        return skipped(f"the tenant only listens: {missing} is not set", tenant.name)
    answer = await client.status(base_url, credentials, str(uuid4()))
    if answer.is_list:
        return ok("it takes the tenant's credentials", tenant.name)
    said = answer.description
    if answer.result is Result.UNKNOWN:  # so does a wrong address answer: a platform refuses a wrong key there
        wrong = await client.status(base_url, Key(uuid4().hex), str(uuid4()))
        if wrong.result is Result.REFUSED:
            return ok("it takes the tenant's credentials", tenant.name)
        cure = "Check RECEIVER_PLATFORM_URL: what answers there may be something else."
        return warning(
            f"it answers any key alike ({said}): what it makes of the tenant's is not known", cure, tenant.name
        )
    if answer.result is Result.REFUSED:
        cure = "Correct the tenant's key or service secret; 7007: activate the service on the platform."
        return failure(f"it refuses the tenant's credentials ({said})", cure, tenant.name)
    if answer.result is Result.THROTTLED:
        return warning(f"it asks to slow down ({said})", "Set RECEIVER_RATE below its limit.", tenant.name)
    cure = "Check RECEIVER_PLATFORM_URL, and the way out of this network."
    return failure(f"it gives no answer that can be read ({said})", cure, tenant.name)


async def outside_clock(installation: Installation) -> Sequence[Verdict]:
    """Our clock beside that of each platform: a signed token from the future is refused."""
    urls = dict.fromkeys(tenant.platform_url for tenant in installation.chosen.tenants if tenant.platform_url)
    if not urls:
        return [skipped("no tenant has a platform to compare with")]
    async with _session() as session:
        offs = [off for off in await asyncio.gather(*(_off(session, url, installation) for url in urls)) if off]
    if not offs:
        return [skipped("the platform tells no time")]
    return [judged(max(offs, key=abs), "the platform's", TOLERABLE)]


async def _off(session: aiohttp.ClientSession, url: str, installation: Installation) -> timedelta | None:
    """How far the clock behind `url` is ahead of ours, to a second; None where it tells none."""
    before = installation.now()
    try:
        async with session.head(url, allow_redirects=False) as answer:
            told = parsedate_to_datetime(answer.headers.get("date", ""))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return None
    if told.tzinfo is None:
        told = told.replace(tzinfo=UTC)
    # whole seconds, cut off: half a one later on average
    return told + timedelta(seconds=0.5) - (before + (installation.now() - before) / 2)


def _session() -> aiohttp.ClientSession:
    """Straight to the address, as the platform goes: no proxy of the environment, no cookies."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=ssl.create_default_context()),
        timeout=aiohttp.ClientTimeout(total=SECONDS),
        headers={"user-agent": f"receiver/{__version__} doctor"},
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def _addresses(parts: SplitResult) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return sorted({str(address[0]).partition("%")[0] for *_, address in found})


def _why(error: BaseException) -> str:
    """Why a connection failed, in words that hold no address: the address holds a token."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    number = getattr(getattr(error, "os_error", None) or error, "errno", None)
    return os.strerror(number).lower() if isinstance(number, int) and number > 0 else type(error).__name__

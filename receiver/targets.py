"""Which addresses of others we speak to: https and public ones, and what a tenant allows besides. Asks no DNS.

A name that is good here may still lead to an address that is not: `refused_address` is asked again when connecting.
"""

import ipaddress
import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import SplitResult, urlsplit

LONGEST_URL = 2_000  # characters; many servers read no longer line
_NO_URL = re.compile(r"[\s\x00-\x1f\x7f\\]")
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # NAT64: the last 32 bits are an IPv4 address

Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Allowed:
    """Hosts, by name, and networks that may be private and spoken to over plain http."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def has_host(self, host: str) -> bool:
        """Whether this name, or this address written out, was allowed."""
        address = literal(host)
        return host.lower().rstrip(".") in self.hosts if address is None else self.has_address(address)

    def has_address(self, address: Address) -> bool:
        """Whether an allowed network holds this address."""
        plain = _unwrapped(address)
        return any(plain in network for network in self.networks if network.version == plain.version)


NOTHING = Allowed()


def parse_allowed(text: str) -> Allowed:
    """`hooks.internal, 10.1.0.0/16, 127.0.0.1`. Raises ValueError naming the first part that is neither."""
    hosts: set[str] = set()
    networks: list[IPv4Network | IPv6Network] = []
    for part in (part.strip().lower() for part in text.split(",")):
        try:
            networks.append(ipaddress.ip_network(part.strip("[]")))
        except ValueError:
            name = part.rstrip(".")
            if part and (not _NAME.fullmatch(name) or not name.rpartition(".")[2].strip("0123456789")):
                raise ValueError(f"{part!r} is neither the name of a host nor a network such as 10.1.0.0/16") from None
            hosts.add(name)
    return Allowed(frozenset(hosts - {""}), tuple(networks))


def refused_target(url: str, allowed: Allowed = NOTHING) -> str | None:
    """Why nothing is told to this address, in a sentence; None: it may be, if its name leads to a good address."""
    if len(url) > LONGEST_URL:
        return f"it is longer than {LONGEST_URL} characters"
    parts = _split(url)
    if parts is None or parts.hostname is None:
        return "it is no address: it takes https://host[:port][/path]"
    host = parts.hostname
    if parts.username is not None or parts.password is not None:
        return "it names a user: put what proves the caller into the path or the query"
    is_allowed = allowed.has_host(host)
    if parts.scheme == "http" and not is_allowed:
        return "it is plain http: only https is spoken, but to hosts that the operator allows"
    if is_allowed:
        return None
    if host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost"):
        return "its host is this machine"
    address = literal(host)
    return None if address is None else refused_address(address, host, allowed)


def refused_address(address: Address, host: str, allowed: Allowed = NOTHING) -> str | None:
    """Why no connection is made to this address, to which `host` led; None: it is public, or allowed."""
    if allowed.has_host(host) or allowed.has_address(address) or is_public(address):
        return None
    return "its host leads to an address that is not public"


def is_public(address: Address) -> bool:
    """Whether anybody may be told at this address: no private, shared, local, reserved or multicast one."""
    plain = _unwrapped(address)
    if plain.is_multicast or plain.is_reserved or not plain.is_global:
        return False
    if isinstance(plain, IPv4Address):
        return True
    return plain in _GLOBAL_UNICAST and (plain.sixtofour is None or is_public(plain.sixtofour))


def literal(host: str) -> Address | None:
    """The address that `host` spells, in whatever spelling the system's own reader takes (`127.1`, `0x7f000001`)."""
    text = host.strip("[]").rstrip(".")
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(text)) if re.fullmatch(r"[0-9a-fA-FxX.]+", text) else None
    except OSError:
        return None


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _TRANSLATED else address


def _split(url: str) -> SplitResult | None:
    """The parts of an http or https address; None for what is none."""
    if _NO_URL.search(url) or not url.isprintable():
        return None
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    return parts if good else None

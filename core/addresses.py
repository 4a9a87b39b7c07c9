"""Who asked, through which proxies: the client's address, scheme and host of a request, decided without I/O.

A trusted proxy (a setting, by CIDR) appends the address it was called from to X-Forwarded-For or Forwarded (RFC 7239).
So the list is read from its end, past trusted proxies, to the first address that is none; what stands before it was
written by the client and is believed by nobody. A proxy that writes one of the two lets a client's other one through:
where both are there and differ, neither is believed. From anybody else all these headers count as absent.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

_PAIR: Final = re.compile(r'([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^",;\s]*)')
_HOST: Final = re.compile(r"([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_ORIGIN: Final = re.compile(
    r"(https?)://([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::([0-9]{1,5}))?"
)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
HOPS: Final = 16  # more proxies than anybody has; a longer list is not read


@lru_cache(maxsize=4096)
def source_of(address: str) -> str:
    """Who an address counts as: one host of IPv4, a /64 of IPv6, which one subscriber has for itself."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


FORWARDING: Final = frozenset(
    {"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"}
)
"""Fields that only a proxy writes: who sends one did not come straight here."""


class Hosts:
    """The hosts that are served: `names` (with a port where that matters), or by default what needs no name.

    Without names a request for an IP address or for localhost is served. That is safe from pages of other names that
    point here (DNS rebinding), because a browser sends the page's name.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._known: dict[str, bool] = {}

    def serves(self, host: str) -> bool:
        """Whether a request with this Host is for us."""
        known = self._known.get(host)
        if known is None:
            known = self._decide(host.lower())
            if len(self._known) < 1000:
                self._known[host] = known
        return known

    def _decide(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None or int(match[2] or "80") > 65535:
            return False
        if self._names:
            return host in self._names or match[1] in self._names
        return match[1] == "localhost" or _address(match[1]) is not None


class Asked(NamedTuple):
    """A request as its client made it: from which address, by which scheme, for which host ('' where it named none)."""

    address: str
    scheme: str
    host: str


class Origins:
    """The pages that may call from a browser: those of the place that they call, and those of `more` origins.

    An origin is compared whole, scheme, host and port (RFC 6454, 4 and 5). It is read as browsers write it and in no
    other way: lower case, no user, no path. Whoever sends none is no browser, and is let through elsewhere.
    """

    def __init__(self, more: Iterable[str]) -> None:
        self._more = frozenset(filter(None, map(_origin, more)))

    def lists(self, origin: str) -> bool:
        """Whether it is one of those that were named."""
        return bool(self._more) and _origin(origin) in self._more

    def own(self, origin: str, asked: Asked) -> bool:
        """Whether this page came from where the request goes to."""
        page = _origin(origin)
        return page is not None and page == _origin(f"{asked.scheme}://{asked.host.lower()}")

    def may_call(self, origin: str, asked: Asked) -> bool:
        """Whether a page of this origin may make this request."""
        return self.own(origin, asked) or self.lists(origin)


@lru_cache(maxsize=4096)
def _origin(text: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an origin; None for what is none."""
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return None
    port = int(match[3] or _DEFAULT_PORTS[match[1]])
    return (match[1], match[2], port) if 0 < port < 65536 else None


def why_not_origin(text: str) -> str | None:
    """What is wrong with an origin in a setting; None: nothing."""
    return None if _origin(text) else f"{text!r} is no origin: https://host or https://host:port, lower case"


def why_not_host(text: str) -> str | None:
    """What is wrong with a host in a setting; None: nothing."""
    match = _HOST.fullmatch(text.lower())
    if match is not None and int(match[2] or "80") < 65536:
        return None
    return f"{text!r} is no host: a name or an address, with or without :port"


def why_not_network(text: str) -> str | None:
    """What is wrong with a network in a setting; None: nothing."""
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        if "has host bits set" in str(error):
            return f"{text!r} has host bits set: {ipaddress.ip_network(text, strict=False)} is meant?"
        return f"{text!r} is no address and no network: 10.0.0.0/8, 192.0.2.1"
    return None


class Proxies:
    """The proxies that are believed."""

    def __init__(self, cidrs: Iterable[str]) -> None:
        self._networks = tuple(ipaddress.ip_network(cidr) for cidr in cidrs)

    def asked(
        self,
        peer: str,
        host: str,
        *,
        forwarded_for: Sequence[str] = (),
        forwarded: Sequence[str] = (),
        proto: Sequence[str] = (),
        forwarded_host: Sequence[str] = (),
    ) -> Asked:
        """What the request from `peer` for `host` was, by its X-Forwarded-For, Forwarded, -Proto and -Host fields."""
        if not self.trusts(peer):
            return Asked(peer, "http", host)
        elements = _elements(forwarded)
        address = self._came_from(peer, [element.get("for", "") for element in elements])
        if forwarded_for:
            other = self._came_from(peer, [hop.strip() for hop in ",".join(forwarded_for).split(",")][-HOPS:])
            if forwarded and other != address:
                return Asked(peer, "http", host)
            address = other
        last = elements[-1:]
        schemes = [one.strip().lower() for one in ",".join(proto).split(",")][-1:]
        scheme = last[0].get("proto", "") if last else schemes[0] if schemes else ""
        named = last[0].get("host", "") if last else ",".join(forwarded_host).split(",")[-1].strip()
        return Asked(
            address, scheme.lower() if scheme.lower() in ("http", "https") else "http", named or host
        )

    def _came_from(self, peer: str, hops: Sequence[str]) -> str:
        """The first address that is no trusted proxy's. `hops`: nearest last."""
        address = peer
        for hop in reversed(hops):
            if not self.trusts(address):
                break
            found = _address(hop)
            if found is None:  # unknown, obfuscated or nonsense: the proxy that said so is the last we know
                break
            address = found
        return address

    def trusts(self, address: str) -> bool:
        """Whether what this address forwards is believed."""
        return bool(self._networks) and _in(address, self._networks)


@lru_cache(maxsize=4096)
def _in(address: str, networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return any(ip in network for network in networks)


def _elements(forwarded: Sequence[str]) -> list[dict[str, str]]:
    """The elements of Forwarded, nearest last. One that cannot be read hides what stands before it."""
    elements: list[dict[str, str]] = []
    for text in _split(",".join(forwarded), ",")[-HOPS:] if forwarded else ():
        pairs = [_PAIR.fullmatch(pair.strip()) for pair in _split(text, ";") if pair.strip()]
        if all(pairs) and pairs:
            elements.append({pair[1].lower(): _unquoted(pair[2]) for pair in pairs if pair})
        else:
            elements = [{}]
    return elements


def _split(text: str, at: str) -> list[str]:
    """At separators that are in no quoted string."""
    parts, quoted, escaped, start = [], False, False, 0
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\" and quoted:
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == at and not quoted:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _address(hop: str) -> str | None:
    """The address of a hop, which may have a port: 192.0.2.1, 192.0.2.1:80, [2001:db8::1], [2001:db8::1]:80."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        return str(ipaddress.ip_address(hop))
    except ValueError:
        return None

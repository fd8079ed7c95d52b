"""Which side of the platform's edge an address is on.

1. Inside: the configured networks, and what the host reveals to be its own (exporter/networks.py).
2. A network that the host is connected to can answer at hop 1 alone. The same addresses farther
   away are somebody else's, who has chosen the same private network: unknown.
3. Outside: what is not in the configured networks, where these speak of its family at all. What
   a host knows of itself ends long before the platform does, so it makes nobody external.
4. Unknown: the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from exporter.model import ReplyKind, Trace, Zone

Network = IPv4Network | IPv6Network


class Own(NamedTuple):
    """A network that the host reveals to be its platform's; `what` it is, in words.

    `on_link`: it is reached without a router, so whoever answers from it stands at hop 1.
    """

    network: Network
    what: str
    on_link: bool


#: Never forwarded (RFC 1122, RFC 4291), so whoever answers from them is this host or its neighbour.
_NEAR = tuple(map(ip_network, ("127.0.0.0/8", "::1/128", "fe80::/10")))
#: Not to be forwarded either (RFC 3927), but routers of tunnels have such addresses, and are heard.
_LINK_LOCAL = ip_network("169.254.0.0/16")


class ZoneMap:
    """Zones by the configured networks and the host's own; without any, mostly UNKNOWN."""

    def __init__(self, configured: Iterable[Network], own: Iterable[Own] = ()) -> None:
        configured, own = tuple(configured), tuple(own)
        self._platform = (*_NEAR, *configured, *(one.network for one in own if not one.on_link))
        self._on_link = (_LINK_LOCAL, *(one.network for one in own if one.on_link))
        self._families = {network.version for network in configured}
        self.zone = lru_cache(maxsize=65536)(self._zone)

    def zones_of(self, trace: Trace) -> dict[str, Zone]:
        """The zone of every responder of a trace and of its destination."""
        hops = {trace.flow.destination: trace.distance or 1}
        for probe, reply in trace.answers:
            # Who rejects a probe may stand a hop before the one that it was meant for.
            hop = probe.ttl - (reply.kind is ReplyKind.UNREACHABLE)
            hops[reply.address] = min(hop, hops.get(reply.address, hop))
        return {address: self.zone(address, hop) for address, hop in sorted(hops.items())}

    def last_platform_hop(self, trace: Trace) -> int:
        """The farthest hop from which somebody inside said time-exceeded, 0 for none."""
        return max(
            (
                hop.ttl
                for hop in trace.hops
                for answer in hop.answers
                if answer.reply.kind is ReplyKind.TIME_EXCEEDED
                and self.zone(answer.reply.address, hop.ttl) is Zone.PLATFORM
            ),
            default=0,
        )

    def _zone(self, text: str, hop: int = 1) -> Zone:
        """The zone of an address that answers at a hop, or not before it."""
        address = ip_address(text)
        if any(address in network for network in self._platform):
            return Zone.PLATFORM
        if any(address in network for network in self._on_link):
            return Zone.PLATFORM if hop <= 1 else Zone.UNKNOWN
        return Zone.EXTERNAL if address.version in self._families else Zone.UNKNOWN

"""Which side of the platform's edge an address is on."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from exporter.model import Trace, Zone

#: Never routed (RFC 3927, RFC 4291, RFC 1122), so whoever answers from them is on this host's
#: own link: a Cloud Foundry cell's gateway is 169.254.0.1, whatever networks are configured.
_ALWAYS_PLATFORM = tuple(
    ip_network(text) for text in ("127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10")
)


class ZoneMap:
    """Zones by the configured platform networks; without any, most addresses are UNKNOWN."""

    def __init__(self, platform_networks: Iterable[IPv4Network | IPv6Network]) -> None:
        self._networks = tuple(platform_networks)
        self.zone = lru_cache(maxsize=65536)(self._zone)

    def zones_of(self, trace: Trace) -> dict[str, Zone]:
        """The zone of every responder of a trace and of its destination."""
        addresses = {answer.reply.address for answer in trace.answers} | {trace.flow.destination}
        return {address: self.zone(address) for address in sorted(addresses)}

    def _zone(self, text: str) -> Zone:
        address = ip_address(text)
        if any(address in network for network in (*_ALWAYS_PLATFORM, *self._networks)):
            return Zone.PLATFORM
        return Zone.EXTERNAL if self._networks else Zone.UNKNOWN

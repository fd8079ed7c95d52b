"""Which side of the platform's edge an address is on, and what its part of the network is called.

1. Of all networks that an address is in the longest decides: those of the zones that the
   configuration names, PLATFORM_NETWORKS (a zone called "platform"), and what the host reveals to
   be its own (exporter/networks.py). Of equal ones the configured one does.
2. Inside: zones with the flag, PLATFORM_NETWORKS, the host's own.
3. A network that the host is connected to can answer at hop 1 alone. The same addresses farther
   away are somebody else's, who has chosen the same private network: unknown, unless a wider
   zone has them all inside.
4. Outside: zones without the flag; and what is in no network, where a configured one that is
   inside speaks of its family. What a host knows of itself ends long before the platform does,
   so it makes nobody external.
5. Unknown: the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from exporter.diagnosis.once import once
from exporter.model import Answer, NamedZone, Place, ReplyKind, Trace, Zone

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


class _Area(NamedTuple):
    """What a network says of the addresses in it."""

    place: Place
    on_link: bool = False


_PLATFORM, _EXTERNAL, _UNKNOWN = (_Area(Place(side, side.value)) for side in Zone)
_ON_LINK = _PLATFORM._replace(on_link=True)

#: IP version, prefix length, and the bits in front of it as a number.
_Key = tuple[int, int, int]


class ZoneMap:
    """Zones by the configured networks and the host's own; without any, mostly UNKNOWN.

    `configured` are the platform's networks without a name, `named` the zones that have one.
    """

    def __init__(
        self,
        configured: Iterable[Network] = (),
        own: Iterable[Own] = (),
        named: Iterable[NamedZone] = (),
    ) -> None:
        configured, own, named = tuple(configured), tuple(own), tuple(named)
        zones = {network: _area_of(zone) for zone in named for network in zone.networks}
        # What comes later replaces what is said of the same network before.
        areas = {
            **dict.fromkeys(_NEAR, _PLATFORM),
            _LINK_LOCAL: _ON_LINK,
            **{one.network: _ON_LINK if one.on_link else _PLATFORM for one in own},
            **dict.fromkeys(configured, _PLATFORM),
            **zones,
        }
        self._areas = {_key(n.network_address, n.prefixlen): area for n, area in areas.items()}
        self._lengths = sorted({(n.version, n.prefixlen) for n in areas}, reverse=True)
        inside = (
            *configured,
            *(n for n, area in zones.items() if area.place.zone is Zone.PLATFORM),
        )
        self._families = {network.version for network in inside}
        self._area = lru_cache(maxsize=65536)(self._find)

    def zone(self, address: str, hop: int = 1) -> Zone:
        """The side of an address that answers at a hop, or not before it."""
        return self._area(address, hop).place.zone

    def name(self, address: str, hop: int = 1) -> str:
        """What its zone is called; platform, external or unknown where it has no name."""
        return self._area(address, hop).place.zone_name

    def places_of(self, trace: Trace, others: Iterable[Trace] = ()) -> dict[str, Place]:
        """Every responder of a trace, its destination, and the responders of other traces."""
        hops: dict[str, int] = {}
        for other in others:
            hops |= _heard_at(other)
        hops |= _hops(trace)
        return {address: self._area(address, hop).place for address, hop in sorted(hops.items())}

    def last_platform_hop(self, trace: Trace) -> int:
        """The farthest hop from which somebody inside said time-exceeded, 0 for none.

        Whichever trace was answered: it only speaks against `external`.
        """
        inside = (
            hop.ttl
            for hop in reversed(trace.hops)
            for answer in hop.known
            if answer.reply.kind is ReplyKind.TIME_EXCEEDED
            and self.zone(answer.reply.address, hop.ttl) is Zone.PLATFORM
        )
        return next(inside, 0)

    def _find(self, text: str, hop: int) -> _Area:
        address = ip_address(text)
        found = list(self._containing(address))
        if not found:
            return _EXTERNAL if address.version in self._families else _UNKNOWN
        if not found[0].on_link or hop <= 1:
            return found[0]
        wider = next((area for area in found if not area.on_link), _UNKNOWN)
        return wider if wider.place.zone is Zone.PLATFORM else _UNKNOWN

    def _containing(self, address: IPv4Address | IPv6Address) -> Iterator[_Area]:
        """What is said of the address, from its longest network on."""
        for version, length in self._lengths:
            if version == address.version:
                area = self._areas.get(_key(address, length))
                if area:
                    yield area


def _area_of(zone: NamedZone) -> _Area:
    return _Area(Place(Zone.PLATFORM if zone.platform else Zone.EXTERNAL, zone.name))


def _key(address: IPv4Address | IPv6Address, length: int) -> _Key:
    return address.version, length, int(address) >> (address.max_prefixlen - length)


@once
def _heard_at(trace: Trace) -> Mapping[str, int]:
    """The same without a destination that was not heard."""
    heard = {answer.reply.address for answer in _told(trace)}
    return {address: hop for address, hop in _hops(trace).items() if address in heard}


@once
def _hops(trace: Trace) -> Mapping[str, int]:
    """Every responder of a trace and its destination, each with the nearest hop it may be at."""
    hops = {trace.flow.destination: trace.distance or 1}
    for probe, reply in _told(trace):
        # Who rejects a probe may stand a hop before the one that it was meant for.
        hop = probe.ttl - (reply.kind is ReplyKind.UNREACHABLE)
        hops[reply.address] = min(hop, hops.get(reply.address, hop))
    return hops


def _told(trace: Trace) -> list[Answer]:
    """The answers to a trace, and to others at the hops that it spared."""
    return [*trace.answers, *(answer for hop in trace.hops for answer in hop.shared)]

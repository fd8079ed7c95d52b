"""The networks that this host shows to be its own: where the platform begins.

The addresses of the interfaces, each with the network that it connects to, are read from the
kernel: without privilege, and without sending anything.

1. A link that ends elsewhere (point-to-point: tunnels, VPNs) and an implausibly wide network count
   with this host's own address alone.
2. Silk's /32 stands for the network of all containers, and the runtime tells the cell's address.
3. What cannot be read is not known; nothing here raises.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from exporter.diagnosis.silk import GATEWAY, OVERLAY
from exporter.diagnosis.zones import Network, Own
from exporter.model import Source
from exporter.rtnetlink import ask, attributes

#: IP version -> the prefix of the widest connected network that is taken for the platform's own.
WIDEST = {4: 16, 6: 64}

# linux/rtnetlink.h, linux/if_addr.h, linux/if.h
_GETLINK, _GETADDR = 18, 22
_IFADDRMSG = struct.Struct("=BBBBi")
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFINFOMSG = struct.Struct("=BxHiII")
_IFF_POINTOPOINT = 0x10


def revealed(source: Source) -> tuple[Own, ...]:
    """The host's own networks, none of them part of another."""
    found: dict[Network, Own] = {}
    # The cell may be no address, and a sandbox may lack rtnetlink or speak it differently.
    with suppress(ValueError):
        cell = ip_network(ip_address(source.cell))
        found[cell] = Own(cell, "this instance's cell", on_link=False)
    with suppress(OSError, struct.error, ValueError, KeyError):
        for own in _of_interfaces():
            found.setdefault(own.network, own)
    return tuple(own for own in found.values() if not _is_needless(own.network, found))


def _is_needless(network: Network, others: Iterable[Network]) -> bool:
    """Whether the network is part of another one, or one that is nobody else's anywhere."""
    if network.is_loopback or (network.version == 6 and network.is_link_local):
        return True
    return any(
        network.network_address in other and other.prefixlen < network.prefixlen for other in others
    )


# -- what the kernel's answers mean ----------------------------------------------------


class _Address(NamedTuple):
    """An interface's address; `peer` is the other end's, on an ordinary link its own."""

    local: str
    peer: str
    prefix: int
    interface: int


def _of_interfaces() -> Iterator[Own]:
    for address in _addresses():
        if _is_silk(address):
            yield Own(OVERLAY, "Cloud Foundry's containers", on_link=False)
        own = ip_network(address.local)
        yield Own(own, "an address of this host", on_link=False)
        widest = WIDEST[own.version]
        if address.prefix >= widest and not _leads_elsewhere(address.interface):
            connected = ip_network((address.peer, address.prefix), strict=False)
            yield Own(connected, "a network that this host is connected to", on_link=True)


def _is_silk(address: _Address) -> bool:
    is_inside = ip_address(address.local) in OVERLAY
    return is_inside and (address.peer, address.prefix) == (GATEWAY, 32)


def _addresses() -> Iterator[_Address]:
    for body in ask(_GETADDR, _IFADDRMSG.pack(0, 0, 0, 0, 0), dump=True):
        _, prefix, _, _, interface = _IFADDRMSG.unpack_from(body)
        found = attributes(body[_IFADDRMSG.size :])
        peer = found[_IFA_ADDRESS]
        local = found.get(_IFA_LOCAL, peer)  # IPv6 tells it only where they differ
        yield _Address(_text(local), _text(peer), prefix, interface)


def _leads_elsewhere(interface: int) -> bool:
    """Whether a link is a tunnel or the like, whose other end is somewhere else, or may be."""
    bodies = ask(_GETLINK, _IFINFOMSG.pack(0, 0, interface, 0, 0))
    return not bodies or any(_IFINFOMSG.unpack_from(b)[3] & _IFF_POINTOPOINT for b in bodies)


def _text(packed: bytes) -> str:
    return str(ip_address(packed))

"""Whether a gateway leads to a destination, from the kernel's routing table."""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress

from exporter.rtnetlink import ask, attribute, attributes

# linux/rtnetlink.h
_GETROUTE = 26
_DESTINATION, _GATEWAY, _VIA = 1, 5, 18
_ROUTE = struct.Struct("=8BI")  # struct rtmsg: family, lengths of both prefixes, ..., flags


def gateway_to(destination: str) -> str | None:
    """The router that leads to an address.

    "" when the table names none (the host's own networks, a link without addresses), None when
    the kernel does not say, as for an address without a route.
    """
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    packed = socket.inet_pton(family, destination)
    route = _ROUTE.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0)
    with suppress(OSError, struct.error, ValueError):  # a sandbox may speak it differently
        for answer in ask(_GETROUTE, route + attribute(_DESTINATION, packed)):
            return _gateway_in(answer)
    return None


def _gateway_in(answer: bytes) -> str:
    """The gateway that an answer to RTM_GETROUTE names."""
    family, *_ = _ROUTE.unpack_from(answer)
    found = attributes(answer[_ROUTE.size :])
    if gateway := found.get(_GATEWAY):
        return socket.inet_ntop(family, gateway)
    if via := found.get(_VIA):  # struct rtvia: the gateway's own family, then its address
        return socket.inet_ntop(int.from_bytes(via[:2], sys.byteorder), via[2:])
    return ""

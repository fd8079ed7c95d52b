"""Which addresses a NAT gives the probes, read from what routers behind it quote of them.

Most NATs give a quote its old addresses back, so that nothing shows. Everything here may be cut off
or hostile; what cannot be read says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from socket import AF_INET, AF_INET6, inet_ntop
from struct import Struct

from exporter.model import Packet

_PORT = Struct("!H")
_TCP, _ICMP, _ICMP6 = 6, 1, 58
#: Destination unreachable and time exceeded (RFC 792, RFC 4443).
_ERRORS = {_ICMP: (3, 11), _ICMP6: (1, 3)}
#: Octets of an ICMP error in front of what it quotes.
_ICMP_HEADER = 8
_IP_HEADER, _IP6_HEADER = 20, 40


def translations(packets: Sequence[Packet]) -> Iterator[tuple[str, int]]:
    """Source address and port of each quoted SYN that left with other ones."""
    sent = {_source(packet.data) for packet in packets if packet.sent}
    for packet in packets:
        source = None if packet.sent else _source(_quote(packet.data))
        if source and source not in sent:
            yield source


def _quote(data: bytes) -> bytes:
    """The packet that an ICMP error quotes, b"" where it is none."""
    protocol, start = _payload(data)
    if data[start : start + 1] and data[start] in _ERRORS.get(protocol, ()):
        return data[start + _ICMP_HEADER :]
    return b""


def _source(data: bytes) -> tuple[str, int] | None:
    """Where a TCP segment comes from, None for anything else."""
    protocol, start = _payload(data)
    if protocol != _TCP or len(data) < start + _PORT.size:
        return None
    (port,) = _PORT.unpack_from(data, start)
    if start == _IP6_HEADER and data[0] >> 4 == 6:
        return inet_ntop(AF_INET6, data[8:24]), port
    return inet_ntop(AF_INET, data[12:16]), port


def _payload(data: bytes) -> tuple[int, int]:
    """The protocol of an IP packet without extension headers, and where it begins; (0, 0): none."""
    if len(data) >= _IP6_HEADER and data[0] >> 4 == 6:
        return data[6], _IP6_HEADER
    if len(data) >= _IP_HEADER and data[0] >> 4 == 4:
        return data[9], (data[0] & 0xF) * 4  # RFC 791: IHL
    return 0, 0

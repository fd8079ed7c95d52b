"""Packets of both IP versions as the network behind the TUN device reads and makes them.

What the prober sends is a TCP segment or an ICMP echo request in an IP packet without options
or extension headers. Anything else is None to `read`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from tests.lab.tun import checksum

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
WINDOW = 64_240
SEQUENCE_SPACE = 1 << 32
TCP_PROTOCOL = 6
#: RFC 4884: the quote is padded to so many octets in front of an extension.
PADDED = 128

_IP4 = struct.Struct("!BBHHHBBH4s4s")
_IP6 = struct.Struct("!IHBB16s16s")
_TCP = struct.Struct("!HHIIBBHHH")
_LONG = struct.Struct("!I")
_WORD = struct.Struct("!H")


@dataclass(frozen=True, slots=True)
class Version:
    """Where the fields of one IP version stand, and what its ICMP calls things."""

    family: str
    first_octet: int
    header: int
    ttl: int
    protocol: int
    source: slice
    destination: slice
    icmp: int
    echo_request: int
    echo_reply: int
    #: RFC 4884: the octet of the ICMP header that tells the quote's length, and its unit.
    quote_length: int
    quote_unit: int


IPV4 = Version("ipv4", 0x45, 20, 8, 9, slice(12, 16), slice(16, 20), 1, 8, 0, 5, 4)
IPV6 = Version("ipv6", 0x60, 40, 7, 6, slice(8, 24), slice(24, 40), 58, 128, 129, 4, 8)


class Packet(NamedTuple):
    """A packet of the prober; an echo request's ports are 0 and its identifier, its flags 0."""

    version: Version
    octets: bytes
    ttl: int
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    sequence: int
    acknowledgement: int
    flags: int

    @property
    def is_echo(self) -> bool:
        """Whether it is an ICMP echo request."""
        return self.octets[self.version.protocol] == self.version.icmp

    @property
    def flow(self) -> tuple[bytes, int, bytes, int]:
        """What load balancers choose a path by."""
        return self.source, self.source_port, self.destination, self.destination_port

    @property
    def is_syn(self) -> bool:
        """Whether it opens a connection."""
        return self.flags & (SYN | ACK) == SYN


def read(octets: bytes) -> Packet | None:
    """The packet, None when it is none that the network cares about."""
    version = IPV4 if octets[:1] == b"\x45" else IPV6
    if len(octets) < version.header + 8 or octets[0] >> 4 != version.first_octet >> 4:
        return None
    protocol, at = octets[version.protocol], version.header
    found = (version, octets, octets[version.ttl], octets[version.source])
    destination = octets[version.destination]
    if protocol == TCP_PROTOCOL and len(octets) >= at + _TCP.size:
        source_port, port, sequence, acknowledgement, _, flags, *_ = _TCP.unpack_from(octets, at)
        return Packet(*found, destination, source_port, port, sequence, acknowledgement, flags)
    if protocol == version.icmp and octets[at] == version.echo_request:
        (identifier,) = _WORD.unpack_from(octets, at + 4)
        return Packet(*found, destination, 0, identifier, 0, 0, 0)
    return None


def rewritten(packet: Packet, *, shift: int = 0, source: bytes = b"", port: int = 0) -> Packet:
    """A TCP packet with its sequence number shifted, or with another source, if one is given.

    The checksum inside is left as it is: nobody here looks at it, and no kernel looks at that of
    a quote.
    """
    octets = bytearray(packet.octets)
    at = packet.version.header
    sequence = (packet.sequence + shift) % SEQUENCE_SPACE
    octets[packet.version.source] = source = source or packet.source
    _WORD.pack_into(octets, at, port := port or packet.source_port)
    _LONG.pack_into(octets, at + 4, sequence)
    return packet._replace(octets=bytes(octets), source=source, source_port=port, sequence=sequence)


# -- what comes back -------------------------------------------------------------------


def segment(packet: Packet, flags: int, acknowledgement: int, ttl: int) -> bytes:
    """A TCP segment in the destination's name; one with data that is expected of nobody."""
    fields = (
        packet.destination_port,
        packet.source_port,
        # A RST that answers an ACK is taken only at the sequence number that the ACK names.
        packet.acknowledgement,
        acknowledgement % SEQUENCE_SPACE,
        _TCP.size // 4 << 4,
        flags,
        WINDOW,
    )
    tcp = _TCP.pack(*fields, 0, 0)
    total = _sum(packet, TCP_PROTOCOL, packet.destination, tcp)
    return ip(packet, TCP_PROTOCOL, packet.destination, ttl, _TCP.pack(*fields, total, 0))


def echo_reply(packet: Packet, ttl: int) -> bytes:
    """The destination's answer to an echo request."""
    version = packet.version
    message = bytes((version.echo_reply, 0, 0, 0)) + packet.octets[version.header + 4 :]
    return _icmp(packet, packet.destination, ttl, message)


class Error(NamedTuple):
    """An ICMP error: who sends it, and what it says and shows."""

    sender: bytes
    kind: int
    code: int
    #: Left in the packet when it arrived at the sender.
    quoted_ttl: int
    #: RFC 4950, the topmost label of an MPLS tunnel; None outside of one.
    label: int | None = None


def icmp_error(packet: Packet, error: Error, to: bytes, ttl: int) -> bytes:
    """The error, which quotes the packet as it arrived at its sender."""
    version = packet.version
    quote = _with_ttl(packet, error.quoted_ttl)
    header = bytearray((error.kind, error.code, 0, 0, 0, 0, 0, 0))
    if error.label is not None:
        quote = quote.ljust(PADDED, b"\0")
        header[version.quote_length] = PADDED // version.quote_unit
        quote += _mpls(error.label)
    return _icmp(packet._replace(source=to), error.sender, ttl, bytes(header) + quote)


def _with_ttl(packet: Packet, ttl: int) -> bytes:
    octets = bytearray(packet.octets)
    octets[packet.version.ttl] = ttl
    if packet.version is IPV4:
        octets[10:12] = b"\0\0"
        _WORD.pack_into(octets, 10, checksum(bytes(octets[: packet.version.header])))
    return bytes(octets)


def _mpls(label: int) -> bytes:
    """RFC 4884's extension with RFC 4950's object: one entry, bottom of the stack, TTL 1."""
    entry = _LONG.pack(label << 12 | 1 << 8 | 1)
    body = struct.pack("!HBB", 4 + len(entry), 1, 1) + entry
    total = checksum(b"\x20\0\0\0" + body)
    return b"\x20\0" + _WORD.pack(total) + body


def _icmp(packet: Packet, sender: bytes, ttl: int, message: bytes) -> bytes:
    message = message + b"\0" * (len(message) % 2)
    if packet.version is IPV4:
        total = checksum(message)
    else:
        total = _sum(packet, packet.version.icmp, sender, message)
    message = message[:2] + _WORD.pack(total) + message[4:]
    return ip(packet, packet.version.icmp, sender, ttl, message)


def _sum(packet: Packet, protocol: int, sender: bytes, payload: bytes) -> int:
    """The checksum with the pseudo header; that of IPv4 gives the same sum in this order."""
    pseudo = struct.pack("!II", len(payload), protocol)
    return checksum(sender + packet.source + pseudo + payload)


def ip(packet: Packet, protocol: int, sender: bytes, ttl: int, payload: bytes) -> bytes:
    """The payload in an IP packet to the sender of a packet."""
    if packet.version is IPV6:
        header = _IP6.pack(6 << 28, len(payload), protocol, ttl, sender, packet.source)
        return header + payload
    fields = (0x45, 0, _IP4.size + len(payload), 0, 0, ttl, protocol)
    total = checksum(_IP4.pack(*fields, 0, sender, packet.source))
    return _IP4.pack(*fields, total, sender, packet.source) + payload

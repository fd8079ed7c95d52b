"""Bytes to model and back: SYN templates, and the decoding of what answers them.

Templates are made by scapy once for each IP version and patched for each flow and each probe;
decoding is struct alone (0.4 us against scapy's 340 us). tests/ hold scapy against both. No
socket here.

Every decoder returns a value, never an exception: what is none of our business is
`NOT_OURS`, what claims to be our business and cannot be read is `MALFORMED`.

A raw IPv4 socket gives whole packets. A raw IPv6 socket gives what stands behind the IPv6
headers (RFC 3542, section 3); sender and hop limit come beside it, and are arguments here.

Each SYN has a mark, by which its quote is known where somebody rewrites sequence numbers: the
IP ID of IPv4. IPv6 has none, and its flow label has to stay the same in a flow, since routers
choose paths by it (RFC 6438); there the mark is the low half of TSval, the sender's timestamp
(RFC 7323). ICMPv6 quotes as much as fits into 1280 octets (RFC 4443), so the whole SYN.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntoa, inet_ntop, inet_pton
from struct import Struct
from typing import NamedTuple

from exporter.model import Family, Flow, MplsLabel

#: Bound on an RFC 4950 label stack; real ones have one to three entries.
MAX_LABELS = 8
#: Bound on the extension headers between a quoted IPv6 header and its TCP header.
MAX_HEADERS = 8

_IP = Struct("!BxHHHBBxx4s4s")  # RFC 791: ver/ihl, length, id, flags/offset, ttl, proto, addresses
_IP6 = Struct("!BxxxHBB16s16s")  # RFC 8200: ver, payload length, next header, hop limit, addresses
_PORTS_SEQUENCE = Struct("!HHI")  # RFC 9293, the 8 octets that every quote holds
_PORTS = Struct("!HH")
_TCP = Struct("!HHIIBBH")  # the same, with acknowledgement, offset, flags, window
_OBJECT = Struct("!HBB")  # RFC 4884 section 8: length, class, type
_WORD = Struct("!H")
_LONG = Struct("!I")
_PROTOCOL_ICMP = 1
_PROTOCOL_TCP = 6
_FRAGMENT_OFFSET = 0x1FFF
_MINIMUM_IP = 20
_MINIMUM_ICMP = 8
_QUOTED_TRANSPORT = 8
#: RFC 4884: the octets of quote in front of an extension, at least.
_PADDED = 128
_EXTENSION_HEADER = 4
#: Type of an ICMP error that is for us -> whether it is a time-exceeded (RFC 792, RFC 4443).
_ICMP_ERRORS = {3: False, 11: True}
_ICMP6_ERRORS = {1: False, 3: True}

_FRAGMENT = 44  # RFC 8200, section 4.5: the offset is the upper 13 bits of the second word
_FRAGMENT_OFFSET_6 = 0xFFF8
#: IPv6 headers that may precede TCP -> (octets in a unit of their length, octets besides):
#: hop-by-hop, routing and destination options (RFC 8200), authentication (RFC 4302).
_EXTENSION_HEADERS = {0: (8, 8), 43: (8, 8), 60: (8, 8), 51: (4, 8), _FRAGMENT: (0, 8)}
_MINIMUM_EXTENSION = 8

#: Where our SYNs have the timestamp, from the TCP header on; see `_build_syn`.
_TIMESTAMP_AT = 26
_TIMESTAMP = b"\x08\x0a"  # RFC 7323: kind and length
_MARK_AT = _TIMESTAMP_AT + 4  # the low half of TSval

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10


class Undecoded(Enum):
    """Why a packet gives nothing."""

    NOT_OURS = "not ours"
    MALFORMED = "malformed"


NOT_OURS = Undecoded.NOT_OURS
MALFORMED = Undecoded.MALFORMED


class IcmpError(NamedTuple):
    """An ICMP time-exceeded (`expired`) or destination-unreachable, and the SYN that it quotes.

    `reply_ttl` is None where it is not known; `mark` 0, which no SYN has, where the quote ends
    before it.
    """

    sender: str
    reply_ttl: int | None
    expired: bool
    type: int
    code: int
    source: str
    source_port: int
    destination: str
    destination_port: int
    sequence: int
    mark: int
    quoted_ttl: int
    mpls: tuple[MplsLabel, ...]


class Segment(NamedTuple):
    """A TCP segment toward us."""

    sender: str
    sender_port: int
    destination_port: int
    acknowledgement: int
    flags: int
    reply_ttl: int | None


# -- out -------------------------------------------------------------------------------


class _Layout(NamedTuple):
    """Where the fields of a SYN stand that differ from probe to probe."""

    mark: int
    ttl: int
    sequence: int
    checksum: int
    #: The part of the mark that the TCP checksum covers.
    summed: int
    #: Where the addresses begin; the ports stand right behind them.
    ends: int


_LAYOUTS = {
    Family.IPV4: _Layout(mark=4, ttl=8, sequence=24, checksum=36, summed=0, ends=12),
    Family.IPV6: _Layout(
        mark=40 + _MARK_AT, ttl=7, sequence=44, checksum=56, summed=0xFFFF, ends=8
    ),
}


class SynTemplate:
    """The SYN of one flow; `patch` gives its bytes for one probe.

    The IP checksum is left alone: the kernel fills it in (raw(7), IP_HDRINCL). IPv6 has none.
    """

    __slots__ = ("_layout", "_packet", "_sum_without_numbers")

    def __init__(self, flow: Flow) -> None:
        family = Family.of(flow.destination)
        self._packet = bytearray(_build_syn(family))
        self._layout = _LAYOUTS[family]
        ends = _pack_ends(family, flow)
        self._packet[self._layout.ends : self._layout.ends + len(ends)] = ends
        (checksum,) = _WORD.unpack_from(self._packet, self._layout.checksum)
        # The one's complement sum of 16-bit words is the number modulo 2^16 - 1.
        self._sum_without_numbers = (checksum ^ 0xFFFF) + int.from_bytes(ends, "big") % 0xFFFF

    def patch(self, ttl: int, mark: int, sequence: int) -> bytearray:
        """The SYN with these fields; the buffer is the same at each call."""
        packet = self._packet
        mark_at, ttl_at, sequence_at, checksum_at, summed, _ = self._layout
        # RFC 1624: the one's complement sum with the new words added.
        total = self._sum_without_numbers + (sequence >> 16) + (sequence & 0xFFFF) + (mark & summed)
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        _WORD.pack_into(packet, mark_at, mark)
        packet[ttl_at] = ttl
        _LONG.pack_into(packet, sequence_at, sequence)
        _WORD.pack_into(packet, checksum_at, total ^ 0xFFFF)
        return packet


def _pack_ends(family: Family, flow: Flow) -> bytes:
    """Addresses and ports, as they stand behind each other in a SYN."""
    address_family = AF_INET6 if family is Family.IPV6 else AF_INET
    return b"".join(
        (
            inet_pton(address_family, flow.source),
            inet_pton(address_family, flow.destination),
            _PORTS.pack(flow.source_port, flow.destination_port),
        )
    )


#: The largest segment for an MTU of 1500, as a kernel would announce it. Hosts are known to drop
#: or reset SYNs without one.
_MAXIMUM_SEGMENT = {Family.IPV4: 1460, Family.IPV6: 1440}


@lru_cache
def _build_syn(family: Family) -> bytes:
    """A SYN without ends, sequence number and mark, and the options that a Linux kernel sends.

    Built once for each IP version: what differs between flows is patched.
    """
    from scapy.config import conf  # here, because it takes 45 MB and 0.25 s

    # What is not needed here: the host's routes, which may be many.
    conf.route_autoload = conf.route6_autoload = False
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6

    options = [
        ("MSS", _MAXIMUM_SEGMENT[family]),
        ("SAckOK", b""),
        ("Timestamp", (1 << 16, 0)),
        ("NOP", None),
        ("WScale", 7),
    ]
    tcp = TCP(sport=0, dport=0, seq=0, flags="S", window=64240, options=options)
    if family is Family.IPV6:
        return bytes(IPv6(src="::", dst="::") / tcp)
    nobody = inet_ntoa(bytes(4))
    return bytes(IP(src=nobody, dst=nobody, flags="DF") / tcp)


# -- in, IPv4 --------------------------------------------------------------------------


def decode_icmp(packet: bytes) -> IcmpError | Undecoded:
    """An IPv4 packet from a raw ICMP socket, its IP header included."""
    size = len(packet)
    if size < _MINIMUM_IP:
        return MALFORMED
    version_ihl, _, _, _, reply_ttl, protocol, sender, _ = _IP.unpack_from(packet)
    start = (version_ihl & 0xF) * 4
    if version_ihl >> 4 != 4 or protocol != _PROTOCOL_ICMP:
        return NOT_OURS
    if start < _MINIMUM_IP or size < start + _MINIMUM_ICMP:
        return MALFORMED
    if packet[start] not in _ICMP_ERRORS:
        return NOT_OURS
    return _decode_quote(packet, start, sender, reply_ttl)


def _decode_quote(
    packet: bytes, icmp_at: int, sender: bytes, reply_ttl: int
) -> IcmpError | Undecoded:
    quote = icmp_at + _MINIMUM_ICMP
    size = len(packet)
    if size < quote + _MINIMUM_IP:
        return MALFORMED
    version_ihl, _, ip_id, fragment, ttl, protocol, source, destination = _IP.unpack_from(
        packet, quote
    )
    transport = quote + (version_ihl & 0xF) * 4
    if version_ihl >> 4 != 4 or protocol != _PROTOCOL_TCP or fragment & _FRAGMENT_OFFSET:
        return NOT_OURS
    if transport < quote + _MINIMUM_IP or size < transport + _QUOTED_TRANSPORT:
        return MALFORMED
    source_port, destination_port, sequence = _PORTS_SEQUENCE.unpack_from(packet, transport)
    icmp_type = packet[icmp_at]
    return IcmpError(
        inet_ntoa(sender),
        reply_ttl,
        _ICMP_ERRORS[icmp_type],
        icmp_type,
        packet[icmp_at + 1],
        inet_ntoa(source),
        source_port,
        inet_ntoa(destination),
        destination_port,
        sequence,
        ip_id,
        ttl,
        # RFC 4884, section 5.1: the length stands in the sixth octet, in 32-bit words
        decode_mpls(packet, quote, packet[icmp_at + 5] * 4),
    )


def decode_segment(packet: bytes) -> Segment | Undecoded:
    """An IPv4 packet from a raw TCP socket, its IP header included."""
    size = len(packet)
    if size < _MINIMUM_IP:
        return MALFORMED
    version_ihl, _, _, fragment, reply_ttl, protocol, sender, _ = _IP.unpack_from(packet)
    start = (version_ihl & 0xF) * 4
    if version_ihl >> 4 != 4 or protocol != _PROTOCOL_TCP or fragment & _FRAGMENT_OFFSET:
        return NOT_OURS
    if start < _MINIMUM_IP or size < start + _TCP.size:
        return MALFORMED
    sender_port, destination_port, _, acknowledgement, _, flags, _ = _TCP.unpack_from(packet, start)
    return Segment(
        inet_ntoa(sender), sender_port, destination_port, acknowledgement, flags, reply_ttl
    )


# -- in, IPv6 --------------------------------------------------------------------------


def decode_icmp6(packet: bytes, sender: str, reply_ttl: int | None) -> IcmpError | Undecoded:
    """A packet from a raw ICMPv6 socket, from its ICMPv6 header on."""
    size = len(packet)
    quote = _MINIMUM_ICMP
    if size < quote:
        return MALFORMED
    icmp_type = packet[0]
    if icmp_type not in _ICMP6_ERRORS:
        return NOT_OURS
    if size < quote + _IP6.size:
        return MALFORMED
    version, _, header, ttl, source, destination = _IP6.unpack_from(packet, quote)
    if version >> 4 != 6:
        return NOT_OURS
    transport = _find_tcp(packet, header, quote + _IP6.size)
    if isinstance(transport, Undecoded):
        return transport
    source_port, destination_port, sequence = _PORTS_SEQUENCE.unpack_from(packet, transport)
    return IcmpError(
        sender,
        reply_ttl,
        _ICMP6_ERRORS[icmp_type],
        icmp_type,
        packet[1],
        inet_ntop(AF_INET6, source),
        source_port,
        inet_ntop(AF_INET6, destination),
        destination_port,
        sequence,
        _decode_mark(packet, transport),
        ttl,
        # RFC 4884, section 4.2: the length stands in the fifth octet, in 64-bit words
        decode_mpls(packet, quote, packet[4] * 8),
    )


def _find_tcp(packet: bytes, header: int, at: int) -> int | Undecoded:
    """Where the quoted TCP header begins, behind extension headers that were added on the way."""
    size = len(packet)
    for _ in range(MAX_HEADERS + 1):
        if header == _PROTOCOL_TCP:
            return at if size >= at + _QUOTED_TRANSPORT else MALFORMED
        if header not in _EXTENSION_HEADERS:
            return NOT_OURS
        if size < at + _MINIMUM_EXTENSION:
            return MALFORMED
        if header == _FRAGMENT and _WORD.unpack_from(packet, at + 2)[0] & _FRAGMENT_OFFSET_6:
            return NOT_OURS
        unit, uncounted = _EXTENSION_HEADERS[header]
        header, at = packet[at], at + packet[at + 1] * unit + uncounted
    return NOT_OURS


def _decode_mark(packet: bytes, transport: int) -> int:
    """The mark in a quoted TCP header, 0 where it is cut off or other options stand there."""
    at = transport + _TIMESTAMP_AT
    if len(packet) < transport + _MARK_AT + _WORD.size or packet[at : at + 2] != _TIMESTAMP:
        return 0
    return int(_WORD.unpack_from(packet, transport + _MARK_AT)[0])


def decode_segment6(packet: bytes, sender: str, reply_ttl: int | None) -> Segment | Undecoded:
    """A packet from a raw TCP socket of IPv6, from its TCP header on."""
    if len(packet) < _TCP.size:
        return MALFORMED
    sender_port, destination_port, _, acknowledgement, _, flags, _ = _TCP.unpack_from(packet)
    return Segment(sender, sender_port, destination_port, acknowledgement, flags, reply_ttl)


# -- extensions ------------------------------------------------------------------------


def decode_mpls(packet: bytes, quote_at: int, declared: int) -> tuple[MplsLabel, ...]:
    """The RFC 4950 label stack behind the quoted datagram, () when there is none.

    RFC 4884: the quote is padded to at least 128 octets and the ICMP header says how many they
    are: `declared`. Routers older than that RFC declare 0 and put the extension right behind 128
    octets (section 5.5); there only a right checksum tells it from the quote's own data. A
    negative `quote_at` means that so much of the quote's beginning is missing.
    """
    at = quote_at + (declared or _PADDED)
    size = len(packet)
    if 0 < declared < _PADDED or size < at + _EXTENSION_HEADER or packet[at] >> 4 != 2:
        return ()
    unchecked = packet[at + 2 : at + 4] == b"\0\0" and declared
    if not unchecked and not _sums_up(packet[at:]):
        return ()
    at += _EXTENSION_HEADER
    while at + _OBJECT.size <= size:
        length, klass, kind = _OBJECT.unpack_from(packet, at)
        if length < _OBJECT.size or at + length > size:
            return ()
        if (klass, kind) == (1, 1):  # RFC 4950: MPLS label stack, incoming
            return _decode_labels(packet[at + _OBJECT.size : at + length])
        at += length
    return ()


def _decode_labels(stack: bytes) -> tuple[MplsLabel, ...]:
    whole = stack[: min(len(stack) // 4, MAX_LABELS) * 4]
    return tuple(
        # RFC 3032: label 20 bits, traffic class 3, bottom of stack 1, TTL 8
        MplsLabel(entry >> 12, entry >> 9 & 7, bool(entry >> 8 & 1), entry & 0xFF)
        for (entry,) in _LONG.iter_unpack(whole)
    )


def _sums_up(data: bytes) -> bool:
    """Whether the RFC 1071 checksum inside `data` is right.

    The one's complement sum of 16-bit words is what is left of the number modulo 2^16 - 1.
    """
    return int.from_bytes(data + b"\0" * (len(data) % 2), "big") % 0xFFFF == 0

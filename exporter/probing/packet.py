"""Bytes to model and back: SYN templates, and the decoding of what answers them.

Templates are made by scapy once for each flow and patched for each probe; decoding is struct
alone (0.4 us against scapy's 340 us). tests/ hold scapy against both. No socket here.

Every decoder returns a value, never an exception: what is none of our business is
`NOT_OURS`, what claims to be our business and cannot be read is `MALFORMED`.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from socket import inet_ntoa
from struct import Struct
from typing import NamedTuple

from exporter.model import Flow, MplsLabel

#: Bound on an RFC 4950 label stack; real ones have one to three entries.
MAX_LABELS = 8

_IP = Struct("!BxHHHBBxx4s4s")  # RFC 791: ver/ihl, length, id, flags/offset, ttl, proto, addresses
_PORTS_SEQUENCE = Struct("!HHI")  # RFC 9293, the 8 octets that every quote holds
_TCP = Struct("!HHIIBBH")  # the same, with acknowledgement, offset, flags, window
_OBJECT = Struct("!HBB")  # RFC 4884 section 8: length, class, type
_WORD = Struct("!H")
_LONG = Struct("!I")
_ID_AT = 4
_TTL_AT = 8
_SEQUENCE_AT = 24
_CHECKSUM_AT = 36
_ICMP_TIME_EXCEEDED = 11
_ICMP_UNREACHABLE = 3
_PROTOCOL_ICMP = 1
_PROTOCOL_TCP = 6
_FRAGMENT_OFFSET = 0x1FFF
_MINIMUM_IP = 20
_MINIMUM_ICMP = 8
_QUOTED_TRANSPORT = 8
_MINIMUM_EXTENDED = 128 + 4  # RFC 4884: the padded quote and an extension header

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10


class Undecoded(Enum):
    """Why a packet gives nothing."""

    NOT_OURS = "not ours"
    MALFORMED = "malformed"


NOT_OURS = Undecoded.NOT_OURS
MALFORMED = Undecoded.MALFORMED


class IcmpError(NamedTuple):
    """An ICMP time-exceeded or destination-unreachable, and the TCP packet that it quotes."""

    sender: str
    reply_ttl: int
    type: int
    code: int
    source: str
    source_port: int
    destination: str
    destination_port: int
    sequence: int
    ip_id: int
    quoted_ttl: int
    mpls: tuple[MplsLabel, ...]


class Segment(NamedTuple):
    """A TCP segment toward us."""

    sender: str
    sender_port: int
    destination_port: int
    acknowledgement: int
    flags: int
    reply_ttl: int


# -- out -------------------------------------------------------------------------------


class SynTemplate:
    """The SYN of one flow; `patch` gives its bytes for one probe.

    The IP checksum is left alone: the kernel fills it in (raw(7), IP_HDRINCL).
    """

    def __init__(self, flow: Flow) -> None:
        self._packet = bytearray(_build_syn(flow))
        checksum = int.from_bytes(self._packet[_CHECKSUM_AT : _CHECKSUM_AT + 2], "big")
        self._sum_without_sequence = checksum ^ 0xFFFF

    def patch(self, ttl: int, ip_id: int, sequence: int) -> bytearray:
        """The SYN with these fields; the buffer is the same at each call."""
        packet = self._packet
        # RFC 1624: the one's complement sum with the two new words added.
        total = self._sum_without_sequence + (sequence >> 16) + (sequence & 0xFFFF)
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        _WORD.pack_into(packet, _ID_AT, ip_id)
        packet[_TTL_AT] = ttl
        _LONG.pack_into(packet, _SEQUENCE_AT, sequence)
        _WORD.pack_into(packet, _CHECKSUM_AT, total ^ 0xFFFF)
        return packet


@lru_cache(maxsize=4096)
def _build_syn(flow: Flow) -> bytes:
    """A SYN with sequence number 0 and the options that a Linux kernel sends.

    Hosts are known to drop or reset SYNs without a maximum segment size.
    """
    from scapy.config import conf  # here, because it takes 45 MB and 0.25 s

    # What is not needed here: the host's routes, which may be many, and the IPv6 layers.
    conf.route_autoload = conf.route6_autoload = conf.ipv6_enabled = False
    from scapy.layers.inet import IP, TCP

    options = [
        ("MSS", 1460),
        ("SAckOK", b""),
        ("Timestamp", (1, 0)),
        ("NOP", None),
        ("WScale", 7),
    ]
    ip = IP(src=flow.source, dst=flow.destination, flags="DF")
    tcp = TCP(
        sport=flow.source_port,
        dport=flow.destination_port,
        seq=0,
        flags="S",
        window=64240,
        options=options,
    )
    return bytes(ip / tcp)


def warm_up() -> None:
    """Load scapy now, so that no trace has to wait for it."""
    _build_syn(Flow("127.0.0.1", 1, "127.0.0.1", 1))


# -- in --------------------------------------------------------------------------------


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
    icmp_type, code = packet[start], packet[start + 1]
    if icmp_type not in (_ICMP_TIME_EXCEEDED, _ICMP_UNREACHABLE):
        return NOT_OURS
    return _decode_quote(packet, start, inet_ntoa(sender), reply_ttl, icmp_type, code)


def _decode_quote(
    packet: bytes, icmp_at: int, sender: str, reply_ttl: int, icmp_type: int, code: int
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
    return IcmpError(
        sender,
        reply_ttl,
        icmp_type,
        code,
        inet_ntoa(source),
        source_port,
        inet_ntoa(destination),
        destination_port,
        sequence,
        ip_id,
        ttl,
        decode_mpls(packet, icmp_at) if size >= quote + _MINIMUM_EXTENDED else (),
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


def decode_mpls(packet: bytes, icmp_at: int) -> tuple[MplsLabel, ...]:
    """The RFC 4950 label stack behind the quoted datagram, () when there is none.

    RFC 4884: the quote is padded to at least 128 octets and its length stands, in 32-bit
    words, in the sixth octet of the ICMP header. Routers older than that RFC leave the length
    0 and put the extension right behind 128 octets (section 5.5); there only a right checksum
    tells it from the quote's own data.
    """
    quoted = packet[icmp_at + 5] * 4 or 128
    at = icmp_at + _MINIMUM_ICMP + quoted
    size = len(packet)
    if quoted < 128 or size < at + 4 or packet[at] >> 4 != 2:
        return ()
    unchecked = packet[at + 2 : at + 4] == b"\0\0" and packet[icmp_at + 5]
    if not unchecked and not _sums_up(packet[at:]):
        return ()
    at += 4
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

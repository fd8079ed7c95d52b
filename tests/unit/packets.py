"""Packets as the wire has them, built by scapy: the oracle that the fast path is held against."""

from __future__ import annotations

import socket
from typing import Any

from hypothesis import strategies as st
from scapy.contrib.mpls import MPLS, ICMPExtension_MPLS
from scapy.layers.inet import ICMP, IP, TCP, ICMPExtension_Header
from scapy.layers.inet6 import ICMPv6TimeExceeded, IPv6
from scapy.packet import Packet

from exporter.model import Flow, MplsLabel

FLOW = Flow("10.9.0.1", 40001, "10.9.5.2", 443)
ROUTER = "10.9.3.2"
FLOW6 = Flow("fd09::1", 40001, "fd09:0:0:4::2", 443)
ROUTER6 = "fd09:0:0:2::2"
SEQUENCE = 0xFEDCBA98
MARK = 4711

addresses = st.ip_addresses(v=4).map(str)
addresses6 = st.binary(min_size=16, max_size=16).map(
    lambda octets: socket.inet_ntop(socket.AF_INET6, octets)
)
ports = st.integers(1, 65535)
flows = st.builds(Flow, addresses, ports, addresses, ports)
flows6 = st.builds(Flow, addresses6, ports, addresses6, ports)
stacks = st.lists(
    st.builds(
        MplsLabel,
        label=st.integers(0, 2**20 - 1),
        traffic_class=st.integers(0, 7),
        bottom=st.booleans(),
        ttl=st.integers(0, 255),
    ),
    min_size=1,
    max_size=8,
)


def syn(flow: Flow = FLOW, **ip: Any) -> Packet:
    """The SYN of a probe as a router sees it, with changes to its IP header."""
    header = {"ttl": 1, "id": MARK, "flags": "DF", **ip}
    tcp = TCP(sport=flow.source_port, dport=flow.destination_port, seq=SEQUENCE, flags="S")
    return IP(src=flow.source, dst=flow.destination, **header) / tcp


def error(quote: bytes, kind: int = 11, code: int = 0, length: int = 0, **ip: Any) -> bytes:
    """An ICMP error of `ROUTER` with this quote; `length` is RFC 4884's, in 32-bit words."""
    header = {"src": ROUTER, "dst": FLOW.source, "ttl": 62, **ip}
    icmp = bytearray(bytes(ICMP(type=kind, code=code)))
    icmp[5] = length
    return bytes(IP(proto=1, **header) / bytes(icmp) / quote)


def segment(flow: Flow = FLOW, flags: str = "SA", ack: int = SEQUENCE + 1, **ip: Any) -> bytes:
    """What the destination of a flow answers."""
    header = {"src": flow.destination, "dst": flow.source, "ttl": 59, **ip}
    tcp = TCP(sport=flow.destination_port, dport=flow.source_port, flags=flags, ack=ack % 2**32)
    return bytes(IP(**header) / tcp)


def syn6(flow: Flow = FLOW6, *headers: Packet, mark: int = MARK, **ip: Any) -> Packet:
    """The same over IPv6, with these extension headers in between."""
    packet = IPv6(src=flow.source, dst=flow.destination, **{"hlim": 1, **ip})
    for header in headers:
        packet /= header
    return packet / TCP(
        sport=flow.source_port,
        dport=flow.destination_port,
        seq=SEQUENCE,
        flags="S",
        options=[("MSS", 1440), ("SAckOK", b""), ("Timestamp", (1 << 16 | mark, 0))],
    )


def error6(quote: bytes, kind: int = 3, code: int = 0, length: int = 0) -> bytes:
    """An ICMPv6 error with this quote, as a raw socket gives it; `length` in 64-bit words."""
    icmp = bytearray(bytes(ICMPv6TimeExceeded(code=code, length=length)))
    icmp[0] = kind
    return bytes(icmp) + quote


def segment6(flow: Flow = FLOW6, flags: str = "SA", ack: int = SEQUENCE + 1) -> bytes:
    """What the destination of a flow answers over IPv6, as a raw socket gives it."""
    return bytes(
        TCP(sport=flow.destination_port, dport=flow.source_port, flags=flags, ack=ack % 2**32)
    )


def padded(quote: bytes) -> bytes:
    """A quote as RFC 4884 wants it: at least 128 octets."""
    return quote.ljust(128, b"\0")


def extension(stack: list[MplsLabel], *, before: bytes = b"") -> bytes:
    """An RFC 4884 structure with an RFC 4950 label stack behind the objects `before`."""
    entries = [
        MPLS(label=entry.label, cos=entry.traffic_class, s=entry.bottom, ttl=entry.ttl)
        for entry in stack
    ]
    return bytes(ICMPExtension_Header() / before / bytes(ICMPExtension_MPLS(stack=entries)))

"""Packets for tests: what a trace would have sent and received, made by scapy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6TimeExceeded, IPv6

from exporter.model import Observation, Packet, packed
from tests.unit import samples

#: Nanoseconds since the epoch.
BEGAN = int(samples.STARTED_AT) * 1_000_000_000
HERE, THERE, ROUTER = "192.0.2.1", "198.51.100.9", "203.0.113.7"
HERE6, THERE6, ROUTER6 = "2001:db8::1", "2001:db8:9::9", "2001:db8:7::7"


def packet(number: int, data: Any, *, sent: bool) -> Packet:
    """One packet, a millisecond after the one before it."""
    content = bytes(data)
    return Packet(BEGAN + number * 1_000_000, sent, content, len(content))


def syn(source: str = HERE, port: int = 40001, ttl: int = 1) -> Any:
    """A probe over IPv4, without options."""
    return IP(src=source, dst=THERE, ttl=ttl, id=7) / TCP(sport=port, dport=443, flags="S")


def syn6(source: str = HERE6, port: int = 40001, ttl: int = 1) -> Any:
    """The same over IPv6."""
    return IPv6(src=source, dst=THERE6, hlim=ttl) / TCP(sport=port, dport=443, flags="S")


def expired(quoted: Any) -> Any:
    """A router's time-exceeded."""
    if isinstance(quoted, IPv6):
        return IPv6(src=ROUTER6, dst=HERE6) / ICMPv6TimeExceeded() / bytes(quoted)
    return IP(src=ROUTER, dst=HERE) / ICMP(type=11) / bytes(quoted)


def exchange(*packets: Any) -> tuple[Packet, ...]:
    """Packets that were sent and received by turns, a probe first."""
    return tuple(packet(n, one, sent=n % 2 == 0) for n, one in enumerate(packets))


def filmed(observation: Observation, *packets: Packet) -> Observation:
    """The observation with packets of its trace."""
    assert observation.trace
    return replace(observation, trace=replace(observation.trace, captured=packed(packets)))

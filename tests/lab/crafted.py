"""Packets that somebody on the chain makes up, in the lab's family; `chain.throw` sends them."""

from __future__ import annotations

from typing import NamedTuple

from scapy.layers.inet import ICMP, IP, TCP, IPOption_RR
from scapy.layers.inet6 import ICMPv6TimeExceeded, IPv6, IPv6ExtHdrDestOpt
from scapy.packet import Packet, Raw

from tests.scenarios import Scenario

_WRAP = 1 << 32


class Sent(NamedTuple):
    """A probe by what a router would quote of it; see exporter/probing/packet.py for `mark`."""

    port: int
    sequence: int
    mark: int


class Forger:
    """Speaks for the chain's first router and for its destination, about probes to one port."""

    def __init__(self, scenario: Scenario, port: int) -> None:
        self._scenario = scenario
        self._is_ipv6 = scenario.family == "ipv6"
        self._port = port

    def quote(self, sent: Sent, source: str = "", *, long: bool = False) -> bytes:
        """A probe as the first router would quote it."""
        timestamp = ("Timestamp", (1 << 16 | sent.mark, 0))  # behind MSS and SAckOK as in the SYN
        tcp = TCP(
            sport=sent.port,
            dport=self._port,
            seq=sent.sequence,
            flags="S",
            options=[("MSS", 1440), ("SAckOK", b""), timestamp],
        )
        source = source or self._scenario.source
        header = self._header(source, self._scenario.destination, long=long, ttl=1, mark=sent.mark)
        return bytes(header / tcp)

    def expired(self, quoted: bytes, *, long: bool = False) -> bytes:
        """A time-exceeded of the first router."""
        error = ICMPv6TimeExceeded() if self._is_ipv6 else ICMP(type=11, code=0)
        sender = self._scenario.address(1)
        header = self._header(sender, self._scenario.source, long=long)
        return bytes(header / error / Raw(quoted))

    def accepting(self, sent: Sent, *, long: bool = False) -> bytes:
        """A SYN-ACK in the destination's name."""
        acknowledged = (sent.sequence + 1) % _WRAP
        tcp = TCP(sport=self._port, dport=sent.port, flags="SA", ack=acknowledged)
        header = self._header(self._scenario.destination, self._scenario.source, long=long)
        return bytes(header / tcp)

    def _header(
        self, source: str, destination: str, *, long: bool, ttl: int = 64, mark: int = 1
    ) -> Packet:
        """An IP header; a `long` one has options, in IPv6 a header for them behind it."""
        if self._is_ipv6:
            header = IPv6(src=source, dst=destination, hlim=ttl)
            return header / IPv6ExtHdrDestOpt() if long else header
        options = [IPOption_RR(routers=[source] * 9)] if long else []
        return IP(src=source, dst=destination, ttl=ttl, id=mark, options=options)

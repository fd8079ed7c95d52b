"""The filters in front of the raw sockets, run by the kernel: nothing of ours is refused."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import ICMPv6TimeExceeded, IPv6, IPv6ExtHdrDestOpt
from scapy.packet import Packet

from exporter.probing.engines import bpf

OURS, OTHER = 40_001, 40_002
ME, STRANGER = "10.9.0.1", "192.0.2.1"
ME6, STRANGER6 = "fd09::1", "2001:db8::1"
#: Differs from ours in the last 32 bits, or in the first.
NEAR6 = ("fd09::2", "fd0a::1")

Admits = Callable[[bytes], bool]
#: Makes a filter of a program; packets go to it without a network.
Gate = Callable[[Iterable[bpf.Line]], Admits]


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Filters on sockets that are closed when the test ends."""
    ends: list[socket.socket] = []

    def make(program: Iterable[bpf.Line]) -> Admits:
        inside, outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ends.extend((inside, outside))
        inside.setblocking(False)
        bpf.attach(inside, program)

        def admits(packet: bytes) -> bool:
            outside.send(packet)
            try:
                return inside.recv(4096) == packet
            except BlockingIOError:
                return False

        return admits

    yield make
    for end in ends:
        end.close()


def quoted(source: str, port: int, transport: type[Packet] = TCP) -> Packet:
    """A packet of somebody's, as a router quotes it."""
    inner = transport(sport=port, dport=443)
    if ":" in source:
        return IPv6(src=source, dst="fd09:0:0:4::2", hlim=1) / inner
    return IP(src=source, dst="10.9.5.2", ttl=1) / inner


def offered(quote: Packet | bytes, *, long: bool = False) -> bytes:
    """The time-exceeded as a raw socket is offered it; a `long` IPv4 header has options."""
    raw = bytes(quote)
    if raw[0] >> 4 == 6:
        return bytes(ICMPv6TimeExceeded())[:8] + raw
    options = [IPOption_NOP()] * 4 if long else []
    return bytes(IP(src="10.9.3.2", dst=ME, options=options) / ICMP(type=11)) + raw


def errors(gate: Gate, family: bpf.Offsets, ports: Iterable[int] = (OURS,)) -> Admits:
    """The filter for ICMP errors of one IP version."""
    return gate(bpf.errors(family, set(ports), [ME] if family is bpf.IPV4 else [STRANGER6, ME6]))


@pytest.mark.parametrize("long", [False, True])
def test_an_error_is_judged_by_the_port_that_it_quotes(gate: Gate, *, long: bool) -> None:
    """A port of ours passes and another port of this host's does not, whatever stands before."""
    admits = errors(gate, bpf.IPV4)
    found = [admits(offered(quoted(ME, port), long=long)) for port in (OURS, OTHER)]
    assert found == [True, False]


def test_an_icmpv6_error_is_judged_by_the_port_that_it_quotes(gate: Gate) -> None:
    """Over IPv6 as over IPv4; an address counts as ours only as a whole."""
    admits = errors(gate, bpf.IPV6)
    assert admits(offered(quoted(ME6, OURS)))
    assert not admits(offered(quoted(ME6, OTHER)))
    assert all(admits(offered(quoted(near, OTHER))) for near in NEAR6)


def test_another_protocol_never_passes(gate: Gate) -> None:
    """What quotes UDP is refused, even from a port of ours."""
    for family, me in ((bpf.IPV4, ME), (bpf.IPV6, ME6)):
        assert not errors(gate, family)(offered(quoted(me, OURS, UDP)))


def test_what_was_rewritten_passes(gate: Gate) -> None:
    """Where the quoted source address is not ours, the port says nothing."""
    assert errors(gate, bpf.IPV4)(offered(quoted(STRANGER, OTHER)))
    assert errors(gate, bpf.IPV6)(offered(quoted("2001:db8::2", OTHER)))


def test_what_the_filter_cannot_judge_passes(gate: Gate) -> None:
    """Options and extension headers in the quote, the other IP version, a quote that is cut."""
    for family, me in ((bpf.IPV4, ME), (bpf.IPV6, ME6)):
        admits, whole = errors(gate, family), bytes(quoted(me, OTHER))
        header = 40 if family is bpf.IPV6 else 20
        for size in range(1, header + 8):
            assert admits(offered(whole[:size])) or whole[0] >> 4 == 6 > size
        assert not admits(offered(whole[: header + 8]))
    options = IP(src=ME, dst="10.9.5.2", options=[IPOption_NOP()] * 4) / TCP(sport=OTHER)
    assert errors(gate, bpf.IPV4)(offered(options))
    extended = IPv6(src=ME6, dst="fd09:0:0:4::2") / IPv6ExtHdrDestOpt() / TCP(sport=OTHER)
    assert errors(gate, bpf.IPV6)(offered(extended))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(1, 65_535), min_size=1, max_size=bpf.MOST_PORTS), st.data())
def test_as_many_ports_as_a_program_has_room_for(
    gate: Gate, ports: set[int], data: st.DataObject
) -> None:
    """Each of the ports passes, in errors and in segments, and no other one does."""
    other = data.draw(st.integers(1, 65_535).filter(lambda port: port not in ports))
    for family, me in ((bpf.IPV4, ME), (bpf.IPV6, ME6)):
        admits, segments = errors(gate, family, ports), gate(bpf.segments(family, ports))
        for port, expected in ((min(ports), True), (max(ports), True), (other, False)):
            assert admits(offered(quoted(me, port))) is expected
            assert segments(segment(family, port)) is expected


def segment(family: bpf.Offsets, port: int) -> bytes:
    """A SYN-ACK to a port, as a raw socket is offered it."""
    answer = TCP(sport=443, dport=port, flags="SA")
    return bytes(answer) if family is bpf.IPV6 else bytes(IP(src="10.9.5.2", dst=ME) / answer)


def test_more_ports_than_a_program_has_room_for(gate: Gate) -> None:
    """Beyond its room the filter lets TCP pass, and still nothing else."""
    many = range(1, bpf.MOST_PORTS + 2)
    for family, me in ((bpf.IPV4, ME), (bpf.IPV6, ME6)):
        admits = errors(gate, family, many)
        assert admits(offered(quoted(me, OTHER)))
        assert not admits(offered(quoted(me, OTHER, UDP)))
        assert gate(bpf.segments(family, many))(segment(family, OTHER))


def test_more_addresses_than_a_program_has_room_for(gate: Gate) -> None:
    """An address beyond the room counts as somebody else's: its errors pass."""
    addresses = [f"10.9.0.{number}" for number in range(1, bpf.MOST_ADDRESSES + 2)]
    admits = gate(bpf.errors(bpf.IPV4, {OURS}, addresses))
    assert [admits(offered(quoted(address, OTHER))) for address in addresses] == [
        *[False] * bpf.MOST_ADDRESSES,
        True,
    ]

"""The network behind the TUN device does what a `Net` says, packet by packet.

scapy makes the prober's packets and reads the answers, so that the bytes are not judged by whoever
made them. No namespace is needed but where a kernel is asked for its opinion.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from ipaddress import ip_address
from typing import Any

import pytest
from scapy.config import conf

from tests.accuracy.tun import Destination, Filter, Net, TunWorld, Weather, net_of
from tests.accuracy.tun_network import (
    FIRST_LABEL,
    PORT_SHIFT,
    SHIFT,
    TRANSLATED,
    PlayedNetwork,
)
from tests.lab.lab import LabError
from tests.lab.tun import ICMP_BURST
from tests.scenarios import FAMILIES

conf.route_autoload = conf.route6_autoload = False
from scapy.layers.inet import ICMP, IP, TCP, IPerror, TCPerror  # noqa: E402
from scapy.layers.inet6 import (  # noqa: E402
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6TimeExceeded,
    IPerror6,
    IPv6,
)

SOURCE = {"ipv4": "10.9.0.1", "ipv6": "fd09::1"}
CHAIN = Net(hops=6)
PORT, SPORT, SEQUENCE = 443, 33000, 5000
INITIAL = 64


class Prober:
    """Sends to one network and reads what comes back, half a second a packet."""

    def __init__(self, net: Net, family: str = "ipv4") -> None:
        self.network = PlayedNetwork(net)
        self.family = family
        self.destination = net.target()[family]
        self.now = 1000.0

    def ask(self, packet: Any) -> list[Any]:
        """What comes within half a second of a packet."""
        self.network.take(bytes(packet), self.now)
        return list(self.wait(0.5))

    def wait(self, seconds: float) -> Iterator[Any]:
        """What comes while time passes."""
        end = self.now + seconds
        while (due := self.network.next_due) is not None and due <= end:
            if octets := self.network.due(due):
                yield (IP if self.family == "ipv4" else IPv6)(octets)
        self.now = end

    def syn(self, ttl: int, port: int = PORT, sport: int = SPORT, sequence: int = SEQUENCE) -> Any:
        """The answer to one SYN, None when there is none."""
        tcp = TCP(sport=sport, dport=port, seq=sequence, flags="S")
        answers = self.ask(self.ip(ttl) / tcp)
        # A SYN-ACK for another flow may come again meanwhile.
        return next((one for one in answers if TCP not in one or one[TCP].dport == sport), None)

    def ip(self, ttl: int) -> Any:
        """The header of a packet of the prober's."""
        if self.family == "ipv4":
            return IP(src=SOURCE["ipv4"], dst=self.destination, ttl=ttl)
        return IPv6(src=SOURCE["ipv6"], dst=self.destination, hlim=ttl)


def checksums_are_right(answer: Any) -> bool:
    """Whether scapy would have computed the same ones; those of quotes are none of its business."""
    again = answer.copy()
    for layer, name in CHECKSUMS:
        if layer in again:
            delattr(again[layer], name)
    return bytes(again) == bytes(answer)


CHECKSUMS = (
    (IP, "chksum"),
    (TCP, "chksum"),
    (ICMP, "chksum"),
    (ICMPv6TimeExceeded, "cksum"),
    (ICMPv6DestUnreach, "cksum"),
    (ICMPv6EchoReply, "cksum"),
)


@pytest.fixture(params=FAMILIES)
def prober(request: pytest.FixtureRequest) -> Prober:
    """A prober at the beginning of the plain chain."""
    return Prober(CHAIN, request.param)


def test_a_router_says_who_it_is_and_what_expired(prober: Prober) -> None:
    """Its error quotes the SYN with TTL 1 and comes with the TTL of its distance."""
    answer = prober.syn(3)
    assert answer.src == CHAIN.address(prober.family, 3)
    assert ttl_of(answer) == INITIAL - 2
    quote = answer[IPerror] if prober.family == "ipv4" else answer[IPerror6]
    assert ttl_of(quote) == 1
    assert (answer[TCPerror].sport, answer[TCPerror].seq) == (SPORT, SEQUENCE)
    assert checksums_are_right(answer)


def ttl_of(packet: Any) -> int:
    """The TTL or the hop limit."""
    return int(packet.hlim if hasattr(packet, "hlim") else packet.ttl)


def test_the_destination_accepts_and_refuses(prober: Prober) -> None:
    """An open port answers with a SYN-ACK, a closed one with an RST, both from its distance."""
    for port, flags in ((PORT, "SA"), (81, "RA")):
        answer = prober.syn(64, port)
        assert answer[TCP].flags == flags
        assert answer[TCP].ack == SEQUENCE + 1
        assert ttl_of(answer) == INITIAL - 5
        assert checksums_are_right(answer)


def test_a_half_open_port_repeats_itself_and_challenges(prober: Prober) -> None:
    """The SYN-ACK comes again; another SYN of the flow is answered with an ACK for the first."""
    assert prober.syn(64)[TCP].flags == "SA"
    assert prober.syn(64, sequence=9000)[TCP].ack == SEQUENCE + 1
    assert [answer[TCP].flags for answer in prober.wait(10.0)] == ["SA"] * 3
    reset = TCP(sport=SPORT, dport=PORT, seq=SEQUENCE + 1, flags="R")
    assert prober.ask(prober.ip(64) / reset) == []
    assert prober.syn(64, sequence=9000)[TCP].flags == "SA"


def test_an_echo_request_is_answered_or_expires(prober: Prober) -> None:
    """The destination answers with what it was sent; routers treat it like any packet."""
    echo = ICMP(id=7) if prober.family == "ipv4" else ICMPv6EchoRequest(id=7)
    [reply] = prober.ask(prober.ip(64) / echo / b"data")
    assert reply.src == prober.destination
    assert bytes(reply).endswith(b"data")
    assert checksums_are_right(reply)
    [expired] = prober.ask(prober.ip(2) / echo)
    assert expired.src == CHAIN.address(prober.family, 2)


def test_a_router_limits_its_errors_and_the_destination_does_not() -> None:
    """Six at once, then one a second, of all types together."""
    prober = Prober(replace(CHAIN, filters=(Filter(3, "admin-prohibited"),)))
    for ttl in [3, 64] * 10:
        prober.network.take(bytes(prober.ip(ttl) / TCP(dport=PORT, flags="S")), prober.now)
    assert len(list(prober.wait(1.0))) == ICMP_BURST
    assert prober.syn(3) is not None
    assert prober.syn(64) is None


@pytest.mark.parametrize(
    ("chain", "answers"),
    [("forward", [1, 2, 3, None, None]), ("ingress", [1, 2, None, None, None])],
)
def test_a_filter_stands_before_or_behind_the_ttl_check(
    chain: str, answers: list[int | None], prober: Prober
) -> None:
    """One in forward still answers for itself; other ports pass."""
    prober = Prober(replace(CHAIN, filters=(Filter(3, chain=chain, ports=(PORT,)),)), prober.family)
    hops = {CHAIN.address(prober.family, hop): hop for hop in range(1, 7)}
    found = [prober.syn(ttl) for ttl in range(1, 6)]
    assert [answer and hops[answer.src] for answer in found] == answers
    assert prober.syn(64, port=80)[TCP].flags == "RA"


def test_a_reset_is_forged_with_the_ttl_that_it_is_told(prober: Prober) -> None:
    """It comes in the destination's name, from the firewall's distance."""
    net = replace(CHAIN, filters=(Filter(3, "tcp-reset", initial_ttl=200),))
    answer = Prober(net, prober.family).syn(4)
    assert (answer.src, answer[TCP].flags, ttl_of(answer)) == (prober.destination, "RA", 198)


def test_a_zero_ttl_forwarder_lets_the_next_one_answer(prober: Prober) -> None:
    """The hop behind answers in its place, too, and quotes a TTL of 0."""
    other = Prober(replace(CHAIN, zero_ttl=(2,)), prober.family)
    assert [other.syn(ttl).src for ttl in (2, 3)] == [CHAIN.address(prober.family, 3)] * 2
    quote = IPerror if prober.family == "ipv4" else IPerror6
    assert ttl_of(other.syn(2)[quote]) == 0


def test_what_is_rewritten_shows_in_quotes_and_nowhere_else(prober: Prober) -> None:
    """Routers behind quote other numbers; the destination's answer fits what was sent."""
    behind = str(ip_address(TRANSLATED[prober.family]))
    for net, source, port, sequence in (
        (replace(CHAIN, shifts_sequences=2), SOURCE[prober.family], SPORT, SEQUENCE + SHIFT),
        (replace(CHAIN, translates=2), behind, SPORT + PORT_SHIFT, SEQUENCE),
    ):
        other = Prober(net, prober.family)
        for ttl, rewritten in ((2, False), (3, True)):
            answer = other.syn(ttl)
            quote = answer[IPerror if prober.family == "ipv4" else IPerror6]
            told = (quote.src, quote[TCPerror].sport, quote[TCPerror].seq)
            sent = (SOURCE[prober.family], SPORT, SEQUENCE)
            assert told == ((source, port, sequence) if rewritten else sent)
            assert answer.dst == SOURCE[prober.family]
        reached = other.syn(64)[TCP]
        assert (reached.dport, reached.ack) == (SPORT, SEQUENCE + 1)


def test_a_tunnel_shows_its_labels_and_answers_late(prober: Prober) -> None:
    """RFC 4950: its routers add a label, and their answers go to the tunnel's end first."""
    other = Prober(replace(CHAIN, mpls=(2, 4)), prober.family)
    began = other.now
    other.network.take(bytes(prober.ip(2) / TCP(dport=PORT, flags="S")), began)
    due = other.network.next_due
    assert due is not None
    assert due == pytest.approx(began + 2 * 6 * CHAIN.delay)
    octets = other.network.due(due)
    assert octets is not None
    assert int.from_bytes(octets[-4:], "big") >> 12 == FIRST_LABEL + 2
    assert checksums_are_right((IP if prober.family == "ipv4" else IPv6)(octets))


def test_a_way_back_may_be_longer(prober: Prober) -> None:
    """From the hop on that was named, and no one before it."""
    other = Prober(replace(CHAIN, longer_return=((4, 3),), router_ttl=255), prober.family)
    assert [ttl_of(other.syn(ttl)) for ttl in (3, 4, 64)] == [253, 249, INITIAL - 5 - 3]


def test_a_loop_never_ends(prober: Prober) -> None:
    """Its routers answer by turns, and the destination never does."""
    other = Prober(replace(CHAIN, loop=(2, 3)), prober.family)
    hops = [CHAIN.address(prober.family, hop) for hop in (1, 2, 3, 2, 3, 2)]
    assert [other.syn(ttl).src for ttl in range(1, 7)] == hops
    assert other.syn(64).src == hops[3]


def test_flows_are_dealt_out_to_branches_and_stay_there(prober: Prober) -> None:
    """Four flows see four routers; each sees its own again."""
    other = Prober(replace(CHAIN, branches=(3, 4, 4)), prober.family)
    first, again = ([other.syn(3, sport=SPORT + n).src for n in range(4)] for _ in range(2))
    assert first == again == [CHAIN.address(prober.family, 3, 10 * n) for n in range(4)]


@pytest.mark.parametrize(
    ("counts", "answered"),
    [("connection", [6, 7]), ("flow", [3, 6, 7]), ("source", [2, 3, 4, 5, 6, 7])],
)
def test_the_third_syn_is_counted_as_the_destination_likes(
    counts: str, answered: list[int]
) -> None:
    """By sequence number, by port, or by nothing at all."""
    prober = Prober(replace(CHAIN, destination=Destination(answers_from=3, counts=counts)))
    sent = [(1, 1), (1, 2), (2, 9), (1, 3), (3, 9), (3, 9), (3, 9), (3, 9)]
    found = [prober.syn(64, sport=SPORT + port, sequence=number) for port, number in sent]
    assert [place for place, answer in enumerate(found) if answer is not None] == answered


def test_paths_share_their_first_routers_alone() -> None:
    """Behind them each path has its own, and a destination of its own."""
    net = replace(CHAIN, paths=3, shared_hops=2)
    prober = Prober(net)
    prober.destination = net.target(2)["ipv4"]
    assert [prober.syn(ttl).src for ttl in (2, 3, 64)] == ["10.9.1.2", "10.9.2.4", "10.9.5.4"]


@pytest.mark.parametrize(
    "weather", [Weather(loss_there=0.4), Weather(loss_back=0.4), Weather(0.225, 0.225)]
)
def test_packets_are_lost_by_chance(weather: Weather) -> None:
    """As many as were asked for, on either way."""
    prober = Prober(replace(CHAIN, weather=weather, seed=1))
    found = [prober.syn(64, port=80, sport=SPORT + n) for n in range(1000)]
    assert 350 < found.count(None) < 450


def test_nobody_answers_for_a_canary(prober: Prober) -> None:
    """The way there is the same; at its end is silence."""
    prober.destination = {"ipv4": "198.51.100.1", "ipv6": "2001:db8::1"}[prober.family]
    assert prober.syn(5).src == CHAIN.address(prober.family, 5)
    assert prober.syn(64) is None


@pytest.mark.parametrize(
    "octets", [b"", bytes(60), b"\x45" * 30, b"\x60" + bytes(59), b"\xff" * 80]
)
def test_other_packets_are_left_alone(octets: bytes) -> None:
    """Such as IPv6's router solicitations, or what cannot be read."""
    network = PlayedNetwork(CHAIN)
    network.take(octets, 0.0)
    assert network.next_due is None


def test_a_network_survives_its_way_to_the_process() -> None:
    """What JSON makes of it is turned back."""
    net = Net(
        6,
        Destination(ports=(1, 2), counts="flow"),
        (Filter(3, ports=(5,), branches=(1,)), Filter(4, "tcp-reset")),
        Weather(0.1, 0.2),
        longer_return=((4, 3),),
        loop=(1, 2),
        mpls=(3, 4),
    )
    assert net_of(json.loads(json.dumps(asdict(net)))) == net


CONNECT = """
import socket, sys
with socket.create_connection((sys.argv[1], 443), 5):
    pass
"""


def test_a_kernel_agrees() -> None:
    """An ordinary connect() succeeds in both IP versions, so checksums and numbers are right."""
    try:
        with TunWorld(CHAIN) as world:
            for address in CHAIN.target().values():
                argv = [sys.executable, "-c", CONNECT, address]
                assert world.popen(argv, stdin=subprocess.DEVNULL).wait() == 0
    except LabError as error:
        pytest.fail(str(error), pytrace=False)

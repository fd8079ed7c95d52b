"""Every engine among real routers, over IPv4 and IPv6: one contract.

Each engine runs with no more than it needs: the connect engine without any capability.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from exporter.model import Flow
from exporter.probing.engines import ENGINES
from exporter.probing.engines.connect import port_of
from exporter.probing.engines.waiting import MOST_SOCKETS
from tests.bench.tun_network import TunNetwork
from tests.lab.chain import (
    CHAIN,
    CLOSED,
    OPEN,
    PROHIBITED,
    REJECTED,
    RESET,
    SILENT,
    counted,
    keeps_connections,
    throw,
)
from tests.lab.conftest import OpenLab
from tests.lab.crafted import Forger, Sent
from tests.lab.engines import RemoteEngine
from tests.lab.lab import Lab
from tests.scenarios import FAMILIES
from tests.simulated.network import ICMP_OF_ACTION

pytestmark = pytest.mark.alone

#: Longer than the kernel waits before it repeats a SYN.
REPEATED = 1.4


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Each IP version."""
    return str(request.param)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, lab: Lab) -> Iterator[RemoteEngine]:
    """Each engine at the chain's beginning."""
    with RemoteEngine(lab, request.param) as remote:
        yield remote


# -- the contract ----------------------------------------------------------------------


def test_every_device_of_an_open_path(lab: Lab, engine: RemoteEngine) -> None:
    """Each TTL finds its device: routers by time-exceeded, the destination by SYN-ACK."""
    answers = engine.probe(OPEN, range(1, 6))
    expired = ICMP_OF_ACTION[lab.scenario.family]["time-exceeded"]
    assert [
        (answers[ttl].address, answers[ttl].kind, answers[ttl].icmp) for ttl in range(1, 5)
    ] == [
        *((lab.scenario.address(hop), "time-exceeded", expired) for hop in (1, 2, 3)),
        (lab.scenario.destination, "syn-ack", None),
    ]
    assert [answers[ttl].reply_ttl for ttl in (1, 2, 3)] == [64, 63, 62]
    assert all(0 < seen.rtt < 1 for seen in answers.values())


@pytest.mark.parametrize(
    ("port", "ttl", "expected"),
    [
        (CLOSED, 4, (4, "rst", None)),
        (CLOSED, 64, (4, "rst", None)),
        (OPEN, 64, (4, "syn-ack", None)),
        (REJECTED, 3, (2, "unreachable", "port-unreachable")),
        (PROHIBITED, 3, (2, "unreachable", "admin-prohibited")),
        (REJECTED, 2, (2, "time-exceeded", "time-exceeded")),
        (RESET, 3, (4, "rst", None)),
    ],
)
def test_what_ends_a_path(
    lab: Lab, engine: RemoteEngine, port: int, ttl: int, expected: tuple[int, str, str | None]
) -> None:
    """A port-unreachable is no RST, and a closed port no rejection."""
    seen = engine.probe(port, range(ttl, ttl + 1))[ttl]
    hop, kind, said = expected
    icmp = ICMP_OF_ACTION[lab.scenario.family][said] if said else None
    assert (seen.address, seen.kind, seen.icmp) == (lab.scenario.address(hop), kind, icmp)


def test_attempts_and_flows_are_told_apart(engine: RemoteEngine) -> None:
    """Answers of several flows and attempts each find their probe."""
    flows = [engine.open(OPEN) for _ in range(3)]
    sent = {(flow, ttl, attempt) for flow in flows for ttl in (1, 2) for attempt in (1, 2)}
    for one in sent:
        engine("send", *one)
    answers = engine.receive(len(sent))
    assert {(seen.flow, seen.ttl, seen.attempt) for seen in answers} == sent


def test_a_flow_can_be_taken_up_again(lab: Lab, engine: RemoteEngine) -> None:
    """The next trace gets the source port that it asks for, but not while a flow has it."""
    first = engine.open(OPEN)
    source, port = engine("flow", first)
    assert source == lab.scenario.source
    other = engine.open(OPEN, port)
    assert engine("flow", other)[1] != port
    for flow in (first, other):
        engine("release", flow)
    assert engine("flow", engine.open(OPEN, port)) == [source, port]


def test_silence_is_no_answer(engine: RemoteEngine) -> None:
    """A dropped SYN is answered by nobody, and releasing its flow is the end of it."""
    flow = engine.open(SILENT)
    engine("send", flow, 64)
    assert engine.receive(1, REPEATED) == []
    assert engine("release", flow) == 0


def test_nothing_is_given_for_a_released_flow(engine: RemoteEngine) -> None:
    """Answers that were not read before the release belong to nobody."""
    released, kept = (engine.open(OPEN) for _ in range(2))
    for ttl in (1, 4):
        engine("send", released, ttl)
    engine("release", released)
    engine("send", kept, 2)
    assert [(seen.flow, seen.ttl) for seen in engine.receive(1)] == [(kept, 2)]


def test_a_late_reader_sees_the_true_round_trip(lab: Lab, engine: RemoteEngine) -> None:
    """The kernel tells when a packet came, not when it was read, a whole program later."""
    flow = engine.open(OPEN)
    for ttl in (1, 4):
        engine("send", flow, ttl)
    sent_at = time.monotonic()
    lab.run([sys.executable, "-c", ""], check=True)
    late = time.monotonic() - sent_at
    assert [seen.rtt < late for seen in engine.receive(2)] == [True, True]


def test_no_route_is_a_failure(lab: Lab, engine: RemoteEngine) -> None:
    """Without a route neither a flow nor a probe begins, and the reason says so."""
    flow = engine.open(OPEN)
    lab.link(0, up=False)
    no_route = {"failure": "no_route"}
    assert engine.open(OPEN) == no_route
    assert engine("send", flow, 1) == no_route
    lab.link(0, up=True)
    engine("send", flow, 1)
    assert [seen.ttl for seen in engine.receive(1)] == [1]


def test_no_descriptor_is_left_behind(engine: RemoteEngine) -> None:
    """What flows and probes opened is closed on release, and the rest on close."""
    idle = engine("descriptors")
    for port, answers in ((OPEN, 5), (SILENT, 2)):
        flow = engine.open(port)
        for ttl in (1, 2, 3, 4, 64):
            engine("send", flow, ttl)
        assert len(engine.receive(answers)) == answers
        engine("release", flow)
        assert engine("descriptors") == idle
    engine("send", engine.open(SILENT), 64)
    engine("close")
    assert engine("descriptors") == 0


# -- the connect engine ----------------------------------------------------------------


@pytest.mark.parametrize("hop", [4, 1])
def test_the_kernel_repeats_no_syn(lab: Lab, connect: RemoteEngine, hop: int) -> None:
    """Unanswered for longer than the kernel's patience, each probe is still one SYN.

    Behind a gateway the socket has no route any more, on the own network an alarm closes it.
    """
    lab.nft(1, f"insert rule inet lab ingress tcp dport {SILENT} counter drop")
    flow = connect("open", lab.scenario.address(hop), SILENT)
    for ttl in (1, 2, 64):
        connect("send", flow, ttl)
    assert connect.receive(1, REPEATED) == []
    assert counted(lab, 1, "ingress") == [3]


def test_descriptors_are_bounded(connect: RemoteEngine) -> None:
    """The last socket taken, a probe is refused until the oldest ones have had their patience."""
    idle = connect("descriptors")
    flow = connect.open(SILENT)
    assert connect("send_many", flow, 64, 600) == MOST_SOCKETS
    assert connect("send", flow, 64) == {"failure": "internal"}
    assert connect("descriptors") == idle + MOST_SOCKETS
    connect.receive(1, 1.0)
    assert connect("send_many", flow, 1, 3) == 3
    assert connect("descriptors") == idle + MOST_SOCKETS
    assert {seen.ttl for seen in connect.receive(3)} == {1}
    connect("release", flow)
    assert connect("descriptors") == idle


def test_the_destination_is_left_at_once(lab: Lab, connect: RemoteEngine) -> None:
    """Each SYN-ACK is answered with an RST, and the destination keeps no connection."""
    lab.nft(4, "add rule inet lab input tcp flags & (rst | ack) == (rst | ack) counter")
    flow = connect.open(OPEN)
    for attempt in (1, 2, 3):
        connect("send", flow, 64, attempt)
    assert [seen.kind for seen in connect.receive(3)] == ["syn-ack"] * 3
    assert counted(lab, 4, "input") == [3]
    assert not keeps_connections(lab, 4)


def test_an_error_for_another_sequence_number_is_counted(lab: Lab, connect: RemoteEngine) -> None:
    """The kernel drops the error of a path that rewrites sequence numbers, and it is counted."""
    number = connect.open(SILENT)
    connect("send", number, 64)
    source, port = connect("flow", number)
    flow = Flow(source, port, lab.scenario.destination, SILENT)
    forger = Forger(lab.scenario, SILENT)
    throw(lab, forger.expired(forger.quote(Sent(port_of(flow, 64, 1), sequence=1, mark=1))))
    assert connect.receive(1, 0.2) == []
    assert connect("unseen_errors") == 1


@pytest.mark.parametrize("name", ENGINES)
def test_a_late_answer_over_ipv6(open_lab: OpenLab, name: str) -> None:
    """An answer is found that comes later than the kernel would have repeated the SYN.

    The last router keeps the SYN until the destination answers to neighbour discovery.
    """
    lab = open_lab(replace(CHAIN, family="ipv6"))
    lab.nft(1, "insert rule inet lab ingress tcp flags & (syn | ack) == syn counter")
    lab.nft(4, "add rule inet lab input icmpv6 type nd-neighbor-solicit drop")
    with RemoteEngine(lab, name) as engine:
        engine("send", engine.open(OPEN), 64)
        assert engine.receive(1, REPEATED) == []
        lab.nft(4, "flush chain inet lab input")
        assert [(seen.kind, seen.rtt > REPEATED) for seen in engine.receive(1)] == [
            ("syn-ack", True)
        ]
        assert counted(lab, 1, "ingress") == [1]


GATEWAY = ("true",)  # which the network behind the device has by itself
DIRECT = ("ip", "route", "replace", "default", "dev", "tun0", "src", "10.9.0.1")


@pytest.mark.parametrize(
    ("route", "seconds", "kinds"),
    [
        (GATEWAY, 0.2, ["syn-ack"]),
        (GATEWAY, 1.6, ["syn-ack"]),
        (DIRECT, 0.2, ["syn-ack"]),
        (DIRECT, 1.6, []),
    ],
    ids=["gateway", "gateway-late", "direct", "direct-late"],
)
def test_a_distant_destination(route: tuple[str, ...], seconds: float, kinds: list[str]) -> None:
    """An answer is found when the socket is mute by then; without a gateway a late one is lost."""
    far = replace(CHAIN, delay=seconds / 2 / CHAIN.hops)
    with TunNetwork(far) as network:
        network.run(route, check=True)
        with RemoteEngine(network, "connect") as engine:
            engine("send", engine.open(OPEN), 64)
            seen = engine.receive(1, 2.5)
    assert [one.kind for one in seen] == kinds
    assert all(seconds <= one.rtt < seconds + 0.1 for one in seen)

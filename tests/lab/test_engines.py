"""Every engine among real routers: one contract, one set of scenarios, the same verdicts.

Each engine runs with no more than it needs: the connect engine without any capability.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP

from exporter.model import Flow
from exporter.probing.engines import ENGINES
from exporter.probing.engines.connect import port_of
from exporter.probing.engines.waiting import MOST_SOCKETS
from tests.bench.tun_network import TunNetwork
from tests.lab import test_verdicts as verdicts
from tests.lab.chain import (
    CHAIN,
    CLOSED,
    DESTINATION,
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
from tests.lab.engines import WRAPPERS, RemoteEngine
from tests.lab.exporting import COMMAND, ROOT, environment
from tests.lab.lab import Lab, LabError
from tests.scenarios import Expectation, Scenario

#: Longer than the kernel waits before it repeats a SYN.
REPEATED = 1.4


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, lab: Lab) -> Iterator[RemoteEngine]:
    """Each engine at the chain's beginning."""
    with RemoteEngine(lab, request.param) as remote:
        yield remote


# -- the contract ----------------------------------------------------------------------


def test_every_device_of_an_open_path(engine: RemoteEngine) -> None:
    """Each TTL finds its device: routers by time-exceeded, the destination by SYN-ACK."""
    answers = engine.probe(OPEN, range(1, 6))
    assert [
        (answers[ttl].address, answers[ttl].kind, answers[ttl].icmp) for ttl in range(1, 5)
    ] == [
        ("10.9.0.2", "time-exceeded", (11, 0)),
        ("10.9.1.2", "time-exceeded", (11, 0)),
        ("10.9.2.2", "time-exceeded", (11, 0)),
        (DESTINATION, "syn-ack", None),
    ]
    assert [answers[ttl].reply_ttl for ttl in (1, 2, 3)] == [64, 63, 62]
    assert all(0 < seen.rtt < 1 for seen in answers.values())


@pytest.mark.parametrize(
    ("port", "ttl", "expected"),
    [
        (CLOSED, 4, (DESTINATION, "rst", None)),
        (CLOSED, 64, (DESTINATION, "rst", None)),
        (OPEN, 64, (DESTINATION, "syn-ack", None)),
        (REJECTED, 3, ("10.9.1.2", "unreachable", (3, 3))),
        (PROHIBITED, 3, ("10.9.1.2", "unreachable", (3, 13))),
        (REJECTED, 2, ("10.9.1.2", "time-exceeded", (11, 0))),
        (RESET, 3, (DESTINATION, "rst", None)),
    ],
)
def test_what_ends_a_path(
    engine: RemoteEngine, port: int, ttl: int, expected: tuple[object, ...]
) -> None:
    """A port-unreachable is no RST, and a closed port no rejection."""
    seen = engine.probe(port, range(ttl, ttl + 1))[ttl]
    assert (seen.address, seen.kind, seen.icmp) == expected


def test_attempts_and_flows_are_told_apart(engine: RemoteEngine) -> None:
    """Answers of several flows and attempts each find their probe."""
    flows = [engine("open", DESTINATION, OPEN) for _ in range(3)]
    sent = {(flow, ttl, attempt) for flow in flows for ttl in (1, 2) for attempt in (1, 2)}
    for one in sent:
        engine("send", *one)
    answers = engine.receive(len(sent))
    assert {(seen.flow, seen.ttl, seen.attempt) for seen in answers} == sent


def test_a_flow_can_be_taken_up_again(engine: RemoteEngine) -> None:
    """The next trace gets the source port that it asks for, but not while a flow has it."""
    first = engine("open", DESTINATION, OPEN)
    source, port = engine("flow", first)
    assert source == CHAIN.source
    other = engine("open", DESTINATION, OPEN, port)
    assert engine("flow", other)[1] != port
    for flow in (first, other):
        engine("release", flow)
    assert engine("flow", engine("open", DESTINATION, OPEN, port)) == [source, port]


def test_silence_is_no_answer(engine: RemoteEngine) -> None:
    """A dropped SYN is answered by nobody, and releasing its flow is the end of it."""
    flow = engine("open", DESTINATION, SILENT)
    engine("send", flow, 64)
    assert engine.receive(1, REPEATED) == []
    assert engine("release", flow) == 0


def test_nothing_is_given_for_a_released_flow(engine: RemoteEngine) -> None:
    """Answers that were not read before the release belong to nobody."""
    released, kept = (engine("open", DESTINATION, OPEN) for _ in range(2))
    for ttl in (1, 4):
        engine("send", released, ttl)
    engine("release", released)
    engine("send", kept, 2)
    assert [(seen.flow, seen.ttl) for seen in engine.receive(1)] == [(kept, 2)]


def test_a_late_reader_sees_the_true_round_trip(lab: Lab, engine: RemoteEngine) -> None:
    """The kernel tells when a packet came, not when it was read, a whole program later."""
    flow = engine("open", DESTINATION, OPEN)
    for ttl in (1, 4):
        engine("send", flow, ttl)
    sent_at = time.monotonic()
    lab.run([sys.executable, "-c", ""], check=True)
    late = time.monotonic() - sent_at
    assert [seen.rtt < late for seen in engine.receive(2)] == [True, True]


def test_no_route_is_a_failure(lab: Lab, engine: RemoteEngine) -> None:
    """Without a route neither a flow nor a probe begins, and the reason says so."""
    flow = engine("open", DESTINATION, OPEN)
    lab.link(0, up=False)
    no_route = {"failure": "no_route"}
    assert engine("open", DESTINATION, OPEN) == no_route
    assert engine("send", flow, 1) == no_route
    lab.link(0, up=True)
    engine("send", flow, 1)
    assert [seen.ttl for seen in engine.receive(1)] == [1]


def test_no_descriptor_is_left_behind(engine: RemoteEngine) -> None:
    """What flows and probes opened is closed on release, and the rest on close."""
    idle = engine("descriptors")
    for port, answers in ((OPEN, 5), (SILENT, 2)):
        flow = engine("open", DESTINATION, port)
        for ttl in (1, 2, 3, 4, 64):
            engine("send", flow, ttl)
        assert len(engine.receive(answers)) == answers
        engine("release", flow)
        assert engine("descriptors") == idle
    engine("send", engine("open", DESTINATION, SILENT), 64)
    engine("close")
    assert engine("descriptors") == 0


# -- the connect engine ----------------------------------------------------------------


@pytest.mark.parametrize("destination", [DESTINATION, "10.9.0.2"])
def test_the_kernel_repeats_no_syn(lab: Lab, connect: RemoteEngine, destination: str) -> None:
    """Unanswered for longer than the kernel's patience, each probe is still one SYN.

    Behind a gateway the socket has no route any more, on the own network an alarm closes it.
    """
    lab.nft(1, f"insert rule ip lab ingress tcp dport {SILENT} counter drop")
    flow = connect("open", destination, SILENT)
    for ttl in (1, 2, 64):
        connect("send", flow, ttl)
    assert connect.receive(1, REPEATED) == []
    assert counted(lab, 1, "ingress") == [3]


def test_descriptors_are_bounded(connect: RemoteEngine) -> None:
    """The last socket taken, a probe is refused until the oldest ones have had their patience."""
    idle = connect("descriptors")
    flow = connect("open", DESTINATION, SILENT)
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
    lab.nft(4, "add rule ip lab input tcp flags & (rst | ack) == (rst | ack) counter")
    flow = connect("open", DESTINATION, OPEN)
    for attempt in (1, 2, 3):
        connect("send", flow, 64, attempt)
    assert [seen.kind for seen in connect.receive(3)] == ["syn-ack"] * 3
    assert counted(lab, 4, "input") == [3]
    assert not keeps_connections(lab, 4)


def test_an_error_for_another_sequence_number_is_counted(lab: Lab, connect: RemoteEngine) -> None:
    """The kernel drops the error of a path that rewrites sequence numbers, and it is counted."""
    number = connect("open", DESTINATION, SILENT)
    connect("send", number, 64)
    source, port = connect("flow", number)
    flow = Flow(source, port, DESTINATION, SILENT)
    quoted = IP(src=flow.source, dst=DESTINATION, ttl=1) / TCP(
        sport=port_of(flow, 64, 1), dport=SILENT, seq=1, flags="S"
    )
    error = bytes(IP(src="10.9.0.2", dst=flow.source) / ICMP(type=11) / quoted)
    throw(lab, error)
    assert connect.receive(1, 0.2) == []
    assert connect("out_of_window") == 1


GATEWAY = "ip route add 10.9.0.2 dev tun0; ip route replace default via 10.9.0.2 src 10.9.0.1"


@pytest.mark.parametrize(
    ("routes", "seconds", "kinds"),
    [
        (GATEWAY, 0.2, ["syn-ack"]),
        (GATEWAY, 1.6, ["syn-ack"]),
        ("true", 0.2, ["syn-ack"]),
        ("true", 1.6, []),
    ],
    ids=["gateway", "gateway-late", "direct", "direct-late"],
)
def test_a_distant_destination(routes: str, seconds: float, kinds: list[str]) -> None:
    """An answer is found when the socket is mute by then; without a gateway a late one is lost."""
    far = replace(CHAIN, delay=seconds / 2 / CHAIN.hops)
    with TunNetwork(far) as network:
        network.run(["sh", "-c", routes], check=True)
        with RemoteEngine(network, "connect") as engine:
            engine("send", engine("open", DESTINATION, OPEN), 64)
            seen = engine.receive(1, 2.5)
    assert [one.kind for one in seen] == kinds
    assert all(seconds <= one.rtt < seconds + 0.1 for one in seen)


# -- the verdicts ----------------------------------------------------------------------

#: The first engine is what test_verdicts.py runs.
OTHERS = tuple(ENGINES)[1:]


def traced(lab: Lab, name: str, endpoint: str) -> verdicts.Outcome:
    """What `trace --json` says in a lab, with this engine."""
    done = lab.run(
        [*WRAPPERS.get(name, ()), *COMMAND, "trace", "--json", "--engine", name, endpoint],
        cwd=ROOT,
        env=environment(lab),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return verdicts.Outcome(done.returncode, json.loads(done.stdout or "{}"), done.stderr)


def trace(name: str, scenario: Scenario, expectation: Expectation) -> verdicts.Outcome:
    """Trace one port of a scenario's destination in a fresh lab."""
    with Lab(scenario) as lab:
        return traced(lab, name, f"{scenario.destination}:{expectation.port}")


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest,
) -> Iterator[Mapping[tuple[str, str], Future[verdicts.Outcome]]]:
    """The traces of the cases that were selected, under way."""
    selected = [
        (str(item.callspec.params["name"]), str(item.callspec.params["case"]))
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.path == request.path
        and item.originalname == "test_the_verdict_is_the_truth"
    ]
    with ThreadPoolExecutor(verdicts.LABS) as pool:
        yield {
            (name, case): pool.submit(trace, name, *verdicts.CASES[case]) for name, case in selected
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("case", verdicts.CASES)
@pytest.mark.parametrize("name", OTHERS)
def test_the_verdict_is_the_truth(
    name: str, case: str, outcomes: Mapping[tuple[str, str], Future[verdicts.Outcome]]
) -> None:
    """Every other engine comes to the verdict, exit status and hops of the first one."""
    scenario, expectation = verdicts.CASES[case]
    try:
        outcome = outcomes[name, case].result()
    except LabError as error:
        pytest.fail(str(error), pytrace=False)
    assert outcome.found, outcome.errors
    assert outcome.found["engine"] == name
    verdict = outcome.found["verdict"]
    assert verdicts.said(verdict) == verdicts.truth(scenario, expectation), verdict["reason"]
    assert outcome.status == verdicts.EXIT_STATUS.get(expectation.state, 1)
    found = verdicts.chain(outcome.found, expectation)
    assert found == verdicts.true_chain(scenario, expectation)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("hops", [1, 2])
def test_a_dead_neighbour(open_lab: OpenLab, name: str, hops: int) -> None:
    """That a destination on the own network, or a gateway, is not there this host says itself."""
    dead = replace(CHAIN, hops=hops, rules=(), open_ports=(), destination_exists=False)
    lab = open_lab(dead)
    if hops == 2:
        lab.run(["ip", "route", "replace", "default", "via", "10.9.0.9"], check=True)
    found = traced(lab, name, f"{dead.destination}:443").found
    verdict = found["verdict"]
    assert (verdict["state"], verdict["last_reachable_hop"]) == ("unreachable", 0)
    assert dead.source in " ".join(verdict["evidence"])

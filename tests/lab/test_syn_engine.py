"""The syn engine among real routers: what it sends, what it takes, and whom it leaves alone."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, IPOption_RR

from tests import scenarios
from tests.lab.conftest import OpenLab
from tests.lab.lab import Lab, at
from tests.lab.remote import Remote, Seen
from tests.scenarios import Rule

RAW = Path(__file__).with_name("raw.py")
MID_PATH = scenarios.load(scenarios.FOLDER / "mid_path_firewall.toml")
#: Three routers, the destination at hop 4; the second router refuses three ports.
CHAIN = replace(
    MID_PATH,
    name="plain",
    hops=4,
    open_ports=(443,),
    rules=(
        Rule(2, "admin-prohibited", ports=(25,)),
        Rule(2, "tcp-reset", ports=(26,)),
        Rule(2, "drop", ports=(27,)),
    ),
    expectations=(),
)
DESTINATION = CHAIN.destination
SOURCE = CHAIN.source
ROUTER = CHAIN.address(1)
OPEN, CLOSED, REJECTED, RESET, SILENT = 443, 80, 25, 26, 27
WRAP = 1 << 32
#: (sequence number, IP ID) of a probe.
Numbers = tuple[int, int]


@pytest.fixture
def lab(open_lab: OpenLab) -> Lab:
    """The chain, running."""
    return open_lab(CHAIN)


@pytest.fixture
def engine(lab: Lab) -> Iterator[Remote]:
    """An engine at the chain's beginning."""
    with Remote(lab) as remote:
        yield remote


def probe(engine: Remote, port: int, ttls: range) -> dict[int, Seen]:
    """TTL -> the answer to one probe of a new flow."""
    flow = engine("open", DESTINATION, port)
    for ttl in ttls:
        engine("send", flow, ttl)
    answers = {seen.ttl: seen for seen in engine.receive(len(ttls))}
    engine("release", flow)
    return answers


def throw(lab: Lab, *packets: bytes) -> None:
    """Have the first router send packets to the prober, in this order."""
    text = "".join(f"{packet.hex()}\n" for packet in packets)
    argv = [sys.executable, "-I", str(RAW), SOURCE]
    lab.run(at(1, argv), input=text, text=True, check=True)


def quote(flow: int, numbers: Numbers, **ip: Any) -> bytes:
    """A probe to the silent port as the first router would quote it."""
    sequence, ip_id = numbers
    tcp = TCP(sport=flow, dport=SILENT, seq=sequence, flags="S")
    header = {"src": SOURCE, "dst": DESTINATION, "ttl": 1, "id": ip_id, **ip}
    return bytes(IP(**header) / tcp)


def expired(quoted: bytes, **ip: Any) -> bytes:
    """A time-exceeded of the first router."""
    return bytes(IP(src=ROUTER, dst=SOURCE, **ip) / ICMP(type=11, code=0) / quoted)


def accepting(flow: int, numbers: Numbers, **ip: Any) -> bytes:
    """A SYN-ACK in the destination's name."""
    acknowledged = (numbers[0] + 1) % WRAP
    tcp = TCP(sport=SILENT, dport=flow, flags="SA", ack=acknowledged)
    return bytes(IP(src=DESTINATION, dst=SOURCE, **ip) / tcp)


# -- what answers ----------------------------------------------------------------------


def test_every_device_of_an_open_path(engine: Remote) -> None:
    """Each TTL finds its device: routers by time-exceeded, the destination by SYN-ACK."""
    answers = probe(engine, OPEN, range(1, 6))
    routers = [(seen.address, seen.kind, seen.icmp) for seen in list(answers.values())[:3]]
    assert [answers[ttl].address for ttl in (1, 2, 3)] == ["10.9.0.2", "10.9.1.2", "10.9.2.2"]
    assert {seen[1:] for seen in routers} == {("time-exceeded", (11, 0))}
    assert {answers[ttl].quoted_ttl for ttl in (1, 2, 3)} == {1}
    assert [answers[ttl].reply_ttl for ttl in (1, 2, 3, 4)] == [64, 63, 62, 61]
    assert (answers[4].address, answers[4].kind) == (DESTINATION, "syn-ack")
    assert all(0 < seen.rtt < 1 and seen.rewritten == () for seen in answers.values())


@pytest.mark.parametrize(
    ("port", "ttl", "expected"),
    [
        (CLOSED, 4, (DESTINATION, "rst", None)),
        (REJECTED, 3, ("10.9.1.2", "unreachable", (3, 13))),
        (RESET, 3, (DESTINATION, "rst", None)),
    ],
)
def test_other_ends_of_a_path(
    engine: Remote, port: int, ttl: int, expected: tuple[object, ...]
) -> None:
    """A closed port, a rejecting and a resetting firewall are told apart by what they send."""
    seen = probe(engine, port, range(ttl, ttl + 1))[ttl]
    assert (seen.address, seen.kind, seen.icmp) == expected


def test_attempts_and_flows_are_told_apart(engine: Remote) -> None:
    """Answers of several flows and attempts each find their probe."""
    flows = [engine("open", DESTINATION, OPEN) for _ in range(3)]
    sent = {(flow, ttl, attempt) for flow in flows for ttl in (1, 2) for attempt in (1, 2)}
    for flow, ttl, attempt in sent:
        engine("send", flow, ttl, attempt)
    answers = engine.receive(len(sent))
    assert {(seen.port, seen.ttl, seen.attempt) for seen in answers} == sent


def test_more_flows_than_a_filter_holds(engine: Remote) -> None:
    """With hundreds of flows, too, each answer arrives at its own."""
    flows = [engine("open", DESTINATION, OPEN) for _ in range(210)]
    for count in (210, 200, 1):
        for flow in flows[count:]:
            engine("release", flow)
        del flows[count:]
        engine("send", flows[-1], 64, count)
        (seen,) = engine.receive(1)
        assert (seen.port, seen.attempt) == (flows[-1], count)


def test_a_late_reader_sees_the_true_round_trip(engine: Remote) -> None:
    """The kernel's stamp tells when a packet came, not when it was read 50 ms later."""
    flow = engine("open", DESTINATION, OPEN)
    for ttl in (1, 4):
        engine("send", flow, ttl)
    engine("oversleep", 0.05)
    assert [seen.rtt < 0.04 for seen in engine.receive(2)] == [True, True]


# -- the host and the destination are left alone ---------------------------------------


def test_the_source_port_is_reserved(engine: Remote) -> None:
    """No application gets the port of a flow, and anyone may have it afterwards."""
    flow = engine("open", DESTINATION, OPEN)
    assert engine("bind", flow) == "EADDRINUSE"
    engine("release", flow)
    assert engine("bind", flow) == ""


def test_the_preferred_port_if_it_is_free(engine: Remote) -> None:
    """A flow keeps the port of the one before, and takes another when that is taken."""
    flow = engine("open", DESTINATION, OPEN)
    other = engine("open", DESTINATION, CLOSED, flow)
    assert other not in (0, flow)
    engine("release", flow)
    assert engine("open", DESTINATION, OPEN, flow) == flow


LISTENER = """
import socket
server = socket.create_server(("", 8443))
print("listening", flush=True)
input()
server.setblocking(False)
try:
    server.accept()
    print("accepted")
except BlockingIOError:
    print("nobody came")
"""


def test_connections_stay_half_open(lab: Lab, engine: Remote) -> None:
    """The prober's kernel resets each SYN-ACK, so no application ever sees a connection."""
    lab.nft(4, "add rule ip lab input tcp flags & (rst | ack) == rst counter")
    argv = at(4, [sys.executable, "-I", "-c", LISTENER])
    with lab.popen(argv, stdin=-1, stdout=-1, text=True) as server:
        assert server.stdout
        assert server.stdout.readline() == "listening\n"
        for _ in range(3):
            assert probe(engine, 8443, range(4, 5))[4].kind == "syn-ack"
        rules = lab.run(at(4, ["nft", "list", "chain", "ip", "lab", "input"]), capture_output=True)
        assert server.communicate("\n")[0] == "nobody came\n"
    counted = re.search(rb"counter packets (\d+)", rules.stdout)
    assert counted
    assert int(counted[1]) == 3
    waiting = lab.run(at(4, ["cat", "/proc/net/tcp"]), capture_output=True, text=True)
    states = {line.split()[3] for line in waiting.stdout.splitlines()[1:]}
    assert states == {"0A"}, "something is not just listening"


SERVER = """
import socket
server = socket.create_server(("", 9000))
print("listening", flush=True)
with server.accept()[0] as client:
    client.sendall(bytes(50_000_000))
"""
CLIENT = """
import socket, sys
received = 0
with socket.create_connection((sys.argv[1], 9000)) as client:
    while chunk := client.recv(1 << 20):
        received += len(chunk)
print(received)
"""


def test_other_programs_traffic_is_not_taken(lab: Lab, engine: Remote) -> None:
    """While another program receives 50 MB the engine sees nothing but its own answers."""
    flow = engine("open", DESTINATION, OPEN)
    with lab.popen(at(4, [sys.executable, "-I", "-c", SERVER]), stdout=-1, text=True) as server:
        assert server.stdout
        assert server.stdout.readline() == "listening\n"
        argv = [sys.executable, "-I", "-c", CLIENT, DESTINATION]
        assert int(lab.run(argv, capture_output=True, check=True).stdout) == 50_000_000
    engine("send", flow, 4)
    assert [seen.kind for seen in engine.receive(1)] == ["syn-ack"]
    assert engine("counts") == {"foreign": 0, "malformed": 0}


# -- what the wire brings --------------------------------------------------------------


def test_duplicated_replies_are_counted(lab: Lab, engine: Remote) -> None:
    """A reply that comes three times is one answer and two duplicates."""
    flow = engine("open", DESTINATION, SILENT)
    again, once = (quote(flow, engine("send", flow, ttl)) for ttl in (8, 9))
    throw(lab, *[expired(again)] * 3, expired(once))
    assert [seen.ttl for seen in engine.receive(2)] == [8, 9]
    assert engine("release", flow) == 2


def test_late_replies_are_foreign(lab: Lab, engine: Remote) -> None:
    """What arrives for a flow that has been released answers nothing of the next one."""
    before = engine("open", DESTINATION, SILENT)
    late = engine("send", before, 8)
    engine("release", before)
    flow = engine("open", DESTINATION, SILENT, before)
    assert flow == before
    numbers = engine("send", flow, 9)
    throw(lab, expired(quote(flow, late, id=0)), expired(quote(flow, numbers)))
    assert [seen.ttl for seen in engine.receive(1)] == [9]
    assert engine("counts")["foreign"] == 1


def test_replies_with_ip_options(lab: Lab, engine: Remote) -> None:
    """Options in a router's header, in the quoted one and in a TCP answer's are passed over."""
    options = [IPOption_RR(routers=["10.9.0.2"] * 9)]
    flow = engine("open", DESTINATION, SILENT)
    numbers = {ttl: engine("send", flow, ttl) for ttl in (7, 8, 9)}
    throw(
        lab,
        expired(quote(flow, numbers[7]), options=options),
        expired(quote(flow, numbers[8], options=options)),
        accepting(flow, numbers[9], options=options),
    )
    answers = {seen.ttl: seen.kind for seen in engine.receive(3)}
    assert answers == {7: "time-exceeded", 8: "time-exceeded", 9: "syn-ack"}


def test_rewritten_quotes(lab: Lab, engine: Remote) -> None:
    """A quote as a NAT leaves it finds its probe by number, and shows what was rewritten."""
    flow = engine("open", DESTINATION, SILENT)
    by_sequence, (_, ip_id) = (engine("send", flow, ttl) for ttl in (8, 9))
    throw(
        lab,
        expired(quote(61000, by_sequence, src="192.0.2.1", id=1)),
        expired(quote(flow, (12345, ip_id))),
    )
    first, second = engine.receive(2)
    assert (first.ttl, first.rewritten) == (8, ("source address", "source port"))
    assert (second.ttl, second.rewritten) == (9, ("sequence number",))


def test_hostile_errors_change_nothing(lab: Lab, engine: Remote) -> None:
    """Errors that are broken, foreign or guessed are counted, and the true one is found."""
    flow = engine("open", DESTINATION, SILENT)
    numbers = engine("send", flow, 9)
    whole = quote(flow, numbers)
    guessed = quote(flow, ((numbers[0] + 1) % WRAP, numbers[1] ^ 0x8000))
    broken = [whole[:size] for size in range(28)]
    broken += [b"\x4f" + whole[1:28], b"\x40" + whole[1:]]
    foreign = [guessed, quote(flow + 1, (1, 1)), quote(flow, (1, 1))]
    others = [b"\x65" + whole[1:], whole[:9] + b"\x11" + whole[10:], bytes(1400)]
    throw(lab, *map(expired, [*broken, *foreign, *others, whole]))
    assert [(seen.ttl, seen.address) for seen in engine.receive(1)] == [(9, ROUTER)]
    assert engine("counts") == {"foreign": len(foreign), "malformed": len(broken)}
    assert engine("release", flow) == 0


def test_a_flood_does_not_drown_an_answer(lab: Lab, engine: Remote) -> None:
    """Two thousand foreign errors at once leave room for the one that counts."""
    flow = engine("open", DESTINATION, SILENT)
    true = expired(quote(flow, engine("send", flow, 9)))
    foreign = expired(quote(flow, (1, 1)))
    throw(lab, *[foreign] * 1000, true, *[foreign] * 1000)
    assert [seen.ttl for seen in engine.receive(1)] == [9]

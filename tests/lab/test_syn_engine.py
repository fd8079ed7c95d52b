"""The syn engine among real routers: what it sends, what it takes, and whom it leaves alone."""

from __future__ import annotations

import sys

import pytest

from tests.lab.chain import OPEN, SILENT, counted, keeps_connections, throw
from tests.lab.crafted import Forger, Sent
from tests.lab.engines import RemoteEngine
from tests.lab.lab import Lab, at
from tests.scenarios import FAMILIES

pytestmark = pytest.mark.alone

WRAP = 1 << 32


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Each IP version."""
    return str(request.param)


@pytest.fixture
def forger(lab: Lab) -> Forger:
    """Who makes up answers to probes to the silent port."""
    return Forger(lab.scenario, SILENT)


def send(syn: RemoteEngine, flow: int, ttl: int) -> Sent:
    """Send a probe."""
    syn("send", flow, ttl)
    return Sent(*syn("numbers", flow, ttl))


# -- what answers ----------------------------------------------------------------------


def test_what_only_raw_sockets_see(syn: RemoteEngine) -> None:
    """The quoted TTL, what was rewritten of the quote, and the TTL of a TCP answer are read."""
    answers = syn.probe(OPEN, range(1, 6))
    assert [answers[ttl].quoted_ttl for ttl in (1, 2, 3, 4)] == [1, 1, 1, None]
    assert {seen.rewritten for seen in answers.values()} == {()}
    assert answers[4].reply_ttl == 61


def test_more_flows_to_one_endpoint_than_a_filter_holds(syn: RemoteEngine) -> None:
    """With hundreds of flows to one endpoint, too, each answer arrives at its own."""
    flows = [syn.open(OPEN) for _ in range(210)]
    for count in (210, 200, 1):
        for flow in flows[count:]:
            syn("release", flow)
        del flows[count:]
        syn("send", flows[-1], 64, count)
        (seen,) = syn.receive(1)
        assert (seen.flow, seen.attempt) == (flows[-1], count)


# -- the host and the destination are left alone ---------------------------------------


def test_the_source_port_is_reserved(syn: RemoteEngine) -> None:
    """No application gets the port of a flow while the engine runs, and anyone may afterwards."""
    flow = syn.open(OPEN)
    _, port = syn("flow", flow)
    assert syn("bind", port) == "EADDRINUSE"
    syn("release", flow)
    assert syn("bind", port) == "EADDRINUSE"
    syn("close")
    assert syn("bind", port) == ""


LISTENER = """
import socket
server = socket.create_server(("", 8443), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
input()
server.setblocking(False)
try:
    server.accept()
    print("accepted")
except BlockingIOError:
    print("nobody came")
"""


def test_connections_stay_half_open(lab: Lab, syn: RemoteEngine) -> None:
    """The prober's kernel resets each SYN-ACK, so no application ever sees a connection."""
    lab.nft(4, "add rule inet lab input tcp flags & (rst | ack) == rst counter")
    argv = at(4, [sys.executable, "-I", "-c", LISTENER])
    with lab.popen(argv, stdin=-1, stdout=-1, text=True) as server:
        assert server.stdout
        assert server.stdout.readline() == "listening\n"
        for _ in range(3):
            assert syn.probe(8443, range(4, 5))[4].kind == "syn-ack"
        assert counted(lab, 4, "input") == [3]
        assert server.communicate("\n")[0] == "nobody came\n"
    assert not keeps_connections(lab, 4)


SERVER = """
import socket
server = socket.create_server(("", 9000), family=socket.AF_INET6, dualstack_ipv6=True)
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


def test_other_programs_traffic_is_not_taken(lab: Lab, syn: RemoteEngine) -> None:
    """While another program receives 50 MB the engine sees nothing but its own answers."""
    flow = syn.open(OPEN)
    with lab.popen(at(4, [sys.executable, "-I", "-c", SERVER]), stdout=-1, text=True) as server:
        assert server.stdout
        assert server.stdout.readline() == "listening\n"
        argv = [sys.executable, "-I", "-c", CLIENT, lab.scenario.destination]
        assert int(lab.run(argv, capture_output=True, check=True).stdout) == 50_000_000
    syn("send", flow, 4)
    assert [seen.kind for seen in syn.receive(1)] == ["syn-ack"]
    assert syn("counts") == {"foreign": 0, "malformed": 0}
    assert syn("packets") == 1


def test_errors_of_other_programs_packets_are_not_read(
    lab: Lab, syn: RemoteEngine, forger: Forger
) -> None:
    """Errors that quote another protocol, or a port of this host's that is not ours, stay away."""
    flow = syn.open(SILENT)
    sent = send(syn, flow, 9)
    whole = forger.quote(sent)
    others = [forger.quote(sent._replace(port=sent.port ^ 1 << bit)) for bit in range(16)]
    throw(lab, *map(forger.expired, [*others, datagram(whole), whole]))
    assert [seen.ttl for seen in syn.receive(1)] == [9]
    assert syn("packets") == 1
    assert syn("counts") == {"foreign": 0, "malformed": 0}


def datagram(whole: bytes) -> bytes:
    """A quote that claims to be of UDP."""
    at = 6 if whole[0] >> 4 == 6 else 9
    return whole[:at] + b"\x11" + whole[at + 1 :]


# -- what the wire brings --------------------------------------------------------------


def test_duplicated_replies_are_counted(lab: Lab, syn: RemoteEngine, forger: Forger) -> None:
    """A reply that comes three times is one answer and two duplicates."""
    flow = syn.open(SILENT)
    again, once = (forger.expired(forger.quote(send(syn, flow, ttl))) for ttl in (8, 9))
    throw(lab, *[again] * 3, once)
    assert [seen.ttl for seen in syn.receive(2)] == [8, 9]
    assert syn("release", flow) == 2


def test_late_replies_are_foreign(lab: Lab, syn: RemoteEngine, forger: Forger) -> None:
    """What arrives for a flow that has been released answers nothing of the next one."""
    before = syn.open(SILENT)
    late = send(syn, before, 8)
    syn("release", before)
    flow = syn.open(SILENT, late.port)
    sent = send(syn, flow, 9)
    assert sent.port == late.port
    unmarked = late._replace(mark=0)
    throw(lab, *(forger.expired(forger.quote(one)) for one in (unmarked, sent)))
    assert [seen.ttl for seen in syn.receive(1)] == [9]
    assert syn("counts")["foreign"] == 1


def test_replies_with_ip_options(lab: Lab, syn: RemoteEngine, forger: Forger) -> None:
    """Options in a router's header, in the quoted one and in a TCP answer's are passed over."""
    flow = syn.open(SILENT)
    sent = {ttl: send(syn, flow, ttl) for ttl in (7, 8, 9)}
    throw(
        lab,
        forger.expired(forger.quote(sent[7]), long=True),
        forger.expired(forger.quote(sent[8], long=True)),
        forger.accepting(sent[9], long=True),
    )
    answers = {seen.ttl: seen.kind for seen in syn.receive(3)}
    assert answers == {7: "time-exceeded", 8: "time-exceeded", 9: "syn-ack"}


def test_rewritten_quotes(lab: Lab, syn: RemoteEngine, forger: Forger) -> None:
    """A quote as a NAT leaves it finds its probe by number, and shows what was rewritten."""
    flow = syn.open(SILENT)
    by_sequence, by_mark = (send(syn, flow, ttl) for ttl in (8, 9))
    other = {"ipv4": "192.0.2.1", "ipv6": "2001:db8::1"}[lab.scenario.family]
    throw(
        lab,
        forger.expired(forger.quote(by_sequence._replace(port=61000, mark=1), source=other)),
        forger.expired(forger.quote(by_mark._replace(sequence=12345))),
    )
    first, second = syn.receive(2)
    assert (first.ttl, first.rewritten) == (8, ("source address", "source port"))
    assert (second.ttl, second.rewritten) == (9, ("sequence number",))


def broken_quotes(whole: bytes) -> list[bytes]:
    """Quotes that claim to be of TCP, and end before its first 8 octets or lie about a length."""
    if whole[0] >> 4 == 6:
        options = whole[:6] + b"\x3c" + whole[7:40]  # next header: destination options
        return [*(whole[:size] for size in range(48)), options + b"\x06\x01" + bytes(6)]
    cut = [whole[:size] for size in range(28)]
    return [*cut, b"\x4f" + whole[1:28], b"\x40" + whole[1:]]


def other_quotes(whole: bytes) -> list[bytes]:
    """Quotes that do not claim to be of TCP: the other IP version, UDP, nothing."""
    if whole[0] >> 4 == 6:
        return [b"\x45" + whole[1:], datagram(whole), bytes(1000)]
    return [b"\x65" + whole[1:], datagram(whole), bytes(1400)]


def test_hostile_errors_change_nothing(lab: Lab, syn: RemoteEngine, forger: Forger) -> None:
    """Errors that are broken, foreign or guessed are counted, and the true one is found."""
    flow = syn.open(SILENT)
    sent = send(syn, flow, 9)
    whole = forger.quote(sent)
    near = Sent(sent.port, (sent.sequence + 1) % WRAP, sent.mark ^ 0x8000)
    far = Sent(sent.port, 1, 1)
    broken = broken_quotes(whole)
    foreign = [forger.quote(one) for one in (near, far)]
    throw(lab, *map(forger.expired, [*broken, *foreign, *other_quotes(whole), whole]))
    assert [(seen.ttl, seen.address) for seen in syn.receive(1)] == [(9, lab.scenario.address(1))]
    assert syn("counts") == {"foreign": len(foreign), "malformed": len(broken)}
    assert syn("release", flow) == 0


def test_a_flood_does_not_drown_an_answer(lab: Lab, syn: RemoteEngine, forger: Forger) -> None:
    """Two thousand foreign errors at once leave room for the one that counts."""
    flow = syn.open(SILENT)
    sent = send(syn, flow, 9)
    true, foreign = (forger.expired(forger.quote(one)) for one in (sent, Sent(sent.port, 1, 1)))
    throw(lab, *[foreign] * 1000, true, *[foreign] * 1000)
    assert [seen.ttl for seen in syn.receive(1)] == [9]

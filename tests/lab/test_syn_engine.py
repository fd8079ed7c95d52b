"""The syn engine among real routers: what it sends, what it takes, and whom it leaves alone."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from scapy.layers.inet import ICMP, IP, TCP, IPOption_RR

from tests.lab.chain import (
    CHAIN,
    DESTINATION,
    OPEN,
    SILENT,
    counted,
    keeps_connections,
    throw,
)
from tests.lab.engines import RemoteEngine
from tests.lab.lab import Lab, at

SOURCE = CHAIN.source
ROUTER = CHAIN.address(1)
WRAP = 1 << 32


class Sent(NamedTuple):
    """A probe to the silent port, by what a router would quote of it."""

    port: int
    sequence: int
    ip_id: int


def send(syn: RemoteEngine, flow: int, ttl: int) -> Sent:
    """Send a probe."""
    syn("send", flow, ttl)
    return Sent(*syn("numbers", flow, ttl))


def quote(sent: Sent, **ip: Any) -> bytes:
    """A probe as the first router would quote it."""
    tcp = TCP(sport=sent.port, dport=SILENT, seq=sent.sequence, flags="S")
    header = {"src": SOURCE, "dst": DESTINATION, "ttl": 1, "id": sent.ip_id, **ip}
    return bytes(IP(**header) / tcp)


def expired(quoted: bytes, **ip: Any) -> bytes:
    """A time-exceeded of the first router."""
    return bytes(IP(src=ROUTER, dst=SOURCE, **ip) / ICMP(type=11, code=0) / quoted)


def accepting(sent: Sent, **ip: Any) -> bytes:
    """A SYN-ACK in the destination's name."""
    acknowledged = (sent.sequence + 1) % WRAP
    tcp = TCP(sport=SILENT, dport=sent.port, flags="SA", ack=acknowledged)
    return bytes(IP(src=DESTINATION, dst=SOURCE, **ip) / tcp)


# -- what answers ----------------------------------------------------------------------


def test_what_only_raw_sockets_see(syn: RemoteEngine) -> None:
    """The quoted TTL, what was rewritten of the quote, and the TTL of a TCP answer are read."""
    answers = syn.probe(OPEN, range(1, 6))
    assert [answers[ttl].quoted_ttl for ttl in (1, 2, 3, 4)] == [1, 1, 1, None]
    assert {seen.rewritten for seen in answers.values()} == {()}
    assert answers[4].reply_ttl == 61


def test_more_flows_than_a_filter_holds(syn: RemoteEngine) -> None:
    """With hundreds of flows, too, each answer arrives at its own."""
    flows = [syn("open", DESTINATION, OPEN) for _ in range(210)]
    for count in (210, 200, 1):
        for flow in flows[count:]:
            syn("release", flow)
        del flows[count:]
        syn("send", flows[-1], 64, count)
        (seen,) = syn.receive(1)
        assert (seen.flow, seen.attempt) == (flows[-1], count)


# -- the host and the destination are left alone ---------------------------------------


def test_the_source_port_is_reserved(syn: RemoteEngine) -> None:
    """No application gets the port of a flow, and anyone may have it afterwards."""
    flow = syn("open", DESTINATION, OPEN)
    _, port = syn("flow", flow)
    assert syn("bind", port) == "EADDRINUSE"
    syn("release", flow)
    assert syn("bind", port) == ""


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


def test_connections_stay_half_open(lab: Lab, syn: RemoteEngine) -> None:
    """The prober's kernel resets each SYN-ACK, so no application ever sees a connection."""
    lab.nft(4, "add rule ip lab input tcp flags & (rst | ack) == rst counter")
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


def test_other_programs_traffic_is_not_taken(lab: Lab, syn: RemoteEngine) -> None:
    """While another program receives 50 MB the engine sees nothing but its own answers."""
    flow = syn("open", DESTINATION, OPEN)
    with lab.popen(at(4, [sys.executable, "-I", "-c", SERVER]), stdout=-1, text=True) as server:
        assert server.stdout
        assert server.stdout.readline() == "listening\n"
        argv = [sys.executable, "-I", "-c", CLIENT, DESTINATION]
        assert int(lab.run(argv, capture_output=True, check=True).stdout) == 50_000_000
    syn("send", flow, 4)
    assert [seen.kind for seen in syn.receive(1)] == ["syn-ack"]
    assert syn("counts") == {"foreign": 0, "malformed": 0}


# -- what the wire brings --------------------------------------------------------------


def test_duplicated_replies_are_counted(lab: Lab, syn: RemoteEngine) -> None:
    """A reply that comes three times is one answer and two duplicates."""
    flow = syn("open", DESTINATION, SILENT)
    again, once = (quote(send(syn, flow, ttl)) for ttl in (8, 9))
    throw(lab, *[expired(again)] * 3, expired(once))
    assert [seen.ttl for seen in syn.receive(2)] == [8, 9]
    assert syn("release", flow) == 2


def test_late_replies_are_foreign(lab: Lab, syn: RemoteEngine) -> None:
    """What arrives for a flow that has been released answers nothing of the next one."""
    before = syn("open", DESTINATION, SILENT)
    late = send(syn, before, 8)
    syn("release", before)
    flow = syn("open", DESTINATION, SILENT, late.port)
    sent = send(syn, flow, 9)
    assert sent.port == late.port
    throw(lab, expired(quote(late, id=0)), expired(quote(sent)))
    assert [seen.ttl for seen in syn.receive(1)] == [9]
    assert syn("counts")["foreign"] == 1


def test_replies_with_ip_options(lab: Lab, syn: RemoteEngine) -> None:
    """Options in a router's header, in the quoted one and in a TCP answer's are passed over."""
    options = [IPOption_RR(routers=["10.9.0.2"] * 9)]
    flow = syn("open", DESTINATION, SILENT)
    sent = {ttl: send(syn, flow, ttl) for ttl in (7, 8, 9)}
    throw(
        lab,
        expired(quote(sent[7]), options=options),
        expired(quote(sent[8], options=options)),
        accepting(sent[9], options=options),
    )
    answers = {seen.ttl: seen.kind for seen in syn.receive(3)}
    assert answers == {7: "time-exceeded", 8: "time-exceeded", 9: "syn-ack"}


def test_rewritten_quotes(lab: Lab, syn: RemoteEngine) -> None:
    """A quote as a NAT leaves it finds its probe by number, and shows what was rewritten."""
    flow = syn("open", DESTINATION, SILENT)
    by_sequence, by_id = (send(syn, flow, ttl) for ttl in (8, 9))
    throw(
        lab,
        expired(quote(by_sequence._replace(port=61000), src="192.0.2.1", id=1)),
        expired(quote(by_id._replace(sequence=12345))),
    )
    first, second = syn.receive(2)
    assert (first.ttl, first.rewritten) == (8, ("source address", "source port"))
    assert (second.ttl, second.rewritten) == (9, ("sequence number",))


def test_hostile_errors_change_nothing(lab: Lab, syn: RemoteEngine) -> None:
    """Errors that are broken, foreign or guessed are counted, and the true one is found."""
    flow = syn("open", DESTINATION, SILENT)
    sent = send(syn, flow, 9)
    whole = quote(sent)
    near = Sent(sent.port, (sent.sequence + 1) % WRAP, sent.ip_id ^ 0x8000)
    far = Sent(sent.port, 1, 1)
    broken = [whole[:size] for size in range(28)]
    broken += [b"\x4f" + whole[1:28], b"\x40" + whole[1:]]
    foreign = [quote(near), quote(far._replace(port=sent.port + 1)), quote(far)]
    others = [b"\x65" + whole[1:], whole[:9] + b"\x11" + whole[10:], bytes(1400)]
    throw(lab, *map(expired, [*broken, *foreign, *others, whole]))
    assert [(seen.ttl, seen.address) for seen in syn.receive(1)] == [(9, ROUTER)]
    assert syn("counts") == {"foreign": len(foreign), "malformed": len(broken)}
    assert syn("release", flow) == 0


def test_a_flood_does_not_drown_an_answer(lab: Lab, syn: RemoteEngine) -> None:
    """Two thousand foreign errors at once leave room for the one that counts."""
    flow = syn("open", DESTINATION, SILENT)
    sent = send(syn, flow, 9)
    true, foreign = expired(quote(sent)), expired(quote(Sent(sent.port, 1, 1)))
    throw(lab, *[foreign] * 1000, true, *[foreign] * 1000)
    assert [seen.ttl for seen in syn.receive(1)] == [9]

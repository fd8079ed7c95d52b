"""The connect engine's parts, and the engine itself over loopback."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import FULL_TTL, FailureReason, Flow, Probe, ProbeError, ReplyKind
from exporter.probing import engines
from exporter.probing.engines import ENGINES, choose
from exporter.probing.engines.alarm import Alarm
from exporter.probing.engines.connect import PORTS, ConnectEngine, _tcp_reply, port_of
from exporter.probing.engines.error_queue import IPV4, IPV6, Dialect
from exporter.probing.engines.waiting import NEVER, Waiting

# -- source ports ----------------------------------------------------------------------


@given(st.integers(0, 65_535))
def test_every_probe_of_a_flow_has_a_port_of_its_own(source_port: int) -> None:
    """All TTLs and attempts of a trace differ, and none is outside the ephemeral range."""
    flow = Flow("10.9.0.1", source_port, "10.9.3.2", 443)
    wanted = [(ttl, attempt) for ttl in (*range(1, 31), FULL_TTL) for attempt in range(1, 20)]
    ports = {port_of(flow, *probe) for probe in wanted}
    assert len(ports) == len(wanted)
    assert 32_768 <= min(ports) <= max(ports) <= 60_999


# -- the engine over loopback ----------------------------------------------------------


@pytest.fixture
def engine() -> Iterator[ConnectEngine]:
    """An engine that has passed its self-test."""
    engine = ConnectEngine()
    yield engine
    engine.close()


def kind_of_answer(engine: ConnectEngine, flow: Flow) -> ReplyKind:
    """What comes for one probe."""
    engine.send(flow, FULL_TTL, 1)
    assert select.select(engine.filenos(), (), (), 5)[0]
    ((_, answer),) = engine.receive()
    return answer.reply.kind


def test_only_an_rst_asks_to_be_read_at_once(engine: ConnectEngine) -> None:
    """An endpoint that is new, or has sent one, may send one; others' answers bear their time."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        listening, refusing = server.getsockname(), closed.getsockname()
        for endpoint, later in ((listening, True), (refusing, False)):
            assert engine.kernel_times
            for expected in (False, later):
                flow = engine.open(*endpoint)
                assert engine.kernel_times is expected
                kind_of_answer(engine, flow)
                engine.release(flow)


def test_an_endpoint_that_begins_to_send_rsts_is_read_at_once(engine: ConnectEngine) -> None:
    """From the first RST on, whatever was known before."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = server.getsockname()
        engine.release(engine.open(*endpoint))
    flow = engine.open(*endpoint)
    before = engine.kernel_times
    assert kind_of_answer(engine, flow) is ReplyKind.RST
    assert (before, engine.kernel_times) == (True, False)
    engine.release(flow)


LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


@pytest.mark.parametrize("version", LOOPBACK, ids=["ipv4", "ipv6"])
@pytest.mark.parametrize(
    ("listens", "kind"), [(True, ReplyKind.SYN_ACK), (False, ReplyKind.RST)], ids=["open", "closed"]
)
def test_a_port_of_this_host(
    engine: ConnectEngine,
    version: socket.AddressFamily,
    listens: bool,  # noqa: FBT001
    kind: ReplyKind,
) -> None:
    """Its one descriptor becomes readable, and an open and a closed port are told apart."""
    with socket.socket(version) as server:
        server.bind((LOOPBACK[version], 0))
        if listens:
            server.listen()
        flow = engine.open(*server.getsockname()[:2])
        probe = engine.send(flow, FULL_TTL, 1)
        assert select.select(engine.filenos(), (), (), 5)[0]
        ((found, answer),) = engine.receive()
    assert (found, answer.probe) == (flow, probe)
    assert (answer.reply.kind, answer.reply.address) == (kind, LOOPBACK[version])
    assert 0 < answer.rtt < 5


def test_a_port_that_is_taken_does_not_matter(engine: ConnectEngine) -> None:
    """Where somebody has the port that a probe would take, the kernel chooses another."""
    with socket.socket() as server, socket.socket() as other:
        for one in (server, other):
            one.bind(("127.0.0.1", 0))
        wanted = other.getsockname()[1]
        # A flow that counts its ports from 1 asks for `first`; this one asks for the taken port.
        first = port_of(Flow("", 1, "", 0), FULL_TTL, 1)
        address, port = server.getsockname()
        flow = engine.open(address, port, 1 + (wanted - first) % PORTS)
        assert port_of(flow, FULL_TTL, 1) == wanted
        engine.send(flow, FULL_TTL, 1)
        assert select.select(engine.filenos(), (), (), 5)[0]
        ((_, answer),) = engine.receive()
    assert answer.reply.kind is ReplyKind.RST


def test_it_says_how_many_errors_were_dropped(engine: ConnectEngine) -> None:
    """The count begins with the engine, whatever the host has counted before."""
    assert engine.unseen_errors() == 0


def test_a_system_that_keeps_no_errors_is_refused() -> None:
    """Without an error queue opening fails in words, and leaves no descriptor behind."""
    folder = Path("/proc/self/fd")
    before = len(list(folder.iterdir()))
    deaf = [replace(dialect, options=()) for dialect in (IPV4, IPV6)]
    with pytest.raises(OSError, match="IP_RECVERR"):
        ConnectEngine(deaf)
    assert len(list(folder.iterdir())) == before


@pytest.mark.parametrize(
    ("dialects", "lacking", "there"),
    [
        ((IPV4, replace(IPV6, loopback="fd09::1")), "::1", "127.0.0.1"),
        ((replace(IPV4, options=()), IPV6), "127.0.0.1", "::1"),
    ],
    ids=["no-ipv6", "no-ipv4"],
)
def test_a_host_with_one_ip_version(
    dialects: tuple[Dialect, Dialect], lacking: str, there: str
) -> None:
    """What the host cannot do is refused in words, and the other IP version is traced."""
    engine = ConnectEngine(dialects)
    try:
        with pytest.raises(ProbeError, match=r"IPv[46] does not work on this host") as refusal:
            engine.open(lacking, 443)
        assert refusal.value.failure.reason is FailureReason.NO_ROUTE
        assert engine.open(there, 443).destination == there
    finally:
        engine.close()


@pytest.mark.parametrize("address", ["fe80::1%lo", "fe80::1", "::ffff:127.0.0.1"])
def test_an_address_without_a_path_is_refused(engine: ConnectEngine, address: str) -> None:
    """To a neighbour by link-local address no router leads, and a mapped address is IPv4."""
    with pytest.raises(ProbeError, match="no path to trace"):
        engine.open(address, 443)


# -- the choice ------------------------------------------------------------------------


def test_the_raw_engine_comes_first() -> None:
    """`auto` tries the raw engine before the unprivileged one."""
    assert tuple(ENGINES) == ("syn", "connect")


def refusing(error: OSError) -> Callable[[], engines.Engine]:
    """Make what opens an engine that cannot work here."""

    def refuse() -> engines.Engine:
        raise error

    return refuse


def test_the_choice_says_why_the_better_engine_does_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without raw sockets `auto` takes the connect engine, and names the remedy for a better."""
    monkeypatch.setitem(ENGINES, "syn", refusing(PermissionError("needs CAP_NET_RAW")))
    engine, status = choose("auto")
    assert engine is not None
    engine.close()
    assert status.name == "connect"
    assert "needs CAP_NET_RAW" in status.reason


def test_no_engine_at_all_is_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither can be opened the status has the reasons of both."""
    monkeypatch.setitem(ENGINES, "syn", refusing(PermissionError("needs CAP_NET_RAW")))
    monkeypatch.setitem(ENGINES, "connect", refusing(OSError("no error queue")))
    engine, status = choose("auto")
    assert engine is None
    assert (status.name, status.reason) == ("none", "needs CAP_NET_RAW; no error queue")


def test_a_socket_that_ended_without_an_error_proves_nothing() -> None:
    """A hung-up socket without an error is no SYN-ACK: no packet came, so nothing is open."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as never_connected:
        flow = Flow("127.0.0.1", 1, "127.0.0.1", 2)
        ended = Waiting(never_connected, flow, Probe(FULL_TTL, 1, 0.0), NEVER)
        assert _tcp_reply(ended, select.EPOLLOUT | select.EPOLLHUP) is None


# -- the alarm -------------------------------------------------------------------------


def test_an_alarm_rings_when_it_is_due() -> None:
    """A time gone by rings at once, 0 never, a later time not yet."""
    alarm = Alarm()
    try:
        for at, rings in ((time.monotonic(), True), (0.0, False), (time.monotonic() + 60, False)):
            alarm.set(at)
            wait = 5 if rings else 0
            assert bool(select.select((alarm.fileno(),), (), (), wait)[0]) is rings
    finally:
        alarm.close()

"""The connect engine's parts, and the engine itself over loopback."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import FULL_TTL, Flow, MplsLabel, Probe, Reply, ReplyKind
from exporter.probing import engines
from exporter.probing.engines import ENGINES, choose, connect
from exporter.probing.engines.alarm import Alarm
from exporter.probing.engines.connect import IPV4, Ancillary, ConnectEngine, icmp_reply, port_of
from exporter.probing.engines.syn import SO_TIMESTAMPNS

PROBE = Probe(ttl=3, attempt=1, sent_at=0.0)
ICMP, LOCAL = 2, 1
IP_RECVERR = 11
#: A TCP header as the kernel leaves it of a quote.
QUOTE = bytes(40)


def queued(
    kind: int, code: int, origin: int = ICMP, ttl: int | None = 62
) -> list[tuple[int, int, bytes]]:
    """The ancillary data of an error that 10.9.2.2 sent."""
    error = struct.pack("=IBBBxII", 113, origin, kind, code, 0, 0)
    sender = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton("10.9.2.2"))
    ancillary = [(socket.IPPROTO_IP, IP_RECVERR, error + sender)]
    if ttl is not None:
        ancillary.append((socket.IPPROTO_IP, socket.IP_TTL, struct.pack("@i", ttl)))
    return ancillary


# -- what the error queue holds --------------------------------------------------------


@pytest.mark.parametrize(
    ("icmp", "kind"),
    [
        ((11, 0), ReplyKind.TIME_EXCEEDED),
        ((3, 3), ReplyKind.UNREACHABLE),
        ((3, 13), ReplyKind.UNREACHABLE),
        ((12, 0), ReplyKind.UNREACHABLE),
    ],
)
def test_type_and_code_decide(icmp: tuple[int, int], kind: ReplyKind) -> None:
    """The same errno stands for several answers; type and code tell them apart."""
    reply = icmp_reply(IPV4, QUOTE, queued(*icmp), PROBE)
    assert reply is not None
    assert (reply.kind, reply.address, reply.icmp) == (kind, "10.9.2.2", icmp)
    assert (reply.ttl, reply.rewritten, reply.quoted_ttl) == (62, (), None)


@pytest.mark.parametrize(
    "ancillary",
    [[], queued(0, 0, LOCAL), [(socket.IPPROTO_IP, IP_RECVERR, bytes(16))]],
    ids=["nothing", "not an ICMP error", "no sender"],
)
def test_what_is_no_icmp_error_is_no_reply(ancillary: Ancillary) -> None:
    """An entry without an ICMP error or its sender says nothing about the path."""
    assert icmp_reply(IPV4, QUOTE, ancillary, PROBE) is None


def test_a_missing_ttl_is_unknown() -> None:
    """Where the kernel does not tell the reply's TTL, it is None."""
    reply = icmp_reply(IPV4, QUOTE, queued(11, 0, ttl=None), PROBE)
    assert reply is not None
    assert reply.ttl is None


def test_the_kernels_stamp_is_the_arrival() -> None:
    """A stamp half a second old puts the arrival half a second back."""
    seconds, nanoseconds = divmod(time.time_ns() - 500_000_000, 1_000_000_000)
    stamp = (socket.SOL_SOCKET, SO_TIMESTAMPNS, struct.pack("@qq", seconds, nanoseconds))
    reply = icmp_reply(IPV4, QUOTE, [*queued(11, 0), stamp], PROBE)
    assert reply is not None
    assert 0.5 <= time.monotonic() - reply.received_at < 5


def test_an_arrival_is_never_before_its_sending() -> None:
    """A clock that is set between probe and answer makes no negative round trip."""
    later = PROBE._replace(sent_at=time.monotonic() + 60)
    reply = icmp_reply(IPV4, QUOTE, queued(11, 0), later)
    assert reply is not None
    assert reply.received_at == later.sent_at


def test_mpls_labels_are_found_behind_the_quote() -> None:
    """A label stack behind 128 octets of quote is read, though the kernel cut off the headers."""
    stack = struct.pack("!HBBI", 8, 1, 1, 24_005 << 12 | 1 << 8 | 7)
    total = sum(struct.unpack("!6H", b"\x20\0\0\0" + stack))
    header = struct.pack("!HH", 0x2000, 0xFFFF - total % 0xFFFF)
    quote = QUOTE.ljust(128 - 20, b"\0") + header + stack
    reply = icmp_reply(IPV4, quote, queued(11, 0), PROBE)
    assert reply is not None
    assert reply.mpls == (MplsLabel(24_005, 0, bottom=True, ttl=7),)


@given(st.binary(max_size=600))
def test_no_quote_is_too_strange(quote: bytes) -> None:
    """Whatever a router quotes, the answer stays an answer."""
    assert isinstance(icmp_reply(IPV4, quote, queued(11, 0), PROBE), Reply)


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


@pytest.mark.parametrize(
    ("listens", "kind"), [(True, ReplyKind.SYN_ACK), (False, ReplyKind.RST)], ids=["open", "closed"]
)
def test_a_port_of_this_host(engine: ConnectEngine, listens: bool, kind: ReplyKind) -> None:  # noqa: FBT001
    """Its one descriptor becomes readable, and an open and a closed port are told apart."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        flow = engine.open(*server.getsockname())
        probe = engine.send(flow, FULL_TTL, 1)
        assert select.select(engine.filenos(), (), (), 5)[0]
        ((found, answer),) = engine.receive()
    assert (found, answer.probe) == (flow, probe)
    assert (answer.reply.kind, answer.reply.address) == (kind, "127.0.0.1")
    assert 0 < answer.rtt < 5


def test_a_port_that_is_taken_does_not_matter(engine: ConnectEngine) -> None:
    """Where somebody has the port that a probe would take, the kernel chooses another."""
    with socket.socket() as server, socket.socket() as other:
        server.bind(("127.0.0.1", 0))
        flow = engine.open(*server.getsockname())
        other.bind(("127.0.0.1", port_of(flow, FULL_TTL, 1)))
        engine.send(flow, FULL_TTL, 1)
        assert select.select(engine.filenos(), (), (), 5)[0]
        ((_, answer),) = engine.receive()
    assert answer.reply.kind is ReplyKind.RST


def test_it_says_how_many_errors_were_dropped(engine: ConnectEngine) -> None:
    """The count begins with the engine, whatever the host has counted before."""
    assert engine.out_of_window_icmps == 0


@pytest.mark.parametrize("text", ["", "TcpExt: A B\nTcpExt: 1 2\n", "IpExt: A\nIpExt: 1\n"])
def test_a_count_that_is_not_told_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """A kernel or sandbox without the counter makes no zero."""
    (tmp_path / "netstat").write_text(text)
    monkeypatch.setattr(connect, "NETSTAT", tmp_path / "netstat")
    assert connect.count_out_of_window_icmps() is None
    monkeypatch.setattr(connect, "NETSTAT", tmp_path / "missing")
    assert connect.count_out_of_window_icmps() is None


def test_the_count_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels differ in how many counters they have and in what order."""
    (tmp_path / "netstat").write_text("TcpExt: A OutOfWindowIcmps B\nTcpExt: 1 42 3\nIpExt: A\n")
    monkeypatch.setattr(connect, "NETSTAT", tmp_path / "netstat")
    assert connect.count_out_of_window_icmps() == 42


def test_a_system_that_keeps_no_errors_is_refused() -> None:
    """Without an error queue opening fails in words, and leaves no descriptor behind."""
    folder = Path("/proc/self/fd")
    before = len(list(folder.iterdir()))
    deaf = replace(IPV4, options=())
    with pytest.raises(OSError, match="IP_RECVERR"):
        ConnectEngine(deaf)
    assert len(list(folder.iterdir())) == before


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

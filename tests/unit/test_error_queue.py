"""The ICMP errors that the kernel keeps for a socket, and the count of those that it drops."""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import MplsLabel, Probe, Reply, ReplyKind
from exporter.probing.engines import netstat
from exporter.probing.engines.error_queue import IPV4, IPV6, Dialect, icmp_reply
from exporter.probing.engines.stamps import SO_TIMESTAMPNS, Ancillary

PROBE = Probe(ttl=3, attempt=1, sent_at=0.0)
ICMP, ICMP6, LOCAL = 2, 3, 1
IP_RECVERR, IPV6_RECVERR = 11, 25
#: A TCP header as the kernel leaves it of a quote.
QUOTE = bytes(40)
SENDER6 = "fd09:0:0:1::2"


def extended(kind: int, code: int, origin: int) -> bytes:
    """What the kernel has to say of an error: a struct sock_extended_err."""
    return struct.pack("=IBBBxII", 113, origin, kind, code, 0, 0)


def queued(
    kind: int, code: int, origin: int = ICMP, ttl: int | None = 62
) -> list[tuple[int, int, bytes]]:
    """The ancillary data of an error that 10.9.2.2 sent."""
    sender = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton("10.9.2.2"))
    ancillary = [(socket.IPPROTO_IP, IP_RECVERR, extended(kind, code, origin) + sender)]
    if ttl is not None:
        ancillary.append((socket.IPPROTO_IP, socket.IP_TTL, struct.pack("@i", ttl)))
    return ancillary


def queued6(kind: int, code: int, origin: int = ICMP6) -> list[tuple[int, int, bytes]]:
    """The same of an error that `SENDER6` sent."""
    address = socket.inet_pton(socket.AF_INET6, SENDER6)
    sender = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, address, 0)
    return [
        (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("@i", 62)),
        (socket.IPPROTO_IPV6, IPV6_RECVERR, extended(kind, code, origin) + sender),
    ]


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
    ("icmp", "kind"),
    [
        ((3, 0), ReplyKind.TIME_EXCEEDED),
        ((1, 1), ReplyKind.UNREACHABLE),
        ((1, 4), ReplyKind.UNREACHABLE),
        ((4, 1), ReplyKind.UNREACHABLE),
    ],
)
def test_icmpv6_has_types_of_its_own(icmp: tuple[int, int], kind: ReplyKind) -> None:
    """Over IPv6 type 3 is the time-exceeded and type 1 the unreachable (RFC 4443)."""
    reply = icmp_reply(IPV6, QUOTE, queued6(*icmp), PROBE)
    assert reply is not None
    assert (reply.kind, reply.address, reply.icmp, reply.ttl) == (kind, SENDER6, icmp, 62)


def test_the_other_versions_error_is_no_reply() -> None:
    """An ICMPv4 error in the queue of an IPv6 socket would be misread, so it is not read."""
    assert icmp_reply(IPV6, QUOTE, queued6(3, 0, ICMP), PROBE) is None
    assert icmp_reply(IPV6, QUOTE, queued(11, 0), PROBE) is None


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


@pytest.mark.parametrize(
    ("dialect", "header_size", "ancillary"),
    [(IPV4, 20, queued(11, 0)), (IPV6, 40, queued6(3, 0))],
    ids=["ipv4", "ipv6"],
)
def test_mpls_labels_are_found_behind_the_quote(
    dialect: Dialect, header_size: int, ancillary: Ancillary
) -> None:
    """A label stack behind 128 octets of quote is read, though the kernel cut off the headers."""
    stack = struct.pack("!HBBI", 8, 1, 1, 24_005 << 12 | 1 << 8 | 7)
    total = sum(struct.unpack("!6H", b"\x20\0\0\0" + stack))
    header = struct.pack("!HH", 0x2000, 0xFFFF - total % 0xFFFF)
    quote = QUOTE.ljust(128 - header_size, b"\0") + header + stack
    reply = icmp_reply(dialect, quote, ancillary, PROBE)
    assert reply is not None
    assert reply.mpls == (MplsLabel(24_005, 0, bottom=True, ttl=7),)


@given(st.binary(max_size=600))
def test_no_quote_is_too_strange(quote: bytes) -> None:
    """Whatever a router quotes, the answer stays an answer."""
    assert isinstance(icmp_reply(IPV4, quote, queued(11, 0), PROBE), Reply)
    assert isinstance(icmp_reply(IPV6, quote, queued6(3, 0), PROBE), Reply)


# -- what it drops ---------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "TcpExt: A B\nTcpExt: 1 2\n", "IpExt: A\nIpExt: 1\n"])
def test_a_count_that_is_not_told_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """A kernel or sandbox without the counter makes no zero."""
    (tmp_path / "netstat").write_text(text)
    monkeypatch.setattr(netstat, "NETSTAT", tmp_path / "netstat")
    assert netstat.count_out_of_window_icmps() is None
    monkeypatch.setattr(netstat, "NETSTAT", tmp_path / "missing")
    assert netstat.count_out_of_window_icmps() is None
    assert netstat.count_ttl_drops() is None


def test_the_count_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels differ in how many counters they have and in what order."""
    text = "TcpExt: A OutOfWindowIcmps TCPMinTTLDrop\nTcpExt: 1 42 3\nIpExt: A\n"
    (tmp_path / "netstat").write_text(text)
    monkeypatch.setattr(netstat, "NETSTAT", tmp_path / "netstat")
    assert (netstat.count_out_of_window_icmps(), netstat.count_ttl_drops()) == (42, 3)

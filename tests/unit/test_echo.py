"""ICMP echo: which packets answer a request, and what becomes of the others."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections import deque
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import FailureReason, Family, Flow, Probe, ProbeError, ReplyKind, Sounding
from exporter.probing import echo
from exporter.probing.echo import DENIED, PAYLOAD, EchoEngine, Echoer
from exporter.probing.engines.error_queue import IPV4, IPV6, Dialect
from exporter.probing.engines.stamps import Ancillary
from tests.unit.test_error_queue import queued, queued6

DESTINATION = {Family.IPV4: "10.9.3.2", Family.IPV6: "fd09:0:0:3::2"}
STRANGER = {Family.IPV4: "10.9.9.9", Family.IPV6: "fd09:0:0:9::9"}
REQUEST = {Family.IPV4: 8, Family.IPV6: 128}
REPLY = {Family.IPV4: 0, Family.IPV6: 129}
#: The ancillary data of a reply that came with the TTL 61, and that of an expired request.
CAME = {
    Family.IPV4: [(socket.IPPROTO_IP, socket.IP_TTL, struct.pack("@i", 61))],
    Family.IPV6: [(socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("@i", 61))],
}
EXPIRED = {Family.IPV4: queued(11, 0), Family.IPV6: queued6(3, 0)}

dialects = pytest.mark.parametrize("dialect", [IPV4, IPV6], ids=["ipv4", "ipv6"])


class Packet(NamedTuple):
    """What recvmsg gives."""

    data: bytes
    ancillary: Ancillary
    sender: str


class FakeSocket:
    """A ping socket: keeps what is sent, and gives what a test puts in."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.refusals: list[int] = []
        #: By recvmsg's flags: packets, and errors in the error queue.
        self.arrived: dict[int, deque[Packet | OSError]] = {
            0: deque(),
            int(socket.MSG_ERRQUEUE): deque(),
        }

    def setsockopt(self, *_: object) -> None:
        """Take any option."""

    def bind(self, _address: object) -> None:
        """Take any port."""

    def getsockname(self) -> tuple[str, int]:
        """The port is the identifier."""
        return "", 4242

    def close(self) -> None:
        """There is nothing to close."""

    def sendto(self, packet: bytes, _address: object) -> None:
        """Refuse as often as is wanted, then keep."""
        if self.refusals:
            number = self.refusals.pop()
            raise OSError(number, os.strerror(number))
        self.sent.append(packet)

    def recvmsg(
        self, _size: int, _ancillary: int, flags: int
    ) -> tuple[bytes, Ancillary, int, tuple[str, int]]:
        """The next one in the queue."""
        if not self.arrived[int(flags)]:
            raise BlockingIOError
        found = self.arrived[int(flags)].popleft()
        if isinstance(found, OSError):
            raise found
        return found.data, found.ancillary, 0, (found.sender, 0)


class Line:
    """A wire of one IP version on a fake socket, with one request on its way."""

    def __init__(self, dialect: Dialect, *, raw: bool = False) -> None:
        self.socket = FakeSocket()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(echo, "_open", lambda *_: (self.socket, raw))
            self.wire = echo._Wire(dialect)
        self.dialect = dialect
        self.flow = Flow("source", 1, DESTINATION[dialect.family], 0)
        self.probe = self.wire.send(self.flow, 3, 1)

    @property
    def request(self) -> bytes:
        """What was sent last."""
        return self.socket.sent[-1]

    @property
    def reply(self) -> bytes:
        """What the destination makes of that."""
        return bytes([REPLY[self.dialect.family]]) + self.request[1:]

    def gets(self, data: bytes, sender: str = "") -> list[tuple[ReplyKind, str, int | None]]:
        """(kind, address, TTL) of what a packet answers."""
        packet = Packet(data, CAME[self.dialect.family], sender or DESTINATION[self.dialect.family])
        return self._taken(0, packet)

    def meets(
        self, quote: bytes, ancillary: Ancillary | None = None, destination: str = ""
    ) -> list[tuple[ReplyKind, str, int | None]]:
        """The same of an error with this quote."""
        ancillary = EXPIRED[self.dialect.family] if ancillary is None else ancillary
        packet = Packet(quote, ancillary, destination or DESTINATION[self.dialect.family])
        return self._taken(int(socket.MSG_ERRQUEUE), packet)

    def _taken(self, flags: int, packet: Packet) -> list[tuple[ReplyKind, str, int | None]]:
        self.socket.arrived[flags].append(packet)
        answers = list(self.wire.receive())
        assert all(found == (self.flow, self.probe) for found in ((f, a.probe) for f, a in answers))
        return [(a.reply.kind, a.reply.address, a.reply.ttl) for _, a in answers]


@dialects
def test_an_echo_reply_is_an_answer(dialect: Dialect) -> None:
    """The destination's reply with our payload answers the request, once."""
    line = Line(dialect)
    answered = [(ReplyKind.ECHO_REPLY, DESTINATION[dialect.family], 61)]
    assert line.gets(line.reply) == answered
    assert line.gets(line.reply) == []


def test_a_raw_socket_gives_the_ip_header_too() -> None:
    """Over IPv4 whole packets come, with options or without."""
    for words in (5, 15):
        line = Line(IPV4, raw=True)
        header = bytes([0x40 | words]) + bytes(words * 4 - 1)
        assert line.gets(header + line.reply) == [
            (ReplyKind.ECHO_REPLY, DESTINATION[Family.IPV4], 61)
        ]
    line = Line(IPV6, raw=True)
    assert line.gets(line.reply) == [(ReplyKind.ECHO_REPLY, DESTINATION[Family.IPV6], 61)]


def test_a_raw_request_sums_up() -> None:
    """Over IPv4 nobody else fills in the checksum (RFC 1071)."""
    request = Line(IPV4, raw=True).request
    assert sum(struct.unpack(f"!{len(request) // 2}H", request)) % 0xFFFF == 0
    assert len(request) == 8 + PAYLOAD


@dialects
def test_a_router_s_error_is_an_answer(dialect: Dialect) -> None:
    """A time-exceeded that quotes the request names the router, and its own TTL."""
    line = Line(dialect)
    sender = "10.9.2.2" if dialect is IPV4 else "fd09:0:0:1::2"
    assert line.meets(line.request) == [(ReplyKind.TIME_EXCEEDED, sender, 62)]
    assert line.meets(line.request) == []


def test_a_quote_may_be_cut_or_padded() -> None:
    """RFC 792 asks for 8 octets only, RFC 4884 pads to 128."""
    for size in (8, 20, 128):
        line = Line(IPV4)
        assert len(line.meets(line.request.ljust(size, b"\0")[:size])) == 1


@dialects
def test_what_is_not_ours_is_no_reply(dialect: Dialect) -> None:
    """Another identifier, number, type or payload, a stranger, a cut packet: all are dropped."""
    line = Line(dialect)
    right = line.reply
    wrong = [
        bytes([REQUEST[dialect.family]]) + right[1:],
        right[:4] + b"\x00\x01" + right[6:],
        right[:6] + bytes([right[6] ^ 1]) + right[7:],
        right[:-1] + bytes([right[-1] ^ 1]),
        right[:-1],
        right + b"\x00",
        right[:7],
        b"",
    ]
    assert [line.gets(packet) for packet in wrong] == [[]] * len(wrong)
    assert line.gets(right, STRANGER[dialect.family]) == []
    assert len(line.gets(right)) == 1


@pytest.mark.parametrize(
    ("dialect", "ancillary"),
    [(IPV4, queued(4, 0)), (IPV4, queued(5, 1)), (IPV4, []), (IPV6, queued6(2, 0))],
    ids=["source quench", "redirect", "no sender", "packet too big"],
)
def test_errors_that_end_no_path_are_none(dialect: Dialect, ancillary: Ancillary) -> None:
    """Only time-exceeded and unreachable say how far a request got."""
    line = Line(dialect)
    assert line.meets(line.request, ancillary) == []
    assert len(line.gets(line.reply)) == 1


@dialects
def test_an_error_about_something_else_is_none(dialect: Dialect) -> None:
    """A quote with another payload, or of a request to somebody else, is dropped."""
    line = Line(dialect)
    assert line.meets(line.request[:8] + bytes(PAYLOAD)) == []
    assert line.meets(line.request, destination=STRANGER[dialect.family]) == []
    assert line.meets(line.reply) == []


@given(data=st.binary(max_size=80), raw=st.booleans())
def test_no_packet_disturbs_the_receiver(data: bytes, *, raw: bool) -> None:
    """Whatever arrives, it is read or dropped."""
    line = Line(IPV4, raw=raw)
    assert line.gets(data) == []
    assert line.meets(data) == []


def test_an_error_of_an_earlier_request_stops_nothing() -> None:
    """The kernel tells it at the next call, be it a send or a receive; that call is repeated."""
    line = Line(IPV4)
    line.socket.refusals = [errno.EHOSTUNREACH]
    line.probe = line.wire.send(line.flow, 4, 1)
    line.socket.arrived[0].append(OSError(errno.EHOSTUNREACH, "no route to host"))
    assert len(line.gets(line.reply)) == 1


def test_a_refusal_is_told() -> None:
    """A host that refuses twice does not send."""
    line = Line(IPV4)
    line.socket.refusals = [errno.EPERM] * 2
    with pytest.raises(PermissionError):
        line.wire.send(line.flow, 4, 1)


def test_nothing_is_given_for_a_released_flow() -> None:
    """An answer that comes later belongs to nobody."""
    line = Line(IPV4)
    line.wire.release(line.flow)
    assert line.gets(line.reply) == []


# -- where it is permitted -------------------------------------------------------------


def refuse(*_: object) -> None:
    """Be a kernel that lends no such socket."""
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_without_permission_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither kind of socket is lent: the status names the remedies, and an echo is a failure."""
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", refuse)
        echoer = Echoer(200)
    assert echoer.status == DENIED
    with pytest.raises(ProbeError) as caught:
        asyncio.run(echoer.echo("127.0.0.1", Sounding()))
    assert caught.value.failure.reason is FailureReason.PERMISSION
    echoer.close()


def test_a_refused_request_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the host refuses to send becomes a `ProbeError` like any engine's."""
    engine = EchoEngine()
    try:
        flow = engine.open("127.0.0.1", 0)

        def fail(_wire: object, *_: object) -> Probe:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

        monkeypatch.setattr(echo._Wire, "send", fail)
        with pytest.raises(ProbeError) as caught:
            engine.send(flow, 64, 1)
        assert caught.value.failure.reason is FailureReason.NO_ROUTE
    finally:
        engine.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_loopback(address: str) -> None:
    """The host answers itself; two at once are told apart, and nothing stays open."""
    before = set(Path("/proc/self/fd").iterdir())

    async def both() -> None:
        echoer = Echoer(200)
        assert not echoer.status, echoer.status
        for trace in await asyncio.gather(*(echoer.echo(address, Sounding()) for _ in range(2))):
            assert [a.reply.kind for a in trace.answers] == [ReplyKind.ECHO_REPLY]
            assert (trace.engine, trace.flow) == ("echo", Flow(address, 0, address, 0))
        echoer.close()

    asyncio.run(both())
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_an_unused_echoer_closes() -> None:
    """Without an echo there is no loop to leave."""
    before = set(Path("/proc/self/fd").iterdir())
    Echoer(200).close()
    assert set(Path("/proc/self/fd").iterdir()) == before

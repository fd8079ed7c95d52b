"""The unprivileged engine: connect() with a TTL, for whoever has no capability at all.

1. A probe is a TCP socket of its own, whose SYN leaves with the probe's TTL. IP_RECVERR has the
   kernel keep the ICMP error that answers it: type, code, sender and the reply's own TTL are read
   from the error queue (ip(7), recvmsg(2)). Only they count, for the errno tells a time-exceeded
   not from a rejection and a port-unreachable not from an RST. An empty queue means that the
   destination answered over TCP: SYN-ACK, or RST where the errno is ECONNREFUSED.
2. The kernel allows one socket on one 4-tuple, so the source port differs from probe to probe,
   and load balancers may send the probes of one trace along several paths (no Paris traceroute).
   The ports follow from the flow's, the TTL and the attempt, so that the next trace of the flow
   takes the same paths; one that is taken is replaced by the kernel's choice.
   `Flow.source_port` is where the count begins, no port that anybody holds.
3. The kernel would repeat a SYN after 1 s, and complete the handshake. Where a gateway leads to
   the destination, neither happens: once the SYN is out, the socket is muted. SO_DONTROUTE forbids
   gateways, and a change of IP_TOS has the kernel look for the route again, so nothing the socket
   wants to send has one. Such a probe waits for its answer until the flow is released. Where
   that does not help (a destination on a network of this host, a route without a gateway, IPv6),
   an alarm closes the socket after PATIENCE, before it repeats itself, and a later answer is lost.
4. Sockets end with an RST instead of a FIN and TIME_WAIT (SO_LINGER of 0). One that got a SYN-ACK
   is unmuted for it, so that the destination learns at once that nobody is there.
5. At most MOST_SOCKETS are open. Then the oldest one makes room if it has had its PATIENCE, which
   counts as silence; if not, the host refuses to send, and the tracer tries again.
6. Arrival times are the kernel's: SO_TIMESTAMPNS for an ICMP error, tcpi_rtt of TCP_INFO for a
   SYN-ACK. An RST has neither and counts as arriving when it is read.

What it cannot see: the TTL of a SYN-ACK or an RST, the quoted probe (a NAT's rewriting, the quoted
TTL), duplicates, and a TCP answer that comes after an ICMP error for the same probe. It cannot
see an ICMP error whose quoted sequence number somebody on the way has rewritten: the kernel drops
it and counts it (`out_of_window_icmps`). What this host's own firewall drops on its way out, the
kernel does not report to a connecting socket; it looks like silence from the first hop on.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from exporter.model import (
    FULL_TTL,
    Answer,
    Failure,
    FailureReason,
    Flow,
    MplsLabel,
    Probe,
    ProbeError,
    Reply,
    ReplyKind,
)
from exporter.probing.engines.alarm import Alarm
from exporter.probing.engines.failures import failure_of
from exporter.probing.engines.syn import SO_TIMESTAMPNS, arrival_time
from exporter.probing.packet import decode_mpls

#: With the exporter's other descriptors (pages, log, plain connects) fewer than 512.
MOST_SOCKETS = 480
#: What a probe may wait at least, in seconds: the kernel repeats a SYN after 1 s (RFC 6298, 2.1),
#: and a busy loop may hear the alarm a little late.
PATIENCE = 0.95

#: Linux' default net.ipv4.ip_local_port_range.
_FIRST_PORT, _PORTS = 32_768, 28_232
#: More attempts at one TTL than a trace makes, so that no two of its probes want one port.
_ATTEMPTS = 32

NETSTAT = Path("/proc/net/netstat")
IP_RECVERR = 11  # linux/in.h
IP_RECVTTL = 12
TCP_INFO_SIZE = 104  # the part of struct tcp_info that every kernel since 2.6 fills
TCPI_RTT = struct.Struct("68xI")  # tcpi_rtt, in microseconds

#: struct sock_extended_err (linux/errqueue.h): errno, origin, type, code, padding, info, data.
#: The sender's sockaddr stands behind it.
_EXTENDED_ERROR = struct.Struct("=IBBBxII")
_TIMESPEC = struct.Struct("@qq")
_INT = struct.Struct("@i")
_ANCILLARY_SIZE = 256
#: A quote with extensions is at most 576 octets by RFC 1812.
_QUOTE_SIZE = 1024
#: Sockets read before the loop gets its turn again.
_BATCH = 256

#: SO_ERROR of a socket whose error queue is empty -> what came. A connection that was reset after
#: the handshake has been open.
_KIND_OF_ERROR = {
    0: ReplyKind.SYN_ACK,
    errno.ECONNREFUSED: ReplyKind.RST,
    errno.ECONNRESET: ReplyKind.SYN_ACK,
    errno.EPIPE: ReplyKind.SYN_ACK,
}
#: How long the self-test waits for what the kernel itself sends over loopback.
_SELF_TEST_SECONDS = 1.0

_UNABLE = (
    "this kernel or sandbox does not tell a socket which errors its packets met (IP_RECVERR), "
    "or its loopback is down"
)

Option = tuple[int, int, int | bytes]
_COMMON_OPTIONS: tuple[Option, ...] = (
    (socket.SOL_SOCKET, SO_TIMESTAMPNS, 1),
    (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0)),
)
Ancillary = Sequence[tuple[int, int, bytes]]


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between the IP versions; IPv6 is another row."""

    address_family: int
    loopback: str
    #: (level, option) of the TTL of what a socket sends.
    ttl: tuple[int, int]
    #: What has the kernel keep ICMP errors, their TTLs and their times, and end without a FIN.
    options: tuple[Option, ...]
    #: (level, type) of the ancillary data that hold them.
    error: tuple[int, int]
    reply_ttl: tuple[int, int]
    #: SO_EE_ORIGIN_* of an ICMP error, and where its sender's address stands behind it.
    origin: int
    sender: slice
    #: ICMP's type of a time-exceeded.
    time_exceeded: int
    #: IP header of a probe: what the kernel has cut from the quote.
    header_size: int
    #: What silences a socket that needs a gateway, and gives it its voice back.
    mute: tuple[Option, ...]
    unmute: tuple[Option, ...]


IPV4 = Family(
    address_family=socket.AF_INET,
    loopback="127.0.0.1",
    ttl=(socket.IPPROTO_IP, socket.IP_TTL),
    options=(
        (socket.IPPROTO_IP, IP_RECVERR, 1),
        (socket.IPPROTO_IP, IP_RECVTTL, 1),
        *_COMMON_OPTIONS,
    ),
    error=(socket.IPPROTO_IP, IP_RECVERR),
    reply_ttl=(socket.IPPROTO_IP, socket.IP_TTL),
    origin=2,  # SO_EE_ORIGIN_ICMP
    sender=slice(_EXTENDED_ERROR.size + 4, _EXTENDED_ERROR.size + 8),
    time_exceeded=11,
    header_size=20,
    mute=(
        (socket.SOL_SOCKET, socket.SO_DONTROUTE, 1),
        (socket.IPPROTO_IP, socket.IP_TOS, 0x10),
    ),
    unmute=(
        (socket.SOL_SOCKET, socket.SO_DONTROUTE, 0),
        (socket.IPPROTO_IP, socket.IP_TOS, 0),
    ),
)


@dataclass(slots=True, eq=False)
class _OpenFlow:
    #: Whether `Family.mute` keeps its sockets from sending more than their SYN.
    can_mute: bool
    waiting: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A probe whose answer has not been read; `expires_at` is when its socket has to go."""

    socket: socket.socket
    flow: Flow
    probe: Probe
    expires_at: float


class ConnectEngine:
    """See the module's text; opening it raises OSError where the kernel keeps no errors."""

    name = "connect"
    #: An RST comes without a time.
    kernel_times = False

    def __init__(self, family: Family = IPV4) -> None:
        self._family = family
        self._flows: dict[Flow, _OpenFlow] = {}
        #: Descriptor -> probe, the oldest first; and those among them that expire.
        self._waiting: dict[int, _Waiting] = {}
        self._expiring: dict[int, _Waiting] = {}
        self._icmps_before = count_out_of_window_icmps()
        # As long as one socket wants stamps, the kernel stamps every packet at its arrival.
        self._stamping = _datagram_socket(family)
        self._alarm = Alarm()
        self._epoll = select.epoll()
        self._epoll.register(self._alarm.fileno(), select.EPOLLIN)
        try:
            self._prove_itself()
        except BaseException:
            self.close()
            raise

    @property
    def out_of_window_icmps(self) -> int | None:
        """ICMP errors that the kernel dropped since the start, for their quotes did not match.

        Of all connections in this network namespace; None where it does not say.
        """
        now = count_out_of_window_icmps()
        return None if now is None or self._icmps_before is None else now - self._icmps_before

    def filenos(self) -> tuple[int, ...]:
        """One descriptor for all probes and the alarm."""
        return (self._epoll.fileno(),)

    def open(self, destination: str, port: int, preferred_port: int = 0) -> Flow:
        """Find the address that the kernel would send from, and where to count ports from."""
        source, can_mute = self._route_to(destination, port)
        flow = Flow(source, preferred_port or _random_port(), destination, port)
        while flow in self._flows:
            flow = Flow(source, _random_port(), destination, port)
        self._flows[flow] = _OpenFlow(can_mute)
        return flow

    def send(self, flow: Flow, ttl: int, attempt: int) -> Probe:
        """Send one SYN; a host without route, permission or descriptors raises `ProbeError`."""
        entry = self._flows[flow]
        self._make_room()
        try:
            one = socket.socket(
                self._family.address_family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK
            )
        except OSError as error:
            raise ProbeError(failure_of(error)) from error
        try:
            _set(one, self._family.options)
            one.setsockopt(*self._family.ttl, ttl)
            with suppress(OSError):  # taken, so the kernel chooses
                one.bind((flow.source, port_of(flow, ttl, attempt)))
            probe = Probe(ttl, attempt, time.monotonic())
            self._connect(one, flow, mute=entry.can_mute)
        except OSError as error:
            one.close()
            raise ProbeError(failure_of(error)) from error
        self._wait_for(one, flow, entry, probe)
        return probe

    def receive(self) -> Iterator[tuple[Flow, Answer]]:
        """Read the sockets that were answered, and close them and those that expire."""
        ready = dict(self._epoll.poll(0, _BATCH))
        rings = ready.pop(self._alarm.fileno(), 0)
        for fileno, events in ready.items():
            if waiting := self._waiting.get(fileno):
                reply = self._read(waiting, events)
                if reply and reply.kind is ReplyKind.SYN_ACK:
                    _set(waiting.socket, self._family.unmute)
                self._drop(fileno)
                # Later, and it may answer the SYN that the kernel sent by itself.
                if reply and reply.received_at < waiting.expires_at:
                    yield waiting.flow, Answer(waiting.probe, reply)
        if rings:  # after what was answered in time
            self._expire()

    def release(self, flow: Flow) -> int:
        """Close a flow's sockets; duplicates cannot be seen."""
        for fileno in tuple(self._flows[flow].waiting):
            self._drop(fileno)
        del self._flows[flow]
        return 0

    def close(self) -> None:
        """Close every descriptor."""
        for flow in tuple(self._flows):
            self.release(flow)
        self._epoll.close()
        self._alarm.close()
        self._stamping.close()

    # -- the self-test -----------------------------------------------------------------

    def _prove_itself(self) -> None:
        """Raise OSError unless a closed port of this host shows as one, over UDP and over TCP.

        The kernel answers a datagram to it with an ICMP error, and a SYN with an RST.
        """
        try:
            proved = self._keeps_errors() and self._sees_an_rst()
        except (OSError, ProbeError) as error:
            raise OSError(f"{_UNABLE}: {error}") from error
        if not proved:
            raise OSError(_UNABLE)

    def _keeps_errors(self) -> bool:
        family = self._family
        with _datagram_socket(family) as closed:
            # Connected elsewhere, it takes nothing from others, and nobody else gets its port.
            closed.bind((family.loopback, 0))
            closed.connect((family.loopback, 1))
            self._stamping.connect(closed.getsockname())
            probe = Probe(FULL_TTL, 1, time.monotonic())
            self._stamping.send(b"")
            _wait_until_readable(self._stamping)
            quote, ancillary, _, _ = self._stamping.recvmsg(
                _QUOTE_SIZE, _ANCILLARY_SIZE, socket.MSG_ERRQUEUE
            )
        reply = icmp_reply(family, quote, ancillary, probe)
        return reply is not None and reply.address == family.loopback

    def _sees_an_rst(self) -> bool:
        with socket.socket(self._family.address_family, socket.SOCK_STREAM) as closed:
            closed.bind((self._family.loopback, 0))
            flow = self.open(*closed.getsockname()[:2])
            self.send(flow, FULL_TTL, 1)
            _wait_until_readable(self._epoll)
            kinds = [answer.reply.kind for _, answer in self.receive()]
            self.release(flow)
        return kinds == [ReplyKind.RST]

    # -- sending -----------------------------------------------------------------------

    def _route_to(self, destination: str, port: int) -> tuple[str, bool]:
        """The source address toward a destination, and whether only a gateway leads there."""
        with socket.socket(self._family.address_family, socket.SOCK_DGRAM) as scout:
            try:
                scout.connect((destination, port))
                source = str(scout.getsockname()[0])
                scout.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
            except OSError as error:
                raise ProbeError(failure_of(error)) from error
            return source, scout.connect_ex((destination, port)) != 0

    def _make_room(self) -> None:
        if len(self._waiting) < MOST_SOCKETS:
            return
        fileno, oldest = next(iter(self._waiting.items()))
        if time.monotonic() - oldest.probe.sent_at < PATIENCE:
            raise ProbeError(
                Failure(FailureReason.INTERNAL, f"{MOST_SOCKETS} probes are on their way already")
            )
        self._drop(fileno)

    def _connect(self, one: socket.socket, flow: Flow, *, mute: bool) -> None:
        number = one.connect_ex((flow.destination, flow.destination_port))
        if number not in (0, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))
        if mute:
            _set(one, self._family.mute)

    def _wait_for(self, one: socket.socket, flow: Flow, entry: _OpenFlow, probe: Probe) -> None:
        fileno = one.fileno()
        expires_at = float("inf") if entry.can_mute else probe.sent_at + PATIENCE
        waiting = _Waiting(one, flow, probe, expires_at)
        self._epoll.register(fileno, select.EPOLLOUT)
        entry.waiting.add(fileno)
        self._waiting[fileno] = waiting
        if not entry.can_mute:
            self._expiring[fileno] = waiting
            if len(self._expiring) == 1:
                self._alarm.set(expires_at)

    # -- receiving ---------------------------------------------------------------------

    def _read(self, waiting: _Waiting, events: int) -> Reply | None:
        """What came for a probe; None for an error that says nothing about the path."""
        try:
            quote, ancillary, _, _ = waiting.socket.recvmsg(
                _QUOTE_SIZE, _ANCILLARY_SIZE, socket.MSG_ERRQUEUE
            )
        except BlockingIOError:
            return _tcp_reply(waiting, events)
        return icmp_reply(self._family, quote, ancillary, waiting.probe)

    def _drop(self, fileno: int) -> None:
        """Close the socket of a probe; epoll forgets it by that."""
        waiting = self._waiting.pop(fileno)
        self._expiring.pop(fileno, None)
        self._flows[waiting.flow].waiting.discard(fileno)
        waiting.socket.close()

    def _expire(self) -> None:
        """Close what would repeat itself, and set the alarm for the next one."""
        now = time.monotonic()
        for fileno, waiting in tuple(self._expiring.items()):
            if waiting.expires_at > now:
                break
            self._drop(fileno)
        following = next(iter(self._expiring.values()), None)
        self._alarm.set(following.expires_at if following else 0)


def port_of(flow: Flow, ttl: int, attempt: int) -> int:
    """The source port that a probe asks for."""
    return _FIRST_PORT + (flow.source_port + ttl * _ATTEMPTS + attempt) % _PORTS


def _random_port() -> int:
    return _FIRST_PORT + secrets.randbelow(_PORTS)


def _set(one: socket.socket, options: tuple[Option, ...]) -> None:
    for option in options:
        one.setsockopt(*option)


def _tcp_reply(waiting: _Waiting, events: int) -> Reply | None:
    one, probe = waiting.socket, waiting.probe
    # Without a failure it is connected. SO_ERROR would name the route that a muted one lacks.
    failed = events & (select.EPOLLERR | select.EPOLLHUP)
    error = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if failed else 0
    kind = _KIND_OF_ERROR.get(error)
    if kind is None:
        return None
    received_at = time.monotonic()
    if kind is ReplyKind.SYN_ACK:
        info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
        if rtt := TCPI_RTT.unpack_from(info)[0]:
            received_at = probe.sent_at + rtt / 1e6
    return Reply(kind, waiting.flow.destination, received_at)


def icmp_reply(family: Family, quote: bytes, ancillary: Ancillary, probe: Probe) -> Reply | None:
    """The reply that an entry of the error queue is.

    `quote` is what the kernel leaves of the quoted probe, from its TCP header on. None when the
    entry is no ICMP error or has no sender.
    """
    found = {(level, kind): data for level, kind, data in ancillary}
    error = found.get(family.error, b"")
    if len(error) < family.sender.stop:
        return None
    _, origin, kind, code, _, _ = _EXTENDED_ERROR.unpack_from(error)
    if origin != family.origin:
        return None
    ttl = found.get(family.reply_ttl)
    expired = kind == family.time_exceeded
    return Reply(
        ReplyKind.TIME_EXCEEDED if expired else ReplyKind.UNREACHABLE,
        socket.inet_ntop(family.address_family, error[family.sender]),
        max(_arrival(found.get((socket.SOL_SOCKET, SO_TIMESTAMPNS))), probe.sent_at),
        ttl=_INT.unpack(ttl)[0] if ttl else None,
        icmp=(kind, code),
        mpls=_labels(family, quote),
    )


def _arrival(stamp: bytes | None) -> float:
    now = time.monotonic()
    if stamp is None:
        return now
    seconds, nanoseconds = _TIMESPEC.unpack(stamp)
    return arrival_time(seconds * 1_000_000_000 + nanoseconds, time.time_ns(), now)


def _labels(family: Family, quote: bytes) -> tuple[MplsLabel, ...]:
    """The MPLS labels behind a quote.

    The ICMP header is gone and with it the quote's length, so they are looked for where almost
    every router puts them, right behind 128 octets (RFC 4884, section 5.5).
    """
    return decode_mpls(bytes(8 + family.header_size) + quote, 0)


# -- the kernel ------------------------------------------------------------------------


def count_out_of_window_icmps() -> int | None:
    """TcpExt's OutOfWindowIcmps of this network namespace, None where it is not told."""
    try:
        lines = NETSTAT.read_text().splitlines()
    except OSError:
        return None
    # A line of names, and below it a line of values.
    fields = [line.split() for line in lines if line.startswith("TcpExt:")]
    count = dict(zip(*fields, strict=True)).get("OutOfWindowIcmps") if len(fields) == 2 else None
    return None if count is None else int(count)


def _datagram_socket(family: Family) -> socket.socket:
    one = socket.socket(family.address_family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    _set(one, family.options)
    return one


def _wait_until_readable(one: socket.socket | select.epoll) -> None:
    select.select((one,), (), (), _SELF_TEST_SECONDS)

"""The unprivileged engine: connect() with a TTL, for whoever has no capability at all.

1. A probe is a TCP socket of its own, whose SYN leaves with the probe's TTL. IP_RECVERR has the
   kernel keep the ICMP error that answers it: type, code, sender and the reply's own TTL are read
   from the error queue (ip(7), recvmsg(2)). Only they count, for the errno tells a time-exceeded
   not from a rejection and a port-unreachable not from an RST. An empty queue means that the
   destination answered over TCP: SYN-ACK, or RST where the errno is ECONNREFUSED.
2. The kernel allows one socket on one 4-tuple, so the source port differs from probe to probe,
   and load balancers may send the probes of one trace along several paths (no Paris traceroute).
   The ports follow from the flow's, the TTL and the attempt, and IPv6's flow label is 0, so that
   the next trace of the flow takes the same paths; a port that is taken is replaced by the
   kernel's choice.
   `Flow.source_port` is where the count begins, no port that anybody holds.
3. The kernel would repeat a SYN after 1 s, and complete the handshake. Neither happens, for once
   the SYN is out, the socket is muted: whatever it wants to send afterwards goes nowhere. Over
   IPv4, SO_DONTROUTE forbids gateways, and a change of IP_TOS has the kernel look for the route
   again. Over IPv6, where the kernel does not heed SO_DONTROUTE, a routing header leads by way of
   ::1 (IPV6_RTHDR, RFC 8754), and loopback drops what it gets. A muted probe waits for its answer
   until the flow is released. Where no muting helps (over IPv4, a destination on a network of
   this host or a route without a gateway), an alarm closes the socket after PATIENCE, before it
   repeats itself, and a later answer is lost.
4. Sockets end with an RST instead of a FIN and TIME_WAIT (SO_LINGER of 0). One that got a SYN-ACK
   is unmuted for it, so that the destination learns at once that nobody is there.
5. At most MOST_SOCKETS are open. Then the oldest one makes room if it has had its PATIENCE, which
   counts as silence; if not, the host refuses to send, and the tracer tries again.
6. Arrival times are the kernel's: SO_TIMESTAMPNS for an ICMP error, tcpi_rtt of TCP_INFO for a
   SYN-ACK. An RST has neither and counts as arriving when it is read; so while a flow is open
   whose endpoint sent one in the last trace, or is new, `kernel_times` asks to read at once.

What it cannot see: the TTL of a SYN-ACK or an RST, the quoted probe (a NAT's rewriting, the quoted
TTL), duplicates, and a TCP answer that comes after an ICMP error for the same probe. It cannot
see an ICMP error whose quoted sequence number somebody on the way has rewritten: the kernel drops
it and counts it (`unseen_errors`). What this host's own firewall drops on its way out, the
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
from dataclasses import dataclass

from exporter.model import Answer, Flow, Probe, ProbeError, Reply, ReplyKind
from exporter.probing.engines.error_queue import (
    IPV4,
    IPV6,
    Dialect,
    Option,
    datagram_socket,
    keeps_errors,
    set_options,
    take_error,
)
from exporter.probing.engines.failures import failure_of
from exporter.probing.engines.netstat import count_out_of_window_icmps
from exporter.probing.engines.sides import Sides, prove_by_loopback
from exporter.probing.engines.waiting import MOST_SOCKETS, NEVER, PATIENCE, Waiting, WaitingRoom

#: Linux' default net.ipv4.ip_local_port_range.
_FIRST_PORT, PORTS = 32_768, 28_232
#: More attempts at one TTL than a trace makes, so that no two of its probes want one port.
_ATTEMPTS = 32

#: Endpoints; beyond them every one counts as new.
_MOST_REMEMBERED = 20_000
#: Seconds for which a count of unseen errors holds: to ask costs 0.1 ms, many traces ask at the
#: same time, and a trace ends half a second or more after its last probe.
_COUNTING_PAUSE = 0.05

_STREAM = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)

TCP_INFO_SIZE = 104  # the part of struct tcp_info that every kernel since 2.6 fills
TCPI_RTT = struct.Struct("68xI")  # tcpi_rtt, in microseconds

#: SO_ERROR of a failed socket whose error queue is empty -> what came. A connection that was reset
#: after the handshake has been open. A failure without an error proves nothing.
_KIND_OF_ERROR = {
    errno.ECONNREFUSED: ReplyKind.RST,
    errno.ECONNRESET: ReplyKind.SYN_ACK,
    errno.EPIPE: ReplyKind.SYN_ACK,
}
_UNABLE = "this kernel or sandbox does not tell a socket which errors its packets met (IP_RECVERR)"


class _Side:
    """What is needed for one IP version. Opening raises OSError."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        # As long as one socket wants stamps, the kernel stamps every packet at its arrival.
        self.stamping = datagram_socket(dialect)

    def close(self) -> None:
        """Close its descriptor."""
        self.stamping.close()


@dataclass(frozen=True, slots=True)
class _Way:
    """How the probes of an open flow are sent; `mute` is empty where nothing would mute them."""

    dialect: Dialect
    mute: tuple[Option, ...]


class ConnectEngine:
    """See the module's text; opening it raises OSError where the kernel keeps no errors."""

    name = "connect"
    most_on_their_way = MOST_SOCKETS

    def __init__(self, dialects: Sequence[Dialect] = (IPV4, IPV6)) -> None:
        self._ways: dict[Flow, _Way] = {}
        #: Open flows that may get an RST, for all that is known; and those that got one.
        self._unsure: set[Flow] = set()
        self._reset: set[Flow] = set()
        #: (address, port) whose last trace got none.
        self._calm: set[tuple[str, int]] = set()
        self._icmps = self._icmps_before = count_out_of_window_icmps()
        self._counted_at = time.monotonic()
        self._room = WaitingRoom()
        self._sides: Sides[_Side] = Sides()
        try:
            self._sides.start(dialects, _Side, self._prove)
        except BaseException:
            self.close()
            raise

    @property
    def kernel_times(self) -> bool:
        """Whether no open flow is likely to get an RST, which alone comes without a time."""
        return not self._unsure

    def filenos(self) -> tuple[int, ...]:
        """One descriptor for all probes and the alarm."""
        return (self._room.fileno(),)

    def open(self, destination: str, port: int, preferred_port: int = 0) -> Flow:
        """Find the address that the kernel would send from, and where to count ports from."""
        dialect = self._sides.toward(destination).dialect
        source, mute = route_to(dialect, destination, port)
        flow = Flow(source, preferred_port or _random_port(), destination, port)
        while flow in self._ways:
            flow = Flow(source, _random_port(), destination, port)
        self._ways[flow] = _Way(dialect, mute)
        if (destination, port) not in self._calm:
            self._unsure.add(flow)
        return flow

    def send(self, flow: Flow, ttl: int, attempt: int) -> Probe:
        """Send one SYN; a host without route, permission or descriptors raises `ProbeError`."""
        way = self._ways[flow]
        dialect = way.dialect
        self._room.make_room()
        try:
            # The C type beneath socket.socket, whose additions take longer than the system call.
            one = socket.SocketType(dialect.address_family, _STREAM)
        except OSError as error:
            raise ProbeError(failure_of(error)) from error
        try:
            set_options(one, dialect.options)
            one.setsockopt(*dialect.ttl, ttl)
            _bind(one, flow, port_of(flow, ttl, attempt))
            probe = Probe(ttl, attempt, time.monotonic())
            connect_to(one, flow)
            set_options(one, way.mute)
        except OSError as error:
            one.close()
            raise ProbeError(failure_of(error)) from error
        expires_at = NEVER if way.mute else probe.sent_at + PATIENCE
        self._room.enter(Waiting(one, flow, probe, expires_at))
        return probe

    def receive(self) -> Iterator[tuple[Flow, Answer]]:
        """Read the sockets that were answered, and close them and those that expire."""
        for waiting, events in self._room.answered():
            dialect = self._ways[waiting.flow].dialect
            reply = read_reply(waiting, dialect, events)
            if reply and reply.icmp:  # that is the end of it
                self._room.leave(waiting)
            else:
                set_options(waiting.socket, dialect.unmute)
                self._room.abort(waiting)
            if reply and reply.kind is ReplyKind.RST:
                self._unsure.add(waiting.flow)
                self._reset.add(waiting.flow)
            # Later, and it may answer the SYN that the kernel sent by itself.
            if reply and reply.received_at < waiting.expires_at:
                yield waiting.flow, Answer(waiting.probe, reply)

    def unseen_errors(self) -> int:
        """ICMP errors whose quotes matched no socket's window, so that the kernel dropped them.

        Of all connections in this network namespace, over IPv4 and IPv6; 0 where it does not say.
        """
        now = time.monotonic()
        if now - self._counted_at > _COUNTING_PAUSE:
            self._counted_at = now
            self._icmps = count_out_of_window_icmps()
        if self._icmps is None or self._icmps_before is None:
            return 0
        return self._icmps - self._icmps_before

    def captured(self, _flow: Flow) -> bytes:
        """None: the kernel keeps the packets to itself."""
        return b""

    def release(self, flow: Flow) -> int:
        """Close a flow's sockets; duplicates cannot be seen."""
        self._room.release(flow)
        del self._ways[flow]
        self._remember(flow)
        return 0

    def close(self) -> None:
        """Close every descriptor."""
        for flow in tuple(self._ways):
            self.release(flow)
        self._room.close()
        self._sides.close()

    def _remember(self, flow: Flow) -> None:
        """Keep whether an endpoint sends RSTs, for the next flow to it."""
        endpoint = flow.destination, flow.destination_port
        if flow in self._reset:
            self._calm.discard(endpoint)
        elif len(self._calm) < _MOST_REMEMBERED:
            self._calm.add(endpoint)
        self._unsure.discard(flow)
        self._reset.discard(flow)

    def _prove(self, side: _Side) -> None:
        """Raise OSError unless a closed port of this host shows as one, over TCP and over UDP.

        The kernel answers a SYN to it with an RST, and a datagram with an ICMP error.
        """
        prove_by_loopback(self, side.dialect)
        try:
            proved = keeps_errors(side.dialect, side.stamping)
        except OSError as error:
            raise OSError(f"{_UNABLE}: {error.strerror}") from error
        if not proved:
            raise OSError(_UNABLE)


# -- sending ---------------------------------------------------------------------------


def route_to(dialect: Dialect, destination: str, port: int) -> tuple[str, tuple[Option, ...]]:
    """The source address toward a destination, and what mutes a socket that has sent there."""
    with socket.socket(dialect.address_family, socket.SOCK_DGRAM) as scout:
        try:
            scout.connect((destination, port))
        except OSError as error:
            raise ProbeError(failure_of(error)) from error
        source = str(scout.getsockname()[0])
        try:
            set_options(scout, dialect.mute)
        except OSError:  # a sandbox may know the one option and not the other
            return source, ()
        mutes = not dialect.mutes_gateways_only or scout.connect_ex((destination, port)) != 0
        return source, dialect.mute if mutes else ()


def _bind(one: socket.SocketType, flow: Flow, port: int) -> None:
    try:
        one.bind((flow.source, port))
    except OSError:  # taken, so the kernel chooses
        return


def connect_to(one: socket.SocketType, flow: Flow) -> None:
    """Send a socket's SYN. Raises OSError."""
    number = one.connect_ex((flow.destination, flow.destination_port))
    if number not in (0, errno.EINPROGRESS):
        raise OSError(number, os.strerror(number))


def port_of(flow: Flow, ttl: int, attempt: int) -> int:
    """The source port that a probe asks for."""
    return _FIRST_PORT + (flow.source_port + ttl * _ATTEMPTS + attempt) % PORTS


def _random_port() -> int:
    return _FIRST_PORT + secrets.randbelow(PORTS)


# -- receiving -------------------------------------------------------------------------


def read_reply(waiting: Waiting, dialect: Dialect, events: int) -> Reply | None:
    """What came for a probe; None for an error that says nothing about the path."""
    try:
        return take_error(waiting.socket, dialect, waiting.probe)
    except BlockingIOError:
        return _tcp_reply(waiting, events)


def _tcp_reply(waiting: Waiting, events: int) -> Reply | None:
    one, probe = waiting.socket, waiting.probe
    # Without a failure it is connected. SO_ERROR would name the route that a muted one lacks.
    failed = events & (select.EPOLLERR | select.EPOLLHUP)
    kind: ReplyKind | None = ReplyKind.SYN_ACK
    if failed:
        kind = _KIND_OF_ERROR.get(one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    if kind is None:
        return None
    received_at = time.monotonic()
    if kind is ReplyKind.SYN_ACK:
        info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
        if rtt := TCPI_RTT.unpack_from(info)[0]:
            received_at = probe.sent_at + rtt / 1e6
    return Reply(kind, waiting.flow.destination, received_at)

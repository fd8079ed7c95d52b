"""ICMP echo requests: what a destination answers that has no port open.

1. Linux lends a socket that sends echo requests and receives their replies to every process whose
   group is in net.ipv4.ping_group_range (icmp(7)); where it does not, a raw socket does as well,
   for whoever has CAP_NET_RAW. One socket for each IP version serves all flows, and is opened
   before the process gives its privileges up.
2. Both keep the ICMP errors that a request met, with what they quote of it (IP_RECVERR), so that
   routers on the way show as they do in a trace.
3. An answer is ours if it has the identifier of our socket and the sequence number of a request
   that waits. A reply has to come from the destination and bring our random payload back, and an
   error, whose quote may be cut, as much of that as it holds. All else is dropped.
4. Requests and replies are kept for evidence. Their IP headers are rebuilt where the socket does
   not give them. Errors are not kept, for the queue leaves too much of them out.

`EchoEngine` is an engine like those that send SYNs: driver and sounder do not know the difference.
There are no ports, so `Flow.source_port` only tells flows apart, until `Echoer` makes it 0.
"""

from __future__ import annotations

import secrets
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

from exporter.model import (
    Answer,
    Failure,
    FailureReason,
    Family,
    Flow,
    Probe,
    ProbeError,
    Reply,
    ReplyKind,
    Sounding,
    Trace,
)
from exporter.probing.driver import PROBE_BURST, Driver, Prober
from exporter.probing.engines.error_queue import IPV4, IPV6, Dialect, icmp_reply, set_options
from exporter.probing.engines.failures import failure_of
from exporter.probing.engines.film import Film, checksum_of, ip_header, pseudo_header
from exporter.probing.engines.sides import Sides
from exporter.probing.engines.stamps import Ancillary, arrival
from exporter.probing.engines.syn import ICMP_FILTER, ICMPV6_FILTER, SOL_RAW, source_toward

#: RFC 792, RFC 4443 section 4.1: type, code, checksum, identifier, sequence number.
_HEADER = struct.Struct("!BBHHH")
_CHECKSUM_AT = 2
_WORD = struct.Struct("!H")
_INT = struct.Struct("@i")
_NUMBERS = 1 << 16
#: Random octets behind the header.
PAYLOAD = 32

#: Quotes are at most 576 octets by RFC 1812; our replies are shorter.
_PACKET_SIZE = 1024
_ANCILLARY_SIZE = 256
#: Packets taken from one socket before the loop gets its turn again.
_BATCH = 256

DENIED = (
    "ICMP echo requests need the process's group in net.ipv4.ping_group_range, or the capability "
    "CAP_NET_RAW"
)


@dataclass(frozen=True, slots=True)
class _Words:
    """What ICMP calls things over one IP version."""

    protocol: int
    request: int
    reply: int
    #: Type of "destination unreachable"; that of time-exceeded is in the `Dialect`.
    unreachable: int
    #: For a raw socket: lets only echo replies pass; the mask names what is blocked.
    replies_only: tuple[int, int, bytes]
    #: Whether a raw socket gives the IP header, and leaves the checksum to who sends.
    whole_packets: bool


_WORDS = {
    Family.IPV4: _Words(
        protocol=socket.IPPROTO_ICMP,
        request=8,
        reply=0,
        unreachable=3,
        replies_only=(SOL_RAW, ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF ^ 1 << 0)),
        whole_packets=True,
    ),
    Family.IPV6: _Words(
        protocol=socket.IPPROTO_ICMPV6,
        request=128,
        reply=129,
        unreachable=1,
        replies_only=(
            socket.IPPROTO_ICMPV6,
            ICMPV6_FILTER,
            # type 129 is bit 1 of the fifth word
            struct.pack("=8I", *(0xFFFFFFFF ^ ((1 << 1) * (word == 4)) for word in range(8))),
        ),
        whole_packets=False,
    ),
}


class _Wire:
    """The socket of one IP version, and which requests wait on it. Opening raises OSError."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._words = _WORDS[dialect.family]
        self._payload = secrets.token_bytes(PAYLOAD)
        self._number = secrets.randbelow(_NUMBERS)
        #: The socket's, as it was last set.
        self._ttl = 0
        self._waiting: dict[int, tuple[Flow, Probe]] = {}
        self._films: dict[Flow, Film] = {}
        self.socket, self._raw = _open(dialect, self._words)
        try:
            set_options(self.socket, dialect.options)
            self._identifier = self._take_identifier()
        except OSError:
            self.close()
            raise

    def send(self, flow: Flow, ttl: int, attempt: int) -> Probe:
        """Send one request. Raises OSError."""
        self._number = (self._number + 1) % _NUMBERS
        packet = self._request(self._number)
        if ttl != self._ttl:
            self.socket.setsockopt(*self.dialect.ttl, ttl)
            self._ttl = ttl
        probe = Probe(ttl, attempt, time.monotonic())
        try:
            self.socket.sendto(packet, (flow.destination, 0))
        except OSError:  # what an earlier request met is told once, and at the next call
            self.socket.sendto(packet, (flow.destination, 0))
        self._waiting[self._number] = (flow, probe)
        self._films.setdefault(flow, Film()).sent(probe, packet)
        return probe

    def receive(self) -> Iterator[tuple[Flow, Answer]]:
        """The answers to requests that wait; each ends its request's waiting."""
        yield from self._drain(0, self._match_reply)
        yield from self._drain(socket.MSG_ERRQUEUE, self._match_error)

    def captured(self, flow: Flow) -> bytes:
        """The requests of a flow and the replies to them."""
        film = self._films.get(flow)
        return film.row(partial(self._whole, flow)) if film else b""

    def release(self, flow: Flow) -> None:
        """Wait for nothing more of a flow."""
        self._films.pop(flow, None)
        self._waiting = {n: one for n, one in self._waiting.items() if one[0] != flow}

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def _take_identifier(self) -> int:
        if self._raw:
            self.socket.setsockopt(*self._words.replies_only)
            return secrets.randbelow(_NUMBERS)
        self.socket.bind(("", 0))  # the port is the identifier, and nobody else's
        return int(self.socket.getsockname()[1])

    def _request(self, number: int) -> bytes:
        words = self._words
        header = _HEADER.pack(words.request, 0, 0, self._identifier, number)
        if not words.whole_packets:  # then the kernel fills the checksum in
            return header + self._payload
        checksum = checksum_of(header + self._payload)
        return _HEADER.pack(words.request, 0, checksum, self._identifier, number) + self._payload

    def _whole(
        self, flow: Flow, packet: bytes, length: int, ttl: int, reply: Reply | None
    ) -> bytes:
        """A request or a reply from its IP header on."""
        words, ours = self._words, reply is None
        if words.whole_packets and self._raw and not ours:
            return packet
        ends = (flow.source, flow.destination) if ours else (flow.destination, flow.source)
        if ours and not words.whole_packets:
            checksum = checksum_of(pseudo_header(*ends, words.protocol, length) + packet)
            packet = packet[:_CHECKSUM_AT] + _WORD.pack(checksum) + packet[_CHECKSUM_AT + 2 :]
        return ip_header(*ends, words.protocol, ttl, length) + packet

    def _drain(
        self, flags: int, match: Callable[[bytes, Ancillary, str], tuple[Flow, Answer] | None]
    ) -> Iterator[tuple[Flow, Answer]]:
        for _ in range(_BATCH):
            try:
                packet, ancillary, _, sender = self.socket.recvmsg(
                    _PACKET_SIZE, _ANCILLARY_SIZE, flags
                )
            except BlockingIOError:
                return
            except OSError:  # what a request met; it is in the error queue as well
                continue
            if found := match(packet, ancillary, sender[0]):
                yield found

    def _match_reply(
        self, packet: bytes, ancillary: Ancillary, sender: str
    ) -> tuple[Flow, Answer] | None:
        seen = packet
        if self._raw and self._words.whole_packets:
            packet = packet[(packet[0] & 0xF) * 4 :] if packet else b""  # RFC 791: IHL
        found = self._find(packet, self._words.reply)
        if found is None or packet[_HEADER.size :] != self._payload:
            return None
        number, flow, probe = found
        if sender != flow.destination:
            return None
        del self._waiting[number]
        ttl = next((d for *key, d in ancillary if tuple(key) == self.dialect.reply_ttl), None)
        reply = Reply(
            ReplyKind.ECHO_REPLY,
            sender,
            max(arrival(ancillary), probe.sent_at),
            ttl=_INT.unpack(ttl)[0] if ttl else None,
        )
        answer = Answer(probe, reply)
        self._films[flow].received(answer, seen)
        return flow, answer

    def _match_error(
        self, quote: bytes, ancillary: Ancillary, destination: str
    ) -> tuple[Flow, Answer] | None:
        found = self._find(quote, self._words.request)
        if found is None or not _begins(quote[_HEADER.size :], self._payload):
            return None
        number, flow, probe = found
        reply = icmp_reply(self.dialect, quote, ancillary, probe)
        if reply is None or reply.icmp is None or destination != flow.destination:
            return None
        if reply.icmp[0] not in (self.dialect.time_exceeded, self._words.unreachable):
            return None
        del self._waiting[number]
        return flow, Answer(probe, reply)

    def _find(self, packet: bytes, kind: int) -> tuple[int, Flow, Probe] | None:
        """The request that a packet of this type, from its ICMP header on, is about."""
        if len(packet) < _HEADER.size:
            return None
        icmp_type, _, _, identifier, number = _HEADER.unpack_from(packet)
        if (icmp_type, identifier) != (kind, self._identifier) or number not in self._waiting:
            return None
        return number, *self._waiting[number]


class EchoEngine:
    """See the module's text; opening it raises OSError where it is not permitted."""

    name = "echo"
    kernel_times = True
    #: Their answers find room in a receive buffer of ordinary size.
    most_on_their_way = 256

    def __init__(self) -> None:
        self._flows: dict[Flow, _Wire] = {}
        self._numbers = count(1)
        self._wires: Sides[_Wire] = Sides()
        # A host may ignore echo requests, so that one to itself would prove nothing.
        self._wires.start((IPV4, IPV6), _Wire, lambda _: None)
        self._epoll = select.epoll()
        #: Descriptor -> who reads it.
        self._receivers = {wire.socket.fileno(): wire for wire in self._wires}
        for fileno in self._receivers:  # the error queue rings with EPOLLERR, which needs no asking
            self._epoll.register(fileno, select.EPOLLIN)

    def filenos(self) -> tuple[int, ...]:
        """One descriptor for all sockets."""
        return (self._epoll.fileno(),)

    def open(self, destination: str, port: int, _preferred_port: int = 0) -> Flow:
        """Find the address that the kernel would send from."""
        wire = self._wires.toward(destination)
        try:
            source = source_toward(wire.dialect.address_family, destination, port)
        except OSError as error:
            raise ProbeError(failure_of(error)) from error
        flow = Flow(source, next(self._numbers), destination, port)
        self._flows[flow] = wire
        return flow

    def send(self, flow: Flow, ttl: int, attempt: int) -> Probe:
        """Send one echo request; a host that refuses raises `ProbeError`."""
        try:
            return self._flows[flow].send(flow, ttl, attempt)
        except OSError as error:
            raise ProbeError(failure_of(error)) from error

    def receive(self) -> list[tuple[Flow, Answer]]:
        """Match what has arrived; duplicates are dropped."""
        ready = self._epoll.poll(0)
        return [answer for fileno, _ in ready for answer in self._receivers[fileno].receive()]

    def unseen_errors(self) -> int:
        """A quote that somebody rewrote is not told."""
        return 0

    def captured(self, flow: Flow) -> bytes:
        """Requests, and the replies to them."""
        return self._flows[flow].captured(flow)

    def release(self, flow: Flow) -> int:
        """Forget a flow; duplicates are not counted."""
        self._flows.pop(flow).release(flow)
        return 0

    def close(self) -> None:
        """Close every socket."""
        self._wires.close()
        self._epoll.close()


class Echoer:
    """Sends echo requests where that is permitted; made before privileges are given up.

    `status` says why it is not permitted, "" where it is.
    """

    def __init__(self, probes_per_second: float) -> None:
        self.status = ""
        self._driver: Driver | None = None
        #: Made on the running loop, by the first one who asks.
        self._prober: Prober | None = None
        try:
            self._driver = Driver(EchoEngine(), probes_per_second, PROBE_BURST)
        except OSError as error:
            self.status = str(error)

    async def echo(self, address: str, sounding: Sounding) -> Trace:
        """Sound an address by echo requests. Raises `ProbeError` where it cannot begin."""
        if self._driver is None:
            raise ProbeError(Failure(FailureReason.PERMISSION, self.status))
        if self._prober is None:
            self._prober = Prober(self._driver)
        trace = await self._prober.trace(address, 0, sounding)
        return replace(trace, flow=trace.flow._replace(source_port=0))

    def close(self) -> None:
        """Close every socket."""
        if self._prober:
            self._prober.close()
        elif self._driver:
            self._driver.engine.close()


def _open(dialect: Dialect, words: _Words) -> tuple[socket.socket, bool]:
    """A socket for echo requests, and whether it is a raw one."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            one = socket.socket(dialect.address_family, kind | socket.SOCK_NONBLOCK, words.protocol)
        except PermissionError:
            continue
        return one, kind is socket.SOCK_RAW
    raise PermissionError(DENIED)


def _begins(quoted: bytes, payload: bytes) -> bool:
    """Whether a quote that may be cut, or padded, is of this payload."""
    size = min(len(quoted), len(payload))
    return quoted[:size] == payload[:size]

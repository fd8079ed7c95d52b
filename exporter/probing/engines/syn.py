"""The raw engine: half-open SYNs over raw sockets, for whoever has CAP_NET_RAW.

Three raw sockets for each IP version serve all traces: one sends (IP_HDRINCL), one receives ICMP
errors, one receives TCP. Classic BPF filters (bpf.py) keep a busy host's other traffic from being
copied. The flows share a few source ports (ports.py), which the engine holds as long as it runs,
so nothing of the host's firewall needs changing. One descriptor tells which sockets have got
something.

Arrival times are the kernel's (stamps.py), so that a busy event loop does not lengthen round
trips.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from exporter.model import Answer, Family, Flow, Probe, ProbeError, Reply
from exporter.probing.engines import bpf
from exporter.probing.engines.failures import failure_of
from exporter.probing.engines.film import Film, as_seen, ip_header
from exporter.probing.engines.ports import SourcePorts
from exporter.probing.engines.sides import Sides, prove_by_loopback
from exporter.probing.engines.stamps import STAMP_SIZE, STAMPING, Ancillary, Arrivals
from exporter.probing.matching import FlowState, Matcher
from exporter.probing.packet import (
    IcmpError,
    Segment,
    SynTemplate,
    Undecoded,
    decode_icmp,
    decode_icmp6,
    decode_segment,
    decode_segment6,
)

#: Linux' numbers that the socket module does not name (linux/icmp.h, linux/icmpv6.h).
SOL_RAW = 255
ICMP_FILTER = 1
ICMPV6_FILTER = 1

_RECEIVE_BUFFER = 1 << 20
#: A quote with extensions is at most 576 octets by RFC 1812, an ICMPv6 error 1280 by RFC 4443;
#: longer packets are cut.
_PACKET_SIZE = 2048
#: If all of them are answered while nobody reads, the answers find room in a receive buffer that is
#: no larger than net.core.rmem_max usually allows: 212,992 octets hold 512 errors of 96 octets.
MOST_ON_THEIR_WAY = 500
#: Packets taken from one socket before the loop gets its turn again.
_BATCH = 256
_HOP_LIMIT = (int(socket.IPPROTO_IPV6), int(socket.IPV6_HOPLIMIT))
_INT = struct.Struct("@i")

#: (level, option, value) of a setsockopt.
Option = tuple[int, int, int | bytes]
#: What a decoder makes of a packet.
Decoded = TypeVar("Decoded", IcmpError, Segment)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between the IP versions.

    `read_error` and `read_segment` decode what recvmsg gives: a packet, its ancillary data and
    the sender's address. `whole` puts in front of a flow's packet what the sockets leave out, see
    `Whole`.
    """

    family: Family
    address_family: int
    loopback: str
    icmp_protocol: int
    #: Admits ICMP errors only; the mask names what is blocked.
    icmp_filter: Option
    #: Of the sockets that receive, and how much ancillary data comes by them.
    receiving: tuple[Option, ...]
    ancillary_size: int
    #: Of what the sockets are offered.
    offsets: bpf.Offsets
    read_error: Callable[[bytes, Ancillary, tuple[str, int]], IcmpError | Undecoded]
    read_segment: Callable[[bytes, Ancillary, tuple[str, int]], Segment | Undecoded]
    whole: Callable[[Flow, bytes, int, int, Reply | None], bytes]


def _read_error4(
    packet: bytes, _ancillary: Ancillary, _address: tuple[str, int]
) -> IcmpError | Undecoded:
    return decode_icmp(packet)


def _read_segment4(
    packet: bytes, _ancillary: Ancillary, _address: tuple[str, int]
) -> Segment | Undecoded:
    return decode_segment(packet)


def _read_error6(
    packet: bytes, ancillary: Ancillary, address: tuple[str, int]
) -> IcmpError | Undecoded:
    return decode_icmp6(packet, address[0], _hop_limit(ancillary))


def _read_segment6(
    packet: bytes, ancillary: Ancillary, address: tuple[str, int]
) -> Segment | Undecoded:
    return decode_segment6(packet, address[0], _hop_limit(ancillary))


def _whole4(_flow: Flow, packet: bytes, length: int, ttl: int, reply: Reply | None) -> bytes:
    return as_seen(packet, length, ttl, reply)


def _whole6(flow: Flow, packet: bytes, length: int, ttl: int, reply: Reply | None) -> bytes:
    if reply is None:
        return packet
    protocol = socket.IPPROTO_ICMPV6 if reply.icmp else socket.IPPROTO_TCP
    return ip_header(reply.address, flow.source, protocol, ttl, length) + packet


def _hop_limit(ancillary: Ancillary) -> int | None:
    for level, kind, data in ancillary:
        if (level, kind) == _HOP_LIMIT:
            return int(_INT.unpack(data)[0])
    return None


IPV4 = Dialect(
    family=Family.IPV4,
    address_family=socket.AF_INET,
    loopback="127.0.0.1",
    icmp_protocol=socket.IPPROTO_ICMP,
    icmp_filter=(SOL_RAW, ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF ^ (1 << 3 | 1 << 11))),
    receiving=(STAMPING,),
    ancillary_size=STAMP_SIZE,
    offsets=bpf.IPV4,
    read_error=_read_error4,
    read_segment=_read_segment4,
    whole=_whole4,
)

IPV6 = Dialect(
    family=Family.IPV6,
    address_family=socket.AF_INET6,
    loopback="::1",
    icmp_protocol=socket.IPPROTO_ICMPV6,
    icmp_filter=(
        socket.IPPROTO_ICMPV6,
        ICMPV6_FILTER,
        struct.pack("=8I", 0xFFFFFFFF ^ (1 << 1 | 1 << 3), *[0xFFFFFFFF] * 7),
    ),
    receiving=(STAMPING, (socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)),
    ancillary_size=STAMP_SIZE + socket.CMSG_SPACE(_INT.size),
    offsets=bpf.IPV6,
    read_error=_read_error6,
    read_segment=_read_segment6,
    whole=_whole6,
)


class _Wire:
    """The raw sockets of one IP version, and what is matched on them. Opening raises OSError."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.matcher = Matcher()
        #: The addresses of this host that flows have begun at.
        self._sources: set[str] = set()
        with ExitStack() as opened:
            self.sender = opened.enter_context(_raw_socket(dialect, socket.IPPROTO_RAW))
            self.icmp = opened.enter_context(_raw_socket(dialect, dialect.icmp_protocol))
            self.tcp = opened.enter_context(_raw_socket(dialect, socket.IPPROTO_TCP))
            self.icmp.setsockopt(*dialect.icmp_filter)
            for receiver in (self.icmp, self.tcp):
                receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
                for option in dialect.receiving:
                    receiver.setsockopt(*option)
            self.ports = SourcePorts(dialect.address_family, self._admit)
            opened.callback(self.ports.close)
            self._admit()
            self._opened = opened.pop_all()

    def begin(self, destination: str, port: int, preferred_port: int) -> Flow:
        """A flow from a port of its own, at the address that the kernel would send from.

        Raises OSError.
        """
        source = source_toward(self.dialect.address_family, destination, port)
        if source not in self._sources:
            self._sources.add(source)
            self._admit()
        endpoint = destination, port
        return Flow(source, self.ports.take(endpoint, preferred_port), *endpoint)

    def end(self, flow: Flow) -> None:
        """Free a flow's port."""
        self.ports.give_back((flow.destination, flow.destination_port), flow.source_port)

    def close(self) -> None:
        """Close the sockets."""
        self._opened.close()

    def _admit(self) -> None:
        """Have the kernel copy what may be for the ports that are held."""
        offsets, ports = self.dialect.offsets, self.ports.held
        bpf.attach(self.tcp, bpf.segments(offsets, ports))
        bpf.attach(self.icmp, bpf.errors(offsets, ports, self._sources))


class _Receiver(Generic[Decoded]):
    """What one socket receives, decoded and matched."""

    def __init__(
        self,
        raw: socket.socket,
        dialect: Dialect,
        read: Callable[[bytes, Ancillary, tuple[str, int]], Decoded | Undecoded],
        match: Callable[[Decoded, float], tuple[Flow, Answer] | None],
        flows: Mapping[Flow, _OpenFlow],
    ) -> None:
        #: Packets that claim to answer a probe and cannot be read.
        self.malformed = 0
        self._recvmsg = raw.recvmsg
        self._ancillary_size = dialect.ancillary_size
        self._read: Callable[[bytes, Ancillary, tuple[str, int]], Decoded | Undecoded] = read
        self._match: Callable[[Decoded, float], tuple[Flow, Answer] | None] = match
        self._flows = flows

    def drain(self, found: list[tuple[Flow, Answer]]) -> None:
        """Add the answers among what has arrived, a batch at most."""
        recvmsg, size, read, match = self._recvmsg, self._ancillary_size, self._read, self._match
        flows, arrivals = self._flows, Arrivals()
        for _ in range(_BATCH):
            try:
                packet, ancillary, _, address = recvmsg(_PACKET_SIZE, size)
            except OSError:
                # Nothing more, or an error of an earlier send that the kernel reports here.
                return
            decoded = read(packet, ancillary, address)
            if isinstance(decoded, Undecoded):
                self.malformed += decoded is Undecoded.MALFORMED
            elif answer := match(decoded, arrivals.time_of(ancillary)):
                found.append(answer)
                flows[answer[0]].film.received(answer[1], packet)


@dataclass(slots=True, eq=False)
class _OpenFlow:
    wire: _Wire
    state: FlowState
    template: SynTemplate
    #: As sendto() wants it.
    address: tuple[str, int]
    film: Film = field(default_factory=Film)


class SynEngine:
    """See the module's text; opening it raises `PermissionError` without CAP_NET_RAW."""

    name = "syn"
    kernel_times = True
    most_on_their_way = MOST_ON_THEIR_WAY

    def __init__(self, dialects: Sequence[Dialect] = (IPV4, IPV6)) -> None:
        self._flows: dict[Flow, _OpenFlow] = {}
        self._epoll = select.epoll()
        #: Descriptor -> who reads it.
        self._receivers: dict[int, _Receiver[IcmpError] | _Receiver[Segment]] = {}
        self._wires: Sides[_Wire] = Sides()
        try:
            self._wires.start(dialects, self._open_wire, self._prove)
        except BaseException:
            self.close()
            raise

    @property
    def foreign(self) -> int:
        """How many replies belonged to no open flow."""
        return sum(wire.matcher.foreign for wire in self._wires)

    @property
    def malformed(self) -> int:
        """How many packets claimed to answer a probe and could not be read."""
        return sum(receiver.malformed for receiver in self._receivers.values())

    def filenos(self) -> tuple[int, ...]:
        """One descriptor for all sockets."""
        return (self._epoll.fileno(),)

    def open(self, destination: str, port: int, preferred_port: int = 0) -> Flow:
        """Take a source port on the address that the kernel would send from."""
        wire = self._wires.toward(destination)
        try:
            flow = wire.begin(destination, port, preferred_port)
        except OSError as error:
            raise ProbeError(failure_of(error)) from error
        self._flows[flow] = _OpenFlow(
            wire, wire.matcher.open(flow), SynTemplate(flow), (destination, 0)
        )
        return flow

    def send(self, flow: Flow, ttl: int, attempt: int) -> Probe:
        """Send one SYN; ENOBUFS, EPERM and the like raise `ProbeError`."""
        entry = self._flows[flow]
        wire, state = entry.wire, entry.state
        sequence, mark = state.numbers(ttl, attempt)
        packet = entry.template.patch(ttl, mark, sequence)
        probe = Probe(ttl, attempt, time.monotonic())
        try:
            wire.sender.sendto(packet, entry.address)
        except OSError as error:
            raise ProbeError(failure_of(error)) from error
        wire.matcher.sent(state, probe, sequence, mark)
        entry.film.sent(probe, packet)
        return probe

    def receive(self) -> list[tuple[Flow, Answer]]:
        """Decode and match what has arrived."""
        found: list[tuple[Flow, Answer]] = []
        for fileno, _ in self._epoll.poll(0):
            self._receivers[fileno].drain(found)
        return found

    def unseen_errors(self) -> int:
        """Raw sockets see every ICMP error."""
        return 0

    def captured(self, flow: Flow) -> bytes:
        """Every probe, and every answer that counts."""
        entry = self._flows[flow]
        return entry.film.row(partial(entry.wire.dialect.whole, flow))

    def release(self, flow: Flow) -> int:
        """Free the flow's source port for others to the same destination."""
        wire = self._flows.pop(flow).wire
        wire.end(flow)
        return wire.matcher.close(flow)

    def close(self) -> None:
        """Close every socket."""
        for flow in tuple(self._flows):
            self.release(flow)
        self._wires.close()
        self._epoll.close()

    def _open_wire(self, dialect: Dialect) -> _Wire:
        wire = _Wire(dialect)
        matcher, flows = wire.matcher, self._flows
        self._listen(
            wire.icmp, _Receiver(wire.icmp, dialect, dialect.read_error, matcher.match_error, flows)
        )
        self._listen(
            wire.tcp,
            _Receiver(wire.tcp, dialect, dialect.read_segment, matcher.match_segment, flows),
        )
        return wire

    def _listen(
        self, raw: socket.socket, receiver: _Receiver[IcmpError] | _Receiver[Segment]
    ) -> None:
        self._receivers[raw.fileno()] = receiver
        self._epoll.register(raw, select.EPOLLIN)

    def _prove(self, wire: _Wire) -> None:
        prove_by_loopback(self, wire.dialect)


def source_toward(address_family: int, destination: str, port: int) -> str:
    """The address that the kernel would send from. Raises OSError."""
    with socket.socket(address_family, socket.SOCK_DGRAM) as scout:
        scout.connect((destination, port))
        return str(scout.getsockname()[0])


def _raw_socket(dialect: Dialect, protocol: int) -> socket.socket:
    try:
        return socket.socket(
            dialect.address_family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol
        )
    except PermissionError:
        raise PermissionError(
            "raw sockets need the capability CAP_NET_RAW: run as root, or start the container "
            "as root with NET_RAW among its capabilities"
        ) from None

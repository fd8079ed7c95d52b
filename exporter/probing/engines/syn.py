"""The raw engine: half-open SYNs over raw sockets, for whoever has CAP_NET_RAW.

Three raw sockets for each IP version serve all traces: one sends (IP_HDRINCL), one receives ICMP
errors, one receives TCP. A classic BPF filter admits only segments to the ports of open flows, so
that the traffic of a busy host is not copied. Each flow's source port is held by a bound TCP
socket that never connects: no application gets the port, and the kernel answers a SYN-ACK with an
RST by itself, so nothing of the host's firewall needs changing.

Arrival times are the kernel's (stamps.py), so that a busy event loop does not lengthen round
trips.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TypeVar

from exporter.model import Answer, Family, Flow, Probe, ProbeError
from exporter.probing.engines.failures import failure_of
from exporter.probing.engines.sides import Sides, prove_by_loopback
from exporter.probing.engines.stamps import STAMP_SIZE, STAMPING, Ancillary, arrival
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

#: Linux' numbers that the socket module does not name (asm-generic/socket.h, linux/icmp.h,
#: linux/icmpv6.h).
SO_ATTACH_FILTER = 26
SOL_RAW = 255
ICMP_FILTER = 1
ICMPV6_FILTER = 1

_RECEIVE_BUFFER = 1 << 20
#: A quote with extensions is at most 576 octets by RFC 1812, an ICMPv6 error 1280 by RFC 4443;
#: longer packets are cut.
_PACKET_SIZE = 2048
#: Packets taken from one socket before the loop gets its turn again.
_BATCH = 256
#: cBPF jumps reach 255 instructions; with more ports the filter lets everything pass.
MOST_FILTERED_PORTS = 200
_HOP_LIMIT = (int(socket.IPPROTO_IPV6), int(socket.IPV6_HOPLIMIT))
_INT = struct.Struct("@i")

#: (level, option, value) of a setsockopt.
Option = tuple[int, int, int | bytes]
#: A row of a classic BPF program (linux/filter.h): code, jump if true, jump if false, constant.
Instruction = tuple[int, int, int, int]
#: What a decoder makes of a packet.
Decoded = TypeVar("Decoded", IcmpError, Segment)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between the IP versions.

    `read_error` and `read_segment` decode what recvmsg gives: a packet, its ancillary data and
    the sender's address.
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
    #: Loads the destination port of what a raw TCP socket is offered.
    load_port: tuple[Instruction, ...]
    read_error: Callable[[bytes, Ancillary, tuple[str, int]], IcmpError | Undecoded]
    read_segment: Callable[[bytes, Ancillary, tuple[str, int]], Segment | Undecoded]


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
    load_port=(
        (0xB1, 0, 0, 0),  # ldxb 4 * ([0] & 0xf): x = length of the IP header
        (0x48, 0, 0, 2),  # ldh [x + 2]
    ),
    read_error=_read_error4,
    read_segment=_read_segment4,
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
    load_port=((0x28, 0, 0, 2),),  # ldh [2]: the socket is offered the TCP header first
    read_error=_read_error6,
    read_segment=_read_segment6,
)


class _Wire:
    """The raw sockets of one IP version, and what is matched on them. Opening raises OSError."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.matcher = Matcher()
        with ExitStack() as opened:
            self.sender = opened.enter_context(_raw_socket(dialect, socket.IPPROTO_RAW))
            self.icmp = opened.enter_context(_raw_socket(dialect, dialect.icmp_protocol))
            self.tcp = opened.enter_context(_raw_socket(dialect, socket.IPPROTO_TCP))
            self.icmp.setsockopt(*dialect.icmp_filter)
            for receiver in (self.icmp, self.tcp):
                receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
                for option in dialect.receiving:
                    receiver.setsockopt(*option)
            self.filter_ports()
            self._opened = opened.pop_all()

    def filter_ports(self) -> None:
        """Admit what is sent to the ports of the open flows."""
        _attach_filter(self.tcp, port_filter(self.dialect, self.matcher.ports()))

    def close(self) -> None:
        """Close the sockets."""
        self._opened.close()


@dataclass(slots=True, eq=False)
class _OpenFlow:
    wire: _Wire
    state: FlowState
    template: SynTemplate
    holder: socket.socket


class SynEngine:
    """See the module's text; opening it raises `PermissionError` without CAP_NET_RAW."""

    name = "syn"
    kernel_times = True

    def __init__(self, dialects: Sequence[Dialect] = (IPV4, IPV6)) -> None:
        self._flows: dict[Flow, _OpenFlow] = {}
        #: Packets that claim to answer a probe and cannot be read.
        self.malformed = 0
        self._wires: Sides[_Wire] = Sides()
        try:
            self._wires.start(dialects, _Wire, self._prove)
        except BaseException:
            self.close()
            raise

    @property
    def foreign(self) -> int:
        """How many replies belonged to no open flow."""
        return sum(wire.matcher.foreign for wire in self._wires)

    def filenos(self) -> tuple[int, ...]:
        """The receiving sockets, two for each IP version."""
        return tuple(raw.fileno() for wire in self._wires for raw in (wire.icmp, wire.tcp))

    def open(self, destination: str, port: int, preferred_port: int = 0) -> Flow:
        """Reserve a source port on the address that the kernel would send from."""
        wire = self._wires.toward(destination)
        try:
            source = _source_toward(wire.dialect, destination, port)
            holder = _reserve(wire.dialect, preferred_port)
        except OSError as error:
            raise ProbeError(failure_of(error)) from error
        flow = Flow(source, holder.getsockname()[1], destination, port)
        self._flows[flow] = _OpenFlow(wire, wire.matcher.open(flow), SynTemplate(flow), holder)
        wire.filter_ports()
        return flow

    def send(self, flow: Flow, ttl: int, attempt: int) -> Probe:
        """Send one SYN; ENOBUFS, EPERM and the like raise `ProbeError`."""
        entry = self._flows[flow]
        sequence, mark = entry.state.numbers(ttl, attempt)
        packet = entry.template.patch(ttl, mark, sequence)
        probe = Probe(ttl, attempt, time.monotonic())
        try:
            entry.wire.sender.sendto(packet, (flow.destination, 0))
        except OSError as error:
            raise ProbeError(failure_of(error)) from error
        entry.wire.matcher.sent(entry.state, probe, sequence, mark)
        return probe

    def receive(self) -> list[tuple[Flow, Answer]]:
        """Decode and match what has arrived."""
        found: list[tuple[Flow, Answer]] = []
        for wire in self._wires:
            dialect, matcher = wire.dialect, wire.matcher
            size = dialect.ancillary_size
            self._drain(wire.icmp, size, dialect.read_error, matcher.match_error, found)
            self._drain(wire.tcp, size, dialect.read_segment, matcher.match_segment, found)
        return found

    def unseen_errors(self) -> int:
        """Raw sockets see every ICMP error."""
        return 0

    def release(self, flow: Flow) -> int:
        """Free the flow's source port."""
        entry = self._flows.pop(flow)
        entry.holder.close()
        duplicates = entry.wire.matcher.close(flow)
        entry.wire.filter_ports()
        return duplicates

    def close(self) -> None:
        """Close every socket."""
        for flow in tuple(self._flows):
            self.release(flow)
        self._wires.close()

    def _prove(self, wire: _Wire) -> None:
        prove_by_loopback(self, wire.dialect)

    def _drain(
        self,
        raw: socket.socket,
        ancillary_size: int,
        read: Callable[[bytes, Ancillary, tuple[str, int]], Decoded | Undecoded],
        match: Callable[[Decoded, float], tuple[Flow, Answer] | None],
        found: list[tuple[Flow, Answer]],
    ) -> None:
        for _ in range(_BATCH):
            try:
                packet, ancillary, _, address = raw.recvmsg(_PACKET_SIZE, ancillary_size)
            except OSError:
                # Nothing more, or an error of an earlier send that the kernel reports here.
                return
            decoded = read(packet, ancillary, address)
            if isinstance(decoded, Undecoded):
                self.malformed += decoded is Undecoded.MALFORMED
            elif answer := match(decoded, arrival(ancillary)):
                found.append(answer)


def _source_toward(dialect: Dialect, destination: str, port: int) -> str:
    with socket.socket(dialect.address_family, socket.SOCK_DGRAM) as scout:
        scout.connect((destination, port))
        return str(scout.getsockname()[0])


def _reserve(dialect: Dialect, preferred_port: int) -> socket.socket:
    """Hold a port on every address of the host, so that it names the flow by itself."""
    holder = socket.socket(dialect.address_family, socket.SOCK_STREAM)
    try:
        with suppress(OSError):
            # The port of the trace before keeps the flow, and so the path, the same.
            holder.bind(("", preferred_port))
            return holder
        holder.bind(("", 0))
    except OSError:
        holder.close()
        raise
    return holder


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


def port_filter(dialect: Dialect, ports: Sequence[int]) -> list[Instruction]:
    """A classic BPF program for TCP segments to one of `ports`."""
    accept, reject = (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0)
    if len(ports) > MOST_FILTERED_PORTS:
        return [accept]
    program = list(dialect.load_port)
    for left, port in zip(range(len(ports), 0, -1), ports, strict=True):
        program.append((0x15, left, 0, port))  # jeq port -> accept
    return [*program, reject, accept]


def _attach_filter(raw: socket.socket, program: list[Instruction]) -> None:
    code = b"".join(struct.pack("=HBBI", *row) for row in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: unsigned short len; struct sock_filter *filter
    raw.setsockopt(
        socket.SOL_SOCKET,
        SO_ATTACH_FILTER,
        struct.pack("@HP", len(program), ctypes.addressof(buffer)),
    )

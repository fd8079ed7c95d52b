"""The raw engine: half-open SYNs over raw sockets, for whoever has CAP_NET_RAW.

Three raw sockets serve all traces: one sends (IP_HDRINCL), one receives ICMP errors, one
receives TCP. A classic BPF filter admits only segments to the ports of open flows, so that the
traffic of a busy host is not copied. Each flow's source port is held by a bound TCP socket that
never connects: no application gets the port, and the kernel answers a SYN-ACK with an RST by
itself, so nothing of the host's firewall needs changing.

Arrival times are the kernel's (stamps.py), so that a busy event loop does not lengthen round
trips.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from exporter.model import Answer, Flow, Probe, ProbeError
from exporter.probing.engines.failures import failure_of
from exporter.probing.engines.stamps import STAMP_SIZE, STAMPING, arrival
from exporter.probing.matching import FlowState, Matcher
from exporter.probing.packet import (
    IcmpError,
    Segment,
    SynTemplate,
    Undecoded,
    decode_icmp,
    decode_segment,
    warm_up,
)

#: Linux' numbers that the socket module does not name (asm-generic/socket.h, linux/icmp.h).
SO_ATTACH_FILTER = 26
SOL_RAW = 255
ICMP_FILTER = 1

_RECEIVE_BUFFER = 1 << 20
#: A quote with extensions is at most 576 octets by RFC 1812; longer packets are cut.
_PACKET_SIZE = 2048
#: Packets taken from one socket before the loop gets its turn again.
_BATCH = 256
#: cBPF jumps reach 255 instructions; with more ports the filter lets everything pass.
MOST_FILTERED_PORTS = 200


#: What a decoder makes of a packet.
Decoded = TypeVar("Decoded", IcmpError, Segment)


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between the IP versions; IPv6 is another row."""

    address_family: int
    icmp_protocol: int
    #: (level, option, value) that admits ICMP errors only; the mask names what is blocked.
    icmp_filter: tuple[int, int, bytes]
    decode_error: Callable[[bytes], IcmpError | Undecoded]
    decode_segment: Callable[[bytes], Segment | Undecoded]


IPV4 = Family(
    address_family=socket.AF_INET,
    icmp_protocol=socket.IPPROTO_ICMP,
    icmp_filter=(SOL_RAW, ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF ^ (1 << 3 | 1 << 11))),
    decode_error=decode_icmp,
    decode_segment=decode_segment,
)


@dataclass(slots=True, eq=False)
class _OpenFlow:
    state: FlowState
    template: SynTemplate
    holder: socket.socket


class SynEngine:
    """See the module's text; opening it raises `PermissionError` without CAP_NET_RAW."""

    name = "syn"
    kernel_times = True

    def __init__(self, family: Family = IPV4) -> None:
        self._family = family
        self._matcher = Matcher()
        self._flows: dict[Flow, _OpenFlow] = {}
        #: Packets that claim to answer a probe and cannot be read.
        self.malformed = 0
        self._sender = _raw_socket(family, socket.IPPROTO_RAW)
        self._icmp = _raw_socket(family, family.icmp_protocol)
        self._icmp.setsockopt(*family.icmp_filter)
        self._tcp = _raw_socket(family, socket.IPPROTO_TCP)
        self._filter_ports()
        warm_up()

    @property
    def foreign(self) -> int:
        """How many replies belonged to no open flow."""
        return self._matcher.foreign

    def filenos(self) -> tuple[int, ...]:
        """The two receiving sockets."""
        return self._icmp.fileno(), self._tcp.fileno()

    def open(self, destination: str, port: int, preferred_port: int = 0) -> Flow:
        """Reserve a source port on the address that the kernel would send from."""
        try:
            source = self._source_toward(destination, port)
            holder = self._reserve(preferred_port)
        except OSError as error:
            raise ProbeError(failure_of(error)) from error
        flow = Flow(source, holder.getsockname()[1], destination, port)
        self._flows[flow] = _OpenFlow(self._matcher.open(flow), SynTemplate(flow), holder)
        self._filter_ports()
        return flow

    def send(self, flow: Flow, ttl: int, attempt: int) -> Probe:
        """Send one SYN; ENOBUFS, EPERM and the like raise `ProbeError`."""
        entry = self._flows[flow]
        sequence, ip_id = entry.state.numbers(ttl, attempt)
        packet = entry.template.patch(ttl, ip_id, sequence)
        probe = Probe(ttl, attempt, time.monotonic())
        try:
            self._sender.sendto(packet, (flow.destination, 0))
        except OSError as error:
            raise ProbeError(failure_of(error)) from error
        self._matcher.sent(entry.state, probe, sequence, ip_id)
        return probe

    def receive(self) -> list[tuple[Flow, Answer]]:
        """Decode and match what has arrived."""
        matcher, family = self._matcher, self._family
        found: list[tuple[Flow, Answer]] = []
        self._drain(self._icmp, family.decode_error, matcher.match_error, found)
        self._drain(self._tcp, family.decode_segment, matcher.match_segment, found)
        return found

    def release(self, flow: Flow) -> int:
        """Free the flow's source port."""
        self._flows.pop(flow).holder.close()
        duplicates = self._matcher.close(flow)
        self._filter_ports()
        return duplicates

    def close(self) -> None:
        """Close every socket."""
        for flow in tuple(self._flows):
            self.release(flow)
        for raw in (self._sender, self._icmp, self._tcp):
            raw.close()

    def _drain(
        self,
        raw: socket.socket,
        decode: Callable[[bytes], Decoded | Undecoded],
        match: Callable[[Decoded, float], tuple[Flow, Answer] | None],
        found: list[tuple[Flow, Answer]],
    ) -> None:
        for _ in range(_BATCH):
            try:
                packet, ancillary, _, _ = raw.recvmsg(_PACKET_SIZE, STAMP_SIZE)
            except OSError:
                # Nothing more, or an error of an earlier send that the kernel reports here.
                return
            decoded = decode(packet)
            if isinstance(decoded, Undecoded):
                self.malformed += decoded is Undecoded.MALFORMED
            elif answer := match(decoded, arrival(ancillary)):
                found.append(answer)

    def _source_toward(self, destination: str, port: int) -> str:
        with socket.socket(self._family.address_family, socket.SOCK_DGRAM) as probe:
            probe.connect((destination, port))
            return str(probe.getsockname()[0])

    def _reserve(self, preferred_port: int) -> socket.socket:
        """Hold a port on every address of the host, so that it names the flow by itself."""
        holder = socket.socket(self._family.address_family, socket.SOCK_STREAM)
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

    def _filter_ports(self) -> None:
        _attach_filter(self._tcp, port_filter(self._matcher.ports()))


def _raw_socket(family: Family, protocol: int) -> socket.socket:
    try:
        raw = socket.socket(family.address_family, socket.SOCK_RAW, protocol)
    except PermissionError:
        raise PermissionError(
            "raw sockets need the capability CAP_NET_RAW: run as root, or start the container "
            "as root with NET_RAW among its capabilities"
        ) from None
    raw.setblocking(False)
    raw.setsockopt(*STAMPING)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    return raw


def port_filter(ports: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """A classic BPF program (linux/filter.h) for IPv4 TCP segments to one of `ports`.

    Rows are (code, jump if true, jump if false, constant).
    """
    accept, reject = (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0)
    if len(ports) > MOST_FILTERED_PORTS:
        return [accept]
    program = [
        (0xB1, 0, 0, 0),  # ldxb 4 * ([0] & 0xf): x = length of the IP header
        (0x48, 0, 0, 2),  # ldh [x + 2]: the destination port
    ]
    for left, port in zip(range(len(ports), 0, -1), ports, strict=True):
        program.append((0x15, left, 0, port))  # jeq port -> accept
    return [*program, reject, accept]


def _attach_filter(raw: socket.socket, program: list[tuple[int, int, int, int]]) -> None:
    code = b"".join(struct.pack("=HBBI", *row) for row in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: unsigned short len; struct sock_filter *filter
    raw.setsockopt(
        socket.SOL_SOCKET,
        SO_ATTACH_FILTER,
        struct.pack("@HP", len(program), ctypes.addressof(buffer)),
    )

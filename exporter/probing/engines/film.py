"""What a flow sends and receives, kept as it passes: one short step for each packet.

The rest, above all what a raw socket leaves out of a packet, is done once a trace is over. An IP
header that nobody saw is rebuilt from what the kernel tells of it, here and nowhere else; what it
does not tell is 0.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from socket import AF_INET, AF_INET6, inet_pton

from exporter.model import MOST_PACKETS, SNAP, Answer, Family, Packet, Probe, Reply, packed

#: (packet as the socket has it, how long it was there, its TTL, what it answers with or None) ->
#: the packet from its IP header on.
Whole = Callable[[bytes, int, int, Reply | None], bytes]

_IP = struct.Struct("!BxHHHBBH4s4s")  # RFC 791
_IP6 = struct.Struct("!IHBB16s16s")  # RFC 8200
_PSEUDO = struct.Struct("!16s16sIxxxB")  # RFC 8200, section 8.1
_CHECKSUM_AT = 10
_WORD = struct.Struct("!H")


class Film:
    """The packets of one flow, at most `MOST_PACKETS`."""

    __slots__ = ("_frames",)

    def __init__(self) -> None:
        #: When, which TTL, the reply or None, the packet, its length.
        self._frames: list[tuple[float, int, Reply | None, bytes, int]] = []

    def sent(self, probe: Probe, packet: bytes | bytearray) -> None:
        """Keep a probe."""
        if len(self._frames) < MOST_PACKETS:
            ttl, _, at = probe
            self._frames.append((at, ttl, None, bytes(packet), len(packet)))

    def received(self, answer: Answer, packet: bytes) -> None:
        """Keep what answers a probe."""
        if len(self._frames) < MOST_PACKETS:
            reply = answer.reply
            frame = reply.received_at, reply.ttl or 0, reply, packet[:SNAP], len(packet)
            self._frames.append(frame)

    def row(self, whole: Whole) -> bytes:
        """The packets as the model keeps them."""
        return packed(self._packets(whole)) if self._frames else b""

    def _packets(self, whole: Whole) -> Iterator[Packet]:
        # The frames' times are on the monotonic clock.
        epoch = time.time_ns() - time.monotonic_ns()
        for at, ttl, reply, packet, length in self._frames:
            data = whole(packet, length, ttl, reply)
            added = len(data) - len(packet)
            yield Packet(epoch + round(at * 1e9), reply is None, data[:SNAP], length + added)


def as_seen(packet: bytes, _length: int, _ttl: int, reply: Reply | None) -> bytes:
    """An IPv4 packet of a raw socket, whole but for the checksum that the kernel fills in."""
    return with_checksum(packet) if reply is None else packet


def with_checksum(packet: bytes) -> bytes:
    """An IPv4 packet with the checksum of its header, which has no options and 0 there."""
    checksum = checksum_of(packet[:_CHECKSUM_AT] + bytes(2) + packet[_CHECKSUM_AT + 2 : _IP.size])
    return packet[:_CHECKSUM_AT] + _WORD.pack(checksum) + packet[_CHECKSUM_AT + 2 :]


def ip_header(source: str, destination: str, protocol: int, ttl: int, length: int) -> bytes:
    """The IP header in front of `length` octets, as far as it is known; the rest is 0."""
    if Family.of(source) is Family.IPV6:
        ends = inet_pton(AF_INET6, source), inet_pton(AF_INET6, destination)
        return _IP6.pack(6 << 28, length, protocol, ttl, *ends)
    ends = inet_pton(AF_INET, source), inet_pton(AF_INET, destination)
    return with_checksum(_IP.pack(0x45, _IP.size + length, 0, 0, ttl, protocol, 0, *ends))


def pseudo_header(source: str, destination: str, protocol: int, length: int) -> bytes:
    """What a checksum over IPv6 covers in front of the payload."""
    ends = inet_pton(AF_INET6, source), inet_pton(AF_INET6, destination)
    return _PSEUDO.pack(*ends, length, protocol)


def checksum_of(data: bytes) -> int:
    """RFC 1071 of an even number of octets, its field in them being 0."""
    # The one's complement sum of 16-bit words is the number modulo 2^16 - 1.
    return -int.from_bytes(data, "big") % 0xFFFF

"""Packets as they were sent and received, kept as bytes in little room.

A trace is captured as one row of octets, for a thousand targets' packets as objects would take ten
times the memory. Rows of several traces may simply be joined.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

#: So many octets of a packet are kept: what a router may quote of a probe at most (RFC 1812, 4.3).
SNAP = 576
#: So many packets of a trace, or of a control, are kept, the first ones.
MOST_PACKETS = 512

#: When, whether it was sent, its length, and how much of it follows.
_HEAD = Struct("!q?HH")


class Packet(NamedTuple):
    """A packet from its IP header on, cut to `SNAP` octets.

    `at` is in nanoseconds since the epoch; `length` is how long it was on the wire.
    """

    at: int
    sent: bool
    data: bytes
    length: int


def packed(packets: Iterable[Packet]) -> bytes:
    """Packets in a row of octets."""
    return b"".join(
        [_HEAD.pack(at, sent, length, len(data)) + data for at, sent, data, length in packets]
    )


def unpacked(row: bytes) -> Iterator[Packet]:
    """The packets of such a row, in its order."""
    start, size = 0, len(row)
    while start < size:
        at, sent, length, kept = _HEAD.unpack_from(row, start)
        start += _HEAD.size
        yield Packet(at, sent, row[start : start + kept], length)
        start += kept


@dataclass(frozen=True, slots=True)
class Capture:
    """The packets of an observation in still less room; `lost` says why there are none any more."""

    compressed: bytes = b""
    lost: str = ""

    @classmethod
    def of(cls, row: bytes) -> Capture:
        """A row of packets, compressed."""
        return cls(zlib.compress(row, 1))

    @property
    def row(self) -> bytes:
        """The packets as `packed` gives them."""
        return zlib.decompress(self.compressed) if self.compressed else b""

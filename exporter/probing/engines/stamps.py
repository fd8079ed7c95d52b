"""When a packet arrived: the kernel's stamps (SO_TIMESTAMPNS, socket(7)) on the monotonic clock.

The kernel stamps with the wall clock, which may be set at any time.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence

SO_TIMESTAMPNS = 35  # asm-generic/socket.h; the socket module does not name it
#: struct timespec: seconds and nanoseconds.
_TIMESPEC = struct.Struct("@qq")
#: Looking a constant up in the socket module's enumerations takes longer than comparing it.
_SOCKET = int(socket.SOL_SOCKET)
#: (level, option, value) that has the kernel stamp what a socket receives.
STAMPING = (_SOCKET, SO_TIMESTAMPNS, 1)
#: Octets of ancillary data that a stamp takes.
STAMP_SIZE = socket.CMSG_SPACE(_TIMESPEC.size)
#: A stamp older than this, in seconds, is a step of the wall clock, not a late reader.
_OLDEST_STAMP = 2.0

#: (level, type, data) of each item that came with a packet.
Ancillary = Sequence[tuple[int, int, bytes]]


class Arrivals:
    """When the packets of one batch arrived.

    The clocks are read once, and again for a packet that has come since.
    """

    __slots__ = ("_monotonic", "_wall_ns")

    def __init__(self) -> None:
        self._read_clocks()

    def time_of(self, ancillary: Ancillary) -> float:
        """When the packet with this ancillary data arrived; without a stamp, now."""
        for level, kind, data in ancillary:
            if kind == SO_TIMESTAMPNS and level == _SOCKET:
                seconds, nanoseconds = _TIMESPEC.unpack(data)
                stamp_ns = seconds * 1_000_000_000 + nanoseconds
                if stamp_ns > self._wall_ns:
                    self._read_clocks()
                return arrival_time(stamp_ns, self._wall_ns, self._monotonic)
        return time.monotonic()

    def _read_clocks(self) -> None:
        self._wall_ns, self._monotonic = time.time_ns(), time.monotonic()


def arrival(ancillary: Ancillary) -> float:
    """When a single packet with this ancillary data arrived; without a stamp, now."""
    return Arrivals().time_of(ancillary)


def arrival_time(stamp_ns: int, wall_ns: int, monotonic: float) -> float:
    """A wall-clock stamp of the kernel on the monotonic clock, in seconds.

    `wall_ns` and `monotonic` are both clocks now. An age that no waiting packet can have means
    that the wall clock was set meanwhile: then the packet counts as arriving now.
    """
    age = (wall_ns - stamp_ns) / 1e9
    return monotonic - age if 0 <= age <= _OLDEST_STAMP else monotonic

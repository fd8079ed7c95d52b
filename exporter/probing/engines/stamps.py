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
_STAMP = (int(socket.SOL_SOCKET), SO_TIMESTAMPNS)
#: (level, option, value) that has the kernel stamp what a socket receives.
STAMPING = (*_STAMP, 1)
#: Octets of ancillary data that a stamp takes.
STAMP_SIZE = socket.CMSG_SPACE(_TIMESPEC.size)
#: A stamp older than this, in seconds, is a step of the wall clock, not a late reader.
_OLDEST_STAMP = 2.0

#: (level, type, data) of each item that came with a packet.
Ancillary = Sequence[tuple[int, int, bytes]]


def arrival(ancillary: Ancillary) -> float:
    """When a packet with this ancillary data arrived; without a stamp, now."""
    now = time.monotonic()
    for level, kind, data in ancillary:
        if (level, kind) == _STAMP:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            return arrival_time(seconds * 1_000_000_000 + nanoseconds, time.time_ns(), now)
    return now


def arrival_time(stamp_ns: int, wall_ns: int, monotonic: float) -> float:
    """A wall-clock stamp of the kernel on the monotonic clock, in seconds.

    `wall_ns` and `monotonic` are both clocks now. An age that no waiting packet can have means
    that the wall clock was set meanwhile: then the packet counts as arriving now.
    """
    age = (wall_ns - stamp_ns) / 1e9
    return monotonic - age if 0 <= age <= _OLDEST_STAMP else monotonic

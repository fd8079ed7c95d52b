"""A timer that is a descriptor, so that who watches descriptors needs no other clock."""

from __future__ import annotations

import ctypes
import os
import struct
import time

_TFD_TIMER_ABSTIME = 1  # linux/timerfd.h
#: struct itimerspec: the interval (none), and when it rings first; seconds and nanoseconds each.
_ITIMERSPEC = struct.Struct("@qqqq")


class Alarm:
    """timerfd_create(2), which Python's os has from 3.13 on only. Raises OSError."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        flags = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK and TFD_CLOEXEC
        self._fileno = _checked(self._libc.timerfd_create(time.CLOCK_MONOTONIC, flags))

    def fileno(self) -> int:
        """The descriptor that is readable from the moment on that was set."""
        return self._fileno

    def set(self, at: float) -> None:
        """Become readable at `at` on the monotonic clock, and not before; 0 is never."""
        seconds, fraction = divmod(at, 1)
        spec = _ITIMERSPEC.pack(0, 0, int(seconds), int(fraction * 1e9))
        _checked(self._libc.timerfd_settime(self._fileno, _TFD_TIMER_ABSTIME, spec, None))

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fileno)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result

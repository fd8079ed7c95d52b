"""Giving up what the process no longer needs once its sockets are open."""

from __future__ import annotations

import ctypes
import os
import struct

_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
_HEADER = struct.Struct("=Ii")
_NO_CAPABILITIES = bytes(24)  # effective, permitted and inheritable, two 32-bit words each


def drop() -> None:
    """Drop every capability and the right to gain new ones, for this and all later threads.

    The user stays the same, so files that it owns stay readable. Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = _HEADER.pack(_CAPABILITY_VERSION_3, 0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.capset(header, _NO_CAPABILITIES):
        number = ctypes.get_errno()
        raise OSError(number, f"capabilities cannot be dropped: {os.strerror(number)}")

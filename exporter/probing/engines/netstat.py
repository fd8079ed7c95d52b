"""What the kernel counts and tells no socket (/proc/net/netstat)."""

from __future__ import annotations

from pathlib import Path

NETSTAT = Path("/proc/net/netstat")


def count_out_of_window_icmps() -> int | None:
    """TcpExt's OutOfWindowIcmps of this network namespace, None where it is not told."""
    try:
        lines = NETSTAT.read_bytes().splitlines()
        # A line of names, and below it a line of values.
        names, values = (line.split() for line in lines if line.startswith(b"TcpExt:"))
        return int(values[names.index(b"OutOfWindowIcmps")])
    except (OSError, ValueError, IndexError):
        return None

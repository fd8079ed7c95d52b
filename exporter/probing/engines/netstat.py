"""What the kernel counts and tells no socket (/proc/net/netstat)."""

from __future__ import annotations

from pathlib import Path

NETSTAT = Path("/proc/net/netstat")


def count_out_of_window_icmps() -> int | None:
    """ICMP errors that quote a sequence number which their socket has not sent."""
    return _tcp_ext(b"OutOfWindowIcmps")


def count_ttl_drops() -> int | None:
    """Segments whose TTL was lower than their socket's IP_MINTTL."""
    return _tcp_ext(b"TCPMinTTLDrop")


def _tcp_ext(name: bytes) -> int | None:
    """A TcpExt count of this network namespace, None where it is not told."""
    try:
        lines = NETSTAT.read_bytes().splitlines()
        # A line of names, and below it a line of values.
        names, values = (line.split() for line in lines if line.startswith(b"TcpExt:"))
        return int(values[names.index(name)])
    except (OSError, ValueError, IndexError):
        return None

"""What the kernel counts and tells no socket (/proc/net/netstat)."""

from __future__ import annotations

from pathlib import Path

NETSTAT = Path("/proc/net/netstat")


def count_out_of_window_icmps() -> int | None:
    """TcpExt's OutOfWindowIcmps of this network namespace, None where it is not told."""
    try:
        lines = NETSTAT.read_text().splitlines()
    except OSError:
        return None
    # A line of names, and below it a line of values.
    fields = [line.split() for line in lines if line.startswith("TcpExt:")]
    count = dict(zip(*fields, strict=True)).get("OutOfWindowIcmps") if len(fields) == 2 else None
    return None if count is None else int(count)

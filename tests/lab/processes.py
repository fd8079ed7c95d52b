"""Which processes there are, and when they have ended."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """The processes below `pid`."""
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [one for child in map(int, below) for one in (child, *descendants(child))]


def gone(pids: Iterable[int], seconds: float = 10.0) -> bool:
    """Whether each process ends within so many seconds."""
    return all(_ends(pid, seconds) for pid in pids)


def _ends(pid: int, seconds: float) -> bool:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)  # a process's descriptor is readable when it has ended
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(fd)

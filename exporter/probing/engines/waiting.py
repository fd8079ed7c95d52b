"""The probes that wait for an answer, each at a socket of its own: how many, and for how long.

At most MOST_SOCKETS are open. One descriptor tells which of them were answered, and rings when
one has waited for as long as it may.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

from exporter.model import Failure, FailureReason, Flow, Probe, ProbeError
from exporter.probing.engines.alarm import Alarm

#: With the exporter's other descriptors (pages, plain connects) at most 512; and enough for the
#: default rate where nobody answers: 50 probes at once, and 200 a second for as long as PATIENCE.
MOST_SOCKETS = 256
#: What a probe may wait at least, in seconds: the kernel repeats a SYN after 1 s (RFC 6298, 2.1),
#: and a busy loop may hear the alarm a little late.
PATIENCE = 0.95
#: When a socket expires that may wait until its flow is released.
NEVER = float("inf")

#: Sockets told of before the loop gets its turn again.
_BATCH = 256


#: (level, option, value) that ends a connection with an RST instead of a FIN and TIME_WAIT.
ABORTING = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))


class Waiting(NamedTuple):
    """A probe whose answer has not been read; `expires_at` is when its socket has to go."""

    socket: socket.SocketType
    flow: Flow
    probe: Probe
    expires_at: float


class WaitingRoom:
    """See the module's text; its sockets are closed as they leave."""

    def __init__(self) -> None:
        #: Descriptor -> probe, the oldest first; and those among them that expire.
        self._waiting: dict[int, Waiting] = {}
        self._expiring: dict[int, Waiting] = {}
        self._of_flow: dict[Flow, set[int]] = {}
        self._alarm = Alarm()
        self._epoll = select.epoll()
        self._epoll.register(self._alarm.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        """One descriptor for all sockets and the alarm."""
        return self._epoll.fileno()

    def make_room(self) -> None:
        """Have the oldest one leave if it must, or raise `ProbeError` if it may still wait."""
        if len(self._waiting) < MOST_SOCKETS:
            return
        oldest = next(iter(self._waiting.values()))
        if time.monotonic() - oldest.probe.sent_at < PATIENCE:
            raise ProbeError(
                Failure(FailureReason.INTERNAL, f"{MOST_SOCKETS} probes are on their way already")
            )
        self.abort(oldest)

    def enter(self, waiting: Waiting) -> None:
        """Wait with this one, too."""
        fileno = waiting.socket.fileno()
        self._epoll.register(fileno, select.EPOLLOUT)
        self._waiting[fileno] = waiting
        self._of_flow.setdefault(waiting.flow, set()).add(fileno)
        if waiting.expires_at < NEVER:
            self._expiring[fileno] = waiting
            if len(self._expiring) == 1:
                self._alarm.set(waiting.expires_at)

    def answered(self) -> Iterator[tuple[Waiting, int]]:
        """Those that were answered, with epoll's events; who takes one has it leave.

        After them those leave that have waited for too long.
        """
        ready = dict(self._epoll.poll(0, _BATCH))
        rings = ready.pop(self._alarm.fileno(), 0)
        for fileno, events in ready.items():
            if waiting := self._waiting.get(fileno):
                yield waiting, events
        if rings:  # after what was answered in time
            self._expire()

    def leave(self, waiting: Waiting) -> None:
        """Wait no more with this one, which is not connected."""
        fileno = waiting.socket.fileno()
        del self._waiting[fileno]
        self._expiring.pop(fileno, None)
        self._of_flow[waiting.flow].discard(fileno)
        waiting.socket.close()  # epoll forgets it by that

    def abort(self, waiting: Waiting) -> None:
        """Wait no more with this one, which may be connected."""
        waiting.socket.setsockopt(*ABORTING)
        self.leave(waiting)

    def release(self, flow: Flow) -> None:
        """Have all of a flow leave."""
        for fileno in tuple(self._of_flow.get(flow, ())):
            self.abort(self._waiting[fileno])
        self._of_flow.pop(flow, None)

    def close(self) -> None:
        """Close its own descriptors; the flows have been released."""
        self._epoll.close()
        self._alarm.close()

    def _expire(self) -> None:
        """Close what would repeat itself, and set the alarm for the next one."""
        now = time.monotonic()
        for waiting in tuple(self._expiring.values()):
            if waiting.expires_at > now:
                break
            self.abort(waiting)
        following = next(iter(self._expiring.values()), None)
        self._alarm.set(following.expires_at if following else 0)

"""What an engine is, for those who drive one and for those who prove one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from exporter.model import Answer, Flow, Probe


class Engine(Protocol):
    """What the driver asks of an engine. All times are seconds on the monotonic clock.

    Addresses are IPv4 or IPv6, as text. TTL means IPv6's hop limit, too (RFC 8200, section 3).
    """

    name: str
    #: How many probes may be on their way at once.
    most_on_their_way: int

    @property
    def kernel_times(self) -> bool:
        """Whether what arrives now bears the kernel's time, so that reading late does no harm."""
        ...

    def filenos(self) -> tuple[int, ...]:
        """The descriptors that become readable when `receive` has something to give."""
        ...

    def open(self, destination: str, port: int, preferred_port: int = 0) -> Flow:
        """Reserve a source port toward a destination; the preferred one if it is free.

        Raises `ProbeError`, e.g. for want of a route or of the whole IP version.
        """
        ...

    def send(self, flow: Flow, ttl: int, attempt: int) -> Probe:
        """Send one SYN. Raises `ProbeError` when the host refuses; nothing was sent then."""
        ...

    def receive(self) -> Iterable[tuple[Flow, Answer]]:
        """What arrived since the last call, matched to open flows, first replies only."""
        ...

    def unseen_errors(self) -> int:
        """How many ICMP errors the kernel has kept from the engine since it was opened."""
        ...

    def captured(self, flow: Flow) -> bytes:
        """The packets of an open flow in a row, see `packed`; b"" where it sees none."""
        ...

    def release(self, flow: Flow) -> int:
        """Close a flow and free its port; returns how many duplicate replies it saw."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...

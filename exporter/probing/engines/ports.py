"""The source ports of the syn engine: few, held for as long as it runs, shared by all flows.

Two flows may have the same source port as long as they lead to different endpoints. So a handful
of ports does for any number of targets, and what the kernel has to be told of them hardly ever
changes. Each port is held by a bound TCP socket that never connects: no application gets it, and
the kernel answers a SYN-ACK to it with an RST by itself.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field

#: Flows that ask for no port get one of so many at random, that load balancers which choose by
#: ports alone send them along several paths.
ORDINARY_PORTS = 8
#: Those that ask for a certain port add it; at so many the idle ones go.
MOST_PORTS = 128

#: (address, port) of a destination.
Endpoint = tuple[str, int]


@dataclass(slots=True)
class _Held:
    """A port that is held, and where the flows lead that use it."""

    holder: socket.socket
    endpoints: set[Endpoint] = field(default_factory=set)


class SourcePorts:
    """See the module's text; `changed` is called when there are other ports than at the start.

    Opening raises OSError.
    """

    def __init__(self, address_family: int, changed: Callable[[], None]) -> None:
        self._address_family = address_family
        self._changed = changed
        self._held: dict[int, _Held] = {}
        try:
            self._ordinary = tuple(self._hold(0) for _ in range(ORDINARY_PORTS))
        except OSError:
            self.close()
            raise

    @property
    def held(self) -> Collection[int]:
        """The ports that are held, a flow on them or not."""
        return self._held.keys()

    def take(self, endpoint: Endpoint, preferred: int) -> int:
        """A port that no other flow to this endpoint has; the preferred one if it is free.

        Raises OSError where the host has none.
        """
        port = self._preferred(endpoint, preferred) or self._usual(endpoint) or self._add(0)
        self._held[port].endpoints.add(endpoint)
        return port

    def give_back(self, endpoint: Endpoint, port: int) -> None:
        """A flow to this endpoint needs the port no more."""
        self._held[port].endpoints.remove(endpoint)

    def close(self) -> None:
        """Let go of every port."""
        for held in self._held.values():
            held.holder.close()

    def _preferred(self, endpoint: Endpoint, port: int) -> int:
        """The port if a flow to this endpoint may have it, else 0."""
        if held := self._held.get(port):
            return 0 if endpoint in held.endpoints else port
        with suppress(OSError):  # an application has it
            return self._add(port) if port else 0
        return 0

    def _usual(self, endpoint: Endpoint) -> int:
        """One of the ordinary ports, 0 where flows to this endpoint have all of them."""
        free = [port for port in self._ordinary if endpoint not in self._held[port].endpoints]
        return secrets.choice(free) if free else 0

    def _add(self, port: int) -> int:
        """Hold another port; at the bound the idle ones go for it. Raises OSError."""
        added = self._hold(port)
        if len(self._held) > MOST_PORTS:
            self._let_go(added)
        self._changed()
        return added

    def _hold(self, port: int) -> int:
        """Hold a port on every address of the host; 0 leaves the choice to the kernel."""
        holder = socket.socket(self._address_family, socket.SOCK_STREAM)
        try:
            holder.bind(("", port))
        except OSError:
            holder.close()
            raise
        port = int(holder.getsockname()[1])
        self._held[port] = _Held(holder)
        return port

    def _let_go(self, added: int) -> None:
        """Let go of the ports that no flow uses, the ordinary ones and that one excepted."""
        used = {port for port, held in self._held.items() if held.endpoints}
        for port in set(self._held) - used - {*self._ordinary, added}:
            self._held.pop(port).holder.close()

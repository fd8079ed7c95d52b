"""The names of addresses, by reverse DNS: asked in the background, answered from memory.

1. `of` answers at once and never waits. What it does not know, or not any more, it has looked up
   for whoever asks later: a new router has its name from its second trace on.
2. The system's resolver is asked, as for the names of targets: getnameinfo(3), which reads
   /etc/hosts as well. It blocks and cannot be cancelled, so it runs in two daemon threads, which
   begin with the first question. A resolver that hangs delays names and nothing else.
3. Names, failures, and questions that wait are bounded, and an address is looked up once at a time.
4. A resolver that does not answer takes no name away that was known.
5. Whoever runs the reverse zone writes the name: what is no host name is dropped.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

#: Seconds for which a name is believed, and for which a failure is not repeated.
LIFETIME = 3600.0
FAILURE_LIFETIME = 600.0
#: So many addresses are remembered, and so many wait to be looked up.
MAX_KNOWN = 4096
MAX_WAITING = 512
THREADS = 2

# RFC 1123 section 2.1, with the underscore that networks use for their routers; RFC 1035 section
# 2.3.4 bounds the lengths. The last label is not all digits: that would read as an address.
_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_NAME = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}")

#: Address -> its name; raises OSError or ValueError when there is none. Blocks.
Lookup = Callable[[str], str]


def system_lookup(address: str) -> str:
    """The name that the system's resolver has for an address."""
    return socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]


def host_name(text: str) -> str | None:
    """A name from the network without the dot at its end, None for what is no host name."""
    name = text.removesuffix(".")
    return name if _NAME.fullmatch(name) else None


class _Known(NamedTuple):
    """What a look-up gave, and until when it counts."""

    name: str | None
    until: float


class Names:
    """Names by address; safe to use from any thread."""

    def __init__(
        self, lookup: Lookup = system_lookup, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lookup = lookup
        self._clock = clock
        self._known: dict[str, _Known] = {}
        #: Addresses that wait, and those with the ones that are being looked up.
        self._waiting: deque[str] = deque()
        self._pending: set[str] = set()
        self._threads = 0
        self._changed = threading.Condition()

    def of(self, address: str) -> str | None:
        """The name as far as it is known by now; what is not known is looked up."""
        with self._changed:
            known = self._known.get(address)
            if known is None or known.until <= self._clock():
                self._ask(address)
            return known.name if known else None

    def wait(self, timeout: float) -> None:
        """Block until everything that was asked for is known, or for so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pending, timeout)

    def _ask(self, address: str) -> None:
        if address in self._pending or len(self._waiting) >= MAX_WAITING:
            return
        self._waiting.append(address)
        self._pending.add(address)
        self._changed.notify_all()
        if self._threads < min(THREADS, len(self._pending)):
            self._threads += 1
            threading.Thread(target=self._work, name="reverse DNS", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                address = self._waiting.popleft()
            name = self._looked_up(address)
            with self._changed:
                self._learn(address, name)

    def _looked_up(self, address: str) -> str | None:
        try:
            return host_name(self._lookup(address))
        except ValueError:  # a name that is no text
            return None
        except OSError as error:
            known = self._known.get(address)
            return known.name if known and error.errno == socket.EAI_AGAIN else None

    def _learn(self, address: str, name: str | None) -> None:
        self._known.pop(address, None)
        until = self._clock() + (LIFETIME if name else FAILURE_LIFETIME)
        self._known[address] = _Known(name, until)
        if len(self._known) > MAX_KNOWN:
            # The one that was learnt first.
            del self._known[next(iter(self._known))]
        self._pending.discard(address)
        self._changed.notify_all()

"""Engines: how a probe gets on the wire and its answer back.

The seam is two verbs, `send` and `receive`, plus the flow that frames them. A new engine
is one file and one row in `ENGINES`; the contract test in tests/ runs over every row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from exporter.model import Answer, EngineStatus, Flow, Probe
from exporter.probing.engines.connect import ConnectEngine
from exporter.probing.engines.syn import SynEngine


class Engine(Protocol):
    """What the driver asks of an engine. All times are seconds on the monotonic clock."""

    name: str
    #: Whether all arrival times are the kernel's, so that reading late does no harm.
    kernel_times: bool

    def filenos(self) -> tuple[int, ...]:
        """The descriptors that become readable when `receive` has something to give."""
        ...

    def open(self, destination: str, port: int, preferred_port: int = 0) -> Flow:
        """Reserve a source port toward a destination; the preferred one if it is free.

        Raises `ProbeError`, e.g. for want of a route.
        """
        ...

    def send(self, flow: Flow, ttl: int, attempt: int) -> Probe:
        """Send one SYN. Raises `ProbeError` when the host refuses; nothing was sent then."""
        ...

    def receive(self) -> Iterable[tuple[Flow, Answer]]:
        """What arrived since the last call, matched to open flows, first replies only."""
        ...

    def release(self, flow: Flow) -> int:
        """Close a flow and free its port; returns how many duplicate replies it saw."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


#: Name -> what opens the engine, best first; an engine that cannot work here raises OSError
#: with the remedy, and proves that it can while it opens.
ENGINES: dict[str, Callable[[], Engine]] = {"syn": SynEngine, "connect": ConnectEngine}


def choose(wanted: str) -> tuple[Engine | None, EngineStatus]:
    """Open the engine that ENGINE asks for, or with "auto" the first that can be opened.

    None, and the status that says why, when there is none.
    """
    names = tuple(ENGINES) if wanted == "auto" else (wanted,)
    refusals = []
    for name in names:
        if name not in ENGINES:
            refusals.append(f"the engine {name} is not part of this version")
            continue
        try:
            return ENGINES[name](), EngineStatus(name, _why(wanted, refusals))
        except OSError as error:
            refusals.append(str(error))
    return None, EngineStatus("none", "; ".join(refusals))


def _why(wanted: str, refusals: Sequence[str]) -> str:
    if wanted != "auto":
        return "configured by ENGINE"
    return "; ".join(("the best that this process may use", *refusals))

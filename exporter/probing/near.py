"""What the first hops have answered for one trace serves the others.

Stands between the traces: says what each may spare, and fills in what it has spared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.model import Flow, Plan, Trace


@dataclass(frozen=True, slots=True)
class Guide:
    """What earlier traces have shown of a path, for the one that begins.

    `expected` maps a TTL to the routers that are known there; `attempts` to how many probes it
    may get, where that is less than the plan's; 0 spares it, as long as farther hops answer as
    expected.
    """

    expected: Mapping[int, frozenset[str]] = field(default_factory=dict)
    attempts: Mapping[int, int] = field(default_factory=dict)


UNGUIDED = Guide()


class Near:
    """The memory of all traces of a prober; time is an argument."""

    def guide(self, _flow: Flow, _plan: Plan, _now: float) -> Guide:
        """What the trace that begins may rest on."""
        return UNGUIDED

    def learn(self, trace: Trace, _guide: Guide, _now: float) -> Trace:
        """Take in a finished trace; returns it with what its spared hops have answered others."""
        return trace

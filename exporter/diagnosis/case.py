"""What a verdict may rest on, in one value."""

from __future__ import annotations

from dataclasses import dataclass, field

from exporter.diagnosis.zones import ZoneMap
from exporter.model import Controlled, Handshake, Source, Surroundings, Trace


@dataclass(frozen=True, slots=True)
class Case:
    """A trace, what was measured beside it, and what is known from before.

    `last_good` is the latest trace of the same target that reached its destination, which shows
    hops that this one may miss; `source` is where the probes come from; `surroundings` what the
    traces of all targets have shown of the network here.
    """

    trace: Trace
    zones: ZoneMap
    handshake: Handshake | None = None
    last_good: Trace | None = None
    source: Source = field(default_factory=Source)
    surroundings: Surroundings = field(default_factory=Surroundings)
    controlled: Controlled = field(default_factory=Controlled)

    @property
    def others(self) -> tuple[Trace, ...]:
        """All other traces that may have met the same devices."""
        last_good = (self.last_good,) if self.last_good else ()
        return (*self.controlled.traces, *last_good)

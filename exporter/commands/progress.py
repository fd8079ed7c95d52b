"""How far the cycle of a target has come, for whoever looks on."""

from __future__ import annotations

import time
from dataclasses import replace
from enum import StrEnum

from exporter.diagnosis.zones import ZoneMap
from exporter.model import (
    Confidence,
    Flow,
    Observation,
    Plan,
    State,
    Target,
    Trace,
    Verdict,
)
from exporter.probing.driver import Prober
from exporter.verbs import Probing

#: In place of a verdict as long as there is none.
UNDER_WAY = Verdict(State.INCONCLUSIVE, 0, "the trace is under way", Confidence.LOW)


class Step(StrEnum):
    """What is being done for a target, as people read it."""

    WAITING = "waiting"
    RESOLVING = "looking up"
    TRACING = "tracing"
    CONTROLLING = "controls"
    DONE = "done"


class Progress:
    """A target, what is being done for it, and what came of it last."""

    def __init__(self, target: Target, zones: ZoneMap, prober: Prober) -> None:
        self.target = target
        self.step = Step.WAITING
        #: The last one that is complete.
        self.observation: Observation | None = None
        self._zones = zones
        self._prober = prober
        self._started_at = time.time()
        self._flow: Flow | None = None
        self._trace: Trace | None = None

    def begin(self, probing: Probing) -> Probing:
        """A cycle begins; returns the verbs with which it can be watched."""

        async def trace(address: str, port: int, plan: Plan, preferred_port: int) -> Trace:
            self.step = Step.TRACING
            try:
                self._trace = await self._prober.trace(
                    address, port, plan, preferred_port, self._begun
                )
            finally:
                self._flow = None
                self.step = Step.CONTROLLING
            return self._trace

        self._started_at = time.time()
        self._trace = None
        self.step = Step.RESOLVING
        return replace(probing, trace=trace)

    def end(self, observation: Observation) -> None:
        """The cycle is complete."""
        self.observation = observation
        self.step = Step.DONE

    def keep(self) -> None:
        """Keep what has come so far: the cycle is about to be cancelled."""
        self._trace, self._flow = self._so_far(), None

    def so_far(self) -> Observation:
        """What has been seen in this cycle by now."""
        trace = self._so_far()
        return Observation(
            self.target,
            self._started_at,
            time.time() - self._started_at,
            UNDER_WAY,
            address=trace.flow.destination if trace else None,
            trace=trace,
            places=self._zones.places_of(trace) if trace else {},
        )

    def _begun(self, flow: Flow) -> None:
        self._flow = flow

    def _so_far(self) -> Trace | None:
        running = self._prober.so_far(self._flow) if self._flow else None
        return running or self._trace

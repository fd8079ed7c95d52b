"""How the state of a target changes: which changes count, and when there are too many of them.

1. A state counts from its first observation on. An unknown one (`unresolved`, `error`,
   `inconclusive`) says nothing about the network, so it counts once a second one in a row
   confirms it: a single one between two equal states neither ends the one nor begins the other.
2. The time between two changes is a `Phase`. It ends with the last observation of its state, not
   with the first of the next: nobody looked in between.
3. Too many changes are flapping, told as in route flap damping (RFC 2439 section 4.2): each
   change adds 1 to a penalty that halves every HALF_LIFE cycles. A target flaps from FLAPPING
   on until the penalty has fallen below CALM. One block that begins and ends is no flapping,
   however short, and neither is a change every eighth cycle or more seldom. CEILING bounds how
   long the past counts, to less than 3 half-lives. Cycles are counted, not seconds, so that a
   step of the clock does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from exporter.model import BLOCKED_STATES, REACHED_STATES, Observation, State, Verdict

#: So many changes of a target's state are remembered.
MAX_CHANGES = 32
#: The longest text that says why a phase began.
MAX_REASON = 80

HALF_LIFE = 10
FLAPPING = 3.0
CALM = 1.0
CEILING = 6.0
#: So many cycles after its last change no target flaps any more; it takes log2(CEILING / CALM)
#: half-lives.
LONGEST = 3 * HALF_LIFE

#: Those that say nothing about the network.
UNKNOWN_STATES = frozenset({State.UNRESOLVED, State.ERROR, State.INCONCLUSIVE})
#: Blocked states whose device names itself; after the others all that is known is who answered.
_AT_A_DEVICE = frozenset({State.REJECTED, State.UNREACHABLE, State.RESET})


@dataclass(frozen=True, slots=True)
class Phase:
    """A time in which a target was in one state; both ends in seconds since the epoch.

    `since` is its first observation, `until` its last one. `reason` says in short how it was at
    the beginning: how far the traffic came, or why that is not known.
    """

    state: State
    since: float
    until: float
    reason: str = ""

    @classmethod
    def of(cls, observation: Observation) -> Phase:
        """The phase that begins with an observation."""
        at = observation.started_at
        return cls(observation.verdict.state, at, at, reason_of(observation))


@dataclass(frozen=True, slots=True)
class History:
    """The phases of one target, the present one last; see the module's text."""

    phases: tuple[Phase, ...] = ()
    #: An unknown observation that does not count yet.
    doubt: Phase | None = None
    #: Changes since this process began.
    changes: int = 0
    penalty: float = 0.0
    flapping: bool = False

    @property
    def since(self) -> float:
        """When the state that was seen last began, doubtful or not; 0 before the first one."""
        last = self.doubt or (self.phases[-1] if self.phases else None)
        return last.since if last else 0.0

    def after(self, observation: Observation) -> History:
        """The history with one more observation."""
        penalty = self.penalty * 0.5 ** (1 / HALF_LIFE)
        made = self._with(observation)
        if made.changes > self.changes:
            penalty = min(penalty + 1, CEILING)
        flapping = penalty >= (CALM if self.flapping else FLAPPING)
        return replace(made, penalty=penalty, flapping=flapping)

    def _with(self, observation: Observation) -> History:
        *before, present = self.phases or (None,)
        if present and present.state is observation.verdict.state:
            present = replace(present, until=observation.started_at)
            return replace(self, phases=(*before, present), doubt=None)
        seen = Phase.of(observation)
        if present is None:
            return replace(self, phases=(seen,))
        if seen.state in UNKNOWN_STATES and self.doubt is None:
            return replace(self, doubt=seen)
        if self.doubt and self.doubt.state is seen.state:
            seen = replace(seen, since=self.doubt.since)
        phases = (*self.phases, seen)[-MAX_CHANGES - 1 :]
        return replace(self, phases=phases, doubt=None, changes=self.changes + 1)


def reason_of(observation: Observation) -> str:
    """How far the traffic came, or why that is not known, in a few words; "" for nothing."""
    verdict = observation.verdict
    words = _place(observation) if verdict.state not in UNKNOWN_STATES else verdict.reason
    if verdict.state in BLOCKED_STATES and 0 < verdict.flows_blocked < verdict.flows:
        words += f" on {verdict.flows_blocked} of {verdict.flows} paths"
    return words if len(words) <= MAX_REASON else f"{words[: MAX_REASON - 3]}..."


def _place(observation: Observation) -> str:
    verdict = observation.verdict
    last = verdict.last_reachable_hop
    if verdict.state in REACHED_STATES:
        return f"{last} {'hop' if last == 1 else 'hops'} away" if last else ""
    if verdict.state in _AT_A_DEVICE:
        return _device(verdict)
    if verdict.state is State.INTERCEPTED:
        return f"at hop {last}" if last else ""
    trace = observation.trace
    addresses = trace.hops[last - 1].addresses if trace and 0 < last <= len(trace.hops) else ()
    return f"after hop {last}" + (f" ({addresses[0]})" if addresses else "")


def _device(verdict: Verdict) -> str:
    at = verdict.blocked_at_hop
    first, last = verdict.suspect_hops or (at, at)
    where = f"at hop {first}" if first == last else f"at one of hops {first} to {last}"
    return f"{where} by {verdict.blocked_by}" if verdict.blocked_by else where

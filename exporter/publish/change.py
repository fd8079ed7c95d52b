"""What has changed at a target, in sentences and as JSON: what was, beside what is.

The text comes from the record alone. Times are in UTC, and bear their date where the target was
traced last on another day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from exporter.history import LONGEST, Phase
from exporter.model import BLOCKED_STATES, REACHED_STATES, Hop, ReplyKind, State, Trace
from exporter.paths import Moved
from exporter.publish.text import timestamp
from exporter.store import Change, Record

#: So many hops stand in a sentence, so many routers of one hop in it.
HOPS_SHOWN = 4
ROUTERS_SHOWN = 2

#: What a state is called in a sentence, where its own word does not fit.
STATE_WORDS = {State.ERROR: "not measured", State.LOOP: "in a loop"}
#: States for which the way before and after is compared.
_STOPPED = BLOCKED_STATES | {State.INTERCEPTED}

Json = dict[str, object]


# -- the change of state -----------------------------------------------------------------


def change_words(record: Record) -> str:
    """The last change of state in one sentence, "" before the first one."""
    told = _Told.of(record)
    return told.sentence() if told else ""


def change_object(record: Record) -> Json | None:
    """The same for scripts; None before the first change."""
    told = _Told.of(record)
    if told is None:
        return None
    return {
        "state": told.now.state.value,
        "since": timestamp(told.now.since),
        "was": told.was.state.value,
        "was_until": timestamp(told.was.until),
        "sentence": told.sentence(),
        "last_good_path": _path_object(told.good),
        "first_bad_path": _path_object(told.bad),
    }


def history_object(record: Record) -> list[Json]:
    """The changes that are remembered, the last one first."""
    return [
        {
            "at": timestamp(now.since),
            "from": was.state.value,
            "to": now.state.value,
            "was_until": timestamp(was.until),
            "reason": now.reason,
        }
        for was, now in changes(record)
    ]


def changes(record: Record) -> list[tuple[Phase, Phase]]:
    """The phases before and after each change that is remembered, the last one first."""
    return list(pairwise(record.history.phases))[::-1]


@dataclass(frozen=True, slots=True)
class _Told:
    """What the sentence tells: the last two phases, and the traces that stand for them."""

    record: Record
    was: Phase
    now: Phase
    #: The last trace that reached the destination, of the address that fails if one does.
    good: Trace | None
    #: The one with which the present block began.
    bad: Trace | None

    @classmethod
    def of(cls, record: Record) -> _Told | None:
        """None before the first change."""
        if len(record.history.phases) < 2:
            return None
        was, now = record.history.phases[-2:]
        last_good, bad = record.last_good, record.first_bad
        known = record.known.get(bad.address or "") if bad else None
        good = known.last_good if known else None
        if good is None and last_good:
            good = last_good.trace
        return cls(record, was, now, good, bad.trace if bad else None)

    def sentence(self) -> str:
        return f"{self._was()}, {self._now()}{self._way()}{self._before()}{self._doubt()}."

    def _was(self) -> str:
        state = _words(self.was.state)
        how = self._via() if self.was.state in REACHED_STATES else _how(self.was)
        return f"{state[0].upper()}{state[1:]} until {self._time(self.was.until)}{how}"

    def _now(self) -> str:
        return f"since {self._time(self.now.since)} {_words(self.now.state)}{_how(self.now)}"

    def _way(self) -> str:
        """How the way to the block differs from the one that led to the destination."""
        if self.now.state not in _STOPPED or not self.good or not self.bad:
            return ""
        then, there = self.good.flow.destination, self.bad.flow.destination
        if then != there:
            return f"; the address is {there} and was {then}"
        together, other = _compared(self.good, self.bad)
        if other:
            return f"; the way is another one: {moved_words(other)}"
        return f"; up to hop {together} the way is the same" if together else ""

    def _before(self) -> str:
        """When the destination was reached last, where what followed was no block at once."""
        last = self.record.last_good
        if self.now.state not in _STOPPED or self.was.state in REACHED_STATES or last is None:
            return ""
        return f"; last {last.verdict.state} {self._time(last.started_at)}{self._via()}"

    def _doubt(self) -> str:
        doubt = self.record.history.doubt
        return f"; the latest trace is {_words(doubt.state)}" if doubt else ""

    def _via(self) -> str:
        """The routers of the good trace, from the last hop on that still answers."""
        answering = [hop for hop in self.good.path if hop.known] if self.good else []
        if not answering or self.good is None:
            return ""
        last = self.record.first_bad.verdict.last_reachable_hop if self.record.first_bad else 0
        first = sum(hop.ttl < last for hop in answering)
        shown = answering[first : first + HOPS_SHOWN] or answering[-HOPS_SHOWN:]
        start = "... " if shown[0] is not answering[0] else ""
        end = " ..." if shown[-1] is not answering[-1] else ""
        addresses = ", ".join(hop.known[0].reply.address for hop in shown)
        distance = f" ({self.good.distance} hops)" if self.good.distance else ""
        return f" via {start}{addresses}{end}{distance}"

    def _time(self, seconds: float) -> str:
        return moment(self.record, seconds)


def _words(state: State) -> str:
    return STATE_WORDS.get(state, state.value)


def _how(phase: Phase) -> str:
    """Where it was blocked or reached; why nothing is known stands in the verdict."""
    known = phase.state in _STOPPED | REACHED_STATES
    return f" {phase.reason}" if known and phase.reason else ""


def _compared(good: Trace, bad: Trace) -> tuple[int, tuple[Moved, ...]]:
    """The last hop at which the same router answers, and those at which only others do.

    By the traces' own answers: what others were told proves neither.
    """
    together, other = 0, []
    for then, now in zip(good.hops, bad.hops, strict=False):
        before, after = _routers(then), _routers(now)
        if set(before) & set(after):
            together = now.ttl
        elif before and after:
            other.append(Moved(now.ttl, before, after))
    return together, tuple(other)


def _routers(hop: Hop) -> tuple[str, ...]:
    replies = (answer.reply for answer in hop.answers)
    routers = (reply.address for reply in replies if reply.kind is ReplyKind.TIME_EXCEEDED)
    return tuple(dict.fromkeys(routers))


def _path_object(trace: Trace | None) -> list[Json]:
    """The hops that are known; [] without a trace."""
    hops = trace.path if trace else ()
    return [{"hop": hop.ttl, "addresses": _addresses(hop)} for hop in hops if hop.known]


def _addresses(hop: Hop) -> list[str]:
    """Who stands at a hop, if only by what others were told there."""
    return list(dict.fromkeys(answer.reply.address for answer in hop.known))


# -- the change of path ------------------------------------------------------------------


def path_words(record: Record) -> str:
    """The last change of path, e.g. "hop 5: 10.9.4.2 -> 10.9.7.2 at 12:04:10 UTC"; "" for none."""
    change = record.path_change
    return f"{moved_words(change.hops)} at {moment(record, change.at)}" if change else ""


def path_object(record: Record) -> Json | None:
    """The same for scripts; None before the first change."""
    change = record.path_change
    if change is None:
        return None
    hops = [{"hop": hop, "before": list(b), "after": list(a)} for hop, b, a in change.hops]
    return {"at": timestamp(change.at), "hops": hops}


def moved_words(hops: tuple[Moved, ...]) -> str:
    """The first of the hops with their routers, and how many more there are."""
    shown = [
        f"hop {hop}: {_some(before)} -> {_some(after)}" for hop, before, after in hops[:HOPS_SHOWN]
    ]
    more = len(hops) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _some(routers: tuple[str, ...]) -> str:
    more = " ..." if len(routers) > ROUTERS_SHOWN else ""
    return "/".join(routers[:ROUTERS_SHOWN]) + more


# -- flapping ----------------------------------------------------------------------------


def flapping_words(record: Record) -> str:
    """E.g. "flapping: 6 changes in the last 30 minutes between open and filtered"; "" if not."""
    if not record.history.flapping:
        return ""
    count, seconds, states = _flapping(record)
    between = " and ".join(_words(state) for state in states)
    return f"flapping: {count} changes in the last {_span(seconds)} between {between}"


def flapping_object(record: Record) -> Json | None:
    """The same for scripts; None while the target does not flap."""
    if not record.history.flapping:
        return None
    count, seconds, states = _flapping(record)
    return {"changes": count, "seconds": seconds, "between": [state.value for state in states]}


def _flapping(record: Record) -> tuple[int, float, tuple[State, ...]]:
    """How many changes in how many seconds, and the states between which they were."""
    seconds = LONGEST * record.target.interval
    begin = _now(record) - seconds
    recent = [(was, now) for was, now in changes(record) if now.since >= begin]
    states = dict.fromkeys(phase.state for pair in reversed(recent) for phase in pair)
    return len(recent), seconds, tuple(states)


def _span(seconds: float) -> str:
    """A length of time, in the unit in which people would say it."""
    for unit, length in (("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


# -- news for the log --------------------------------------------------------------------


def news(record: Record, change: Change) -> tuple[str, ...]:
    """A line for each thing that an observation has changed; while a target flaps, none."""
    return tuple(_news(record, change))


def _news(record: Record, change: Change) -> Iterator[str]:
    if change.damping:
        ended = "no longer flapping; its changes are logged again"
        yield flapping_words(record) + "; further ones are not logged" if change.flaps else ended
    if change.flaps:
        return
    if change.phase:
        yield change_words(record)
    if change.path:
        yield f"another path, {path_words(record)}"


def moment(record: Record, seconds: float) -> str:
    """A time in UTC, without its date if the record's latest trace is of the same day."""
    date, _, time = timestamp(seconds)[:19].partition("T")
    today = timestamp(_now(record))[:10]
    return f"{time} UTC" if date == today else f"{date} {time} UTC"


def _now(record: Record) -> float:
    """When the target was seen last; 0 before the first trace."""
    return record.latest.started_at if record.latest else 0.0

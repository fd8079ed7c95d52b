"""What the first hops have answered for one trace serves the others.

All flows from one address cross the same first routers, and each of these says a few ICMP errors a
second at most, to all of them together. After Doubletree (Donnet et al., SIGMETRICS 2005):

1. A flow's path is remembered: who has said time-exceeded at which TTL. That is one router, or a
   group of them that answer by turns.
2. Where a group stands on the paths of several flows, they take turns to ask it, as often as its
   purse allows (purse.py). Who has to wait is spared that hop: it shows what the others got there.
3. The farthest router of a path is asked each time, for it proves that the flow still goes this
   way; only what lies before it can be spared. One that rejects proves it by that. The tracer asks
   the spared hops after all if that proof fails.
4. What a group answers to any flow holds for all that expect it there, for FRESH seconds.
5. Where a flow meets another group than it expects, the old one is doubtful and no more shared,
   until somebody meets it again; when MOVES flows in a row have met the same new one instead, that
   one is shared in its place. So all flows show a changed router after the next two that ask.
6. A new flow expects the trunk: the hops at which nearly all known paths agree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf

from exporter.model import (
    FULL_TTL,
    Answer,
    Flow,
    Hop,
    Plan,
    ReplyKind,
    StopReason,
    Trace,
)
from exporter.probing.purse import Purse
from exporter.probing.refusers import Refusers

FRESH = 120.0
MOVES = 2
#: So many flows share a hop.
CROWD = 2
#: The share of the known paths that have to agree on a hop of the trunk.
AGREEMENT = 0.9
#: Of a turn: who asks a little earlier than that is not late, either.
EARLY = 0.1
#: A path is forgotten when nobody has traced it for so many of its intervals, and so many seconds.
FORGOTTEN_INTERVALS, FORGOTTEN_AFTER = 3.0, 600.0
FORGETTING_PAUSE = 60.0
MOST_PATHS = 10_000
#: Own addresses, of which a host has a few.
MOST_SOURCES = 16
MOST_ROUTERS = 16

TIME_EXCEEDED, UNREACHABLE = ReplyKind.TIME_EXCEEDED, ReplyKind.UNREACHABLE
#: These say nothing of the hops that were not probed.
CUT_SHORT = frozenset({StopReason.SEND_FAILED, StopReason.DEADLINE})

Group = frozenset[str]


@dataclass(frozen=True, slots=True)
class Guide:
    """What earlier traces have shown of a path, for the one that begins.

    `expected` maps a TTL to the routers that are known there; `attempts` to how many probes it
    may get, where that is less than the plan's; 0 spares it, as long as farther hops answer as
    expected. At the TTLs of `rejecting` a device stands that has lately rejected several targets'
    traffic. `horizon` is the farthest TTL that is worth a probe at once, and `distance` that of
    the destination; 0: none is known. `round_trip` is the longest one, in seconds.
    """

    expected: Mapping[int, Group] = field(default_factory=dict)
    attempts: Mapping[int, int] = field(default_factory=dict)
    rejecting: frozenset[int] = frozenset()
    horizon: int = 0
    distance: int = 0
    round_trip: float = 0.0


UNGUIDED = Guide()


class _Stand:
    """A group at a TTL: how many flows pass there, and what it has said last."""

    __slots__ = ("answers", "flows", "group", "heard_at", "moved_to", "moves")

    def __init__(self, group: Group) -> None:
        self.group = group
        self.flows = 0
        self.answers: tuple[Answer, ...] = ()
        self.heard_at = -inf
        #: Who was met in its place since it was last heard, and by how many flows.
        self.moved_to: _Stand | None = None
        self.moves = 0


class _Path:
    """What is known of one flow."""

    __slots__ = (
        "asked_at",
        "at",
        "distance",
        "every",
        "horizon",
        "own",
        "rejected",
        "round_trip",
        "stands",
        "traced",
    )

    def __init__(self, now: float) -> None:
        self.stands: dict[int, _Stand] = {}
        #: The TTLs of `stands` at which this flow itself was answered, when last asked.
        self.own: frozenset[int] = frozenset()
        #: TTL -> when it was last this flow's turn to ask there.
        self.asked_at: dict[int, float] = {}
        self.at = now
        self.every = 0.0
        self.traced = self.rejected = False
        self.horizon = self.distance = 0
        self.round_trip = 0.0


class Near:
    """The memory of all traces of a prober; time is an argument."""

    def __init__(self) -> None:
        #: Own address -> what was met from there.
        self._sources: dict[str, _Source] = {}

    def guide(self, flow: Flow, plan: Plan, now: float) -> Guide:
        """What the trace that begins may rest on."""
        source = self._sources.pop(flow.source, None) or _Source(now)
        self._sources[flow.source] = source
        if len(self._sources) > MOST_SOURCES:
            del self._sources[next(iter(self._sources))]
        return source.guide(flow, plan, now)

    def hear(self, flow: Flow, answer: Answer) -> None:
        """Take in the answer to a trace on its way, so that others need not wait for its end."""
        if source := self._sources.get(flow.source):
            source.hear(flow, answer)

    def learn(self, trace: Trace, guide: Guide, now: float) -> Trace:
        """Take in a finished trace; returns it with what its spared hops have answered others."""
        source = self._sources.get(trace.flow.source)
        return source.learn(trace, guide, now) if source else trace


class _Source:
    """What was met on the way from one address."""

    def __init__(self, now: float) -> None:
        self._paths: dict[Flow, _Path] = {}
        #: TTL -> who stands there.
        self._stands: dict[int, dict[Group, _Stand]] = {}
        self._purses: dict[Group, Purse] = {}
        self._refusers = Refusers()
        self._forgot_at = now

    # -- before a trace ------------------------------------------------------------------

    def guide(self, flow: Flow, plan: Plan, now: float) -> Guide:
        self._forget(now)
        path = self._paths.pop(flow, None) or _Path(now)
        self._paths[flow] = path
        path.every, path.at = now - path.at, now
        expected = {ttl: _current(stand) for ttl, stand in self._expected(path).items()}
        last = max(path.stands, default=FULL_TTL) + path.rejected
        attempts = {
            ttl: granted
            for ttl, stand in expected.items()
            if (granted := self._granted(path, ttl, stand, last, plan, now)) < plan.attempts
        }
        return Guide(
            {ttl: stand.group for ttl, stand in expected.items()},
            attempts,
            frozenset(ttl for ttl, stand in expected.items() if self._rejects(stand, now)),
            path.horizon,
            path.distance,
            path.round_trip,
        )

    def _expected(self, path: _Path) -> dict[int, _Stand]:
        """The path as it was met, its gaps before the first router filled from the trunk."""
        first = min(path.stands, default=FULL_TTL)
        if first == 1:
            return path.stands
        trunk = self._trunk()
        agreeing = all(path.stands.get(ttl, stand) is stand for ttl, stand in trunk.items())
        missing = {ttl: stand for ttl, stand in trunk.items() if agreeing and ttl < first}
        return missing | path.stands

    def _granted(
        self, path: _Path, ttl: int, stand: _Stand, last: int, plan: Plan, now: float
    ) -> int:
        """How many probes a hop may get from this flow."""
        among = stand.flows + (ttl not in path.stands)
        if among < CROWD or ttl > last:
            return plan.attempts
        purse = self._purses.get(stand.group)
        if purse is None:  # the flows that met it so far have each asked
            purse = self._purses[stand.group] = Purse(now, plan.attempts * (among - 1))
        turn = among / purse.rate
        rested = (now - path.asked_at[ttl]) / turn + EARLY if ttl in path.asked_at else inf
        wanted = int(min(rested, 1 if plan.quick else plan.attempts))
        if stand.moves or now - stand.heard_at > FRESH:
            wanted = max(1, wanted)  # nobody knows, so it is everybody's turn
        if not wanted:
            purse.refuse()
        granted = purse.take(wanted, now)
        if granted:
            path.asked_at[ttl] = now
        elif ttl == last:
            purse.spend(1, now)
            return 1  # rule 3
        return granted

    def _rejects(self, stand: _Stand, now: float) -> bool:
        return any(self._refusers.is_everybodys(address, now) for address in stand.group)

    def _trunk(self) -> dict[int, _Stand]:
        """TTL -> who stands there on nearly all paths, up to where they part."""
        found = {}
        for ttl in sorted(self._stands):
            stands = self._stands[ttl].values()
            known = sum(stand.flows for stand in stands)
            if len(stands) > 1 + known * (1 - AGREEMENT):
                break
            common = max(stands, key=lambda stand: stand.flows)
            if common.flows < max(CROWD, AGREEMENT * known):
                break
            found[ttl] = common
        return found

    # -- while a trace runs, and after it ------------------------------------------------

    def hear(self, flow: Flow, answer: Answer) -> None:
        self._refusers.hear(flow, answer)
        path, (ttl, _, _), reply = self._paths.get(flow), *answer
        if path is None or path.traced or reply.kind is not TIME_EXCEEDED or ttl == FULL_TTL:
            return
        stand = self._stand(ttl, frozenset((reply.address,)))
        stand.answers, stand.heard_at = (answer,), reply.received_at
        self._pass(path, path.stands | {ttl: stand})

    def learn(self, trace: Trace, guide: Guide, now: float) -> Trace:
        path = self._paths.get(trace.flow)
        if path is None or trace.stop_reason in CUT_SHORT:
            return trace
        met = {hop.ttl: _routers(hop) for hop in trace.hops}
        answered = frozenset(ttl for ttl, routers in met.items() if routers)
        strayed = any(_parted(routers, guide.expected.get(ttl)) for ttl, routers in met.items())
        distance, answers = trace.distance or 0, trace.answers
        refusals = [one.reply.address for one in answers if one.reply.kind is UNREACHABLE]
        top = max(distance, _farthest(refusals, guide), *answered, 0)
        stands, hops = {}, []
        for hop in trace.hops:
            stand = self._met(path, hop, met[hop.ttl], now)
            if stand is None and not strayed and (hop.ttl <= top or hop.ttl in path.own):
                stand = self._known(hop, guide)
            if stand:
                stands[hop.ttl] = stand
            hops.append(_shared(hop, stand, now) if hop.ttl <= top else hop)
        self._account(trace, guide, top, strayed=strayed, now=now)
        self._account_refusals(refusals, now)
        self._pass(path, stands)
        path.own = answered | frozenset(ttl for ttl in path.own & stands.keys() if ttl <= top)
        path.traced = True
        path.rejected = trace.stop_reason is StopReason.ICMP_ERROR
        path.distance = distance
        path.horizon = distance or max(stands, default=0) + path.rejected
        path.round_trip = max((answer.rtt for answer in answers), default=0.0)
        refusing = self._refusing(trace, frozenset(refusals), met, now)
        return replace(trace, hops=tuple(hops), refusing=refusing)

    def _met(self, path: _Path, hop: Hop, routers: Group, now: float) -> _Stand | None:
        """Who has answered at a hop, as from now on known there; None: nobody has."""
        if not routers:
            return None
        before = path.stands.get(hop.ttl)
        known = before.group if before else frozenset()
        if not known.isdisjoint(routers) and len(known | routers) <= MOST_ROUTERS:
            routers |= known
        stand = self._stand(hop.ttl, routers)
        stand.answers, stand.heard_at = hop.answers, now
        stand.moved_to, stand.moves = None, 0
        if before and hop.ttl in path.own and known.isdisjoint(routers):
            before.moves = before.moves + 1 if before.moved_to is stand else 1
            before.moved_to = stand
        return stand

    def _refusing(
        self, trace: Trace, refusals: frozenset[str], met: Mapping[int, Group], now: float
    ) -> frozenset[str]:
        """As `Trace.refusing` has it; learns who has refused this trace itself."""
        way = {ttl: routers for ttl, routers in met.items() if routers}
        if refusals:
            self._refusers.learn(trace.flow, refusals, way, now)
        elif trace.stop_reason is StopReason.SILENCE:
            return self._refusers.spent(trace.flow, way, now - trace.duration, now)
        return frozenset()

    def _known(self, hop: Hop, guide: Guide) -> _Stand | None:
        """Who is expected at a hop that was not asked, or did not answer this time."""
        group = guide.expected.get(hop.ttl)
        stand = self._stands.get(hop.ttl, {}).get(group) if group else None
        return _current(stand) if stand else None

    def _account(self, trace: Trace, guide: Guide, top: int, *, strayed: bool, now: float) -> None:
        """Tell the purses what became of the probes."""
        for hop in trace.hops[: top - 1]:
            group = guide.expected.get(hop.ttl)
            purse = self._purses.get(group) if group and not strayed else None
            if purse and hop.sent:
                granted = guide.attempts.get(hop.ttl, hop.sent)
                purse.spend(max(0, hop.sent - granted), now)
                purse.learn(hop.sent, hop.received, now)

    def _account_refusals(self, senders: Iterable[str], now: float) -> None:
        for sender in senders:
            purse = self._purses.get(frozenset((sender,)))
            if purse:
                purse.spend(1, now)

    def _stand(self, ttl: int, group: Group) -> _Stand:
        at = self._stands.setdefault(ttl, {})
        return at.get(group) or at.setdefault(group, _Stand(group))

    def _pass(self, path: _Path, stands: dict[int, _Stand]) -> None:
        """Have a flow pass there, and no more where it passed before."""
        for stand in stands.values():
            stand.flows += 1
        for ttl, stand in path.stands.items():
            stand.flows -= 1
            if not stand.flows:
                self._leave(ttl, stand)
        path.stands = stands

    def _leave(self, ttl: int, stand: _Stand) -> None:
        at = self._stands[ttl]
        at.pop(stand.group, None)
        if not at:
            del self._stands[ttl]

    def _forget(self, now: float) -> None:
        """Drop the paths that nobody traces any more, now and then, and the purses with them."""
        while len(self._paths) > MOST_PATHS:
            self._pass(self._paths.pop(next(iter(self._paths))), {})
        if now - self._forgot_at < FORGETTING_PAUSE:
            return
        self._forgot_at = now
        for flow, path in tuple(self._paths.items()):
            if now - path.at > max(FORGOTTEN_AFTER, FORGOTTEN_INTERVALS * path.every):
                self._pass(self._paths.pop(flow), {})
        standing = {group for at in self._stands.values() for group in at}
        self._purses = {group: one for group, one in self._purses.items() if group in standing}


def _current(stand: _Stand) -> _Stand:
    """Who stands there now, for all that is known (rule 5)."""
    moved_to = stand.moved_to
    return moved_to if moved_to and stand.moves >= MOVES else stand


def _shared(hop: Hop, stand: _Stand | None, now: float) -> Hop:
    """The hop with what others got there, where its own probes got nothing."""
    if stand is None or hop.answers or stand.moves or now - stand.heard_at > FRESH:
        return hop
    return Hop(hop.ttl, hop.sent, shared=stand.answers)


def _routers(hop: Hop) -> Group:
    """Those that say time-exceeded at this hop."""
    replies = (answer.reply for answer in hop.answers)
    return frozenset(reply.address for reply in replies if reply.kind is TIME_EXCEEDED)


def _parted(routers: Group, expected: Group | None) -> bool:
    return bool(routers and expected and routers.isdisjoint(expected))


def _farthest(senders: Collection[str], guide: Guide) -> int:
    """The farthest TTL at which one of these is expected; 0: none is."""
    if not senders:
        return 0
    known = (ttl for ttl, group in guide.expected.items() if not group.isdisjoint(senders))
    return max(known, default=0)

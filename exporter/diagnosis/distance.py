"""Who speaks in a destination's name, and whether that is nearer than somebody else who does.

1. A router's time-exceeded for TTL n proves that whoever else answers on this path stands behind
   it. So one who answers at TTL n himself is nearer than one whose path shows a router there. The
   TTLs at which two began to answer prove nothing by themselves: what was lost on the way makes a
   distance too large, and a control asks only once at each TTL.
2. A reply's own TTL says how many routers it has passed on its way back, whatever was lost. It is
   held against that of another reply, for the way back may have another length than the way there.
3. Two that say the opposite of each other say nothing, unless a router's own messages arrive as
   the reply does: then the reply was sent from that router's hop.
4. Paths that show other routers at the same hop are compared by both together or not at all. And
   where a router speaks in the destination's own name, addresses are translated: several hosts
   stand behind one address, and which of them is the destination cannot be said.
   What spared hops have answered others counts for these doubts alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from exporter.diagnosis.case import Case
from exporter.diagnosis.once import once
from exporter.diagnosis.placing import (
    TOLERATED_LOSS,
    Device,
    as_told,
    expired_at,
    is_repeated,
    is_spared,
    loss_of,
    reply_distance,
)
from exporter.diagnosis.words import last_good_name
from exporter.model import END_KINDS, FULL_TTL, Answer, Hop, Reply, ReplyKind, Trace

TIME_EXCEEDED = ReplyKind.TIME_EXCEEDED
#: TTL -> who said time-exceeded for it, and over how many hops those messages came back.
Routers = Mapping[int, Mapping[str, frozenset[int]]]


@dataclass(frozen=True)  # without slots, for what is found out once
class Sender:
    """Who gave these answers to a trace, all in the destination's name and of one meaning."""

    trace: Trace
    answers: tuple[Answer, ...]

    @property
    def accepts(self) -> bool:
        """Whether it is there for a connection, or for an echo; else it resets."""
        return self.answers[0].reply.kind is not ReplyKind.RST

    @cached_property
    def first(self) -> Answer:
        """The answer to the lowest TTL."""
        return min(self.answers, key=lambda answer: answer.probe.ttl)

    @cached_property
    def ttl(self) -> int | None:
        """The lowest TTL that it answered, None when only SYNs meant to arrive were."""
        ttl = self.first.probe.ttl
        return ttl if ttl <= len(self.trace.hops) else None

    @property
    def is_bracketed(self) -> bool:
        """Whether the hop before `ttl` was asked, too, and not answered in that name."""
        before = (self.ttl or 1) - 1
        return all(hop.sent for hop in self.trace.hops[max(before - 1, 0) : before])

    @cached_property
    def backs(self) -> frozenset[int]:
        """How many hops its answers came back, by their own TTLs; none where they are not seen."""
        return _backs(answer.reply for answer in self.answers)


@dataclass(frozen=True, slots=True)
class Voice:
    """Somebody else who answers in the destination's name; `says` tells that as a clause.

    A `credible` one may be the destination itself: no RST, which a firewall sends in the name of
    every port, and no other flow of the same port, for whoever answers one answers them all.
    """

    name: str
    says: str
    sender: Sender
    credible: bool = True
    #: Heard in this cycle.
    current: bool = True


class Relation(StrEnum):
    """Where one sender stands, seen from another one's place."""

    NEARER = "nearer"
    SAME = "at the same place"
    FARTHER = "farther"
    #: The same TTL, and nothing known of the way back.
    ALIKE = "at the same TTL"
    UNTOLD = "cannot be told"
    CONTRADICTORY = "TTL and reply TTL contradict each other"


@dataclass(frozen=True, slots=True)
class Spot:
    """Where somebody stands who speaks in another's name, and his own address if it is known.

    `proven`: a router's own messages arrive from there as his do.
    """

    device: Device
    address: str | None = None
    proven: bool = False


# -- who answers -----------------------------------------------------------------------


@once
def senders_of(trace: Trace) -> tuple[Sender, ...]:
    """Who accepts and who resets, those of the two that there are."""
    ours = [answer for answer in trace.answers if answer.reply.kind in END_KINDS]
    accepting = tuple(answer for answer in ours if answer.reply.kind is not ReplyKind.RST)
    resetting = tuple(answer for answer in ours if answer.reply.kind is ReplyKind.RST)
    return tuple(Sender(trace, answers) for answers in (accepting, resetting) if answers)


def voices(case: Case) -> tuple[Voice, ...]:
    """Who else has answered in the destination's name in this cycle, the credible ones first."""
    return tuple(sorted(_voices(case), key=lambda voice: not voice.credible))


def remembered(case: Case) -> Voice | None:
    """Who answered the last good trace; None where that went to another address or another way."""
    good = case.last_good
    if good is None or good.flow.destination != case.trace.flow.destination:
        return None
    sender = next(iter(senders_of(good)), None)
    if sender is None or diverge(case.trace, good):
        return None
    name = last_good_name(case.trace, good)
    says = f"in {name} it answered {place_of(sender)}"
    return Voice(name, says, sender, credible=False, current=False)


def _voices(case: Case) -> Iterator[Voice]:
    controlled = case.controlled
    for port in controlled.ports:
        for sender in senders_of(port)[:1]:
            name, how = f"port {port.flow.destination_port}", place_of(sender)
            says = f"its {name} {'answers' if sender.accepts else 'is closed'} {how}"
            yield Voice(name, says, sender, credible=sender.accepts)
    for sender in senders_of(controlled.echo)[:1] if controlled.echo else ():
        yield Voice("an ICMP echo", f"it answers pings {place_of(sender)}", sender)
    for flow in controlled.flows:
        for sender in senders_of(flow)[:1]:
            if sender.accepts:
                name = f"source port {flow.flow.source_port}"
                says = f"the flow from {name} is accepted {place_of(sender)}"
                yield Voice(name, says, sender, credible=False)


def place_of(sender: Sender) -> str:
    """Whence somebody answers, in words."""
    ttl = sender.ttl
    behind = max((hop for hop in routers_of(sender.trace) if hop < (ttl or FULL_TTL)), default=0)
    if ttl and ttl == behind + 1:
        return f"from hop {ttl}"
    if behind:
        return f"from behind hop {behind}"
    # Its first answers may have been lost, but not the way back made longer.
    return f"as if from hop {min(sender.backs)}" if sender.backs else "from a hop not known"


# -- one held against another ----------------------------------------------------------


def relation(one: Sender, other: Sender) -> Relation:
    """Where `one` stands, seen from `other`, who answers for the same destination or a canary."""
    by_ttl, by_reply = _by_ttl(one, other), _by_reply(one, other)
    sides = {by_ttl, by_reply} & {Relation.NEARER, Relation.FARTHER}
    if Relation.NEARER in sides and (_translated(one.trace) or _translated(other.trace)):
        return Relation.UNTOLD
    known = _TOGETHER.get((by_ttl, by_reply))
    if known:
        return known
    # One of the two has to do.
    if Relation.NEARER in sides and diverge(one.trace, other.trace):
        return Relation.UNTOLD
    if by_reply is Relation.NEARER and not _may_be_nearer(one, other):
        return Relation.CONTRADICTORY
    if by_reply is Relation.SAME and _begins_before(one, other) and may_be_router_before(one):
        return Relation.CONTRADICTORY
    return by_ttl if by_reply is Relation.UNTOLD else by_reply


#: What TTL and reply TTL say -> what both together say; the rest says what one of them does.
_TOGETHER = {
    (Relation.NEARER, Relation.NEARER): Relation.NEARER,
    (Relation.NEARER, Relation.SAME): Relation.CONTRADICTORY,
    (Relation.NEARER, Relation.FARTHER): Relation.CONTRADICTORY,
    (Relation.FARTHER, Relation.NEARER): Relation.UNTOLD,
    (Relation.FARTHER, Relation.SAME): Relation.UNTOLD,
    (Relation.FARTHER, Relation.FARTHER): Relation.FARTHER,
}


def surely_nearer(one: Sender, other: Sender) -> bool:
    """Whether TTL and reply TTL both say that `one` is nearer, on one path."""
    both = {_by_ttl(one, other), _by_reply(one, other)}
    return both == {Relation.NEARER} and not diverge(one.trace, other.trace)


def diverge(one: Trace, other: Trace) -> bool:
    """Whether two traces show nobody in common at some hop that both know, if only by others."""
    theirs = routers_of(as_told(other))
    return any(
        ttl in theirs and not found.keys() & theirs[ttl].keys()
        for ttl, found in routers_of(as_told(one)).items()
    )


def routers_of(*traces: Trace) -> Routers:
    """Who said time-exceeded in these traces, without those that may stand one hop farther."""
    if len(traces) == 1:
        return _routers(traces[0])
    heard: dict[int, dict[str, frozenset[int]]] = {}
    for trace in traces:
        for ttl, routers in _routers(trace).items():
            known = heard.setdefault(ttl, {})
            for who, backs in routers.items():
                known[who] = known.get(who, frozenset()) | backs
    return heard


@once
def _routers(trace: Trace) -> Routers:
    heard: dict[int, dict[str, frozenset[int]]] = {}
    for hop in trace.hops:
        for who, said in expired_at(hop).items():
            if not is_repeated(trace, said):
                heard.setdefault(hop.ttl, {})[who] = _backs_from(hop, who)
    return heard


def _backs_from(hop: Hop, router: str) -> frozenset[int]:
    """Over how many hops a router's time-exceeded messages for a TTL came back."""
    said = [answer.reply for answer in hop.answers if answer.reply.address == router]
    return _backs([reply for reply in said if reply.kind is TIME_EXCEEDED])


def _by_ttl(one: Sender, other: Sender) -> Relation:
    if stands_behind(other, one):
        return Relation.NEARER
    if stands_behind(one, other):
        return Relation.FARTHER
    return Relation.ALIKE if one.ttl and one.ttl == other.ttl else Relation.UNTOLD


def stands_behind(far: Sender, near: Sender) -> bool:
    """Whether a router on the way to the one says time-exceeded where the other answers."""
    if near.ttl is None:
        return False
    end = far.ttl or len(far.trace.hops) + 1
    return any(near.ttl <= ttl < end for ttl in routers_of(far.trace))


def _by_reply(one: Sender, other: Sender) -> Relation:
    ours, theirs = one.backs, other.backs
    if not (ours and theirs):
        return Relation.UNTOLD
    if ours & theirs:
        return Relation.SAME
    if max(ours) < min(theirs):
        return Relation.NEARER
    return Relation.FARTHER if min(ours) > max(theirs) else Relation.UNTOLD


def _begins_before(one: Sender, other: Sender) -> bool:
    return bool(one.ttl and other.ttl and one.ttl < other.ttl)


def _may_be_nearer(one: Sender, other: Sender) -> bool:
    """Whether somebody whose answers took a shorter way back can stand before the other.

    If both begin to answer at the same TTL he is the router before it, and where that one is heard
    its own messages come back as his answers do. Otherwise only the way back differs.
    """
    if one.ttl is None or one.ttl != other.ttl:
        return True
    before = routers_of(one.trace, other.trace).get(one.ttl - 1, {})
    return not any(before.values()) or any(backs & one.backs for backs in before.values())


def _translated(trace: Trace) -> bool:
    destination = trace.flow.destination
    return any(destination in found for found in routers_of(as_told(trace)).values())


def _backs(replies: Iterable[Reply]) -> frozenset[int]:
    return frozenset([back for reply in replies if (back := reply_distance(reply.ttl))])


# -- where he stands -------------------------------------------------------------------


def spot(sender: Sender, others: Collection[Sender] = ()) -> Spot:
    """The hop of somebody who speaks in the name of others, who stand behind him.

    He answers at TTL t and stands at t - 1 (he filters after his TTL check) or at t (before). He is
    the router whose own messages take the same way back; or where all of them come back over as
    many hops as the probes went, as many hops away as his answers came.
    """
    trace = sender.trace
    traces = [trace, *(o.trace for o in others if not diverge(trace, o.trace))]
    near = max((ttl for ttl in routers_of(trace) if ttl < (sender.ttl or 256)), default=0)
    first = sender.ttl or near + 1
    # The others stand behind him: at the latest before the first of them.
    last = max(min([first, *(other.ttl - 1 for other in others if other.ttl)]), 1)
    # What he answered to lower TTLs may have been lost.
    too_near = max(sender.backs, default=first) < first - 1
    spared = any(map(is_spared, trace.hops[near : first - 1]))
    lossy = too_near or spared or loss_of(trace.hops[:first]) > TOLERATED_LOSS
    nearest = min(max(near if lossy else first - 1, 1), last)
    heard = routers_of(*traces)
    found = {
        (hop, address)
        for hop in range(nearest, last + 1)
        for address, backs in heard.get(hop, {}).items()
        if backs & sender.backs and address != trace.flow.destination
    }
    hops = {hop for hop, _ in found}
    # Routers show whether ways back are as long as ways there, or who stands behind them does.
    straight = any(o.ttl in o.backs for o in others)
    if heard:
        straight = _is_symmetric(routers_of(*map(as_told, traces)))
    as_seen = straight and min(hops, default=0) >= first - 1
    if len(hops) == 1 and (as_seen or all(hop in heard for hop in range(nearest, last + 1))):
        hop, address = min(found)
        device = Device(hop, (hop, hop), first)
        return Spot(device, address if len(found) == 1 else None, proven=True)
    (back,) = sender.backs if len(sender.backs) == 1 else (0,)
    if max(nearest, first - 1) <= back <= last and straight:
        nearest = last = back
    return Spot(Device(nearest if nearest == last else None, (nearest, last), first))


def may_be_router_before(sender: Sender) -> bool:
    """Whether the router right before him may send his answers, by the TTL that they arrive with.

    One that is heard itself shows how its messages arrive; one that is not may stand no farther
    away than it is.
    """
    ttl = sender.ttl or 0
    before = routers_of(sender.trace).get(ttl - 1, {})
    backs = frozenset().union(*before.values())
    return bool(backs & sender.backs) if backs else max(sender.backs, default=0) < ttl


def is_right_before(sender: Sender) -> bool:
    """Whether the sender's answers come back as the messages of the router before it do.

    Only where all routers answer over as many hops as the probes went can that be held against
    him: somebody behind that router would be one hop farther.
    """
    routers = routers_of(sender.trace)
    before = routers.get((sender.ttl or 0) - 1, {})
    same = any(backs & sender.backs for backs in before.values())
    return same and _is_symmetric(routers_of(as_told(sender.trace)))


def _is_symmetric(heard: Routers) -> bool:
    seen = [(ttl, backs) for ttl, found in heard.items() for backs in found.values() if backs]
    return bool(seen) and all(ttl in backs for ttl, backs in seen)

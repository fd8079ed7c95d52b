"""What is peculiar about a path, as facts: translation, tunnels, odd TTLs, limits and loss.

None of it is a block. Each fact names hops and, as TTL.attempt, the probes that show it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, islice, pairwise

from exporter.diagnosis.conditions import conditions_of
from exporter.diagnosis.once import once
from exporter.diagnosis.words import listed, numbers_of
from exporter.model import Answer, Condition, Hop, ReplyKind, Trace

#: So many facts of one kind are told.
MOST_OF_A_KIND = 3
#: So many names of fields or labels are told in one fact.
MOST_NAMED = 6


@once
def peculiarities(trace: Trace) -> tuple[str, ...]:
    """The facts about a trace's path, a few of each kind."""
    hops = trace.path
    facts: list[str] = []
    for kind in (_translation, _odd_quotes, _same_address, _tunnels):
        facts += islice(kind(hops), MOST_OF_A_KIND)
    return (*facts, *_conditions(trace))


def _expired(hop: Hop) -> list[Answer]:
    return [answer for answer in hop.answers if _is_expired(answer)]


def _is_expired(answer: Answer) -> bool:
    return answer.reply.kind is ReplyKind.TIME_EXCEEDED


def _translation(hops: tuple[Hop, ...]) -> Iterator[str]:
    """Where the quoted probes begin to differ from those sent, RFC 3022."""
    before = None
    for hop in hops:
        changed = [answer for answer in hop.answers if answer.reply.rewritten]
        if changed:
            fields = dict.fromkeys(field for a in changed for field in a.reply.rewritten)
            where = f"hop {before.ttl} ({before.addresses[0]})" if before else "this host"
            yield (
                f"address translation behind {where}: from hop {hop.ttl} "
                f"({changed[0].reply.address}) on, quoted probes differ in "
                f"{', '.join(list(fields)[:MOST_NAMED])} ({numbers_of(changed)})"
            )
            return
        if hop.answers:
            before = hop


def _odd_quotes(hops: tuple[Hop, ...]) -> Iterator[str]:
    """Routers that quote a TTL other than the 1 with which a probe expires, or the 0 of some."""
    for hop in hops:
        odd = [a for a in hop.answers if (a.reply.quoted_ttl or 0) > 1 and _is_expired(a)]
        if odd:
            yield (
                f"hop {hop.ttl} ({odd[0].reply.address}) quotes probes with TTL "
                f"{odd[0].reply.quoted_ttl} ({numbers_of(odd)}): a tunnel that counts apart, or a "
                "device that rewrites TTLs; its number may be wrong"
            )


def _same_address(hops: tuple[Hop, ...]) -> Iterator[str]:
    """One address at two hops in a row: the nearer one lets a TTL of 0 pass, or a NAT answers."""
    addresses = [(hop, set(hop.addresses)) for hop in hops]
    for (near, at_near), (far, at_far) in pairwise(addresses):
        for router in at_near & at_far:
            first, second = (
                [answer for answer in _expired(hop) if answer.reply.address == router]
                for hop in (near, far)
            )
            if not (first and second):
                continue
            numbers = numbers_of((*first, *second))
            if all(answer.reply.quoted_ttl == 0 for answer in first):
                yield (
                    f"hop {near.ttl} does not answer but forwards probes whose TTL has run out: "
                    f"{router} at hop {far.ttl} answers in its place, quoting TTL 0 ({numbers})"
                )
            else:
                yield (
                    f"{router} answers at hops {near.ttl} and {far.ttl} ({numbers}): a NAT that "
                    "speaks for those behind it, or a router that passes on what has run out"
                )


def _tunnels(hops: tuple[Hop, ...]) -> Iterator[str]:
    """Hops in a row that bear MPLS labels, RFC 4950."""
    answering = (hop for hop in hops if hop.answers)
    for labelled, group in groupby(answering, lambda hop: any(a.reply.mpls for a in hop.answers)):
        if labelled:
            yield _tunnel([answer for hop in group for answer in hop.answers if answer.reply.mpls])


def _tunnel(bearing: list[Answer]) -> str:
    labels = dict.fromkeys(str(label.label) for a in bearing for label in a.reply.mpls)
    first, last = bearing[0].probe.ttl, bearing[-1].probe.ttl
    where = f"hop {first} is" if first == last else f"hops {first} to {last} are"
    return (
        f"{where} in an MPLS tunnel, with labels {', '.join(list(labels)[:MOST_NAMED])} "
        f"({numbers_of(bearing)})"
    )


#: What is said of hops that answer in such a way.
_SAID = {
    Condition.RATE_LIMITED: (
        "those behind answer more, so they forward and limit their own messages"
    ),
    Condition.LOSSY: "those behind lose as much, so the way loses packets",
}


def _conditions(trace: Trace) -> Iterator[str]:
    found, path = conditions_of(trace), trace.path
    for condition, said in _SAID.items():
        hops = [hop for hop in path if found.get(hop.ttl) is condition]
        if hops:
            counts = [f"{hop.received} of {hop.sent} at hop {hop.ttl}" for hop in hops]
            yield f"{condition}, {listed(counts[:MOST_NAMED])} answered: {said}"

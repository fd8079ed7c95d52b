"""A name with several addresses: which of them stands for the target, and how that is said.

1. The worst address gives the target its verdict, in the order of `WORST_FIRST`: what could not
   be judged never hides a block, and what works hides neither. Of equal ones the first counts.
2. With family auto, a family for which this host has no route does not count beside one for
   which it has: an application passes such an address over at once (RFC 6724 section 5, rule 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from exporter.diagnosis.words import listed
from exporter.model import (
    BLOCKED_STATES,
    MAX_ADDRESSES,
    REACHED_STATES,
    FailureReason,
    Family,
    Observation,
    State,
)

WORST_FIRST = (
    State.REJECTED,  # of the blocked states, the one that names its culprit comes first
    State.RESET,
    State.FILTERED,
    State.UNREACHABLE,
    State.LOOP,
    State.INTERCEPTED,
    State.INCONCLUSIVE,
    State.ERROR,
    State.UNRESOLVED,
    State.CLOSED,
    State.OPEN,
)

#: What is said of the worst states that are there: for one address, for several.
_OUTCOMES = (
    (BLOCKED_STATES | {State.INTERCEPTED}, ("fails", "fail")),
    (
        frozenset({State.INCONCLUSIVE, State.ERROR, State.UNRESOLVED}),
        ("could not be judged", "could not be judged"),
    ),
    (REACHED_STATES, ("is reached", "are reached")),
)
#: The states whose name does not say how an address is.
_WORDS = {State.LOOP: "in a loop", State.ERROR: "not measured"}


def combine(seen: Sequence[Observation], left_out: Sequence[str]) -> Observation:
    """The observation of a target from those of its addresses, at least one.

    `left_out` are the addresses for which there was no room.
    """
    counting = sorted(_counting(seen), key=lambda one: WORST_FIRST.index(one.verdict.state))
    passed_over = [one for one in seen if one not in counting]
    worst, verdict = counting[0], counting[0].verdict
    summary = f"{_summary(counting)} " if len(counting) > 1 else ""
    evidence = (*verdict.evidence, *_no_route(passed_over), *_no_room(left_out))
    return replace(
        worst,
        verdict=replace(verdict, reason=summary + verdict.reason, evidence=evidence),
        each=(*counting, *passed_over),
    )


def _counting(seen: Sequence[Observation]) -> Sequence[Observation]:
    """Those that count; see 2 above."""
    if seen[0].target.family is not Family.AUTO:
        return seen
    routed = {_family(one) for one in seen if not _has_no_route(one)}
    return [one for one in seen if _family(one) in routed] or seen


def _family(one: Observation) -> Family:
    return Family.of(one.address or "")


def _has_no_route(one: Observation) -> bool:
    return one.failure is not None and one.failure.reason is FailureReason.NO_ROUTE


def _summary(seen: Sequence[Observation]) -> str:
    """How many addresses share the worst outcome, and how each one is; the worst is first."""
    by_state: dict[State, list[str]] = {}
    for one in seen:
        by_state.setdefault(one.verdict.state, []).append(str(one.address))
    count, said = next(
        (count, said)
        for states, said in _OUTCOMES
        if (count := sum(len(by_state[state]) for state in by_state if state in states))
    )
    parts = (
        f"{listed(addresses)} {'is' if len(addresses) == 1 else 'are'} {_WORDS.get(state, state)}"
        for state, addresses in by_state.items()
    )
    host = seen[0].target.host
    return f"{count} of {len(seen)} addresses of {host} {said[count > 1]}: {', '.join(parts)}."


def _no_route(passed_over: Sequence[Observation]) -> Iterator[str]:
    if passed_over:
        addresses = ", ".join(str(one.address) for one in passed_over)
        yield f"not counted, since this host has no route to its family: {addresses}"


def _no_room(addresses: Sequence[str]) -> Iterator[str]:
    """The first of the addresses for which there was no room, and how many others."""
    if addresses:
        more = len(addresses) - MAX_ADDRESSES
        rest = f" and {more} more" if more > 0 else ""
        named = ", ".join(addresses[:MAX_ADDRESSES])
        yield f"not traced, since a cycle has room for {MAX_ADDRESSES} addresses: {named}{rest}"

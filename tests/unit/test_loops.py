"""Loops: the same routers again and again, and what only looks like it.

The path is that of tests/unit/samples; a loop begins behind some of its routers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_network

import pytest

from exporter.diagnosis.loops import loop_of
from exporter.diagnosis.verdict import judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import (
    FULL_TTL,
    Confidence,
    Handshake,
    Hop,
    Location,
    ReplyKind,
    State,
    StopReason,
    Trace,
)
from tests.unit.samples import address, answer, end, routers, trace

ZONES = ZoneMap([ip_network("10.9.0.0/24"), ip_network("10.9.1.0/24")])
LIMIT = 30


def going_round(
    before: int,
    circle: Sequence[int],
    silent: Iterable[int] = (),
    until: int = LIMIT,
    *,
    expired: bool = True,
) -> Trace:
    """A trace that passes some routers and then those of a circle, named by their numbers."""
    hops = list(routers(before))
    for ttl in range(before + 1, LIMIT + 1):
        by = address(circle[(ttl - before - 1) % len(circle)])
        answers = tuple(answer(ttl, n, address=by) for n in (1, 2, 3))
        hops.append(Hop(ttl, 3, () if ttl in silent or ttl > until else answers))
    last = answer(FULL_TTL, 1, address=address(circle[0]))
    full = Hop(FULL_TTL, 1, (last,)) if expired else Hop(FULL_TTL, 3)
    reason = StopReason.HOP_LIMIT if expired or until == LIMIT else StopReason.SILENCE
    return trace(hops, reason, confirmation=full)


@pytest.mark.parametrize("length", [2, 3, 5])
def test_a_loop(length: int) -> None:
    """The first round of the circle holds the suspects, one past it the traffic is blocked."""
    verdict = judge(going_round(4, range(5, 5 + length)), zones=ZONES)
    assert (verdict.state, verdict.confidence) == (State.LOOP, Confidence.HIGH)
    assert verdict.suspect_hops == (5, 4 + length)
    assert (verdict.last_reachable_hop, verdict.blocked_at_hop) == (4 + length, 5 + length)
    assert verdict.location is Location.EXTERNAL
    assert f"hop 5 ({address(5)})" in verdict.reason


def test_rate_limited_gaps_inside_a_loop() -> None:
    """Routers that answer now and then only are as much in a loop, from the first round on."""
    silent = {6, 7, 9, 10, 14, 15, 16, 17, 21, 22, 26, 30}
    verdict = judge(going_round(4, (5, 6), silent), zones=ZONES)
    assert (verdict.state, verdict.suspect_hops) == (State.LOOP, (5, 6))


def test_a_loop_through_a_silent_router() -> None:
    """A router that never answers has its place in the circle, and makes its side unknown."""
    made = going_round(4, (5, 6, 7), silent=range(6, LIMIT + 1, 3))
    verdict = judge(made, zones=ZONES)
    assert (verdict.state, verdict.suspect_hops) == (State.LOOP, (5, 7))
    assert verdict.location is Location.UNKNOWN


def test_a_loop_whose_routers_fall_silent() -> None:
    """Three rounds are a loop even where the limits on ICMP errors hide the others."""
    verdict = judge(going_round(4, (5, 6), until=10, expired=False), zones=ZONES)
    assert (verdict.state, verdict.confidence) == (State.LOOP, Confidence.MEDIUM)


def test_two_rounds_that_may_have_an_end() -> None:
    """A router that is met twice, with silence behind it, is no proof of a loop."""
    assert loop_of(going_round(4, (5, 6), until=7, expired=False)) is None


@pytest.mark.parametrize(
    ("circle", "location"),
    [((1, 2), Location.PLATFORM), ((2, 3), Location.BOUNDARY), ((3, 4), Location.EXTERNAL)],
)
def test_the_side_of_a_loop(circle: Sequence[int], location: Location) -> None:
    """Inside only if all of its routers are, outside only if none is."""
    verdict = judge(going_round(circle[0] - 1, circle), zones=ZONES)
    assert (verdict.state, verdict.location) == (State.LOOP, location)


def test_without_platform_networks_a_loop_has_no_side() -> None:
    """Nobody is outside then."""
    assert judge(going_round(4, (5, 6)), zones=ZoneMap([])).location is Location.UNKNOWN


def test_one_address_up_to_the_last_hop() -> None:
    """A NAT that speaks for everybody behind it shows one address without end: no loop."""
    verdict = judge(going_round(4, (5,)), zones=ZONES)
    assert verdict.state is State.INCONCLUSIVE


def test_a_router_that_is_met_again_on_a_path_that_goes_on() -> None:
    """Where others answer behind the repetition, the traffic went on."""
    hops = (*routers(6), Hop(7, 1, (answer(7, 1, address=address(5)),)), *routers(LIMIT)[7:])
    made = trace(hops, StopReason.HOP_LIMIT, confirmation=Hop(FULL_TTL, 3))
    verdict = judge(made, zones=ZONES)
    assert verdict.state is State.INCONCLUSIVE
    assert "the path is too long" in verdict.reason


def test_a_destination_that_answers_is_no_loop() -> None:
    """Whoever is met twice before it."""
    made = going_round(4, (5, 6), until=9)
    hops = (*made.hops[:9], end(10, ReplyKind.SYN_ACK))
    made = replace(made, hops=hops, confirmation=None, stop_reason=StopReason.DESTINATION)
    assert judge(made, zones=ZONES).state is State.OPEN


def test_a_connection_that_succeeds_contradicts_a_loop() -> None:
    """The traffic of connect() went somewhere else."""
    connected = Handshake(success=True, duration=0.01)
    verdict = judge(going_round(4, (5, 6)), zones=ZONES, handshake=connected)
    assert verdict.state is State.INCONCLUSIVE


def test_the_facts_of_a_loop() -> None:
    """Each router's answers are listed by TTL and attempt, a few of them, and the full TTL's."""
    facts = judge(going_round(4, (5, 6)), zones=ZONES).evidence
    assert any(f"{address(5)} says time-exceeded again and again, 5.1, 5.2" in f for f in facts)
    assert any(f"even a SYN with TTL 64 expires, at {address(5)} (64.1)" in f for f in facts)

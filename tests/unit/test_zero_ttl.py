"""Hops behind a forwarder of zero TTL: nobody is placed one hop too near.

The path is that of tests/unit/samples, on which hop 4 passes on what should have run out there, so
that hop 5 answers TTL 4 as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from exporter.diagnosis.verdict import judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import (
    Confidence,
    Controlled,
    Hop,
    ReplyKind,
    State,
    StopReason,
    Trace,
    Verdict,
)
from tests.unit.beside import NO_ANSWER, coming_straight_back, passing, silent_after
from tests.unit.samples import address, answer, end, silence, trace

ZONES = ZoneMap([ip_network("10.9.0.0/24"), ip_network("10.9.1.0/24")])
FORWARDER = 4
#: The syn engine sees the quoted TTL, the connect engine does not.
BOTH_ENGINES = pytest.mark.parametrize("quotes", [True, False], ids=("syn", "connect"))


def behind(made: Trace, *, quotes: bool) -> Trace:
    """The same, as it is seen behind the forwarder, with ways back as long as ways there."""
    hops = tuple(coming_straight_back(hop) for hop in made.hops)
    for_hop_5 = {"address": address(FORWARDER + 1), "ttl": 60}
    hops = tuple(seen(hop, **for_hop_5) if hop.ttl == FORWARDER else hop for hop in hops)
    quoted = {hop.ttl: int(hop.ttl != FORWARDER) if quotes else None for hop in hops}
    return replace(made, hops=tuple(seen(hop, quoted_ttl=quoted[hop.ttl]) for hop in hops))


def seen(hop: Hop, **changes: Any) -> Hop:
    """A hop with changes to its routers' replies."""
    return replace(
        hop,
        answers=tuple(
            one._replace(reply=one.reply._replace(**changes))
            if one.reply.kind is ReplyKind.TIME_EXCEEDED
            else one
            for one in hop.answers
        ),
    )


def unheard(made: Trace, ttls: Iterable[int]) -> Trace:
    """The same without the answers to some TTLs."""
    hops = tuple(replace(hop, answers=()) if hop.ttl in ttls else hop for hop in made.hops)
    return replace(made, hops=hops)


def refusal(first: int, quoted_ttl: int | None, reply_ttl: int | None = 60) -> Hop:
    """Hop 5 rejects every probe with this TTL."""
    hop = end(first, ReplyKind.UNREACHABLE, by=address(5), icmp=(3, 13))
    return replace(
        hop,
        answers=tuple(
            one._replace(reply=one.reply._replace(quoted_ttl=quoted_ttl, ttl=reply_ttl))
            for one in hop.answers
        ),
    )


def rejecting(*, quotes: bool, lost: Iterable[int] = ()) -> Trace:
    """Hop 5 rejects after its TTL check, first for TTL 6."""
    hops = (*silent_after(5).hops[:5], refusal(6, 1 if quotes else None))
    made = trace(hops, StopReason.ICMP_ERROR, confirmation=NO_ANSWER)
    return unheard(behind(made, quotes=quotes), lost)


def said(made: Trace, *ports: Trace) -> Verdict:
    """The verdict with the first two hops inside the platform."""
    return judge(made, zones=ZONES, controlled=Controlled(ports=ports))


@BOTH_ENGINES
def test_a_control_shows_the_hop_behind_the_forwarder(*, quotes: bool) -> None:
    """Hop 5 drops before its TTL check: its answer to a control's TTL 4 does not end the range."""
    verdict = said(silent_after(3), behind(passing(80, 3), quotes=quotes))
    assert (verdict.state, verdict.suspect_hops) == (State.FILTERED, (3, 5))


@BOTH_ENGINES
def test_a_control_that_lost_the_second_answer(*, quotes: bool) -> None:
    """With hop 5 heard for TTL 4 alone it may be at either hop, and the range ends at the farther.

    The same goes for a quoted TTL that the engine does not see.
    """
    control = unheard(behind(passing(80, 3), quotes=quotes), (5,))
    assert said(silent_after(3), control).suspect_hops == (3, 5)


def test_a_router_that_counts_down_before_it_quotes() -> None:
    """A quoted TTL of 0 moves nobody whose next TTL another router answers."""
    control = passing(80, 3)
    control = replace(control, hops=tuple(seen(hop, quoted_ttl=0) for hop in control.hops))
    verdict = said(silent_after(3), control)
    assert (verdict.suspect_hops, verdict.confidence) == ((3, 4), Confidence.HIGH)


def test_a_rejecter_behind_the_forwarder() -> None:
    """It stands where it let a TTL of 1 expire, not where it answered for another."""
    verdict = said(rejecting(quotes=True))
    assert (verdict.state, verdict.confidence) == (State.REJECTED, Confidence.HIGH)
    assert (verdict.last_reachable_hop, verdict.suspect_hops) == (5, (5, 5))


def test_a_rejecter_of_which_no_quote_is_seen() -> None:
    """One address at two TTLs may also be a NAT's: the farther one, or behind it, and not sure."""
    verdict = said(rejecting(quotes=False))
    assert (verdict.last_reachable_hop, verdict.suspect_hops) == (5, (5, 6))
    assert verdict.confidence is Confidence.MEDIUM
    assert "at hop 5 or 6" in verdict.reason


@BOTH_ENGINES
def test_a_rejecter_heard_once_with_nobody_behind(*, quotes: bool) -> None:
    """With the answer to the next TTL lost, it may stand at either hop."""
    verdict = said(rejecting(quotes=quotes, lost=(5,)))
    assert (verdict.suspect_hops, verdict.confidence) == ((4, 5), Confidence.MEDIUM)


@pytest.mark.parametrize(("quoted_ttl", "suspects"), [(0, (5, 5)), (None, (3, 5))])
def test_a_rejecter_at_ingress_behind_the_forwarder(
    quoted_ttl: int | None, suspects: tuple[int, int]
) -> None:
    """It is first heard for TTL 4, one too early; the quote, or else its reply's TTL, tells."""
    hops = (*behind(silent_after(3), quotes=True).hops[:3], refusal(4, quoted_ttl))
    verdict = said(trace(hops, StopReason.ICMP_ERROR, confirmation=NO_ANSWER))
    assert (verdict.state, verdict.suspect_hops) == (State.REJECTED, suspects)
    assert verdict.confidence is Confidence.MEDIUM


@pytest.mark.parametrize("confirmed", [True, False], ids=("by-a-control", "alone"))
def test_a_forger_behind_the_forwarder(*, confirmed: bool) -> None:
    """Who resets before its TTL check answers TTL 4 already; its own messages place it at hop 5."""
    reset = end(6, ReplyKind.RST)
    arriving = tuple(one._replace(reply=one.reply._replace(ttl=60)) for one in reset.answers)
    path = behind(silent_after(5), quotes=True).hops[:5]
    made = trace((*path, replace(reset, answers=arriving)), StopReason.DESTINATION)
    control = behind(passing(80, 5, ReplyKind.SYN_ACK), quotes=True)
    verdict = said(made, *((control,) if confirmed else ()))
    assert (verdict.state, verdict.suspect_hops) == (State.RESET, (5, 5))


def test_a_destination_behind_the_forwarder_is_not_sure() -> None:
    """It answers one TTL too early, from one hop farther: a range that ends there is not sure."""
    control = passing(80, 6, distance=7, reply_ttl=57)
    verdict = said(silent_after(6), control)
    assert (verdict.suspect_hops, verdict.confidence) == ((6, 7), Confidence.MEDIUM)


def test_a_nat_that_speaks_for_those_behind_it() -> None:
    """Quoting a TTL of 1 each time, it moves nobody: the rejecter is the last, or behind it."""
    nat = address(FORWARDER)
    hops = [seen(hop, address=nat, quoted_ttl=1) for hop in silent_after(6).hops[3:6]]
    error = answer(7, 1, kind=ReplyKind.UNREACHABLE, address=nat, icmp=(3, 13), quoted_ttl=1)
    made = trace(
        (*silent_after(3).hops[:3], *hops, Hop(7, 1, (error,)), *silence(8, 9)),
        StopReason.ICMP_ERROR,
        confirmation=NO_ANSWER,
    )
    verdict = said(made)
    assert (verdict.suspect_hops, verdict.confidence) == ((6, 7), Confidence.MEDIUM)

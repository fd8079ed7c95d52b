"""Who answered in the destination's name: open or intercepted, closed or reset, or not told.

The path is that of tests/unit/samples: twelve devices, the first two inside the platform. Trace and
controls are made from who stands where: the device at hop k answers from TTL k + 1 on if it filters
after its TTL check, from k on if before, and its answers come back over k hops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from exporter.diagnosis.distance import Relation, Sender, relation, senders_of
from exporter.diagnosis.verdict import judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import (
    CANARIES,
    FULL_TTL,
    Answer,
    Confidence,
    Controlled,
    Flow,
    Handshake,
    Hop,
    Location,
    ReplyKind,
    State,
    StopReason,
    Surroundings,
    Trace,
    Verdict,
)
from tests.unit.samples import (
    DESTINATION,
    DISTANCE,
    SOURCE,
    address,
    answer,
    silence,
)
from tests.unit.samples import trace as traced

ZONES = ZoneMap([ip_network("10.9.0.0/24"), ip_network("10.9.1.0/24")])
UNZONED = ZoneMap([])
SYN_ACK, RST, ACK, ECHO = (
    ReplyKind.SYN_ACK,
    ReplyKind.RST,
    ReplyKind.ACK,
    ReplyKind.ECHO_REPLY,
)
PORT = 5432
BOTH = [SYN_ACK, RST]
REFUSED = Handshake(success=False, duration=0.01, error="Connection refused")


def back(hops: int, initial: int = FULL_TTL) -> int:
    """The TTL with which an answer arrives that comes back over so many hops."""
    return initial - hops + 1


def ended(ttl: int, kind: ReplyKind, reply_ttl: int | None, by: str = DESTINATION) -> Hop:
    """A TTL of which every probe is answered from where the path ends."""
    answers = (answer(ttl, n, kind=kind, address=by, icmp=None) for n in (1, 2, 3))
    return Hop(ttl, 3, tuple(arriving(one, reply_ttl) for one in answers))


def arriving(one: Answer, reply_ttl: int | None) -> Answer:
    """The answer with another TTL of its own."""
    return one._replace(reply=one.reply._replace(ttl=reply_ttl))


def met(hop: int, reply_ttl: int, by: str | None = None) -> Hop:
    """A hop whose router says time-exceeded, and its own messages arrive with this TTL."""
    return Hop(hop, 3, (arriving(answer(hop, 1, address=by or address(hop)), reply_ttl),) * 3)


def router(hop: int, by: str | None = None) -> Hop:
    """A router whose messages come back over as many hops as the probes went."""
    return met(hop, back(hop), by)


def routers(last: int) -> tuple[Hop, ...]:
    """The hops 1 to `last`, all of them answering."""
    return tuple(map(router, range(1, last + 1)))


def trace(
    kind: ReplyKind,
    ttl: int = DISTANCE,
    reply_ttl: int | str | None = "as far",
    *,
    to: str = DESTINATION,
    port: int = PORT,
    before: Sequence[Hop] | None = None,
) -> Trace:
    """A trace that is answered from a TTL on, by default from as far as it went."""
    arrives = back(ttl) if isinstance(reply_ttl, str) else reply_ttl
    hops = (*(routers(ttl - 1) if before is None else before), ended(ttl, kind, arrives, to))
    made = traced(hops, StopReason.DESTINATION, port)
    return replace(made, flow=Flow(SOURCE, 33434, to, port))


def control(kind: ReplyKind = SYN_ACK, ttl: int = DISTANCE, **changes: Any) -> Controlled:
    """Port 443 of the destination, or an echo, answers; by default the destination itself does."""
    if kind is ECHO:
        return Controlled(echo=trace(kind, ttl, port=0, **changes))
    return Controlled(ports=(trace(kind, ttl, port=443, **changes),))


def canary(kind: ReplyKind | None, ttl: int = DISTANCE, **changes: Any) -> Trace:
    """What became of the canary; None: silence."""
    if kind is None:
        made = traced(silence(1, 3), StopReason.SILENCE, PORT, Hop(FULL_TTL, 2))
        return replace(made, flow=Flow(SOURCE, 33434, CANARIES[0], PORT))
    return trace(kind, ttl, to=CANARIES[0], **changes)


def said(made: Trace, controlled: Controlled | None = None, **known: Any) -> Verdict:
    """The verdict with the first two hops inside the platform."""
    return judge(made, zones=ZONES, controlled=controlled or Controlled(), **known)


def stated(verdict: Verdict) -> tuple[State, Confidence]:
    """What is said, and how sure it is."""
    return verdict.state, verdict.confidence


def numbers(verdict: Verdict) -> tuple[int, int, tuple[int, int] | None, str | None]:
    """The hops that a verdict names, and who is blamed."""
    return (
        verdict.last_reachable_hop,
        verdict.blocked_at_hop,
        verdict.suspect_hops,
        verdict.blocked_by,
    )


def forward(hop: int, kind: ReplyKind = RST) -> Trace:
    """Somebody at a hop answers what he would forward."""
    return trace(kind, hop + 1, back(hop))


def ingress(hop: int, kind: ReplyKind = RST) -> Trace:
    """Somebody at a hop answers whatever comes in."""
    return trace(kind, hop, back(hop))


# -- nobody else is heard --------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "state"), [(SYN_ACK, State.OPEN), (ACK, State.OPEN), (RST, State.CLOSED)]
)
def test_an_answer_that_nothing_speaks_against(kind: ReplyKind, state: State) -> None:
    """It is taken for the destination's, at its distance, and who else it may be from is open."""
    verdict = said(trace(kind))
    assert stated(verdict) == (state, Confidence.MEDIUM)
    assert numbers(verdict) == (DISTANCE, 0, None, None)
    assert verdict.location is Location.NONE


def test_an_rst_that_arrives_as_the_router_s_own_messages_do() -> None:
    """Then that router has sent it: reset, with medium confidence."""
    verdict = said(forward(6))
    assert stated(verdict) == (State.RESET, Confidence.MEDIUM)
    assert numbers(verdict) == (6, 6, (6, 6), address(6))
    assert verdict.location is Location.EXTERNAL


def test_the_same_of_a_syn_ack_is_no_proof() -> None:
    """Open hosts often answer over a shorter way: open, low confidence, and the doubt is said."""
    verdict = said(forward(6, SYN_ACK))
    assert stated(verdict) == (State.OPEN, Confidence.LOW)
    assert "unless a device at hop 6 answers in its name" in verdict.reason


def test_an_rst_over_a_shorter_way_than_any_router_s() -> None:
    """It comes from nearer than where it begins, but from no router: nobody can tell."""
    verdict = said(trace(RST, 7, back(4)))
    assert stated(verdict) == (State.INCONCLUSIVE, Confidence.LOW)
    assert "as if from hop 4" in verdict.reason


def test_crooked_ways_back_accuse_nobody() -> None:
    """Where routers' messages come back over fewer hops, an RST that does so is no proof."""
    crooked = tuple(met(hop, back(max(hop - 2, 1))) for hop in range(1, 7))
    verdict = said(trace(RST, 7, back(4), before=crooked))
    assert verdict.state is State.INCONCLUSIVE


@pytest.mark.parametrize("kind", BOTH)
def test_a_longer_way_back_is_no_reason_for_doubt(kind: ReplyKind) -> None:
    """A reply that came over more hops than the probe went contradicts nothing."""
    assert said(trace(kind, DISTANCE, 40)).state in {State.OPEN, State.CLOSED}


def test_reached_only_by_a_full_ttl_syn() -> None:
    """When only a confirmation SYN was answered the target is open, its distance not known."""
    full = ended(FULL_TTL, SYN_ACK, back(DISTANCE))
    made = traced((*routers(4), *silence(5, 30)), StopReason.DESTINATION, confirmation=full)
    verdict = said(made)
    assert stated(verdict) == (State.OPEN, Confidence.MEDIUM)
    assert verdict.last_reachable_hop == 4


# -- a control of the same destination -------------------------------------------------


@pytest.mark.parametrize("control", [control(), control(ECHO)], ids=("port", "echo"))
@pytest.mark.parametrize(("kind", "state"), [(SYN_ACK, State.OPEN), (RST, State.CLOSED)])
def test_a_control_at_the_same_place_confirms(
    kind: ReplyKind, state: State, control: Controlled
) -> None:
    """The same TTL and the same reply TTL as the destination's: high confidence."""
    verdict = said(trace(kind), control)
    assert stated(verdict) == (state, Confidence.HIGH)
    assert numbers(verdict) == (DISTANCE, 0, None, None)


def test_an_rst_of_another_port_confirms_nothing() -> None:
    """A firewall that resets one port may reset them all."""
    assert stated(said(trace(RST), control(RST))) == (State.CLOSED, Confidence.MEDIUM)
    assert said(forward(6), Controlled(ports=(forward(6),))).state is State.RESET


@pytest.mark.parametrize("control", [control(), control(RST), control(ECHO)])
def test_reset_after_the_ttl_check(control: Controlled) -> None:
    """From TTL 7 on and from hop 6, while the destination is at 12: reset by hop 6, surely."""
    verdict = said(forward(6), control)
    assert stated(verdict) == (State.RESET, Confidence.HIGH)
    assert numbers(verdict) == (6, 6, (6, 6), address(6))
    assert verdict.location is Location.EXTERNAL


def test_reset_before_the_ttl_check() -> None:
    """From TTL 6 on and from hop 6, as a load balancer would: reset, with medium confidence."""
    verdict = said(ingress(6), control())
    assert stated(verdict) == (State.RESET, Confidence.MEDIUM)
    assert numbers(verdict) == (6, 6, (6, 6), address(6))
    assert any("load balancer" in fact for fact in verdict.evidence)


def test_reset_right_before_the_destination() -> None:
    """The same TTL as the destination's, but the last router's reply TTL."""
    verdict = said(forward(DISTANCE - 1), control())
    assert verdict.state is State.RESET
    assert numbers(verdict)[2:] == ((11, 11), address(11))


def test_two_controls_prove_who_resets_right_before_the_destination() -> None:
    """One way back may be shorter by chance; two others that agree make it sure."""
    both = replace(control(ECHO), ports=control().ports)
    verdict = said(forward(DISTANCE - 1), both)
    assert stated(verdict) == (State.RESET, Confidence.HIGH)


def test_a_shorter_way_back_than_the_control_s_is_no_router_s() -> None:
    """Behind a router whose messages come back otherwise, only the way back differs."""
    verdict = said(trace(RST, DISTANCE, back(9)), control())
    assert verdict.state is State.INCONCLUSIVE
    assert "contradict" in verdict.reason


def test_who_is_intercepted_is_not_blocked() -> None:
    """A proxy at hop 6 accepts: intercepted there, and every number of a block is 0."""
    verdict = said(ingress(6, SYN_ACK), control())
    assert stated(verdict) == (State.INTERCEPTED, Confidence.MEDIUM)
    assert numbers(verdict) == (6, 0, None, None)
    assert verdict.location is Location.NONE
    assert "outside the platform" in verdict.reason


def test_a_syn_proxy_is_surely_no_load_balancer() -> None:
    """It answers what it would forward, so the address is not its own: high confidence."""
    verdict = said(forward(6, SYN_ACK), control())
    assert stated(verdict) == (State.INTERCEPTED, Confidence.HIGH)


def test_a_control_that_is_answered_by_somebody_nearer() -> None:
    """Port 443 goes through a proxy; that says nothing against a port that goes farther."""
    nearer = Controlled(ports=(replace(ingress(3, SYN_ACK), flow=control().ports[0].flow),))
    verdict = said(trace(RST), nearer)
    assert stated(verdict) == (State.CLOSED, Confidence.MEDIUM)
    assert any("nearer than who answers here" in fact for fact in verdict.evidence)


@pytest.mark.parametrize("kind", BOTH)
def test_a_ttl_that_a_control_began_to_answer_later_proves_nothing(kind: ReplyKind) -> None:
    """Its single probe to the destination's own TTL may be lost: no router answered that TTL."""
    late = control(ttl=13, reply_ttl=back(DISTANCE), before=(*routers(11), Hop(12, 1)))
    verdict = said(trace(kind), late)
    assert verdict.state in {State.OPEN, State.CLOSED}
    assert verdict.confidence is Confidence.MEDIUM


def test_a_nearer_ttl_with_the_destination_s_reply_ttl() -> None:
    """The control shows a router where this port is answered, over the same way back: not told."""
    made = trace(RST, 7, back(DISTANCE))
    verdict = said(made, control())
    assert stated(verdict) == (State.INCONCLUSIVE, Confidence.LOW)


@pytest.mark.parametrize("shift", [-4, 4])
def test_ways_back_of_other_lengths(shift: int) -> None:
    """Whether the destination's way back is shorter or longer, who it is is known by a control."""
    arrives = back(DISTANCE + shift)
    bent = control(reply_ttl=arrives)
    assert said(trace(RST, DISTANCE, arrives), bent).state is State.CLOSED
    assert said(forward(6), bent).state is State.RESET
    assert numbers(said(forward(8), bent))[2] == (8, 8)


def test_another_initial_ttl_is_another_class_not_another_distance() -> None:
    """A host that begins with 128 and a firewall that begins with 64 are compared by hops."""
    windows = control(reply_ttl=back(DISTANCE, 128))
    assert said(trace(RST, DISTANCE, back(DISTANCE, 128)), windows).state is State.CLOSED
    assert said(forward(6), windows).state is State.RESET


def test_a_control_over_another_path_needs_both_ttls() -> None:
    """Over other routers a TTL alone or a reply TTL alone says nothing; together they do."""
    other = [router(5, "192.0.2.5"), *map(router, range(6, 12))]
    path = (*silence(1, 4), *other)
    assert said(forward(8), control(before=path)).state is State.RESET
    assert said(trace(RST, 9, None), control(before=path)).state is State.INCONCLUSIVE
    last = said(forward(DISTANCE - 1), control(before=path))
    assert last.confidence is not Confidence.HIGH


def test_a_destination_that_translates_addresses_is_nobody_s_forger() -> None:
    """A host that forwards port 443 to a container says time-exceeded in its own name."""
    itself = router(DISTANCE, DESTINATION)
    behind = control(ttl=DISTANCE + 1, before=(*routers(DISTANCE - 1), itself))
    verdict = said(trace(RST), behind)
    assert verdict.state is State.CLOSED


def test_a_silent_forger_is_placed_by_its_reply_ttl() -> None:
    """Where all routers answer over as many hops as probes went, an RST tells its hop alone."""
    made = trace(RST, 7, back(6), before=(*routers(5), Hop(6, 3)))
    verdict = said(made, control(before=(*routers(5), Hop(6, 1), *map(router, range(7, 12)))))
    assert numbers(verdict) == (6, 6, (6, 6), None)
    assert verdict.location is Location.EXTERNAL


def test_a_forger_that_cannot_be_placed_leaves_two_suspects() -> None:
    """Without the RST's own TTL it is before the TTL or at it: (6, 7), and the first is outside."""
    verdict = said(trace(RST, 7, None), control())
    assert stated(verdict) == (State.RESET, Confidence.MEDIUM)
    assert numbers(verdict) == (6, 7, (6, 7), None)
    assert verdict.location is Location.EXTERNAL


@pytest.mark.parametrize(
    ("hop", "location"), [(1, Location.PLATFORM), (2, Location.PLATFORM), (3, Location.EXTERNAL)]
)
def test_the_side_of_a_forger(hop: int, location: Location) -> None:
    """He is on the side of the router that he is."""
    assert said(forward(hop), control()).location is location


def test_the_side_of_two_suspects() -> None:
    """Hop 2 inside and hop 3 outside: at the edge."""
    assert said(trace(RST, 3, None), control()).location is Location.BOUNDARY


def test_ttl_1_may_be_answered_by_this_host_itself() -> None:
    """A local firewall's RST looks like the first router's, so it is never called external."""
    nowhere = ZoneMap([ip_network("192.0.2.0/24")])
    verdict = judge(ingress(1), zones=nowhere, controlled=control())
    assert (verdict.state, verdict.location) == (State.RESET, Location.UNKNOWN)


@pytest.mark.parametrize(
    ("hop", "location"), [(2, Location.BOUNDARY), (3, Location.EXTERNAL), (6, Location.EXTERNAL)]
)
def test_the_side_of_a_silent_forger(hop: int, location: Location) -> None:
    """Who is not heard is on the side of those around him."""
    made = trace(RST, hop + 1, back(hop), before=(*routers(hop - 1), Hop(hop, 3)))
    others = control(before=(*silence(1, hop), *map(router, range(hop + 1, DISTANCE))))
    zones = ZoneMap([ip_network("10.9.0.0/24")])
    assert judge(made, zones=zones, controlled=others).location is location


def test_no_side_without_platform_networks() -> None:
    """Who resets is known, on which side of the edge is not."""
    verdict = judge(forward(6), zones=UNZONED, controlled=control())
    assert (verdict.location, verdict.blocked_by) == (Location.UNKNOWN, address(6))


# -- an engine that does not see reply TTLs --------------------------------------------


def blind(kind: ReplyKind = SYN_ACK, ttl: int = DISTANCE) -> Trace:
    """An answer whose own TTL is not known."""
    return trace(kind, ttl, None)


@pytest.mark.parametrize("controlled", [Controlled(), Controlled(ports=(blind(),))])
def test_an_rst_without_a_reply_ttl_cannot_be_told_from_a_firewall_s(
    controlled: Controlled,
) -> None:
    """Even at the destination's TTL it may be the last router's: inconclusive, and why."""
    verdict = said(blind(RST), controlled)
    assert stated(verdict) == (State.INCONCLUSIVE, Confidence.LOW)
    assert "does not see with which TTL" in verdict.reason
    assert any("not seen by this engine" in fact for fact in verdict.evidence)


def test_an_rst_on_this_host_s_own_network_is_the_neighbour_s() -> None:
    """No router stands between: closed, without the reply's TTL."""
    made = replace(blind(RST, 1), gateway="")
    assert stated(said(made)) == (State.CLOSED, Confidence.MEDIUM)


def test_a_shorter_way_back_of_who_answers_where_the_destination_does() -> None:
    """The router before is heard, and its messages come back otherwise: only the destination."""
    made = trace(RST, DISTANCE, back(3))
    assert stated(said(made, Controlled(ports=(blind(),)))) == (State.CLOSED, Confidence.MEDIUM)
    unheard = (*routers(DISTANCE - 2), Hop(DISTANCE - 1, 3))
    made = trace(RST, DISTANCE, back(3), before=unheard)
    assert said(made, Controlled(ports=(blind(),))).state is State.INCONCLUSIVE


def test_a_syn_ack_without_a_reply_ttl_leaves_room_for_doubt() -> None:
    """Open, with medium confidence, whatever the controls say."""
    for controlled in (Controlled(), Controlled(ports=(blind(),), canary=canary(None))):
        assert stated(said(blind(), controlled)) == (State.OPEN, Confidence.MEDIUM)


def test_routers_behind_the_answer_prove_a_forger_without_reply_ttls() -> None:
    """The control shows routers at TTL 7 and beyond: reset, by one of two."""
    verdict = said(blind(RST, 7), Controlled(ports=(blind(),)))
    assert stated(verdict) == (State.RESET, Confidence.MEDIUM)
    assert verdict.suspect_hops == (6, 7)


# -- the last good trace ---------------------------------------------------------------


def test_a_reset_since_the_last_good_trace() -> None:
    """No control passes any more, but the destination was farther: reset, medium."""
    every = Controlled(ports=(forward(6),))
    verdict = said(forward(6), every, last_good=trace(SYN_ACK))
    assert stated(verdict) == (State.RESET, Confidence.MEDIUM)
    when = "of 2026-01-01 00:00 UTC"
    assert f"in the last good trace ({when}) it answered from hop 12" in verdict.reason


def test_the_service_has_stopped() -> None:
    """An RST from where the last good trace met the destination: closed, with medium confidence."""
    assert stated(said(trace(RST), last_good=trace(SYN_ACK))) == (State.CLOSED, Confidence.MEDIUM)


def test_open_as_ever() -> None:
    """A target that answers from where it did is open, surely, unless somebody answers for all."""
    last_good = trace(SYN_ACK)
    assert said(trace(SYN_ACK), last_good=last_good).confidence is Confidence.HIGH
    silent = Controlled(canary=canary(None))
    assert said(trace(SYN_ACK), silent, last_good=last_good).confidence is Confidence.HIGH
    elsewhere = Controlled(canary=canary(SYN_ACK, 4))
    assert said(trace(SYN_ACK), elsewhere, last_good=last_good).confidence is Confidence.MEDIUM


@pytest.mark.parametrize("kind", BOTH)
def test_a_destination_that_has_moved_is_no_forger(kind: ReplyKind) -> None:
    """Over other routers, or with a control at the new place, the last good trace is history."""
    moved = trace(kind, 8, before=(*routers(6), router(7, "192.0.2.7")))
    assert said(moved, last_good=trace(SYN_ACK)).state in {State.OPEN, State.CLOSED}
    nearer = trace(kind, 8)
    verdict = said(nearer, control(ttl=8), last_good=trace(SYN_ACK))
    assert verdict.state in {State.OPEN, State.CLOSED}


def test_the_last_good_trace_of_another_address_says_nothing() -> None:
    """A name that has got another address is another destination."""
    assert said(trace(RST, 8), last_good=trace(SYN_ACK, to="10.9.11.3")).state is State.CLOSED


# -- canaries --------------------------------------------------------------------------


def test_a_silent_canary_is_no_proof_of_the_destination() -> None:
    """A proxy may answer for one destination alone: open, medium, until a control agrees."""
    verdict = said(trace(SYN_ACK), Controlled(canary=canary(None)))
    assert stated(verdict) == (State.OPEN, Confidence.MEDIUM)
    assert any("as it should be" in fact for fact in verdict.evidence)


def test_who_answers_for_a_canary_intercepts() -> None:
    """The same TTL and reply TTL as for an address that nobody has."""
    verdict = said(ingress(6, SYN_ACK), Controlled(canary=canary(SYN_ACK, 6)))
    assert stated(verdict) == (State.INTERCEPTED, Confidence.MEDIUM)
    assert verdict.last_reachable_hop == 6
    assert CANARIES[0] in verdict.reason


def test_a_proxy_that_does_not_hold_this_target() -> None:
    """The canary's proxy is at hop 6, the target answers from hop 12: open, and it is said."""
    verdict = said(trace(SYN_ACK), Controlled(canary=canary(SYN_ACK, 6)))
    assert stated(verdict) == (State.OPEN, Confidence.MEDIUM)
    assert any(f"{CANARIES[0]}:{PORT}" in fact and "TTL 6" in fact for fact in verdict.evidence)


def test_a_canary_over_another_path_says_nothing() -> None:
    """The proxy stands elsewhere, as far away by chance."""
    path = (router(1), router(2, "192.0.2.2"))
    made = trace(SYN_ACK, 3)
    assert said(made, Controlled(canary=canary(SYN_ACK, 3, before=path))).state is State.OPEN


def test_who_resets_a_canary_resets() -> None:
    """An RST from where that for a canary comes from is not the destination's."""
    verdict = said(ingress(6), Controlled(canary=canary(RST, 6)))
    assert stated(verdict) == (State.RESET, Confidence.MEDIUM)
    assert verdict.suspect_hops == (6, 6)


def mimic(kind: ReplyKind = RST) -> Trace:
    """Hop 6 answers from TTL 7 on, with the reply TTL of the destination behind it."""
    return trace(kind, 7, back(DISTANCE))


@pytest.mark.parametrize(("kind", "state"), [(RST, State.RESET), (SYN_ACK, State.INTERCEPTED)])
def test_a_forger_that_mimics_the_destination_s_reply_ttl(kind: ReplyKind, state: State) -> None:
    """A control's router where he answers, and a canary that he answers alike, give him away."""
    heard_by_reply_alone = trace(ECHO, FULL_TTL, back(DISTANCE), port=0, before=())
    beside = replace(control(), canary=canary(kind, 7, reply_ttl=back(DISTANCE)))
    verdict = said(mimic(kind), replace(beside, echo=replace(heard_by_reply_alone, hops=())))
    assert stated(verdict) == (state, Confidence.MEDIUM)
    if state is State.RESET:
        assert numbers(verdict) == (6, 7, (6, 7), None)
    assert "which nobody has" in verdict.reason


def test_a_mimic_is_not_told_from_a_shorter_way() -> None:
    """Without a canary answered from the same TTL on, another branch to the host looks alike."""
    assert said(mimic(), control()).state is State.INCONCLUSIVE
    for silent in (canary(None), canary(RST, 9, reply_ttl=back(DISTANCE), before=routers(8))):
        assert said(mimic(), replace(control(), canary=silent)).state is State.INCONCLUSIVE


def test_a_mimic_that_a_control_meets_at_its_own_ttl() -> None:
    """One control shows a router there, another one the destination: not told."""
    both = replace(control(), canary=canary(RST, 7, reply_ttl=back(DISTANCE)))
    both = replace(both, echo=trace(ECHO, 7, back(DISTANCE), port=0))
    assert said(mimic(), both).state is State.INCONCLUSIVE


def test_a_canary_and_a_control_at_one_place() -> None:
    """Either both are forged or neither: inconclusive for an RST, intercepted for a SYN-ACK."""
    both = replace(control(ECHO, 6), canary=canary(RST, 6))
    assert said(ingress(6), both).state is State.INCONCLUSIVE
    accepted = replace(control(ECHO, 6), canary=canary(SYN_ACK, 6))
    assert said(ingress(6, SYN_ACK), accepted).state is State.INTERCEPTED


def test_several_networks_that_answer_from_one_place() -> None:
    """Destinations of three networks at one distance: open, with medium confidence, and why."""
    elsewhere = tuple(trace(SYN_ACK, to=one) for one in ("192.0.2.1", "203.0.113.1"))
    verdict = said(trace(SYN_ACK), replace(control(), elsewhere=elsewhere))
    assert stated(verdict) == (State.OPEN, Confidence.MEDIUM)
    assert any("192.0.2.1 and 203.0.113.1" in fact for fact in verdict.evidence)
    near = tuple(trace(SYN_ACK, to=f"10.9.200.{host}") for host in (1, 2, 3))
    assert said(trace(SYN_ACK), replace(control(), elsewhere=near)).confidence is Confidence.HIGH


# -- answers of both kinds -------------------------------------------------------------


def mixed(reset: Hop, accepted: Hop) -> Trace:
    """Some SYNs are accepted, others are reset."""
    hops = {hop.ttl: hop for hop in (*routers(min(reset.ttl, accepted.ttl) - 1), accepted)}
    both = hops.get(reset.ttl)
    if both:
        reset = Hop(reset.ttl, 6, (*both.answers, *reset.answers))
    known = hops | {reset.ttl: reset}
    path = tuple(known.get(ttl, Hop(ttl, 0)) for ttl in range(1, max(known) + 1))
    return traced(path, StopReason.DESTINATION, PORT)


def test_syns_that_the_destination_accepts_and_resets() -> None:
    """From one place: open, but not for all of them."""
    made = mixed(ended(12, RST, back(12)), ended(12, SYN_ACK, back(12)))
    assert stated(said(made)) == (State.OPEN, Confidence.MEDIUM)
    assert said(made, control()).confidence is Confidence.MEDIUM


def test_rsts_that_are_injected_beside_the_destination_s_answers() -> None:
    """The RSTs come from nearer than the SYN-ACKs: reset."""
    made = mixed(ended(12, RST, back(11)), ended(12, SYN_ACK, back(12)))
    verdict = said(made, handshake=REFUSED)
    assert stated(verdict) == (State.RESET, Confidence.MEDIUM)
    assert "accepts other SYNs from hop 12" in verdict.reason


# -- hop numbers that mean nothing -----------------------------------------------------


@pytest.mark.parametrize("kind", BOTH)
def test_where_ttls_are_ignored_no_distance_is_compared(kind: ReplyKind) -> None:
    """A user-mode network that answers everything at TTL 1 forges nothing."""
    alone = replace(trace(kind, 1), gateway="10.0.2.2")
    other = Controlled(echo=replace(trace(ECHO, 1, back(9), port=0), gateway="10.0.2.2"))
    verdict = said(alone, other, surroundings=Surroundings(ignores_ttls=True))
    assert verdict.state in {State.OPEN, State.CLOSED}
    assert verdict.last_reachable_hop == 0


# -- one sender and another ------------------------------------------------------------


def sender(made: Trace) -> Sender:
    """Who answers a trace."""
    return senders_of(made)[0]


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (forward(6), trace(RST), Relation.NEARER),
        (trace(RST), forward(6), Relation.FARTHER),
        (trace(RST), trace(SYN_ACK), Relation.SAME),
        (trace(RST), blind(), Relation.ALIKE),
        (trace(RST, 9, None, before=()), blind(), Relation.UNTOLD),
        (trace(RST, 7, back(12)), trace(SYN_ACK), Relation.CONTRADICTORY),
        (trace(RST, 7, back(20)), trace(SYN_ACK), Relation.CONTRADICTORY),
        (trace(RST), trace(SYN_ACK, 7, back(20)), Relation.UNTOLD),
    ],
)
def test_relations(one: Trace, other: Trace, found: Relation) -> None:
    """TTL and reply TTL together say who is nearer, or that they contradict each other."""
    assert relation(sender(one), sender(other)) is found


# -- words -----------------------------------------------------------------------------


def test_the_sentence_of_a_reset() -> None:
    """It names who, where, how that is known and on which side, as one mail would."""
    assert said(forward(6), control()).reason == (
        "10.9.11.2:5432 is reset by the device at hop 6 (10.9.5.2), not by the destination: its "
        "port 443 answers from hop 12; outside the platform."
    )


def test_the_facts_of_a_reset() -> None:
    """Every fact has its packets' numbers: TTL, attempt, reply TTL, and what that fits."""
    evidence = said(forward(6), control()).evidence
    assert "RST first for TTL 7, attempt 1, reply TTL 59, as of a sender at hop 6, in the " in (
        " ".join(evidence)
    )
    assert any(
        fact.startswith("port 443 of the same destination: SYN-ACK first for TTL 12, attempt 1")
        for fact in evidence
    )

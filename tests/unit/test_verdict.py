"""What a trace means: each state, the numbers beside it, and what lowers the confidence.

The path is that of tests/unit/samples: twelve devices, the first two inside the platform.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from exporter.diagnosis.icmp import ICMP, ICMPV6, Protocol
from exporter.diagnosis.placing import reply_distance
from exporter.diagnosis.verdict import judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import (
    CANARIES,
    FULL_TTL,
    Confidence,
    Controlled,
    Failure,
    FailureReason,
    Handshake,
    Hop,
    Location,
    ReplyKind,
    State,
    StopReason,
    Trace,
    Verdict,
)
from tests.unit.beside import coming_straight_back
from tests.unit.samples import (
    DESTINATION,
    DISTANCE,
    SOURCE,
    address,
    answer,
    end,
    routers,
    silence,
    trace,
)

ZONES = ZoneMap([ip_network("10.9.0.0/24"), ip_network("10.9.1.0/24")])
UNZONED = ZoneMap([])
NO_ANSWER = Hop(FULL_TTL, 3)
CONNECTED = Handshake(success=True, duration=0.01)
REFUSED = Handshake(success=False, duration=0.01, error="Connection refused")


def arrived(kind: ReplyKind, reply_ttl: int | None = FULL_TTL - DISTANCE + 1) -> Trace:
    """A trace whose last hop is the destination."""
    last = end(DISTANCE, kind)
    answers = tuple(a._replace(reply=a.reply._replace(ttl=reply_ttl)) for a in last.answers)
    hops = (*routers(DISTANCE - 1), replace(last, answers=answers))
    return trace(hops, StopReason.DESTINATION)


def silent_after(last: int) -> Trace:
    """A trace in which nothing past a hop answers."""
    hops = (*routers(last), *silence(last + 1, 30))
    return trace(hops, StopReason.SILENCE, confirmation=NO_ANSWER)


def refused(
    first_seen: int,
    by: str,
    icmp: tuple[int, int] = (3, 13),
    reply_ttl: int | None = None,
    answering: int | None = None,
    confirmation: Hop | None = NO_ANSWER,
) -> Trace:
    """A trace that an ICMP error ends at a TTL, behind routers that answered for themselves."""
    last = first_seen - 1 if answering is None else answering
    error = answer(first_seen, 1, kind=ReplyKind.UNREACHABLE, address=by, icmp=icmp)
    error = error._replace(reply=error.reply._replace(ttl=reply_ttl))
    before = tuple(map(coming_straight_back, routers(last)))
    hops = (*before, *silence(last + 1, first_seen - 1), Hop(first_seen, 1, (error,)))
    return trace(hops, StopReason.ICMP_ERROR, confirmation=confirmation)


def numbers(verdict: Verdict) -> tuple[int, int, tuple[int, int] | None]:
    """The hops that a verdict names."""
    return verdict.last_reachable_hop, verdict.blocked_at_hop, verdict.suspect_hops


# -- somebody says no ------------------------------------------------------------------


def test_the_destination_s_own_answer_outweighs_an_icmp_error() -> None:
    """An ICMP error never covers up an answer of the destination itself."""
    made = refused(7, address(6))
    made = replace(made, confirmation=end(FULL_TTL, ReplyKind.SYN_ACK, sent=1))
    assert judge(made, zones=ZONES).state is State.OPEN


#: Each family's ICMP and who speaks it at hop 6.
SPEAKERS = ((ICMP, address(6)), (ICMPV6, "fd09:0:0:5::2"))


@pytest.mark.parametrize(
    ("icmp", "state", "by", "protocol"),
    [
        (icmp, state, by, protocol)
        for protocol, by in SPEAKERS
        for icmp, (state, _) in protocol.states.items()
    ],
)
def test_state_by_icmp_code(
    icmp: tuple[int, int], state: State, by: str, protocol: Protocol
) -> None:
    """Each ICMP code says either policy or routing, as docs/verdicts.md lists them."""
    verdict = judge(refused(7, by, icmp), zones=ZONES)
    assert (verdict.state, verdict.blocked_by) == (state, by)
    assert f"{protocol.name} {icmp[0]}/{icmp[1]} (" in verdict.reason


def test_policy_and_routing_by_number() -> None:
    """The codes that say policy, and that say routing, are those of the design, family by family.

    No number is in both: ICMP's 3/0 is no network, ICMPv6's is an exceeded hop limit.
    """

    def numbers_of(protocol: Protocol, state: State) -> set[tuple[int, int]]:
        return {icmp for icmp, (meant, _) in protocol.states.items() if meant is state}

    rejected, unreachable = State.REJECTED, State.UNREACHABLE
    assert numbers_of(ICMP, rejected) == {(3, code) for code in (2, 3, 9, 10, 13)}
    assert numbers_of(ICMP, unreachable) == {(3, code) for code in (0, 1, 5, 6, 7, 8, 11, 12)}
    assert numbers_of(ICMPV6, rejected) == {(1, code) for code in (1, 4, 5, 6)}
    assert numbers_of(ICMPV6, unreachable) == {(1, code) for code in (0, 2, 3)}


@pytest.mark.parametrize(
    ("icmp", "by"),
    [
        ((3, 4), address(6)),  # fragmentation needed
        ((1, 1), address(6)),
        ((1, 7), "fd09:0:0:5::2"),  # error in source routing header
        ((2, 0), "fd09:0:0:5::2"),  # packet too big
        ((3, 1), "fd09:0:0:5::2"),  # fragment reassembly time exceeded
        ((3, 13), "fd09:0:0:5::2"),
    ],
)
def test_icmp_code_that_says_nothing_about_a_block(icmp: tuple[int, int], by: str) -> None:
    """Another code, or the code of the other family, blocks nothing: inconclusive."""
    verdict = judge(refused(7, by, icmp), zones=ZONES)
    assert (verdict.state, verdict.location) == (State.INCONCLUSIVE, Location.NONE)


def test_a_rejecter_that_answered_for_its_own_hop_stands_there() -> None:
    """Time-exceeded at TTL 6 and a rejection of TTL 7 by the same address: it is at hop 6."""
    verdict = judge(refused(7, address(6)), zones=ZONES)
    assert numbers(verdict) == (6, 6, (6, 6))
    assert (verdict.location, verdict.confidence) == (Location.EXTERNAL, Confidence.HIGH)


@pytest.mark.parametrize(("reply_ttl", "hop"), [(FULL_TTL - 5, 6), (FULL_TTL - 6, 7), (249, 7)])
def test_a_stranger_that_rejects_is_placed_by_its_reply_s_ttl(reply_ttl: int, hop: int) -> None:
    """A rejecter that never answered for itself is at t - 1 or t; its reply's TTL tells which."""
    verdict = judge(refused(7, "192.0.2.9", reply_ttl=reply_ttl, answering=5), zones=ZONES)
    assert numbers(verdict) == (hop, hop, (hop, hop))
    assert verdict.confidence is Confidence.MEDIUM


def test_a_reply_s_ttl_places_nobody_where_the_way_back_is_longer() -> None:
    """Where the router before it answers over more hops than lead there, both stay suspects."""
    made = refused(7, "192.0.2.9", reply_ttl=FULL_TTL - 6, answering=5)
    longer = tuple(coming_straight_back(hop, 1) if hop.ttl == 5 else hop for hop in made.hops)
    assert judge(replace(made, hops=longer), zones=ZONES).suspect_hops == (6, 7)


@pytest.mark.parametrize("reply_ttl", [None, 30])
def test_a_stranger_that_cannot_be_placed_leaves_two_suspects(reply_ttl: int | None) -> None:
    """Without a telling reply TTL both hops stay suspects, and confidence is medium."""
    verdict = judge(refused(7, "192.0.2.9", reply_ttl=reply_ttl, answering=5), zones=ZONES)
    assert numbers(verdict) == (6, 7, (6, 7))
    assert verdict.confidence is Confidence.MEDIUM


def test_the_destination_s_own_firewall() -> None:
    """A rejection by the destination's address from its distance is its own host firewall."""
    made = refused(DISTANCE, DESTINATION, (3, 13), FULL_TTL - DISTANCE + 1)
    verdict = judge(made, zones=ZONES)
    assert numbers(verdict) == (DISTANCE, DISTANCE, (DISTANCE, DISTANCE))
    assert (verdict.blocked_by, verdict.location) == (DESTINATION, Location.EXTERNAL)


def test_somebody_nearer_in_the_destination_s_name_has_no_location() -> None:
    """A rejection in the destination's name from a nearer device is never called external."""
    verdict = judge(refused(3, DESTINATION, reply_ttl=FULL_TTL - 1), zones=ZONES)
    assert verdict.state is State.REJECTED
    assert verdict.location is Location.UNKNOWN


def test_the_platform_s_own_rejection() -> None:
    """A rejection by an address of the platform is located inside it."""
    verdict = judge(refused(3, address(2)), zones=ZONES)
    assert verdict.location is Location.PLATFORM


def test_a_security_group_of_the_cell() -> None:
    """3/3 from 169.254.0.1 from TTL 2 on, which answered TTL 1 itself: the cell's own block."""
    gateway = "169.254.0.1"
    first = Hop(1, 1, (answer(1, 1, address=gateway),))
    error = answer(2, 1, kind=ReplyKind.UNREACHABLE, address=gateway, icmp=(3, 3))
    made = trace((first, Hop(2, 1, (error,))), StopReason.ICMP_ERROR, confirmation=NO_ANSWER)
    verdict = judge(made, zones=UNZONED)
    assert (verdict.state, verdict.location) == (State.REJECTED, Location.PLATFORM)
    assert (verdict.blocked_by, numbers(verdict)) == (gateway, (1, 1, (1, 1)))


def test_no_location_without_platform_networks() -> None:
    """Who rejects is known, on which side of the edge is not: unknown, never external."""
    assert judge(refused(7, address(6)), zones=UNZONED).location is Location.UNKNOWN


def test_the_platform_behind_an_outside_hop_forbids_external() -> None:
    """An outside address in front of a hop inside the platform is a hole in the settings."""
    only_third = ZoneMap([ip_network("10.9.2.0/24")])
    verdict = judge(refused(4, address(2)), zones=only_third)
    assert verdict.location is Location.UNKNOWN


def test_this_host_s_own_neighbour_does_not_answer() -> None:
    """Host unreachable from our own address says nothing of any hop, nor of the outside."""
    made = refused(1, SOURCE, (3, 1))
    verdict = judge(made, zones=ZONES)
    assert (verdict.state, verdict.location) == (State.UNREACHABLE, Location.UNKNOWN)
    assert numbers(verdict) == (0, 1, (1, 1))
    assert verdict.blocked_by is None


def test_this_host_s_own_firewall_rejects() -> None:
    """A policy error from our own address is this host's doing: an error, no block of a path."""
    verdict = judge(refused(1, SOURCE, (3, 3)), zones=ZONES)
    assert (verdict.state, verdict.location) == (State.ERROR, Location.NONE)
    assert "own firewall" in verdict.reason


def test_only_the_confirmation_was_rejected() -> None:
    """Who rejects a full-TTL SYN alone stands at the last hop that answered, or anywhere behind."""
    error = answer(FULL_TTL, 1, kind=ReplyKind.UNREACHABLE, address="192.0.2.9", icmp=(3, 13))
    error = error._replace(reply=error.reply._replace(ttl=None))
    made = replace(silent_after(5), confirmation=Hop(FULL_TTL, 1, (error,)))
    verdict = judge(made, zones=ZONES)
    assert verdict.state is State.REJECTED
    assert numbers(verdict) == (5, 6, (5, 30))


def test_a_router_that_rejects_the_confirmation_alone_blocks_where_it_stands() -> None:
    """It had no error left for lower TTLs: the hop is its own, not the confirmation's TTL."""
    error = answer(FULL_TTL, 1, kind=ReplyKind.UNREACHABLE, address=address(5), icmp=(3, 13))
    made = replace(silent_after(5), confirmation=Hop(FULL_TTL, 1, (error,)))
    assert numbers(judge(made, zones=ZONES)) == (5, 6, (5, 6))


def test_an_address_that_nobody_has_is_rejected_too() -> None:
    """Who says the same of a canary rejects more than this target, and it is told."""
    canary = refused(7, address(6))
    flow = canary.flow._replace(destination=CANARIES[0])
    controlled = Controlled(canary=replace(canary, flow=flow))
    verdict = judge(refused(7, address(6)), zones=ZONES, controlled=controlled)
    assert f"{CANARIES[0]}:443, which nobody has, is refused by it, too" in verdict.evidence


# -- silence ---------------------------------------------------------------------------


def test_silence_past_a_hop_outside() -> None:
    """Silence past an outside hop: filtered, and external, for whoever drops is there or beyond."""
    verdict = judge(silent_after(6), zones=ZONES)
    assert (verdict.state, verdict.location) == (State.FILTERED, Location.EXTERNAL)
    assert numbers(verdict) == (6, 7, (6, 30))
    assert verdict.confidence is Confidence.MEDIUM
    assert "at hop 6 or behind it" in verdict.reason


def test_silence_past_the_platform_s_last_known_hop_has_no_location() -> None:
    """What stands behind the platform's hop never answered: unknown, not external."""
    assert judge(silent_after(2), zones=ZONES).location is Location.UNKNOWN


def test_the_last_good_trace_narrows_and_places_the_suspects() -> None:
    """A hop that answered in the last good trace ends the range and shows its zone."""
    good = arrived(ReplyKind.SYN_ACK)
    inside = judge(silent_after(1), zones=ZONES, last_good=good)
    edge = judge(silent_after(2), zones=ZONES, last_good=good)
    outside = judge(silent_after(6), zones=ZONES, last_good=good)
    assert [v.location for v in (inside, edge, outside)] == [
        Location.PLATFORM,
        Location.BOUNDARY,
        Location.EXTERNAL,
    ]
    assert {v.confidence for v in (inside, edge, outside)} == {Confidence.MEDIUM}


def test_a_silent_router_in_the_last_good_trace_widens_the_range() -> None:
    """The range ends where the last good trace saw the next answer, not at the next TTL."""
    good = arrived(ReplyKind.SYN_ACK)
    hops = tuple(replace(hop, answers=()) if hop.ttl in {7, 8} else hop for hop in good.hops)
    verdict = judge(silent_after(6), zones=ZONES, last_good=replace(good, hops=hops))
    assert verdict.suspect_hops == (6, 9)


def test_a_last_good_trace_over_another_path_proves_nothing() -> None:
    """Other routers on the way: the last good trace is not used."""
    good = arrived(ReplyKind.SYN_ACK)
    elsewhere = Hop(2, 1, (answer(2, 1, address="192.0.2.2"),))
    hops = (good.hops[0], elsewhere, *good.hops[2:])
    verdict = judge(silent_after(2), zones=ZONES, last_good=replace(good, hops=hops))
    assert (verdict.suspect_hops, verdict.location) == ((2, 30), Location.UNKNOWN)


def test_platform_hops_behind_the_silence_forbid_external() -> None:
    """When the last good trace shows the platform again behind the suspects, it is not outside."""
    zones = ZoneMap([ip_network("10.9.7.0/24")])
    verdict = judge(silent_after(6), zones=zones, last_good=arrived(ReplyKind.SYN_ACK))
    assert verdict.location is Location.UNKNOWN


def test_loss_on_the_way_lowers_confidence_in_silence() -> None:
    """Where answering hops lost many probes, the silence may begin farther than it seems."""
    made = silent_after(6)
    lossy = tuple(replace(h, answers=h.answers[:2]) for h in made.hops)
    made = replace(made, hops=lossy, confirmation=Hop(FULL_TTL, 16))
    verdict = judge(made, zones=ZONES)
    assert (verdict.state, verdict.confidence) == (State.FILTERED, Confidence.LOW)


def test_loss_that_may_have_taken_every_confirmation_is_no_filter() -> None:
    """Three unanswered SYNs over a path that loses every second probe prove nothing."""
    made = silent_after(6)
    lossy = tuple(replace(h, answers=h.answers[: 1 + h.ttl % 2]) for h in made.hops)
    verdict = judge(replace(made, hops=lossy), zones=ZONES)
    assert (verdict.state, verdict.location) == (State.INCONCLUSIVE, Location.NONE)
    assert "loses 50% of the probes" in verdict.reason


def test_one_rate_limited_answer_is_no_loss() -> None:
    """A single unanswered attempt of many leaves the confidence as it is."""
    made = silent_after(6)
    one_less = tuple(replace(h, answers=h.answers[:2]) if h.ttl == 6 else h for h in made.hops)
    verdict = judge(replace(made, hops=one_less), zones=ZONES)
    assert verdict.confidence is Confidence.MEDIUM


def test_silence_from_the_first_hop_on_is_inconclusive() -> None:
    """When nothing at all answers, no device is accused."""
    verdict = judge(silent_after(0), zones=ZONES)
    assert (verdict.state, verdict.location) == (State.INCONCLUSIVE, Location.NONE)
    assert numbers(verdict) == (0, 0, None)


def test_routers_without_end_are_inconclusive() -> None:
    """Answers up to the hop limit, from ever new routers: the path is too long."""
    made = trace(routers(30), StopReason.HOP_LIMIT, confirmation=NO_ANSWER)
    assert judge(made, zones=ZONES).state is State.INCONCLUSIVE


# -- what the host could not do --------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "state"),
    [(FailureReason.RESOLVE, State.UNRESOLVED)]
    + [(reason, State.ERROR) for reason in FailureReason if reason is not FailureReason.RESOLVE],
)
def test_failures_are_never_blocks(reason: FailureReason, state: State) -> None:
    """What this host could not do is `unresolved` or `error`, with every gauge of a block 0."""
    verdict = judge(None, zones=ZONES, failure=Failure(reason, "it could not be done"))
    assert (verdict.state, verdict.location) == (state, Location.NONE)
    assert numbers(verdict) == (0, 0, None)
    assert "it could not be done" in verdict.reason


def test_a_trace_that_could_not_be_sent_is_an_error() -> None:
    """A host that stops sending in mid-trace blocks nothing on the path."""
    failure = Failure(FailureReason.NO_ROUTE, "the interface is down")
    made = replace(silent_after(3), stop_reason=StopReason.SEND_FAILED, failure=failure)
    assert judge(made, zones=ZONES).state is State.ERROR


def test_a_trace_that_ran_out_of_time_is_an_error() -> None:
    """Silence that was not waited for is no silence."""
    made = replace(silent_after(3), stop_reason=StopReason.DEADLINE)
    assert judge(made, zones=ZONES).state is State.ERROR


# -- the application's own view --------------------------------------------------------


@pytest.mark.parametrize(
    "made",
    [silent_after(6), refused(7, address(6)), arrived(ReplyKind.RST)],
    ids=("filtered", "rejected", "closed"),
)
def test_a_connection_that_succeeds_contradicts_a_block(made: Trace) -> None:
    """A plain connect() that succeeded beside a block makes the verdict inconclusive."""
    verdict = judge(made, zones=ZONES, handshake=CONNECTED)
    assert (verdict.state, verdict.location) == (State.INCONCLUSIVE, Location.NONE)
    assert verdict.evidence[-1].startswith("the trace alone would say")


def test_a_failing_connection_lowers_confidence_in_open() -> None:
    """SYN-ACKs for the trace but none for connect(): open, with medium confidence."""
    verdict = judge(arrived(ReplyKind.SYN_ACK), zones=ZONES, handshake=REFUSED)
    assert (verdict.state, verdict.confidence) == (State.OPEN, Confidence.MEDIUM)
    assert any("Connection refused" in fact for fact in verdict.evidence)


# -- words -----------------------------------------------------------------------------


def test_evidence_counts_what_was_sent_and_answered() -> None:
    """The first facts are the numbers of SYNs and answers, confirmation included."""
    evidence = judge(silent_after(6), zones=ZONES).evidence
    assert "90 SYNs" in evidence[0]
    assert "18 answered" in evidence[0]
    assert "3 SYNs with TTL 64, 0 answered" in evidence[1]


@pytest.mark.parametrize(
    ("reply_ttl", "hop"), [(64, 1), (53, 12), (65, 64), (128, 1), (255, 1), (244, 12), (None, None)]
)
def test_reply_distance(reply_ttl: int | None, hop: int | None) -> None:
    """A reply's TTL tells its sender's hop from the nearest customary initial value."""
    assert reply_distance(reply_ttl) == hop


@pytest.mark.parametrize(
    ("gateway", "state"),
    [("", State.UNREACHABLE), ("10.9.0.2", State.INCONCLUSIVE), (None, State.INCONCLUSIVE)],
    ids=["on link", "behind a gateway", "not told"],
)
def test_a_dead_neighbour_that_only_the_connect_was_told_of(
    gateway: str | None, state: State
) -> None:
    """Nobody but this host can say "no route to host" of its own network, however late."""
    made = trace(silence(1, 30), StopReason.SILENCE, confirmation=Hop(FULL_TTL, 3))
    told = Handshake(success=False, duration=3.06, error="No route to host")
    verdict = judge(replace(made, gateway=gateway), zones=ZoneMap(()), handshake=told)
    assert verdict.state is state
    assert verdict.location in {Location.UNKNOWN, Location.NONE}

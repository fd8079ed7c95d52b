"""Verdicts where hop numbers may mean nothing: no block is placed by them, no distance is shown.

Traces as they were measured behind user-mode networks: slirp4netns answers in the destination's
name with a TTL of 64 and says 3/0 and 3/1 in its gateway's with 255, passt answers with 255.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

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
    Surroundings,
    Trace,
    Verdict,
)
from exporter.surroundings import IGNORES_TTLS, UNDELIVERED
from tests.unit.samples import DESTINATION, DISTANCE, SOURCE, end, routers, silence, trace

GATEWAY = "10.0.2.2"
ZONES = ZoneMap([ip_network("10.0.2.0/24")])
CONNECTED = Handshake(success=True, duration=0.01)
REFUSED = Handshake(success=False, duration=0.01, error="Connection refused")
UNANSWERED = Handshake(success=False, duration=3.2, error="no answer within 3.2 s")
IGNORED = Surroundings(ignores_ttls=True, untraceable=IGNORES_TTLS)
NOT_DELIVERED = Surroundings(untraceable=UNDELIVERED)
ROUTERS_ANSWER = Surroundings(routers_answer=True)
NOTHING_KNOWN = Surroundings()


def at_once(kind: ReplyKind, gateway: str | None = GATEWAY) -> Trace:
    """The destination answers at TTL 1."""
    return replace(trace([end(1, kind)], StopReason.DESTINATION), gateway=gateway)


def refused_at_once(
    icmp: tuple[int, int],
    by: str = GATEWAY,
    reply_ttl: int = 255,
    gateway: str | None = GATEWAY,
    first_seen: int = 1,
) -> Trace:
    """An ICMP error answers the lowest TTL that is answered at all."""
    errors = tuple(
        answer._replace(reply=answer.reply._replace(ttl=reply_ttl))
        for answer in end(first_seen, ReplyKind.UNREACHABLE, by=by, icmp=icmp, sent=1).answers
    )
    hops = (*silence(1, first_seen - 1), Hop(first_seen, 1, errors))
    return replace(trace(hops, StopReason.ICMP_ERROR), gateway=gateway)


def unanswered() -> Trace:
    """Nothing answers at all."""
    silent = trace(silence(1, 30), StopReason.SILENCE, confirmation=Hop(FULL_TTL, 3))
    return replace(silent, gateway=GATEWAY)


def shows_no_hop(verdict: Verdict) -> bool:
    """Whether a verdict places nothing anywhere."""
    numbers = (verdict.last_reachable_hop, verdict.blocked_at_hop, verdict.suspect_hops)
    placed = (verdict.blocked_by, verdict.location)
    return numbers == (0, 0, None) and placed == (None, Location.NONE)


# -- the destination answers -----------------------------------------------------------


@pytest.mark.parametrize("surroundings", [NOTHING_KNOWN, IGNORED, NOT_DELIVERED])
def test_an_answer_at_ttl_1_through_a_gateway_is_no_distance(surroundings: Surroundings) -> None:
    """It is open with medium confidence, and no hop is shown as the destination's."""
    verdict = judge(
        at_once(ReplyKind.SYN_ACK), zones=ZONES, handshake=CONNECTED, surroundings=surroundings
    )
    assert (verdict.state, verdict.confidence) == (State.OPEN, Confidence.MEDIUM)
    assert shows_no_hop(verdict)
    assert "at hop" not in verdict.reason
    assert any(f"although the gateway {GATEWAY} leads there" in fact for fact in verdict.evidence)


def test_an_rst_at_ttl_1_through_a_gateway_may_stand_for_any_failure() -> None:
    """It is closed with low confidence, for a user-mode network makes an RST of a rejection."""
    verdict = judge(at_once(ReplyKind.RST), zones=ZONES, handshake=REFUSED)
    assert (verdict.state, verdict.confidence) == (State.CLOSED, Confidence.LOW)
    assert shows_no_hop(verdict)
    assert "in its name" in verdict.reason


@pytest.mark.parametrize("kind", [ReplyKind.SYN_ACK, ReplyKind.RST])
def test_an_answer_at_ttl_1_that_connect_contradicts(kind: ReplyKind) -> None:
    """Slirp may accept and passt refuse what they cannot connect: connect() must agree."""
    verdict = judge(at_once(kind), zones=ZONES, handshake=UNANSWERED)
    assert verdict.state is State.INCONCLUSIVE
    assert "no answer within 3.2 s" in verdict.reason
    assert shows_no_hop(verdict)


@pytest.mark.parametrize(
    ("gateway", "surroundings"),
    [("", NOTHING_KNOWN), ("", IGNORED), (None, NOTHING_KNOWN), (GATEWAY, ROUTERS_ANSWER)],
)
def test_an_answer_at_ttl_1_that_nothing_speaks_against(
    gateway: str | None, surroundings: Surroundings
) -> None:
    """On the host's own network, or where routers count TTLs, hop 1 is the distance."""
    made = at_once(ReplyKind.SYN_ACK, gateway)
    verdict = judge(made, zones=ZONES, surroundings=surroundings)
    assert (verdict.last_reachable_hop, verdict.state) == (1, State.OPEN)


def test_where_ttls_are_ignored_no_distance_counts() -> None:
    """A destination whose first probes were lost answers at a higher TTL, which means nothing."""
    made = trace([*silence(1, 2), end(3, ReplyKind.SYN_ACK)], StopReason.DESTINATION)
    verdict = judge(made, zones=ZONES, surroundings=IGNORED)
    assert (verdict.last_reachable_hop, verdict.state) == (0, State.OPEN)


def test_where_time_exceeded_is_not_delivered_the_distance_counts() -> None:
    """A destination that does not answer lower TTLs has its distance, silent routers or not."""
    hops = [*silence(1, DISTANCE - 1), end(DISTANCE, ReplyKind.SYN_ACK)]
    verdict = judge(trace(hops, StopReason.DESTINATION), zones=ZONES, surroundings=NOT_DELIVERED)
    assert verdict.last_reachable_hop == DISTANCE


def test_a_time_exceeded_in_the_trace_itself_outweighs_the_memory() -> None:
    """Where a router has answered this very trace, hops count again."""
    made = trace([*routers(3), end(4, ReplyKind.SYN_ACK)], StopReason.DESTINATION)
    verdict = judge(made, zones=ZONES, surroundings=IGNORED)
    assert verdict.last_reachable_hop == 4


# -- somebody says no ------------------------------------------------------------------


@pytest.mark.parametrize("icmp", [(3, 0), (3, 1)])
@pytest.mark.parametrize("surroundings", [NOTHING_KNOWN, IGNORED, NOT_DELIVERED])
def test_what_a_user_mode_network_says_is_no_block_at_hop_1(
    icmp: tuple[int, int], surroundings: Surroundings
) -> None:
    """A routing error for TTL 1 is inconclusive, and says what the application sees."""
    verdict = judge(
        refused_at_once(icmp), zones=ZONES, handshake=REFUSED, surroundings=surroundings
    )
    assert verdict.state is State.INCONCLUSIVE
    assert shows_no_hop(verdict)
    assert GATEWAY in verdict.reason
    assert "a plain connect() fails (Connection refused)" in verdict.reason


def test_a_first_hop_that_rejects_before_its_ttl_check() -> None:
    """An error that says policy, with the TTL of a neighbour, blocks at hop 1 as far as known."""
    verdict = judge(refused_at_once((3, 13)), zones=ZONES, handshake=REFUSED)
    assert (verdict.state, verdict.blocked_at_hop) == (State.REJECTED, 1)
    assert (verdict.location, verdict.confidence) == (Location.PLATFORM, Confidence.MEDIUM)


@pytest.mark.parametrize("surroundings", [IGNORED, NOT_DELIVERED])
def test_where_tracing_is_not_possible_nothing_is_rejected_at_hop_1(
    surroundings: Surroundings,
) -> None:
    """Not even an error that says policy is believed there."""
    verdict = judge(refused_at_once((3, 13)), zones=ZONES, surroundings=surroundings)
    assert verdict.state is State.INCONCLUSIVE
    assert shows_no_hop(verdict)
    assert "tracing is not possible here" in verdict.reason


def test_a_rejection_at_ttl_1_from_afar() -> None:
    """One whose own TTL tells of hops on its way back is not the first hop's."""
    verdict = judge(refused_at_once((3, 13), "198.51.100.7", reply_ttl=59), zones=ZONES)
    assert verdict.state is State.INCONCLUSIVE
    assert "198.51.100.7" in verdict.reason


@pytest.mark.parametrize("icmp", [(3, 1), (3, 13)])
def test_routers_that_answer_elsewhere_make_hop_1_believable(icmp: tuple[int, int]) -> None:
    """Where other traces have seen time-exceeded, whatever answers TTL 1 is at hop 1."""
    verdict = judge(refused_at_once(icmp), zones=ZONES, surroundings=ROUTERS_ANSWER)
    assert (verdict.blocked_at_hop, verdict.confidence) == (1, Confidence.HIGH)


def test_a_destination_on_the_host_s_own_network_rejects() -> None:
    """No router stands before it, so nobody need have said time-exceeded."""
    made = refused_at_once((3, 13), DESTINATION, reply_ttl=64, gateway="")
    verdict = judge(made, zones=ZONES)
    assert (verdict.state, verdict.blocked_at_hop) == (State.REJECTED, 1)


def test_a_rejection_that_leaves_ttl_1_alone_has_a_hop() -> None:
    """What rejects from TTL 3 on, behind silence, counts TTLs."""
    made = refused_at_once((3, 13), reply_ttl=253, first_seen=3)
    assert judge(made, zones=ZONES, surroundings=NOT_DELIVERED).blocked_at_hop == 3
    assert judge(made, zones=ZONES, surroundings=IGNORED).state is State.INCONCLUSIVE


def test_a_lost_answer_to_ttl_1_makes_no_block_at_hop_1() -> None:
    """A routing error with a neighbour's TTL is as doubtful when only a later probe shows it."""
    made = refused_at_once((3, 1), first_seen=3)
    assert judge(made, zones=ZONES).state is State.INCONCLUSIVE


def test_the_host_s_own_word_needs_no_router() -> None:
    """A neighbour that does not answer to ARP is this host's own finding."""
    made = refused_at_once((3, 1), SOURCE, reply_ttl=64)
    verdict = judge(made, zones=ZONES, surroundings=IGNORED)
    assert (verdict.state, verdict.blocked_at_hop) == (State.UNREACHABLE, 1)


def test_a_connection_that_succeeds_contradicts_an_error_as_ever() -> None:
    """The contradiction is what is said, not the doubt."""
    verdict = judge(refused_at_once((3, 1)), zones=ZONES, handshake=CONNECTED)
    assert verdict.state is State.INCONCLUSIVE
    assert verdict.reason.startswith("A plain connection succeeded")


# -- nobody answers --------------------------------------------------------------------


def test_where_tracing_is_not_possible_a_plain_connect_is_open() -> None:
    """The connect() alone makes a target open there, at no distance."""
    verdict = judge(unanswered(), zones=ZONES, handshake=CONNECTED, surroundings=NOT_DELIVERED)
    assert (verdict.state, verdict.confidence) == (State.OPEN, Confidence.MEDIUM)
    assert shows_no_hop(verdict)


def test_silence_where_tracing_is_not_possible() -> None:
    """What connect() says and why no more is known, and no block."""
    verdict = judge(unanswered(), zones=ZONES, handshake=REFUSED, surroundings=NOT_DELIVERED)
    assert verdict.state is State.INCONCLUSIVE
    assert "Connection refused" in verdict.reason
    assert UNDELIVERED in verdict.reason


def test_silence_that_a_plain_connect_contradicts() -> None:
    """Before anything is known of the network it is inconclusive, and says that connect works."""
    verdict = judge(unanswered(), zones=ZONES, handshake=CONNECTED)
    assert verdict.state is State.INCONCLUSIVE
    assert verdict.reason.startswith("A plain connection to")


@pytest.mark.parametrize("handshake", [None, REFUSED])
def test_silence_before_anything_is_known(handshake: Handshake | None) -> None:
    """Without a success and without a memory the two explanations stand side by side."""
    verdict = judge(unanswered(), zones=ZONES, handshake=handshake)
    assert "either all of it is dropped near here, or" in verdict.reason


# -- errors that the engine did not see ------------------------------------------------


def half_blind(last: int) -> Trace:
    """A trace that goes silent while the kernel keeps errors back."""
    hops = (*routers(last), *silence(last + 1, 30))
    made = trace(hops, StopReason.SILENCE, confirmation=Hop(FULL_TTL, 3))
    return replace(made, engine="connect", unseen_errors=7)


def test_unseen_errors_make_a_filter_doubtful() -> None:
    """Confidence is low, the range has no end that counts, and the remedy is named."""
    good = trace([*routers(DISTANCE - 1), end(DISTANCE, ReplyKind.SYN_ACK)], StopReason.DESTINATION)
    verdict = judge(half_blind(3), zones=ZONES, last_good=good)
    assert (verdict.state, verdict.confidence) == (State.FILTERED, Confidence.LOW)
    assert "at hop 3 or behind it" in verdict.reason
    assert "CAP_NET_RAW" in verdict.reason
    assert any("kept 7 ICMP errors from this engine" in fact for fact in verdict.evidence)


def test_unseen_errors_never_make_an_edge_known() -> None:
    """A good trace's next hop is no bound, so a silence that begins inside has no location."""
    inside = ZoneMap([ip_network("10.9.0.0/22")])
    good = trace([*routers(DISTANCE - 1), end(DISTANCE, ReplyKind.SYN_ACK)], StopReason.DESTINATION)
    sighted = replace(half_blind(4), unseen_errors=0)
    assert judge(sighted, zones=inside, last_good=good).location is Location.BOUNDARY
    assert judge(half_blind(4), zones=inside, last_good=good).location is Location.UNKNOWN


def test_unseen_errors_explain_a_silence_from_the_first_hop_on() -> None:
    """Where a rewriter is the first hop, the reason says what the engine cannot read."""
    verdict = judge(replace(unanswered(), unseen_errors=30), zones=ZONES)
    assert verdict.state is State.INCONCLUSIVE
    assert "cannot read" in verdict.reason

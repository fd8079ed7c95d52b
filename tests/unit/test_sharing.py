"""Hops that a trace has spared: who stands there is shown, and nothing is proven by it.

The path is that of tests/unit/samples: twelve devices, the first two inside the platform.
"""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_network

from exporter.controls.elsewhere import elsewhere
from exporter.diagnosis.verdict import judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import (
    FULL_TTL,
    Condition,
    Confidence,
    Controlled,
    Handshake,
    Hop,
    Location,
    ReplyKind,
    Source,
    State,
    StopReason,
    Surroundings,
    Trace,
    Verdict,
)
from exporter.publish.change import change_object, change_words
from exporter.publish.controls import branches_of
from exporter.publish.lines import render_trace
from exporter.publish.objects import observation_object
from exporter.publish.readings import Reading, hop_info
from exporter.state.coding import decoded, encoded
from exporter.state.kept import keep
from exporter.surroundings import Memory
from tests.unit import samples
from tests.unit.samples import (
    DESTINATION,
    DISTANCE,
    address,
    answer,
    end,
    router,
    routers,
    silence,
    spared,
    trace,
)

SPARING = samples.sparing()
INSIDE = ZoneMap([ip_network("10.9.0.0/24"), ip_network("10.9.1.0/24")])
HEARD = Surroundings(routers_answer=True)
ACCEPTED = end(DISTANCE, ReplyKind.SYN_ACK)


def judged(made: Trace, **beside: object) -> Verdict:
    """The verdict where routers are known to answer, with two hops inside the platform."""
    return judge(made, zones=INSIDE, surroundings=HEARD, **beside)  # type: ignore[arg-type]


# -- shown -------------------------------------------------------------------------------


def test_a_spared_hop_reads_as_shared() -> None:
    """A line shows own probes without an answer, then what others got, then the word."""
    lines = render_trace(SPARING).split("\n")
    assert lines[2] == " 2  10.9.1.2 [platform]  2.010 ms  shared"
    assert lines[3] == " 3  * 10.9.2.2 [external]  3.010 ms  shared"
    assert lines[4] == " 4  not asked"


def test_two_routers_that_answered_others_have_a_line_each() -> None:
    """A load balancer's branches are kept apart, as those that answer the trace itself are."""
    both = replace(spared(2), shared=(answer(2, 1), answer(2, 2, address="10.9.1.6")))
    made = replace(SPARING, trace=trace((router(1), both, ACCEPTED), StopReason.DESTINATION))
    assert render_trace(made).split("\n")[2:4] == [
        " 2  10.9.1.2 [platform]  2.010 ms  shared",
        "    10.9.1.6  2.020 ms  shared",
    ]


def test_spared_hops_behind_the_last_answer_are_no_silence() -> None:
    """Only hops that were asked for nothing are summed up as silent."""
    hops = (router(1), spared(2), Hop(3, 0), *silence(4, 5))
    made = replace(SPARING, trace=trace(hops, StopReason.SILENCE))
    assert render_trace(made).split("\n")[2:5] == [
        " 2  10.9.1.2 [platform]  2.010 ms  shared",
        " 3  not asked",
        " 4-5  * * *  no answer",
    ]


def test_a_spared_hop_in_json() -> None:
    """Its own counts stay those of the trace; responders are those that answered others."""
    second, third, fourth = observation_object(SPARING)["hops"][1:4]  # type: ignore[index]
    assert (second["sent"], second["received"], second["shared"]) == (0, 0, True)
    assert [one["address"] for one in second["responders"]] == [address(2)]
    assert (third["sent"], third["condition"]) == (1, Condition.SHARED)
    assert fourth == {
        "hop": 4,
        "sent": 0,
        "received": 0,
        "shared": False,
        "responders": [],
        "condition": None,
    }


def test_the_address_of_a_spared_hop_is_a_label() -> None:
    """`egress_hop_info` names who stands there; a hop that nobody knows has no series."""
    record = samples.store(SPARING).get("sparing")
    assert record is not None
    assert SPARING.trace is not None
    found = [labels[:2] for labels, _ in hop_info(Reading(record, SPARING, SPARING.trace.path))]
    known = [ttl for ttl in range(1, DISTANCE) if ttl != 4]
    assert found == [*((str(ttl), address(ttl)) for ttl in known), (str(DISTANCE), DESTINATION)]


def test_probes_and_replies_are_counted_as_own() -> None:
    """What others got is counted with them."""
    record = samples.store(SPARING).get("sparing")
    assert record is not None
    assert [record.hop_probes[ttl] for ttl in (1, 2, 3, 4)] == [3, 0, 1, 0]
    assert [record.hop_replies[ttl] for ttl in (1, 2, 3, 4)] == [3, 0, 0, 0]


def test_the_places_of_shared_responders() -> None:
    """They have a zone, at the hop where they stand."""
    assert SPARING.trace is not None
    places = INSIDE.places_of(SPARING.trace)
    assert {places[address(ttl)].zone_name for ttl in (1, 2)} == {"platform"}
    assert places[address(3)].zone_name == "external"


def test_the_way_before_a_block_is_drawn_with_spared_hops() -> None:
    """A change tells the routers of the good trace, those that answered others among them."""
    bad = replace(samples.filtered("sparing", port=443, last=2), started_at=samples.STARTED_AT + 60)
    store = samples.store(SPARING)
    store.add(bad)
    record = store.get("sparing")
    assert record is not None
    assert f"via ... {address(2)}, {address(3)}, {address(5)}" in change_words(record)
    told = change_object(record)
    assert told is not None
    path = told["last_good_path"]
    assert isinstance(path, list)
    assert [hop["hop"] for hop in path[:4]] == [1, 2, 3, 5]


def test_the_same_way_is_told_by_own_answers() -> None:
    """That a spared hop has the router of before does not show that the way is the same."""
    hops = (spared(1), spared(2), router(3), ACCEPTED)
    good = replace(SPARING, trace=trace(hops, StopReason.DESTINATION))
    store = samples.store(good)
    bad = samples.filtered("sparing", port=443, last=2)
    store.add(replace(bad, started_at=samples.STARTED_AT + 60))
    record = store.get("sparing")
    assert record is not None
    assert "the way is the same" not in change_words(record)


def test_spared_hops_are_no_branch() -> None:
    """Flows that end differently are laid side by side where both were asked."""
    made = samples.balanced()
    assert made.trace is not None
    bare = replace(made, trace=replace(made.trace, hops=(spared(1, sent=1), *made.trace.hops[1:])))
    branches = branches_of(bare)
    assert branches is not None
    assert 1 not in dict(branches.rows)


def test_the_state_file_leaves_out_what_others_got() -> None:
    """After a restart a spared hop is one that was not asked."""
    record = samples.store(SPARING).get("sparing")
    assert record is not None
    good = decoded(json.loads(json.dumps(encoded(keep(record), 1)))).last_good
    assert good is not None
    assert good.trace is not None
    assert good.trace.hops[1:4] == (Hop(2, 0), Hop(3, 0), Hop(4, 0))


# -- judged ------------------------------------------------------------------------------


def test_an_open_path_stays_open() -> None:
    """The hop before the destination was asked, so its distance is known."""
    assert SPARING.trace is not None
    verdict = judged(SPARING.trace)
    assert (verdict.state, verdict.last_reachable_hop) == (State.OPEN, DISTANCE)


def test_facts_name_the_hops_that_were_asked() -> None:
    """No probe is claimed that was not sent."""
    assert SPARING.trace is not None
    sent, left_out = judged(SPARING.trace).evidence[:2]
    assert sent.endswith("with TTL 1, 3 and 5 to 12, 27 answered")
    assert left_out == "not asked, to spare the ICMP errors of shared routers: TTL 2 and 4"


def test_no_distance_is_claimed_that_was_not_asked_for() -> None:
    """A destination whose nearer hops were spared may answer nearer, too."""
    hops = (*map(spared, range(1, DISTANCE)), ACCEPTED)
    verdict = judged(trace(hops, StopReason.DESTINATION))
    assert (verdict.state, verdict.last_reachable_hop) == (State.OPEN, 0)
    assert verdict.confidence is Confidence.LOW
    assert "how far away it is cannot be told" in verdict.reason


def test_a_reset_from_an_end_that_was_not_bracketed() -> None:
    """A firewall on the way may have sent it, and would have answered nearer."""
    hops = (*map(spared, range(1, DISTANCE)), end(DISTANCE, ReplyKind.RST))
    verdict = judged(trace(hops, StopReason.DESTINATION))
    assert verdict.state is State.INCONCLUSIVE
    assert "the hop before it was not asked" in verdict.reason


def rejected_with(reply_ttl: int) -> Trace:
    """Hops 2 to 5 are spared, and the device at hop 5 rejects TTL 6."""
    refused = end(6, ReplyKind.UNREACHABLE, by=address(5), icmp=(3, 13))
    arrived = (one._replace(reply=one.reply._replace(ttl=reply_ttl)) for one in refused.answers)
    hops = (router(1), *map(spared, range(2, 6)), replace(refused, answers=tuple(arrived)))
    return trace(hops, StopReason.ICMP_ERROR)


def test_a_rejecter_behind_spared_hops_may_be_at_any_of_them() -> None:
    """That others have met it at one of them does not place it."""
    verdict = judged(rejected_with(reply_ttl=61))
    assert (verdict.state, verdict.suspect_hops) == (State.REJECTED, (1, 6))
    assert verdict.confidence is Confidence.MEDIUM


def test_a_rejecter_is_placed_by_its_reply_where_others_have_met_it() -> None:
    """The reply's own TTL and what others were told name the same hop."""
    verdict = judged(rejected_with(reply_ttl=60))
    assert (verdict.suspect_hops, verdict.last_reachable_hop) == ((5, 5), 5)
    assert verdict.confidence is Confidence.MEDIUM


def test_a_hop_inside_that_others_know_speaks_against_outside() -> None:
    """Where the way comes back inside, a rejecter before that is nowhere for sure."""
    refusal = end(4, ReplyKind.UNREACHABLE, by="192.0.2.9", icmp=(3, 13))
    hops = (router(1), spared(2, by="10.9.1.2"), spared(3, by="10.9.0.9"), refusal)
    assert judged(trace(hops, StopReason.ICMP_ERROR)).location is Location.UNKNOWN


def test_silence_behind_spared_hops_is_less_sure() -> None:
    """The device that drops may stand at a hop that was not asked."""
    full = Hop(FULL_TTL, 3)
    asked = trace((*routers(3), *silence(4, 30)), StopReason.SILENCE, confirmation=full)
    hops = (*routers(3), spared(4), *silence(5, 30))
    left = trace(hops, StopReason.SILENCE, confirmation=full)
    assert judged(asked).confidence is Confidence.MEDIUM
    verdict = judged(left)
    assert (verdict.state, verdict.last_reachable_hop) == (State.FILTERED, 3)
    assert verdict.confidence is Confidence.LOW


def test_nobody_was_asked_nearby() -> None:
    """Without any answer, spared first hops are not said to be silent, whoever else passes."""
    hops = (spared(1), spared(2), *silence(3, 30))
    made = trace(hops, StopReason.SILENCE, confirmation=Hop(FULL_TTL, 3))
    accepted = samples.sounding(end(FULL_TTL, ReplyKind.SYN_ACK, sent=1))
    port = replace(accepted, flow=made.flow._replace(destination_port=80))
    verdict = judged(made, controlled=Controlled(ports=(port,)))
    assert (verdict.state, verdict.last_reachable_hop) == (State.INCONCLUSIVE, 0)
    assert "left out" in verdict.reason
    assert "first hop," not in verdict.reason


def test_a_witness_that_spared_the_last_hop_is_none() -> None:
    """That it went the same way takes an answer of its own at the last hop that answers here."""
    full = Hop(FULL_TTL, 3)
    bad = trace((*routers(3), *silence(4, 30)), StopReason.SILENCE, confirmation=full)
    path = (*routers(DISTANCE - 1), ACCEPTED)
    good = trace(path, StopReason.DESTINATION)
    shared = replace(good, hops=(*path[:2], spared(3), *path[3:]))
    assert judged(bad, last_good=good).suspect_hops == (3, 4)
    assert judged(bad, last_good=shared).suspect_hops == (3, 30)


def test_a_witness_that_others_saw_elsewhere_is_none() -> None:
    """Where a spared hop is known to be another one than here, the ways are not the same."""
    full = Hop(FULL_TTL, 3)
    bad = trace((*routers(3), *silence(4, 30)), StopReason.SILENCE, confirmation=full)
    path = (router(1), spared(2, by="10.9.1.6"), *routers(DISTANCE - 1)[2:], ACCEPTED)
    good = trace(path, StopReason.DESTINATION)
    assert judged(bad, last_good=good).suspect_hops == (3, 30)


def test_connections_alone_are_not_said_to_pass_where_a_witness_spared_a_hop() -> None:
    """Who stands between the last answer and the destination must have been asked."""
    full = Hop(FULL_TTL, 3)
    bad = trace((*routers(3), *silence(4, 30)), StopReason.SILENCE, confirmation=full)
    late = Handshake(success=True, duration=1.1)
    near = (*routers(3), Hop(4, 3), end(5, ReplyKind.SYN_ACK))
    good = trace(near, StopReason.DESTINATION)
    sparing = replace(good, hops=(*near[:3], spared(4), near[4]))
    assert judged(bad, last_good=good, handshake=late).state is State.OPEN
    assert judged(bad, last_good=sparing, handshake=late).state is State.INCONCLUSIVE


def test_a_security_group_is_named_where_all_hops_were_asked() -> None:
    """Who was not asked may stand behind the cell."""
    cell = "169.254.0.1"
    here = Source(SPARING.address or "", "0", "5f2c7a0e", "10.0.16.7")
    refusal = end(4, ReplyKind.UNREACHABLE, by=cell, icmp=(3, 3))
    first = Hop(1, 3, tuple(answer(1, n, address=cell) for n in (1, 2, 3)))
    asked = trace((first, *silence(2, 3), refusal), StopReason.ICMP_ERROR)
    left = trace((first, spared(2), spared(3), refusal), StopReason.ICMP_ERROR)
    assert "security group" in judged(asked, source=here).reason
    assert "security group" not in judged(left, source=here).reason


def test_no_loop_is_seen_around_spared_hops() -> None:
    """Who stands at a spared hop may belong to no circle, or to one that begins there."""
    there = [Hop(ttl, 1, (answer(ttl, 1, address=f"10.9.9.{ttl % 2}"),)) for ttl in range(3, 31)]
    expired = Hop(FULL_TTL, 1, (answer(FULL_TTL, 1, address="10.9.9.0"),))
    whole = trace((*routers(2), *there), StopReason.HOP_LIMIT, confirmation=expired)
    inside = replace(whole, hops=(*routers(2), *there[:2], spared(5), *there[3:]))
    ahead = replace(whole, hops=(router(1), spared(2), *there))
    nearer = replace(whole, hops=(spared(1), router(2), *there))
    assert judged(whole).suspect_hops == judged(nearer).suspect_hops == (3, 4)
    assert judged(inside).state is judged(ahead).state is State.INCONCLUSIVE


# -- learnt ------------------------------------------------------------------------------


def test_a_sparing_trace_does_not_make_tracing_impossible() -> None:
    """Destinations that are reached while routers were left out say nothing of these."""
    memory = Memory()
    for number in range(4):
        made = trace((spared(1), Hop(2, 0), ACCEPTED), StopReason.DESTINATION)
        flow = made.flow._replace(destination=f"10.9.20.{number}")
        memory.learn(replace(made, flow=flow, gateway="10.9.0.2"), None, now=float(number))
    assert memory.untraceable(now=10.0) == ""


def test_shared_first_hops_show_that_targets_go_the_same_way_out() -> None:
    """The nearest hop that both know decides, whichever trace it answered."""
    made = samples.opened("other")
    assert made.trace is not None
    flow = made.trace.flow._replace(destination="10.9.12.2")
    hops = (spared(1), *made.trace.hops[1:])
    other = replace(made, trace=replace(made.trace, flow=flow, hops=hops))
    bad = samples.filtered().trace
    assert bad is not None
    assert elsewhere(samples.store(other), bad, samples.STARTED_AT) == (other.trace,)


def test_a_spared_last_hop_is_not_said_to_forward_nothing() -> None:
    """What is not known of another target's trace is not said of the hop."""
    bad = samples.filtered(last=3).trace
    assert bad is not None
    good = trace((*routers(2), spared(3), *routers(11)[3:], ACCEPTED), StopReason.DESTINATION)
    other = replace(good, flow=good.flow._replace(destination="10.9.12.2"))
    verdict = judged(bad, controlled=Controlled(elsewhere=(other,)))
    assert not any("other target" in fact for fact in verdict.evidence)

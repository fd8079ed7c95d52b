"""What was measured beside a trace: outcomes, flows side by side, and where all of it is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from exporter.model import (
    FULL_TTL,
    Condition,
    Controlled,
    Failure,
    FailureReason,
    Flow,
    Hop,
    Observation,
    ReplyKind,
    StopReason,
    Trace,
)
from exporter.publish.controls import (
    COLUMNS,
    MOST_CONTROLS,
    MOST_FLOWS,
    Outcome,
    branches_of,
    controls_of,
    outcome_of,
    probes_of,
    reply_ttl_of,
)
from exporter.publish.lines import ADDRESS_LENGTH, _branch_lines, _cell, control_lines, trace_lines
from exporter.publish.objects import logged_object, observation_object, to_json
from exporter.publish.pages import Pages
from exporter.publish.wanted import Wanted
from tests.unit import samples

SILENT = samples.sounding(Hop(FULL_TTL, 3))
REFUSED = samples.sounding(
    samples.end(FULL_TTL, ReplyKind.UNREACHABLE, by="10.9.5.2", icmp=(3, 13), sent=1)
)
STUCK = replace(
    SILENT,
    stop_reason=StopReason.SEND_FAILED,
    failure=Failure(FailureReason.INTERNAL, "no buffer space available"),
)


def answering(kind: ReplyKind) -> Trace:
    """A control that is answered so at its full TTL alone."""
    return samples.sounding(samples.end(FULL_TTL, kind, sent=1))


def beside(**controls: Any) -> Observation:
    """A filtered target with controls."""
    return replace(samples.filtered(), controlled=Controlled(**controls))


def lines(**controls: Any) -> list[str]:
    """What the text says of controls."""
    return list(control_lines(beside(**controls)))


def parsed(observation: Observation) -> Any:
    """The object as a script reads it."""
    return json.loads(to_json(observation_object(observation)))


# -- outcomes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trace", "outcome"),
    [
        (answering(ReplyKind.SYN_ACK), Outcome.REACHED),
        (answering(ReplyKind.RST), Outcome.REACHED),
        (answering(ReplyKind.ECHO_REPLY), Outcome.REACHED),
        (REFUSED, Outcome.REJECTED),
        (SILENT, Outcome.SILENT),
        (STUCK, Outcome.NOT_MEASURED),
        (samples.filtered().trace, Outcome.SILENT),
    ],
)
def test_what_became_of_a_control(trace: Trace, outcome: Outcome) -> None:
    """An answer in the destination's name, an ICMP error, or nothing; routers do not count."""
    assert outcome_of(trace) is outcome


def test_the_destination_outweighs_an_error() -> None:
    """Where both came, the destination was reached."""
    full = samples.end(FULL_TTL, ReplyKind.RST, sent=1)
    refused = samples.end(9, ReplyKind.UNREACHABLE, icmp=(3, 13), sent=1)
    assert outcome_of(samples.sounding(full, [refused])) is Outcome.REACHED


def test_probes_are_counted_with_those_of_full_ttl() -> None:
    """Hops that were not asked add nothing."""
    assert probes_of(samples.beside().ports[0]) == (8, 8)
    assert probes_of(SILENT) == (3, 0)
    assert probes_of(replace(SILENT, confirmation=None)) == (0, 0)


def test_the_reply_s_ttl_is_that_of_the_destination() -> None:
    """Routers' replies and unknown TTLs are passed over."""
    (unseen,) = samples.end(4, ReplyKind.RST, sent=1).answers
    unknown = Hop(4, 1, (unseen._replace(reply=unseen.reply._replace(ttl=None)),))
    full = samples.end(FULL_TTL, ReplyKind.RST, sent=1)
    assert reply_ttl_of(samples.sounding(full, [samples.router(3), unknown])) == 1
    assert reply_ttl_of(REFUSED) is None


# -- side by side ----------------------------------------------------------------------


def test_flows_that_end_differently_stand_side_by_side() -> None:
    """The traced one first, then those that end otherwise; rows where all agree are left out."""
    branches = branches_of(samples.balanced())
    assert branches
    assert [flow.flow.source_port for flow in branches.flows] == [33434, 37533, 45731]
    assert [ttl for ttl, _ in branches.rows] == list(range(7, 13))
    shown = list(_branch_lines(samples.balanced()))
    assert shown[1].split() == ["hop", "port", "33434", "port", "37533", "port", "45731"]
    assert shown[2].split() == ["7", "*", "10.9.6.6", "10.9.6.6"]
    assert shown[-1].split() == ["end", "silent", "reached", "reached"]


@pytest.mark.parametrize(
    "flows",
    [(), (SILENT, SILENT), (answering(ReplyKind.SYN_ACK),)],
    ids=["no flow", "all alike", "no hop to compare"],
)
def test_without_branches_nothing_stands_side_by_side(flows: tuple[Trace, ...]) -> None:
    """Where flows end alike, or no hop is known to differ, there is no table."""
    assert branches_of(beside(flows=flows)) is None


def test_without_a_trace_there_are_no_branches() -> None:
    """What failed to resolve has nothing to compare."""
    assert branches_of(samples.unresolved()) is None


def test_the_table_is_bounded() -> None:
    """No more than four columns, and an address takes no more than its longest."""
    flow = samples.beside().flows[0]
    seen = beside(flows=(flow,) * 9)
    branches = branches_of(seen)
    assert branches
    assert len(branches.flows) == COLUMNS
    hop = Hop(7, 1, (samples.answer(7, 1, address=samples.HOSTILE),))
    assert len(_cell(hop)) == ADDRESS_LENGTH
    assert _cell(hop).isprintable()


def test_a_hop_that_was_not_asked_is_a_dash() -> None:
    """It is not shown as silent."""
    assert [_cell(hop) for hop in (None, Hop(3, 1))] == ["-", "*"]


# -- lines -----------------------------------------------------------------------------


def test_each_control_has_a_line() -> None:
    """What was asked, what came back, from how far away."""
    assert list(control_lines(samples.balanced())) == [
        "port 443: SYN-ACK at hop 12",
        "port 80: !X administratively prohibited, ICMP 3/13, from 10.9.5.2",
        "ICMP echo: no answer to 3 probes",
        "198.51.100.1:5432: no answer to 3 probes, as it should be",
        "10.9.12.2:443: SYN-ACK at hop 12, over the same first hops",
        "3 further flows: 2 reached, 1 silent",
    ]


def test_an_answer_from_an_unknown_distance() -> None:
    """Where no hop was asked the line names none."""
    assert lines(echo=samples.sounding(samples.end(FULL_TTL, ReplyKind.ECHO_REPLY, sent=1))) == [
        "ICMP echo: echo reply"
    ]


def test_an_answered_canary_is_no_good_news() -> None:
    """Nobody has its address; a rejection of it is told without a judgement."""
    flow = Flow(samples.SOURCE, 1, "2001:db8::1", 443)
    seen = {
        trace: lines(canary=replace(trace, flow=flow))[0]
        for trace in (answering(ReplyKind.SYN_ACK), REFUSED, STUCK)
    }
    rejected = "!X administratively prohibited, ICMP 3/13, from 10.9.5.2"
    assert list(seen.values()) == [
        "[2001:db8::1]:443: SYN-ACK, though nobody has this address",
        f"[2001:db8::1]:443: {rejected}",
        "[2001:db8::1]:443: not measured, no buffer space available",
    ]


def test_one_flow_is_no_flows() -> None:
    """The count agrees with its noun."""
    assert lines(flows=(SILENT,)) == ["1 further flow: 1 silent"]


def test_what_is_published_is_bounded() -> None:
    """However many are configured, so many are shown."""
    many = Controlled(flows=(SILENT,) * 99, ports=(SILENT,) * 99)
    assert len(controls_of(many)) == MOST_CONTROLS
    made = parsed(replace(samples.filtered(), controlled=many))
    assert (len(made["flows"]), len(made["controls"])) == (MOST_FLOWS, MOST_CONTROLS)
    assert len(lines(flows=many.flows, ports=many.ports)) == MOST_CONTROLS + 1


def test_only_a_hop_that_is_not_what_it_seems_is_marked() -> None:
    """A limit on ICMP messages and a loss are told; that a hop answers or is silent, one sees."""
    conditions = dict(enumerate(Condition, start=1))
    marked = replace(samples.opened(), conditions=conditions)
    marks = [line.rpartition("[")[2] for line in trace_lines(marked) if line.endswith("]")]
    assert marks == ["rate-limited]", "lossy]"]


# -- objects ---------------------------------------------------------------------------

OUTCOME = {"source_port", "outcome", "reply", "distance", "reply_ttl", "sent", "received"}
FLOW = OUTCOME | {"hops", "confirmation"}
NAMED = {"control", "address", "port"}


def test_flows_and_controls_are_objects_with_the_same_keys() -> None:
    """A script finds each key in every one of them."""
    made = parsed(samples.balanced())
    assert [set(flow) for flow in made["flows"]] == [FLOW] * 3
    assert [set(control) for control in made["controls"]] == [NAMED | FLOW] * 5
    assert [control["control"] for control in made["controls"]] == [
        *("port", "port", "echo", "canary", "elsewhere")
    ]
    assert (made["verdict"]["flows"], made["verdict"]["flows_blocked"]) == (4, 2)


def test_a_control_tells_outcome_distance_and_the_hops_that_it_asked() -> None:
    """Those that were not asked are left out, and an echo has no ports."""
    port, refused, echo, _, elsewhere = parsed(samples.balanced())["controls"]
    assert (port["address"], port["port"], port["outcome"]) == (samples.DESTINATION, 443, "reached")
    assert (port["reply"], port["distance"], port["reply_ttl"]) == ("syn-ack", 12, 53)
    assert (port["sent"], port["received"]) == (8, 8)
    assert [hop["hop"] for hop in port["hops"]] == [6, 7, 8, 9, 10, 11, 12]
    assert port["confirmation"]["ttl"] == FULL_TTL
    assert [refused[key] for key in ("outcome", "reply", "distance")] == [
        *("rejected", "unreachable"),
        None,
    ]
    assert [echo[key] for key in ("outcome", "port", "source_port")] == ["silent", None, None]
    assert [elsewhere[key] for key in ("outcome", "hops", "confirmation")] == ["reached", [], None]


def test_each_hop_has_its_condition() -> None:
    """Null where none is known."""
    hops = parsed(samples.balanced())["hops"]
    assert [hop["condition"] for hop in hops[:5]] == [
        None,
        "rate-limited",
        "lossy",
        "answers",
        None,
    ]


def test_the_log_has_the_outcomes_without_the_hops() -> None:
    """It has less room than a page."""
    made: Any = logged_object(samples.balanced())
    assert [set(flow) for flow in made["flows"]] == [OUTCOME] * 3
    assert [set(control) for control in made["controls"]] == [NAMED | OUTCOME] * 5


# -- the page --------------------------------------------------------------------------


def test_the_page_lists_the_controls() -> None:
    """A short list stands under the trace, escaped; the flows' table is part of the trace."""
    store = samples.store(samples.balanced(), samples.hostile())
    page = Pages(store, "1.2.3").target("balanced", Wanted(), samples.STARTED_AT) or ""
    assert "<li>port 443: SYN-ACK at hop 12</li>" in page
    assert "flows by source port, where they differ:" in page
    index = "".join(Pages(store, "1.2.3").index(Wanted(), 1, samples.STARTED_AT))
    assert "<b>" not in index

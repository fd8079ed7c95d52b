"""Several flows: blocked on some paths, on all, on none, and those that cannot be judged.

The path is that of tests/unit/samples; a load balancer at hop 6 has a second branch.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from exporter.diagnosis.verdict import judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import (
    FULL_TTL,
    Confidence,
    Controlled,
    Failure,
    FailureReason,
    Handshake,
    Hop,
    ReplyKind,
    State,
    StopReason,
    Trace,
    Verdict,
)
from tests.unit.beside import (
    complete,
    from_port,
    over,
    passing,
    rejected,
    silent_after,
    unanswered,
)
from tests.unit.samples import address, answer, routers, trace

ZONES = ZoneMap([ip_network("10.9.0.0/24"), ip_network("10.9.1.0/24")])
CONNECTED = Handshake(success=True, duration=0.01)
REFUSED = Handshake(success=False, duration=0.01, error="Connection refused")
BRANCH = "10.9.6.6"


def silent_flow(source_port: int = 40002) -> Trace:
    """Another flow that nobody answers."""
    return unanswered(443, source_port)


def passing_flow(source_port: int = 40001) -> Trace:
    """Another flow that the destination accepts."""
    return from_port(passing(443, 6, ReplyKind.SYN_ACK), source_port)


def verdict_of(made: Trace, *flows: Trace, **given: Any) -> Verdict:
    """The verdict on a trace beside other flows."""
    return judge(made, zones=ZONES, controlled=Controlled(flows=flows), **given)


def counts(verdict: Verdict) -> tuple[int, int]:
    """Flows tried, and blocked."""
    return verdict.flows, verdict.flows_blocked


def test_blocked_on_one_of_four_paths() -> None:
    """State and hops are those of the blocked flow, and the sentence begins with the share."""
    flows = [passing_flow(40001 + n) for n in range(3)]
    verdict = verdict_of(silent_after(6), *flows)
    assert (verdict.state, counts(verdict)) == (State.FILTERED, (4, 1))
    assert verdict.reason.startswith("Blocked on 1 of 4 paths: Traffic to")
    assert verdict.blocked_at_hop == 7


def test_blocked_on_some_paths() -> None:
    """Each way of being blocked counts: silence, an ICMP error, a full TTL that expires."""
    full = Hop(FULL_TTL, 1, (answer(FULL_TTL, 1, address=address(9)),))
    expired = from_port(trace((), StopReason.HOP_LIMIT, confirmation=full), 40003)
    refusing = from_port(rejected(443, address(8)), 40004)
    verdict = verdict_of(silent_after(6), silent_flow(), expired, refusing, passing_flow())
    assert counts(verdict) == (5, 4)


@pytest.mark.parametrize("flows", [(), (silent_flow(),), (silent_flow(1), silent_flow(2))])
def test_all_flows_alike(flows: tuple[Trace, ...]) -> None:
    """Where none passes it is the same verdict as ever."""
    verdict = verdict_of(silent_after(6), *flows)
    assert counts(verdict) == (1 + len(flows), 1 + len(flows))
    assert verdict.reason.startswith("Traffic to")


def test_the_branch() -> None:
    """The hop at which the flows part is told, with who answers there on either branch."""
    verdict = verdict_of(over(silent_after(7), 7, BRANCH), passing_flow())
    wanted = (
        f"at hop 7 the blocked flow meets {BRANCH}, the one that passes meets {address(7)} (7.1)"
    )
    assert wanted in verdict.evidence
    assert verdict.suspect_hops == (7, 30), "the other branch shows nothing behind this one's hop"


def test_flows_that_part_where_nothing_answers() -> None:
    """A passing flow over the same hops ends the range where it goes on."""
    verdict = verdict_of(silent_after(6), passing_flow())
    assert verdict.suspect_hops == (6, 7)
    assert any("no hop is known" in fact for fact in verdict.evidence)


@pytest.mark.parametrize("handshake", [CONNECTED, REFUSED])
def test_a_plain_connection_over_another_path(handshake: Handshake) -> None:
    """Where other flows pass, a connect() that is answered contradicts nothing."""
    verdict = verdict_of(silent_after(6), passing_flow(), handshake=handshake)
    assert verdict.state is State.FILTERED
    alone = verdict_of(silent_after(6), silent_flow(), handshake=handshake)
    assert (alone.state, counts(alone)) == (State.INCONCLUSIVE, (2, 0))


def test_a_connection_that_is_refused_beside_a_silent_path() -> None:
    """Whether it took that path and met its rate limits is not known: never more than low."""
    verdict = verdict_of(silent_after(6), silent_flow(), passing_flow(), handshake=REFUSED)
    assert (verdict.state, verdict.confidence) == (State.FILTERED, Confidence.LOW)


def test_another_flow_is_rejected() -> None:
    """Rate limits hide an ICMP error from the trace, and another flow gets it: rejected, medium."""
    flow = from_port(rejected(443, address(6)), 40001)
    verdict = verdict_of(silent_after(6), silent_flow(), flow)
    # No quote is known here, so its answer to TTL 6 may be that of hop 7 behind a forwarder.
    assert (verdict.state, verdict.suspect_hops) == (State.REJECTED, (6, 7))
    assert (verdict.confidence, verdict.blocked_by) == (Confidence.MEDIUM, address(6))
    assert any("the flow from source port 40001, not the trace" in f for f in verdict.evidence)


def test_a_rejection_on_another_path() -> None:
    """Where a third flow passes the ways differ, and the silent one keeps its verdict."""
    flow = from_port(rejected(443, address(6)), 40001)
    verdict = verdict_of(silent_after(6), flow, passing_flow(40003))
    assert (verdict.state, verdict.flows_blocked) == (State.FILTERED, 2)


def test_a_rejection_where_no_router_is_heard() -> None:
    """A user-mode network says anything of anybody: without a time-exceeded it proves nothing."""
    verdict = verdict_of(silent_after(0), from_port(rejected(443, address(1)), 40001))
    assert verdict.state is State.INCONCLUSIVE


def test_loss_makes_no_flow_blocked() -> None:
    """Three SYNs of a flow over a path that loses a third of them prove nothing."""
    made = silent_after(6)
    lossy = tuple(replace(hop, answers=hop.answers[:2]) for hop in made.hops)
    made = replace(made, hops=lossy, confirmation=Hop(FULL_TTL, 16))
    verdict = verdict_of(made, silent_flow(), passing_flow())
    assert counts(verdict) == (2, 1)
    assert verdict.reason.startswith("Blocked on 1 of 2 paths (1 more not judged): ")


def test_rate_limits_are_no_loss() -> None:
    """First hops that answer one probe of three, on a path that answers, excuse no silent flow."""
    made = complete()
    limited = tuple(replace(h, answers=h.answers[:1]) if h.ttl <= 2 else h for h in made.hops)
    verdict = verdict_of(replace(made, hops=limited), silent_flow(), passing_flow())
    assert counts(verdict) == (3, 1)


def test_a_flow_that_could_not_be_sent() -> None:
    """What this host refused to send is not judged."""
    failure = Failure(FailureReason.INTERNAL, "no buffer space")
    failing = replace(silent_flow(), stop_reason=StopReason.SEND_FAILED, failure=failure)
    assert counts(verdict_of(silent_after(6), failing)) == (1, 1)


def test_an_open_target_with_a_blocked_flow() -> None:
    """The trace reached it and another flow did not: open, not surely, and it is said."""
    verdict = verdict_of(complete(), silent_flow(), passing_flow())
    assert (verdict.state, counts(verdict)) == (State.OPEN, (3, 1))
    assert verdict.confidence is Confidence.MEDIUM
    assert verdict.reason.startswith("Blocked on 1 of 3 paths; the others pass: ")
    assert any("source port 40002" in fact for fact in verdict.evidence)


def test_an_open_target() -> None:
    """All flows pass, and nothing more is said."""
    verdict = verdict_of(complete(), passing_flow())
    assert (verdict.state, counts(verdict)) == (State.OPEN, (2, 0))
    assert "paths" not in verdict.reason


def test_unknown_states_block_no_flow() -> None:
    """Where nothing is concluded no flow is called blocked."""
    made = trace(routers(30), StopReason.HOP_LIMIT, confirmation=Hop(FULL_TTL, 3))
    assert counts(verdict_of(made, silent_flow())) == (2, 0)
    assert counts(judge(None, zones=ZONES)) == (0, 0)

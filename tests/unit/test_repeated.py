"""A destination that answers connections only: open where nothing speaks for a block."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from exporter.diagnosis.verdict import judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import Confidence, Controlled, Handshake, State, Verdict
from tests.unit.beside import complete, from_port, passing, silent_after, unanswered
from tests.unit.samples import DISTANCE

ZONES = ZoneMap([ip_network("10.9.0.0/24")])
LATE = Handshake(success=True, duration=3.02)
SOON = Handshake(success=True, duration=0.02)
FLOWS = tuple(unanswered(443, source_port) for source_port in (40001, 40002, 40003))


def verdict_of(last: int = DISTANCE - 1, handshake: Handshake = LATE, **controls: Any) -> Verdict:
    """The verdict on a trace that is silent from a hop on, beside silent flows and an RST."""
    beside = Controlled(**{"flows": FLOWS, "ports": (passing(80, last),)} | controls)
    return judge(silent_after(last), zones=ZONES, handshake=handshake, controlled=beside)


def test_the_third_syn_only() -> None:
    """Silence that begins at the destination, and a connect() after 3 s: open, medium."""
    verdict = verdict_of()
    assert (verdict.state, verdict.confidence) == (State.OPEN, Confidence.MEDIUM)
    assert (verdict.last_reachable_hop, verdict.suspect_hops) == (DISTANCE, None)
    assert "only when it is repeated within one connection" in verdict.reason
    assert (verdict.flows, verdict.flows_blocked) == (4, 0)


def test_a_connection_at_once() -> None:
    """A connect() without a repetition tells of something that distrusts traces."""
    assert "does not look like an ordinary SYN" in verdict_of(handshake=SOON).reason


@pytest.mark.parametrize(
    "controls",
    [
        {"flows": (), "handshake": SOON},
        {"ports": ()},
        {"flows": (*FLOWS, from_port(passing(443, 11), 40004))},
    ],
    ids=("no other flow", "distance not known", "a flow passes"),
)
def test_what_may_be_a_block_on_some_paths(controls: dict[str, Any]) -> None:
    """Where one path may be blocked and another one not, nothing is called open."""
    assert verdict_of(**controls).state is not State.OPEN


def test_a_repetition_of_connect_itself() -> None:
    """One that took a repeated SYN needs no other flow beside it."""
    assert verdict_of(flows=()).state is State.OPEN


def test_silence_in_mid_path() -> None:
    """Where a router before the destination is missing, too, some paths may be blocked."""
    assert verdict_of(6).state is State.INCONCLUSIVE


def test_no_connection() -> None:
    """A connect() that fails leaves the verdict filtered."""
    failed = Handshake(success=False, duration=3.2, error="no answer within 3.2 s")
    assert verdict_of(handshake=failed).state is State.FILTERED


def test_loss_on_the_way() -> None:
    """A path that loses a third of the probes explains the silence otherwise."""
    made = silent_after(DISTANCE - 1)
    lossy = tuple(replace(hop, answers=hop.answers[:2]) for hop in made.hops)
    beside = Controlled(flows=FLOWS, ports=(passing(80, 11),))
    made = replace(made, hops=lossy)
    verdict = judge(made, zones=ZONES, handshake=LATE, controlled=beside)
    assert verdict.state is State.INCONCLUSIVE


def test_the_last_good_trace_knows_the_distance() -> None:
    """Where no control is answered, the past shows where the destination stands."""
    beside = Controlled(flows=FLOWS)
    made = silent_after(DISTANCE - 1)
    verdict = judge(made, zones=ZONES, handshake=LATE, controlled=beside, last_good=complete())
    assert verdict.state is State.OPEN

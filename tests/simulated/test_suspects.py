"""Suspects from controls: wherever the firewall stands, whoever is silent, whatever is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exporter.model import BLOCKED_STATES, Confidence, Location, State, Verdict
from tests.scenarios import ACTIONS, FAMILIES, Rule, Scenario
from tests.simulated.chains import CLOSED_PORT, OPEN_PORT, chain, ending
from tests.simulated.controls import verdict_with_controls
from tests.simulated.network import REFUSALS, Conditions
from tests.simulated.test_properties import conditions, lossless, lossy, ports, repeatable

#: A port that the firewalls here are about; 80 and `OPEN_PORT` are left to the controls.
FILTERED_PORT = 5432


@st.composite
def filtered_chains(draw: st.DrawFn, actions: tuple[str, ...] = ("drop",)) -> Scenario:
    """Chains with one firewall for one port or for all, and any set of silent routers."""
    hops = draw(st.integers(2, 16))
    hop = draw(st.integers(1, hops))
    inner = "input" if hop == hops else "forward"
    rule = Rule(
        hop,
        draw(st.sampled_from(actions)),
        draw(st.sampled_from((inner, "ingress"))),
        draw(st.sampled_from(((FILTERED_PORT,), (FILTERED_PORT, OPEN_PORT), ()))),
    )
    silent = draw(st.one_of(st.just([]), st.lists(st.integers(1, hops), unique=True)))
    return chain(
        hops,
        rules=(rule,),
        silent=tuple(silent),
        platform_hops=draw(st.integers(0, hops)),
        family=draw(st.sampled_from(FAMILIES)),
    )


def is_right(scenario: Scenario, port: int, verdict: Verdict) -> bool:
    """Whether what a verdict says of the block is true."""
    end = ending(scenario, port)
    if verdict.state not in BLOCKED_STATES or verdict.suspect_hops is None:
        return True
    first, last = verdict.suspect_hops
    inside = end.hop <= scenario.platform_hops
    wrong_side = Location.EXTERNAL if inside else Location.PLATFORM
    return first <= end.hop <= last and verdict.location is not wrong_side


@repeatable
@given(filtered_chains(), lossless)
def test_who_drops_is_a_suspect(scenario: Scenario, conditions: Conditions) -> None:
    """Without loss whoever drops is within the range, between any silent routers."""
    verdict = verdict_with_controls(scenario, FILTERED_PORT, conditions)
    assert verdict.state in {State.FILTERED, State.INCONCLUSIVE}, verdict.reason
    assert is_right(scenario, FILTERED_PORT, verdict), verdict.reason


@repeatable
@given(filtered_chains(), lossy)
def test_who_drops_is_a_suspect_over_a_lossy_path(
    scenario: Scenario, conditions: Conditions
) -> None:
    """A loss of 40 % in each direction never moves the range away from who drops."""
    verdict = verdict_with_controls(scenario, FILTERED_PORT, conditions)
    assert is_right(scenario, FILTERED_PORT, verdict), verdict.reason


@repeatable
@given(filtered_chains(REFUSALS), lossy)
def test_who_refuses_is_a_suspect(scenario: Scenario, conditions: Conditions) -> None:
    """A device that refuses is within the range, with controls that let it be located."""
    verdict = verdict_with_controls(scenario, FILTERED_PORT, conditions)
    assert is_right(scenario, FILTERED_PORT, verdict), verdict.reason


@repeatable
@given(filtered_chains(ACTIONS[:-1]), conditions(st.floats(0.0, 0.6)))
def test_high_confidence_is_never_wrong(scenario: Scenario, conditions: Conditions) -> None:
    """Whatever is lost, no wrong statement about a block is made with high confidence."""
    verdict = verdict_with_controls(scenario, FILTERED_PORT, conditions)
    if verdict.confidence is Confidence.HIGH:
        assert is_right(scenario, FILTERED_PORT, verdict), verdict.reason


@repeatable
@given(st.integers(1, 20), st.lists(st.integers(1, 20), unique=True), ports, lossy)
def test_what_answers_is_never_blocked(
    hops: int, silent: list[int], port: int, conditions: Conditions
) -> None:
    """Controls never make a block of a target that answers, whoever is silent on the way."""
    scenario = chain(hops, silent=tuple(hop for hop in silent if hop <= hops))
    verdict = verdict_with_controls(scenario, port, conditions)
    assert verdict.state not in BLOCKED_STATES - {State.RESET}, verdict.reason
    assert verdict.flows_blocked == 0


@repeatable
@given(filtered_chains(), st.sampled_from((0.0, 0.01)))
def test_a_passing_control_narrows_to_its_next_answer(scenario: Scenario, jitter: float) -> None:
    """Without loss the range ends at the next device that says that probes expire, or the end."""
    verdict = verdict_with_controls(scenario, FILTERED_PORT, Conditions(jitter=jitter))
    controls_pass = ending(scenario, CLOSED_PORT).action == "closed"
    answering = [hop for hop in range(1, scenario.hops) if hop not in scenario.silent]
    if verdict.state is State.FILTERED and verdict.last_reachable_hop and controls_pass:
        last = verdict.last_reachable_hop
        following = [hop for hop in (*answering, scenario.hops) if hop > last]
        assert verdict.suspect_hops is not None
        # Past four silent hops each gets one probe, of which more than one must be missed.
        assert verdict.suspect_hops[1] in following[: 1 if following[0] <= last + 4 else 4]

"""Suspects after silence: what controls and the last good trace narrow, and what they must not.

The path is that of tests/unit/samples: twelve devices, the first two inside the platform.
"""

from __future__ import annotations

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
    Location,
    ReplyKind,
    State,
    StopReason,
    Surroundings,
    Trace,
    Verdict,
)
from tests.unit.beside import (
    NO_ANSWER,
    complete,
    echo,
    elsewhere,
    over,
    passing,
    rejected,
    silent_after,
    unanswered,
)
from tests.unit.samples import DISTANCE, STARTED_AT, address, answer, routers, silence, trace

ZONES = ZoneMap([ip_network("10.9.0.0/24"), ip_network("10.9.1.0/24")])
NOBODY = "192.0.2.77"


def verdict_of(made: Trace, last_good: Trace | None = None, **controls: Any) -> Verdict:
    """The verdict with controls, by the names of `Controlled`."""
    controlled = replace(Controlled(), **controls)
    return judge(made, zones=ZONES, last_good=last_good, controlled=controlled)


def says(verdict: Verdict, words: str) -> bool:
    """Whether some fact has these words."""
    return any(words in fact for fact in verdict.evidence)


# -- who narrows -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "controls",
    [{"ports": (passing(80, 6),)}, {"echo": echo(6)}, {"flows": (passing(443, 6),)}],
    ids=("port", "echo", "flow"),
)
def test_a_control_narrows(controls: dict[str, Any]) -> None:
    """Whoever passes the last hop that answered shows the next one, with high confidence."""
    verdict = verdict_of(silent_after(6), **controls)
    assert (verdict.state, verdict.suspect_hops) == (State.FILTERED, (6, 7))
    assert (verdict.confidence, verdict.location) == (Confidence.HIGH, Location.EXTERNAL)


def test_nothing_narrows() -> None:
    """Without a control the range ends with the trace, and the sentence does not guess."""
    verdict = verdict_of(silent_after(6))
    assert (verdict.suspect_hops, verdict.confidence) == ((6, 30), Confidence.MEDIUM)
    assert "at hop 6 or behind it" in verdict.reason


def test_silent_routers_end_no_range() -> None:
    """Routers that the control does not hear either are passed over."""
    control = passing(80, 6, silent=(7, 8, 9))
    assert verdict_of(silent_after(6), ports=(control,)).suspect_hops == (6, 10)


def test_the_nearest_of_all_that_were_seen_counts() -> None:
    """One control missed a router, another one has met it."""
    ports = (passing(80, 6, silent=(7, 8)), passing(8443, 6, silent=(7,)))
    assert verdict_of(silent_after(6), ports=ports).suspect_hops == (6, 8)


def test_who_may_stand_one_hop_farther() -> None:
    """Without a quote, and with silence after it, a router is at its TTL or one hop behind it."""
    verdict = verdict_of(silent_after(6), ports=(passing(80, 6, silent=(8,)),))
    assert verdict.suspect_hops == (6, 8)
    assert says(verdict, f"{address(7)} stands at hop 7 or 8, as shown by port 80")


def test_a_silence_before_the_destination() -> None:
    """Right before the destination only its own answer ends the range."""
    verdict = verdict_of(silent_after(11), ports=(passing(80, 11),))
    assert (verdict.suspect_hops, verdict.confidence) == ((11, 12), Confidence.HIGH)


def test_an_end_whose_ttl_is_not_seen() -> None:
    """Where the engine sees no reply TTL the destination's answer narrows, but is not proof."""
    control = passing(80, 11, reply_ttl=None)
    verdict = verdict_of(silent_after(11), ports=(control,))
    assert (verdict.suspect_hops, verdict.confidence) == ((11, 12), Confidence.MEDIUM)


# -- who must not ----------------------------------------------------------------------


def test_a_control_over_another_way() -> None:
    """Another router at the last hop that answered: what lies behind it is not this trace's way."""
    verdict = verdict_of(silent_after(6), ports=(over(passing(80, 6), 6, NOBODY),))
    assert verdict.suspect_hops == (6, 30)
    assert says(verdict, "over which hops is not known")


def test_a_control_that_was_not_answered_at_that_hop() -> None:
    """Without an answer where the trace had its last one the ways cannot be compared."""
    verdict = verdict_of(silent_after(6), ports=(passing(80, 6, silent=(6,)),))
    assert verdict.suspect_hops == (6, 30)


def test_a_control_that_was_answered_from_nearer() -> None:
    """A forged answer for a control shows no hop: another one has met the destination farther."""
    forged = passing(80, 6, distance=7)
    verdict = verdict_of(silent_after(6), ports=(forged, passing(443, 6, silent=(7, 8))))
    assert verdict.suspect_hops == (6, 9)


def test_an_answer_whose_own_ttl_fits_a_nearer_sender() -> None:
    """It may come from a device before the one that drops."""
    forged = passing(80, 6, silent=(7, 8), distance=9, reply_ttl=58)
    assert verdict_of(silent_after(6), ports=(forged,)).suspect_hops == (6, 30)


def test_a_control_that_nobody_answered() -> None:
    """It narrows nothing, and is told."""
    verdict = verdict_of(silent_after(6), ports=(unanswered(80),))
    assert verdict.suspect_hops == (6, 30)
    assert says(verdict, "the host is down, or everything to it is filtered")


def test_errors_that_were_not_seen() -> None:
    """Where the kernel kept errors back, the hop behind may have answered: nothing narrows."""
    made = replace(silent_after(6), unseen_errors=3)
    verdict = verdict_of(made, ports=(passing(80, 6),))
    assert (verdict.suspect_hops, verdict.confidence) == ((6, 30), Confidence.LOW)


def test_loss_on_the_way_moves_the_end_of_the_range() -> None:
    """Where half of the probes are lost, three unanswered ones do not end the range."""
    made = silent_after(6)
    lossy = tuple(replace(h, answers=h.answers[: 1 + h.ttl % 2]) for h in made.hops)
    made = replace(made, hops=lossy, confirmation=replace(NO_ANSWER, sent=16))
    verdict = verdict_of(made, ports=(passing(80, 6),))
    assert (verdict.state, verdict.suspect_hops) == (State.FILTERED, (6, 9))
    assert verdict.confidence is Confidence.MEDIUM


def test_a_router_that_limits_itself_ends_no_range() -> None:
    """One that has left the control's first probe unanswered, too, may have left out this one's."""
    control = passing(80, 6)
    hops = tuple(replace(hop, sent=2) if hop.ttl == 7 else hop for hop in control.hops)
    verdict = verdict_of(silent_after(6), ports=(replace(control, hops=hops),))
    assert verdict.suspect_hops == (6, 8)


# -- the last good trace ---------------------------------------------------------------


def test_the_last_good_trace_narrows_where_no_control_passes() -> None:
    """Where the next device stood is known; that only its answers are dropped is not excluded."""
    verdict = verdict_of(silent_after(6), complete(), ports=(unanswered(80),))
    assert (verdict.suspect_hops, verdict.confidence) == ((6, 7), Confidence.MEDIUM)
    assert says(verdict, "as shown by the last good trace (of 2026-01-01 00:00 UTC)")


@pytest.mark.parametrize("at", [0.0, STARTED_AT + 1])
def test_a_last_good_trace_whose_time_cannot_be_true(at: float) -> None:
    """A clock that nobody had set, or that was set back, is not quoted."""
    verdict = verdict_of(silent_after(6), replace(complete(), started_at=at))
    assert says(verdict, "as shown by the last good trace")
    assert not says(verdict, "UTC")


def test_platform_hops_that_a_control_has_seen_forbid_external() -> None:
    """When a control shows the platform again behind the suspects, they are not outside."""
    zones = ZoneMap([ip_network("10.9.7.0/24")])
    controlled = Controlled(ports=(passing(80, 6),))
    verdict = judge(silent_after(6), zones=zones, controlled=controlled)
    assert verdict.location is Location.UNKNOWN


# -- what is said ----------------------------------------------------------------------


def test_another_port_passes() -> None:
    """The path carries traffic, its answers come back, only this port is filtered."""
    verdict = verdict_of(silent_after(6), ports=(passing(80, 6),))
    assert says(verdict, "port 80 of it is answered at hop 12")
    assert says(verdict, "only this port is filtered")
    assert says(verdict, "answers come back")
    assert says(verdict, "(12.1)")
    assert ", while port 80 of it is answered: a device at hop 6 or 7" in verdict.reason


def test_controls_of_which_the_same_can_be_said() -> None:
    """Two ports that are answered alike are one fact."""
    verdict = verdict_of(silent_after(6), ports=(passing(80, 6), passing(8443, 6)))
    assert says(verdict, "port 80 and port 8443 of it are answered at hop 12")
    assert ", while port 80 and port 8443 of it are answered: a device" in verdict.reason


def test_only_an_echo_passes() -> None:
    """The host is up; its ports are filtered."""
    verdict = verdict_of(silent_after(6), ports=(unanswered(80),), echo=echo(6))
    assert says(verdict, "the host is up and its answers come back")
    assert not says(verdict, "the host is down")


def test_a_control_that_somebody_rejects() -> None:
    """What rejects another port is told by its address."""
    verdict = verdict_of(silent_after(6), ports=(rejected(80, address(8)),))
    assert says(verdict, f"by {address(8)}")


def test_no_control_tells_the_way_there_from_the_way_back() -> None:
    """Without a control over the same hops it may be the answers that are dropped."""
    words = "on their way back"
    assert says(verdict_of(silent_after(6)), words)
    assert says(verdict_of(silent_after(6), complete(), ports=(unanswered(80),)), words)
    assert not says(verdict_of(silent_after(6), ports=(passing(80, 6),)), words)


def test_other_targets_behind_the_last_hop() -> None:
    """A device that forwards other targets' traffic works, and they are named."""
    verdict = verdict_of(silent_after(6), elsewhere=(elsewhere("192.0.2.1"),))
    assert says(verdict, "hop 6 forwards the traffic of other targets: 192.0.2.1")
    nobody = verdict_of(silent_after(6), elsewhere=(elsewhere("192.0.2.1", 5),))
    assert says(nobody, "no other target that was open when last seen is reached through hop 6")


# -- not one answer --------------------------------------------------------------------


def test_a_control_passes_where_nothing_answers() -> None:
    """A first hop that drops before its TTL check: filtered between here and it."""
    verdict = verdict_of(silent_after(0), ports=(passing(80), passing(443)), echo=echo())
    assert (verdict.state, verdict.suspect_hops) == (State.FILTERED, (1, 1))
    assert (verdict.last_reachable_hop, verdict.blocked_at_hop) == (0, 1)
    assert (verdict.location, verdict.confidence) == (Location.PLATFORM, Confidence.MEDIUM)
    alone = verdict_of(silent_after(0), ports=(passing(80), replace(passing(443), hops=())))
    assert (alone.suspect_hops, alone.location) == ((1, 1), Location.UNKNOWN)
    assert alone.confidence is Confidence.LOW


def test_all_routers_are_silent() -> None:
    """Only the destination's answer to a control ends the range, and its side is unknown."""
    verdict = verdict_of(silent_after(0), ports=(passing(80, silent=range(1, DISTANCE)),))
    assert (verdict.state, verdict.suspect_hops) == (State.FILTERED, (1, DISTANCE))
    assert verdict.location is Location.UNKNOWN


def test_controls_that_were_asked_with_a_full_ttl_only() -> None:
    """Where no hop of theirs is known the device that drops may be anywhere."""
    ports = tuple(replace(passing(port), hops=()) for port in (80, 8443))
    verdict = verdict_of(silent_after(0), ports=ports)
    assert (verdict.state, verdict.suspect_hops) == (State.FILTERED, (1, 30))
    assert "somewhere on the way" in verdict.reason
    assert verdict_of(silent_after(0), ports=ports[:1]).state is State.INCONCLUSIVE


def test_nothing_answers_and_no_control_passes() -> None:
    """A filter near here and a dead prober look the same, whatever the past was."""
    verdict = verdict_of(silent_after(0), complete(), ports=(unanswered(80),))
    assert verdict.state is State.INCONCLUSIVE
    assert says(
        verdict_of(silent_after(0), elsewhere=(elsewhere("192.0.2.1"),)), "reached from here"
    )


@pytest.mark.parametrize(
    ("gateway", "surroundings"),
    [
        ("10.0.2.2", Surroundings()),
        (None, Surroundings(ignores_ttls=True, untraceable="it rewrites TTLs")),
    ],
)
def test_a_control_that_a_user_mode_network_answers(
    gateway: str | None, surroundings: Surroundings
) -> None:
    """An answer at TTL 1 through a gateway places nobody."""
    made = replace(silent_after(0), gateway=gateway)
    controlled = Controlled(ports=(passing(80, distance=1), passing(443, distance=1)))
    verdict = judge(made, zones=ZONES, controlled=controlled, surroundings=surroundings)
    assert (verdict.state, verdict.suspect_hops) == (State.INCONCLUSIVE, None)


def test_a_first_hop_that_answers_a_control_by_luck() -> None:
    """Where a control's other probes stay unanswered too, its one answer bounds nothing."""
    control = passing(80, silent=(3,))
    verdict = verdict_of(silent_after(0), ports=(control, replace(passing(443), hops=())))
    assert (verdict.state, verdict.suspect_hops) == (State.FILTERED, (1, 4))
    assert (verdict.location, verdict.confidence) == (Location.UNKNOWN, Confidence.LOW)


# -- rejecters -------------------------------------------------------------------------


@pytest.mark.parametrize("hop", [6, 7])
def test_a_rejecter_is_where_a_control_has_met_it(hop: int) -> None:
    """Who never said time-exceeded to this trace, but to a control, stands at that hop."""
    by = "192.0.2.9"
    error = answer(7, 1, kind=ReplyKind.UNREACHABLE, address=by, icmp=(3, 13))
    error = error._replace(reply=error.reply._replace(ttl=None))
    hops = (*routers(5), *silence(6, 6), Hop(7, 1, (error,)))
    made = trace(hops, StopReason.ICMP_ERROR, confirmation=NO_ANSWER)
    assert verdict_of(made).suspect_hops == (6, 7)
    verdict = verdict_of(made, ports=(over(passing(80, 5), hop, by),))
    assert (verdict.suspect_hops, verdict.blocked_at_hop) == ((hop, hop), hop)
    assert verdict.confidence is Confidence.HIGH
    assert verdict_of(made, over(complete(), hop, by)).suspect_hops == (hop, hop)

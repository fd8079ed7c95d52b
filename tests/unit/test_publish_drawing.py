"""The path as a row of boxes: who stands where, where it stops, and what stood there before."""

from __future__ import annotations

from dataclasses import astuple, replace

import pytest

from exporter.model import (
    FULL_TTL,
    Condition,
    Hop,
    Observation,
    Place,
    ReplyKind,
    State,
    StopReason,
    Trace,
    Zone,
)
from exporter.publish.drawing import MOST_DEVICES, Drawing, Step, drawing_of, marks_of
from tests.unit import samples


def drawn(seen: Observation, good: Trace | None = None) -> Drawing:
    """The drawing of an observation."""
    made = drawing_of(seen, good, seen.places)
    assert made
    return made


def good_trace() -> Trace:
    """The trace of a destination twelve hops away."""
    made = samples.opened().trace
    assert made
    return made


def with_hops(*hops: Hop) -> Observation:
    """An open observation with these hops."""
    return replace(samples.opened(), trace=samples.trace(hops, StopReason.DESTINATION))


def test_every_hop_up_to_the_destination_is_a_box() -> None:
    """With its address, its zone, what it says, and its lowest round trip."""
    steps = drawn(samples.opened()).steps
    assert [step.hops for step in steps] == [str(ttl) for ttl in range(1, 13)]
    assert [step.zone for step in steps] == ["platform"] * 2 + ["external"] * 10
    (device,) = steps[-1].devices
    assert (device.address, device.says, device.zone) == (samples.DESTINATION, "open", "external")
    assert steps[-1].bar
    assert (steps[-1].bar.time, steps[-1].bar.length) == ("12.010 ms", 100)
    assert (steps[-1].mark, steps[-1].says) == ("reached", "Reached.")


def test_bars_are_as_long_as_the_times_against_each_other() -> None:
    """The shortest can still be seen."""
    hop = samples.router(1)
    (first, *_) = hop.answers
    late = first._replace(reply=first.reply._replace(received_at=first.probe.sent_at + 10))
    steps = drawn(with_hops(hop, Hop(2, 1, (late._replace(probe=first.probe),)))).steps
    assert [step.bar.length for step in steps if step.bar] == [2, 100]


def test_a_path_without_times_has_bars_of_no_length() -> None:
    """A round trip of nothing divides by nothing."""
    (first, *_) = samples.router(1).answers
    now = first._replace(reply=first.reply._replace(received_at=first.probe.sent_at))
    (step,) = drawn(with_hops(Hop(1, 1, (now,)))).steps
    assert step.bar
    assert (step.bar.time, step.bar.length) == ("0.000 ms", 2)


def test_silence_beyond_the_path_is_one_box() -> None:
    """The first silent hop stands by itself, for the block may be there; the rest is counted."""
    steps = drawn(samples.filtered()).steps
    assert [step.hops for step in steps[5:]] == ["6", "7", "8 to 30"]
    assert [step.notes for step in steps[5:]] == [
        (),
        ("No answer to 3 probes.",),
        ("No answer to 29 probes.",),
    ]
    assert [step.zone for step in steps[5:]] == ["external", "silent", "silent"]


def test_nothing_is_drawn_behind_an_end() -> None:
    """What was asked beyond the destination or a rejection says nothing of the path."""
    behind = (*samples.routers(2), samples.end(3, ReplyKind.SYN_ACK), Hop(4, 1), Hop(5, 1))
    assert [step.hops for step in drawn(with_hops(*behind)).steps] == ["1", "2", "3"]


def marked(seen: Observation) -> dict[str, str]:
    """The hops that bear a mark, and what it says."""
    return {step.hops: step.says for step in drawn(seen).steps if step.says}


def test_the_place_where_it_stops_is_told_in_words() -> None:
    """At a hop, with the device where it is known; of several suspects each is marked."""
    assert marked(samples.rejected()) == {"6": "Here it stops, by 10.9.5.2."}
    assert marked(samples.filtered()) == dict.fromkeys(("6", "7"), "It stops at hop 6 or 7.")
    wide = samples.filtered()
    verdict = replace(wide.verdict, suspect_hops=(4, 7))
    assert marked(replace(wide, verdict=verdict)) == dict.fromkeys(
        ("4", "5", "6", "7"), "It stops at one of hops 4 to 7."
    )


def test_who_answers_in_anothers_name_is_no_destination() -> None:
    """A proxy is marked where it stands, and its answer is not called open."""
    seen = samples.opened()
    verdict = replace(seen.verdict, state=State.INTERCEPTED, last_reachable_hop=12)
    steps = drawn(replace(seen, verdict=verdict)).steps
    assert steps[-1].devices[0].says == "accepted in its name"
    assert steps[-1].mark == "stops"
    assert "Reached." not in [step.says for step in steps]


@pytest.mark.parametrize("seen", [samples.unresolved(), samples.refused_by_host()])
def test_what_is_not_known_marks_nothing(seen: Observation) -> None:
    """No place, no mark."""
    assert marks_of(seen.verdict) == {}


def test_hops_that_were_left_to_others_say_so() -> None:
    """What they told other traces is shown as that; what nobody asked is no silence."""
    steps = drawn(samples.sparing()).steps
    shared = "Shared: as it has just answered other traces."
    assert [step.notes for step in steps[1:4]] == [
        (shared,),
        ("No answer to 1 probe.", shared),
        ("Not asked.",),
    ]
    assert [step.devices[0].address for step in steps[1:3]] == ["10.9.1.2", "10.9.2.2"]


def test_loss_limits_and_several_devices_are_told() -> None:
    """Of many devices at a hop some are shown, and the rest is counted."""
    steps = drawn(samples.varied()).steps
    assert steps[1].notes == ("1 of 3 probes answered.",)
    assert [device.address for device in steps[2].devices] == ["10.9.2.2", "10.9.2.6"]
    limited = replace(samples.varied(), conditions={2: Condition.RATE_LIMITED})
    assert drawn(limited).steps[1].notes[-1] == "Rate-limited."
    many = Hop(1, 9, tuple(samples.answer(1, n, address=f"10.0.0.{n}") for n in range(1, 10)))
    (step,) = drawn(with_hops(many)).steps
    assert (len(step.devices), step.more) == (MOST_DEVICES, 9 - MOST_DEVICES)


def before(step: Step) -> tuple[tuple[str, ...], bool]:
    """What a box says of the last good trace."""
    assert step.before
    return step.before.devices, step.before.changed


def test_the_last_good_path_stands_below_hop_by_hop() -> None:
    """Up to its own end; a hop that answers no more is marked as changed, one that does is not."""
    made = drawn(samples.filtered(), good_trace())
    assert made.good == "the last good path, of 2026-01-01 00:00:00 UTC"
    assert [step.hops for step in made.steps[10:]] == ["11", "12", "13 to 30"]
    assert before(made.steps[5]) == (("10.9.5.2",), False)
    assert before(made.steps[6]) == (("10.9.6.2",), True)
    assert before(made.steps[11]) == ((samples.DESTINATION,), True)
    assert made.steps[12].before is None


def test_what_was_not_probed_any_more_says_so() -> None:
    """A rejection ends a trace before the good path's end."""
    made = drawn(samples.rejected(), good_trace())
    assert made.steps[7].notes == ("Not probed.",)
    assert before(made.steps[7]) == (("10.9.7.2",), True)


def test_what_stood_there_before_has_a_zone() -> None:
    """As the good trace knew it, also where nobody answers now."""
    good = samples.opened()
    made = drawing_of(samples.filtered(), good.trace, good.places)
    assert made
    sides = [(step.before.side, step.before.zone) for step in made.steps if step.before]
    assert sides == [("platform", "platform")] * 2 + [("external", "external")] * 10
    unknown = drawing_of(samples.filtered(), good.trace, {})
    assert unknown
    assert unknown.steps[0].before
    assert (unknown.steps[0].before.side, unknown.steps[0].before.zone) == ("unknown", "")


def test_a_hop_that_was_silent_before_is_no_change() -> None:
    """Nothing is missing there."""
    good = replace(good_trace(), hops=(Hop(1, 3), *good_trace().hops[1:]))
    assert before(drawn(samples.filtered(), good).steps[0]) == ((), False)


def test_a_good_path_to_another_address_says_so() -> None:
    """Hop by hop they are only alike as far as they go the same way."""
    good = good_trace()
    elsewhere = replace(good, flow=good.flow._replace(destination="10.9.11.9"))
    assert drawn(samples.filtered(), elsewhere).good.startswith(
        "the last good path to 10.9.11.9, of "
    )


def test_names_and_networks_are_printable() -> None:
    """What comes from outside breaks no line and moves no cursor."""
    seen = samples.hostile()
    bad = Place(Zone.EXTERNAL, "z\n", "n\n", 64500, "a\n")
    good = samples.hostile().trace
    made = drawing_of(seen, good, {samples.HOSTILE: bad})
    assert made
    texts = [text for device in made.steps[0].devices for text in astuple(device)]
    assert made.steps[0].before
    assert all(text.isprintable() for text in (*texts, *made.steps[0].before.devices, made.good))


def test_without_a_trace_there_is_no_drawing() -> None:
    """A name without an address leads nowhere."""
    assert drawing_of(samples.unresolved(), good_trace(), {}) is None


def test_a_confirmation_is_no_hop() -> None:
    """Its TTL is no distance."""
    hops = [step.hops for step in drawn(samples.rejected()).steps]
    assert str(FULL_TTL) not in hops

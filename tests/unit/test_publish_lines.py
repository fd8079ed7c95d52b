"""What an observation looks like as lines, and that no text from outside gets through raw."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.model import (
    Failure,
    FailureReason,
    Handshake,
    Hop,
    Observation,
    ReplyKind,
    State,
    StopReason,
    Target,
)
from exporter.publish.lines import growing_lines, render_trace
from exporter.publish.text import summary_line
from tests.conftest import Golden
from tests.unit import samples

RAW = ("\x1b", "\r", "\u202e", "\udcff")


def through(*hops: Hop, reason: StopReason = StopReason.DESTINATION) -> Observation:
    """An observation of a path."""
    opened = samples.opened()
    return samples.observation(opened.target, opened.verdict, samples.trace(hops, reason))


def lines_of(observation: Observation) -> list[str]:
    """The text, line by line."""
    return render_trace(observation).split("\n")


def line_with(part: str, observation: Observation) -> str:
    """The one line of the text that has this in it."""
    (line,) = (line for line in lines_of(observation) if part in line)
    return line


# -- the whole -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", samples.SAMPLES)
def test_each_kind_reads_as_its_golden_file(kind: str, golden: Golden) -> None:
    """The raw trace, the verdict and the line of each kind of observation are the approved ones."""
    observation = samples.SAMPLES[kind]
    whole = f"{render_trace(observation)}\n\n{summary_line(observation)}\n"
    golden(f"{kind}.txt", whole)


def test_the_hostile_sample_reads_as_its_golden_file(golden: Golden) -> None:
    """What is left of an attack is text that can be read."""
    golden("hostile.txt", render_trace(samples.hostile()) + "\n")


def test_silence_from_the_first_hop_on_is_not_called_silence_past_a_hop() -> None:
    """Where no hop answered the text names none."""
    silent = through(*samples.silence(1, 30), reason=StopReason.SILENCE)
    assert line_with("no answer", silent) == " 1-30  * * *  no answer"
    assert line_with("stopped", silent) == "stopped after 2.100 s: silence, confirmed"


def test_a_failure_without_a_trace_is_told_once() -> None:
    """The reason and the message stand in one line, beside the application's own view."""
    failure = Failure(FailureReason.NO_ROUTE, "Network is unreachable")
    seen = replace(samples.unresolved(), failure=failure, handshake=Handshake(True, 0.5))
    assert line_with("no usable", seen) == "no usable trace, no_route: Network is unreachable"
    assert line_with("connect()", seen) == "connect(): succeeded in 500.000 ms"


def test_each_further_address_has_a_line() -> None:
    """The worst address's trace is shown, and how the others are."""
    seen = samples.several()
    assert line_with("also 2001:db8::1", seen) == (
        "also 2001:db8::1: error, last reachable hop 0, confidence low"
    )
    assert line_with("also 10.9.11.3", seen) == (
        "also 10.9.11.3: open, reached at hop 12, confidence high"
    )
    assert "confidence medium, 1 of 3 addresses, db.example:443 (10.9.11.2)" in summary_line(seen)


@pytest.mark.parametrize("kind", ["open", "filtered", "rejected"])
def test_a_trace_under_way_tells_nothing_of_its_end(kind: str) -> None:
    """Headline and hops are those of the whole trace; silence may still end, and no verdict is."""
    seen = samples.SAMPLES[kind]
    growing = list(growing_lines(seen))
    assert len(growing) > 6
    whole = lines_of(seen)
    assert [line.removesuffix(" yet") for line in growing] == whole[: len(growing)]
    assert ("no answer yet" in growing[-2]) is (kind == "filtered")


# -- parts -----------------------------------------------------------------------------


def test_a_target_without_a_name_of_its_own_is_written_once() -> None:
    """Where the name is host:port, the headline does not repeat it."""
    plain = replace(samples.opened(), target=Target("db.example:443", "db.example", 443))
    assert lines_of(plain)[0].startswith("db.example:443 (10.9.11.2) from 10.9.0.1, engine syn, ")


def test_an_unknown_icmp_code_is_shown_as_a_number() -> None:
    """A code that no standard names is neither hidden nor guessed at."""
    odd = samples.end(2, ReplyKind.UNREACHABLE, by="10.9.1.2", icmp=(3, 99))
    line = lines_of(through(samples.router(1), odd))[2]
    assert line.startswith(" 2  10.9.1.2 [ICMP 3/99] [platform]  2.010 ms")


@pytest.mark.parametrize(
    ("by", "icmp", "shown"),
    [
        ("10.9.1.2", (3, 1), "[!H host unreachable, ICMP 3/1]"),
        ("fd09:0:0:1::2", (1, 3), "[!H address unreachable, ICMPv6 1/3]"),
        ("fd09:0:0:1::2", (3, 1), "[ICMPv6 3/1]"),
    ],
)
def test_icmp_is_read_by_family(by: str, icmp: tuple[int, int], shown: str) -> None:
    """A number means one thing in ICMP and another, or none, in ICMPv6."""
    refusal = samples.end(2, ReplyKind.UNREACHABLE, by=by, icmp=icmp)
    assert lines_of(through(samples.router(1), refusal))[2].startswith(f" 2  {by} {shown}")


@pytest.mark.parametrize(
    ("state", "kind", "shown"),
    [
        (State.CLOSED, ReplyKind.RST, "[closed]"),
        (State.RESET, ReplyKind.RST, "[reset in its name]"),
        (State.INTERCEPTED, ReplyKind.SYN_ACK, "[accepted in its name]"),
    ],
)
def test_a_forged_answer_is_not_called_the_destination_s(
    state: State, kind: ReplyKind, shown: str
) -> None:
    """A reader of the hops alone must not take a firewall's RST for a closed port."""
    seen = through(samples.router(1), samples.end(2, kind))
    seen = replace(seen, verdict=replace(seen.verdict, state=state))
    assert lines_of(seen)[2].startswith(f" 2  {samples.DESTINATION} {shown}")


def test_past_the_end_only_what_differs_is_shown() -> None:
    """Later TTLs that met the same end are left out, one that met another stands there."""
    same, other = (
        samples.end(ttl, ReplyKind.SYN_ACK, by=by) for ttl, by in ((2, "10.9.9.9"), (3, "10.0.0.9"))
    )
    path = through(samples.router(1), same, replace(same, ttl=3), replace(other, ttl=4))
    assert [line[:2] for line in lines_of(path)[1:-4]] == [" 1", " 2", " 4"]


def test_replies_beyond_the_probes_sent_do_not_break_a_line() -> None:
    """An attempt number above the count of probes still has its place."""
    late = Hop(1, 1, (samples.answer(1, 4),))
    assert lines_of(through(late))[1] == " 1  * * * 10.9.0.2 [platform]  1.040 ms"


# -- hostile text ----------------------------------------------------------------------


def test_hostile_text_moves_no_cursor_and_begins_no_line() -> None:
    """Escapes, breaks, direction marks and lone surrogates are shown, not obeyed."""
    observation = samples.hostile()
    lines = lines_of(observation)
    assert all(line.isprintable() for line in (*lines, summary_line(observation)))
    assert not any(raw in line for line in lines for raw in RAW)


def test_hostile_text_adds_no_line() -> None:
    """As many lines as with harmless text in its place."""
    hostile, harmless = samples.hostile(), samples.hostile("harmless")
    assert len(lines_of(hostile)) == len(lines_of(harmless))

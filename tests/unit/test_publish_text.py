"""What an observation looks like as text, and that no text from outside gets through raw."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import (
    Confidence,
    Failure,
    FailureReason,
    Handshake,
    Hop,
    Location,
    Observation,
    ReplyKind,
    State,
    StopReason,
    Target,
    Verdict,
)
from exporter.publish import text
from tests.conftest import Golden
from tests.unit import samples

#: A text of any code points, lone surrogates included.
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=[]))
RAW = ("\x1b", "\r", "\u202e", "\udcff")


def through(*hops: Hop, reason: StopReason = StopReason.DESTINATION) -> Observation:
    """An observation of a path."""
    opened = samples.opened()
    return samples.observation(opened.target, opened.verdict, samples.trace(hops, reason))


def lines_of(observation: Observation) -> list[str]:
    """The text, line by line."""
    return text.render_trace(observation).split("\n")


def line_with(part: str, observation: Observation) -> str:
    """The one line of the text that has this in it."""
    (line,) = (line for line in lines_of(observation) if part in line)
    return line


# -- the whole -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", samples.SAMPLES)
def test_each_kind_reads_as_its_golden_file(kind: str, golden: Golden) -> None:
    """The raw trace, the verdict and the line of each kind of observation are the approved ones."""
    observation = samples.SAMPLES[kind]
    whole = f"{text.render_trace(observation)}\n\n{text.summary_line(observation)}\n"
    golden(f"{kind}.txt", whole)


def test_the_hostile_sample_reads_as_its_golden_file(golden: Golden) -> None:
    """What is left of an attack is text that can be read."""
    golden("hostile.txt", text.render_trace(samples.hostile()) + "\n")


def test_every_stop_reason_has_words() -> None:
    """No trace ends without saying why."""
    assert set(text.STOP_WORDS) == set(StopReason)


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
    assert "confidence medium, 1 of 3 addresses, db.example:443 (10.9.11.2)" in text.summary_line(
        seen
    )


@pytest.mark.parametrize("kind", ["open", "filtered", "rejected"])
def test_a_trace_under_way_tells_nothing_of_its_end(kind: str) -> None:
    """Headline and hops are those of the whole trace; silence may still end, and no verdict is."""
    seen = samples.SAMPLES[kind]
    growing = list(text.growing_lines(seen))
    assert len(growing) > 6
    whole = lines_of(seen)
    assert [line.removesuffix(" yet") for line in growing] == whole[: len(growing)]
    assert ("no answer yet" in growing[-2]) is (kind == "filtered")


# -- parts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0.000 ms"),
        (0.0000004, "0.000 ms"),
        (0.0123, "12.300 ms"),
        (0.999, "999.000 ms"),
        (1, "1.000 s"),
        (3.2, "3.200 s"),
        (216, "216.000 s"),
    ],
)
def test_durations_have_one_unit(seconds: float, written: str) -> None:
    """Milliseconds below a second, seconds from there on."""
    assert text.duration(seconds) == written


def test_a_target_without_a_name_of_its_own_is_written_once() -> None:
    """Where the name is host:port, the headline does not repeat it."""
    plain = replace(samples.opened(), target=Target("db.example:443", "db.example", 443))
    assert lines_of(plain)[0].startswith("db.example:443 (10.9.11.2) from 10.9.0.1, engine syn, ")


@pytest.mark.parametrize(
    ("host", "written"),
    [("db.example", "db.example:443"), ("2001:db8::1", "[2001:db8::1]:443")],
)
def test_an_ipv6_address_stands_in_brackets(host: str, written: str) -> None:
    """host:port can be read back, and pasted into ENDPOINTS."""
    assert text.host_port(Target("t", host, 443)) == written


def test_times_are_utc_with_milliseconds() -> None:
    """A time is ISO 8601, whatever the host's zone."""
    assert text.timestamp(samples.STARTED_AT + 0.0625) == "2026-01-01T00:00:00.062Z"


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


@pytest.mark.parametrize(
    ("verdict", "clause"),
    [
        (samples.opened().verdict, "reached at hop 12"),
        (samples.closed().verdict, "reached at hop 12"),
        (samples.unresolved().verdict, "last reachable hop 0"),
        (samples.rejected().verdict, "blocked at hop 6, by 10.9.5.2, location external"),
        (
            replace(samples.opened().verdict, last_reachable_hop=0),
            "reached, distance not known",
        ),
        (
            samples.filtered().verdict,
            "blocked at hop 7, suspect hops 6-7, location external",
        ),
    ],
)
def test_one_clause_says_how_far_the_traffic_gets(verdict: Verdict, clause: str) -> None:
    """Reached, last reachable or blocked: what is known, and nothing else."""
    assert text.where(verdict) == clause


# -- the line --------------------------------------------------------------------------


def test_the_line_is_never_longer_than_200_characters() -> None:
    """Long names are shortened; state, hop and who blocks stay."""
    name = "n" * 100
    verdict = replace(
        samples.rejected().verdict,
        state=State.UNREACHABLE,
        blocked_at_hop=30,
        suspect_hops=(29, 30),
        blocked_by="2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        location=Location.EXTERNAL,
        confidence=Confidence.MEDIUM,
    )
    seen = replace(
        samples.rejected(), target=Target(name, f"{name}.example", 65535), verdict=verdict
    )
    line = text.summary_line(seen)
    assert len(line) <= text.SUMMARY_LENGTH
    assert text.where(verdict) in line
    assert "confidence medium" in line


# -- hostile text ----------------------------------------------------------------------


@given(ANY_TEXT)
def test_printable_text_is_one_line_of_utf_8(raw: str) -> None:
    """Whatever comes in, what comes out prints, is one line and can be encoded."""
    shown = text.printable(raw)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    assert shown.encode().decode() == shown


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
def test_printable_text_is_left_alone(plain: str) -> None:
    """Names in any script stay as they are."""
    assert text.printable(plain) == plain


def test_hostile_text_moves_no_cursor_and_begins_no_line() -> None:
    """Escapes, breaks, direction marks and lone surrogates are shown, not obeyed."""
    observation = samples.hostile()
    lines = lines_of(observation)
    assert all(line.isprintable() for line in (*lines, text.summary_line(observation)))
    assert not any(raw in line for line in lines for raw in RAW)


def test_hostile_text_adds_no_line() -> None:
    """As many lines as with harmless text in its place."""
    hostile, harmless = samples.hostile(), samples.hostile("harmless")
    assert len(lines_of(hostile)) == len(lines_of(harmless))

"""The words and small formats that everything is told in, and the gate for hostile text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import (
    Confidence,
    Location,
    State,
    StopReason,
    Target,
    Verdict,
)
from exporter.publish import text
from tests.unit import samples

#: A text of any code points, lone surrogates included.
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=[]))


def test_every_stop_reason_has_words() -> None:
    """No trace ends without saying why."""
    assert set(text.STOP_WORDS) == set(StopReason)


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

"""A block by Cloud Foundry's own cell: when it is called that, and when it is not."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from typing import Any

import pytest

from exporter.diagnosis.verdict import judge
from exporter.diagnosis.zones import ZoneMap
from exporter.model import (
    FULL_TTL,
    Answer,
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
from tests.unit.beside import coming_straight_back
from tests.unit.samples import DESTINATION, answer, routers, silence, trace

GATEWAY = "169.254.0.1"
GUID = "5d0c6b6e-8c57-4f0a-6ab2-9f4d"
HERE = Source("10.255.1.2", "0", GUID, "10.0.4.7")
ZONES = ZoneMap(())
RST = ReplyKind.RST
REFUSED = Handshake(success=False, duration=0.01, error="Connection refused")
UNANSWERED = Handshake(success=False, duration=3.2, error="no answer within 3.2 s")


def near(ttl: int, attempt: int, by: str, away: int = 1, **reply: Any) -> Answer:
    """An answer from somebody so many hops away."""
    made = answer(ttl, attempt, address=by, **reply)
    return made._replace(reply=made.reply._replace(ttl=FULL_TTL + 1 - away))


def expired(answered: int = 3, by: str = GATEWAY) -> Hop:
    """Hop 1, which answers so many of three probes in somebody's name."""
    return Hop(1, 3, tuple(near(1, attempt, by) for attempt in range(1, answered + 1)))


def rejecting(ttl: int, by: str = GATEWAY, icmp: tuple[int, int] = (3, 3), away: int = 1) -> Hop:
    """A hop whose probe somebody rejects who is so many hops away."""
    return Hop(ttl, 1, (near(ttl, 1, by, away, kind=ReplyKind.UNREACHABLE, icmp=icmp),))


def blocked(*hops: Hop) -> Trace:
    """A trace that ends with an ICMP error."""
    return trace(hops, StopReason.ICMP_ERROR, confirmation=rejecting(FULL_TTL))


def to(destination: str) -> Trace:
    """A trace with the whole signature to another destination."""
    made = blocked(expired(), rejecting(2))
    return replace(made, flow=made.flow._replace(destination=destination))


SIGNATURE = blocked(expired(), rejecting(2))


def judged(made: Trace, source: Source = HERE, handshake: Handshake | None = None) -> Verdict:
    """The verdict on it."""
    return judge(made, zones=ZONES, source=source, handshake=handshake)


@pytest.mark.parametrize(
    ("made", "confidence"),
    [
        (SIGNATURE, Confidence.HIGH),
        # Without a time-exceeded nothing proves that TTLs are counted here.
        (blocked(expired(answered=0), *silence(2, 4), rejecting(5)), Confidence.MEDIUM),
    ],
    ids=["whole", "thinned out by limits on ICMP errors"],
)
def test_a_security_group_is_named_with_what_to_look_for(
    made: Trace, confidence: Confidence
) -> None:
    """The reason names security group, cell and instance; the block is the platform's, at hop 1."""
    verdict = judged(made)
    assert (verdict.state, verdict.location) == (State.REJECTED, Location.PLATFORM)
    assert (verdict.blocked_at_hop, verdict.suspect_hops) == (1, (1, 1))
    assert (verdict.blocked_by, verdict.confidence) == (GATEWAY, confidence)
    for words in ("application security group (ASG)", "cell 10.0.4.7", GUID, f"{DESTINATION}:443"):
        assert words in verdict.reason
    assert any("DENY_5d0c6b6e-8c57-4f0a-6ab2" in fact for fact in verdict.evidence)


@pytest.mark.parametrize(
    ("made", "source"),
    [
        (SIGNATURE, Source()),
        (SIGNATURE, Source(instance_guid=GUID)),
        (SIGNATURE, Source(instance_guid="pod-7", cell="node-7")),
        (blocked(expired(), rejecting(2, icmp=(3, 13))), HERE),
        (blocked(expired(), rejecting(2, icmp=(3, 1))), HERE),
        (blocked(expired(by="169.254.1.1"), rejecting(2, by="169.254.1.1")), HERE),
        (blocked(expired(), *routers(2)[1:], rejecting(3)), HERE),
        (to(GATEWAY), HERE),
        (to("10.0.4.7"), HERE),
        (to("10.255.9.9"), HERE),
        (blocked(expired(answered=0), *silence(2, 4), rejecting(5, away=4)), HERE),
    ],
    ids=[
        "nobody says where this is",
        "nobody says which cell",
        "Kubernetes",
        "administratively prohibited",
        "host unreachable",
        "another gateway",
        "somebody behind the cell answered",
        "the gateway itself",
        "the cell itself",
        "another container",
        "four hops away",
    ],
)
def test_a_security_group_is_not_named_where_the_signature_does_not_fit(
    made: Trace, source: Source
) -> None:
    """Each part of the signature is needed; without it the sentence stays neutral."""
    verdict = judged(made, source)
    assert "security group" not in verdict.reason
    assert "security group" not in " ".join(verdict.evidence)


def test_the_gateway_on_the_link_is_called_that() -> None:
    """A link-local address at hop 1 that rejects is this host's gateway, and inside."""
    verdict = judged(SIGNATURE, Source())
    assert verdict.reason.startswith(f"This host's link-local gateway, {GATEWAY} at hop 1, rejects")
    assert verdict.location is Location.PLATFORM


def test_a_link_local_address_farther_away_is_nobodys_gateway() -> None:
    """A tunnel's router with a link-local address is a device like others, and not known inside."""
    before = map(coming_straight_back, routers(4))
    made = trace((*before, rejecting(5, icmp=(3, 13), away=4)), StopReason.ICMP_ERROR)
    verdict = judged(made)
    assert verdict.reason.startswith(f"A device, {GATEWAY} at hop 4, rejects")
    assert verdict.location is Location.UNKNOWN


# -- what limits on ICMP errors hide ---------------------------------------------------


def silent(answered: int) -> Trace:
    """Hop 1 answers so many of three probes, and then there is confirmed silence."""
    hops = (expired(answered), *silence(2, 30))
    return trace(hops, StopReason.SILENCE, confirmation=Hop(FULL_TTL, 16))


@pytest.mark.parametrize(
    ("answered", "source", "state"),
    [
        (1, HERE, State.INCONCLUSIVE),
        (3, HERE, State.FILTERED),
        (1, Source(), State.FILTERED),
    ],
)
def test_a_cell_that_answers_little_may_hide_its_rejections(
    answered: int, source: Source, state: State
) -> None:
    """A cell drops no SYN: where its ICMP errors run out, silence behind it proves nothing."""
    assert judged(silent(answered), source, UNANSWERED).state is state


@pytest.mark.parametrize(
    "number",
    [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES],
    ids=errno.errorcode.get,
)
def test_a_refused_connect_contradicts_silence(number: int) -> None:
    """Where connect() is told no somebody answers, so the silence of a trace is no drop."""
    assert judged(silent(3), Source(), UNANSWERED).state is State.FILTERED
    told = Handshake(success=False, duration=0.9, error=os.strerror(number))
    verdict = judged(silent(3), Source(), told)
    assert (verdict.state, verdict.location) == (State.INCONCLUSIVE, Location.NONE)
    assert any("the trace alone would say" in fact for fact in verdict.evidence)


# -- what applications are told --------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "handshake", "said"),
    [(SIGNATURE, REFUSED, 1), (SIGNATURE, UNANSWERED, 0), (silent(3), REFUSED, 0)],
)
def test_a_refused_connect_is_told_from_a_closed_port(
    made: Trace, handshake: Handshake, said: int
) -> None:
    """ICMP port-unreachable refuses a connect() as an RST does; that none came is said."""
    evidence = judged(made, HERE, handshake).evidence
    assert sum("no RST came" in fact for fact in evidence) == said


@pytest.mark.parametrize("first", [expired(), Hop(1, 3)], ids=["heard", "unheard"])
def test_the_silence_of_a_cell_that_rejects_others_is_no_drop(first: Hop) -> None:
    """With its ICMP errors spent on other targets it cannot say what it rejects here."""
    made = trace((first, *silence(2, 30)), StopReason.SILENCE, 5432, Hop(FULL_TTL, 3))
    spent = Surroundings(routers_answer=True, rejecting=frozenset({GATEWAY}))
    port = trace(
        (*(Hop(ttl, 0) for ttl in range(1, 3)), Hop(3, 1, (near(3, 1, DESTINATION, 3, kind=RST),))),
        StopReason.DESTINATION,
        port=443,
        confirmation=Hop(FULL_TTL, 1, (near(FULL_TTL, 1, DESTINATION, 3, kind=RST),)),
    )
    given: dict[str, Any] = {"zones": ZONES, "source": HERE, "handshake": UNANSWERED}
    given["controlled"] = Controlled(ports=(port,))
    assert judge(made, **given, surroundings=spent).state is State.INCONCLUSIVE
    fresh = replace(spent, rejecting=frozenset({"10.9.5.2"}))
    assert judge(made, **given, surroundings=fresh).state is State.FILTERED

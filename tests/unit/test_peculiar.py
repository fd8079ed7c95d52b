"""Peculiarities of a path as facts, with the probes that show them, and never too many of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from exporter.diagnosis.peculiar import peculiarities
from exporter.model import Hop, MplsLabel, ReplyKind, StopReason, Trace
from tests.unit.samples import DISTANCE, address, answer, end, routers, trace

GOOD = trace((*routers(DISTANCE - 1), end(DISTANCE, ReplyKind.SYN_ACK)), StopReason.DESTINATION)
LABELS = (MplsLabel(24001, 0, bottom=True, ttl=1),)


def odd(changes: Mapping[int, Mapping[str, Any]]) -> Trace:
    """The good trace, with changes to the replies at some TTLs."""
    hops = tuple(
        replace(
            hop,
            answers=tuple(
                a._replace(reply=a.reply._replace(**changes.get(hop.ttl, {}))) for a in hop.answers
            ),
        )
        for hop in GOOD.hops
    )
    return replace(GOOD, hops=hops)


def test_an_ordinary_path() -> None:
    """Nothing is told of it."""
    assert peculiarities(GOOD) == ()


def test_address_translation() -> None:
    """The hop before and the hop behind are named, and what was changed."""
    changed = {ttl: {"rewritten": ("source port", "source address")} for ttl in range(3, 6)}
    (fact,) = peculiarities(odd(changed))
    assert fact == (
        f"address translation behind hop 2 ({address(2)}): from hop 3 ({address(3)}) on, quoted "
        "probes differ in source port, source address (3.1, 3.2, 3.3)"
    )


def test_address_translation_right_here() -> None:
    """Where the first answer shows it already, it stands between this host and there."""
    (fact,) = peculiarities(odd({1: {"rewritten": ("source port",)}}))
    assert fact.startswith("address translation behind this host: from hop 1")


def test_a_forwarder_of_zero_ttl() -> None:
    """The next router answers in its place, with a quoted TTL of 0, and then for itself."""
    (fact,) = peculiarities(
        odd({4: {"address": address(5), "quoted_ttl": 0}, 5: {"quoted_ttl": 1}})
    )
    assert fact.startswith("hop 4 does not answer but forwards probes whose TTL has run out")
    assert "(4.1, 4.2, 4.3, 5.1, 5.2, 5.3)" in fact


def test_a_quoted_ttl_of_zero_alone() -> None:
    """Many routers count down before they quote: nothing peculiar."""
    assert peculiarities(odd({4: {"quoted_ttl": 0}})) == ()


def test_one_address_at_two_hops() -> None:
    """Without the zero it may be a NAT as well."""
    (fact,) = peculiarities(odd({4: {"address": address(5), "quoted_ttl": 1}}))
    assert fact.startswith(f"{address(5)} answers at hops 4 and 5")


def test_a_quoted_ttl_above_one() -> None:
    """The hop's number may be wrong."""
    (fact,) = peculiarities(odd({4: {"quoted_ttl": 3}}))
    assert fact.startswith(f"hop 4 ({address(4)}) quotes probes with TTL 3 (4.1, 4.2, 4.3)")


def test_an_mpls_tunnel() -> None:
    """Labelled hops in a row are one tunnel."""
    changed = {ttl: {"mpls": LABELS} for ttl in (3, 4, 7)}
    assert peculiarities(odd(changed)) == (
        "hops 3 to 4 are in an MPLS tunnel, with labels 24001 (3.1, 3.2, 3.3, 4.1, 4.2, 4.3)",
        "hop 7 is in an MPLS tunnel, with labels 24001 (7.1, 7.2, 7.3)",
    )


def test_a_silent_hop_ends_no_tunnel() -> None:
    """Some router in it may not answer."""
    made = odd({ttl: {"mpls": LABELS} for ttl in (3, 5)})
    hops = tuple(Hop(4, 3) if hop.ttl == 4 else hop for hop in made.hops)
    assert peculiarities(replace(made, hops=hops))[0].startswith("hops 3 to 5 are in")


def test_limits_and_loss() -> None:
    """Rate-limited and lossy hops are told apart, with their counts."""
    hops = tuple(replace(h, answers=h.answers[:1]) if h.ttl <= 2 else h for h in GOOD.hops)
    (fact,) = peculiarities(replace(GOOD, hops=hops))
    assert fact == (
        "rate-limited, 1 of 3 at hop 1 and 1 of 3 at hop 2 answered: those behind answer more, so "
        "they forward and limit their own messages"
    )
    hops = tuple(replace(hop, answers=hop.answers[: 1 + hop.ttl % 2]) for hop in GOOD.hops)
    (fact,) = peculiarities(replace(GOOD, hops=hops))
    assert fact.startswith("lossy, ")


def test_a_hostile_path_has_no_end_of_facts() -> None:
    """A path that is odd at every hop gives a few facts of each kind, and short ones."""
    labels = tuple(MplsLabel(n, 0, bottom=False, ttl=1) for n in range(200))
    reply = {"quoted_ttl": 9, "mpls": labels, "rewritten": tuple(f"field {n}" for n in range(99))}
    hops = tuple(
        Hop(ttl, 3, tuple(answer(ttl, n, **reply) for n in (1, 2, 3))) for ttl in range(1, 31)
    )
    facts = peculiarities(trace(hops, StopReason.HOP_LIMIT))
    assert len(facts) <= 12
    assert max(map(len, facts)) < 400

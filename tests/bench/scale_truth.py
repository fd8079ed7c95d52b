"""The targets of the bench of scale, what is true of them, and how far an answer is from it.

A quarter of the paths each is asked on a port that is open, dropped at hop 6, rejected at hop 6
or closed, in turn. The other ports of every destination meet the same firewall, so that controls
get through on 443 and are refused by the destination on 80; it answers echo requests.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address
from typing import Any

from tests.bench.paths import (
    BLOCKED,
    CLOSED_PORT,
    DROPPED_PORT,
    OPEN_PORT,
    REJECTED_PORT,
    delayed,
)
from tests.bench.tun_network import Entry, address
from tests.scenarios import Expectation

FATES = (OPEN_PORT, DROPPED_PORT, REJECTED_PORT, CLOSED_PORT)
SHARED_HOPS = 4
#: Seconds that one link takes, one way.
DELAY = delayed().delay
#: Seconds by which the time of a trace's start may be wrong, for it is told in milliseconds.
ROUNDING = 0.002
EXPECTED = {expected.port: expected for expected in BLOCKED.expectations}

#: A target as the API shows it.
Told = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Aim:
    """One target: the end of a path, and the port that decides its fate."""

    path: int

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return f"target-{self.path}"

    @property
    def host(self) -> str:
        """The destination's address."""
        return address(self.path, BLOCKED.hops)

    @property
    def port(self) -> int:
        """One of `FATES`."""
        return FATES[self.path % len(FATES)]

    @property
    def truth(self) -> Expectation:
        """What a verdict on it should say."""
        return EXPECTED[self.port]

    def router(self, hop: int) -> str:
        """Who answers at a hop, the device that refuses at those behind it."""
        at = min(hop, self.truth.last_reachable_hop)
        return address(0 if at <= SHARED_HOPS else self.path, at)


def aims(targets: int) -> tuple[Aim, ...]:
    """So many targets."""
    return tuple(map(Aim, range(targets)))


# -- verdicts and hops -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Score:
    """How right the answers were, as counts; `wrong` holds one line for each wrong verdict."""

    verdicts: int = 0
    wrong: tuple[str, ...] = ()
    #: Hops that would answer one prober alone, and those of them that were found.
    hops: int = 0
    found: int = 0
    #: Found by asking that trace's own probes, not shared.
    own: int = 0
    #: Hops at which somebody else was named.
    mistaken: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(
            self.verdicts + other.verdicts,
            self.wrong + other.wrong,
            self.hops + other.hops,
            self.found + other.found,
            self.own + other.own,
            self.mistaken + other.mistaken,
        )


def score(aim: Aim, told: Told, not_before: float) -> Score:
    """Hold a target of the API against the truth; an older trace counts as no verdict."""
    verdict, began = told["verdict"], _began(told)
    if verdict is None or began < not_before:
        wrong: tuple[str, ...] = (f"{aim.name}: no verdict in this cycle",)
    else:
        wrong = tuple(_mistakes(aim, verdict))
    named = {hop["hop"]: {one["address"] for one in hop["responders"]} for hop in told["hops"]}
    asked = {hop["hop"] for hop in told["hops"] if hop["received"]}
    present = range(1, aim.truth.last_reachable_hop + 1)
    return Score(
        verdicts=1,
        wrong=wrong,
        hops=len(present),
        found=sum(aim.router(hop) in named.get(hop, ()) for hop in present),
        own=sum(aim.router(hop) in named.get(hop, ()) and hop in asked for hop in present),
        mistaken=sum(bool(found - {aim.router(hop)}) for hop, found in named.items()),
    )


def _mistakes(aim: Aim, verdict: Told) -> Iterator[str]:
    """At most one line: what the verdict says, and what is true."""
    truth = aim.truth
    expected = {
        "state": truth.state,
        "last_reachable_hop": truth.last_reachable_hop,
        "blocked_at_hop": truth.blocked_at_hop,
        "suspect_hops": list(truth.suspect_hops) if truth.suspect_hops else None,
        "blocked_by": aim.router(truth.blocked_by) if truth.blocked_by else None,
        "location": truth.location,
    }
    wrong = [f"{key} {verdict[key]} for {right}" for key, right in expected.items()]
    if lines := [
        line for line, key in zip(wrong, expected, strict=True) if verdict[key] != expected[key]
    ]:
        yield f"{aim.name} ({truth.state}): {', '.join(lines)}"


# -- round-trip times ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Times:
    """Errors of round-trip times in seconds."""

    #: Against what the network did with the same SYN, and against the delay that it meant.
    measured: tuple[float, ...]
    nominal: tuple[float, ...]
    #: Of hops whose answers the API and the network count differently.
    unpaired: int


class Journal:
    """What became of every SYN, by the endpoint that it was sent to."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._of: dict[tuple[bytes, int], list[Entry]] = defaultdict(list)
        for entry in sorted(entries, key=lambda entry: entry.taken):
            self._of[entry.destination, entry.port].append(entry)

    def __iter__(self) -> Iterator[Entry]:
        return (entry for found in self._of.values() for entry in found)

    def between(self, aim: Aim, began: float, ended: float) -> Sequence[Entry]:
        """The SYNs to a target, by time; both times are on the monotonic clock."""
        found = self._of[IPv4Address(aim.host).packed, aim.port]
        first = bisect_left(found, began, key=lambda entry: entry.taken)
        return found[first : bisect_right(found, ended, key=lambda entry: entry.taken)]


def times(journal: Journal, told: Iterable[tuple[Aim, Told]], clock_offset: float) -> Times:
    """Compare each round-trip time of each trace with the network's own.

    `clock_offset` is what the wall clock is ahead of the monotonic one. Hops that a trace did not
    ask itself are left out: their times count where they were measured.
    """
    measured: list[float] = []
    nominal: list[float] = []
    unpaired = 0
    for aim, one in told:
        took = _of_trace(journal, aim, one, clock_offset)
        for hop in one["hops"]:
            answered = [entry for entry in took if entry.ttl == hop["hop"] and entry.answered]
            rtts = [rtt for sender in hop["responders"] for rtt in sender["rtt_seconds"]]
            if not hop["received"] or hop["received"] != len(rtts) or len(hop["responders"]) > 1:
                continue
            if len(answered) != len(rtts):
                unpaired += len(rtts)
                continue
            for rtt, entry in zip(rtts, answered, strict=True):
                measured.append(abs(rtt - (entry.answered - entry.taken)))
                nominal.append(abs(rtt - meant(entry)))
    return Times(tuple(measured), tuple(nominal), unpaired)


def _of_trace(journal: Journal, aim: Aim, told: Told, clock_offset: float) -> list[Entry]:
    """What one trace sent, without its connect() and the further flows beside it."""
    began = _began(told) - clock_offset
    ended = began + (told["duration_seconds"] or 0.0)
    flows = {flow["source_port"] for flow in told["flows"]}
    found = [
        entry
        for entry in journal.between(aim, began - ROUNDING, ended + ROUNDING)
        if entry.ttl <= BLOCKED.hops and entry.source_port not in flows
    ]
    return [entry for entry in found if entry.source_port == found[0].source_port]


def meant(entry: Entry) -> float:
    """The round trip that the scenario says, in seconds."""
    return 2 * entry.hop * DELAY


def lags(journal: Iterable[Entry]) -> list[float]:
    """How late the network itself answered, in seconds."""
    answered = (entry for entry in journal if entry.answered)
    return [entry.answered - entry.taken - meant(entry) for entry in answered]


def _began(told: Told) -> float:
    """Seconds since the epoch; 0 before the first trace."""
    at = told["started_at"]
    return datetime.fromisoformat(at).timestamp() if at else 0.0


def percentile(figures: Iterable[float], share: float) -> float:
    """The nearest rank: the least figure that so large a share does not exceed; nan for none."""
    ordered = sorted(figures)
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else math.nan

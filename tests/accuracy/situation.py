"""What a situation of the accuracy matrix is: a network, the truth about it, and how it is scored.

    Situation -> world() -> popen() where the prober stands -> what the program prints
                 truth   -> score()                          -> Mark

The truth is what the author of the network knows. Whoever adds a situation writes it down
before the program has said anything, and never after it.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from exporter.model import BLOCKED_STATES, Family

#: States that have a culprit which the verdict has to name by its address.
NAMING_STATES = frozenset({"rejected", "unreachable"})


@dataclass(frozen=True, slots=True)
class Blind:
    """What the connect engine may say beyond the truth, and why it cannot know better.

    Never with high confidence. `why` goes into the table of docs/verdicts.md.
    """

    why: str
    states: frozenset[str] = frozenset({"inconclusive"})
    locations: frozenset[str] = frozenset({"none", "unknown"})


#: Of a path with several branches, some of which are bad.
BLIND_ON_BRANCHES = Blind(
    "each of its probes is a flow of its own, so a bad branch is like loss",
    frozenset({"open", "filtered", "inconclusive"}),
)


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth about a target, as hop numbers and addresses; see design's words.

    Several states or locations are several ways to say the same truth, not degrees of it.
    """

    states: frozenset[str]
    locations: frozenset[str] = frozenset({"none"})
    #: The hop of the device that blocks.
    culprit: int | None = None
    #: Family -> the address of the device that blocks, where anybody can know it.
    blocked_by: Mapping[str, str] = field(default_factory=dict)
    #: None: not checked.
    last_reachable_hop: int | None = None
    #: How many hops `suspect_hops` may span at most; None: not checked.
    widest: int | None = None
    #: Some of the flows are blocked, not all of them.
    some_flows: bool = False
    allowed_on_connect: Blind | None = None


class World(Protocol):
    """A network that runs."""

    @property
    def prober(self) -> int | None:
        """A process in the prober's namespaces; None where it takes more than them to be there."""

    def popen(
        self, argv: Sequence[str], listener: socket.socket | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """`subprocess.Popen` where the prober stands; see `tests.lab.lab.Lab.popen`."""

    def change(self) -> None:
        """What happens between the first cycle and the last one."""


@dataclass(frozen=True, slots=True)
class Situation:
    """One row of the matrix."""

    name: str
    #: A row's heading, in plain words.
    title: str
    #: What is true, as a sentence for the docs.
    sentence: str
    truth: Truth
    #: Family -> the destination's address.
    target: Mapping[str, str]
    port: int
    #: Makes a fresh network; the routers' ICMP budgets are full.
    world: Callable[[], AbstractContextManager[World]]
    #: Environment of the exporter.
    settings: Mapping[str, str] = field(default_factory=dict)
    #: With `changes`, the target is observed before and after `World.change`.
    changes: bool = False

    @property
    def families(self) -> tuple[str, ...]:
        """The IP versions in which the situation is played."""
        return tuple(self.target)


# -- the score -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mark:
    """How one answer of the program compares with the truth."""

    state: bool
    suspects: bool
    location: bool
    blocked_by: bool
    last_reachable_hop: bool
    flows: bool
    #: How many hops `suspect_hops` spans, None when nothing is suspected.
    width: int | None
    narrow: bool
    confidence: str

    @property
    def wrong(self) -> tuple[str, ...]:
        """What is wrong, in the words of the fields."""
        judged = ("state", "suspects", "location", "blocked_by", "last_reachable_hop")
        return tuple(name for name in (*judged, "flows", "narrow") if not getattr(self, name))

    @property
    def right(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong

    @property
    def wrong_at_high(self) -> bool:
        """The worst that can be said: something wrong, and sure of it."""
        return not self.right and self.confidence == "high"


def score(found: Mapping[str, Any], truth: Truth, engine: str) -> Mark:
    """Compare what `trace --json` or the API says of a target with the truth."""
    verdict = found["verdict"]
    state, suspects = verdict["state"], verdict["suspect_hops"]
    blind = truth.allowed_on_connect if engine == "connect" else None
    excused = bool(blind and state in blind.states and verdict["confidence"] != "high")
    width = suspects[1] - suspects[0] + 1 if suspects else None
    return Mark(
        state=state in truth.states or excused,
        suspects=_contains(suspects, truth.culprit, state),
        location=verdict["location"] in _locations(truth, blind),
        blocked_by=_names(verdict, truth, Family.of(found["address"])),
        last_reachable_hop=excused
        or truth.last_reachable_hop in (None, verdict["last_reachable_hop"]),
        flows=not truth.some_flows or excused or 0 < verdict["flows_blocked"] < verdict["flows"],
        width=width,
        narrow=blind is not None or truth.widest is None or (width or 0) <= truth.widest,
        confidence=verdict["confidence"],
    )


def _contains(suspects: Sequence[int] | None, culprit: int | None, state: str) -> bool:
    """Whether the culprit is among the suspects, and nobody is accused where nobody blocks."""
    if state not in BLOCKED_STATES:
        return suspects is None
    return bool(culprit and suspects and suspects[0] <= culprit <= suspects[1])


def _locations(truth: Truth, blind: Blind | None) -> frozenset[str]:
    return truth.locations | blind.locations if blind else truth.locations


def _names(verdict: Mapping[str, Any], truth: Truth, family: Family) -> bool:
    """Whether the right device is named, or none where the state does not name one."""
    named, true = verdict["blocked_by"], truth.blocked_by.get(family)
    if named is None:
        return true is None or verdict["state"] not in NAMING_STATES
    return bool(named == true)

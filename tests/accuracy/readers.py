"""What a reasonable network engineer concludes from what tcptraceroute, traceroute or mtr prints.

The rules, in this order; `docs/verdicts.md` repeats them for readers of the table:

1. A mark behind an address is believed. `[open]` and `[closed]` are the destination's port.
   `!N` and `!H` (no route, host unreachable) are "unreachable", and so is `!P`; `!X`, `!A`, `!C`
   and `!p` (prohibited, port unreachable) are "rejected"; whoever is marked says so, and stands
   at the first line that names it.
2. An address that answers at three lines or more, with another one in between, is a loop.
3. The destination's own address without a mark: the destination was reached, nothing is known of
   its port.
4. Some other address, and nothing but silence behind it: filtered; whoever drops is that hop or
   the next one.
5. Some other address, and no line behind it: the program stopped and does not say why.
6. Silence alone says nothing.

A line that shows an address as well as losses counts as answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from tests.accuracy.situation import Truth

#: Mark of a line -> what it is taken for. traceroute(8); tcptraceroute has !A and !C, and
#: !p for a port.
MARKS = {
    "[open]": "open",
    "[closed]": "closed",
    "!N": "unreachable",
    "!H": "unreachable",
    "!P": "unreachable",
    "!X": "rejected",
    "!A": "rejected",
    "!C": "rejected",
    "!p": "rejected",
}
#: What design's states are to somebody who reads hops.
SAME = {
    "open": {"open", "reached"},
    "closed": {"closed"},
    "rejected": {"rejected", "unreachable"},
    "unreachable": {"rejected", "unreachable"},
    "filtered": {"filtered"},
    "loop": {"loop"},
}
#: Conclusions that are no statement about what is wrong.
OPEN_ENDED = frozenset({"stopped", "nothing"})
#: So many lines name a router before it is called a loop.
ROUNDS = 3

_TRACEROUTE_LINE = re.compile(r"\s*(\d{1,3})\s+(.*)")
_MTR_LINE = re.compile(r"\s*(\d{1,3})\.\|--\s+(\S+.*)")
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")
_MARK = re.compile(r"(?<!\S)(?:" + "|".join(map(re.escape, MARKS)) + r")(?!\S)")


class Conclusion(StrEnum):
    """How the reader's conclusion compares with the truth."""

    RIGHT = "right"
    WRONG = "wrong"
    CANT_TELL = "can't tell"


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reader concludes: `state`, at which hop, and who said so.

    Beside design's states there are "reached" (rule 3), "stopped" (rule 5) and "nothing" (rule 6).
    """

    state: str
    hop: int = 0
    by: str | None = None

    def __str__(self) -> str:
        """Short enough for a table."""
        place = f" {self.by or ''} at {self.hop}".replace("  ", " ") if self.hop else ""
        return {
            "filtered": f"silence behind hop {self.hop}",
            "stopped": f"ends at hop {self.hop}",
            "nothing": "silence",
            "loop": f"the same routers up to hop {self.hop}",
        }.get(self.state, self.state + place)


class Line(NamedTuple):
    """One hop as printed."""

    hop: int
    addresses: tuple[str, ...]
    marks: tuple[str, ...] = ()


def read_traceroute(printed: str, destination: str) -> Reading:
    """What the output of traceroute or tcptraceroute means to its reader."""
    return _conclude(_lines(printed, _TRACEROUTE_LINE), destination)


def read_mtr(printed: str, destination: str) -> Reading:
    """What a report of mtr means to its reader."""
    return _conclude(_lines(printed, _MTR_LINE), destination)


def _lines(printed: str, pattern: re.Pattern[str]) -> tuple[Line, ...]:
    return tuple(
        Line(int(line[1]), tuple(_ADDRESS.findall(line[2])), tuple(_MARK.findall(line[2])))
        for text in printed.splitlines()
        for line in [pattern.match(text)]
        if line
    )


def _conclude(lines: Sequence[Line], destination: str) -> Reading:
    answered = [line for line in lines if line.addresses]
    if not answered:
        return Reading("nothing")
    rules: tuple[Callable[[], Reading | None], ...] = (
        lambda: _marked(answered),
        lambda: _circling(answered),
        lambda: _reached(answered, destination),
    )
    for rule in rules:
        if reading := rule():
            return reading
    last = answered[-1]
    silent = lines[-1].hop > last.hop
    return Reading("filtered" if silent else "stopped", last.hop, last.addresses[-1])


def _marked(answered: Sequence[Line]) -> Reading | None:
    marked = next((line for line in answered if line.marks), None)
    if marked is None:
        return None
    by = marked.addresses[-1]
    hop = next(line.hop for line in answered if by in line.addresses)
    return Reading(MARKS[marked.marks[-1]], hop, by)


def _circling(answered: Sequence[Line]) -> Reading | None:
    """Three turns of a router, with somebody else in between each two."""
    for address in dict.fromkeys(one for line in answered for one in line.addresses):
        turns = [line.hop for line in answered if address in line.addresses]
        apart = sum(1 for before, after in pairwise(turns) if after > before + 1)
        if apart >= ROUNDS - 1:
            return Reading("loop", answered[-1].hop, address)
    return None


def _reached(answered: Sequence[Line], destination: str) -> Reading | None:
    found = next((line.hop for line in answered if destination in line.addresses), None)
    return Reading("reached", found, destination) if found else None


# -- against the truth -----------------------------------------------------------------


def compare(reading: Reading, truth: Truth) -> Conclusion:
    """Right when state and place are; "can't tell" where the text supports no conclusion."""
    if reading.state in OPEN_ENDED:
        return Conclusion.CANT_TELL
    if reading.state == "reached" and "closed" in truth.states:
        return Conclusion.CANT_TELL  # reached it is; that nothing listens is not said
    same = set().union(*(SAME.get(state, set()) for state in truth.states))
    if reading.state not in same or not _names_the_place(reading, truth):
        return Conclusion.WRONG
    return Conclusion.RIGHT


def _names_the_place(reading: Reading, truth: Truth) -> bool:
    return all(_facts(reading, truth))


def _facts(reading: Reading, truth: Truth) -> Iterator[bool]:
    """Whether each part of the place that the reading names is the true one."""
    if reading.state == "filtered" and truth.culprit is not None:
        yield reading.hop <= truth.culprit <= reading.hop + 1
    if reading.state in ("rejected", "unreachable") and truth.blocked_by:
        yield reading.by == truth.blocked_by.get("ipv4")

"""How bad a state is: what the pages colour, count and sort by."""

from __future__ import annotations

from exporter.model import BLOCKED_STATES, State
from exporter.store import Record

#: Before the first trace.
WAITING = "waiting"
#: The classes of states in the style sheet, and their order on a page: what fails first.
RANKS = {tone: n for n, tone in enumerate(("blocked", "unknown", WAITING, "closed", "open"))}

TONES: dict[State, str] = {
    **dict.fromkeys(BLOCKED_STATES | {State.INTERCEPTED}, "blocked"),
    **dict.fromkeys((State.ERROR, State.UNRESOLVED, State.INCONCLUSIVE), "unknown"),
    State.CLOSED: "closed",
    State.OPEN: "open",
}


def tone_of(record: Record) -> str:
    """One of `RANKS`."""
    return TONES[record.latest.verdict.state] if record.latest else WAITING


def state_of(record: Record) -> str:
    """The state in a word, of a target that waits, too."""
    return record.latest.verdict.state if record.latest else WAITING

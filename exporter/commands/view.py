"""What `trace` shows of a session, as lines; on a terminal they become a frame."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence

from exporter.commands.progress import Progress, Step
from exporter.commands.session import Session
from exporter.commands.terminal import Colours
from exporter.model import Observation
from exporter.publish.lines import growing_lines, render_trace
from exporter.publish.text import SUMMARY_NAME_LENGTH, printable, shorten, timestamp, where


class View:
    """A session as it is now."""

    def __init__(self, session: Session, colours: Colours) -> None:
        self._session = session
        self._colours = colours
        self._began = time.monotonic()

    def trace(self, observation: Observation) -> list[str]:
        """A complete trace."""
        return self._coloured(render_trace(observation).split("\n"))

    def once(self) -> list[str]:
        """A single round that is under way."""
        progress = self._session.progress
        seconds = f"{time.monotonic() - self._began:.1f} s"
        if len(progress) == 1:
            return [*self._growing(progress[0]), f"{progress[0].step}, {seconds}"]
        done = sum(one.step is Step.DONE for one in progress)
        return [*self._table(progress), f"{done} of {len(progress)} traced, {seconds}"]

    def known(self) -> Iterator[list[str]]:
        """What a round that was interrupted has found of each target."""
        for one in self._session.progress:
            yield self.trace(one.observation) if one.observation else self._growing(one)

    def watch(self) -> list[str]:
        """The latest round, and when the next one comes."""
        session = self._session
        doing = f"the next at {clock(session.next_at)}" if session.next_at else "under way"
        return [*self.latest(), f"round {session.rounds}, {doing}; Ctrl-C ends it"]

    def latest(self) -> list[str]:
        """What is known of the targets, and the last changes."""
        session = self._session
        several = len(session.progress) > 1
        lines = self._table(session.progress) if several else next(self.known())
        return [*lines, *(["changes:"] if session.recent else []), *session.recent]

    def sum(self) -> str:
        """What a watch has seen, in one line."""
        session = self._session
        states = Counter(one.verdict.state for one in session.observations)
        now = ", ".join(f"{count} {state}" for state, count in states.most_common())
        rounds = f"{session.rounds} round{'s' * (session.rounds != 1)}"
        changes = f"{session.changes} change{'s' * (session.changes != 1)}"
        return f"{rounds} in {time.monotonic() - self._began:.0f} s, {changes}; now {now}"

    def _growing(self, progress: Progress) -> list[str]:
        return self._coloured(growing_lines(progress.so_far()))

    def _table(self, progress: Sequence[Progress]) -> list[str]:
        """A line for each target: its name, its state or what is being done, and how far it is."""
        names = [shorten(printable(one.target.name), SUMMARY_NAME_LENGTH) for one in progress]
        width = max(map(len, names))
        return [
            f"{name:{width}}  {self._row(one)}" for name, one in zip(names, progress, strict=True)
        ]

    def _row(self, progress: Progress) -> str:
        if seen := progress.observation:
            verdict = seen.verdict
            state = self._colours.state(f"{verdict.state:12}", verdict.state)
            return f"{state}  {where(verdict)}, confidence {verdict.confidence}"
        trace = progress.so_far().trace
        answered = trace.last_answering_ttl if trace else 0
        return f"{progress.step:12}" + (f"  hop {answered}" if answered else "")

    def _coloured(self, lines: Sequence[str] | Iterator[str]) -> list[str]:
        return [self._colours.line(line) for line in lines]


def clock(seconds: float) -> str:
    """A time of day in UTC."""
    return f"{timestamp(seconds)[11:19]} UTC"

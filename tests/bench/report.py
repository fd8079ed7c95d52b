"""What a benchmark says: tables in Markdown, and the goals with what was measured."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

Figures = Sequence[float]


@dataclass(frozen=True, slots=True)
class Goal:
    """A number to reach: met when `measured` is at most `bound`, both in `unit` ("" for none)."""

    text: str
    measured: float
    bound: float
    unit: str

    @property
    def line(self) -> str:
        """One line of the list under a table."""
        word = "met" if self.measured <= self.bound else "MISSED"
        measured = f"{self.measured:.3g} {self.unit}".rstrip()
        return f"- {self.text}: {measured} of at most {self.bound:.3g}: {word}"


@dataclass(frozen=True, slots=True)
class Part:
    """The outcome of one part of the benchmark."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    goals: tuple[Goal, ...] = ()
    notes: tuple[str, ...] = ()

    def render(self) -> str:
        """The part as Markdown."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"### {self.title}"
        yield ""
        table = (self.header, *self.rows)
        widths = [max(len(row[column]) for row in table) for column in range(len(self.header))]
        yield _row(self.header, widths)
        yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        yield from (_row(row, widths) for row in self.rows)
        if self.goals or self.notes:
            yield ""
        yield from (goal.line for goal in self.goals)
        yield from (f"- {note}" for note in self.notes)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"


def summary(figures: Figures, unit: str = "s", factor: float = 1.0) -> str:
    """The median with its spread: "3.94 s (3.90 to 4.01, 5 runs)"."""
    scaled = [figure * factor for figure in figures]
    middle = f"{median(scaled):.3g} {unit}"
    if len(scaled) == 1:
        return f"{middle} (1 run)"
    return f"{middle} ({min(scaled):.3g} to {max(scaled):.3g}, {len(scaled)} runs)"


def machine() -> str:
    """What the figures were measured on, in one line without names."""
    kernel = re.match(r"\d+\.\d+", platform.release())
    return (
        f"{os.cpu_count()} cores, Linux {kernel[0] if kernel else 'unknown'}, "
        f"Python {platform.python_version()}, load before {os.getloadavg()[0]:.1f}"
    )

"""Whether anything grows in the long run, and whether every verdict stays right.

    python -m tests.bench.soak [--hours 30]       simulated hours, in virtual time (no privilege)
    python -m tests.bench.soak --real 60          real minutes of `serve` behind a TUN device (root)

Prints Markdown, and while it runs a line an hour, or a minute, on standard error. Exits with 1 when
something has grown or a verdict was wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from tests.bench import soak_real, soak_virtual
from tests.bench.report import Goal, Part, machine
from tests.bench.soak_real import Minute
from tests.bench.soak_virtual import Findings, Levels, Size
from tests.lab.lab import LabError

DEFAULTS = Size()
#: What may grow from the second quarter of the time to the last: a share of it, and so much beside.
ALLOWED = {
    "blocks": (0.03, 2_000.0),
    "resident": (0.03, 2.0),
    "descriptors": (0.0, 2.0),
    "tasks": (0.0, 4.0),
    "threads": (0.0, 1.0),
    "series": (0.02, 20.0),
    "cpu": (0.1, 0.2),
}
WORDS = {
    "blocks": "pieces of memory that Python holds",
    "resident": "resident memory, MiB",
    "descriptors": "descriptors",
    "tasks": "tasks",
    "threads": "threads",
    "series": "series",
    "cpu": "CPU, % of one core",
}
SHOWN = 5

Taken = TypeVar("Taken", Levels, Minute)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the soak that the arguments name; returns the exit status."""
    options = _parser().parse_args(arguments)
    size = replace(DEFAULTS, targets=options.targets, rounds=options.hours)
    try:
        part = _real(options.real) if options.real else _virtual(size)
    except LabError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{machine()}\n\n{part.render()}")
    return int(any(goal.measured > goal.bound for goal in part.goals))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.soak",
        description="Soaks the service in virtual time, or in real time with --real.",
    )
    parser.add_argument("--hours", type=int, default=DEFAULTS.rounds, help="simulated hours")
    parser.add_argument("--targets", type=int, default=DEFAULTS.targets, help="simulated targets")
    parser.add_argument("--real", type=int, metavar="MINUTES", help="real minutes instead")
    return parser


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# -- in virtual time -------------------------------------------------------------------


def _virtual(size: Size) -> Part:
    return part_of(size, soak_virtual.soak(size, _tell))


def part_of(size: Size, found: Findings) -> Part:
    """What the simulated hours have shown."""
    levels = ("blocks", "resident", "descriptors", "tasks", "threads", "series")
    grown = growth(found.levels, levels)
    return Part(
        title=f"{size.seconds / 3600:g} simulated hours with {size.targets} targets",
        header=("what", "second quarter", "last quarter"),
        rows=_rows(grown),
        goals=(*_verdicts(found), *_goals(grown)),
        notes=(
            f"{found.probes:,} probes, {found.right:,} right verdicts",
            f"{found.levels[-1].processor_seconds:.0f} s of CPU, the simulated network's included",
            *_examples(found),
        ),
    )


def _verdicts(found: Findings) -> Iterator[Goal]:
    yield Goal("wrong verdicts", found.wrong.total(), 0, "")
    yield Goal("routers shown where they stand no more", found.wrong_hops.total(), 0, "")
    yield Goal("verdicts older than two intervals", found.stale.total(), 0, "")
    yield Goal("targets without series, or the reverse", found.wrong_targets.total(), 0, "")


def _examples(found: Findings) -> Iterator[str]:
    for counted in (found.wrong, found.wrong_hops, found.stale, found.wrong_targets):
        yield from (f"{count} x {what}" for what, count in counted.most_common(SHOWN) if count)


# -- in real time ----------------------------------------------------------------------


def _real(minutes: int) -> Part:
    found = soak_real.soak(minutes, _tell)
    grown = growth(found, ("resident", "descriptors", "threads", "cpu"))
    wrong = [line for one in found for line in one.score.wrong]
    return Part(
        title=f"{minutes} real minutes with {soak_real.TARGETS} targets",
        header=("what", "second quarter", "last quarter"),
        rows=_rows(grown),
        goals=(Goal("wrong verdicts", len(wrong), 0, ""), *_goals(grown)),
        notes=(
            f"{sum(one.score.verdicts for one in found):,} verdicts",
            f"slowest scrape {max(one.scrape for one in found) * 1e3:.0f} ms",
            *wrong[:SHOWN],
        ),
    )


# -- what has grown --------------------------------------------------------------------


def growth(taken: Sequence[Taken], names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Name -> its mean over the second quarter of what was taken, and over the last.

    The first quarter is for caches to fill.
    """
    quarter = max(1, len(taken) // 4)
    parts = taken[quarter : 2 * quarter] or taken, taken[-quarter:]
    return {name: (_mean(parts[0], name), _mean(parts[1], name)) for name in names}


def _mean(taken: Sequence[Taken], name: str) -> float:
    return float(sum(getattr(one, name) for one in taken) / len(taken))


def _rows(grown: Mapping[str, tuple[float, float]]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (WORDS[name], f"{warm:,.1f}", f"{late:,.1f}") for name, (warm, late) in grown.items()
    )


def _goals(grown: Mapping[str, tuple[float, float]]) -> Iterator[Goal]:
    for name, (warm, late) in grown.items():
        share, beside = ALLOWED[name]
        yield Goal(f"growth of {WORDS[name]}", late - warm, share * warm + beside, "")


if __name__ == "__main__":
    sys.exit(main())

"""Measure the numbers that the project promises, with its peers beside it.

    python -m tests.bench [blocked] [open] [cpu] [serve] [page]    (all of them without a name)
    python -m tests.bench scale [--targets 10 100 1000]     many targets
    python -m tests.bench pools                             the peers on 100 targets
    python -m tests.bench --profile ENGINE                  where the CPU of a probe goes

Prints Markdown; docs/performance.md says what it means and holds the last table.
"""

from __future__ import annotations

import argparse
import compileall
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import exporter
from tests.bench import blocked, cpu, open_path, page, scale, scale_pools, serving
from tests.bench.report import Part, machine
from tests.bench.tools import MissingToolError
from tests.lab.lab import LabError


@dataclass(frozen=True, slots=True)
class Measurement:
    """A part of the benchmark, and how long it takes."""

    run: Callable[[], Part]
    takes: str


MEASUREMENTS = {
    "blocked": Measurement(blocked.measure, "220 s, tcptraceroute's time"),
    "open": Measurement(open_path.measure, "90 s"),
    "cpu": Measurement(cpu.measure, "90 s"),
    "serve": Measurement(serving.measure, "100 s"),
    "page": Measurement(page.measure, "30 s"),
}
#: Only when they are named: together as long as all the others.
OF_SCALE = {
    "scale": Measurement(scale.measure, "11 minutes, 5 of them for 1,000 targets"),
    "pools": Measurement(scale_pools.measure, "6 minutes, tcptraceroute's time"),
}
ALL = {**MEASUREMENTS, **OF_SCALE}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that the arguments name; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(ALL):
        parser.error(f"{', '.join(sorted(unknown))}: the parts are {', '.join(ALL)}")
    try:
        if options.profile:
            print(cpu.profile(options.profile))
        else:
            _measure(options.parts or list(MEASUREMENTS), options.targets)
    except (LabError, MissingToolError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measures in networks of its own; needs root for the TUN device.",
        epilog="; ".join(f"{name}: {one.takes}" for name, one in ALL.items()),
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(ALL))
    parser.add_argument(
        "--targets",
        nargs="+",
        type=int,
        choices=tuple(scale.SCALES),
        default=tuple(scale.SCALES),
        help="how many targets the part scale has, one or several numbers",
    )
    parser.add_argument(
        "--profile", choices=tuple(cpu.BOUNDS), help="where the CPU of a probe goes"
    )
    return parser


def _measure(names: Sequence[str], targets: Sequence[int]) -> None:
    # As where it is installed: no start has to compile.
    compileall.compile_dir(Path(exporter.__file__).parent, quiet=1)
    print(f"`python -m tests.bench {' '.join(names)}`: {machine()}\n")
    for name in names:
        print(f"{name}: takes about {ALL[name].takes}", file=sys.stderr, flush=True)
        run = partial(scale.measure, targets) if name == "scale" else ALL[name].run
        print(run().render(), end="\n\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())

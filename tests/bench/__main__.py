"""Measure the numbers that the project promises, with its peers beside it.

    python -m tests.bench [blocked] [open] [cpu] [serve]    (all of them without a name)
    python -m tests.bench --profile ENGINE                  where the CPU of a probe goes

Prints Markdown; docs/performance.md says what it means and holds the last table.
"""

from __future__ import annotations

import argparse
import compileall
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import exporter
from tests.bench import blocked, cpu, open_path, serving
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
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that the arguments name; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(MEASUREMENTS):
        parser.error(f"{', '.join(sorted(unknown))}: the parts are {', '.join(MEASUREMENTS)}")
    try:
        if options.profile:
            print(cpu.profile(options.profile))
        else:
            _measure(options.parts or list(MEASUREMENTS))
    except (LabError, MissingToolError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measures in networks of its own; needs root for the TUN device.",
        epilog="; ".join(f"{name}: {one.takes}" for name, one in MEASUREMENTS.items()),
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(MEASUREMENTS))
    parser.add_argument(
        "--profile", choices=tuple(cpu.BOUNDS), help="where the CPU of a probe goes"
    )
    return parser


def _measure(names: Sequence[str]) -> None:
    # As where it is installed: no start has to compile.
    compileall.compile_dir(Path(exporter.__file__).parent, quiet=1)
    print(f"`python -m tests.bench {' '.join(names)}`: {machine()}\n")
    for name in names:
        print(f"{name}: takes about {MEASUREMENTS[name].takes}", file=sys.stderr, flush=True)
        print(MEASUREMENTS[name].run().render(), end="\n\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())

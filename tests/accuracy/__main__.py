"""Print the accuracy matrix; `make accuracy` runs it.

    python -m tests.accuracy [--repeat N] [--no-peers] [--markdown] [SITUATION ...]

Exits with 1 if this program is wrong anywhere. What the peers print does not count.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.accuracy.matrix import SITUATIONS, complaints, play, progress, table
from tests.accuracy.peers import MissingPeerError
from tests.accuracy.table import PAGE, written
from tests.lab.lab import LabError


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what the arguments name; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.accuracy",
        description="Plays every situation by every engine and IP version, in networks of its own.",
    )
    parser.add_argument("situations", nargs="*", metavar="SITUATION", help=", ".join(SITUATIONS))
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="so many times each")
    parser.add_argument("--no-peers", action="store_true", help="this program alone")
    parser.add_argument("--markdown", action="store_true", help="write docs/accuracy.md as well")
    options = parser.parse_args(arguments)
    if unknown := set(options.situations) - set(SITUATIONS):
        parser.error(f"no situation {', '.join(sorted(unknown))}; --help lists them")
    if options.markdown and (options.situations or options.no_peers):
        parser.error("--markdown shows every situation, with the peers")
    chosen = [SITUATIONS[name] for name in options.situations or SITUATIONS]
    try:
        rows = list(progress(play(chosen, options.repeat, with_peers=not options.no_peers)))
    except (LabError, MissingPeerError) as error:
        print(error, file=sys.stderr)
        return 2
    print(table(rows).render())
    if options.markdown:
        PAGE.write_text(written(PAGE.read_text(), rows))
    return 1 if any(complaints(rows)) else 0


if __name__ == "__main__":
    sys.exit(main())

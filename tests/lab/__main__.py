"""`python -m tests.lab [-6] SCENARIO [-- COMMAND ...]`: a lab to look around in.

Draws the map, with -6 by the IPv6 addresses that every lab has too, then runs the command in
the prober's namespace, by default an interactive shell. The other devices are `ip netns exec
hop1 ...` and so on. SCENARIO is a name in tests/scenarios or the path of a file of that kind.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from tests import scenarios
from tests.lab.lab import Lab, LabError, draw


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "-6", dest="family", action="store_const", const="ipv6", default="ipv4", help="map in IPv6"
    )
    parser.add_argument("scenario", help=", ".join(s.name for s in scenarios.load_all()))
    parser.add_argument("command", nargs="*", help="default: the shell that SHELL names")
    options = parser.parse_args(arguments)
    path = Path(options.scenario)
    if not path.is_file():
        path = scenarios.FOLDER / f"{options.scenario}.toml"
    if not path.is_file():
        parser.error(f"no scenario {options.scenario!r}; there is no file {path.name}")
    scenario = replace(scenarios.load(path), family=options.family)
    print(draw(scenario), flush=True)
    # A Ctrl-C is for the command, so it is caught here, not ignored: a command would inherit that.
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with Lab(scenario) as lab:
            return lab.run(options.command or [os.environ.get("SHELL", "sh")]).returncode
    except LabError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

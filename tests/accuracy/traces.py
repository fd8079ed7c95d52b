"""The traces in docs/verdicts.md, one of each state, as `egress-exporter trace` prints them.

python -m tests.accuracy.traces      plays the situations and writes the page's section
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from exporter.model import joined
from tests.accuracy.matrix import SITUATIONS
from tests.accuracy.situation import Situation
from tests.lab.exporting import COMMAND, ROOT

PAGE = Path(__file__).parents[2] / "docs" / "verdicts.md"
BEGIN = "<!-- made by python -m tests.accuracy.traces: begin -->"
END = "<!-- made by python -m tests.accuracy.traces: end -->"
#: State -> the situation that shows it. `unresolved` and `error` have no trace.
SHOWN = {
    "open": "open",
    "closed": "closed",
    "rejected": "admin-prohibited",
    "reset": "reset-forward-5",
    "unreachable": "dead-host",
    "filtered": "drop-mid-path",
    "loop": "loop-external",
    "intercepted": "canary-answered",
    "inconclusive": "policy-all-silent",
}


def trace(situation: Situation) -> str:
    """What the command prints in a fresh network, by the syn engine over IPv4."""
    settings = {"PATH": os.environ["PATH"], "ENGINE": "syn", **situation.settings}
    argv = [*COMMAND, "trace", joined(situation.target["ipv4"], situation.port)]
    with (
        situation.world() as world,
        world.popen(
            argv,
            cwd=ROOT,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        return str(process.communicate()[0])


def section(traces: Mapping[str, str]) -> str:
    """State -> printed text, as the page shows them."""
    return "\n\n".join(
        f"### Trace: `{state}`\n\nIn the lab: {SITUATIONS[SHOWN[state]].sentence}.\n\n"
        f"```\n{printed.strip()}\n```"
        for state, printed in traces.items()
    )


def written(page: str, traces: Mapping[str, str]) -> str:
    """The page with these traces. Raises ValueError where the markers are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name} lacks its markers")
    return f"{before}{BEGIN}\n\n{section(traces)}\n\n{END}{after}"


def main() -> int:
    """Write the page; a state that the program does not see is an error, and nothing is written."""
    with ThreadPoolExecutor(len(SHOWN)) as pool:
        printed = pool.map(lambda name: trace(SITUATIONS[name]), SHOWN.values())
        traces = dict(zip(SHOWN, printed, strict=True))
    missed = [state for state, text in traces.items() if f"verdict: {state}" not in text]
    if missed:
        print(f"not seen: {', '.join(missed)}", file=sys.stderr)
        return 1
    PAGE.write_text(written(PAGE.read_text(), traces))
    return 0


if __name__ == "__main__":
    sys.exit(main())

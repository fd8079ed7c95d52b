"""Many processes at once, and what they cost together; started in the prober's namespace.

    python -m tests.bench.scale_pool        {"commands": [[...], ...], "at_once": 100} on stdin

Prints one line of JSON: a `Pooled`.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from resource import RUSAGE_CHILDREN, getrusage

#: linux/prctl.h: what a command leaves behind becomes our child, and its CPU counts.
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Pooled:
    """Seconds of time and of CPU until all were done, and what each printed."""

    seconds: float
    cpu: float
    printed: list[str]


def pool(commands: Sequence[Sequence[str]], at_once: int) -> Pooled:
    """Run all commands, so many at a time."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    began = time.monotonic()
    with ThreadPoolExecutor(at_once) as threads:
        printed = list(threads.map(_run, commands))
    seconds = time.monotonic() - began
    with suppress(ChildProcessError):
        while True:
            os.wait()
    used = getrusage(RUSAGE_CHILDREN)
    return Pooled(seconds, used.ru_utime + used.ru_stime, printed)


def _run(command: Sequence[str]) -> str:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,
    ).stdout


if __name__ == "__main__":
    print(json.dumps(asdict(pool(**json.load(sys.stdin)))))

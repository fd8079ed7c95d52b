"""The command line's own part of `serve`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_start_that_is_stopped_ends_well() -> None:
    """SIGTERM before the service stands ends it with 0, even where the kernel has no default."""
    code = (
        "import os, signal, exporter.__main__ as command;"
        "command._configured = lambda _: os.kill(os.getpid(), signal.SIGTERM);"
        "command.main(['serve'])"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0

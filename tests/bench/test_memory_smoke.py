"""The instrument for memory and CPU plays the four fates, and the service judges them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from exporter.model import State
from exporter.publish.log import LogStats
from tests.bench.memory import FATES, Bench
from tests.unit import virtual

ROOT = Path(__file__).parents[2]
STATES = {
    "open": State.OPEN,
    "closed": State.CLOSED,
    "dropped": State.FILTERED,
    "rejected": State.REJECTED,
}


def test_every_fate_gets_its_verdict() -> None:
    """After two cycles each of the targets has the state that its fate should have."""

    async def states() -> dict[str, State]:
        bench = Bench(len(FATES), LogStats("text"))
        for _ in range(2):
            await bench.cycle()
        latest = {record.target.name: record.latest for record in bench.service._store}
        return {name.split("-")[0]: seen.verdict.state for name, seen in latest.items() if seen}

    assert virtual.run(states()) == STATES


@pytest.mark.parametrize(
    ("option", "told"), [("--phases", "judge"), ("--places", "bytes a target")]
)
def test_it_says_where_memory_and_time_go(option: str, told: str) -> None:
    """One run prints resident memory and CPU a cycle, and what was asked for beside them."""
    argv = [sys.executable, "-m", "tests.bench.memory", "4", "--cycles", "1", option]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "cycle 1: RSS" in done.stdout
    assert told in done.stdout

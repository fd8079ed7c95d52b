"""Who traces a target when several instances share the targets out."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import Share, Target
from exporter.shares import instance_of, own

NAMES = [f"target-{number}" for number in range(1000)]
TARGETS = [Target(name, "db.example.com", 5432) for name in NAMES]

counts = st.integers(1, 30)
names = st.text(min_size=1, max_size=100).filter(str.isprintable)


@given(st.lists(names, unique=True, max_size=30), counts)
def test_each_target_belongs_to_exactly_one_instance(these: list[str], count: int) -> None:
    """The parts of all instances together are the targets, each once."""
    targets = [Target(name, "db.example.com", 5432) for name in these]
    parts = [own(targets, Share(index, count)) for index in range(count)]
    found = [target.name for part in parts for target in part]
    assert sorted(found) == sorted(these)


@given(names, counts)
def test_no_target_moves_between_old_instances(name: str, count: int) -> None:
    """With one instance more, a target stays where it is or goes to the new one."""
    assert instance_of(name, count + 1) in {instance_of(name, count), count}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 15])
def test_one_instance_more_takes_its_part(count: int) -> None:
    """From N to N + 1 instances about one in N + 1 targets moves."""
    moved = sum(instance_of(name, count) != instance_of(name, count + 1) for name in NAMES)
    assert moved == pytest.approx(len(NAMES) / (count + 1), rel=0.25)


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_parts_are_even(count: int) -> None:
    """No part of 1,000 targets is far from its share: within four standard deviations."""
    fair = len(NAMES) / count
    parts = Counter(instance_of(name, count) for name in NAMES)
    deviation = (fair * (1 - 1 / count)) ** 0.5
    assert all(abs(part - fair) < 4 * deviation for part in parts.values())


def test_without_a_share_all_targets_are_ones_own() -> None:
    """By default an instance traces everything, in the order of the configuration."""
    assert own(TARGETS, None) == tuple(TARGETS)


def test_the_order_stays() -> None:
    """A part is in the order of the configuration."""
    part = own(TARGETS, Share(1, 3))
    assert list(part) == [target for target in TARGETS if target in part]


def test_only_the_name_counts() -> None:
    """Another address, another label: the target stays on its instance."""
    changed = [replace(t, host="10.9.5.2", port=1, labels=(("team", "a"),)) for t in TARGETS]
    part = own(changed, Share(0, 2))
    assert [target.name for target in part] == [t.name for t in own(TARGETS, Share(0, 2))]


def test_every_process_agrees() -> None:
    """The hash has no seed of its own in each process."""
    code = (
        "from exporter.shares import instance_of as of; print([of(str(n), 9) for n in range(50)])"
    )
    command = [sys.executable, "-c", code]
    printed = [
        subprocess.run(
            command, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed == [f"{[instance_of(str(n), 9) for n in range(50)]}\n"] * 2

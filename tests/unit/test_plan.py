"""What `check` says of the pace: what the targets take, and whether the settings let them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.config import load
from exporter.estimate import a_second, blocked, healthy, traced
from exporter.model import MAX_ADDRESSES, Controls, EngineStatus, Plan, Target
from exporter.plan import describe

TARGET = Target("db", "db.example", 5432)


def warnings(count: int, **environ: str) -> list[str]:
    """What `check` warns of, with so many targets that do not resolve."""
    endpoints = " ".join(f"host{number}.example:443" for number in range(count))
    settings = load({"ENDPOINTS": endpoints, **environ})
    addresses: dict[str, list[str]] = {target.name: [] for target in settings.targets}
    text = describe(settings, EngineStatus("syn", "fine"), addresses, ())
    return [line for line in text.splitlines() if line.startswith("warning")]


def test_the_defaults_do_for_a_hundred_targets() -> None:
    """A hundred targets once a minute are within the default pace, a quarter of them blocked."""
    assert warnings(100) == []


def test_a_pace_that_is_too_slow() -> None:
    """Each of the two bounds has a line that says what is needed, and what to set it to."""
    probes, traces = warnings(1000)
    assert probes == (
        "warning: PROBES_PER_SECOND is 200, and with a quarter of the targets blocked 561 are "
        "needed: traces will be late, and some left out; set it to 702, or trace less often"
    )
    assert traces == (
        "warning: MAX_CONCURRENT_TRACES is 16, and with a quarter of the targets blocked 32 are "
        "needed: traces will be late, and some left out; set it to 40, or trace less often"
    )


def test_a_pace_that_does() -> None:
    """With what docs/configuration.md advises for a thousand targets nothing is to be said."""
    assert warnings(1000, PROBES_PER_SECOND="1000", MAX_CONCURRENT_TRACES="100") == []
    assert warnings(1000, INTERVAL_SECONDS="300") == []


def test_a_blocked_target_takes_as_many_probes_as_were_counted() -> None:
    """Dropped at hop 6 of 12 it had 81 (docs/configuration.md), controls among them."""
    assert blocked(TARGET).probes == pytest.approx(81, abs=2)


def test_a_path_that_may_not_be_longer_costs_no_more() -> None:
    """The hop limit bounds the estimate of a blocked target as well."""
    assert blocked(replace(TARGET, plan=Plan(max_hops=5))).probes == 1.5 * (5 * 3 + 3)


def test_attempts_count_once_in_ten_cycles() -> None:
    """A healthy target has one probe a hop, but for its whole traces."""
    thorough = replace(TARGET, plan=Plan(attempts=10))
    assert healthy(thorough).probes - healthy(TARGET).probes == pytest.approx(12 * 7 / 10)


def test_flows_of_every_cycle_count_in_every_cycle() -> None:
    """Each is asked hop by hop."""
    several = replace(TARGET, controls=Controls(flows=3))
    assert healthy(several).probes - healthy(TARGET).probes == pytest.approx(2 * 13)


@pytest.mark.parametrize(
    ("everyone", "addresses", "number"),
    [(False, 5, 1), (True, 5, 5), (True, 50, MAX_ADDRESSES), (True, 0, 1)],
)
def test_addresses_that_are_traced(everyone: bool, addresses: int, number: int) -> None:  # noqa: FBT001
    """One of them, or as many as a cycle has room for; one day the name may resolve."""
    assert traced(replace(TARGET, all_addresses=everyone), addresses) == number


def test_addresses_take_turns_in_one_place() -> None:
    """Their traces begin three seconds apart, and the place is held all the while."""
    everyone = replace(TARGET, all_addresses=True)
    one, four = a_second([(everyone, 1)], 0), a_second([(everyone, 4)], 0)
    assert four.probes == pytest.approx(4 * one.probes)
    assert four.seconds - one.seconds == pytest.approx(3 * 3.0 / TARGET.interval)

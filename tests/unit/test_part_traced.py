"""What is told of an instance that traces a part of the targets: page, metrics, `check`."""

from __future__ import annotations

import pytest

from exporter.config import load
from exporter.model import EngineStatus, Share, SourceStatus, Target
from exporter.plan import describe
from exporter.publish.instance import part_traced
from exporter.publish.pages import Pages
from exporter.publish.tables import PROGRAM_METRICS
from exporter.publish.wanted import Wanted
from exporter.shares import own
from exporter.store import Store
from tests.unit import samples
from tests.unit.scraping import exposed

ENVIRONMENT = {
    "ENDPOINTS": " ".join(f"10.9.5.2:{port}" for port in range(1, 41)),
    "SPLIT_TARGETS": "true",
    "INSTANCE_COUNT": "4",
}


SHARE = Share(1, 4)


def store(traced: int, configured: int, share: Share | None = SHARE) -> Store:
    """A store of that many waiting targets."""
    made = samples.store(waiting=[Target(f"t{n}", "10.9.5.2", n) for n in range(1, traced + 1)])
    made.share, made.configured = share, configured
    return made


def index(of: Store) -> str:
    """The index as it is sent."""
    return "".join(Pages(of, "1").index(Wanted(), 1, samples.STARTED_AT))


def plan(environ: dict[str, str]) -> list[str]:
    """What `check` prints."""
    settings = load(ENVIRONMENT | environ)
    addresses = {target.name: [target.host] for target in settings.targets}
    return describe(settings, EngineStatus("syn", "fine"), addresses, ()).splitlines()


def test_the_part_in_words() -> None:
    """Which instance, of how many, and how many targets of how many."""
    assert part_traced(store(3, 1_000)) == (
        "instance 1 of 4, counted from 0, traces 3 of 1,000 targets"
    )


def test_an_instance_that_traces_everything_says_nothing() -> None:
    """By default there are no parts."""
    assert part_traced(store(3, 3, share=None)) == ""
    assert "counted from 0" not in index(store(3, 3, share=None))


def test_every_page_tells_the_part() -> None:
    """The index and a target's page say that there are others."""
    target = Pages(store(3, 12), "1").target("t2", Wanted(), samples.STARTED_AT)
    for page in (index(store(3, 12)), target):
        assert page
        assert "instance 1 of 4, counted from 0, traces 3 of 12 targets" in page


def test_an_empty_part_is_no_empty_configuration() -> None:
    """The index of an instance without a target of its own says who has them."""
    page = index(store(0, 12))
    assert "Other instances trace all targets." in page
    assert "No targets are configured" not in page


def test_no_other_instance_traces_targets_that_nobody_names() -> None:
    """Where the sources of all instances name no target, the index does not point to the others."""
    empty = store(0, 0)
    empty.sources = (SourceStatus("targets/*.json", successful=True, targets=0, left_out=0),)
    page = index(empty)
    assert "No target is configured, and no source names one now." in page
    assert "Other instances" not in page


@pytest.mark.parametrize(
    ("name", "value"), [("egress_targets_configured", 12), ("egress_targets_traced", 3)]
)
def test_metrics_tell_the_part_and_the_whole(name: str, value: float) -> None:
    """Added up over all instances, the parts should be the whole."""
    assert name in {row.name for row in PROGRAM_METRICS}
    assert f"\n{name} {value:.1f}\n" in exposed(store(3, 12))


def test_check_is_about_the_part() -> None:
    """It lists the instance's own targets, and says how many there are."""
    lines = plan({"INSTANCE_INDEX": "2"})
    settings = load(ENVIRONMENT | {"INSTANCE_INDEX": "2"})
    mine = own(settings.targets, settings.share)
    assert 0 < len(mine) < len(settings.targets)
    assert (
        f"targets: instance 2 of 4, counted from 0, traces {len(mine)} of 40; what follows is "
        "about these"
    ) in lines
    listed = [line.split()[0] for line in lines if line.startswith("10.9.5.2:")]
    assert listed == [target.name for target in mine]


def test_check_of_an_empty_part() -> None:
    """An instance without a target of its own is legal."""
    environ = {"ENDPOINTS": "10.9.5.2:1", "INSTANCE_COUNT": "100"}
    (name,) = (target.name for target in load({"ENDPOINTS": "10.9.5.2:1"}).targets)
    assert name == "10.9.5.2:1"
    counts = [
        line
        for index in range(100)
        for line in plan(environ | {"INSTANCE_INDEX": str(index)})
        if line.startswith("targets:")
    ]
    assert sum(" traces 0 of 1;" in line for line in counts) == 99

"""What each panel shows on a real Prometheus, before, during and after a block, and of the dead.

The truth is `SEEN` of the story; panels have to show it, and nothing where nobody looks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import groupby
from math import isnan
from typing import Any

import pytest

from dashboards.words import CODES
from exporter.model import Location, State
from tests.dashboards.boards import BOARDS, Asked, panels, queries, sent
from tests.dashboards.story import SEEN, TARGETS, Story, Truth
from tests.lab.prometheus import Sample

pytestmark = pytest.mark.alone

#: What the variables stand for in Grafana's queries; "All" is .* where it would be long.
FLEET = {"job": "(egress)", "instance": ".*", "target": ".*"}
TARGET = {"job": "egress", "instance": ".*"}
#: Four scrapes, as Grafana has it at least; and the whole story.
TIMES = {"__rate_interval": "4m", "__range": "10h"}

#: One value of a series' labels each -> its value.
Shown = dict[tuple[str, ...], float]
PHASES = pytest.mark.parametrize("phase", SEEN)
#: The panels that speak of the dead.
OF_THE_DEAD = {"Instances", "Exporters"}
COMMON = {"__name__", "job"}


def asked(board: str, title: str, letter: str = "A") -> str:
    """The query of that letter of a panel, its variables still in it."""
    return next(
        one.expr for one in queries() if (one.board, one.title, one.at) == (board, title, letter)
    )


def values(board: str, target: str = "") -> dict[str, str]:
    """What the variables of a dashboard stand for."""
    return TIMES | (TARGET | {"target": target} if board == "target" else FLEET)


def answers(story: Story, board: str, expr: str, phase: str, target: str = "") -> list[Sample]:
    """What a query gives in a phase; on the dashboard of a target, for that one."""
    return story.query(sent(expr, values(board, target)), story.at[phase])


def shown(story: Story, samples: list[Sample], *labels: str) -> Shown:
    """The values by these labels, with cells for instances; no two may be alike."""
    cells = {instance: cell for cell, instance in story.instances.items()}
    found = {
        tuple(cells.get(text, text) for text in (one.labels.get(label, "") for label in labels)): (
            one.value
        )
        for one in samples
    }
    assert len(found) == len(samples)
    return found


def fleet(story: Story, title: str, phase: str, *labels: str, letter: str = "A") -> Shown:
    """What a panel of the fleet shows."""
    return shown(story, answers(story, "fleet", asked("fleet", title, letter), phase), *labels)


def target(
    story: Story, title: str, name: str, phase: str, *labels: str, letter: str = "A"
) -> Shown:
    """What a panel of one target shows."""
    samples = answers(story, "target", asked("target", title, letter), phase, name)
    return shown(story, samples, *labels)


def count(phase: str, of: Callable[[Truth], str], names: set[str]) -> Shown:
    """How many targets some cell sees so, for each of the names; nothing where nobody looks."""
    seen = {(name, of(truth)) for cell in SEEN[phase].values() for name, truth in cell.items()}
    found = Counter(name for _, name in seen)
    return {(name,): float(found[name]) for name in names if SEEN[phase]}


# -- the fleet ---------------------------------------------------------------------------


@PHASES
@pytest.mark.parametrize("title", ["Blocked targets", "Blocked targets over time"])
def test_blocked_targets_are_counted_by_location(story: Story, phase: str, title: str) -> None:
    """Each target once a side, however many instances see it; 0 only while somebody looks."""
    places = set(Location) - {Location.NONE}
    assert fleet(story, title, phase, "location") == count(
        phase, lambda truth: truth.location, {str(place) for place in places}
    )


@PHASES
def test_what_nobody_can_judge_is_counted_by_state(story: Story, phase: str) -> None:
    """What is intercepted or unknown is neither blocked nor forgotten."""
    names = {State.INTERCEPTED, State.UNRESOLVED, State.ERROR, State.INCONCLUSIVE}
    assert fleet(story, "Neither blocked nor reached", phase, "state") == count(
        phase, lambda truth: truth.state, {str(name) for name in names}
    )


@PHASES
def test_targets_are_counted_while_somebody_looks(story: Story, phase: str) -> None:
    """Configured and traced are no 0 when all are dead, but no data."""
    expected = {(): float(len(TARGETS))} if SEEN[phase] else {}
    assert fleet(story, "Targets", phase, letter="A") == expected
    assert fleet(story, "Targets", phase, letter="B") == expected


# The first rules may be older than the first traces.
@pytest.mark.parametrize("phase", ["blocked", "after", "dead", "gone"])
def test_no_target_is_untraced_while_one_instance_lives(story: Story, phase: str) -> None:
    """The number of the recording rule is 0 then, and no data when all are dead."""
    assert fleet(story, "Targets", phase, letter="C") == ({(): 0.0} if SEEN[phase] else {})


@PHASES
def test_dead_instances_are_counted(story: Story, phase: str) -> None:
    """Who does not answer any more is told from who was never there."""
    alive = len(SEEN[phase])
    assert fleet(story, "Instances", phase, letter="A") == {(): alive}
    assert fleet(story, "Instances", phase, letter="B") == {(): 2 - alive}


@PHASES
def test_engines_are_those_of_the_living(story: Story, phase: str) -> None:
    """One has the syn engine, two the connect engine."""
    engines = {"one": "syn", "two": "connect"}
    assert fleet(story, "Engines", phase, "engine") == {
        (engines[cell],): 1.0 for cell in SEEN[phase]
    }


@PHASES
def test_what_fails_has_a_row_for_each_finding(story: Story, phase: str) -> None:
    """From N of M: N instances see it so, of M that look."""
    found = Counter(
        (name, truth.state, truth.location)
        for cell in SEEN[phase].values()
        for name, truth in cell.items()
        if truth.state not in {"open", "closed"}
    )
    looking = str(len(SEEN[phase]))
    rows = fleet(story, "What fails now", phase, "target", "state", "location", "traced", "address")
    totals: Counter[tuple[str, ...]] = Counter()
    for (*finding, traced, _), number in rows.items():
        totals[tuple(finding)] += int(number)
        assert traced == looking
    assert totals == found


def test_what_rejects_is_named_in_one_row(story: Story) -> None:
    """Both see the same device reject, though at another hop each: 2 of 2, not 1 and 1."""
    rows = fleet(story, "What fails now", "before", "target", "address", "zone", "traced")
    (rejecter,) = [
        (address, zone, number)
        for (name, address, zone, _), number in rows.items()
        if name == "cache"
    ]
    assert rejecter == ("10.9.4.2", "external", 2.0)


def test_who_sees_a_block_is_named(story: Story) -> None:
    """The instance in a row is one that sees it so, for its page has the proof."""
    rows = fleet(story, "What fails now", "blocked", "target", "state", "instance")
    assert all(SEEN["blocked"][cell][name].state == state for name, state, cell in rows)


@PHASES
def test_exporters_are_listed_dead_or_alive(story: Story, phase: str) -> None:
    """Of a dead one nothing but its name and that it is dead."""
    engines = {"one": "syn", "two": "connect"}
    assert fleet(story, "Exporters", phase, "instance", "engine") == {
        (cell, engines[cell] if cell in SEEN[phase] else ""): float(cell in SEEN[phase])
        for cell in story.instances
    }


def test_a_configuration_that_failed_shows(story: Story) -> None:
    """One has been told to read a mistake; "0" is shown as failed."""
    rows = fleet(story, "Exporters", "blocked", "instance", "reload")
    assert set(rows) == {("one", "0"), ("two", "1")}


@PHASES
def test_the_timeline_has_what_was_not_always_reached(story: Story, phase: str) -> None:
    """Of the living, with the worst state of late; an always open or closed target has no row."""
    rows = fleet(story, "Targets that were not always reached", phase, "instance", "target")
    failing = {
        (cell, name): float(CODES[State(truth.state)])
        for cell, targets in SEEN[phase].items()
        for name, truth in targets.items()
        if truth.state not in {"open", "closed"}
    }
    assert failing.items() <= rows.items()
    assert {cell for cell, _ in rows} == set(SEEN[phase])
    assert not {name for _, name in rows} & {"shop-api", "closed-port"}


def test_no_trace_is_too_old_here(story: Story) -> None:
    """A dead instance's traces are not too old: they are not there."""
    assert all(fleet(story, "Traces that are too old", phase, "target") == {} for phase in SEEN)


# -- one target --------------------------------------------------------------------------


@PHASES
@pytest.mark.parametrize("name", TARGETS)
def test_each_instance_says_what_it_sees(story: Story, phase: str, name: str) -> None:
    """A row for each that lives, with state and side; a hop only where something is blocked."""
    rows = target(
        story, "Seen now", name, phase, "instance", "state", "location", "fresh", "hop", "suspects"
    )
    assert {row[:4] for row in rows} == {
        (cell, *targets[name], "1") for cell, targets in SEEN[phase].items()
    }
    for _, _, location, _, hop, suspects in rows:
        assert (hop == "0") is (suspects == "0 to 0") is (location == "none")


def test_the_block_lies_behind_the_last_reachable_hop(story: Story) -> None:
    """What is filtered is blocked at the next hop, as each instance counts."""
    reached = target(story, "How far the traffic gets", "database", "blocked", "instance")
    blocked = target(
        story, "How far the traffic gets", "database", "blocked", "instance", letter="B"
    )
    assert set(blocked) == {("one",), ("two",)}
    assert blocked == {cell: hop + 1 for cell, hop in reached.items()}


@pytest.mark.parametrize("phase", ["before", "after", "dead"])
def test_no_line_says_blocked_at_zero(story: Story, phase: str) -> None:
    """0 means not blocked, and is not drawn."""
    lines = target(story, "How far the traffic gets", "database", phase, "instance", letter="B")
    assert lines == {}


def test_the_history_of_a_block_is_a_row(story: Story) -> None:
    """Open, filtered, open again; the one that died later ends there."""
    expr = sent(asked("target", "State from each instance"), values("target", "database"))
    lines = story.query_range(expr, story.at["before"], story.at["gone"])
    cells = {instance: cell for cell, instance in story.instances.items()}
    histories = {
        cells[line.labels["instance"]]: [code for code, _ in groupby(v for _, v in line.points)]
        for line in lines
    }
    filtered = float(CODES[State.FILTERED])
    for history in histories.values():
        assert history[0] == history[-1] == float(CODES[State.OPEN])
        assert filtered in history
    ends = {cells[line.labels["instance"]]: line.points[-1][0] for line in lines}
    assert ends["two"] < story.at["dead"] <= ends["one"] < story.at["gone"]


@pytest.mark.parametrize("cell", ["one", "two"])
def test_hops_are_those_of_the_path(story: Story, cell: str) -> None:
    """From 1 on without a gap, the destination last; during a block a silent one."""
    for phase, silent in (("before", False), ("blocked", True)):
        rows = target(story, "Hops", "database", phase, "instance", "hop", "address", "rtt")
        path = sorted((int(hop), address, rtt) for of, hop, address, rtt in rows if of == cell)
        assert [hop for hop, _, _ in path] == list(range(1, len(path) + 1))
        assert (path[-1][1] == path[-1][2] == "") is silent
        assert silent or path[-1][1] == "10.9.5.2"


def test_loss_is_a_share(story: Story) -> None:
    """From 0 to 1, and not 0 at a silent hop; NaN where nothing was sent."""
    rows = target(story, "Hops", "database", "blocked", "instance", "hop", "address")
    assert all(isnan(loss) or 0 <= loss <= 1 for loss in rows.values())
    assert all(loss > 0 for (_, _, address), loss in rows.items() if not address)


def test_round_trips_have_a_row_for_each_hop(story: Story) -> None:
    """Named by its number alone, for Grafana sorts such names as numbers."""
    rows = target(story, "Round-trip times by hop", "database", "before", "hop")
    assert {hop for (hop,) in rows} == set("123456")
    assert all(0 < seconds < 1 for seconds in rows.values())


# After a block the worst of late may still be that of the block.
@pytest.mark.parametrize("phase", ["before", "blocked", "gone"])
def test_the_application_s_own_view_follows(story: Story, phase: str) -> None:
    """A plain connect() fails during the block."""
    rows = target(story, "Does a plain connect() succeed?", "database", phase, "instance")
    assert rows == {(cell,): float(phase != "blocked") for cell in SEEN[phase]}
    times = target(story, "Time of a plain connect()", "database", phase, "instance")
    assert set(times) == {(cell,) for cell in SEEN[phase]}


def test_flows_are_tried_while_something_fails(story: Story) -> None:
    """One in a healthy cycle, several in one that is not."""
    for phase, some in (("before", False), ("blocked", True)):
        tried = target(story, "Flows", "database", phase, "instance")
        blocked = target(story, "Flows", "database", phase, "instance", letter="B")
        assert all((number > 1) is some for number in tried.values())
        assert all((number > 0) is some for number in blocked.values())


def test_controls_answer_during_a_block(story: Story) -> None:
    """Another port of the destination does, for each instance."""
    rows = target(story, "Controls", "database", "blocked", "control", "instance")
    assert {("port", "one"): 1.0, ("port", "two"): 1.0}.items() <= rows.items()


def test_endpoints_are_named(story: Story) -> None:
    """What is configured, and what it resolved to."""
    rows = target(story, "Endpoint", "database", "before", "instance", "host", "port", "address")
    assert set(rows) == {(cell, "10.9.5.2", "5432", "10.9.5.2") for cell in ("one", "two")}


@PHASES
def test_the_age_is_that_of_the_latest_trace(story: Story, phase: str) -> None:
    """Some seconds for who is alive; the dead have none."""
    rows = target(story, "Age of the latest trace", "database", phase, "instance")
    assert set(rows) == {(cell,) for cell in SEEN[phase]}
    assert all(0 <= seconds < 60 for seconds in rows.values())


def test_changes_of_state_are_marked(story: Story) -> None:
    """Each instance's new state, once when it is blocked and once when it is open again."""
    (expr,) = [one.expr for one in queries() if one.title == "New state"]
    found = story.query_range(
        sent(expr, values("target", "database")), story.at["before"], story.at["dead"]
    )
    cells = {instance: cell for cell, instance in story.instances.items()}
    marked = {(cells[line.labels["instance"]], line.labels["state"]) for line in found}
    assert marked >= {(cell, state) for cell in cells.values() for state in ("filtered", "open")}


# -- all of them -------------------------------------------------------------------------


@pytest.mark.parametrize("one", queries(), ids=lambda one: f"{one.board}: {one.title} {one.at}")
def test_no_panel_speaks_of_what_nobody_sees(story: Story, one: Asked) -> None:
    """When all exporters are dead, only those panels have data that say so."""
    found = answers(story, one.board, one.expr, "gone", "database")
    assert bool(found) is (one.title in OF_THE_DEAD)


@pytest.mark.parametrize("board", BOARDS)
def test_legends_name_labels_that_are_there(story: Story, board: str) -> None:
    """A label that a series has not would show as nothing."""
    for panel in (panel for of, panel in panels() if of == board):
        for query in panel["targets"]:
            named = set(re.findall(r"\{\{(\w+)\}\}", query["legendFormat"]))
            for one in answers(story, board, query["expr"], "blocked", "database"):
                assert named <= set(one.labels), panel["title"]


@pytest.mark.parametrize("board", BOARDS)
def test_the_columns_of_tables_are_those_of_their_queries(story: Story, board: str) -> None:
    """No label of a query is left without a title and place."""
    for panel in (one for of, one in panels() if of == board and one["type"] == "table"):
        columns = set(titles_of(panel))
        for one in answers(story, board, panel["targets"][0]["expr"], "blocked", "database"):
            assert set(one.labels) - COMMON <= columns, panel["title"]


def titles_of(panel: Mapping[str, Any]) -> dict[str, str]:
    """Column -> title."""
    (titles,) = (
        one["options"]["renameByName"]
        for one in panel["transformations"]
        if one["id"] == "organize"
    )
    return dict(titles)


@pytest.mark.parametrize("board", BOARDS)
def test_variables_offer_what_there_is(story: Story, board: str) -> None:
    """The fleet's job, its instances and its targets."""
    offered = {}
    for variable in BOARDS[board]["templating"]["list"][1:]:
        label = variable["name"]
        series = (
            variable["query"]["query"].removeprefix("label_values(").removesuffix(f", {label})")
        )
        found = answers(story, board, f"group by ({label}) ({series})", "before", "database")
        offered[label] = {one.labels[label] for one in found}
    assert offered == {
        "job": {"egress"},
        "instance": set(story.instances.values()),
        "target": set(TARGETS),
    }

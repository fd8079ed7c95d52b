"""docs/accuracy.md shows the matrix that the code plays, docs/verdicts.md a trace of each state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.model import State
from tests.accuracy import traces
from tests.accuracy.matrix import SITUATIONS, Answer, Row
from tests.accuracy.peers import PEERS, Told
from tests.accuracy.readers import Conclusion, Reading
from tests.accuracy.situation import Mark
from tests.accuracy.table import BEGIN, END, PAGE, render, titles, written

RIGHT = Mark(
    state=True,
    suspects=True,
    location=True,
    blocked_by=True,
    last_reachable_hop=True,
    flows=True,
    width=None,
    narrow=True,
    confidence="high",
)
WRONG = replace(RIGHT, state=False)
CLOSED = Told(" 6  10.9.7.2 [closed]\n", Reading("closed", 6, "10.9.7.2"), Conclusion.WRONG)


def row(name: str = "reset-mimic", **told: Told) -> Row:
    """A row in which the syn engine was right once and wrong once."""
    answers = {("syn", "ipv4"): [Answer("a", RIGHT)], ("syn", "ipv6"): [Answer("b", WRONG)]}
    return Row(SITUATIONS[name], answers, told)


def test_the_page_lists_the_situations_of_the_code() -> None:
    """None is missing and none is left over, in the order in which they are played."""
    assert titles(PAGE.read_text()) == [one.title for one in SITUATIONS.values()], (
        "run python -m tests.accuracy --markdown"
    )


def test_every_title_names_one_situation() -> None:
    """A row of the table can be found in the code."""
    assert len({one.title for one in SITUATIONS.values()}) == len(SITUATIONS)


def test_the_page_tells_how_the_peers_were_run() -> None:
    """Whoever doubts a row can type the command."""
    for peer in PEERS:
        assert f"`{peer.command_line}`" in PAGE.read_text()


def test_a_row_shows_the_truth_and_what_each_program_makes_of_it() -> None:
    """Both IP versions count together; a wrong reading stands out; a program not run is a dash."""
    cells = render([row(tcptraceroute=CLOSED)]).splitlines()[2].strip("| ").split(" | ")
    assert cells[1:4] == ["reset at hop 5, external", "1 of 2", "-"]
    assert cells[4:] == ["closed 10.9.7.2 at 6: **wrong**", "-", "-"]


def test_the_last_row_adds_everything_up() -> None:
    """So that one line tells how good each program is."""
    last = render([row(mtr=CLOSED), row()]).splitlines()[-1]
    assert last.startswith("| all 2 |  | 2 of 4 |")
    assert last.endswith("| 0 right, 1 wrong, 0 can't tell |")


def test_where_the_connect_engine_is_blind_the_reason_is_given_once() -> None:
    """With every situation that it holds in."""
    told = render([row("stateless-nat-drop"), row("stateless-nat-reject")]).splitlines()[-1]
    assert told.startswith("- stateless NAT: drop; stateless NAT: reject: `filtered` or ")


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    """The page around the table is written by hand."""
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    new = written(page, [row()])
    assert new.startswith(f"before\n{BEGIN}\n\n| situation |")
    assert new.endswith(f"{END}\nafter\n")
    assert titles(new) == [row().situation.title]


def test_a_page_without_markers_is_refused() -> None:
    """Nothing is overwritten by mistake."""
    with pytest.raises(ValueError, match="lacks its markers"):
        written("a page", [row()])


def test_the_page_of_verdicts_shows_a_trace_of_each_state() -> None:
    """One of every state that has a trace, with the verdict that it is there for."""
    page = traces.PAGE.read_text().partition(traces.BEGIN)[2].partition(traces.END)[0]
    for state in set(State) - {State.UNRESOLVED, State.ERROR}:
        shown = page.partition(f"### Trace: `{state}`\n")[2].partition("### Trace")[0]
        assert f"\nverdict: {state}, " in shown, "run python -m tests.accuracy.traces"


def test_traces_replace_only_what_stands_between_the_markers() -> None:
    """The page around them is written by hand."""
    page = f"before\n{traces.BEGIN}\nold\n{traces.END}\nafter\n"
    new = traces.written(page, {"open": "verdict: open\n"})
    assert "```\nverdict: open\n```\n\n<!--" in new
    assert "old" not in new
    with pytest.raises(ValueError, match="lacks its markers"):
        traces.written("a page", {})

"""The matrix in docs/accuracy.md: made by `python -m tests.accuracy --markdown`.

One row a situation, in their order; between two markers, so that the rest of the page is
written by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.accuracy.matrix import ABSENT, Row, truth_in_short
from tests.accuracy.peers import PEERS
from tests.accuracy.readers import Conclusion
from tests.accuracy.run import ENGINES

PAGE = Path(__file__).parents[2] / "docs" / "accuracy.md"
BEGIN = "<!-- made by python -m tests.accuracy --markdown: begin -->"
END = "<!-- made by python -m tests.accuracy --markdown: end -->"
#: The peers as the page calls them.
PEER_HEADINGS = {
    "tcptraceroute": "tcptraceroute",
    "traceroute": "traceroute -T",
    "mtr": "mtr --tcp",
}
HEADER = (
    "situation",
    "truth",
    *(f"ours, {engine}" for engine in ENGINES),
    *PEER_HEADINGS.values(),
)


def written(page: str, rows: Sequence[Row]) -> str:
    """The page with these rows. Raises ValueError where the markers are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE.name} lacks its markers")
    return f"{before}{BEGIN}\n\n{render(rows)}\n\n{END}{after}"


def titles(page: str) -> list[str]:
    """The situations that the page's table lists."""
    table = page.partition(BEGIN)[2].partition(END)[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [line.split(" | ")[0].removeprefix("| ") for line in lines[1:-1]]


def render(rows: Sequence[Row]) -> str:
    """The table in Markdown, and below it where the connect engine may be blind."""
    lines = [HEADER, ("---",) * len(HEADER), *map(_cells, rows), _totals(rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return "\n".join((table.replace("| --- ", "|---"), *_blindness(rows)))


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.situation.title,
        truth_in_short(row.situation),
        *(_score([row], engine) for engine in ENGINES),
        *(_told(row, peer.name) for peer in PEERS),
    )


def _score(rows: Iterable[Row], engine: str) -> str:
    """How often the engine was right, over both IP versions."""
    answers = [
        answer
        for row in rows
        for (asked, _), given in row.answers.items()
        for answer in given
        if asked == engine
    ]
    return f"{sum(answer.right for answer in answers)} of {len(answers)}" if answers else ABSENT


def _told(row: Row, peer: str) -> str:
    told = row.peers.get(peer)
    if told is None:
        return ABSENT
    wrong = told.conclusion is Conclusion.WRONG
    return f"{told.reading}: {f'**{told.conclusion}**' if wrong else told.conclusion}"


def _totals(rows: Sequence[Row]) -> tuple[str, ...]:
    return (
        f"all {len(rows)}",
        "",
        *(_score(rows, engine) for engine in ENGINES),
        *(_sums(rows, peer.name) for peer in PEERS),
    )


def _sums(rows: Sequence[Row], peer: str) -> str:
    told = [row.peers[peer].conclusion for row in rows if peer in row.peers]
    return ", ".join(f"{told.count(conclusion)} {conclusion}" for conclusion in Conclusion)


def _blindness(rows: Iterable[Row]) -> Iterator[str]:
    """A line for each reason, with the situations that it holds in."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if blind := row.situation.truth.allowed_on_connect:
            states = " or ".join(f"`{state}`" for state in sorted(blind.states))
            reasons.setdefault(f"{states}, since {blind.why}", []).append(row.situation.title)
    if reasons:
        yield ""
        yield "On the connect engine these count as right, too:"
        yield ""
    for reason, named in reasons.items():
        yield f"- {'; '.join(named)}: {reason}"

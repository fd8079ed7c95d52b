"""The accuracy matrix: every situation by every engine and IP version, with the peers beside it."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from tests.accuracy import namespaces, peers, tun_situations
from tests.accuracy.run import AT_ONCE, ENGINES, Case, Found, observe
from tests.accuracy.situation import Mark, Situation, score
from tests.bench.report import Part
from tests.lab.forking import Starter
from tests.lab.lab import LabError
from tests.scenarios import FAMILIES

SITUATIONS: Mapping[str, Situation] = {
    one.name: one for one in (*namespaces.SITUATIONS, *tun_situations.SITUATIONS)
}
#: Column of the matrix: an engine and an IP version.
Column = tuple[str, str]
COLUMNS: tuple[Column, ...] = tuple((engine, family) for engine in ENGINES for family in FAMILIES)
ABSENT = "-"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the program said once, and how that compares; `mark` is None when it said nothing."""

    said: str
    mark: Mark | None = None

    @property
    def right(self) -> bool:
        """Whether it was the truth."""
        return bool(self.mark and self.mark.right)

    @property
    def complaint(self) -> str:
        """What was wrong with it."""
        if self.mark is None:
            return self.said
        sure = " WITH HIGH CONFIDENCE" if self.mark.wrong_at_high else ""
        return f"wrong {', '.join(self.mark.wrong)}{sure}: {self.said}"


@dataclass(frozen=True, slots=True)
class Row:
    """A situation: what the program said in each column, and how a reader would read each peer."""

    situation: Situation
    answers: Mapping[Column, Sequence[Answer]]
    #: Peer -> what it printed, and whether a reader would conclude right.
    peers: Mapping[str, peers.Told]


def play(situations: Iterable[Situation], repeat: int, *, with_peers: bool) -> Iterator[Row]:
    """Play the situations so many times, some at a time; the rows come in their order."""
    with Starter() as starter, ThreadPoolExecutor(AT_ONCE) as pool:
        under_way = [
            (
                situation,
                {
                    engine: [
                        pool.submit(observe, Case(situation, engine), starter)
                        for _ in range(repeat)
                    ]
                    for engine in ENGINES
                },
                pool.submit(peers.read_all, situation) if with_peers else None,
            )
            for situation in situations
        ]
        try:
            for situation, runs, beside in under_way:
                yield Row(situation, _answers(situation, runs), beside.result() if beside else {})
        finally:
            pool.shutdown(cancel_futures=True)


def _answers(
    situation: Situation, runs: Mapping[str, Sequence[Future[dict[str, Found]]]]
) -> dict[Column, list[Answer]]:
    answers: dict[Column, list[Answer]] = defaultdict(list)
    for engine, futures in runs.items():
        for future in futures:
            error = future.exception()
            if isinstance(error, LabError):  # no other lab would stand either
                raise error
            for family in situation.families:
                answer = (
                    Answer(f"{type(error).__name__}: {_last_line(error)}")
                    if error
                    else answered(situation, engine, future.result()[family])
                )
                answers[engine, family].append(answer)
    return answers


def _last_line(error: BaseException) -> str:
    """The line of a traceback that says what happened."""
    return str(error).strip().rpartition("\n")[2]


def answered(situation: Situation, engine: str, found: Found) -> Answer:
    """The program's answer and its mark."""
    verdict = found["verdict"]
    keys = ("state", "last_reachable_hop", "suspect_hops", "blocked_by", "location", "confidence")
    said = ", ".join(f"{key} {verdict[key]}" for key in keys)
    return Answer(f"{said}; {verdict['reason']}", score(found, situation.truth, engine))


# -- the table -------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> Part:
    """The matrix as Markdown, with all that was wrong below it."""
    peer_names = sorted({peer for row in rows for peer in row.peers})
    header = ("situation", "truth", *(" ".join(column) for column in COLUMNS), *peer_names)
    return Part(
        "Accuracy",
        header,
        (*(_cells(row, peer_names) for row in rows), _totals(rows, peer_names)),
        notes=tuple(complaints(rows)),
    )


def _cells(row: Row, peer_names: Sequence[str]) -> tuple[str, ...]:
    ours = (_score(row.answers.get(column, ())) for column in COLUMNS)
    beside = (row.peers.get(peer) for peer in peer_names)
    return (
        row.situation.title,
        truth_in_short(row.situation),
        *ours,
        *(str(one) if one else ABSENT for one in beside),
    )


def truth_in_short(situation: Situation) -> str:
    """The truth as one cell: "filtered at hop 5, external"."""
    truth = situation.truth
    state = " or ".join(sorted(truth.states))
    if truth.culprit is None:
        return state
    some = " on some paths" if truth.some_flows else ""
    return f"{state}{some} at hop {truth.culprit}, {' or '.join(sorted(truth.locations))}"


def _score(answers: Sequence[Answer]) -> str:
    return f"{sum(one.right for one in answers)}/{len(answers)}" if answers else ABSENT


def _totals(rows: Sequence[Row], peer_names: Sequence[str]) -> tuple[str, ...]:
    ours = (_score([one for r in rows for one in r.answers.get(column, ())]) for column in COLUMNS)
    beside = ([r.peers[peer].right for r in rows if peer in r.peers] for peer in peer_names)
    return (
        f"all {len(rows)}",
        "",
        *ours,
        *(f"{sum(right)}/{len(right)} right" for right in beside),
    )


def complaints(rows: Iterable[Row]) -> Iterator[str]:
    """A line for each wrong answer that differs."""
    for row in rows:
        for column, answers in row.answers.items():
            wrong = [one.complaint for one in answers if not one.right]
            for complaint in dict.fromkeys(wrong):
                times = f"{wrong.count(complaint)} of {len(answers)}"
                yield f"{row.situation.name} {' '.join(column)}, {times}: {complaint}"


def progress(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows as they come, each said on standard error."""
    for row in rows:
        scores = ", ".join(f"{' '.join(c)} {_score(a)}" for c, a in row.answers.items())
        print(f"{row.situation.name}: {scores}", file=sys.stderr, flush=True)
        yield row

"""What a page of many targets takes, up to its first paint in Chromium, and evidence with packets.

1. All targets have been traced since somebody looked last, so that nothing of the page is kept.
2. The server is asked over HTTP, from outside its loop: the whole answer, compressed, is timed.
3. Chromium says by itself when it has painted something first.
4. Evidence comes from a real trace in a lab, whose packets it holds.
"""

from __future__ import annotations

import gzip
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from exporter.service import Service
from tests.bench.report import Goal, Part, summary
from tests.browser.block import scene
from tests.browser.chromium import Browser, chromium
from tests.browser.site import filled
from tests.lab.demo import NAMES
from tests.unit.crowd import member
from tests.web.serving import PATIENCE, serving

TARGETS = 500
RUNS = 5
#: KB and seconds.
PAGE_BOUND, ANSWER_BOUND, PAINT_BOUND, EVIDENCE_BOUND = 150.0, 0.15, 1.0, 1.0
PAINTED = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


@dataclass(slots=True)
class Figures:
    """Of one page in several runs, in seconds; its size in bytes is the largest of all runs."""

    plain: int = 0
    compressed: int = 0
    answers: list[float] = field(default_factory=list)
    answers_again: list[float] = field(default_factory=list)
    paints: list[float] = field(default_factory=list)


def of_page(browser: Browser, targets: int, runs: int) -> Figures:
    """Look at a page of so many targets, after each of so many cycles."""
    figures = Figures()
    service = filled(map(member, range(targets)))
    with serving(service._site) as port:
        for cycle in range(1, runs + 1):
            _trace_all(service, targets, cycle)
            body, seconds = ask(port, "/")
            figures.answers.append(seconds)
            figures.answers_again.append(ask(port, "/")[1])
            figures.compressed = max(figures.compressed, len(body))
            figures.plain = max(figures.plain, len(gzip.decompress(body)))
            _trace_all(service, targets, cycle)
            browser.open(f"http://127.0.0.1:{port}/")
            figures.paints.append(browser.wait(lambda: browser.run(PAINTED)) / 1000)
    return figures


def of_evidence(port: int, target: str, runs: int) -> list[float]:
    """Seconds until the whole archive is there; the first one is made by who never made one."""
    return [ask(port, f"/api/v1/evidence/{target}")[1] for _ in range(runs)]


def ask(port: int, path: str) -> tuple[bytes, float]:
    """An answer's body as it came, and how many seconds it took."""
    began = time.perf_counter()
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as client:
        client.request("GET", path, headers={"Accept-Encoding": "gzip"})
        answer = client.getresponse()
        body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}: {body[:200]!r}")
    return body, time.perf_counter() - began


def _trace_all(service: Service, targets: int, cycle: int) -> None:
    for number in range(targets):
        service._store.add(member(number, cycle))


def measure() -> Part:
    """The page of TARGETS, and evidence of a block."""
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder)) as browser:
        page = of_page(browser, TARGETS, RUNS)
    with scene([443]) as stage:
        evidence = of_evidence(stage.exporter.port, NAMES[443], RUNS)
    return _part(page, evidence)


def _part(page: Figures, evidence: list[float]) -> Part:
    kilobytes = page.compressed / 1000
    return Part(
        title=f"The page of {TARGETS} targets, and evidence",
        header=("what", "measured"),
        rows=(
            ("the page", f"{page.plain / 1000:,.0f} KB"),
            ("the page, compressed", f"{kilobytes:.1f} KB"),
            ("its answer, everything being new", summary(page.answers, "ms", 1000)),
            ("its answer, nothing being new", summary(page.answers_again, "ms", 1000)),
            ("its first contentful paint in Chromium", summary(page.paints, "ms", 1000)),
            ("evidence, the first archive", summary(evidence[:1], "ms", 1000)),
            ("evidence, further archives", summary(evidence[1:], "ms", 1000)),
        ),
        goals=(
            Goal("the page, compressed", kilobytes, PAGE_BOUND, "KB"),
            Goal("its answer", median(page.answers), ANSWER_BOUND, "s"),
            Goal("its first paint", median(page.paints), PAINT_BOUND, "s"),
            Goal("the slowest evidence", max(evidence), EVIDENCE_BOUND, "s"),
        ),
    )

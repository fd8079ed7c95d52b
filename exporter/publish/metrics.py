"""/metrics: everything is derived from the store, anew on every scrape.

One collector reads the rows of `tables`. A target whose rows cannot be read is left out, logged
and counted; it never fails a scrape. The collector only reads, and reads each record's latest
observation once, so a scrape may run in another thread than the scheduler.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.registry import Collector

from exporter.publish.log import LogStats
from exporter.publish.readings import Program, Reading, Row, Subject
from exporter.publish.tables import PROGRAM_METRICS, TARGET_METRICS
from exporter.publish.text import printable
from exporter.store import Record, Store

logger = logging.getLogger(__name__)

#: What the exposition formats put behind a family's name; the tables hold the full names.
SUFFIXES = {"counter": "_total", "gauge": "", "info": "_info"}


class EgressCollector(Collector):
    """Reads the tables from a store on every scrape."""

    def __init__(self, store: Store, log_stats: LogStats) -> None:
        self._store = store
        self._log_stats = log_stats
        self._errors = 0

    def describe(self) -> Iterator[Metric]:
        """Name the metrics without reading them: for registration and for `?name[]=`."""
        yield from (_family(row) for row in TARGET_METRICS)
        yield from (_family(row) for row in PROGRAM_METRICS)

    def collect(self) -> Iterator[Metric]:
        """All metrics with their samples."""
        families = {row.name: _family(row) for row in TARGET_METRICS}
        records = tuple(self._store)
        blank = {name: "" for record in records for name, _ in record.target.labels}
        for record in records:
            for row, labels, value in self._target_samples(record, blank):
                families[row.name].add_sample(row.name, labels, value)
        yield from families.values()
        program = Program(self._store, self._log_stats, self._errors)
        for about_program in PROGRAM_METRICS:
            family = _family(about_program)
            for values, value in about_program.read(program):
                family.add_sample(about_program.name, _labels(about_program, values), float(value))
            yield family

    def _target_samples(
        self, record: Record, blank: dict[str, str]
    ) -> list[tuple[Row[Reading], dict[str, str], float]]:
        """All samples of one target; none when one of them cannot be read."""
        try:
            latest = record.latest
            path = latest.trace.path if latest and latest.trace else ()
            reading = Reading(record, latest, path)
            base = blank | {name: printable(value) for name, value in record.target.labels}
            base["target"] = printable(record.target.name)
            return [
                (row, base | _labels(row, values), float(value))
                for row in TARGET_METRICS
                for values, value in row.read(reading)
            ]
        except Exception:
            # The first one with its traceback, so that a broken target does not flood the log.
            name = printable(record.target.name)
            logger.error("metrics of target %s left out", name, exc_info=not self._errors)  # noqa: TRY400
            self._errors += 1
            return []


def _family(row: Row[Subject]) -> Metric:
    """The metric of a row, without samples."""
    return Metric(row.name.removesuffix(SUFFIXES[row.type]), row.help, row.type)


def _labels(row: Row[Subject], values: tuple[str, ...]) -> dict[str, str]:
    return {name: printable(value) for name, value in zip(row.labels, values, strict=True)}


def registry(store: Store, log_stats: LogStats) -> CollectorRegistry:
    """Everything that /metrics shows: the store, the process, the Python that runs it."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    # auto_describe: the process collector tells its names only by collecting.
    made = CollectorRegistry(auto_describe=True)
    made.register(EgressCollector(store, log_stats))
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    return made

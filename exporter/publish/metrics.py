"""/metrics: everything is derived from the store; what has not changed is not written anew.

1. The samples of a target are written as text once for each version of its record, family by
   family: the lines are the same in all formats that are offered. A scrape lays those of all
   targets beside each other. The lines of the program and of the process are made anew.
2. A scrape is an answer in pieces (see `pieces`). It takes hold of every target's lines before
   it gives out the first of them, so all that it says of a target is of one version. However
   long its reader takes, it holds no copy of them.
3. A target whose rows cannot be read is left out, logged and counted; it never fails a scrape.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from prometheus_client import (
    CollectorRegistry,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from exporter.publish.log import LogStats
from exporter.publish.readings import Program, Reading, Row, Sample, Subject
from exporter.publish.tables import PROGRAM_METRICS, TARGET_METRICS
from exporter.publish.text import printable
from exporter.store import Record, Store

logger = logging.getLogger(__name__)

#: What the exposition formats put behind a family's name; the tables hold the full names.
SUFFIXES = {"counter": "_total", "gauge": "", "info": "_info"}
#: So many targets' lines of a metric make a piece: some 100 kB where they are longest.
TARGETS_IN_A_PIECE = 100
#: What OpenMetrics ends with.
END = b"# EOF\n"

#: One of prometheus_client's: a registry as the text of one format.
Encode = Callable[[CollectorRegistry], bytes]


class ProgramCollector(Collector):
    """What the program says about itself, read on every scrape."""

    def __init__(self, store: Store, log_stats: LogStats) -> None:
        self._store = store
        self._log_stats = log_stats
        #: Targets that were left out since the start.
        self.errors = 0

    def describe(self) -> Iterator[Metric]:
        """Name the metrics without reading them: for registration and for `?name[]=`."""
        return map(_family, PROGRAM_METRICS)

    def collect(self) -> Iterator[Metric]:
        """All metrics with their samples."""
        program = Program(self._store, self._log_stats, self.errors)
        for row in PROGRAM_METRICS:
            family = _family(row)
            for values, value in row.read(program):
                labels = dict(zip(row.labels, map(printable, values), strict=True))
                family.add_sample(row.name, labels, float(value))
            yield family


@dataclass(frozen=True, slots=True)
class Lines:
    """The samples of one target as text, a metric of the table each."""

    version: int
    families: tuple[bytes, ...]


class Exposition:
    """What /metrics answers: the store's targets, the program, its process and its Python."""

    def __init__(self, store: Store, log_stats: LogStats) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._store = store
        self._program = ProgramCollector(store, log_stats)
        # auto_describe: the process collector tells its names only by collecting.
        self._registry = CollectorRegistry(auto_describe=True)
        self._registry.register(self._program)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._writer = Writer(())
        #: Target -> the lines that `_writer` has written for it.
        self._lines: dict[str, Lines] = {}

    def pieces(self, encode: Encode, names: Collection[str]) -> Iterator[bytes]:
        """The metrics of these names, without any all of them, as `encode` writes them.

        Nothing but b"" comes before every target's lines are there. Raises nothing of a target.
        """
        targets: list[Lines] = []
        for lines in self._targets():
            if lines:
                targets.append(lines)
            yield b""
        for position, row in enumerate(TARGET_METRICS):
            if not names or row.name in names:
                yield _head(encode, row)
                yield from _laid_together(targets, position)
        # A restricted one has all that an encoder uses, but shares no type with it.
        others = self._registry.restricted_registry(names) if names else self._registry
        yield encode(cast("CollectorRegistry", others))

    def _targets(self) -> Iterator[Lines | None]:
        """The lines of each target; None for one that cannot be read."""
        records = tuple(self._store)
        labels = dict.fromkeys(name for record in records for name, _ in record.target.labels)
        if self._writer.labels != tuple(labels):
            self._writer, self._lines = Writer(tuple(labels)), {}
        for name in self._lines.keys() - {record.target.name for record in records}:
            del self._lines[name]
        for record in records:
            yield self._lines_of(record)

    def _lines_of(self, record: Record) -> Lines | None:
        name = record.target.name
        lines = self._lines.get(name)
        if lines and lines.version == record.version:
            return lines
        try:
            self._lines[name] = self._writer.lines(record)
        except Exception:
            # The first one with its traceback, so that a broken target does not flood the log.
            first = not self._program.errors
            logger.error("metrics of target %s left out", printable(name), exc_info=first)  # noqa: TRY400
            self._program.errors += 1
            return None
        return self._lines[name]


class Writer:
    """Writes the lines of a target; `labels` are the names that are configured for any target."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        base = ("target", *labels)
        self._rows = tuple((row.read, _template(row, base)) for row in TARGET_METRICS)

    def lines(self, record: Record) -> Lines:
        """The lines of one target; raises whatever a row's reader does."""
        latest = record.latest
        reading = Reading(record, latest, latest.trace.path if latest and latest.trace else ())
        configured = dict(record.target.labels)
        base = [escaped(record.target.name), *(escaped(configured.get(n, "")) for n in self.labels)]
        return Lines(
            record.version,
            tuple(_written(template, read(reading), base) for read, template in self._rows),
        )


def _template(row: Row[Reading], base: tuple[str, ...]) -> str:
    """The line of a sample, to be formatted with the row's label values, `base`'s and the number.

    The labels stand in the order of their names, as prometheus_client writes them.
    """
    names = (*row.labels, *base)
    labels = ",".join(f'{name}="{{{names.index(name)}}}"' for name in sorted(names))
    return f"{row.name}{{{{{labels}}}}} {{{len(names)}}}\n"


def _written(template: str, samples: Iterable[Sample], base: list[str]) -> bytes:
    return "".join(
        template.format(*map(escaped, values), *base, _number(value)) for values, value in samples
    ).encode()


#: As Go writes it; most are small whole numbers.
_number = lru_cache(maxsize=1024)(floatToGoString)


# Most come again and again: hops, states, addresses of shared routers.
@lru_cache(maxsize=1024)
def escaped(text: str) -> str:
    """A label's value, printable, as it stands between its quotation marks."""
    return printable(text).replace("\\", r"\\").replace('"', r"\"")


def _laid_together(targets: list[Lines], position: int) -> Iterator[bytes]:
    """The lines of one metric, of all targets."""
    for start in range(0, len(targets), TARGETS_IN_A_PIECE):
        some = targets[start : start + TARGETS_IN_A_PIECE]
        yield b"".join([lines.families[position] for lines in some])


def _family(row: Row[Subject]) -> Metric:
    """The metric of a row, without samples."""
    return Metric(row.name.removesuffix(SUFFIXES[row.type]), row.help, row.type)


@dataclass(frozen=True, slots=True)
class _Bare:
    """All that an encoder uses of a registry, with one metric and no samples."""

    row: Row[Reading]

    def collect(self) -> Iterator[Metric]:
        """The metric."""
        yield _family(self.row)


def _head(encode: Encode, row: Row[Reading]) -> bytes:
    """What stands above the lines of a metric, in the encoder's format."""
    return encode(cast("CollectorRegistry", _Bare(row))).removesuffix(END)

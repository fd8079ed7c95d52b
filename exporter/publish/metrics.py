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
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
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
#: From this number on.
GO_USES_EXPONENTS = 1e6
#: What OpenMetrics ends with.
END = b"# EOF\n"

#: A number as Go writes it.
_go_string: Callable[[float], str] = floatToGoString
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
    """The samples of one target as text, a metric of the table each.

    `marks` are the hashes of what the text was written from: most metrics of a target are the same
    in the next cycle, and the samples themselves would take more memory than their text.
    """

    version: int
    families: tuple[bytes, ...]
    marks: Sequence[int]


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
        # All targets' lines of one metric after the other.
        columns = zip(*(lines.families for lines in targets), strict=True)
        for row, column in zip(TARGET_METRICS, columns if targets else repeat(()), strict=False):
            if not names or row.name in names:
                yield _head(encode, row)
                yield from _laid_together(column)
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
            self._lines[name] = self._writer.lines(record, lines)
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

    def lines(self, record: Record, before: Lines | None = None) -> Lines:
        """The lines of one target, those that are as `before` not written anew.

        Raises whatever a row's reader does.
        """
        latest = record.latest
        reading = Reading(record, latest, latest.trace.path if latest and latest.trace else ())
        configured = dict(record.target.labels)
        base = {name: _literal(configured.get(name, "")) for name in self.labels}
        base["target"] = _literal(record.target.name)
        of_base = tuple(base.values())
        known = zip(before.marks, before.families, strict=True) if before else repeat((None, b""))
        marks, families = array("q"), []
        for (read, template), (mark, lines) in zip(self._rows, known, strict=False):
            samples = tuple(read(reading))
            marks.append(hash((of_base, samples)))
            same = marks[-1] == mark
            families.append(lines if same else _written(template % base, samples))
        return Lines(record.version, tuple(families), marks)


def _template(row: Row[Reading], base: tuple[str, ...]) -> str:
    """The line of a sample, to be filled in twice: what all samples of a target share only once.

    `%` takes `base`'s values by their names, then `str.format` the row's label values and the
    number. The labels stand in the order of their names, as prometheus_client writes them.
    """
    slots = {name: f"%({name})s" for name in base}
    slots |= {name: f"{{{position}}}" for position, name in enumerate(row.labels)}
    labels = ",".join(f'{name}="{slots[name]}"' for name in sorted(slots))
    return f"{row.name}{{{{{labels}}}}} {{{len(row.labels)}}}\n"


def _written(template: str, samples: Iterable[Sample]) -> bytes:
    line = template.format
    return "".join(
        [line(*map(escaped, values), _number(value)) for values, value in samples]
    ).encode()


def _number(value: float) -> str:
    """As Go writes it; Python does the same below a million, in a third of the time."""
    return repr(float(value)) if 0 <= value < GO_USES_EXPONENTS else _go_string(value)


def _literal(text: str) -> str:
    """A label's value, to stand as it is in what `str.format` gets."""
    return escaped(text).replace("{", "{{").replace("}", "}}")


# Most come again and again: hops, states, addresses of shared routers.
@lru_cache(maxsize=1024)
def escaped(text: str) -> str:
    """A label's value, printable, as it stands between its quotation marks."""
    return printable(text).replace("\\", r"\\").replace('"', r"\"")


def _laid_together(column: tuple[bytes, ...]) -> Iterator[bytes]:
    """The lines of one metric, of all targets."""
    for start in range(0, len(column), TARGETS_IN_A_PIECE):
        yield b"".join(column[start : start + TARGETS_IN_A_PIECE])


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

"""One scrape as text, and a plain collector of the same metrics to hold it against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import cast

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from exporter.publish.log import LogStats
from exporter.publish.metrics import SUFFIXES, Exposition, ProgramCollector
from exporter.publish.readings import Reading
from exporter.publish.tables import TARGET_METRICS
from exporter.publish.text import printable
from exporter.store import Store

Encode = Callable[[CollectorRegistry], bytes]

#: The formats that are offered.
ENCODERS = {"text": generate_latest, "openmetrics": cast("Encode", openmetrics.generate_latest)}


def scraped(exposition: Exposition, *names: str, encode: Encode = generate_latest) -> str:
    """A whole scrape."""
    return b"".join(exposition.pieces(encode, names)).decode()


def exposed(store: Store, *names: str, encode: Encode = generate_latest) -> str:
    """What /metrics answers."""
    return scraped(Exposition(store, LogStats()), *names, encode=encode)


def without_process(text: str) -> str:
    """A scrape up to what the process says, which is other in each."""
    return text.partition("# HELP process_")[0]


class PlainCollector(Collector):
    """Every sample of every target, each of them made anew."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """All metrics of the targets."""
        records = tuple(self._store)
        blank = {name: "" for record in records for name, _ in record.target.labels}
        for row in TARGET_METRICS:
            family = Metric(row.name.removesuffix(SUFFIXES[row.type]), row.help, row.type)
            for record in records:
                latest = record.latest
                path = latest.trace.path if latest and latest.trace else ()
                base = blank | dict(record.target.labels) | {"target": record.target.name}
                for values, value in row.read(Reading(record, latest, path)):
                    labels = base | dict(zip(row.labels, values, strict=True))
                    family.add_sample(row.name, _printable(labels.items()), float(value))
            yield family


def plainly_exposed(store: Store, encode: Encode = generate_latest) -> str:
    """The metrics of the targets and of the program, as prometheus_client writes them."""
    made = CollectorRegistry()
    made.register(PlainCollector(store))
    made.register(ProgramCollector(store, LogStats()))
    return encode(made).decode()


def _printable(labels: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name: printable(value) for name, value in labels}

"""Targets: three ways to write one, and what each says turned into a `Target`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.config.document import Document
from exporter.config.hosts import joined, parts_of_url
from exporter.config.schema import TARGET_KEYS, TRACING_KEYS, Entry, Globals, checked
from exporter.config.words import Place, Where, shown
from exporter.model import Plan, Target

MAX_TARGETS = 2_000


@dataclass(frozen=True, slots=True)
class _Written:
    """A target as it was written, and how an error line names a place in it."""

    values: Mapping[str, Any]
    place: Place


def all_targets(
    environment: Mapping[str, str],
    document: Document,
    listed: object,
    given: Globals,
    problems: list[str],
) -> tuple[Target, ...]:
    """The targets of ENDPOINT, of ENDPOINTS and of the file, which has `listed` them."""
    entries = [
        *_of_endpoint(environment),
        *_of_endpoints(environment, problems),
        *_of_file(document, listed, problems),
    ]
    return _named(entries, given, problems)


def _of_endpoint(environment: Mapping[str, str]) -> Iterator[_Written]:
    """The target of ENDPOINT and ENDPOINT_TCP_PORT; one without the other lacks a key."""
    names = {"host": "endpoint", "port": "endpoint_tcp_port"}
    values = {key: environment[name] for key, name in names.items() if name in environment}
    if values:
        yield _Written(
            values, lambda where: "ENDPOINT_TCP_PORT" if where == ("port",) else "ENDPOINT"
        )


def _of_endpoints(environment: Mapping[str, str], problems: list[str]) -> Iterator[_Written]:
    """The targets of ENDPOINTS."""
    for number, word in enumerate(re.findall(r"[^\s,]+", environment.get("endpoints", "")), 1):
        place = _numbered(number)
        try:
            yield _Written(_endpoint(word), place)
        except ValueError as error:
            problems.append(f"{place(())}: {shown(word)} {error}")


def _numbered(number: int) -> Place:
    return lambda where: ", ".join((f"ENDPOINTS entry {number}", *map(str, where)))


def _endpoint(word: str) -> dict[str, str]:
    """name, host and port of one word of ENDPOINTS; raises ValueError with a predicate."""
    name, equals, rest = word.partition("=")
    if not equals or "://" in name:
        name, equals, rest = "", "", word
    if url := parts_of_url(rest):
        raise ValueError(f"is a URL; write {name}{equals}{joined(*url)}")
    match = re.fullmatch(r"(\[(?P<v6>[^\[\]]*)\]|(?P<host>[^:\[\]]*))(:(?P<port>[^:]*))?", rest)
    if not match:
        raise ValueError("should be host:port, name=host:port or, for IPv6, [2001:db8::1]:port")
    host = match["v6"] if match["host"] is None else match["host"]
    if match["port"] is None:
        raise ValueError(f"has no port; write e.g. {name}{equals}{joined(host, '443')}")
    return {**({"name": name} if equals else {}), "host": host, "port": match["port"]}


def _of_file(document: Document, listed: object, problems: list[str]) -> Iterator[_Written]:
    """The targets of the file."""
    if not isinstance(listed, list):
        place = document.place(("targets",))
        problems.append(f"{place}: {shown(listed)} should be a list of targets")
        return
    for index, value in enumerate(listed):
        here: Where = ("targets", index)
        values = document.section(value, here, TARGET_KEYS, problems)
        if values is not None:
            yield _Written(values, document.below(here))


def _named(entries: Sequence[_Written], given: Globals, problems: list[str]) -> tuple[Target, ...]:
    """The targets, each under a name of its own."""
    if len(entries) > MAX_TARGETS:
        place = entries[MAX_TARGETS].place(())
        problems.append(f"{place}: is one target too many; there can be {MAX_TARGETS:,}")
        return ()
    targets: list[Target] = []
    places: dict[str, str] = {}
    for entry in entries:
        target = _target(entry, given, problems)
        if target:
            targets.append(target)
        name = target.name if target else entry.values.get("name")
        if not isinstance(name, str):
            continue
        if name in places:
            here = entry.place(("name",))
            problems.append(f"{here}: {shown(name)} is taken by {places[name]}; write another")
        places.setdefault(name, entry.place(()))
    return tuple(targets)


def _target(entry: _Written, given: Globals, problems: list[str]) -> Target | None:
    values = {key: getattr(given, key) for key in TRACING_KEYS} | dict(entry.values)
    if isinstance(values["labels"], dict):
        values["labels"] = given.labels | values["labels"]
    found = checked(Entry, lambda: Entry.model_validate(values), entry.place, problems)
    if found is None:
        return None
    return Target(
        name=found.name or joined(found.host, found.port),
        host=found.host,
        port=found.port,
        labels=tuple(sorted(found.labels.items())),
        interval=found.interval_seconds,
        plan=Plan(found.max_hops, found.attempts, found.timeout_seconds),
    )

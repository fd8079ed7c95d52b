"""Targets: the ways to write one, and what each says turned into a `Target`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.config.document import Document
from exporter.config.hosts import parts_of_url
from exporter.config.schema import TARGET_KEYS, TRACING_KEYS, Entry, Globals, checked
from exporter.config.words import Place, Where, shown
from exporter.model import Controls, Plan, Target, joined
from exporter.settings import MAX_TARGETS


@dataclass(frozen=True, slots=True)
class Written:
    """A target as it was written, and how an error line names a place in it."""

    values: Mapping[str, Any]
    place: Place


def all_targets(
    environment: Mapping[str, str],
    documents: Iterable[tuple[Document, Mapping[str, Any]]],
    given: Globals,
    problems: list[str],
) -> tuple[Target, ...]:
    """The targets of ENDPOINT, of ENDPOINTS and of documents, each with its keys' values."""
    entries = [
        *_of_endpoint(environment),
        *_of_endpoints(environment.get("endpoints", ""), "ENDPOINTS", problems),
    ]
    for document, top in documents:
        place = document.place(("endpoints",))
        entries += _of_endpoints(top.get("endpoints", ""), place, problems)
        entries += _of_list(document, top.get("targets", []), problems)
    return _named(entries, given, problems)


def _of_endpoint(environment: Mapping[str, str]) -> Iterator[Written]:
    """The target of ENDPOINT and ENDPOINT_TCP_PORT; one without the other lacks a key."""
    names = {"host": "endpoint", "port": "endpoint_tcp_port"}
    values = {key: environment[name] for key, name in names.items() if name in environment}
    if values:
        yield Written(
            values, lambda where: "ENDPOINT_TCP_PORT" if where == ("port",) else "ENDPOINT"
        )


def _of_endpoints(endpoints: object, source: str, problems: list[str]) -> Iterator[Written]:
    """The targets of a text such as ENDPOINTS has."""
    if not isinstance(endpoints, str):
        expected = "host:port or name=host:port, separated by commas or spaces"
        problems.append(f"{source}: {shown(endpoints)} should be {expected}")
        return
    for number, word in enumerate(re.findall(r"[^\s,]+", endpoints), 1):
        place = _numbered(f"{source} entry {number}")
        try:
            yield Written(endpoint(word), place)
        except ValueError as error:
            problems.append(f"{place(())}: {shown(word)} {error}")


def _numbered(entry: str) -> Place:
    return lambda where: ", ".join((entry, *map(str, where)))


def endpoint(word: str) -> dict[str, str]:
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


def _of_list(document: Document, listed: object, problems: list[str]) -> Iterator[Written]:
    """The targets that a document lists."""
    if not isinstance(listed, list):
        place = document.place(("targets",))
        problems.append(f"{place}: {shown(listed)} should be a list of targets")
        return
    for index, value in enumerate(listed):
        here: Where = ("targets", index)
        values = document.section(value, here, TARGET_KEYS, problems)
        if values is not None:
            yield Written(values, document.below(here))


def _named(entries: Sequence[Written], given: Globals, problems: list[str]) -> tuple[Target, ...]:
    """The targets, each under a name of its own."""
    if len(entries) > MAX_TARGETS:
        place = entries[MAX_TARGETS].place(())
        problems.append(f"{place}: is one target too many; there can be {MAX_TARGETS:,}")
        return ()
    targets: list[Target] = []
    places: dict[str, str] = {}
    for entry in entries:
        target = target_of(entry, given, problems)
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


def target_of(entry: Written, given: Globals, problems: list[str]) -> Target | None:
    """The target, with what it leaves out from `given`; None when something is wrong with it."""
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
        family=found.family,
        all_addresses=found.all_addresses,
        controls=Controls(
            ports=found.control_ports,
            echo=found.icmp_echo,
            canary=found.canary,
            flows=found.flows,
            failing_flows=found.failing_flows,
        ),
    )

"""Zones: the ways to write parts of the network that have a name, each turned into a `NamedZone`.

1. Of environment, file and service the first one that names zones names them all.
2. In a list a zone is {name, networks, platform}. In a text it is `NAME=NETWORKS`, or with the
   flag `NAME (platform)=NETWORKS`; semicolons stand between zones.
3. Networks may contain each other, then the smaller one counts. The same one in two zones would
   leave open which zone is meant, and is refused; so are names that say another side of the edge.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from exporter.config.document import Document
from exporter.config.schema import ZONE_KEYS, ZoneEntry, checked
from exporter.config.targets import Written
from exporter.config.words import Place, Where, dotted, shown
from exporter.model import NamedZone, Zone
from exporter.settings import Network

MAX_ZONES = 64

#: NAME=NETWORKS, NAME (platform)=NETWORKS
_WRITTEN = re.compile(r"([^=]*?)\s*(\(platform\))?\s*=(.*)", re.DOTALL)
#: Names that stand for a side where a zone has none -> the flag that they go with.
_SIDES = {Zone.PLATFORM.value: True, Zone.EXTERNAL.value: False, Zone.UNKNOWN.value: None}


def all_zones(
    environment: Mapping[str, str],
    documents: Iterable[tuple[Document, Mapping[str, Any]]],
    platform_networks: Collection[Network],
    problems: list[str],
) -> tuple[NamedZone, ...]:
    """The zones of ZONES, or else of the first document that has some."""
    return _apart(tuple(_written(environment, documents, problems)), platform_networks, problems)


def _written(
    environment: Mapping[str, str],
    documents: Iterable[tuple[Document, Mapping[str, Any]]],
    problems: list[str],
) -> Iterator[Written]:
    """The zones of the first source that has some."""
    if "zones" in environment:
        return _of_text(environment["zones"], "ZONES", problems)
    for document, top in documents:
        if "zones" in top:
            return _of_document(document, top["zones"], problems)
    return iter(())


def _of_document(document: Document, zones: object, problems: list[str]) -> Iterator[Written]:
    place = document.place(("zones",))
    if isinstance(zones, str):
        yield from _of_text(zones, place, problems)
        return
    if not isinstance(zones, list):
        problems.append(f"{place}: {shown(zones)} should be a list of zones")
        return
    for index, value in enumerate(zones):
        here: Where = ("zones", index)
        values = document.section(value, here, ZONE_KEYS, problems)
        if values is not None:
            yield Written(values, document.below(here))


def _of_text(text: str, source: str, problems: list[str]) -> Iterator[Written]:
    for number, word in enumerate(filter(None, map(str.strip, text.split(";"))), 1):
        place = _numbered(f"{source} entry {number}")
        match = _WRITTEN.fullmatch(word)
        if match is None:
            expected = "NAME=NETWORKS or NAME (platform)=NETWORKS, with ; between zones"
            problems.append(f"{place(())}: {shown(word)} should be {expected}")
            continue
        name, flag, networks = match.groups()
        yield Written({"name": name, "platform": str(bool(flag)), "networks": networks}, place)


def _numbered(entry: str) -> Place:
    return lambda where: f"{entry}, {dotted(where)}" if where else entry


def _apart(
    entries: Sequence[Written], platform_networks: Collection[Network], problems: list[str]
) -> tuple[NamedZone, ...]:
    """The zones, each with a name and networks of its own."""
    if len(entries) > MAX_ZONES:
        place = entries[MAX_ZONES].place(())
        problems.append(f"{place}: is one zone too many; there can be {MAX_ZONES}")
        return ()
    zones: list[NamedZone] = []
    for entry in entries:
        zone = _zone(entry, problems)
        if zone:
            problems += _conflicts(zone, entry.place, zones, platform_networks)
            zones.append(zone)
    return tuple(zones)


def _zone(entry: Written, problems: list[str]) -> NamedZone | None:
    """The zone, None when something is wrong with it."""
    found = checked(
        ZoneEntry, lambda: ZoneEntry.model_validate(entry.values), entry.place, problems
    )
    return NamedZone(found.name, found.networks, found.platform) if found else None


def _conflicts(
    zone: NamedZone,
    place: Place,
    zones: Iterable[NamedZone],
    platform_networks: Collection[Network],
) -> Iterator[str]:
    """What the zone cannot be called, and networks that it cannot have."""
    here = f"{place(('name',))}: {shown(zone.name)}"
    if _SIDES.get(zone.name, zone.platform) is not zone.platform:
        yield f"{here} says something else than the zone's flag; write another name"
    for other in zones:
        if other.name == zone.name:
            yield f"{here} is taken by another zone; write another name, or one zone"
    for network in zone.networks:
        there = f"{place(('networks',))}: '{network}'"
        if not zone.platform and network in platform_networks:
            yield f"{there} is in PLATFORM_NETWORKS, and this zone is outside; write one of both"
        for other in zones:
            if other.name != zone.name and network in other.networks:
                yield f"{there} is in zone {shown(other.name)}, too; write it in one of both"

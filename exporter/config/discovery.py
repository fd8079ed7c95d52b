"""Targets from the credentials of bound services.

In each mapping of the credentials, the outermost and those within it:

1. Hosts stand under one of HOST_KEYS, alone, in a list or separated by commas, with a port of their
   own or that of PORT_KEY.
2. URIs stand under one of URI_KEYS; a host that 1 has found is not taken again.
3. Nothing else is looked at. Where such a key is and nothing can be read, a warning names the
   binding and the key, never the value.

A target is called as its binding; where that has several endpoints, or the name is taken,
host:port is added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from exporter.config.addresses import host_ports
from exporter.config.bindings import Binding
from exporter.config.schema import Globals
from exporter.config.service import NAME
from exporter.config.targets import Written, target_of
from exporter.config.words import Where, shown
from exporter.model import Target, joined
from exporter.settings import MAX_TARGETS

#: Keys in lower case, without dashes and underscores.
HOST_KEYS = frozenset(
    {"host", "hosts", "hostname", "hostnames", "servers", "nodes", "brokers", "bootstrapservers"}
)
URI_KEYS = frozenset({"uri", "uris", "url", "urls", "jdbcurl"})
PORT_KEY = "port"

#: Bounds of one binding: mappings that are looked at, values under one key, endpoints.
MAX_MAPPINGS = 200
MAX_VALUES = 32
MAX_ENDPOINTS = 32

Endpoint = tuple[str, int]


def discovered(
    bound: Sequence[Binding], given: Globals, explicit: Sequence[Target], warnings: list[str]
) -> Iterator[Target]:
    """The targets of the services that DISCOVER_SERVICES names, beside the `explicit` ones."""
    taken = {target.name for target in explicit}
    known = {(target.host, target.port) for target in explicit}
    for binding in _wanted(bound, given.discover_services, warnings):
        found = _endpoints(binding, warnings)
        for endpoint in found:
            if endpoint in known:
                continue
            known.add(endpoint)
            target = _target(binding, endpoint, given, taken, single=len(found) == 1)
            if target is None or len(taken) >= MAX_TARGETS:
                warnings.append(f"{binding.place(())}: an endpoint of it cannot be a target")
                continue
            taken.add(target.name)
            yield target


def _wanted(bound: Sequence[Binding], names: Sequence[str], warnings: list[str]) -> list[Binding]:
    """The bindings that are asked for, without the exporter's own."""
    if tuple(names) in {(), ("false",)}:
        return []
    others = [binding for binding in bound if NAME not in binding.names]
    if tuple(names) == ("true",):
        return others
    known = {name for binding in others for name in binding.names}
    warnings += (
        f"DISCOVER_SERVICES: no bound service is called {shown(name)}"
        for name in names
        if name not in known
    )
    return [binding for binding in others if not binding.names.isdisjoint(names)]


def _target(
    binding: Binding, endpoint: Endpoint, given: Globals, taken: set[str], *, single: bool
) -> Target | None:
    host, port = endpoint
    long = f"{binding.name}-{joined(host, port)}"
    name = binding.name if single and binding.name not in taken else long
    values = {"name": name, "host": host, "port": str(port)}
    # The mistakes would quote the values.
    target = target_of(Written(values, binding.place), given, [])
    return target if target and target.name not in taken else None


# -- what stands in credentials --------------------------------------------------------


def _endpoints(binding: Binding, warnings: list[str]) -> list[Endpoint]:
    """The endpoints of a binding, each once."""
    warnings += binding.faults
    found: dict[Endpoint, None] = {}
    unread: list[str] = []
    for where, mapping in islice(_mappings(binding.credentials, ()), MAX_MAPPINGS):
        here = _of_mapping(mapping)
        found |= dict.fromkeys(here)
        if not here:
            unread += (binding.place((*where, key)) for key in mapping if _is_candidate(key))
    warnings += (f"{place}: no host and port can be read from it" for place in unread)
    if not found and not unread:
        warnings.append(f"{binding.place(())}: names no host and port")
    return list(found)[:MAX_ENDPOINTS]


def _mappings(value: object, where: Where) -> Iterator[tuple[Where, Mapping[str, object]]]:
    """All mappings in a value, the outermost first; their depth is bounded by the reader."""
    if isinstance(value, dict):
        yield where, value
        for key, inner in value.items():
            yield from _mappings(inner, (*where, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _mappings(inner, (*where, index))


def _plain(key: str) -> str:
    return key.lower().replace("-", "").replace("_", "")


def _is_candidate(key: str) -> bool:
    return _plain(key) in HOST_KEYS | URI_KEYS


def _of_mapping(mapping: Mapping[str, object]) -> list[Endpoint]:
    """What one mapping names, by the rules 1 and 2 above."""
    values = {_plain(key): value for key, value in mapping.items()}
    written = values.get(PORT_KEY)
    port = int(written) if isinstance(written, str) and written.isdecimal() else None
    found = [
        endpoint
        for key in sorted(HOST_KEYS & values.keys())
        for text in _texts(values[key])
        for word in text.split(",")
        for endpoint in _read(word, port)
    ]
    hosts = {host for host, _ in found}
    uris = (text for key in sorted(URI_KEYS & values.keys()) for text in _texts(values[key]))
    return found + [e for text in uris if "://" in text for e in _read(text) if e[0] not in hosts]


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for text in values[:MAX_VALUES] if isinstance(text, str)]


def _read(text: str, port: int | None = None) -> list[Endpoint]:
    try:
        return host_ports(text, port)
    except ValueError:
        return []

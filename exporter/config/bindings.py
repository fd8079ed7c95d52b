"""Bound services, in the three ways in which platforms deliver them.

1. VCAP_SERVICES: JSON, {label: [{name, tags, credentials, ...}, ...]}.
2. VCAP_SERVICES_FILE_PATH: a file with the same JSON.
3. SERVICE_BINDING_ROOT: a folder for each binding, in it a file for each key, with nested values
   as JSON (servicebinding.io; Cloud Foundry's RFC 0030).

All are read the same way, into `Binding`s. What belongs to other services may look like anything
and is not judged here. No value is ever part of an error or of a binding's text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from exporter.config.files import content
from exporter.config.plain import plain_json
from exporter.config.words import MAX_SHOWN, Place, dotted, shown

#: Bindings, and keys of one of them, that are looked at in SERVICE_BINDING_ROOT.
MAX_ENTRIES = 1_000
#: Bytes of all files there.
MAX_BYTES = 16 << 20

#: What says by which names a binding can be asked for.
NAME_KEYS = ("name", "binding_name", "instance_name", "label", "type")
NAME_FILES = ("name", "binding-name", "instance-name", "label", "type")
#: Files that describe the binding and are no credentials, as Cloud Foundry's RFC 0030 and
#: servicebinding.io have them.
METADATA_FILES = frozenset(
    {
        *NAME_FILES,
        *("binding-guid", "instance-guid", "plan", "provider", "tags"),
        *("syslog-drain-url", "volume-mounts"),
    }
)


@dataclass(frozen=True, slots=True)
class Binding:
    """A bound service: all names it goes by, its credentials, and the place of each of them."""

    name: str
    names: frozenset[str]
    credentials: Mapping[str, object] = field(repr=False)
    place: Place
    #: What could not be read of it, one line each.
    faults: tuple[str, ...] = ()


def bindings(environ: Mapping[str, str], problems: list[str]) -> list[Binding]:
    """All bound services."""
    found: list[Binding] = []
    for variable, read in READERS.items():
        value = environ.get(variable, "")
        if value.strip():
            try:
                found += read(variable, value)
            except ValueError as error:
                problems.append(f"{variable}: {error}")
    return found


def _beside(prefix: str, separator: str) -> Place:
    return lambda where: f"{prefix}{separator}{dotted(where)}" if where else prefix


# -- JSON ------------------------------------------------------------------------------


def _of_variable(variable: str, value: str) -> list[Binding]:
    try:
        found = plain_json(value)
    except ValueError as error:
        raise ValueError(f"the value {error}") from None
    return list(_of_json(variable, found))


def _of_file(variable: str, path: str) -> list[Binding]:
    try:
        found = plain_json(content(path).decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError(f"{shown(path)} is not UTF-8") from None
    except ValueError as error:
        raise ValueError(f"{shown(path)} {error}") from None
    return list(_of_json(variable, found))


def _of_json(variable: str, found: object) -> Iterator[Binding]:
    if found is not None and not isinstance(found, dict):
        raise ValueError("the value should be a JSON object with a list for each service")
    for label, services in (found or {}).items():
        for index, service in enumerate(services if isinstance(services, list) else ()):
            if isinstance(service, dict):
                yield _of_service(variable, label, index, service)


def _of_service(variable: str, label: str, index: int, service: Mapping[str, object]) -> Binding:
    names = [text for key in NAME_KEYS if isinstance(text := service.get(key), str)]
    name = names[0] if names else str(index)
    credentials = service.get("credentials")
    prefix = f"{variable} {label[:MAX_SHOWN]}[{name[:MAX_SHOWN]}].credentials"
    return Binding(
        name,
        frozenset({*names, label, *_tags(service.get("tags"))}),
        credentials if isinstance(credentials, dict) else {},
        _beside(prefix, "."),
    )


def _tags(value: object) -> Iterator[str]:
    return (tag for tag in value if isinstance(tag, str)) if isinstance(value, list) else iter(())


# -- a folder for each binding ---------------------------------------------------------


def _of_root(variable: str, root: str) -> list[Binding]:
    left = MAX_BYTES
    found = []
    for folder in _entries(root):
        if not folder.is_dir():
            continue
        values, faults = _read_folder(variable, folder, left)
        left -= sum(map(len, values.values()))
        found.append(_of_folder(variable, folder.name, values, faults))
    return found


def _entries(folder: str | Path) -> list[Path]:
    """What is in a folder, in order; Kubernetes' own links begin with a dot.

    A folder that is not there is empty: images set the variable before anything is bound.
    """
    try:
        names = (path for path in Path(folder).iterdir() if not path.name.startswith("."))
        return sorted(islice(names, MAX_ENTRIES))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{shown(str(folder))} cannot be read: {reason}") from None


def _read_folder(variable: str, folder: Path, left: int) -> tuple[dict[str, bytes], list[str]]:
    """The files of a binding by name, and what could not be read."""
    values: dict[str, bytes] = {}
    faults = []
    try:
        entries = _entries(folder)
    except ValueError as error:
        return {}, [f"{variable}: {error}"]
    for path in entries:
        try:
            values[path.name] = content(path, left - sum(map(len, values.values())))
        except ValueError as error:
            faults.append(f"{variable}/{folder.name}/{path.name} {error}")
    return values, faults


def _of_folder(variable: str, name: str, files: Mapping[str, bytes], faults: list[str]) -> Binding:
    # What is no UTF-8 becomes a text that no setting and no host accepts.
    texts = {key: value.decode("utf-8", "surrogateescape") for key, value in files.items()}
    names = {text.strip() for key in NAME_FILES if (text := texts.get(key, "")).strip()}
    credentials = {
        # An editor ends a file with a line break; it is part of no value.
        key: text.removesuffix("\n")
        for key, text in texts.items()
        if key not in METADATA_FILES and text.strip()
    }
    return Binding(
        name,
        frozenset({name, *names, *_tags(_json_or_none(texts.get("tags", "")))}),
        credentials,
        _beside(f"{variable}/{name}", "/"),
        tuple(faults),
    )


def _json_or_none(text: str) -> object:
    try:
        return plain_json(text)
    except ValueError:
        return None


READERS = {
    "VCAP_SERVICES": _of_variable,
    "VCAP_SERVICES_FILE_PATH": _of_file,
    "SERVICE_BINDING_ROOT": _of_root,
}

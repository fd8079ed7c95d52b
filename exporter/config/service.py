"""The bound service that carries the exporter's own configuration.

It is the one that is named, tagged or typed `egress-exporter`. Its credentials have the keys of the
YAML file, and `endpoints`. Where a value is made of several, a text of JSON or YAML will do as
well: Cloud Foundry's files for bindings have such texts.
"""

from __future__ import annotations

from collections.abc import Iterable

from exporter.config.bindings import Binding
from exporter.config.document import Document, yaml_in
from exporter.config.schema import SOURCE_KEYS

NAME = "egress-exporter"

#: Keys whose text stands for more than a text -> how it begins then.
STRUCTURED = {
    **dict.fromkeys(("targets", "defaults", *SOURCE_KEYS), ""),
    **dict.fromkeys(("platform_networks", "zones", "discover_services"), "["),
}


def own_binding(bound: Iterable[Binding], problems: list[str]) -> Binding | None:
    """The binding that is meant for this program, None when there is none."""
    own = [binding for binding in bound if NAME in binding.names]
    if len(own) > 1:
        places = " and ".join(binding.place(()) for binding in own[:2])
        problems.append(f"{places} are both called {NAME}; bind one service of that name")
        return None
    return own[0] if own else None


def document_of(binding: Binding | None, problems: list[str]) -> Document:
    """What the binding says, as if it stood in a file; nothing without a binding."""
    if binding is None:
        return Document({}, lambda _: "")
    problems += binding.faults
    root = {key: _structured(binding, key, v, problems) for key, v in binding.credentials.items()}
    return Document({key: v for key, v in root.items() if v is not None}, binding.place)


def _structured(binding: Binding, key: str, value: object, problems: list[str]) -> object:
    if not isinstance(value, str) or key not in STRUCTURED:
        return value
    if not value.lstrip().startswith(STRUCTURED[key]):
        return value
    try:
        return yaml_in(value, binding.place((key,)), problems).root
    except ValueError as error:
        problems.append(str(error))
        return None

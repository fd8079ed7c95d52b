"""What a discovered list of targets means: Prometheus' groups, each turned into `Target`s.

A list is [{"targets": ["host:port", ...], "labels": {"name": "value", ...}}, ...], as file_sd and
http_sd have it. Whoever writes it is a program, and may be broken or hostile:

1. What is no such list raises ValueError as a whole: half a list would take targets away that
   are still wanted. An empty text is no list either, for a file that is just being written is
   empty; the list without targets is [].
2. An entry that cannot be a target is left out, with a line that says why.
3. An entry is written as one of ENDPOINTS, its labels by the rules of the configuration's. A label
   __KEY__ is the target's own setting KEY, as Prometheus has it in __scrape_interval__; what
   begins with __meta_ is there for relabelling and dropped, as Prometheus does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from exporter.config.document import Document, yaml_in
from exporter.config.files import content
from exporter.config.plain import plain_json
from exporter.config.schema import TARGET_KEYS, Globals
from exporter.config.targets import Written, endpoint, target_of
from exporter.config.words import Place, Where, dotted, one_line, shown
from exporter.model import Target
from exporter.settings import MAX_TARGETS, Listed

#: So many lines tell of a list's entries that are left out.
MAX_PROBLEMS = 20
GROUP_KEYS = ("targets", "labels")
#: Label -> the setting of a target that it stands for.
SETTINGS = {f"__{key}__": key for key in TARGET_KEYS if key not in {"host", "port", "labels"}}
_DROPPED = "__meta_"
_KNOWN = f"there are {', '.join(SETTINGS)}"
_EMPTY = "is empty; a list without targets is written []"
_EMPTY_JSON = re.compile(r"\s*\[\s*\]\s*")


@dataclass(frozen=True, slots=True)
class Lists:
    """Reads lists; what a target leaves out comes from `given`."""

    given: Globals

    def of_file(self, path: Path) -> Listed:
        """What a file of JSON or YAML names; raises ValueError with one printable line."""
        name = str(path)
        try:
            found = content(path)
        except ValueError as error:
            raise ValueError(one_line(f"{name} {error}")) from None
        read = _json if path.suffix.lower() == ".json" else _yaml
        return self._listed(found, name, read)

    def of_answer(self, body: bytes, name: str) -> Listed:
        """What JSON from the source of that name names; raises ValueError as above."""
        return self._listed(body, name, _json)

    def _listed(self, found: bytes, name: str, read: Callable[[str, str], Document]) -> Listed:
        try:
            entries = list(islice(_entries(read(_text(found, name), name)), MAX_TARGETS + 1))
        except ValueError as error:
            raise ValueError(one_line(str(error))) from None
        if len(entries) > MAX_TARGETS:
            raise ValueError(one_line(f"{name}: names more than {MAX_TARGETS:,} targets"))
        problems: list[str] = []
        targets = tuple(target for e in entries if (target := e.target(self.given, problems)))
        lines = tuple(map(one_line, dict.fromkeys(problems)))
        return Listed(targets, len(entries) - len(targets), lines[:MAX_PROBLEMS])


# -- the text ----------------------------------------------------------------------------


def _text(found: bytes, name: str) -> str:
    try:
        text = found.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{name}: is not UTF-8") from None
    if not text.strip():
        raise ValueError(f"{name}: {_EMPTY}")
    return text


def _json(text: str, name: str) -> Document:
    place = _beside(name)
    if _EMPTY_JSON.fullmatch(text):  # which `plain_json` takes for nothing at all
        return Document([], place)
    try:
        return Document(plain_json(text), place)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def _yaml(text: str, name: str) -> Document:
    problems: list[str] = []
    document = yaml_in(text, name, problems)
    if document.root is None:  # comments alone
        raise ValueError(f"{name}: {_EMPTY}")
    if problems:
        raise ValueError(problems[0])
    return document


def _beside(name: str) -> Place:
    return lambda where: f"{name}: {dotted(where)}" if where else name


# -- the groups --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of a group: where it stands, what is written there, and the group's labels."""

    document: Document
    where: Where
    word: object
    labels: Mapping[str, Any]

    def target(self, given: Globals, problems: list[str]) -> Target | None:
        """The target, None with a line for what is wrong."""
        own = {key: value for key, value in self.labels.items() if key.startswith("__")}
        if unknown := [k for k in own if k not in SETTINGS and not k.startswith(_DROPPED)]:
            here = self.document.place((*self.where[:1], "labels"))
            problems.append(f"{here}: {shown(unknown[0])} is no setting; {_KNOWN}")
            return None
        settings = {SETTINGS[key]: value for key, value in own.items() if key in SETTINGS}
        try:
            values = settings | _host_and_port(self.word)
        except ValueError as error:
            problems.append(f"{self.document.place(self.where)}: {shown(self.word)} {error}")
            return None
        labels = {key: value for key, value in self.labels.items() if key not in own}
        return target_of(Written({**values, "labels": labels}, self._place), given, problems)

    def _place(self, where: Where) -> str:
        group, key = self.where[0], str(where[0])
        if key == "labels":
            return self.document.place((group, *where))
        if f"__{key}__" in self.labels:
            return self.document.place((group, "labels", f"__{key}__"))
        return self.document.place(self.where)


def _host_and_port(word: object) -> dict[str, str]:
    if not isinstance(word, str):
        raise ValueError("should be host:port")  # noqa: TRY004  -- a value like any other
    return endpoint(word)


def _entries(document: Document) -> Iterator[_Entry]:
    """The entries of all groups; raises ValueError for what is no list of groups."""
    groups = document.root if isinstance(document.root, list) else None
    if groups is None:
        # What it is instead may hold a secret, so nothing of it is shown.
        expected = "should be a list of groups with targets and labels"
        raise ValueError(f"{document.place(())}: {expected}")
    for index, value in enumerate(groups):
        problems: list[str] = []
        group = document.section(value, (index,), GROUP_KEYS, problems)
        if group is None or problems:
            raise ValueError(problems[0])
        yield from _of_group(document, index, group)


def _of_group(document: Document, index: int, group: Mapping[str, Any]) -> Iterator[_Entry]:
    targets, labels = group.get("targets") or [], group.get("labels") or {}
    for key, value, right, expected in (
        ("targets", targets, isinstance(targets, list), "a list of host:port"),
        ("labels", labels, isinstance(labels, dict), "a mapping of names to values"),
    ):
        if not right:
            raise ValueError(f"{document.place((index, key))}: {shown(value)} should be {expected}")
    for number, word in enumerate(targets):
        yield _Entry(document, (index, "targets", number), word, labels)

"""The YAML file: its values as dicts, lists and texts, and the line on which each begins.

1. Only a regular file of bounded size is read, and only as UTF-8.
2. YAML's events are looked through first: aliases, tags and deep nesting are refused before
   anything is built from them.
3. Its nodes then become plain values. No scalar is interpreted; null and an empty value are unset.
4. What is read is asked for by `section`, which refuses keys that mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from exporter.config.files import content
from exporter.config.plain import MAX_NESTING
from exporter.config.schema import advice
from exporter.config.words import Place, Where, dotted, shown


@dataclass(frozen=True, slots=True)
class Document:
    """What one source says, as dicts, lists and texts, and what an error line calls its places."""

    root: object
    place: Place

    def below(self, here: Where) -> Place:
        """`place` for what is counted from here."""
        return lambda where: self.place((*here, *where))

    def section(
        self, value: object, where: Where, keys: Sequence[str], problems: list[str]
    ) -> dict[str, Any] | None:
        """A mapping without the keys that mean nothing there; None when it is no mapping."""
        if not isinstance(value, dict):
            # A file of another kind may be a secret, so nothing of it is shown.
            what = shown(value) if where else "the file"
            expected = f"a mapping with keys such as {', '.join(keys[:3])}"
            problems.append(f"{self.place(where)}: {what} should be {expected}")
            return None
        problems += (
            f"{self.place((*where, key))}: {advice(key, keys)}" for key in value if key not in keys
        )
        return {key: value[key] for key in keys if key in value}


def read(path: str, problems: list[str]) -> Document:
    """The file of that name; one without values when there is none or it cannot be read."""
    if path:
        try:
            document = yaml_in(_text(path), path, problems)
        except ValueError as error:
            problems.append(str(error))
        else:
            if document.root is not None:
                return document
            here = f"CONFIG_FILE: {shown(path)}"
            problems.append(f"{here} is empty; it should have at least targets:")
    return Document({}, lambda _: path)


def _text(path: str) -> str:
    """The file's text; raises ValueError with the whole line to report."""
    try:
        found = content(path)
    except ValueError as error:
        raise ValueError(f"CONFIG_FILE: {shown(path)} {error}") from None
    try:
        return found.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = found.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} line {line}: is not UTF-8; save the file as UTF-8") from None


def yaml_in(text: str, name: str, problems: list[str]) -> Document:
    """The document in a text of that name, its root None when there is nothing in it.

    Raises ValueError with the whole line to report.
    """
    try:
        _refuse_extras(name, text)
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        # The problem alone: YAML's snippet of the text could quote a secret.
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{name} line {line}: cannot be read as YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.encode().count(b"\n", 0, error.position) + 1
        raise ValueError(f"{name} line {line}: cannot be read as YAML: {error.reason}") from None
    except UnicodeEncodeError:  # what was no UTF-8 in a binding's file
        raise ValueError(f"{name}: is not UTF-8") from None
    reading = _Reading(name, problems)
    root = None if node is None else reading.plain(node, ())
    return Document(root, reading.place)


def _refuse_extras(path: str, text: str) -> None:
    """Raise ValueError for what this program takes from no file, before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        problem = None
        if isinstance(event, yaml.AliasEvent):  # a few of them expand to gigabytes
            problem = "aliases (*name) are not supported; write the value out"
        elif getattr(event, "tag", None):
            problem = "tags (!name) are not supported; write the value without, or in quotes"
        elif depth > MAX_NESTING:  # the parser recurses into them
            problem = f"more than {MAX_NESTING} levels are not supported; write fewer"
        if problem:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise ValueError(f"{path} line {line}: {problem}")


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way through a file's nodes: notes the line of each, and what is wrong with the keys."""

    path: str
    problems: list[str]
    #: The line on which each value begins.
    lines: dict[Where, int] = field(default_factory=dict)

    def place(self, where: Where) -> str:
        """E.g. "targets.yml line 9: targets[2].port"; what is missing is where it belongs."""
        known = next(w for n in range(len(where), -1, -1) if (w := where[:n]) in self.lines)
        line = f"{self.path} line {self.lines[known]}"
        return f"{line}: {dotted(where)}" if where else line

    def plain(self, node: yaml.Node, where: Where) -> object:
        """The node as dict, list, text or None (unset)."""
        self.lines.setdefault(where, _line(node))
        if isinstance(node, yaml.ScalarNode):
            return None if node.tag == "tag:yaml.org,2002:null" else node.value
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item, (*where, index)) for index, item in enumerate(node.value)]
        return self._mapping(node, where)

    def _mapping(self, node: yaml.Node, where: Where) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            here = f"{self.path} line {_line(key_node)}"
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(f"{here}: a key should be one word")
                continue
            inner = (*where, key_node.value)
            if inner in self.lines:
                self.problems.append(
                    f"{here}: {dotted(inner)}: is written twice, "
                    f"first on line {self.lines[inner]}; write it once"
                )
                continue
            self.lines[inner] = _line(key_node)
            values[key_node.value] = self.plain(value_node, inner)
        return {key: value for key, value in values.items() if value is not None}


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1

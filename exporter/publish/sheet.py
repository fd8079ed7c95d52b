"""A title and sections of rows, items, sentences and raw text, written as text or as a page.

The two say the same. Both take any text; a page escapes it, so whoever makes the sections sees to
it that it is `printable`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby
from textwrap import wrap
from typing import NamedTuple

#: Characters in a line of text, but for raw text.
WIDTH = 96
#: Columns of a row's name.
MARGIN = 18


class Row(NamedTuple):
    """A name and what there is to say."""

    name: str
    text: str


class Raw(NamedTuple):
    """Lines to be left as they are."""

    text: str


class Item(NamedTuple):
    """One of a list."""

    text: str


Block = Row | Raw | Item | str


class Section(NamedTuple):
    """A heading, and rows, raw text and sentences below it."""

    title: str
    blocks: Sequence[Block]


# -- as text -----------------------------------------------------------------------------


def as_text(title: str, sections: Iterable[Section]) -> str:
    """The sheet for any editor, terminal or ticket."""
    lines = [title, "=" * len(title)]
    for section in sections:
        lines += ["", section.title, "-" * len(section.title), *_lines(section)]
    return "\n".join(lines) + "\n"


def _lines(section: Section) -> Iterator[str]:
    for block in section.blocks:
        match block:
            case Raw(text):
                yield text
            case Item(text):
                yield from _wrapped(text, "- ")
            case Row(name, text):
                yield from _wrapped(text, f"{name:{MARGIN}} ")
            case _:
                yield from _wrapped(block)


def _wrapped(text: str, begin: str = "") -> list[str]:
    """Lines of at most `WIDTH`, unless a word is longer: addresses and names stay whole."""
    return wrap(
        text,
        WIDTH,
        initial_indent=begin,
        subsequent_indent=" " * len(begin),
        break_long_words=False,
        break_on_hyphens=False,
    )


# -- as a page ---------------------------------------------------------------------------


def as_page(title: str, sections: Iterable[Section], end: str = "") -> str:
    """The same as one page that loads nothing; `end` is HTML to stand below the sections."""
    heading = escape(title)
    body = "".join(
        f"<section>\n<h2>{escape(section.title)}</h2>\n{''.join(_elements(section))}</section>\n"
        for section in sections
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{heading}</title>\n<style>\n{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{heading}</h1>\n{body}{end}</main>\n</body>\n</html>\n"
    )


def _elements(section: Section) -> Iterator[str]:
    for kind, blocks in groupby(section.blocks, type):
        elements = "".join(map(_element, blocks))
        around = _AROUND.get(kind)
        yield f"<{around}>\n{elements}</{around}>\n" if around else elements


def _element(block: Block) -> str:
    match block:
        case Row(name, text):
            return f"<dt>{escape(name)}</dt>\n<dd>{escape(text)}</dd>\n"
        case Item(text):
            return f"<li>{escape(text)}</li>\n"
        case Raw(text):
            return f'<pre tabindex="0">{escape(text)}</pre>\n'
        case _:
            return f"<p>{escape(block)}</p>\n"


#: The element around blocks of a kind that follow each other.
_AROUND: dict[type, str] = {Row: "dl", Item: "ul"}
#: Dark ink on white paper: it is read in mail programs and on paper.
_STYLE = """\
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: #fff; color: #1c2024;
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: 0 0 1rem; }
h2 { font-size: 1.1rem; margin: 1.5rem 0 .4rem; border-bottom: 1px solid #d5dae0; }
p, ul { margin: .4rem 0; }
ul { padding-left: 1.2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: .4rem 0; }
dt { font-weight: 600; }
dd { margin: 0; }
pre { margin: .4rem 0; padding: .6rem; background: #f4f6f8; border: 1px solid #d5dae0;
  font: .8rem/1.45 ui-monospace, monospace; overflow-x: auto; }
a { color: #0b57a4; }
@media (max-width: 36rem) { dl { display: block; } }
@media print { pre { white-space: pre-wrap; } }
"""

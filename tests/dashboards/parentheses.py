"""Which parentheses of a PromQL expression bite: without them it would be read otherwise.

Operators bind as Prometheus' documentation orders them, and those of one rank from left to right
(`^`, which no rule has, aside). Parentheses matter where an operator inside them binds no
closer than the one before them, or less than the one behind them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

RANKS = (
    ("or",),
    ("and", "unless"),
    ("==", "!=", "<=", "<", ">=", ">"),
    ("+", "-"),
    ("*", "/", "%"),
)
RANK = {operator: rank for rank, operators in enumerate(RANKS) for operator in operators}
#: What stands between an operator or an aggregation and its operand, with a list of labels or not.
MODIFIERS = {"bool", "on", "ignoring", "group_left", "group_right", "by", "without"}

TOKENS = re.compile(
    r"""
    "[^"]*" | \{[^}]*\} | \[[^]]*\]     # a string, a selector, a range
    | [a-zA-Z_:][\w:]* | [\d.]+         # a name, a number
    | [=!<>]= | [-+*/%<>(),]            # an operator, a bracket
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A word of an expression, and where it begins."""

    text: str
    start: int


def without(expression: str) -> Iterator[str]:
    """The expression without each pair of parentheses that bite, one pair at a time."""
    tokens = _words(expression)
    for first, last in _pairs(tokens):
        if _bite(tokens, first, last):
            opened, closed = tokens[first].start, tokens[last].start
            yield expression[:opened] + expression[opened + 1 : closed] + expression[closed + 1 :]


def _words(expression: str) -> list[Token]:
    """All tokens but modifiers and their lists of labels."""
    found = [Token(match[0], match.start()) for match in TOKENS.finditer(expression)]
    words: list[Token] = []
    place = 0
    while place < len(found):
        if found[place].text not in MODIFIERS:
            words.append(found[place])
        elif found[place].text != "bool":
            place = next(n for n in range(place, len(found)) if found[n].text == ")")
        place += 1
    return words


def _pairs(tokens: list[Token]) -> Iterator[tuple[int, int]]:
    """The places of the parentheses that group, as opposed to those of a function."""
    opened: list[int] = []
    for place, token in enumerate(tokens):
        if token.text == "(":
            opened.append(place)
        elif token.text == ")":
            first = opened.pop()
            if first == 0 or tokens[first - 1].text in {"(", ",", *RANK}:
                yield first, place


def _bite(tokens: list[Token], first: int, last: int) -> bool:
    inside = min(_operators(tokens[first + 1 : last]), default=len(RANKS))
    before = RANK.get(tokens[first - 1].text, -1) if first else -1
    behind = RANK.get(tokens[last + 1].text, -1) if last + 1 < len(tokens) else -1
    return inside <= before or inside < behind


def _operators(tokens: list[Token]) -> Iterator[int]:
    """The ranks of the operators that stand in no further parentheses."""
    depth = 0
    for token in tokens:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and token.text in RANK:
            yield RANK[token.text]

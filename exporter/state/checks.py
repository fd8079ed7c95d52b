"""Values of a file that may hold anything: each check returns the value, or raises ValueError.

The message is a predicate of the value, without the value itself.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

#: 9999-12-31T23:59:59Z, the last second that datetime knows.
LAST_SECOND = 253_402_300_799
MAX_TEXT = 1_000


def mapping(value: object) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise ValueError("is no object")  # noqa: TRY004  -- the file's mistake, not a caller's
    return value


def items(value: object, most: int, least: int = 0) -> list[Any]:
    """A JSON list of so many items."""
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise ValueError(f"is no list of {least} to {most} items")
    return value


def text(value: object, most: int = MAX_TEXT) -> str:
    """A text of at most so many characters."""
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"is no text of at most {most} characters")
    return value


def whole(value: object, low: int, high: int) -> int:
    """A whole number; both bounds are allowed."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"is no whole number from {low} to {high}")
    return value


def number(value: object, low: float, high: float) -> float:
    """A number; NaN, which compares with nothing, is none."""
    if type(value) not in {int, float} or not low <= value <= high:  # type: ignore[operator]
        raise ValueError(f"is no number from {low:g} to {high:g}")
    return float(value)  # type: ignore[arg-type]


def moment(value: object) -> float:
    """A time in seconds since the epoch."""
    return number(value, 0, LAST_SECOND)


def span(value: object) -> float:
    """A duration in seconds, at most a day."""
    return number(value, 0, 86_400)


def switch(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false")  # noqa: TRY004
    return value


def address(value: object) -> str:
    """An IPv4 or IPv6 address without a scope."""
    return _address(text(value, 45))  # RFC 4291's longest form


# Many targets share their first hops.
@lru_cache(maxsize=1024)
def _address(value: str) -> str:
    if getattr(ip_address(value), "scope_id", None):
        raise ValueError("is an address with a scope")
    return value


def one_of(kind: type[E], value: object) -> E:
    """One of the words of an enumeration."""
    return kind(text(value))


def optional(check: Callable[[object], T], value: object) -> T | None:
    """What the check says, or None for null."""
    return None if value is None else check(value)

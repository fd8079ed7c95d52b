"""What was made of records, kept for as long as nothing is new; bounded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from exporter.store import Record

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """One value for each of the `bound` records that were asked for last."""

    def __init__(self, make: Callable[[Record], Value], bound: int) -> None:
        self._make = make
        self._bound = bound
        #: Target -> the version of its record, and the value; the one asked for last at the end.
        self._values: OrderedDict[str, tuple[int, Value]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def of(self, record: Record) -> Value:
        """The value of a record, made anew when it has changed."""
        name = record.target.name
        version, value = self._values.pop(name, (0, None))
        if value is None or version != record.version:
            version, value = record.version, self._make(record)
        self._values[name] = version, value
        if len(self._values) > self._bound:
            self._values.popitem(last=False)
        return value

    def forget(self, targets: Collection[str]) -> None:
        """Drop the values of all targets but these."""
        for name in self._values.keys() - set(targets):
            del self._values[name]

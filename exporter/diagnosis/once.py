"""What was found out about a trace is not found out again.

A verdict asks the same of its trace many times, and is made two or three times in a cycle with the
same controls and the same traces of other targets. The functions stay pure: an answer depends on
the trace alone, and nobody changes it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from exporter.model import Trace

#: So many traces are remembered by each function: those of the cycles that are under way.
MOST = 64

T = TypeVar("T")


def once(work: Callable[[Trace], T]) -> Callable[[Trace], T]:
    """Remember what a function has said of the traces that it was asked about last.

    By identity: to hash a trace, which is made of hundreds of values, costs more than most answers.
    """
    # The trace is held, so nothing else takes its identity.
    known: dict[int, tuple[Trace, T]] = {}

    @wraps(work)
    def answer(trace: Trace) -> T:
        if found := known.get(id(trace)):
            return found[1]
        said = work(trace)
        known[id(trace)] = trace, said
        if len(known) > MOST:
            del known[next(iter(known))]
        return said

    return answer

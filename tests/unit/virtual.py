"""An asyncio loop whose clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import TypeVar

from tests.unit.playing import START

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: where there is nothing to read, the time asked for has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready; otherwise the clock jumps."""
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everything waits and nothing is to come"
            self.now += max(timeout, 0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts at `START`."""

    def __init__(self) -> None:
        self._selected = _JumpingSelector()
        super().__init__(self._selected)

    def time(self) -> float:
        """The virtual time in seconds."""
        return self._selected.now


def run(main: Coroutine[object, object, T]) -> T:
    """`asyncio.run` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


async def settle() -> None:
    """Let every task that can go on go on, without any time passing."""
    for _ in range(20):
        await asyncio.sleep(0)


def now() -> float:
    """Seconds since the start."""
    return asyncio.get_running_loop().time() - START

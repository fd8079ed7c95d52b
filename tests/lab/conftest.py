"""Labs for tests: one line instead of a traceback where a lab cannot be built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.lab.lab import Lab, LabError
from tests.scenarios import Scenario

OpenLab = Callable[[Scenario], Lab]


@pytest.fixture
def open_lab() -> Iterator[OpenLab]:
    """Opens labs that are closed when the test ends."""
    with ExitStack() as stack:

        def enter(scenario: Scenario) -> Lab:
            try:
                return stack.enter_context(Lab(scenario))
            except LabError as error:
                pytest.fail(str(error), pytrace=False)

        yield enter

"""Labs for tests: one line instead of a traceback where a lab cannot be built.

And engines in them: `lab` is the plain chain, which a module with a network of its own overrides,
in IPv4 unless `family`, which a module for both families overrides, says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.lab.chain import CHAIN
from tests.lab.engines import RemoteEngine
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


@pytest.fixture
def family() -> str:
    """The IP version that the chain is spoken of in."""
    return "ipv4"


@pytest.fixture
def lab(open_lab: OpenLab, family: str) -> Lab:
    """The chain, running."""
    return open_lab(replace(CHAIN, family=family))


@pytest.fixture
def syn(lab: Lab) -> Iterator[RemoteEngine]:
    """The syn engine at the beginning of the lab."""
    with RemoteEngine(lab, "syn") as remote:
        yield remote


@pytest.fixture
def connect(lab: Lab) -> Iterator[RemoteEngine]:
    """The connect engine at the beginning of the lab."""
    with RemoteEngine(lab, "connect") as remote:
        yield remote

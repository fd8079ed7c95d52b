"""The story that rules and panels are held against, told once for all tests of a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.dashboards.story import Story, told
from tests.lab.lab import LabError
from tests.lab.prometheus import PrometheusError


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """What two exporters and Prometheus have seen; all of it is over, and can be asked for."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(told(tmp_path_factory.mktemp("story")))
        except (LabError, PrometheusError) as error:
            pytest.fail(str(error), pytrace=False)
        yield found

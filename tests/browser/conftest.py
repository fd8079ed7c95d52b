"""One browser for all tests, and the sites that most of them look at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bench.tools import MissingToolError
from tests.browser.chromium import Browser, chromium
from tests.browser.site import BLOCKED, KINDS, WAITING, filled, served
from tests.unit.crowd import member

CROWD = 500


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium; the tests fail with one line where it is not installed."""
    try:
        with chromium(tmp_path_factory.mktemp("chromium")) as started:
            yield started
    except MissingToolError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def nobody() -> Iterator[str]:
    """A site without targets."""
    with served(filled(())) as address:
        yield address


@pytest.fixture(scope="session")
def few() -> Iterator[str]:
    """A site with a target of each kind, one that was reached before and one that waits."""
    with served(filled((*KINDS, *BLOCKED), [WAITING])) as address:
        yield address


@pytest.fixture(scope="session")
def crowd() -> Iterator[str]:
    """A site with as many targets as a page is to hold."""
    with served(filled(map(member, range(CROWD)))) as address:
        yield address

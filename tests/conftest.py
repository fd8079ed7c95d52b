"""What holds for all tests.

Golden files: what is published, as it was last approved, and the option that rewrites them. And
Hypothesis judges no example by its time: several tests run at once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

#: Where the tests are that look at the story.
STORY = "tests/dashboards"
FOLDER = Path(__file__).parent / "unit" / "golden"

#: (file name, text): fails unless the file holds exactly this text.
Golden = Callable[[str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --update-golden."""
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite tests/unit/golden with what the code gives now; read the diff",
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare a text with its golden file; with --update-golden write the file first."""

    def compare(name: str, text: str) -> None:
        path = FOLDER / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text.encode())
        assert path.exists(), f"no golden file {name}: run pytest with --update-golden"
        assert text == path.read_bytes().decode()

    return compare


class OneStory(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """One worker for each file, and one for the files that look at the same story, which is long.

    The story is told by tests/dashboards/conftest.py.
    """

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        return STORY if scope in {f"{STORY}/test_live.py", f"{STORY}/test_panels.py"} else scope


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """Have `OneStory` stand for --dist loadfile."""
    return OneStory(config, log) if config.getoption("dist") == "loadfile" else None

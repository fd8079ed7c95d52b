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

#: Folders whose tests all look at something that takes long: a story, an image.
TOGETHER = ("tests/dashboards/", "tests/image/")
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


class Together(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """One worker for each file, and one for all files of a folder in TOGETHER."""

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        return next((folder for folder in TOGETHER if scope.startswith(folder)), scope)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """Have `Together` stand for --dist loadfile."""
    return Together(config, log) if config.getoption("dist") == "loadfile" else None

"""What holds for all tests.

Golden files: what is published, as it was last approved, and the option that rewrites them. And
Hypothesis judges no example by its time: several tests run at once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

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

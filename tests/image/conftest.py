"""The image, built once, and its files; one line instead of a traceback where it cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image import build
from tests.image.build import Image, ImageError


@pytest.fixture(scope="session")
def image() -> Image:
    """The image of the working tree."""
    try:
        return build.build()
    except ImageError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def root(image: Image) -> Iterator[Path]:
    """The image's files, unpacked."""
    with image.root() as root:
        yield root

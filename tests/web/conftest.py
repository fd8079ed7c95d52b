"""The site that most tests ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.web.serving import Content, serving


@pytest.fixture
def content() -> Content:
    """What the site holds."""
    return Content(pages={"db": "<p>db</p>"}, values={"db": {"target": "db"}})


@pytest.fixture
def port(content: Content) -> Iterator[int]:
    """Where the site is served, without credentials."""
    with serving(content.site) as port:
        yield port

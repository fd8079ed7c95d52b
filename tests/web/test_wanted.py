"""The filter and the reload in the address, through the web server's own decoding."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace

import pytest

from exporter.publish.pages import Pages
from tests.unit import samples
from tests.web.serving import Content, ask, serving

PATHS = ("/", "/targets/web")


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """The port of a site with the pages of two targets."""
    pages = Pages(samples.store(samples.opened(), samples.filtered()), "1.2.3")
    at = samples.STARTED_AT
    made = replace(
        Content().site,
        index=lambda wanted, number: pages.index(wanted, number, at),
        pages=pages.count,
        target=lambda name, wanted: pages.target(name, wanted, at),
    )
    with serving(made) as port:
        yield port


@pytest.mark.parametrize("path", PATHS)
def test_a_page_is_reloaded_only_if_it_is_asked_to(site: int, path: str) -> None:
    """By a header, and as often as the reader chose."""
    assert "Refresh" not in ask(site, path).headers
    assert ask(site, f"{path}?reload=30").headers["Refresh"] == "30"


@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_question_is_refused_in_a_line(site: int, path: str) -> None:
    """Plain text that says what is right, and nothing of what was asked."""
    for query in ("state=%3Cb%3E", f"text={'y' * 500}", "reload=1"):
        answer = ask(site, f"{path}?{query}")
        assert answer.status == 400
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert len(answer.text.splitlines()) == 1
        assert "takes" in answer.text or "take at most" in answer.text


def test_the_index_shows_what_the_form_asks_for(site: int) -> None:
    """With the fields as a browser sends them."""
    asked = ask(site, "/?state=filtered&zone=&text=10.9.3.2").text
    assert 'href="/targets/db"' in asked
    assert 'href="/targets/web"' not in asked
    assert "No target is like that." in ask(site, "/?text=%00%FF%3Cscript%3E").text


def test_pages_are_compressed_for_who_accepts_it(site: int) -> None:
    """As metrics are."""
    for path in PATHS:
        packed = ask(site, path, headers={"Accept-Encoding": "gzip, deflate, br"})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.body).decode() == ask(site, path).text

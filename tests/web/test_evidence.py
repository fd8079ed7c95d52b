"""Evidence over HTTP: what is asked for, under which name it comes, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exporter.publish.web import Credentials
from tests.web.serving import Content, ask, serving

ADDRESS = "/api/v1/evidence/"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server with one target, whose name is odd."""
    with serving(Content(pages={"a/b": "page"}).site) as number:
        yield number


@pytest.mark.parametrize(
    ("query", "of", "kind"),
    [
        ("", b"latest", "zip"),
        ("?of=first-bad", b"first-bad", "zip"),
        ("?of=last-good&format=html", b"last-good", "html"),
        ("?format=html", b"latest", "html"),
    ],
)
def test_what_is_asked_for_comes_as_a_file(port: int, query: str, of: bytes, kind: str) -> None:
    """Browsers keep it as a file of its own name; without a query it is the latest as a zip."""
    answer = ask(port, f"{ADDRESS}a%2Fb{query}")
    assert answer.status == 200
    assert answer.body == of
    assert answer.headers["Content-Disposition"] == f'attachment; filename="evidence.{kind}"'
    types = {"zip": "application/zip", "html": "text/html; charset=utf-8"}
    assert answer.headers["Content-Type"] == types[kind]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("query", ["?of=", "?of=worst", "?format=pdf", "?of=latest&format=%00"])
def test_an_odd_query_is_told_what_is_right(port: int, query: str) -> None:
    """The answer names the values that there are, and nothing of the request."""
    answer = ask(port, f"{ADDRESS}a%2Fb{query}")
    if query == "?of=":  # no value is as good as none
        assert answer.status == 200
        return
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert "latest, first-bad or last-good" in answer.text
    assert "zip or html" in answer.text
    assert "worst" not in answer.text


@pytest.mark.parametrize("name", ["c", "a", "a%2Fb%2F", "%3Cscript%3E"])
def test_what_there_is_not_is_not_found(port: int, name: str) -> None:
    """A target that is unknown has none; its name is not echoed."""
    answer = ask(port, f"{ADDRESS}{name}")
    assert answer.status == 404
    assert "script" not in answer.text


def test_it_needs_credentials_and_get() -> None:
    """It is as protected as the pages, and cannot be posted to."""
    with serving(Content(pages={"db": ""}).site, Credentials("u", "p")) as number:
        assert ask(number, f"{ADDRESS}db").status == 401
    with serving(Content(pages={"db": ""}).site) as number:
        assert ask(number, f"{ADDRESS}db", "POST").status == 405

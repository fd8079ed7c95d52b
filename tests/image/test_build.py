"""How the build finds its way on the machine that it runs on."""

from __future__ import annotations

import os

import pytest

from tests.image import build
from tests.image.build import ImageError


def test_a_missing_tool_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks a tool is told which, and the Debian package that has it."""
    monkeypatch.setitem(build.TOOLS, "no-such-tool", "no-such-package")
    with pytest.raises(ImageError, match=r"^the image needs no-such-tool .*no-such-package.*$"):
        build.build()


def test_a_missing_privilege_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not root is told that root is needed."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ImageError, match=r"^.*needs root$"):
        build.build()


INDEX_TARGETS = """\
Debian|main|bookworm|http://mirror.example/debian
Debian|contrib|bookworm|http://mirror.example/other
Debian|main|bookworm-backports|http://mirror.example/backports
Debian|main|bookworm-security|http://mirror.example/security
Some Vendor|main|bookworm|http://vendor.example/debian
"""


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (
            INDEX_TARGETS,
            {"": "http://mirror.example/debian", "-security": "http://mirror.example/security"},
        ),
        ("|main|bookworm|http://mirror.example/debian\n", build.REPOSITORIES),
        ("", build.REPOSITORIES),
    ],
    ids=["a-mirror", "never-updated", "nothing"],
)
def test_debian_comes_from_where_this_machine_gets_it(
    monkeypatch: pytest.MonkeyPatch, said: str, found: dict[str, str]
) -> None:
    """The mirror of the host's own release is asked for trixie; without one it is Debian's."""
    monkeypatch.setattr(build, "_run", lambda *_: said)
    assert build.apt_repositories() == found

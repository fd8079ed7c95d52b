"""What the judges say of the pages: axe of their accessibility, html-validate of their HTML."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from exporter.model import EngineStatus, ReloadStatus, Share
from tests.browser.chromium import LOOKS, NARROW_DARK, Browser
from tests.browser.site import KINDS, filled, served
from tests.unit import samples

NODE = Path(__file__).parents[1] / "node"
VALIDATE = NODE / "node_modules/html-validate/bin/html-validate.mjs"
RULES = NODE / ".htmlvalidate.cjs"
#: Site (a fixture) -> its pages by name.
PAGES = {
    "nobody": {"empty": "/"},
    "few": {
        "index": "/",
        "filtered": "/?state=filtered&zone=external&text=db",
        "reloading": "/?reload=3600",
        "blocked": "/targets/db",
        "addresses": "/targets/pair",
        "controls": "/targets/balanced",
        "rejected": "/targets/cache",
        "unmeasured": "/targets/stuck",
        "open": "/targets/varied",
        "waiting": "/targets/waiting",
    },
    "troubled": {"all problems": "/", "asked again": "/targets/cache"},
    "crowd": {"five hundred": "/"},
}
EVIDENCE = "/api/v1/evidence/db?format=html"
#: Of many targets one will do: they are made of the same rows as a few.
FEWER_LOOKS = {"five hundred": (NARROW_DARK,)}


@pytest.fixture(scope="module")
def troubled() -> Iterator[str]:
    """A site with everything to say that a page can: no engine, a bad configuration, a share."""
    service = filled(KINDS)
    store = service._store
    store.engine = EngineStatus("none", "no raw socket is permitted, and no error queue delivers")
    store.reload = ReloadStatus(successful=False, at=samples.STARTED_AT, message="no such file")
    store.share = Share(1, 3)
    store.configured = 2 * len(store)
    record = store.get("cache")
    assert record
    record.asked_at = time.time()
    with served(service) as address:
        yield address


@pytest.fixture(scope="module")
def pages(nobody: str, few: str, troubled: str, crowd: str) -> dict[str, str]:
    """Each page's address by its name."""
    sites = {"nobody": nobody, "few": few, "troubled": troubled, "crowd": crowd}
    return {name: sites[site] + path for site, held in PAGES.items() for name, path in held.items()}


@pytest.mark.parametrize("name", [name for held in PAGES.values() for name in held])
def test_a_page_is_accessible_however_it_is_looked_at(
    browser: Browser, pages: dict[str, str], name: str
) -> None:
    """WCAG 2.2 AA and axe's own advice hold in light and dark, on a desk and at 320 px."""
    browser.open(pages[name])
    for look in FEWER_LOOKS.get(name, LOOKS):
        browser.look(look)
        assert (look, browser.violations()) == (look, {})
        assert (look, browser.width() <= look.width) == (look, True)
    assert browser.complaints() == []
    assert browser.requests() == [pages[name]]


def test_every_page_is_valid_html(pages: dict[str, str], few: str, tmp_path: Path) -> None:
    """The validator has nothing to say of the pages and of evidence, in one run over all."""
    for name, address in {**pages, "evidence": few + EVIDENCE}.items():
        with urlopen(address) as answer:  # noqa: S310 - a site of ours
            (tmp_path / f"{name}.html").write_bytes(answer.read())
    node = shutil.which("node") or pytest.fail("node is missing", pytrace=False)
    if not VALIDATE.exists():
        pytest.fail("html-validate is missing: `make install` gets it from npm", pytrace=False)
    judged = subprocess.run(
        [node, str(VALIDATE), "--config", str(RULES), "--formatter", "text", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (judged.returncode, judged.stdout, judged.stderr) == (0, "", "")

"""A block, seen in Chromium on the page of the real program: before, asked again, and after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.browser.block import DROPPED, Scene, scene
from tests.browser.chromium import Browser
from tests.lab.lab import LabError

HEADING = "h1"
#: How pcap files begin whose times are in nanoseconds, as this machine writes them.
PCAP_MAGIC = bytes.fromhex("4d3cb2a1")


@pytest.fixture
def stage() -> Iterator[Scene]:
    """The exporter in its lab; one line where no lab can be built."""
    try:
        with scene([DROPPED]) as running:
            yield running
    except LabError as error:
        pytest.fail(str(error), pytrace=False)


def packets_of(evidence: Path) -> bytes:
    """The beginning of the packets in it."""
    with ZipFile(evidence) as archive:
        return archive.read("probes.pcap")[:4]


def test_a_person_asks_again_and_sees_the_block(browser: Browser, stage: Scene) -> None:
    """The button leads back to the page, which tells that it is under way, and then of the block.

    Then the path that was good stands beside it, and evidence of both can be taken away.
    """
    page = f"{stage.exporter.address}/targets/database"
    browser.open(page)
    assert "open" in browser.find(HEADING).text
    stage.close()
    with browser.leaving():
        browser.find("#again button").click()
    assert browser.driver.current_url == page
    assert "Asked for" in browser.find("main").text

    def blocked() -> bool:
        browser.driver.refresh()
        return "filtered" in browser.find(HEADING).text

    assert browser.wait(blocked)
    assert "Asked for" not in browser.find("main").text
    assert any("Last good:" in hop for hop in browser.texts("ol.path > li"))
    assert browser.violations() == {}
    for of in ("latest", "last-good"):
        file = browser.download(f"/api/v1/evidence/database?of={of}&format=zip")
        assert packets_of(file) == PCAP_MAGIC
    assert browser.complaints() == []
    assert all(one.startswith(stage.exporter.address) for one in browser.requests())

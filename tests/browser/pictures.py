"""The pictures in docs/screenshots: the real program in a lab, before Chromium.

    python -m tests.browser

Two of four targets are blocked by a firewall that has closed a moment ago, so that the path
that was good stands beside the one that is not.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.tools import MissingToolError
from tests.browser.block import DROPPED, REJECTED, scene
from tests.browser.chromium import Browser, Look, chromium
from tests.lab.demo import NAMES
from tests.lab.exporting import Exporter
from tests.lab.lab import LabError

FOLDER = Path(__file__).parents[2] / "docs/screenshots"
#: Kept small: they stay in the repository's history for ever.
MAX_BYTES = 150_000
#: A phone's is longer than its screen, as one who scrolls sees it: the path is below the sentence.
INDEX, INDEX_DARK, INDEX_PHONE = Look(1280, 720), Look(1280, 720, "dark"), Look(390, 844)
TARGET, TARGET_PHONE = Look(1280, 960), Look(390, 1300)


@dataclass(frozen=True, slots=True)
class Picture:
    """What is shown on it."""

    path: str
    look: Look


PICTURES = {
    "index-light": Picture("/", INDEX),
    "index-dark": Picture("/", INDEX_DARK),
    "index-phone": Picture("/", INDEX_PHONE),
    "target-blocked": Picture("/targets/database", TARGET),
    "target-blocked-phone": Picture("/targets/database", TARGET_PHONE),
}


def main() -> None:
    """Write all pictures, or end with one line that says why not."""
    FOLDER.mkdir(exist_ok=True)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            chromium(Path(folder)) as browser,
            scene() as stage,
        ):
            stage.close()
            look_again(stage.exporter)
            for name, picture in taken(browser, stage.exporter.address):
                (FOLDER / f"{name}.png").write_bytes(picture)
    except (LabError, MissingToolError, ValueError) as error:
        sys.exit(f"No pictures: {error}")


def look_again(exporter: Exporter) -> None:
    """Have each target that the firewall blocks traced once more, one after the other.

    Together they would ask for more ICMP errors than the firewall has.
    """
    for port in (REJECTED, DROPPED):
        exporter.fetch(f"/-/trace/{NAMES[port]}", method="POST")
        exporter.wait_for_traces(NAMES[port])


def taken(browser: Browser, address: str) -> Iterator[tuple[str, bytes]]:
    """Each picture by its name; ValueError for one that is too large to be kept."""
    for name, wanted in PICTURES.items():
        browser.open(address + wanted.path, wanted.look)
        picture = browser.picture()
        if len(picture) > MAX_BYTES:
            raise ValueError(f"{name} has {len(picture):,} bytes, at most {MAX_BYTES:,} are kept")
        yield name, picture

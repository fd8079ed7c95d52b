"""A headless Chromium, driven as a person would: what is seen, pressed and downloaded.

The driver and the browser are those of the system; nothing is looked for in the network.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.bench.tools import MissingToolError

Value = TypeVar("Value")

#: Tool -> Debian package.
TOOLS = {"chromium": "chromium", "chromedriver": "chromium-driver"}
AXE = Path(__file__).parents[1] / "node/node_modules/axe-core/axe.min.js"
#: What is to hold: WCAG 2.2 up to AA, and what axe's authors recommend beyond it.
AXE_TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
RUN_AXE = """
const [tags, done] = arguments;
const told = (node) => `${node.target}: ${node.failureSummary}`;
axe.run(document, {runOnly: tags, resultTypes: ['violations']})
    .then((found) => done(found.violations.map((one) => [one.id, one.nodes.map(told)])))
    .catch((error) => done([['axe failed', [String(error)]]]));
"""
ARRIVED = "return !window.isTheOldOne && document.readyState === 'complete'"
#: Seconds; more than anything here takes on a busy machine.
PATIENCE = 60.0
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-lcd-text",
)
#: How a file ends that is still being downloaded.
PARTIAL = {".crdownload", ".tmp"}


@dataclass(frozen=True, slots=True)
class Look:
    """What a page is looked at with: a viewport in CSS pixels, and the scheme of colours."""

    width: int = 1280
    height: int = 800
    scheme: str = "light"

    def __str__(self) -> str:
        return f"{self.scheme}, {self.width} px"


DESKTOP, DARK = Look(), Look(scheme="dark")
NARROW, NARROW_DARK = Look(320, 640), Look(320, 640, "dark")
LOOKS = (DESKTOP, DARK, NARROW, NARROW_DARK)


class Browser:
    """A running Chromium; its downloads lie in `downloads`."""

    def __init__(self, driver: Chrome, downloads: Path) -> None:
        self.driver = driver
        self.downloads = downloads

    def open(self, address: str, look: Look = DESKTOP) -> None:
        """Show a page; what was complained of and asked for before it is forgotten."""
        self.look(look)
        self.complaints()
        self.requests()
        self.driver.get(address)

    def look(self, look: Look) -> None:
        """Take another viewport and another scheme; they stay until the next ones."""
        metrics = {"width": look.width, "height": look.height}
        self._command(
            "Emulation.setDeviceMetricsOverride",
            **metrics,
            deviceScaleFactor=1,
            mobile=look.width < DESKTOP.width,
        )
        scheme = {"name": "prefers-color-scheme", "value": look.scheme}
        self._command("Emulation.setEmulatedMedia", features=[scheme])

    @contextmanager
    def scripts_off(self) -> Iterator[None]:
        """As a browser with JavaScript switched off; the driver's own scripts go on running."""
        self._command("Emulation.setScriptExecutionDisabled", value=True)
        try:
            yield
        finally:
            self._command("Emulation.setScriptExecutionDisabled", value=False)

    # -- what is seen

    def run(self, script: str, *arguments: object) -> Any:
        """What a function body in JavaScript returns."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> WebElement:
        """The first element of a CSS selector; fails where there is none."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """Each element of a CSS selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """What is to be read in each of them."""
        return [one.text for one in self.all(selector)]

    def width(self) -> int:
        """Of the whole page: when it is more than the viewport's, one has to scroll sideways."""
        wide: int = self.run("return document.documentElement.scrollWidth")
        return wide

    def violations(self) -> dict[str, list[str]]:
        """Axe's rules that the page offends against, with each place."""
        if not self.run("return 'axe' in window"):
            self.run(AXE.read_text(encoding="utf-8"))
        return dict(self.driver.execute_async_script(RUN_AXE, AXE_TAGS))

    def picture(self) -> bytes:
        """The viewport as PNG."""
        return self.driver.get_screenshot_as_png()

    # -- what is done

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    @contextmanager
    def leaving(self) -> Iterator[None]:
        """What is done within leads to another page; wait until that is there."""
        self.run("window.isTheOldOne = true")
        yield
        self.wait(lambda: self.run(ARRIVED))

    def wait(self, for_what: Callable[[], Value | None]) -> Value:
        """Ask until the answer is true, and give it; the test fails after PATIENCE."""
        return WebDriverWait(self.driver, PATIENCE).until(lambda _: for_what() or False)

    def download(self, address: str) -> Path:
        """Follow a link whose answer is a file, and wait for the whole of it."""
        before = set(self.downloads.iterdir())
        self.find(f'a[href="{address}"]').click()
        return self.wait(lambda: next(iter(self._whole() - before), None))

    def _whole(self) -> set[Path]:
        return {path for path in self.downloads.iterdir() if path.suffix not in PARTIAL}

    # -- what the browser noticed

    def complaints(self) -> list[str]:
        """What the console shows since it was last asked: errors, refused content."""
        return [entry["message"] for entry in self._log("browser")]

    def requests(self) -> list[str]:
        """The address of each request since it was last asked, the page's own included."""
        events = (json.loads(one["message"])["message"] for one in self._log("performance"))
        sent = (one["params"] for one in events if one["method"] == "Network.requestWillBeSent")
        return [one["request"]["url"] for one in sent]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        """What has come since it was last asked for."""
        entries: list[dict[str, Any]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return entries

    def _command(self, name: str, **parameters: object) -> None:
        self.driver.execute_cdp_cmd(name, parameters)


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Start one that keeps all it writes in an empty folder, and end it; `MissingToolError`."""
    paths = {tool: shutil.which(tool) for tool in TOOLS}
    missing = [package for tool, package in TOOLS.items() if paths[tool] is None]
    if missing:
        raise MissingToolError(f"missing Debian packages: {' '.join(missing)}")
    if not AXE.exists():
        raise MissingToolError("axe-core is missing: `make install` gets it from npm")
    downloads = folder / "downloads"
    downloads.mkdir()
    driver = Chrome(_options(str(paths["chromium"]), folder), Service(paths["chromedriver"]))
    try:
        driver.set_page_load_timeout(PATIENCE)
        driver.set_script_timeout(PATIENCE)
        where = {"behavior": "allow", "downloadPath": str(downloads)}
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)
        yield Browser(driver, downloads)
    finally:
        driver.quit()


def _options(binary: str, folder: Path) -> ChromeOptions:
    options = ChromeOptions()
    options.binary_location = binary
    for argument in (*ARGUMENTS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return options

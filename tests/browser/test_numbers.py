"""What the page of many targets weighs; the bench says how long it takes, here it only ends."""

from __future__ import annotations

from tests.bench import page
from tests.browser.chromium import Browser

#: In seconds: much more than promised, for the machine does other things meanwhile.
AT_MOST = 10.0


def test_a_page_of_five_hundred_targets_is_light_and_soon_there(browser: Browser) -> None:
    """Compressed it has at most 150 KB, and neither the server nor Chromium is stuck with it."""
    figures = page.of_page(browser, page.TARGETS, runs=1)
    assert figures.compressed <= page.PAGE_BOUND * 1000
    assert max(*figures.answers, *figures.answers_again, *figures.paints) < AT_MOST

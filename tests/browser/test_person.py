"""What a person does with the pages, in Chromium: look, filter, walk by keyboard, take away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote
from zipfile import ZipFile

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from tests.browser.chromium import DARK, DESKTOP, LOOKS, NARROW, Browser
from tests.browser.site import filled, served
from tests.unit import samples

ROWS = "main table tbody tr"
#: What would act if it were taken for more than text, each in its own way.
ATTACKS = (
    samples.HOSTILE.replace("\udcff", ""),  # which stands for a byte that no address can hold
    "<script>alert('element')</script>",
    "\"><img src=x onerror=alert('attribute')>",
    "' autofocus onfocus=alert('event') x='",
    "javascript:alert('address')",
    "</title></style></pre><svg onload=alert('end')>",
    "{{ 7 * 7 }}{% raw alert %}",
)
#: The elements that the pages never have, and attributes that would run something.
ACTIVE = (
    "script, img, iframe, object, embed, link, base, [onerror], [onload], [onfocus], [autofocus]"
)
#: A colour of the page as [red, green, blue], each of 255.
BACKGROUND = "return getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).map(Number)"
FOCUSED = """
const one = document.activeElement, style = getComputedStyle(one);
return [one.getAttribute('href') || one.id, one.matches(':focus-visible'),
        style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0];
"""


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    """A site whose every text is an attack."""
    with served(filled(map(samples.hostile, ATTACKS))) as address:
        yield address


def names(browser: Browser) -> list[str]:
    """The targets that the index shows."""
    return browser.texts(f"{ROWS} th")


def luminance(colour: list[float]) -> float:
    """The relative luminance of WCAG 2.2: 0 is black, 1 is white."""
    shares = (part / 255 for part in colour[:3])
    linear = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in shares)
    return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def follow(browser: Browser, text: str) -> None:
    """Click on the link that is called so."""
    with browser.leaving():
        browser.driver.find_element(By.LINK_TEXT, text).click()


# -- looking


def test_what_fails_comes_first(browser: Browser, few: str) -> None:
    """The blocked stand above what could not be measured, and the open ones last."""
    browser.open(few)
    states = browser.texts(f"{ROWS} .state")
    assert set(states[:4]) == {"filtered", "rejected"}
    assert states[4:] == ["error", "waiting", "open"]


def test_dark_is_dark_and_light_is_light(browser: Browser, few: str) -> None:
    """The page follows the scheme that the person has chosen, without being loaded again."""
    browser.open(few, DARK)
    assert luminance(browser.run(BACKGROUND)) < 0.05
    browser.look(DESKTOP)
    assert luminance(browser.run(BACKGROUND)) > 0.8


def test_the_path_is_a_list_that_says_in_words_where_it_stops(browser: Browser, few: str) -> None:
    """Whoever sees no colours reads the hops in their order, and the end of the path as text."""
    browser.open(f"{few}/targets/db", NARROW)
    hops = browser.texts("ol.path > li")
    assert [samples.address(hop) in text for hop, text in enumerate(hops[:6], 1)] == [True] * 6
    assert any("stops" in text for text in hops)


# -- searching


def choose(browser: Browser, state: str = "", zone: str = "", text: str = "") -> None:
    """Fill in the filter and send it by the Enter key."""
    if state:
        Select(browser.find("#filter [name=state]")).select_by_value(state)
    if zone:
        Select(browser.find("#filter [name=zone]")).select_by_value(zone)
    field = browser.find("#filter [name=text]")
    field.clear()
    field.send_keys(text)
    with browser.leaving():
        field.send_keys(Keys.ENTER)


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        ({"state": "rejected"}, {"cache"}),
        ({"zone": "external"}, {"pair", "balanced", "cache", "db"}),
        ({"text": "ADDRESS NOBODY HAS"}, set()),
        ({"text": "CACHE"}, {"cache"}),
        ({"state": "filtered", "text": "db"}, {"pair", "db"}),
    ],
    ids=["state", "zone", "nothing", "text", "both"],
)
def test_a_filter_leaves_what_was_asked_for(
    browser: Browser, few: str, wanted: dict[str, str], left: set[str]
) -> None:
    """By state, by zone, by text, by several at once; what was asked for stays in the form."""
    browser.open(few)
    choose(browser, **wanted)
    assert set(names(browser)) == left
    for name, value in wanted.items():
        assert browser.find(f"#filter [name={name}]").get_property("value") == value


def test_a_filter_is_cleared_by_one_link(browser: Browser, few: str) -> None:
    """From a search that found nothing there is a way back to all targets."""
    browser.open(f"{few}/?text=nothing")
    assert names(browser) == []
    follow(browser, "show all")
    assert len(names(browser)) == 7


def test_five_hundred_targets_are_searched_like_five(browser: Browser, crowd: str) -> None:
    """All stand on one page, and a name finds the one."""
    browser.open(crowd)
    assert len(browser.all(ROWS)) == 500
    choose(browser, text="target-0123")
    assert names(browser) == ["target-0123"]


# -- by keyboard, and without scripts


def test_a_target_is_opened_by_keyboard_alone(browser: Browser, few: str) -> None:
    """Tab leads to each link, shows where it is, and Enter follows it."""
    browser.open(few)
    for _ in range(30):
        browser.press(Keys.TAB)
        where, visible, outlined = browser.run(FOCUSED)
        assert (where, visible, outlined) == (where, True, True)
        if where == "/targets/cache":
            break
    with browser.leaving():
        browser.press(Keys.ENTER)
    assert browser.driver.current_url == f"{few}/targets/cache"
    assert "cache" in browser.find("h1").text


def test_the_first_tab_leads_past_the_head(browser: Browser, few: str) -> None:
    """The first stop is a link to the content, seen once it has the focus."""
    browser.open(few)
    browser.press(Keys.TAB)
    skip = browser.driver.switch_to.active_element
    assert skip.is_displayed()
    assert browser.find(str(skip.get_dom_attribute("href"))).tag_name == "main"


def test_nothing_needs_scripts(browser: Browser, few: str) -> None:
    """With JavaScript switched off the filter filters, and a link leads on."""
    with browser.scripts_off():
        browser.open(few)
        choose(browser, text="cache")
        follow(browser, "cache")
        assert browser.driver.current_url == f"{few}/targets/cache"
        assert "rejected" in browser.find("h1").text


# -- taking away


def evidence(name: str, of: str, form: str) -> str:
    """The link to it."""
    return f"/api/v1/evidence/{name}?of={of}&format={form}"


@pytest.mark.parametrize("of", ["latest", "first-bad", "last-good"])
def test_evidence_is_downloaded_as_an_archive(browser: Browser, few: str, of: str) -> None:
    """A click leaves a zip file with the report in it, whole."""
    browser.open(f"{few}/targets/db")
    with ZipFile(browser.download(evidence("db", of, "zip"))) as archive:
        assert archive.testzip() is None
        assert {"report.txt", "report.html", "SHA256SUMS"} <= set(archive.namelist())


def test_evidence_in_one_file_is_a_page_of_its_own(browser: Browser, few: str) -> None:
    """What was downloaded opens without the exporter, loads nothing, and is accessible, too."""
    browser.open(f"{few}/targets/db")
    file = browser.download(evidence("db", "latest", "html")).as_uri()
    browser.open(file)
    for look in LOOKS:
        browser.look(look)
        assert (look, browser.violations()) == (look, {})
        assert (look, browser.width() <= look.width) == (look, True)
    assert browser.requests() == [file]
    assert samples.address(6) in browser.find("body").text


# -- attacks


@pytest.mark.parametrize("attack", [None, *ATTACKS], ids=lambda attack: ascii(attack)[:20])
def test_no_text_from_outside_becomes_more_than_text(
    browser: Browser, hostile: str, attack: str | None
) -> None:
    """Names, addresses and answers that are attacks run nothing, load nothing, break nothing."""
    path = "/" if attack is None else f"/targets/{quote(attack, safe='', errors='surrogatepass')}"
    browser.open(hostile + path, NARROW)
    assert browser.all(ACTIVE) == []
    assert browser.complaints() == []
    assert len(browser.requests()) == 1
    assert browser.width() <= NARROW.width
    assert re.fullmatch(r"[^\x00-\x08\x0b-\x1f\u202a-\u202e]*", browser.find("body").text)

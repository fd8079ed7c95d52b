"""A target's own page: what a person sees of one target, and the links that lead there."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import ReplyKind
from exporter.publish.links import page_link
from exporter.publish.moments import NO_BREAK
from exporter.publish.pages import Pages
from exporter.publish.web import _find
from tests.conftest import Golden
from tests.unit import samples
from tests.unit.paging import ALL, NOW, Document, history, index, page, parts

NAMES = (
    "db",
    "a/b",
    "quo\"te's",
    "<script>alert(1)</script>",
    "per%20cent",
    "question?mark#hash",
    "blank and +plus",
    "Ümläut ☃",
    "new\nline",
    "javascript:alert(1)",
    "//elsewhere.example",
    "x" * 300,
)


def test_the_target_page_is_the_approved_one(golden: Golden) -> None:
    """A target that was open and is filtered now, as in the golden file."""
    store = history(samples.opened(), samples.filtered(), samples.filtered())
    golden("target.html", page(store, "web", NOW + 120).text)


def test_an_unknown_target_has_no_page() -> None:
    """Only what is configured is shown."""
    assert Pages(samples.store(), "1.2.3").target("nobody", ALL, NOW) is None


def test_latest_last_good_and_first_bad_are_kept_apart() -> None:
    """Three traces with their times: now, when it last worked, and when the block began."""
    store = history(samples.opened(), samples.rejected(), samples.filtered())
    shown = parts(page(store, "web", samples.STARTED_AT + 200))
    kept = ["Latest trace", "Last good trace", "First bad trace"]
    assert list(shown) == [*kept, "Evidence to pass on", "History"]
    heads = [shown[title][0].replace(NO_BREAK, " ") for title in kept]
    assert heads == ["filtered, 75 s ago", "open, 3 min ago", "rejected, 2 min ago"]
    lines = ["\n".join(shown[title]) for title in kept]
    moments = [re.findall(r"2026-01-01T00:0\d", text) for text in lines]
    assert moments == [["2026-01-01T00:02"], ["2026-01-01T00:00"], ["2026-01-01T00:01"]]


def test_each_address_has_a_section() -> None:
    """With all addresses there is a trace for each, the one that fails first."""
    shown = parts(page(samples.store(samples.several()), "pair"))
    titles = [f"Latest trace to {one}" for one in ("10.9.11.2", "2001:db8::1", "10.9.11.3")]
    assert list(shown)[:5] == [*titles, "Last good trace", "First bad trace"]
    states = [shown[title][0].partition(",")[0] for title in titles]
    assert states == ["filtered", "error", "open"]
    assert "db.example:443 (10.9.11.3) from 10.9.0.1" in "\n".join(shown[titles[2]])


def test_a_trace_is_not_shown_twice() -> None:
    """The latest trace stands for the last good one if it is the same; a block is none."""
    shown = parts(page(history(samples.opened()), "web"))
    assert shown["Last good trace"] == ["The latest one."]
    assert shown["First bad trace"] == ["None."]


def facts(document: Document) -> dict[str, str]:
    """What stands below the sentence."""
    return dict(zip(document.texts["dt"], document.texts["dd"], strict=True))


def test_the_page_begins_with_the_sentence() -> None:
    """Then the facts: the state and since when, where, and how sure that is."""
    store = history(samples.opened(), samples.filtered(), samples.filtered())
    document = page(store, "web", NOW + 120)
    assert document.texts["p"][0] == samples.filtered().verdict.reason
    assert facts(document) == {
        "State": "filtered since 2026-01-01 00:01:00 UTC",
        "Blocked at": "hop 7, suspects are hops 6 to 7",
        "Location": "outside the platform",
        "Last reachable hop": "6",
        "Confidence": "medium",
        "Endpoint": "10.9.11.2:443",
        "Latest trace": f"85{NO_BREAK}s ago, one every 60 s",
    }


def test_what_is_not_blocked_has_no_such_facts() -> None:
    """A name has its address beside it, a device its address, a waiting target its endpoint."""
    assert "Blocked at" not in facts(page(samples.store(samples.opened()), "web"))
    by = facts(page(samples.store(samples.rejected()), "cache"))["Blocked at"]
    assert by == "hop 6 by 10.9.5.2"
    endpoint = facts(page(samples.store(samples.several()), "pair"))["Endpoint"]
    assert endpoint == "db.example:443 (10.9.11.2)"
    waiting = page(samples.store(waiting=[samples.target("next")]), "next")
    assert facts(waiting) == {"Endpoint": "10.9.11.2:443"}


def test_what_has_changed_stands_under_the_sentence() -> None:
    """The last change of state in a sentence, and the last change of path."""
    good = samples.opened()
    made = good.trace
    assert made
    moved = replace(made, hops=(*made.hops[:4], samples.end(5, ReplyKind.TIME_EXCEEDED, "::5")))
    store = history(good, replace(good, trace=moved), samples.filtered())
    lines = page(store, "web").texts["p"]
    assert lines[1].startswith("Open until 00:01:00 UTC via ")
    assert lines[2] == "Last change of path: hop 5: ::5 -> 10.9.4.2 at 00:02:00 UTC."


def test_the_page_asks_for_a_trace_by_a_form() -> None:
    """Its address is encoded as the page's; what was asked for and has not come is said."""
    store = samples.store(samples.opened("a/b"))
    document = page(store, "a/b")
    assert {"id": "again", "method": "post", "action": "/-/trace/a%2Fb"} in [
        attributes for tag, attributes in document.elements if tag == "form"
    ]
    assert "under way" not in document.text
    record = store.get("a/b")
    assert record
    record.asked_at = NOW - 3
    assert f"Asked for 3{NO_BREAK}s ago, under way." in page(store, "a/b").text


def test_the_evidence_of_each_kept_trace_can_be_downloaded() -> None:
    """As a file of either kind; what is the latest one is offered once, what there is not never."""
    store = history(samples.opened(), samples.rejected(), samples.filtered())
    assert [link for link in page(store, "web").links if "/evidence/" in link] == [
        f"/api/v1/evidence/web?of={of}&format={form}"
        for of in ("latest", "first-bad", "last-good")
        for form in ("zip", "html")
    ]
    good = page(history(samples.opened()), "web")
    assert len([link for link in good.links if "/evidence/" in link]) == 2
    waiting = page(samples.store(waiting=[samples.target("next")]), "next")
    assert not [link for link in waiting.links if "evidence" in link]


def test_the_history_lists_the_changes() -> None:
    """One line for each, the last one first, and none without a change."""
    store = history(samples.opened(), samples.filtered(), samples.rejected())
    assert parts(page(store, "web"))["History"][4:] == [
        *("2026-01-01 00:02:00 UTC", "rejected", "filtered", "at hop 6 by 10.9.5.2"),
        *("2026-01-01 00:01:00 UTC", "filtered", "open", "after hop 6 (10.9.5.2)"),
    ]
    assert "History" not in parts(page(history(samples.opened()), "web"))


# -- links -----------------------------------------------------------------------------


def link_to(name: str) -> str:
    """The link of a target's line on the index."""
    document = index(samples.store(waiting=[samples.target(name)]))
    (link,) = (link for link in document.links if link.startswith("/targets/"))
    return link


@pytest.mark.parametrize("name", NAMES)
def test_a_link_leads_to_the_target_that_it_names(name: str) -> None:
    """From the index through the web server's own decoding, each name arrives as it is."""
    link = link_to(name)
    assert re.fullmatch(r"/targets/[\w.~%-]+", link, re.ASCII)
    found = _find(link)
    assert found
    assert found[1] == name


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_name_survives_its_link(name: str) -> None:
    """Whatever UTF-8 can hold can be a name."""
    found = _find(page_link(name))
    assert found
    assert found[1] == name


def test_a_name_that_no_url_can_hold_does_not_break_the_page() -> None:
    """A lone surrogate, which the configuration refuses, still gives a page and an ASCII link."""
    assert re.fullmatch(r"/targets/[\w.~%-]+", link_to(samples.HOSTILE), re.ASCII)


def test_the_target_page_links_to_its_object() -> None:
    """The API's address is encoded as the page's is."""
    store = samples.store(samples.opened("a/b"))
    assert "/api/v1/targets/a%2Fb" in page(store, "a/b").links

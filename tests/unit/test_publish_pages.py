"""The pages: what a person sees of the store, in a browser and in a text browser."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import (
    EngineStatus,
    Observation,
    ReloadStatus,
    ReplyKind,
    Source,
    State,
    Target,
)
from exporter.publish import objects, pages
from exporter.publish.pages import NO_BREAK, Pages
from exporter.publish.web import _find
from exporter.store import Store
from tests.conftest import Golden
from tests.unit import samples
from tests.unit.crowd import crowd
from tests.unit.scraping import exposed

NOW = samples.STARTED_AT + 90
#: HTML elements that have no end tag (HTML, 13.1.2).
VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}

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


@dataclass
class Document(HTMLParser):
    """A page as a browser reads it; fails where an end tag is missing or out of place."""

    text: str
    open: list[str] = field(default_factory=list)
    #: (element, attributes) in order.
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    #: Element -> the text inside each one of its kind.
    texts: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element."""
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the element that is open."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Add the text to every element around it."""
        for tag in self.open:
            self.texts[tag][-1] += data

    @property
    def links(self) -> list[str]:
        """Where the page leads to."""
        return [str(attributes["href"]) for tag, attributes in self.elements if tag == "a"]


def index(store: Store, now: float = NOW) -> Document:
    """The index page."""
    return Document(rendered(Pages(store, "1.2.3"), now))


def rendered(made: Pages, now: float = NOW, number: int = 1) -> str:
    """A page of the index, all pieces together."""
    return "".join(made.index(number, now))


def page(store: Store, name: str, now: float = NOW) -> Document:
    """A target's own page."""
    text = Pages(store, "1.2.3").target(name, now)
    assert text is not None
    return Document(text)


def sample_store(*others: Observation, waiting: Iterable[Target] = ()) -> Store:
    """A store with each kind."""
    return samples.store(*samples.SAMPLES.values(), *others, waiting=waiting)


def history(*kinds: Observation) -> Store:
    """A store in which the same target has been seen so, a minute apart."""
    of = samples.target("web")
    return samples.store(
        *(
            replace(kind, target=of, started_at=samples.STARTED_AT + 60 * n)
            for n, kind in enumerate(kinds)
        )
    )


def parts(document: Document) -> dict[str, list[str]]:
    """The sections of a target's page: heading -> the lines below it."""
    sections = (text.split("\n") for text in document.texts["section"])
    lines = ([line for line in section if line][1:] for section in sections)
    return dict(zip(document.texts["h2"], lines, strict=True))


# -- the index -------------------------------------------------------------------------


def test_the_index_is_the_approved_one(golden: Golden) -> None:
    """All kinds, a waiting target, a failed reload: as in the golden file."""
    store = sample_store(waiting=[samples.target("next")])
    store.reload = ReloadStatus(successful=False, at=samples.STARTED_AT - 3600, message="line 3")
    golden("index.html", rendered(Pages(store, "1.2.3")))


def test_the_index_lists_what_fails_first() -> None:
    """Blocked, unknown, waiting, closed, open; within each as they are configured."""
    store = samples.store(
        samples.opened("e"),
        samples.closed("d"),
        samples.unresolved("b1"),
        samples.filtered("a1"),
        samples.refused_by_host("b2"),
        samples.rejected("a2"),
        waiting=[samples.target("c")],
    )
    lines = re.findall(r'<tr class="(\w+)">\s*<th[^>]*><a[^>]*>(\w+)</a>', index(store).text)
    assert [name for _, name in lines] == ["a1", "a2", "b1", "b2", "c", "d", "e"]
    assert [tone for tone, _ in lines] == [
        *("blocked", "blocked", "unknown", "unknown", "waiting", "closed", "open")
    ]


def test_every_state_has_its_colour_and_its_rank() -> None:
    """No verdict is without a class of the style sheet and a place in the order."""
    assert set(pages.TONES) == set(State)
    assert set(pages.TONES.values()) | {pages.WAITING} == set(pages.RANKS)
    assert all(f".{tone} {{" in pages.STYLE for tone in pages.RANKS)


def test_a_line_says_state_place_location_and_age() -> None:
    """On top one line per target, with the verdict's sentence."""
    cells = index(samples.store(samples.filtered())).texts["td"]
    sentence = samples.filtered().verdict.reason
    assert cells == ["filtered", "hop 7", "external", f"85{NO_BREAK}s", sentence]


def test_what_is_not_blocked_has_no_place() -> None:
    """Hop 0 and location none are a dash."""
    assert index(samples.store(samples.opened())).texts["td"][1:3] == ["-", "-"]


def test_a_waiting_target_is_listed_and_says_that_it_waits() -> None:
    """Before its first trace a target has a line, a page, and no trace."""
    store = samples.store(waiting=[samples.target("next")])
    document = index(store)
    assert document.texts["td"] == ["waiting", "-", "-", "-", "Waiting for its first trace."]
    assert "pre" not in document.texts
    assert parts(page(store, "next")) == {"Latest trace": ["Waiting for the first one."]}


def test_without_targets_the_index_says_so() -> None:
    """An empty list is explained, one that waits for discovery as such."""
    store = samples.store()
    assert "No target is configured, and no source names one now." in index(store).text
    store.sources = ()
    assert "No targets are configured." in index(store).text


def test_the_title_counts_what_is_blocked() -> None:
    """A browser's tab shows whether something is wrong; unknown is not called blocked."""
    (title,) = index(sample_store()).texts["title"]
    assert title == "4 of 9 targets blocked, 2 unknown - egress exporter"
    assert index(samples.store(samples.opened())).texts["h1"] == ["0 of 1 target blocked"]


def test_the_traces_keep_their_line_breaks() -> None:
    """What stands in <pre> is the text of the trace, line by line."""
    (trace,) = index(samples.store(samples.rejected())).texts["pre"]
    assert len(trace.split("\n")) == 10
    assert trace.split("\n")[1] == " 1  10.9.0.2 [platform]  1.010 ms  1.020 ms  1.030 ms"


@pytest.mark.parametrize(
    ("intervals", "seconds"),
    [((60, 30), 30), ((3600,), 60), ((1,), 5), ((7.6,), 8), ((), 60)],
)
def test_the_page_reloads_itself_as_often_as_there_is_news(
    intervals: tuple[float, ...], seconds: int
) -> None:
    """The shortest interval, from 5 to 60 seconds."""
    waiting = [samples.target(f"t{n}", interval=each) for n, each in enumerate(intervals)]
    meta = [attributes for tag, attributes in index(samples.store(waiting=waiting)).elements]
    assert {"http-equiv": "refresh", "content": str(seconds)} in meta


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-3600, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_ages_have_a_unit_that_fits(seconds: float, shown: str) -> None:
    """An age is short, counts from the trace's end, and survives a clock that was set back."""
    # A floating-point sum may fall short by a little.
    ended = samples.STARTED_AT + samples.opened().duration + 0.001
    cells = index(samples.store(samples.opened()), ended + seconds).texts["td"]
    assert cells[3] == shown.replace(" ", NO_BREAK)


def test_an_unchanged_observation_is_rendered_once() -> None:
    """With 100 targets only new observations cost something; a new one is shown at once."""
    first = samples.opened()
    store = samples.store(first, samples.filtered())
    made = Pages(store, "1.2.3")
    with patch.object(pages, "_show", wraps=pages._show) as show:
        rendered(made)
        rendered(made, NOW + 5)
        assert show.call_count == 2
        store.add(replace(first, started_at=NOW))
        assert "2026-01-01T00:01:30.000Z" in rendered(made, NOW + 10)
        assert show.call_count == 3


def test_a_removed_target_leaves_nothing_behind() -> None:
    """What was rendered for a target goes with it."""
    store = samples.store(samples.opened(), samples.filtered())
    made = Pages(store, "1.2.3")
    rendered(made)
    store.configure([samples.filtered().target])
    assert ">web<" not in rendered(made)
    assert set(made._sections) == {"db"}


# -- the pages of the index ------------------------------------------------------------


def test_a_hundred_targets_stand_on_one_page() -> None:
    """So many need no other page, and nothing says that there could be one."""
    made = Pages(crowd(100), "1.2.3")
    assert made.count == 1
    document = Document(rendered(made))
    assert document.texts["h1"] == ["50 of 100 targets blocked"]
    assert "nav" not in document.texts


def test_every_target_stands_on_one_page_with_its_trace() -> None:
    """What fails comes first over all pages; each page has its targets' traces below its table."""
    made = Pages(crowd(250), "1.2.3")
    documents = [Document(rendered(made, number=number)) for number in range(1, made.count + 1)]
    listed = [text for document in documents for text in document.texts["h2"]]
    assert [len(document.texts["pre"]) for document in documents] == [100, 100, 50]
    tones = [pages.TONES[State(text.split()[1])] for text in listed]
    assert tones == sorted(tones, key=lambda tone: pages.RANKS[tone])
    assert len({text.split()[0] for text in listed}) == 250


def test_a_page_leads_to_the_others() -> None:
    """The title counts all targets and tells the page; the one that is shown is no link."""
    document = Document(rendered(Pages(crowd(250), "1.2.3"), number=2))
    assert document.texts["h1"] == ["124 of 250 targets blocked, page 2 of 3"]
    assert document.texts["nav"][0].split() == ["Pages:", "1", "2", "3"]
    assert [link for link in document.links if "page" in link] == ["/?page=1", "/?page=3"]
    assert document.texts["strong"] == ["2"]


def test_without_targets_there_is_one_page() -> None:
    """Page 1 is always there."""
    assert Pages(samples.store(), "1.2.3").count == 1


def test_a_page_is_made_target_by_target() -> None:
    """Each piece before the last is empty, so that the loop may have its turn."""
    pieces = list(Pages(crowd(120), "1.2.3").index(2, NOW))
    assert pieces[:-1] == [""] * 20
    assert pieces[-1].count("<pre") == 20


def test_only_the_sections_shown_last_are_kept() -> None:
    """Whoever leafs through all pages does not fill the memory."""
    made = Pages(crowd(450), "1.2.3")
    for number in range(1, made.count + 1):
        rendered(made, number=number)
    assert len(made._sections) == pages.KEPT_SECTIONS
    with patch.object(pages, "_show", wraps=pages._show) as show:
        rendered(made, number=made.count)
        assert show.call_count == 0
        rendered(made, number=1)
        assert show.call_count == 100


# -- what the program says of itself ---------------------------------------------------


def test_a_failed_reload_is_shown_on_every_page() -> None:
    """The error, and since when the old configuration runs."""
    store = sample_store()
    store.reload = ReloadStatus(False, samples.STARTED_AT - 3600, "targets.yml line 3: <b>")
    for document in (index(store), page(store, "web")):
        (problem,) = (text for text in document.texts["p"] if "could not be reloaded" in text)
        assert "targets.yml line 3: <b>" in problem
        assert "2025-12-31 23:00:00 UTC" in problem


def test_a_host_that_cannot_trace_is_shown_on_every_page() -> None:
    """Engine "none" stands on top, with its reason."""
    store = sample_store()
    store.engine = EngineStatus("none", "Operation not permitted")
    for document in (index(store), page(store, "web")):
        assert "Tracing is not possible here: Operation not permitted" in document.texts["p"]


def test_a_network_that_cannot_be_traced_is_shown_on_every_page() -> None:
    """An engine runs, and what its traces have shown stands on top."""
    store = sample_store()
    store.engine = EngineStatus("syn", "configured by ENGINE", "no router <says> a word")
    for document in (index(store), page(store, "web")):
        assert "Tracing is not possible here: no router <says> a word" in document.texts["p"]


def test_all_is_well_without_a_word() -> None:
    """Neither warning stands there while there is nothing to warn of."""
    assert "problem" not in index(sample_store()).text.partition("</style>")[2]


def test_the_head_says_who_traces() -> None:
    """Engine, source, version and instance on every page; what is not known is left out."""
    store = sample_store()
    store.source = Source(address="10.9.0.1", instance_index="0")
    for document in (index(store), page(store, "web")):
        head = " ".join(document.texts["header"][0].split())
        assert head.endswith(
            "Engine syn (raw sockets are permitted), source 10.9.0.1, version 1.2.3. "
            "Page made 2026-01-01 00:01:30 UTC, reloads every 60 s. Answered by instance 0."
        )


def test_the_head_says_how_to_reach_another_instance() -> None:
    """On Cloud Foundry every page has the router's headers, ready to be copied."""
    store = sample_store()
    store.source = Source(
        instance_index="1",
        instance_guid="6f-1",
        cell="10.0.4.7",
        application="egress",
        space="prod",
        organization="net",
        application_guid="a-guid",
        process_guid="p-guid",
    )
    for document in (index(store), page(store, "web")):
        assert document.texts["code"] == [
            "X-Cf-App-Instance: a-guid:INDEX",
            "X-Cf-Process-Instance: p-guid:INDEX",
        ]
        head = " ".join(document.texts["header"][0].split())
        assert head.endswith(
            "Answered by instance 1 of egress (net / prod) on cell 10.0.4.7 with GUID 6f-1. "
            "To reach another one, send a header with its number as INDEX: "
            "X-Cf-App-Instance: a-guid:INDEX, or on newer routers "
            "X-Cf-Process-Instance: p-guid:INDEX."
        )


def test_a_pod_answers_as_a_pod() -> None:
    """On Kubernetes the pod and its node are named, and no router's header."""
    store = sample_store()
    store.source = Source(instance_guid="egress-7d9f", cell="node-3")
    head = " ".join(index(store).texts["header"][0].split())
    assert head.endswith("Answered by pod egress-7d9f on node node-3.")


def test_a_plain_host_says_nothing_of_instances() -> None:
    """Where no platform tells anything, no line stands there."""
    store = sample_store()
    store.source = Source(address="10.9.0.1")
    assert "Answered by" not in index(store).text


# -- a target's own page ---------------------------------------------------------------


def test_the_target_page_is_the_approved_one(golden: Golden) -> None:
    """A target that was open and is filtered now, as in the golden file."""
    store = history(samples.opened(), samples.filtered(), samples.filtered())
    golden("target.html", page(store, "web", NOW + 120).text)


def test_an_unknown_target_has_no_page() -> None:
    """Only what is configured is shown."""
    assert Pages(samples.store(), "1.2.3").target("nobody", NOW) is None


def test_latest_last_good_and_first_bad_are_kept_apart() -> None:
    """Three traces with their times: now, when it last worked, and when the block began."""
    store = history(samples.opened(), samples.rejected(), samples.filtered())
    shown = parts(page(store, "web", samples.STARTED_AT + 200))
    assert list(shown) == ["Latest trace", "Last good trace", "First bad trace", "History"]
    del shown["History"]
    heads = [lines[0].replace(NO_BREAK, " ") for lines in shown.values()]
    assert heads == ["filtered, 75 s ago", "open, 3 min ago", "rejected, 2 min ago"]
    moments = [re.findall(r"2026-01-01T00:0\d", lines[1]) for lines in shown.values()]
    assert moments == [["2026-01-01T00:02"], ["2026-01-01T00:00"], ["2026-01-01T00:01"]]


def test_each_address_has_a_section() -> None:
    """With all addresses there is a trace for each, the one that fails first."""
    shown = parts(page(samples.store(samples.several()), "pair"))
    titles = [f"Latest trace to {one}" for one in ("10.9.11.2", "2001:db8::1", "10.9.11.3")]
    assert list(shown) == [*titles, "Last good trace", "First bad trace"]
    states = [shown[title][0].partition(",")[0] for title in titles]
    assert states == ["filtered", "error", "open"]
    assert "db.example:443 (10.9.11.3) from 10.9.0.1" in shown[titles[2]][1]


def test_a_trace_is_not_shown_twice() -> None:
    """The latest trace stands for the last good one if it is the same; a block is none."""
    shown = parts(page(history(samples.opened()), "web"))
    assert shown["Last good trace"] == ["The latest one."]
    assert shown["First bad trace"] == ["None."]


def test_the_page_says_since_when() -> None:
    """The start of the present state stands under the heading."""
    store = history(samples.opened(), samples.filtered(), samples.filtered())
    assert page(store, "web").texts["p"][0] == (
        "10.9.11.2:443, filtered since 2026-01-01 00:01:00 UTC"
    )


def test_what_has_changed_stands_under_the_heading() -> None:
    """The last change of state in a sentence, and the last change of path."""
    good = samples.opened()
    made = good.trace
    assert made
    moved = replace(made, hops=(*made.hops[:4], samples.end(5, ReplyKind.TIME_EXCEEDED, "::5")))
    store = history(good, replace(good, trace=moved), samples.filtered())
    lines = page(store, "web").texts["p"]
    assert lines[1].startswith("Open until 00:01:00 UTC via ")
    assert lines[2] == "Last change of path: hop 5: ::5 -> 10.9.4.2 at 00:02:00 UTC."


def test_the_history_lists_the_changes() -> None:
    """One line for each, the last one first, and none without a change."""
    store = history(samples.opened(), samples.filtered(), samples.rejected())
    assert parts(page(store, "web"))["History"][4:] == [
        *("2026-01-01 00:02:00 UTC", "rejected", "filtered", "at hop 6 by 10.9.5.2"),
        *("2026-01-01 00:01:00 UTC", "filtered", "open", "after hop 6 (10.9.5.2)"),
    ]
    assert "History" not in parts(page(history(samples.opened()), "web"))


def test_the_index_tells_the_change_of_what_fails() -> None:
    """A target that was open before says so in its row; one that is open again does not."""
    good, bad = samples.opened(), samples.filtered()
    assert "Open until 00:00:00 UTC via " in index(history(good, bad)).texts["table"][0]
    assert "Filtered until" not in index(history(bad, good)).texts["table"][0]


def test_flapping_is_told_on_every_page() -> None:
    """The row and the target's page say how often, also while the target is open."""
    store = history(*(samples.filtered(), samples.opened()) * 3)
    words = "Flapping: 5 changes in the last 30 minutes between filtered and open."
    assert words in index(store).texts["table"][0]
    assert page(store, "web").texts["p"][1] == words


# -- HTML ------------------------------------------------------------------------------


def test_pages_are_well_formed() -> None:
    """Every element is closed where it should be, on every page; reading them checks it."""
    store = sample_store(samples.hostile(), waiting=[samples.target("next")])
    index(store)
    for record in store:
        page(store, record.target.name)


def test_pages_work_without_scripts() -> None:
    """No script, nothing from elsewhere, no handler in an attribute."""
    store = sample_store(samples.hostile())
    for document in (index(store), page(store, samples.HOSTILE)):
        assert {tag for tag, _ in document.elements}.isdisjoint({"script", "img", "iframe", "b"})
        assert not [a for _, attributes in document.elements for a in attributes if a[:2] == "on"]
        assert all(re.match(r"/(?!/)", link) for link in document.links)


def test_hostile_text_is_shown_and_not_obeyed() -> None:
    """Names, addresses, reasons and evidence are text; control characters show as escapes."""
    store = samples.store(samples.hostile())
    store.engine = EngineStatus("none", samples.HOSTILE)
    store.reload = ReloadStatus(False, 0, samples.HOSTILE)
    store.source = replace(store.source, cell=samples.HOSTILE)
    for document in (index(store), page(store, samples.HOSTILE)):
        visible = document.text.replace(NO_BREAK, " ").split("\n")
        assert all(line.isprintable() for line in visible)
        assert "<b>" not in document.text
        assert r"""<b>"q"</b>'&\n\x1b[31mred""" in document.texts["h2"][0] + document.texts["h1"][0]
        assert any(r"\u202e\udcff" in text for text in document.texts["pre"])
        assert document.text.encode()


def plain_tags(document: Document) -> list[str]:
    """The elements of a page, in order."""
    return [tag for tag, _ in document.elements]


def test_hostile_text_adds_no_element() -> None:
    """A page of attacks has the same structure as one of harmless text."""
    hostile, harmless = (samples.store(samples.hostile(t)) for t in (samples.HOSTILE, "harmless"))
    assert plain_tags(index(hostile)) == plain_tags(index(harmless))
    assert plain_tags(page(hostile, samples.HOSTILE)) == plain_tags(page(harmless, "harmless"))


def link_to(name: str) -> str:
    """The link of a target's line on the index."""
    return index(samples.store(waiting=[samples.target(name)])).links[0]


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
    found = _find(f"/targets/{pages._quote(name)}")
    assert found
    assert found[1] == name


def test_a_name_that_no_url_can_hold_does_not_break_the_page() -> None:
    """A lone surrogate, which the configuration refuses, still gives a page and an ASCII link."""
    assert re.fullmatch(r"/targets/[\w.~%-]+", link_to(samples.HOSTILE), re.ASCII)


def test_the_target_page_links_to_its_object() -> None:
    """The API's address is encoded as the page's is."""
    store = samples.store(samples.opened("a/b"))
    assert "/api/v1/targets/a%2Fb" in page(store, "a/b").links


def test_a_text_browser_shows_the_trace_line_by_line() -> None:
    """w3m prints each hop on a line of its own, below the table with the verdicts."""
    dumped = subprocess.run(
        ["w3m", "-T", "text/html", "-I", "UTF-8", "-O", "UTF-8", "-cols", "160", "-dump"],
        input=index(sample_store()).text,
        text=True,
        capture_output=True,
        check=True,
    ).stdout.splitlines()
    hops = [line.strip() for line in dumped if re.match(r"\s*\d+  \S", line)]
    expected = [
        line.strip()
        for sample in (samples.filtered(), samples.rejected())
        for line in pages._show(sample).trace.split("\n")[1:-1]
        if re.match(r"\s*\d+  \S", line)
    ]
    assert hops[: len(expected)] == expected
    assert any(re.match(r" *db +filtered +hop 7 +external", line) for line in dumped)


# -- secrets ---------------------------------------------------------------------------


def everything(store: Store) -> str:
    """All that is published of a store."""
    names = [record.target.name for record in store]
    return "\n".join(
        [
            index(store).text,
            *(page(store, name).text for name in names),
            exposed(store),
            *map(objects.to_json, objects.target_objects(store)),
        ]
    )


def test_nothing_of_the_environment_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither credentials nor any other variable stands on a page, in a metric or in JSON."""
    variables = ("BASIC_AUTH_USERNAME", "BASIC_AUTH_PASSWORD", "VCAP_SERVICES", "HOME", "PATH")
    for name in variables:
        monkeypatch.setenv(name, f"canary-of-{name}")
    assert "canary-of" not in everything(sample_store(waiting=[samples.target("next")]))

"""The pages: what a person sees of the store, in a browser and in a text browser."""

from __future__ import annotations

import gzip
import html
import re
import subprocess
from dataclasses import replace
from unittest.mock import patch

import pytest

from exporter.model import (
    EngineStatus,
    Location,
    Observation,
    ReloadStatus,
    Source,
    State,
)
from exporter.publish import objects, pages, tones
from exporter.publish.lines import trace_lines
from exporter.publish.moments import NO_BREAK
from exporter.publish.pages import Pages
from exporter.publish.wanted import Wanted
from exporter.store import Store
from tests.conftest import Golden
from tests.unit import samples
from tests.unit.crowd import crowd, member
from tests.unit.paging import (
    ALL,
    NOW,
    Document,
    history,
    index,
    page,
    parts,
    rendered,
    sample_store,
)
from tests.unit.scraping import exposed

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
    assert set(tones.TONES) == set(State)
    assert set(tones.TONES.values()) | {tones.WAITING} == set(tones.RANKS)
    assert all(f".{tone} {{" in pages.STYLE for tone in tones.RANKS)


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
    """A browser's tab shows whether something is wrong, in few words."""
    (title,) = index(sample_store()).texts["title"]
    assert title == "4 of 9 targets blocked - egress exporter"


def intercepted() -> Observation:
    """Somebody nearer accepts in the destination's name."""
    seen = samples.opened("proxied")
    return replace(seen, verdict=replace(seen.verdict, state=State.INTERCEPTED))


def located(location: Location) -> Observation:
    """A target that is blocked there."""
    seen = samples.filtered(f"at-{location}")
    return replace(seen, verdict=replace(seen.verdict, location=location))


@pytest.mark.parametrize(
    ("store", "sentence"),
    [
        (samples.store(samples.opened()), "0 of 1 target blocked."),
        (samples.store(samples.filtered()), "1 of 1 target blocked, outside the platform."),
        (
            samples.store(samples.filtered(), samples.rejected()),
            "2 of 2 targets blocked, all of them outside the platform.",
        ),
        (
            samples.store(*map(located, set(Location) - {Location.NONE})),
            (
                "4 of 4 targets blocked, 1 of them outside the platform, 1 at the platform's edge, "
                "1 inside the platform, 1 at an unknown place."
            ),
        ),
        (
            samples.store(intercepted(), samples.unresolved(), waiting=[samples.target("next")]),
            "0 of 3 targets blocked; 1 intercepted, 1 unknown, 1 waiting for a first trace.",
        ),
    ],
)
def test_the_index_begins_with_a_sentence(store: Store, sentence: str) -> None:
    """How many are blocked and where; what is intercepted, unknown or waiting is counted apart."""
    assert index(store).texts["h1"] == [sentence]


def test_the_traces_keep_their_line_breaks() -> None:
    """What stands in <pre> is the text of the trace, line by line."""
    (trace,) = index(samples.store(samples.rejected())).texts["pre"]
    assert len(trace.split("\n")) == 10
    assert trace.split("\n")[1] == " 1  10.9.0.2 [platform]  1.010 ms  1.020 ms  1.030 ms"


def reload_link(document: Document) -> str:
    """The link under the sentence that switches reloading on or off."""
    head = document.text.partition("</header>")[0]
    (link,) = re.findall(r'<a href="([^"]*reload[^"]*|/[^"#]*)">(?:Reload|stop)', head)
    return html.unescape(link)


def test_no_page_reloads_itself_unasked() -> None:
    """A reader is not interrupted; a link switches it on, and off again, and keeps the filter."""
    store = sample_store()
    for document in (index(store), page(store, "web")):
        assert not [a for _, a in document.elements if "http-equiv" in a]
    blocked = Wanted(state="blocked")
    assert reload_link(index(store, wanted=blocked)) == "/?state=blocked&reload=30"
    assert reload_link(index(store, wanted=replace(blocked, reload=60))) == "/?state=blocked"
    assert reload_link(page(store, "web")) == "/targets/web?reload=30"
    assert reload_link(page(store, "web", wanted=Wanted(reload=30))) == "/targets/web"


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
    """With many targets only new traces cost something; a new one is shown at once."""
    first = samples.opened()
    store = samples.store(first, samples.filtered())
    made = Pages(store, "1.2.3")
    with patch.object(pages, "_traced", wraps=pages._traced) as traced:
        rendered(made)
        rendered(made, NOW + 5)
        assert traced.call_count == 2
        store.add(replace(first, started_at=NOW))
        assert "2026-01-01T00:01:30.000Z" in rendered(made, NOW + 10)
        assert traced.call_count == 3


def test_a_removed_target_leaves_nothing_behind() -> None:
    """What was rendered for a target goes with it."""
    store = samples.store(samples.opened(), samples.filtered())
    made = Pages(store, "1.2.3")
    rendered(made)
    store.configure([samples.filtered().target])
    assert ">web<" not in rendered(made)
    assert (len(made._sections), len(made._entries)) == (1, 1)


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


# -- the pages of the index ------------------------------------------------------------


def test_five_hundred_targets_stand_on_one_page() -> None:
    """So many need no other page, and nothing says that there could be one."""
    made = Pages(crowd(500), "1.2.3")
    assert made.count(ALL) == 1
    document = Document(rendered(made))
    assert document.texts["h1"] == ["250 of 500 targets blocked, all of them outside the platform."]
    assert "nav" not in document.texts
    assert len(document.texts["tr"]) == 501


def busy(number: int) -> Observation:
    """A blocked target whose path has names, networks and times that no other one has."""
    seen = member(4 * number + 2)
    places = {
        address: replace(place, name=f"{hash((number, n)) % 2**32:08x}.net", as_number=64000 + n)
        for n, (address, place) in enumerate(seen.places.items())
    }
    return replace(seen, places=places)


@pytest.mark.parametrize(
    "store", [crowd(500), samples.store(*map(busy, range(500)))], ids=["crowd", "outage"]
)
def test_a_page_of_five_hundred_targets_is_small(store: Store) -> None:
    """As it is sent it has at most 150 KB, even where every target is blocked."""
    sent = gzip.compress(rendered(Pages(store, "1.2.3")).encode(), compresslevel=1)
    assert len(sent) <= 150_000


def test_the_traces_of_what_fails_stand_below_the_table() -> None:
    """Of many targets up to a hundred that fail have theirs, folded; the rest is counted."""
    document = Document(rendered(Pages(crowd(500), "1.2.3")))
    assert len(document.texts["pre"]) == 100
    assert {text.split()[1] for text in document.texts["h3"]} <= {"filtered", "rejected"}
    assert all("open" not in a for tag, a in document.elements if tag == "details")
    assert "The traces of 150 more that fail stand on their own pages." in document.texts["p"]


def test_the_traces_of_a_few_targets_are_open() -> None:
    """Whoever has one endpoint sees its trace on the page, healthy or not."""
    document = index(samples.store(samples.opened(), samples.filtered()))
    opened = ["open" in attributes for tag, attributes in document.elements if tag == "details"]
    assert opened == [True, True]
    assert len(document.texts["pre"]) == 2
    assert "more that fail" not in document.text


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a hundred targets, to test with fewer."""
    monkeypatch.setattr(pages, "TARGETS_ON_A_PAGE", 100)


@pytest.mark.usefixtures("short")
def test_every_target_stands_on_one_page() -> None:
    """What fails comes first over all pages."""
    made = Pages(crowd(250), "1.2.3")
    documents = [Document(rendered(made, number=n)) for n in range(1, made.count(ALL) + 1)]
    listed = [row.split() for document in documents for row in document.texts["tr"][1:]]
    assert [len(document.texts["tr"]) for document in documents] == [101, 101, 51]
    ranks = [tones.RANKS[tones.TONES[State(state)]] for _, state, *_ in listed]
    assert ranks == sorted(ranks)
    assert len({name for name, *_ in listed}) == 250


@pytest.mark.usefixtures("short")
def test_a_page_leads_to_the_others() -> None:
    """The title counts all targets and tells the page; the one that is shown is no link."""
    document = Document(rendered(Pages(crowd(250), "1.2.3"), number=2))
    assert document.texts["title"] == ["124 of 250 targets blocked, page 2 of 3 - egress exporter"]
    assert document.texts["nav"][0].split() == ["Pages:", "1", "2", "3"]
    assert [link for link in document.links if link == "/" or "page" in link] == [
        *("/?reload=30&page=2", "/", "/?page=3")
    ]
    assert document.texts["strong"] == ["2"]


def test_without_targets_there_is_one_page() -> None:
    """Page 1 is always there, of what is not found as well."""
    assert Pages(samples.store(), "1.2.3").count(ALL) == 1
    assert Pages(crowd(4), "1.2.3").count(Wanted(text="nobody")) == 1


def test_a_page_is_made_target_by_target() -> None:
    """Each piece before the last is empty, so that the loop may have its turn."""
    pieces = list(Pages(crowd(120), "1.2.3").index(ALL, 1, NOW))
    assert pieces[:-1] == [""] * (120 + 60)
    assert pieces[-1].count("<tr") == 121


def test_only_the_sections_shown_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever filters for one thing after the other does not fill the memory."""
    monkeypatch.setattr(pages, "KEPT_SECTIONS", 30)
    made = Pages(crowd(160), "1.2.3")
    for state in ("filtered", "rejected"):
        rendered(made, wanted=Wanted(state=state, text="0"))
    assert len(made._sections) == 30
    with patch.object(pages, "_traced", wraps=pages._traced) as traced:
        rendered(made, wanted=Wanted(state="rejected", text="target-01"))
        assert traced.call_count == 0


# -- the filter ------------------------------------------------------------------------


def names(document: Document) -> list[str]:
    """The targets in the table."""
    return [row.split()[0] for row in document.texts.get("tr", [])[1:]]


def test_a_filter_shows_what_is_wanted_and_says_so() -> None:
    """The sentence counts all targets, the line below the form those that are shown."""
    document = index(sample_store(), wanted=Wanted(state="rejected", text="CACHE"))
    assert names(document) == ["cache"]
    assert document.texts["h1"][0].startswith("4 of 9 targets blocked")
    (found,) = (" ".join(text.split()) for text in document.texts["p"] if "shown:" in text)
    assert found == "1 of 9 shown: state rejected (any state), text CACHE (any text), show all."
    assert [link for link in document.links if link.startswith("/?") or link == "/"] == [
        *("/?state=rejected&text=CACHE&reload=30", "/?text=CACHE", "/?state=rejected", "/")
    ]


def test_the_form_offers_what_there_is_and_holds_what_is_set() -> None:
    """Each choice with the number of its targets; the choice to reload goes along."""
    document = index(sample_store(), wanted=Wanted(state="filtered", zone="external", reload=60))
    chosen = [a["value"] for tag, a in document.elements if tag == "option" and "selected" in a]
    assert chosen == ["filtered", "external"]
    options = document.texts["option"]
    assert options[:6] == [
        *("all 9", "blocked or intercepted (4)", "unknown (2)", "waiting (0)"),
        *("closed (1)", "open (2)"),
    ]
    assert "filtered (3)" in options
    assert options[-4:] == [
        *("inside the platform (0)", "at its edge (0)", "outside (4)", "place unknown (0)")
    ]
    assert {"type": "hidden", "name": "reload", "value": "60"} in [
        attributes for tag, attributes in document.elements if tag == "input"
    ]


@pytest.mark.usefixtures("short")
def test_pages_keep_the_filter() -> None:
    """A link to another page leads to one of what is wanted."""
    wanted = Wanted(state="blocked", text="target")
    made = Pages(crowd(220), "1.2.3")
    assert made.count(wanted) == 2
    document = Document(rendered(made, wanted=wanted))
    assert "/?state=blocked&text=target&page=2" in document.links


def test_what_is_not_found_is_said() -> None:
    """Neither an empty table nor an error."""
    document = index(sample_store(), wanted=Wanted(text='no <b>"such"</b>'))
    assert "No target is like that." in document.texts["p"]
    assert "table" not in document.texts
    assert "b" not in document.texts


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
            "Answered by instance 0. Page made 2026-01-01 00:01:30 UTC. Reload every 30 s."
        )
        foot = " ".join(document.texts["footer"][0].split())
        assert foot.startswith(
            "Engine syn (raw sockets are permitted), source 10.9.0.1, version 1.2.3."
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
        head, foot = (" ".join(document.texts[tag][0].split()) for tag in ("header", "footer"))
        assert (
            "Answered by instance 1 of egress (net / prod) on cell 10.0.4.7 with GUID 6f-1. "
        ) in head
        assert (
            "To reach another instance, send a header with its number as INDEX: "
            "X-Cf-App-Instance: a-guid:INDEX, or on newer routers "
            "X-Cf-Process-Instance: p-guid:INDEX."
        ) in foot


def test_a_pod_answers_as_a_pod() -> None:
    """On Kubernetes the pod and its node are named, and no router's header."""
    store = sample_store()
    store.source = Source(instance_guid="egress-7d9f", cell="node-3")
    head = " ".join(index(store).texts["header"][0].split())
    assert "Answered by pod egress-7d9f on node node-3. Page made" in head


def test_a_plain_host_says_nothing_of_instances() -> None:
    """Where no platform tells anything, no line stands there."""
    store = sample_store()
    store.source = Source(address="10.9.0.1")
    assert "Answered by" not in index(store).text


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
        assert all(re.match(r"/(?!/)|#(main|evidence)$", link) for link in document.links)


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
        named = "".join((*document.texts["h1"], *document.texts.get("h3", ())))
        assert r"""<b>"q"</b>'&\n\x1b[31mred""" in named
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
        for line in tuple(trace_lines(sample))[1:-1]
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

"""What is known of responders beside their zone, and how it is published."""

from __future__ import annotations

import json
import logging
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.as_table import AsTable, load
from exporter.config import load as settings_of
from exporter.directory import Directory, read_table
from exporter.model import Observation, Place, Zone
from exporter.names import Names
from exporter.publish.lines import render_trace
from exporter.publish.objects import observation_object, to_json
from exporter.publish.pages import Pages
from exporter.publish.text import AS_NAME_LENGTH
from exporter.publish.wanted import Wanted
from exporter.settings import ConfigurationError
from tests.unit import samples
from tests.unit.scraping import exposed

FIRST, SECOND = samples.address(1), samples.address(2)
NAMES = {FIRST: "cell-7.example.net"}
PATIENCE = 30.0


def lookup(address: str) -> str:
    """The names of this module."""
    if address in NAMES:
        return NAMES[address]
    raise socket.gaierror(socket.EAI_NONAME, "no name")


@pytest.fixture
def table(tmp_path: Path) -> AsTable:
    """A table that knows the first two hops."""
    path = tmp_path / "table"
    path.write_text(f"{FIRST}\t{FIRST}\t64500\tX\tEXAMPLE\n{SECOND}\t32\t64501\n")
    return load(path)


# -- what is looked up -----------------------------------------------------------------


def test_without_a_directory_an_observation_stays_what_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where nothing is configured nobody is asked for a name."""
    monkeypatch.setattr(socket, "getnameinfo", lambda *_: pytest.fail("a name was looked up"))
    seen = samples.opened()
    assert Directory().described(seen) is seen
    assert Directory().asked(seen, PATIENCE) is seen


def test_names_show_from_the_next_cycle_on(table: AsTable) -> None:
    """The first description has the systems, a later one the names as well; zones stay."""
    directory = Directory(Names(lookup), table)
    seen = samples.opened()
    first = directory.described(seen).place_of(FIRST)
    assert first == Place(Zone.PLATFORM, "platform", None, 64500, "EXAMPLE")
    assert directory.names
    directory.names.wait(PATIENCE)
    later = directory.described(seen)
    assert later.place_of(FIRST) == replace(first, name="cell-7.example.net")
    assert later.place_of(SECOND) == Place(Zone.PLATFORM, "platform", None, 64501, "")
    assert later.place_of(samples.DESTINATION).as_number is None


def test_one_trace_alone_waits_for_names() -> None:
    """`trace` has no next cycle, so it gives names some time."""
    seen = Directory(Names(lookup)).asked(samples.opened(), PATIENCE)
    assert seen.place_of(FIRST).name == "cell-7.example.net"


def test_each_address_of_a_target_is_described(table: AsTable) -> None:
    """With several addresses the responders of each trace are known."""
    seen = Directory(table=table).described(samples.several())
    assert [one.place_of(FIRST).as_number for one in (seen, *seen.each)] == [64500] * (
        1 + len(seen.each)
    )


# -- the table that is configured ------------------------------------------------------


def test_no_table_is_read_where_none_is_configured() -> None:
    """Without AS_TABLE there is none."""
    assert read_table(settings_of({})) is None


def test_a_bad_table_is_a_mistake_in_the_configuration() -> None:
    """The line names the variable, the file and what is wrong."""
    with pytest.raises(ConfigurationError) as caught:
        read_table(settings_of({"AS_TABLE": "/nowhere/table"}))
    (line,) = caught.value.problems
    assert line == "AS_TABLE: '/nowhere/table' cannot be read: No such file or directory"


def test_bad_lines_are_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However many lines are left out, one entry tells how many and the first one's number."""
    path = tmp_path / "table"
    path.write_text("10.0.0.0\t8\t1\nx\ny\n")
    with caplog.at_level(logging.WARNING):
        found = read_table(settings_of({"AS_TABLE": str(path)}))
    assert found
    assert found.networks == 1
    said = "has 2 lines that cannot be read and are left out, first line 2"
    assert caplog.messages == [f"AS_TABLE: '{path}' {said}"]


# -- how it is published ---------------------------------------------------------------


def placed(place: Place) -> Observation:
    """An open target whose first hop has this place."""
    seen = samples.opened()
    return replace(seen, places={**seen.places, FIRST: place})


def responder(seen: Observation) -> dict[str, object]:
    """The first hop's responder in JSON."""
    found = json.loads(to_json(observation_object(seen)))["hops"][0]["responders"][0]
    assert isinstance(found, dict)
    return found


KNOWN = Place(Zone.PLATFORM, "cell", "cell-7.example.net", 64500, "EXAMPLE - Example, Inc.")


def test_text_has_name_zone_and_system() -> None:
    """As traceroute writes it: the name, the address in brackets; then side, zone and system."""
    (line,) = [line for line in render_trace(placed(KNOWN)).split("\n") if line.startswith(" 1 ")]
    assert line.startswith(
        f" 1  cell-7.example.net ({FIRST}) [platform: cell] [AS64500 EXAMPLE - Example, Inc.]  "
    )


@pytest.mark.parametrize(
    ("place", "tags"),
    [
        (Place(), ""),
        (Place(Zone.EXTERNAL, "external"), " [external]"),
        (Place(Zone.EXTERNAL, "provider"), " [external: provider]"),
        (Place(as_number=64500), " [AS64500]"),
        (
            Place(as_number=64500, as_name="x" * 100),
            f" [AS64500 {'x' * (AS_NAME_LENGTH - 3)}...]",
        ),
        (Place(Zone.PLATFORM, "a\x1b", "b\n", 1, "c\u202e"), r" [platform: a\x1b] [AS1 c\u202e]"),
    ],
)
def test_text_shows_what_is_known_and_no_more(place: Place, tags: str) -> None:
    """What is not known takes no room, what is long is cut, what is hostile is escaped."""
    (line,) = [line for line in render_trace(placed(place)).split("\n") if line.startswith(" 1 ")]
    shown = rf"b\n ({FIRST})" if place.name else FIRST
    assert line.startswith(f" 1  {shown}{tags}  ")


def test_json_has_the_zone_its_side_the_name_and_the_system() -> None:
    """`zone` is the configured name, or the side itself; what is not known is null."""
    found = responder(placed(KNOWN))
    assert found["name"] == "cell-7.example.net"
    assert (found["zone"], found["side"]) == ("cell", "platform")
    assert found["as"] == {"number": 64500, "name": "EXAMPLE - Example, Inc."}
    bare = responder(placed(Place()))
    assert [bare[key] for key in ("name", "zone", "side", "as")] == [
        *(None, "unknown", "unknown", None)
    ]


def test_metrics_have_zone_and_name_and_go_by_side() -> None:
    """egress_hop_info names the zone; where platform and outside meet, the side says."""
    seen = placed(replace(KNOWN, zone_name="cell"))
    seen = replace(
        seen, places={**seen.places, samples.address(3): Place(Zone.EXTERNAL, "provider")}
    )
    lines = exposed(samples.store(seen)).split("\n")
    assert any(
        line.startswith("egress_hop_info{")
        and f'address="{FIRST}",hop="1",name="cell-7.example.net"' in line
        and 'zone="cell"' in line
        for line in lines
    )
    assert 'egress_first_external_hop{target="web"} 3.0' in lines
    assert 'egress_last_platform_hop{target="web"} 2.0' in lines


def test_the_page_escapes_names() -> None:
    """A name of the network's reaches the page as text, whatever it holds."""
    seen = placed(replace(KNOWN, name="<script>alert(1)</script>", as_name="<b>"))
    page = "".join(Pages(samples.store(seen), "1").index(Wanted(), 1, samples.STARTED_AT))
    assert "&lt;script&gt;alert(1)&lt;/script&gt; (" in page
    assert "[AS64500 &lt;b&gt;]" in page
    assert "<script>" not in page

"""Names and systems of hops for real: a DNS server in the lab, a table on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.chain import CHAIN, OPEN
from tests.lab.exporting import COMMAND, ROOT, Exporter, environment, exporting
from tests.lab.lab import Lab

SERVER = Path(__file__).with_name("reverse_zone.py")
FILES = {"resolv.conf": "nameserver 127.0.0.1\n", "nsswitch.conf": "hosts: dns\n"}
ENDPOINT = f"{CHAIN.destination}:{OPEN}"
FIRST, SECOND, THIRD, LAST = (CHAIN.address(hop) for hop in range(1, 5))
NEVER = None
TABLE = f"""\
# the lab's networks
{FIRST}\t{THIRD}\t64500\tX\tEXAMPLE - Lab
{SECOND}\t32\t64501
"""

Answers = Mapping[str, tuple[str, float | None]]


class Server:
    """The lab's DNS server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        self._process = process

    def asked(self) -> list[str]:
        """The names in all questions so far; it answers no more afterwards."""
        self._process.kill()
        assert self._process.stdout
        return self._process.stdout.read().split()


@pytest.fixture
def serve_names(lab: Lab, tmp_path: Path) -> Iterator[Callable[[Answers], Server]]:
    """Starts the lab's DNS server, with these answers, as the only one that is configured."""
    for name, text in FILES.items():
        file = tmp_path / name
        file.write_text(text)
        file.chmod(0o644)
        # The lab has a mount namespace of its own.
        lab.run(["mount", "--bind", str(file), f"/etc/{name}"], check=True)
    with ExitStack() as stack:

        def start(answers: Answers) -> Server:
            command = [sys.executable, "-I", str(SERVER), json.dumps(answers)]
            process = lab.popen(command, stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            return Server(process)

        yield start


def traced(lab: Lab, **settings: str) -> dict[str, Any]:
    """What `trace --json` prints of the open port."""
    done = lab.run(
        [*COMMAND, "trace", "--json", ENDPOINT],
        cwd=ROOT,
        env=environment(lab, **settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def responders(found: Mapping[str, Any], key: str) -> list[object]:
    """What is said of the first responder of each hop."""
    return [hop["responders"][0][key] for hop in found["hops"] if hop["responders"]]


# -- names -----------------------------------------------------------------------------


def test_names_that_are_names_are_shown(lab: Lab, serve_names: Callable[[Answers], Server]) -> None:
    """A name is shown where one comes, and nothing where it is hostile or there is none."""
    server = serve_names(
        {
            FIRST: ("gw-1.lab.example", 0),
            SECOND: ("<script>alert(1)</script>.example", 0),
            THIRD: ("10.1.2.3", 0),
        }
    )
    found = traced(lab, REVERSE_DNS="true")
    assert responders(found, "name") == ["gw-1.lab.example", None, None, None]
    assert found["verdict"]["state"] == "open"
    assert len(set(server.asked())) >= 4


def test_nobody_is_asked_unless_that_is_configured(
    lab: Lab, serve_names: Callable[[Answers], Server]
) -> None:
    """Without REVERSE_DNS no question leaves the program, though a server would answer."""
    server = serve_names({FIRST: ("gw-1.lab.example", 0)})
    assert responders(traced(lab), "name") == [None] * 4
    assert server.asked() == []


def test_a_server_that_never_answers_delays_nothing(
    lab: Lab, serve_names: Callable[[Answers], Server]
) -> None:
    """The trace is what it would be without names, and the program ends while questions wait."""
    server = serve_names(dict.fromkeys((FIRST, SECOND, THIRD, LAST), ("late.example", NEVER)))
    found = traced(lab, REVERSE_DNS="true")
    assert responders(found, "name") == [None] * 4
    assert found["verdict"]["state"] == "open"
    assert server.asked()


def test_names_show_in_metrics_from_a_later_cycle_on(
    lab: Lab, serve_names: Callable[[Answers], Server]
) -> None:
    """A slow server delays the name and not the trace: it stands in the label once it is known."""
    serve_names({FIRST: ("gw-1.lab.example", 1.5)})
    settings = {"ENDPOINTS": f"web={ENDPOINT}", "INTERVAL_SECONDS": "1", "REVERSE_DNS": "true"}
    with exporting(lab, {**settings, "LOG_TRACES": "all"}) as exporter:
        exporter.wait_for_traces("web")
        assert f'address="{FIRST}",hop="1",name="",' in exporter.fetch("/metrics")[1]
        exporter.wait_for(f"gw-1.lab.example ({FIRST})")
        exporter.wait_for_traces("web")
        assert 'name="gw-1.lab.example"' in exporter.fetch("/metrics")[1]
        assert f"gw-1.lab.example ({FIRST})" in exporter.fetch("/")[1]


# -- systems ---------------------------------------------------------------------------


def test_zones_and_systems_of_hops(lab: Lab, tmp_path: Path) -> None:
    """Each hop has the zone's name, its side, and the system that the table has for it."""
    table = tmp_path / "table"
    table.write_text(TABLE)
    zones = f"cell (platform)={FIRST}; provider={THIRD}"
    found = traced(lab, AS_TABLE=str(table), ZONES=zones)
    assert responders(found, "zone") == ["cell", "platform", "provider", "external"]
    assert responders(found, "side") == ["platform", "platform", "external", "external"]
    assert responders(found, "as") == [
        {"number": 64500, "name": "EXAMPLE - Lab"},
        {"number": 64501, "name": ""},
        {"number": 64500, "name": "EXAMPLE - Lab"},
        None,
    ]


@pytest.mark.parametrize("command", [["serve"], ["check"], ["trace", ENDPOINT]])
def test_a_bad_table_ends_the_start(lab: Lab, tmp_path: Path, command: list[str]) -> None:
    """What cannot be read as a table is a mistake in the configuration: exit code 2, one line."""
    table = tmp_path / "table"
    table.write_text("<html>\n" * 10)
    settings = {"ENDPOINTS": ENDPOINT, "PORT": "9100", "AS_TABLE": str(table)}
    done = lab.run(
        [*COMMAND, *command],
        cwd=ROOT,
        env=environment(lab, **settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"AS_TABLE: '{table}' is no table as iptoasn.com or CAIDA")


@contextmanager
def configured(lab: Lab, file: Path, table: Path) -> Iterator[Exporter]:
    """A running exporter with a file, a table that knows the first hop, and zones."""
    table.write_text(f"{FIRST}\t32\t64500\n")
    write(file, table, "before")
    with exporting(lab, {"CONFIG_FILE": str(file), "LOG_TRACES": "all"}) as exporter:
        exporter.wait_for_traces("web")
        yield exporter


def write(file: Path, table: Path, zone: str) -> None:
    """A configuration file with a table and a zone of that name."""
    file.write_text(
        f"as_table: {table}\n"
        f"zones: [{{name: {zone}, networks: [{FIRST}], platform: true}}]\n"
        f"defaults: {{interval_seconds: 1}}\n"
        f"targets: [{{name: web, host: {CHAIN.destination}, port: {OPEN}}}]\n"
    )


def test_a_reload_reads_zones_and_table_anew(lab: Lab, tmp_path: Path) -> None:
    """What has changed in both holds from the next cycle on."""
    file, table = tmp_path / "c.yml", tmp_path / "table"
    with configured(lab, file, table) as exporter:
        assert "[platform: before] [AS64500]" in exporter.fetch("/")[1]
        table.write_text(f"{FIRST}\t32\t64501\n")
        write(file, table, "after")
        assert exporter.fetch("/-/reload", "POST")[0] == 200
        exporter.wait_for("[platform: after] [AS64501]")


def test_a_table_that_went_bad_changes_nothing(lab: Lab, tmp_path: Path) -> None:
    """On a reload the whole configuration stays as it was, and the answer says why."""
    file, table = tmp_path / "c.yml", tmp_path / "table"
    with configured(lab, file, table) as exporter:
        table.write_text("<html>\n" * 10)
        write(file, table, "after")
        status, said = exporter.fetch("/-/reload", "POST")
        assert status != 200
        assert f"AS_TABLE: '{table}' is no table" in said
        exporter.wait_for("the old one stays")
        exporter.wait_for_traces("web")
        exporter.wait_for("[platform: before] [AS64500]")

"""`egress-exporter serve` for real: in a lab with real firewalls, scraped, reloaded, stopped."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.lab.conftest import OpenLab
from tests.lab.exporting import COMMAND, ROOT, Exporter, environment, exporting
from tests.lab.lab import Lab, command_pid
from tests.scenarios import FOLDER, Expectation, load

SCENARIO = load(FOLDER / "mid_path_firewall.toml")
NAMES = {443: "web", 8443: "admin", 5432: "db", 6379: "cache"}
ENDPOINTS = " ".join(f"{name}={SCENARIO.destination}:{port}" for port, name in NAMES.items())
#: The promise is 2 s; the interpreter's own end comes on top.
STOP_SECONDS = 2.5
#: setpriv's words for a process that may do nothing special, as most containers are.
UNPRIVILEGED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")


@pytest.fixture
def lab(open_lab: OpenLab) -> Lab:
    """A firewall in mid-path: open, closed, dropped and rejected ports."""
    return open_lab(SCENARIO)


def needed(tool: str) -> str:
    """The path of a tool; the test fails with its name where it is missing."""
    return shutil.which(tool) or pytest.fail(f"{tool} is missing", pytrace=False)


def gauge(metrics: dict[str, float], name: str, target: str, **labels: str) -> float:
    """The value of one series."""
    text = ",".join(
        f'{key}="{value}"' for key, value in sorted({**labels, "target": target}.items())
    )
    return metrics[f"{name}{{{text}}}"]


def check_gauges(metrics: dict[str, float], truth: Expectation) -> None:
    """Compare a target's verdict gauges with the truth."""
    target = NAMES[truth.port]
    first, last = truth.suspect_hops or (0, 0)
    assert gauge(metrics, "egress_state", target, state=truth.state) == 1
    assert gauge(metrics, "egress_blocked", target, location=truth.location) == 1
    assert gauge(metrics, "egress_last_reachable_hop", target) == truth.last_reachable_hop
    assert gauge(metrics, "egress_blocked_at_hop", target) == truth.blocked_at_hop
    assert gauge(metrics, "egress_suspect_hop_first", target) == first
    assert gauge(metrics, "egress_suspect_hop_last", target) == last


def write_targets(file: Path, *ports: int) -> None:
    """A configuration file with these ports of the destination."""
    lines = (f"- {{name: {NAMES[p]}, host: {SCENARIO.destination}, port: {p}}}\n" for p in ports)
    file.write_text("targets:\n" + "".join(lines))


def test_every_view_tells_the_truth(lab: Lab) -> None:
    """Gauges, API, page and log say of four targets what the lab's firewalls do to them."""
    promtool = needed("promtool")
    with exporting(lab, {"ENDPOINTS": ENDPOINTS}) as exporter:
        exporter.wait_for_traces(*NAMES.values())
        metrics = exporter.metrics()
        for truth in SCENARIO.expectations:
            check_gauges(metrics, truth)
            status, text = exporter.fetch(f"/api/v1/targets/{NAMES[truth.port]}")
            assert (status, json.loads(text)["verdict"]["state"]) == (200, truth.state)
        text = exporter.fetch("/metrics")[1]
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
        page = exporter.fetch("/")[1]
        assert "2 of 4 targets blocked" in page
        assert " 6  10.9.5.2" in page
        assert exporter.fetch("/-/ready") == (200, "ready\n")
        assert any(" 6  10.9.5.2" in line for line in exporter.log)
        held = Path(f"/proc/{command_pid(exporter.process)}/status").read_text()
        assert "CapEff:\t0000000000000000" in held


def test_the_page_reads_in_a_browser_and_in_a_terminal(lab: Lab, tmp_path: Path) -> None:
    """Chromium draws the page, and a text browser keeps the trace's line breaks."""
    chromium, w3m = needed("chromium"), needed("w3m")
    with exporting(lab, {"ENDPOINT": SCENARIO.destination, "ENDPOINT_TCP_PORT": "443"}) as exporter:
        exporter.wait_for("verdict: open")
        picture = tmp_path / "page.png"
        subprocess.run(
            [
                chromium,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                f"--user-data-dir={tmp_path / 'profile'}",
                f"--screenshot={picture}",
                f"{exporter.address}/",
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
        assert picture.read_bytes().startswith(b"\x89PNG")
        text = subprocess.run(
            [w3m, "-dump", f"{exporter.address}/"], check=True, capture_output=True, text=True
        ).stdout
        assert [line for line in text.splitlines() if line.strip().startswith("11  10.9.10.2")]


def test_last_good_and_first_bad_are_kept_apart(lab: Lab) -> None:
    """When a firewall begins to drop, the latest, last good and first bad trace tell the story."""
    with exporting(
        lab, {"ENDPOINTS": f"web={SCENARIO.destination}:443", "INTERVAL_SECONDS": "8"}
    ) as exporter:
        exporter.wait_for("verdict: open")
        lab.nft(4, "add rule inet lab forward tcp dport 443 drop")
        exporter.wait_for("verdict: filtered, blocked at hop 5")
        story = json.loads(exporter.fetch("/api/v1/targets/web")[1])
        assert story["last_good"]["verdict"]["state"] == "open"
        assert story["first_bad"]["started_at"] == story["started_at"]
        # The last good trace has shown what stands behind the last answer.
        assert story["verdict"]["suspect_hops"] == [4, 5]
        assert (story["verdict"]["location"], story["verdict"]["confidence"]) == (
            "external",
            "high",
        )
        page = exporter.fetch("/targets/web")[1]
        assert "Last good" in page
        assert "First bad" in page


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_two_seconds(lab: Lab, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end it in mid-trace, with a name that hangs in the resolver as well."""
    # The lab has no name server: a look-up waits for its time-out.
    endpoints = f"db={SCENARIO.destination}:5432 hanging=no-such-name.example:443"
    with exporting(lab, {"ENDPOINTS": endpoints, "INTERVAL_SECONDS": "3"}) as exporter:
        exporter.wait_for("ready: 2 targets")
        began = time.monotonic()
        exporter.signal(number)
        assert exporter.process.wait(STOP_SECONDS) == 0
        assert time.monotonic() - began < STOP_SECONDS


def test_reloading_takes_over_targets_and_refuses_mistakes(lab: Lab, tmp_path: Path) -> None:
    """POST /-/reload and SIGHUP read the file again; a bad one changes nothing and says why."""
    file = tmp_path / "targets.yml"
    write_targets(file, 443)
    with exporting(lab, {"CONFIG_FILE": str(file)}) as exporter:
        exporter.wait_for_traces("web")
        write_targets(file, 443, 8443)
        assert exporter.fetch("/-/reload", "POST") == (200, "reloaded\n")
        exporter.wait_for_traces("admin")
        file.write_text("targets:\n- {host: h, port: none}\n")
        status, text = exporter.fetch("/-/reload", "POST")
        assert (status, "line 2: targets[0].port" in text) == (500, True)
        assert exporter.metrics()["egress_config_last_reload_successful"] == 0
        assert "line 2" in exporter.fetch("/")[1]
        exporter.signal(signal.SIGHUP)
        exporter.wait_for("the configuration was not reloaded, the old one stays")
        assert set(json_names(exporter)) == {"web", "admin"}
        write_targets(file, 8443)
        exporter.signal(signal.SIGHUP)
        exporter.wait_for("configuration reloaded: 1 target")
        assert json_names(exporter) == ["admin"]
        metrics = exporter.metrics()
        assert metrics["egress_config_last_reload_successful"] == 1
        assert not [name for name in metrics if 'target="web"' in name]


def json_names(exporter: Exporter) -> list[str]:
    """The names of the targets that the API lists."""
    return [item["target"] for item in json.loads(exporter.fetch("/api/v1/targets")[1])["targets"]]


def test_without_permission_it_takes_the_other_engine(lab: Lab) -> None:
    """Without CAP_NET_RAW it traces all the same, and says with which engine and why."""
    settings = {"ENDPOINTS": f"web={SCENARIO.destination}:443"}
    with exporting(lab, settings, *UNPRIVILEGED) as exporter:
        exporter.wait_for_traces("web")
        metrics = exporter.metrics()
        assert gauge(metrics, "egress_state", "web", state="open") == 1
        assert gauge(metrics, "egress_last_reachable_hop", "web") == SCENARIO.hops
        assert any(
            name.startswith('egress_engine_info{engine="connect"') and "CAP_NET_RAW" in name
            for name in metrics
        )


def test_without_any_engine_it_says_so_and_still_connects(lab: Lab) -> None:
    """Where no engine works each target is an error that names the remedy, never a block."""
    settings = {"ENDPOINTS": f"web={SCENARIO.destination}:443"}
    lab.run(["ip", "link", "set", "lo", "down"], check=True)  # the connect engine's self-test fails
    with exporting(lab, settings, *UNPRIVILEGED) as exporter:
        exporter.wait_for_traces("web")
        metrics = exporter.metrics()
        assert gauge(metrics, "egress_state", "web", state="error") == 1
        assert gauge(metrics, "egress_blocked", "web", location="none") == 1
        assert gauge(metrics, "egress_connect_success", "web") == 1
        assert gauge(metrics, "egress_trace_failures_total", "web", reason="permission") == 1
        assert any(
            name.startswith('egress_engine_info{engine="none"') and "CAP_NET_RAW" in name
            for name in metrics
        )


def test_a_full_log_pipe_stops_nothing(lab: Lab) -> None:
    """With nobody reading the log, traces, scrapes and the end go on."""
    settings = {"ENDPOINTS": ENDPOINTS, "LOG_TRACES": "all"}
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "wb") as pipe:
        fill(writing)
        redirect = (sys.executable, "-c", REDIRECT, str(writing))
        with exporting(lab, settings, *redirect, pass_fds=(pipe.fileno(),)) as exporter:
            wait_until(lambda: len(traced(exporter)) == len(NAMES))
            exporter.signal(signal.SIGTERM)
            assert exporter.process.wait(STOP_SECONDS) == 0


REDIRECT = "import os, sys; os.dup2(int(sys.argv[1]), 1); os.execvp(sys.argv[2], sys.argv[2:])"


def fill(pipe: int) -> None:
    """Write until the pipe takes no more."""
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe, bytes(4096))
    os.set_blocking(pipe, True)


def traced(exporter: Exporter) -> list[str]:
    """The targets that have been traced; none while the exporter does not answer yet."""
    try:
        metrics = exporter.metrics()
    except OSError:
        return []
    return [n for n, v in metrics.items() if n.startswith("egress_traces_total{") and v > 0]


def wait_until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Ask again and again; the test fails when the time is over."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        select.select([], [], [], 0.1)


# -- the commands ----------------------------------------------------------------------

EXIT_STATUS = {"open": 0, "closed": 3, "filtered": 1, "rejected": 1}


@pytest.mark.parametrize("truth", SCENARIO.expectations, ids=lambda truth: truth.state)
def test_trace_prints_one_object_and_exits_by_the_state(lab: Lab, truth: Expectation) -> None:
    """`trace --json` prints design's object, and its exit status tells the state."""
    done = lab.run(
        [*COMMAND, "trace", f"{SCENARIO.destination}:{truth.port}", "--json"],
        cwd=ROOT,
        env=environment(lab),
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (EXIT_STATUS[truth.state], "")
    assert found["verdict"]["state"] == truth.state
    assert found.keys() >= KEYS
    assert found["verdict"].keys() == VERDICT_KEYS
    assert found["hops"][0].keys() == HOP_KEYS
    assert found["hops"][0]["responders"][0].keys() >= RESPONDER_KEYS


KEYS = {
    "target",
    "host",
    "port",
    "address",
    "source",
    "engine",
    "started_at",
    "duration_seconds",
    "stop_reason",
    "hops",
    "verdict",
}
HOP_KEYS = {"hop", "sent", "received", "shared", "condition", "responders"}
RESPONDER_KEYS = {"address", "name", "zone", "reply", "icmp", "rtt_seconds"}
VERDICT_KEYS = {
    "state",
    "last_reachable_hop",
    "blocked_at_hop",
    "suspect_hops",
    "blocked_by",
    "location",
    "confidence",
    "reason",
    "evidence",
    "flows",
    "flows_blocked",
}


@pytest.mark.parametrize(
    ("arguments", "settings", "status", "text"),
    [
        (["trace", "127.0.0.1:99999"], {}, 2, "99999"),
        (["trace", "nonsense"], {}, 2, "nonsense"),
        (["trace", " , "], {}, 2, "no endpoint is named; write HOST:PORT"),
        (["trace", "10.9.11.2:443", "10.9.11.2:443"], {}, 2, "is taken by ENDPOINTS entry 1"),
        (["trace"], {}, 2, "required: HOST:PORT"),
        (["trace", "no-such-name.invalid:443"], {}, 4, ""),
        (["trace", "10.9.11.2:443", "--engine", "raw"], {}, 2, "invalid choice: 'raw'"),
        (["trace", "10.9.11.2:443", "--platform", "10.9.0.1/24"], {}, 2, "10.9.0.0/24"),
        (["serve"], {}, 2, "There are three ways"),
        (["check"], {}, 2, "There are three ways"),
        ([], {"ENDPOINTS": "x", "INTERVAL_SECONDS": "soon"}, 2, "INTERVAL_SECONDS"),
    ],
)
def test_wrong_use_is_told_in_words(
    lab: Lab, arguments: list[str], settings: dict[str, str], status: int, text: str
) -> None:
    """What is wrong is named on standard error, and the exit status is 2; 4 means unknown."""
    done = lab.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment(lab, **settings),
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_check_prints_the_plan(lab: Lab) -> None:
    """`check` shows targets, addresses, engine, cadence, probes and series, and sends nothing."""
    done = lab.run(
        [*COMMAND, "check"],
        cwd=ROOT,
        env=environment(lab, ENDPOINTS=ENDPOINTS),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "engine: syn" in done.stdout
    assert "db" in done.stdout
    assert "10.9.11.2:5432" in done.stdout
    assert "probes a minute: about 74" in done.stdout
    assert "series: about" in done.stdout


def test_trace_without_permission_names_the_remedy(lab: Lab) -> None:
    """With --engine syn and no CAP_NET_RAW `trace` exits with 2 and says what to do."""
    done = lab.run(
        [*UNPRIVILEGED, *COMMAND, "trace", f"{SCENARIO.destination}:443", "--engine", "syn"],
        cwd=ROOT,
        env=environment(lab),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "CAP_NET_RAW" in done.stderr

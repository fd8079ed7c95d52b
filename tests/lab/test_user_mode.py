"""Where hops cannot be counted, or cannot all be seen: real networks of that kind.

    a namespace "inner" -- slirp4netns or passt -- the prober's namespace -- the chain of a lab

A user-mode network takes what a container sends out of a TAP device and makes ordinary
connections of it in the namespace around, so no TTL survives and no router is ever heard. What a
sandbox does that never delivers time-exceeded, a firewall at the prober's own input does. And a
router that rewrites sequence numbers makes the connect engine's kernel drop every error from
behind it.

The bugs of the networks as they are in Debian 12 are part of what is tested: slirp4netns 1.2.0
accepts a connection that it cannot make when several SYNs ask for it, and passt of March 2023
refuses with an RST without ACK, which is none to a connecting socket.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests import scenarios
from tests.lab.conftest import OpenLab
from tests.lab.engines import WRAPPERS
from tests.lab.exporting import COMMAND, ROOT, environment, exporting
from tests.lab.lab import Lab
from tests.lab.user_mode import INNER, passt, slirp

SCENARIO = scenarios.load(scenarios.FOLDER / "mid_path_firewall.toml")
OPEN, CLOSED, DROPPED, PROHIBITED = (
    f"{SCENARIO.destination}:{port}" for port in (443, 8443, 5432, 6379)
)
#: The prober has no route to it, which slirp4netns says as a router would.
ROUTELESS = "198.51.100.1:443"
#: A router that listens nowhere.
ROUTER = f"{SCENARIO.address(3)}:80"
ENDPOINTS = (OPEN, CLOSED, DROPPED, PROHIBITED, ROUTELESS)
ENGINES = ("syn", "connect")


# -- user-mode networks ----------------------------------------------------------------


NETWORKS: dict[str, Callable[[Lab], Any]] = {"slirp": slirp, "passt": passt}


@pytest.fixture
def outer(open_lab: OpenLab) -> Lab:
    """The lab around, with an inner namespace that nothing leads to yet."""
    lab = open_lab(SCENARIO)
    lab.run(["ip", "route", "add", "unreachable", ROUTELESS.partition(":")[0]], check=True)
    lab.run(["ip", "netns", "add", "inner"], check=True)
    return lab


def traced(lab: Lab, engine: str, endpoint: str, *wrapper: str) -> Any:
    """What `trace --json` prints."""
    done = lab.run(
        [*wrapper, *WRAPPERS.get(engine, ()), *COMMAND, "trace", "--json", endpoint],
        cwd=ROOT,
        env=environment(lab, ENGINE=engine),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def traced_side_by_side(lab: Lab, engine: str, *wrapper: str) -> dict[str, Any]:
    """Endpoint -> what `trace --json` prints; most of a trace's time is waiting."""
    with ThreadPoolExecutor(len(ENDPOINTS)) as pool:
        found = pool.map(lambda endpoint: traced(lab, engine, endpoint, *wrapper), ENDPOINTS)
        return dict(zip(ENDPOINTS, found, strict=True))


#: Endpoint -> the states that are true of it, as far as each network lets anybody know.
TRUTH = {
    "slirp": {OPEN: {"open"}, CLOSED: {"closed"}},
    # passt is confused by several SYNs of one flow: what the syn engine sends to an open port.
    "passt": {OPEN: {"open", "inconclusive"}, CLOSED: {"closed", "inconclusive"}},
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("network", NETWORKS)
def test_behind_a_user_mode_network_nothing_is_placed(
    outer: Lab, network: str, engine: str
) -> None:
    """No block, no hop and no location; open and closed without a distance, and never high."""
    with NETWORKS[network](outer):
        found = traced_side_by_side(outer, engine, *INNER)
    for endpoint, one in found.items():
        verdict = one["verdict"]
        assert verdict["state"] in TRUTH[network].get(endpoint, {"inconclusive"}), verdict
        assert verdict["last_reachable_hop"] == verdict["blocked_at_hop"] == 0
        assert (verdict["suspect_hops"], verdict["blocked_by"]) == (None, None)
        assert verdict["location"] == "none"
        assert verdict["confidence"] != "high"
        assert one["gateway"]


def test_a_router_without_a_route_and_slirp_say_the_same(outer: Lab) -> None:
    """An error for TTL 1, in the gateway's name and fresh: no single trace can tell them apart."""
    with slirp(outer):
        (hop,) = traced(outer, "syn", ROUTELESS, *INNER)["hops"]
    (responder,) = hop["responders"]
    assert responder["reply"] == "unreachable"
    assert (responder["icmp"], responder["reply_ttl"], responder["rewritten"]) == ([3, 1], 255, [])


@pytest.mark.parametrize("engine", ENGINES)
def test_serve_says_that_it_cannot_trace_behind_slirp(outer: Lab, engine: str) -> None:
    """Once in the log, on the page and in the engine's reason; plain connects go on."""
    targets = {"web": OPEN, "admin": ROUTER, "db": DROPPED, "gone": ROUTELESS}
    settings = {
        "ENDPOINTS": " ".join(f"{name}={endpoint}" for name, endpoint in targets.items()),
        "ENGINE": engine,
        "INTERVAL_SECONDS": "4",
    }
    with slirp(outer), exporting(outer, settings, *INNER) as exporter:
        line = exporter.wait_for("tracing is not possible here")
        assert "WARNING" in line
        assert "over IPv4, destinations behind a gateway answer at TTL 1" in line
        exporter.wait_for_traces(*targets)  # and as many once more, which know it
        assert "Tracing is not possible here:" in exporter.fetch("/")[1]
        metrics = exporter.metrics()
        objects = {
            one["target"]: one
            for one in json.loads(exporter.fetch("/api/v1/targets")[1])["targets"]
        }
    assert sum("tracing is not possible here: over" in line for line in exporter.log) == 1
    (reason,) = (name for name in metrics if name.startswith("egress_engine_info"))
    assert f'engine="{engine}"' in reason
    assert "tracing is not possible here: over IPv4" in reason
    assert metrics['egress_connect_success{target="web"}'] == 1
    assert metrics['egress_connect_success{target="db"}'] == 0
    for target in targets:
        assert metrics[f'egress_blocked_at_hop{{target="{target}"}}'] == 0
        assert metrics[f'egress_blocked{{location="none",target="{target}"}}'] == 1
    states = {name: one["verdict"]["state"] for name, one in objects.items()}
    assert states == {
        "web": "open",
        "admin": "closed",
        "db": "inconclusive",
        "gone": "inconclusive",
    }
    assert "connect() fails" in objects["gone"]["verdict"]["reason"]


# -- a network that delivers no time-exceeded ------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_serve_without_time_exceeded(open_lab: OpenLab, engine: str) -> None:
    """Where none ever arrives it is said, what is reached has its distance, and no block a hop."""
    lab = open_lab(SCENARIO)
    deaf = "table inet deaf { chain in { type filter hook input priority filter;\n"
    deaf += "icmp type time-exceeded drop\n}\n}\n"
    lab.run(["nft", "-f", "-"], input=deaf, text=True, check=True)
    targets = {"web": OPEN, "admin": ROUTER, "db": DROPPED}
    settings = {
        "ENDPOINTS": " ".join(f"{name}={endpoint}" for name, endpoint in targets.items()),
        "ENGINE": engine,
        "INTERVAL_SECONDS": "4",
    }
    with exporting(lab, settings) as exporter:
        line = exporter.wait_for("tracing is not possible here")
        assert "destinations are reached and no router on the way says time-exceeded" in line
        exporter.wait_for_traces(*targets)
        metrics = exporter.metrics()
    assert metrics['egress_last_reachable_hop{target="web"}'] == SCENARIO.hops
    assert metrics['egress_state{state="inconclusive",target="db"}'] == 1
    assert metrics['egress_blocked_at_hop{target="db"}'] == 0


# -- a router that rewrites sequence numbers -------------------------------------------

REWRITER = 2


@pytest.fixture
def rewriting(open_lab: OpenLab) -> Lab:
    """The chain; its second router gives every SYN that it forwards one sequence number.

    No answer of the destination fits any more, as it does behind a firewall that translates both
    ways; the quotes that come back are the same.
    """
    lab = open_lab(SCENARIO)
    lab.nft(
        REWRITER,
        "table inet rewriter { chain out { type filter hook forward priority mangle;\n"
        'iifname "near" tcp flags syn @th,32,32 set 0x12345678\n}\n}\n',
    )
    return lab


def test_the_connect_engine_is_half_blind_behind_a_rewriter(rewriting: Lab) -> None:
    """It sees the rewriter and nothing behind, counts what it misses and says who would see it."""
    found = traced(rewriting, "connect", DROPPED)
    verdict = found["verdict"]
    assert found["unseen_icmp_errors"] > 0
    assert (verdict["state"], verdict["confidence"]) == ("filtered", "low")
    assert verdict["last_reachable_hop"] == REWRITER
    assert f"at hop {REWRITER} or behind it" in verdict["reason"]
    assert "CAP_NET_RAW" in verdict["reason"]
    assert verdict["location"] == "unknown"


def test_the_syn_engine_sees_past_a_rewriter(rewriting: Lab) -> None:
    """It finds the true block, and says from where on the number is another one."""
    found = traced(rewriting, "syn", DROPPED)
    assert found["verdict"]["last_reachable_hop"] == 6
    assert found["unseen_icmp_errors"] == 0
    rewritten = [
        hop["hop"] for hop in found["hops"] for one in hop["responders"] if one["rewritten"]
    ]
    assert rewritten == [3, 4, 5, 6]
    assert "differ in sequence number" in " ".join(found["verdict"]["evidence"])


def test_serve_counts_what_the_connect_engine_misses(rewriting: Lab) -> None:
    """The counter of the program rises with the first trace."""
    settings = {"ENDPOINTS": f"db={DROPPED}", "ENGINE": "connect"}
    with exporting(rewriting, settings) as exporter:
        exporter.wait_for_traces("db")
        assert exporter.metrics()["egress_unseen_icmp_errors_total"] > 0


# -- the engine's own line -------------------------------------------------------------


@pytest.mark.parametrize("command", [["trace", OPEN], ["check"], ["serve"]])
def test_the_syn_engine_without_privilege(open_lab: OpenLab, command: list[str]) -> None:
    """ENGINE=syn without CAP_NET_RAW ends with status 2 and one line that names the remedy."""
    lab = open_lab(SCENARIO)
    done = lab.run(
        [*WRAPPERS["connect"], sys.executable, "-m", "exporter", *command],
        cwd=ROOT,
        env=environment(lab, ENGINE="syn", ENDPOINTS=OPEN),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("ENGINE=syn: ")
    assert "CAP_NET_RAW" in line

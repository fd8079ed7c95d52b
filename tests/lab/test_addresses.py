"""Names with addresses of both families, in a lab whose resolver reads a hosts file of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.lab.chain import CHAIN, OPEN
from tests.lab.exporting import COMMAND, ROOT, environment, exporting
from tests.lab.lab import Lab, at
from tests.scenarios import NUMBERINGS

HOPS = CHAIN.hops
V4, V6 = (replace(CHAIN, family=family).destination for family in ("ipv4", "ipv6"))
#: One more address of the destination's host.
V4_TOO = V4.removesuffix(".2") + ".3"
HOSTS = f"""\
{V4} both.example four.example many.example
{V6} both.example six.example many.example
{V4_TOO} many.example
127.0.0.1 localhost
::1 localhost
"""
#: The firewall of the second hop drops IPv4 to the name's first IPv4 address only.
DROP_V4 = f"add rule inet lab forward ip daddr {V4} tcp dport {OPEN} drop"
PLATFORM = ",".join(numbering.network(0) for numbering in NUMBERINGS.values())
EXIT_STATUS = {"open": 0, "filtered": 1}
UNKNOWN = 4
#: What getaddrinfo gives an application that asks as the C library's own default does.
APPLICATION = """
import socket
flags = socket.AI_ADDRCONFIG
print(socket.getaddrinfo("both.example", 443, type=socket.SOCK_STREAM, flags=flags)[0][4][0])
"""


@dataclass(frozen=True, slots=True)
class Traced:
    """How `trace --json` ended and what it printed."""

    status: int
    found: dict[str, Any]

    @property
    def state(self) -> str:
        """The state of the target."""
        return str(self.found["verdict"]["state"])

    @property
    def reason(self) -> str:
        """The sentence."""
        return str(self.found["verdict"]["reason"])

    @property
    def addresses(self) -> dict[str, str]:
        """Address -> state, in the order that is published."""
        return {one["address"]: one["verdict"]["state"] for one in self.found["addresses"]}


@pytest.fixture
def names(lab: Lab, tmp_path: Path) -> Lab:
    """The chain with names, a second IPv4 address at its end, and IPv4 to the first one dropped."""
    for name, text in {"hosts": HOSTS, "nsswitch.conf": "hosts: files\n"}.items():
        file = tmp_path / name
        file.write_text(text)
        file.chmod(0o644)
        # The lab has a mount namespace of its own.
        lab.run(["mount", "--bind", str(file), f"/etc/{name}"], check=True)
    lab.run(at(HOPS, ["ip", "address", "add", f"{V4_TOO}/24", "dev", "near"]), check=True)
    lab.nft(2, DROP_V4)
    return lab


def trace(lab: Lab, host: str, **settings: str) -> Traced:
    """Trace the open port of a name."""
    done = lab.run(
        [*COMMAND, "trace", "--json", f"{host}:{OPEN}"],
        cwd=ROOT,
        env=environment(lab, **{**settings, "PLATFORM_NETWORKS": PLATFORM}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    return Traced(done.returncode, json.loads(done.stdout))


# -- the choice of family --------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "address", "state"), [("ipv4", V4, "filtered"), ("ipv6", V6, "open")]
)
def test_the_family_that_is_configured_is_traced(
    names: Lab, family: str, address: str, state: str
) -> None:
    """Of a name with both, the address of the wanted family, and what it is is published."""
    seen = trace(names, "both.example", FAMILY=family)
    assert (seen.found["address"], seen.found["family"]) == (address, family)
    assert (seen.state, seen.status) == (state, EXIT_STATUS[state])
    assert seen.found["addresses"] == []


def test_without_a_family_the_applications_address_is_traced(names: Lab) -> None:
    """With family auto it is the address that getaddrinfo puts first on this host."""
    asked = names.run([sys.executable, "-I", "-c", APPLICATION], capture_output=True, check=True)
    assert trace(names, "both.example").found["address"] == asked.stdout.decode().strip()


@pytest.mark.parametrize(
    ("host", "family", "has"), [("four", "ipv6", "IPv4"), ("six", "ipv4", "IPv6")]
)
def test_a_name_of_the_other_family_is_unresolved(
    names: Lab, host: str, family: str, has: str
) -> None:
    """Nothing is traced, and the reason names what the name has and what was wanted."""
    seen = trace(names, f"{host}.example", FAMILY=family)
    assert (seen.state, seen.status, seen.found["address"]) == ("unresolved", UNKNOWN, None)
    assert seen.reason == (
        f"Not measured: {host}.example does not resolve: it has {has} addresses only, and family "
        f"is {family}."
    )


# -- all addresses ---------------------------------------------------------------------


def test_one_blocked_address_of_several(names: Lab) -> None:
    """The blocked one is the target's verdict, and the first sentence says that others are open."""
    seen = trace(names, "many.example", ALL_ADDRESSES="true")
    assert (seen.state, seen.status, seen.found["address"]) == ("filtered", 1, V4)
    assert seen.addresses == {V4: "filtered", V6: "open", V4_TOO: "open"}
    first = seen.reason.partition(". ")[0]
    assert first.startswith(f"1 of 3 addresses of many.example fails: {V4} is filtered, ")
    assert first.endswith("are open")
    assert (seen.found["verdict"]["last_reachable_hop"], seen.found["verdict"]["location"]) == (
        2,
        "external",
    )
    assert [one["verdict"]["last_reachable_hop"] for one in seen.found["addresses"]] == [2, 4, 4]
    assert {one["address"]: one["source"] for one in seen.found["addresses"]} == {
        V4: CHAIN.source,
        V6: replace(CHAIN, family="ipv6").source,
        V4_TOO: CHAIN.source,
    }


def test_a_host_without_ipv6(names: Lab) -> None:
    """Where this host has no IPv6 an application passes such addresses over; so do verdicts."""
    for argv in (
        ["route", "del", "default"],
        ["address", "flush", "dev", "far", "scope", "global"],
    ):
        names.run(["ip", "-6", *argv], check=True)
    assert trace(names, "both.example").found["address"] == V4
    names.nft(2, "flush chain inet lab forward")
    seen = trace(names, "both.example", ALL_ADDRESSES="true")
    assert (seen.state, seen.found["address"]) == ("open", V4)
    assert seen.addresses == {V4: "open", V6: "error"}
    assert "not counted" in seen.found["verdict"]["evidence"][-1]
    alone = trace(names, "both.example", FAMILY="ipv6")
    assert (alone.state, alone.found["failure"]["reason"]) == ("error", "no_route")


def test_every_view_shows_every_address(names: Lab, tmp_path: Path) -> None:
    """Series, page and log of `serve` have all addresses, the one that fails first."""
    file = tmp_path / "targets.yml"
    file.write_text(
        f"targets: [{{name: db, host: many.example, port: {OPEN}, all_addresses: true}}]\n"
    )
    with exporting(names, {"CONFIG_FILE": str(file)}) as exporter:
        exporter.wait_for("verdict: filtered")
        log = "".join(exporter.log)
        assert f"INFO db: many.example:{OPEN} ({V4}) from {CHAIN.source}" in log
        assert f"also {V6}: open, reached at hop {HOPS}" in log
        metrics = exporter.metrics()
        states = {name for name in metrics if name.startswith("egress_address_info{")}
        assert states == {
            f'egress_address_info{{address="{address}",family="{family}",state="{state}",'
            'target="db"}'
            for address, family, state in (
                (V4, "ipv4", "filtered"),
                (V4_TOO, "ipv4", "open"),
                (V6, "ipv6", "open"),
            )
        }
        assert metrics[f'egress_destination_info{{address="{V4}",family="ipv4",target="db"}}'] == 1
        page = exporter.fetch("/targets/db")[1]
        assert page.index(f"Latest trace to {V4}<") < page.index(f"Latest trace to {V6}<")
        assert f" {HOPS}  {V6} [open]" in page

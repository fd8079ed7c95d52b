"""The host and its network fail, and come back: nobody else is blamed, and probing goes on."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from tests import scenarios
from tests.lab.chain import counted
from tests.lab.conftest import OpenLab
from tests.lab.engines import RemoteEngine
from tests.lab.lab import Lab
from tests.lab.observing import Observer

MID_PATH = scenarios.load(scenarios.FOLDER / "mid_path_firewall.toml")
CHAIN = replace(
    MID_PATH,
    name="plain",
    hops=3,
    platform_hops=0,
    open_ports=(443, 444),
    rules=(),
    expectations=(),
)
DESTINATION = CHAIN.destination
WEB, OTHER = f"{DESTINATION}:443", f"{DESTINATION}:444"
NO_TABLE = "delete table ip own"

OpenObserver = Callable[..., Observer]


def own_firewall(statement: str) -> str:
    """The nft text of the prober's own output chain."""
    return (
        f"table ip own {{\nchain output {{ type filter hook output priority 0; {statement}; }}\n}}"
    )


@pytest.fixture
def lab(open_lab: OpenLab) -> Lab:
    """The chain, running."""
    return open_lab(CHAIN)


@pytest.fixture
def observing(lab: Lab) -> Iterator[OpenObserver]:
    """Opens observers that end with the test."""
    with ExitStack() as stack:
        yield lambda *endpoints: stack.enter_context(Observer(lab, *endpoints))


def state(observation: Any) -> str:
    """The conclusion of an observation."""
    return str(observation["verdict"]["state"])


def works(syn: RemoteEngine, flow: int, attempt: int) -> bool:
    """Whether a probe goes out on an open flow and is answered."""
    syn("send", flow, 64, attempt)
    return [seen.attempt for seen in syn.receive(1)] == [attempt]


# -- what the engine says --------------------------------------------------------------


def test_the_hosts_own_firewall(lab: Lab, syn: RemoteEngine) -> None:
    """What the host's output chain drops is a matter of permission, as long as it does."""
    flow = syn("open", DESTINATION, 443)
    lab.nft(0, own_firewall("tcp dport 443 drop"))
    assert syn("send", flow, 1) == {"failure": "permission"}
    lab.nft(0, NO_TABLE)
    assert works(syn, flow, 2)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("unreachable", "no_route"),
        ("blackhole", "no_route"),
        ("prohibit", "permission"),
        ("throw", "no_route"),
    ],
)
def test_a_route_that_leads_nowhere(lab: Lab, syn: RemoteEngine, kind: str, reason: str) -> None:
    """A route that refuses does so when a flow is opened, and on an open one at each send."""
    flow = syn("open", DESTINATION, 443)
    lab.run(["ip", "route", "del", "default"], check=True)
    lab.run(["ip", "route", "add", kind, "default"], check=True)
    assert syn("open", DESTINATION, 443) == {"failure": reason}
    assert syn("send", flow, 1) == {"failure": reason}
    lab.run(["ip", "route", "del", kind, "default"], check=True)
    lab.run(["ip", "route", "add", "default", "via", "10.9.0.2"], check=True)
    assert works(syn, flow, 2)


def test_the_interface_goes_down_and_up(lab: Lab, syn: RemoteEngine) -> None:
    """While the interface is down there is no route; when it is up the same flow goes on."""
    flow = syn("open", DESTINATION, 443)
    assert works(syn, flow, 1)
    lab.link(0, up=False)
    assert syn("send", flow, 1, 2) == {"failure": "no_route"}
    assert syn("open", DESTINATION, 443) == {"failure": "no_route"}
    lab.link(0, up=True)
    assert works(syn, flow, 3)
    assert works(syn, syn("open", DESTINATION, 443), 1)


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.EAGAIN, errno.ENOMEM])
def test_no_room_to_send(syn: RemoteEngine, number: int) -> None:
    """A full queue is the host's own trouble, and over when there is room again."""
    flow = syn("open", DESTINATION, 443)
    syn("refuse", number, 2)
    for attempt in (1, 2):
        assert syn("send", flow, 64, attempt) == {"failure": "internal"}
    assert works(syn, flow, 3)


def test_a_refused_probe_is_not_waited_for(syn: RemoteEngine) -> None:
    """A probe that was refused is not one that was sent."""
    flow = syn("open", DESTINATION, 443)
    syn("refuse", errno.ENOBUFS, 1)
    syn("send", flow, 64, 1)
    assert works(syn, flow, 2)
    assert syn("release", flow) == 0
    assert syn("counts") == {"foreign": 0, "malformed": 0}


# -- what the program makes of it ------------------------------------------------------


def test_an_observation_without_an_interface(lab: Lab, observing: OpenObserver) -> None:
    """A host without a network is an error of its own; afterwards the target is open again."""
    web = observing(WEB)
    assert state(web.observe()[0]) == "open"
    lab.link(0, up=False)
    (seen,) = web.observe()
    assert state(seen) == "error"
    assert "no route" in seen["verdict"]["reason"]
    assert seen["verdict"]["location"] == "none"
    lab.link(0, up=True)
    assert state(web.observe()[0]) == "open"


def test_a_neighbour_that_is_gone(lab: Lab, observing: OpenObserver) -> None:
    """When the next hop answers to ARP no more, nobody farther away is blamed for it."""
    web = observing(WEB)
    lab.link(1, up=False)
    (seen,) = web.observe()
    # The kernel gives up on ARP after 3 s, or later when it learns late that the link is gone.
    assert state(seen) in {"unreachable", "inconclusive"}
    assert seen["verdict"]["location"] in {"unknown", "none"}
    assert seen["verdict"]["suspect_hops"] in ([1, 1], None)
    lab.link(1, up=True)
    assert state(web.observe()[0]) == "open"


def test_the_interface_goes_down_during_a_trace(lab: Lab, observing: OpenObserver) -> None:
    """Losing the interface half-way is never a block, and the next trace is as good as new."""
    both = observing(f"{DESTINATION}:445", WEB)
    lab.nft(2, 'add rule inet lab forward iifname "near" tcp dport 445 counter drop')
    both.begin()
    while counted(lab, 2, "forward") == [0]:  # from then on silence takes seconds to confirm
        pass
    lab.link(0, up=False)
    assert state(both.end()[0]) == "error"
    lab.link(0, up=True)
    assert [state(seen) for seen in both.observe()] == ["filtered", "open"]


def test_the_hosts_own_firewall_blocks_one_target(lab: Lab, observing: OpenObserver) -> None:
    """A target that the host itself drops is an error, the one beside it is open."""
    both = observing(WEB, OTHER)
    lab.nft(0, own_firewall("tcp dport 443 drop"))
    web, other = both.observe()
    assert state(web) == "error"
    assert "firewall or policy" in web["verdict"]["reason"]
    assert state(other) == "open"
    lab.nft(0, NO_TABLE)
    assert [state(seen) for seen in both.observe()] == ["open", "open"]


def test_a_name_that_does_not_resolve(observing: OpenObserver) -> None:
    """Without name servers a name is unresolved, and an address beside it is traced."""
    named, web = observing("no-such-name.invalid:443", WEB).observe()
    assert state(named) == "unresolved"
    assert state(web) == "open"

"""The JSON object that `trace --json`, the API and the JSON log share: its keys are a promise."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from exporter.model import Observation
from exporter.publish.objects import (
    logged_object,
    observation_object,
    record_object,
    target_objects,
    to_json,
)
from exporter.store import Store
from tests.conftest import Golden
from tests.unit import samples

#: The design's object, and what was added to it.
KEYS = {
    "": "target host port address source engine started_at duration_seconds stop_reason "
    "gateway unseen_icmp_errors hops flows controls "
    "verdict labels confirmation connect failure family addresses",
    "hop": "hop sent received shared responders condition",
    "responder": "address name zone side as reply icmp rtt_seconds reply_ttl mpls rewritten",
    "verdict": "state last_reachable_hop blocked_at_hop suspect_hops blocked_by location "
    "confidence reason evidence flows flows_blocked",
}


def parsed(observation: Observation) -> Any:
    """The object as a script reads it."""
    return json.loads(to_json(observation_object(observation)))


def of_target(store: Store, name: str) -> Any:
    """The API's object of a target as a script reads it."""
    record = store.get(name)
    assert record
    return json.loads(to_json(record_object(record)))


@pytest.mark.parametrize("kind", samples.SAMPLES)
def test_each_kind_is_the_object_of_its_golden_file(kind: str, golden: Golden) -> None:
    """The object of each kind of observation is the approved one."""
    golden(f"{kind}.json", to_json(observation_object(samples.SAMPLES[kind]), indent=1) + "\n")


@pytest.mark.parametrize("kind", samples.SAMPLES)
def test_every_kind_has_the_same_keys(kind: str) -> None:
    """A script finds each key in every object, with null or [] where there is nothing."""
    made = parsed(samples.SAMPLES[kind])
    hops = made["hops"]
    assert set(made) == set(KEYS[""].split())
    assert set(made["verdict"]) == set(KEYS["verdict"].split())
    assert all(set(hop) == set(KEYS["hop"].split()) for hop in hops)
    responders = [responder for hop in hops for responder in hop["responders"]]
    assert all(set(responder) == set(KEYS["responder"].split()) for responder in responders)


def test_every_probed_hop_is_there() -> None:
    """Silent hops count as probed: loss can be computed from the object."""
    hops = parsed(samples.filtered())["hops"]
    assert [hop["hop"] for hop in hops] == list(range(1, 31))
    assert hops[6] == {
        "hop": 7,
        "sent": 3,
        "received": 0,
        "shared": False,
        "responders": [],
        "condition": None,
    }


def test_the_hops_of_a_load_balancer_are_kept_apart() -> None:
    """Each responder of a hop has its own round-trip times, in the order of the attempts."""
    (first, second) = parsed(samples.varied())["hops"][2]["responders"]
    assert (first["address"], first["rtt_seconds"]) == ("10.9.2.2", [0.00301, 0.00303])
    assert (second["address"], second["rtt_seconds"]) == ("10.9.2.6", [0.00302])


def test_each_address_has_its_own_object() -> None:
    """With all addresses there is one for each, the worst first, with trace and verdict."""
    made = parsed(samples.several())
    first, second, third = made["addresses"]
    assert (made["address"], made["family"]) == (first["address"], first["family"])
    assert (first["hops"], first["connect"]) == (made["hops"], made["connect"])
    assert (second["address"], second["family"], second["hops"]) == ("2001:db8::1", "ipv6", [])
    assert (third["family"], third["verdict"]["state"]) == ("ipv4", "open")
    assert len(third["hops"]) == samples.DISTANCE
    assert made["verdict"]["reason"].endswith(first["verdict"]["reason"])


def test_the_log_has_the_state_of_each_address() -> None:
    """A log entry has a bound: of further addresses it tells the state."""
    made = json.loads(to_json(logged_object(samples.several())))
    assert made["addresses"] == [
        {"address": samples.DESTINATION, "state": "filtered"},
        {"address": "2001:db8::1", "state": "error"},
        {"address": samples.DESTINATION_TOO, "state": "open"},
    ]
    alone = samples.filtered()
    assert logged_object(alone) == observation_object(alone)


def test_the_family_is_that_of_the_address() -> None:
    """A script need not look at the address to tell its family; without one it is null."""
    assert parsed(replace(samples.opened(), address="2001:db8::1"))["family"] == "ipv6"
    assert parsed(samples.opened())["family"] == "ipv4"
    assert parsed(samples.unresolved())["family"] is None


def test_a_failure_of_the_trace_alone_is_shown() -> None:
    """The trace's own failure stands there even if the cycle names none."""
    made = parsed(replace(samples.refused_by_host(), failure=None))
    assert made["failure"] == {"reason": "permission", "message": "Operation not permitted"}


def test_a_target_that_waits_has_the_same_keys_as_any_other() -> None:
    """Before its first trace a target is listed, with nulls."""
    store = samples.store(samples.opened(), waiting=[samples.target("next")])
    seen, waiting = (json.loads(to_json(one)) for one in target_objects(store))
    assert set(seen) == set(waiting)
    assert (waiting["target"], waiting["verdict"], waiting["hops"]) == ("next", None, [])
    assert (waiting["state_since"], seen["state_since"]) == (None, "2026-01-01T00:00:00.000Z")


def test_last_good_and_first_bad_stand_beside_the_latest() -> None:
    """A target's own object has all three observations, each with its time."""
    good, bad = samples.opened(), replace(samples.filtered(), target=samples.opened().target)
    moments = [good, *(replace(bad, started_at=samples.STARTED_AT + n) for n in (60, 120))]
    made = of_target(samples.store(*moments), "web")
    assert made["started_at"] == "2026-01-01T00:02:00.000Z"
    assert made["last_good"]["started_at"] == "2026-01-01T00:00:00.000Z"
    assert made["first_bad"]["started_at"] == "2026-01-01T00:01:00.000Z"
    assert made["state_since"] == "2026-01-01T00:01:00.000Z"


def test_a_target_without_observations_has_neither() -> None:
    """What has not been seen is null."""
    made = of_target(samples.store(waiting=[samples.target("next")]), "next")
    assert (made["last_good"], made["first_bad"]) == (None, None)
    assert (made["change"], made["flapping"], made["path_change"]) == (None,) * 3
    assert made["history"] == []


def test_what_has_changed_stands_beside_the_latest() -> None:
    """The last change in every list, the history and the path's change with the target alone."""
    good = samples.opened()
    bad = replace(samples.filtered(), target=good.target)
    store = samples.store(*(good, bad) * 3)
    made = of_target(store, "web")
    (listed,) = (json.loads(to_json(one)) for one in target_objects(store))
    assert made["change"] == listed["change"]
    assert (made["change"]["was"], made["change"]["state"]) == ("open", "filtered")
    assert made["flapping"] == listed["flapping"]
    assert made["flapping"]["between"] == ["open", "filtered"]
    assert len(made["history"]) == 5
    assert "history" not in listed


def test_hostile_text_is_escaped_and_comes_back_as_it_was() -> None:
    """JSON holds nothing but printable ASCII, and a script reads the very text."""
    written = to_json(observation_object(samples.hostile()))
    assert written.isascii()
    assert written.isprintable()
    made = json.loads(written)
    assert made["target"] == made["verdict"]["reason"] == samples.HOSTILE
    assert made["verdict"]["evidence"] == [samples.HOSTILE] * 2
    assert made["labels"] == {"team": samples.HOSTILE}

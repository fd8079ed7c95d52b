"""The bench of scale runs, and what it holds the exporter against is the truth.

No figure is asserted: each part runs once with few targets.
"""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.accuracy.readers import Conclusion, compare, read_traceroute
from tests.bench import scale, scale_pools
from tests.bench.paths import BLOCKED, CLOSED_PORT, DROPPED_PORT, OPEN_PORT, delayed
from tests.bench.report import Part
from tests.bench.scale_service import Paced
from tests.bench.scale_truth import (
    FATES,
    ROUNDING,
    Aim,
    Journal,
    Told,
    aims,
    lags,
    percentile,
    score,
    times,
)
from tests.bench.test_bench_smoke import answers, syn
from tests.bench.tools import TRACEROUTE
from tests.bench.tun_network import (
    ECHO_REPLY,
    Entry,
    Layout,
    Network,
    address,
    journal,
)
from tests.lab.lab import LabError
from tests.lab.tun import checksum

pytestmark = pytest.mark.alone

#: When the trace of `told` began, on the wall clock; 1000 on the monotonic clock of its network.
BEGAN, OFFSET = 1_767_225_600.0, 1_767_224_600.0
DROPPED, REJECTED = Aim(1), Aim(2)


def echo_request(path: int, ttl: int) -> bytes:
    """An echo request with four octets of payload."""
    destination = IPv4Address(address(path, BLOCKED.hops)).packed
    header = bytes((0x45, 0, 0, 32, 0, 7, 0, 0, ttl, 1, 0, 0, 10, 9, 0, 1)) + destination
    return header + bytes((8, 0, 0, 0)) + b"\x01\x02\x00\x07" + b"load"


def told(aim: Aim) -> Told:
    """A target as the API shows it when everything is right; each round trip takes 5 ms."""
    truth = aim.truth
    return {
        "started_at": "2026-01-01T00:00:00.000Z",
        "duration_seconds": 2.0,
        "flows": [{"source_port": 7}],
        "hops": [
            {
                "hop": hop,
                "received": 1,
                "responders": [{"address": aim.router(hop), "rtt_seconds": [0.005]}],
            }
            for hop in range(1, truth.last_reachable_hop + 1)
        ],
        "verdict": {
            "state": truth.state,
            "last_reachable_hop": truth.last_reachable_hop,
            "blocked_at_hop": truth.blocked_at_hop,
            "suspect_hops": list(truth.suspect_hops) if truth.suspect_hops else None,
            "blocked_by": aim.router(truth.blocked_by) if truth.blocked_by else None,
            "location": truth.location,
        },
    }


def entry(aim: Aim, ttl: int, taken: float, source_port: int = 1, took: float = 0.004) -> Entry:
    """What the network wrote down of a SYN that was answered."""
    destination = IPv4Address(aim.host).packed
    return Entry(destination, source_port, aim.port, ttl, ttl, taken, taken + took)


def test_every_fate_has_a_quarter_of_the_targets() -> None:
    """Open, dropped, rejected and closed take turns, each on a path of its own."""
    crowd = aims(40)
    assert [sum(aim.port == port for aim in crowd) for port in FATES] == [10] * 4
    assert len({aim.host for aim in crowd}) == 40


def test_the_first_hops_are_shared_and_the_others_are_the_paths_own() -> None:
    """What a target should show at a hop is what the network answers there."""
    network = Network(BLOCKED, Layout(shared_hops=4, limited=False))
    for hop in range(1, BLOCKED.hops):
        [error] = answers(network, syn(300, hop, OPEN_PORT))
        assert str(IPv4Address(error[12:16])) == Aim(300).router(hop)


def test_an_echo_request_is_answered_where_the_layout_says_so() -> None:
    """The destination sends its payload back, a router says that its time is exceeded."""
    network = Network(BLOCKED, Layout(echo=True))
    [reply] = answers(network, echo_request(3, 64))
    assert reply[12:16] == IPv4Address(address(3, BLOCKED.hops)).packed
    assert reply[20] == ECHO_REPLY
    assert reply[24:] == echo_request(3, 64)[24:]
    assert checksum(reply[20:]) == 0xFFFF  # of one that is right
    [error] = answers(network, echo_request(3, 6))
    assert error[12:16] == IPv4Address(address(3, 6)).packed
    assert answers(Network(BLOCKED, Layout()), echo_request(3, 64)) == []


def test_the_journal_tells_what_became_of_each_syn(tmp_path: Path) -> None:
    """Who answered and when it really did; a dropped SYN has no time of an answer."""
    written = BytesIO()
    network = Network(delayed(), Layout(), written)
    assert len(answers(network, syn(3, 5, OPEN_PORT), syn(3, 9, DROPPED_PORT), at=10.0)) == 1
    file = tmp_path / "journal"
    file.write_bytes(written.getvalue())
    dropped, answered = journal(file)
    assert (answered.ttl, answered.hop, answered.port) == (5, 5, OPEN_PORT)
    assert (answered.taken, answered.answered) == (10.0, 11.0)
    assert (dropped.ttl, dropped.hop, dropped.answered) == (9, 6, 0.0)


@pytest.mark.parametrize("aim", aims(4), ids=lambda aim: aim.truth.state)
def test_the_truth_is_right(aim: Aim) -> None:
    """What agrees with the network in everything has no mistake and every hop."""
    found = score(aim, told(aim), BEGAN)
    assert (found.verdicts, found.wrong, found.mistaken) == (1, (), 0)
    assert found.found == found.own == found.hops == aim.truth.last_reachable_hop


def test_a_wrong_verdict_is_told_with_the_truth() -> None:
    """Each part that differs stands in one line."""
    answer = told(REJECTED)
    answer["verdict"] |= {"state": "filtered", "blocked_by": None}
    [line] = score(REJECTED, answer, BEGAN).wrong
    assert line == (
        f"target-2 (rejected): state filtered for rejected, "
        f"blocked_by None for {REJECTED.router(6)}"
    )


def test_an_old_trace_is_no_verdict() -> None:
    """What was right in the cycle before says nothing about this one."""
    assert score(DROPPED, told(DROPPED), BEGAN + 1).wrong == ("target-1: no verdict in this cycle",)
    missing = told(DROPPED) | {"verdict": None, "started_at": None, "hops": []}
    assert len(score(DROPPED, missing, 0.0).wrong) == 1


def test_hops_count_as_found_by_their_right_address_alone() -> None:
    """A shared hop counts, but not as the trace's own; somebody else's address is a mistake."""
    answer = told(DROPPED)
    answer["hops"][0]["received"] = 0
    answer["hops"][5]["responders"][0]["address"] = "192.0.2.9"
    found = score(DROPPED, answer, BEGAN)
    assert (found.found, found.own, found.mistaken) == (5, 4, 1)


def test_a_rejecter_may_answer_behind_its_own_hop() -> None:
    """A SYN with a higher TTL is rejected by the device at hop 6, and that is no mistake."""
    answer = told(REJECTED)
    behind = {"hop": 7, "received": 1, "responders": [{"address": REJECTED.router(6)}]}
    answer["hops"].append(behind)
    assert score(REJECTED, answer, BEGAN).mistaken == 0


def test_round_trips_are_held_against_those_of_the_same_syns() -> None:
    """Of the trace's own flow and time; further flows and other cycles are left out."""
    found = Journal(
        [
            entry(DROPPED, 2, 900.0, took=0.1),
            entry(DROPPED, 2, 1000.0, source_port=7, took=0.1),
            entry(DROPPED, 64, 1000.0, took=0.1),
            entry(DROPPED, 2, 1000.5),
            entry(Aim(5), 2, 1000.5, took=0.1),
            entry(DROPPED, 2, 1002.0 + 2 * ROUNDING, took=0.1),
        ]
    )
    compared = times(found, [(DROPPED, told(DROPPED))], OFFSET)
    assert compared.measured == pytest.approx((0.001,))
    assert compared.nominal == pytest.approx((abs(0.005 - 4 * delayed().delay),))
    # Of the other hops the network has written nothing down.
    assert compared.unpaired == 5


def test_hops_that_a_trace_did_not_ask_have_no_times_of_its_own() -> None:
    """They count where they were measured."""
    answer = told(DROPPED)
    for hop in answer["hops"]:
        hop["received"] = 0
    compared = times(Journal([entry(DROPPED, 2, 1000.5)]), [(DROPPED, answer)], OFFSET)
    assert (compared.measured, compared.unpaired) == ((), 0)


def test_the_network_tells_its_own_lateness() -> None:
    """What it took beyond the delay that the scenario says."""
    late = entry(DROPPED, 6, 1000.0, took=12 * delayed().delay + 0.001)
    assert lags([late, late._replace(answered=0.0)]) == pytest.approx([0.001])


def test_percentiles_are_figures_that_were_measured() -> None:
    """The nearest rank, the largest one where there are few."""
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([3.0, 1.0], 0.99) == 3.0


def test_what_the_others_print_is_read_by_the_same_truth() -> None:
    """Hops count by their right address, and the reader knows who drops."""
    routers = {hop: DROPPED.router(hop) for hop in range(1, 7)} | {4: "10.9.99.9"}
    hops = "".join(f"{hop:2}  {router}  1.1 ms\n" for hop, router in routers.items())
    printed = f"{hops} 7  * * *\n"
    assert scale_pools.found(DROPPED, printed) == 5
    reading = read_traceroute(printed, DROPPED.host)
    assert compare(reading, scale_pools.truth(DROPPED)) is Conclusion.RIGHT
    assert compare(reading, scale_pools.truth(Aim(FATES.index(CLOSED_PORT)))) is Conclusion.WRONG


def test_the_parts_of_scale_run() -> None:
    """Service and pool run from end to end with few targets, and nobody is mistaken."""
    few = replace(scale.SCALES[10], targets=4, interval=3, cycles=1, pace=Paced(1.0, 2.0))
    try:
        ours = scale.part([scale.observe(few)])
        pools = scale_pools.measure(1, [(TRACEROUTE, 1)], [], [])
    except LabError as error:
        pytest.fail(str(error), pytrace=False)
    assert cell(ours, "hops with a wrong address") == "0"
    assert cell(ours, "hops found of those that would answer one prober").endswith("% of 36")
    assert pools.rows[0][0] == "`traceroute -n -T -p PORT HOST`, 1 at a time"


def cell(part: Part, name: str) -> str:
    """The first figure of a row."""
    return next(row[1] for row in part.rows if row[0] == name)

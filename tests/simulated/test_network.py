"""The simulated network behaves as the Linux lab does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.model import FULL_TTL, Answer, Flow, ProbeError, Reply, ReplyKind
from tests.scenarios import FAMILIES, Rule, Scenario
from tests.simulated.chains import CLOSED_PORT, OPEN_PORT, chain
from tests.simulated.network import (
    CALM,
    ICMP_OF_ACTION,
    NO_BUFFER,
    NOT_PERMITTED,
    REFUSALS,
    Conditions,
    SendError,
    SimulatedNetwork,
)

#: One probe and its answer: scenario, TTL, port, and (kind, hop of the sender in whose name,
#: what an ICMP error says, hop from which it really comes, TTL in the quote).
Expected = tuple[ReplyKind, int, str | None, int, int | None]
DEAD = chain(destination_exists=False)
SINGLE_PROBES: dict[str, tuple[Scenario, int, int, Expected | None]] = {
    "expires at the first router": (
        chain(),
        1,
        OPEN_PORT,
        (ReplyKind.TIME_EXCEEDED, 1, "time-exceeded", 1, 1),
    ),
    "expires at the last router": (
        chain(),
        4,
        OPEN_PORT,
        (ReplyKind.TIME_EXCEEDED, 4, "time-exceeded", 4, 1),
    ),
    "just reaches an open port": (chain(), 5, OPEN_PORT, (ReplyKind.SYN_ACK, 5, None, 5, None)),
    "reaches an open port": (chain(), FULL_TTL, OPEN_PORT, (ReplyKind.SYN_ACK, 5, None, 5, None)),
    "reaches a closed port": (chain(), FULL_TTL, CLOSED_PORT, (ReplyKind.RST, 5, None, 5, None)),
    "expires at a silent router": (chain(silent=(3,)), 3, OPEN_PORT, None),
    "passes a silent router": (
        chain(silent=(3,)),
        4,
        OPEN_PORT,
        (ReplyKind.TIME_EXCEEDED, 4, "time-exceeded", 4, 1),
    ),
    "expires at a firewall that drops after its TTL check": (
        chain(rules=(Rule(3, "drop"),)),
        3,
        OPEN_PORT,
        (ReplyKind.TIME_EXCEEDED, 3, "time-exceeded", 3, 1),
    ),
    "is dropped in the forward chain": (chain(rules=(Rule(3, "drop"),)), 4, OPEN_PORT, None),
    "is dropped at ingress before the TTL check": (
        chain(rules=(Rule(3, "drop", chain="ingress"),)),
        3,
        OPEN_PORT,
        None,
    ),
    "passes a rule for another port": (
        chain(rules=(Rule(3, "drop", ports=(CLOSED_PORT,)),)),
        FULL_TTL,
        OPEN_PORT,
        (ReplyKind.SYN_ACK, 5, None, 5, None),
    ),
    "is rejected at ingress before the TTL check": (
        chain(rules=(Rule(3, "admin-prohibited", chain="ingress"),)),
        3,
        OPEN_PORT,
        (ReplyKind.UNREACHABLE, 3, "admin-prohibited", 3, 1),
    ),
    "would be rejected by a router that sends no errors": (
        chain(rules=(Rule(3, "admin-prohibited"),), silent=(3,)),
        4,
        OPEN_PORT,
        None,
    ),
    "is reset in mid-path in the destination's name": (
        chain(rules=(Rule(3, "tcp-reset"),)),
        4,
        OPEN_PORT,
        (ReplyKind.RST, 5, None, 3, None),
    ),
    "is rejected by the destination's own firewall": (
        chain(rules=(Rule(5, "port-unreachable", chain="input"),)),
        5,
        OPEN_PORT,
        (ReplyKind.UNREACHABLE, 5, "port-unreachable", 5, 1),
    ),
    "is dropped by the destination's own firewall": (
        chain(rules=(Rule(5, "drop", chain="input"),)),
        FULL_TTL,
        OPEN_PORT,
        None,
    ),
}
SINGLE_PROBES |= {
    f"is refused in the forward chain with {action}": (
        chain(rules=(Rule(3, action),)),
        7,
        OPEN_PORT,
        (ReplyKind.UNREACHABLE, 3, action, 3, 4),
    )
    for action in REFUSALS
}


class Bench:
    """One flow over a network, driven by hand."""

    def __init__(
        self, scenario: Scenario, port: int = OPEN_PORT, conditions: Conditions = CALM
    ) -> None:
        self.network = SimulatedNetwork(scenario, conditions)
        self.flow = self.network.open(scenario.destination, port)

    def burst(self, ttl: int, count: int, first: int = 1) -> None:
        """Send so many SYNs at once."""
        for attempt in range(first, first + count):
            self.network.send(self.flow, ttl, attempt)

    def after(self, seconds: float) -> list[Answer]:
        """Let time pass and take what has arrived."""
        self.network.advance(self.network.clock() + seconds)
        return [answer for _, answer in self.network.receive()]


def kinds(answers: list[Answer]) -> list[ReplyKind]:
    """The kinds of the answers in order of arrival."""
    return [answer.reply.kind for answer in answers]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("scenario", "ttl", "port", "expected"), SINGLE_PROBES.values(), ids=SINGLE_PROBES
)
def test_a_single_probe(
    scenario: Scenario, ttl: int, port: int, expected: Expected | None, family: str
) -> None:
    """A single probe gets the one answer that the chain's device would give, or none."""
    scenario = replace(scenario, family=family)
    bench = Bench(scenario, port)
    bench.burst(ttl, 1)
    answers = bench.after(0.5)
    if expected is None:
        assert answers == []
        return
    kind, named_hop, said, real_hop, quoted_ttl = expected
    (answer,) = answers
    assert answer.reply == Reply(
        kind=kind,
        address=scenario.address(named_hop),
        received_at=answer.reply.received_at,
        ttl=64 - (real_hop - 1),
        icmp=ICMP_OF_ACTION[family][said] if said else None,
        quoted_ttl=quoted_ttl,
    )
    assert answer.rtt == pytest.approx(2 * real_hop * scenario.delay)


def test_six_errors_at_once_then_one_a_second() -> None:
    """Of 12 quick probes to one hop 6 are answered, and one more for each second after."""
    bench = Bench(chain())
    bench.burst(1, 12)
    assert len(bench.after(0.9)) == 6
    bench.burst(1, 12, first=13)
    assert len(bench.after(2.5)) == 0
    bench.burst(1, 12, first=25)
    assert len(bench.after(0.1)) == 3


def test_refusals_and_expiries_share_a_budget() -> None:
    """A firewall that has answered six expired probes rejects the next one in silence."""
    bench = Bench(chain(rules=(Rule(2, "admin-prohibited"),)))
    bench.burst(2, 6)
    bench.burst(3, 1)
    assert kinds(bench.after(0.5)) == [ReplyKind.TIME_EXCEEDED] * 6


def test_flows_share_a_budget() -> None:
    """A hop that has answered one flow's six probes is silent toward another flow."""
    bench = Bench(chain())
    other = bench.network.open("10.9.4.77", OPEN_PORT)
    bench.burst(1, 6)
    bench.network.send(other, 1, 1)
    bench.network.send(other, 2, 1)
    bench.network.advance(bench.network.clock() + 0.5)
    assert [a.probe.ttl for flow, a in bench.network.receive() if flow == other] == [2]


def test_unlimited_errors() -> None:
    """Without a rate every probe is answered."""
    bench = Bench(chain(), conditions=Conditions(icmp_rate=None))
    bench.burst(1, 50)
    assert len(bench.after(0.5)) == 50


def test_resets_have_no_budget() -> None:
    """A closed port answers every SYN, for RSTs are not rate-limited."""
    bench = Bench(chain(), CLOSED_PORT)
    bench.burst(FULL_TTL, 50)
    assert kinds(bench.after(0.5)) == [ReplyKind.RST] * 50


def test_a_dead_host_is_reported_after_three_seconds() -> None:
    """The last router says host-unreachable for all that waited, 3 s after the first SYN."""
    bench = Bench(DEAD)
    bench.burst(5, 1)
    assert bench.after(1.0) == []
    bench.burst(9, 1)
    assert bench.after(1.9) == []
    answers = bench.after(0.5)
    assert [(a.probe.ttl, a.reply.address, a.reply.icmp) for a in answers] == [
        (5, DEAD.address(4), (3, 1)),
        (9, DEAD.address(4), (3, 1)),
    ]
    bench.burst(FULL_TTL, 1)
    assert bench.after(2.9) == []
    assert kinds(bench.after(0.5)) == [ReplyKind.UNREACHABLE]


def test_a_dead_neighbour_is_reported_by_the_prober_itself() -> None:
    """With the destination on the prober's own link its own kernel says host-unreachable."""
    scenario = chain(hops=1, destination_exists=False)
    bench = Bench(scenario)
    bench.burst(1, 1)
    (answer,) = bench.after(3.5)
    assert (answer.reply.address, answer.reply.icmp) == (scenario.source, (3, 1))


def test_a_half_open_destination_challenges() -> None:
    """A second SYN in flight gets a challenge ACK for the first one, a third one nothing."""
    bench = Bench(chain())
    bench.burst(FULL_TTL, 3)
    assert [(a.probe.attempt, a.reply.kind) for a in bench.after(0.5)] == [(1, ReplyKind.SYN_ACK)]
    assert bench.network.release(bench.flow) == 1


def test_the_reset_of_the_probers_kernel_ends_the_half_open_state() -> None:
    """A SYN that arrives before the RST is challenged, one after it gets a SYN-ACK."""
    bench = Bench(chain())
    bench.burst(FULL_TTL, 1)
    assert kinds(bench.after(0.010)) == [ReplyKind.SYN_ACK]
    bench.network.advance(bench.network.clock() + 0.001)
    bench.burst(FULL_TTL, 1, first=2)
    assert kinds(bench.after(0.5)) == [ReplyKind.SYN_ACK]


def test_a_lost_syn_ack_comes_again() -> None:
    """A destination whose SYN-ACK was lost sends it again a second later."""
    rtts = set()
    for seed in range(40):
        bench = Bench(chain(), conditions=Conditions(seed=seed, loss=0.4))
        bench.burst(FULL_TTL, 1)
        rtts |= {round(answer.rtt, 3) for answer in bench.after(4.0)}
    assert rtts == {0.010, 1.010, 3.010}


def test_a_challenge_stands_in_for_a_lost_syn_ack() -> None:
    """When the SYN-ACK was lost the challenge ACK is the first answer to the first SYN."""
    first_answers = set()
    for seed in range(40):
        bench = Bench(chain(), conditions=Conditions(seed=seed, loss=0.4))
        bench.burst(FULL_TTL, 1)
        early = bench.after(0.02)
        bench.burst(FULL_TTL, 1, first=2)
        first_answers |= {(a.probe.attempt, a.reply.kind) for a in early or bench.after(0.5)[:1]}
    assert (1, ReplyKind.ACK) in first_answers


def test_a_destination_that_answers_the_third_syn() -> None:
    """A destination may ignore the first SYNs of each flow."""
    bench = Bench(chain(), CLOSED_PORT, Conditions(answers_from_attempt=3))
    bench.burst(FULL_TTL, 4)
    assert [answer.probe.attempt for answer in bench.after(0.5)] == [3, 4]


def test_planned_failures_of_send() -> None:
    """The host refuses the planned sends, and nothing of them is on the wire."""
    errors = (SendError(2, 3), SendError(5, 5, NOT_PERMITTED))
    bench = Bench(chain(), conditions=Conditions(send_errors=errors))
    failures = []
    for attempt in range(1, 7):
        try:
            bench.burst(1, 1, first=attempt)
        except ProbeError as error:
            failures.append((attempt, error.failure))
    assert failures == [(2, NO_BUFFER), (3, NO_BUFFER), (5, NOT_PERMITTED)]
    assert [answer.probe.attempt for answer in bench.after(0.5)] == [1, 4, 6]


def test_loss_is_per_direction() -> None:
    """With half of the packets lost in each direction about a quarter is answered."""
    bench = Bench(chain(), CLOSED_PORT, Conditions(loss=0.5))
    bench.burst(FULL_TTL, 2000)
    assert 400 < len(bench.after(0.5)) < 600


def test_jitter_only_delays() -> None:
    """Jitter adds to both directions and never shortens a round trip."""
    bench = Bench(chain(), CLOSED_PORT, Conditions(jitter=0.1))
    bench.burst(FULL_TTL, 200)
    rtts = [answer.rtt for answer in bench.after(1.0)]
    assert len(rtts) == 200
    assert 0.010 <= min(rtts) < 0.06
    assert 0.15 < max(rtts) <= 0.210


def test_reordering() -> None:
    """A packet that is held back arrives after those sent behind it."""
    bench = Bench(chain(), CLOSED_PORT, Conditions(reorder=0.2))
    bench.burst(FULL_TTL, 50)
    order = [answer.probe.attempt for answer in bench.after(1.0)]
    assert order != sorted(order)
    assert sorted(order) == list(range(1, 51))


def test_duplicates_are_counted_and_not_handed_on() -> None:
    """Of an answer that arrives twice the engine hands on the first."""
    bench = Bench(chain(), CLOSED_PORT, Conditions(duplicate=1.0, jitter=0.1))
    bench.burst(FULL_TTL, 10)
    assert len(bench.after(1.0)) == 10
    assert bench.network.release(bench.flow) == 10


def test_a_released_flow_is_deaf() -> None:
    """What arrives after the release of a flow reaches nobody, not even its successor."""
    bench = Bench(chain())
    bench.burst(1, 1)
    bench.network.release(bench.flow)
    successor = bench.network.open(
        bench.flow.destination, bench.flow.destination_port, bench.flow.source_port
    )
    assert successor == bench.flow
    assert bench.after(0.5) == []


def test_a_preferred_port_that_is_taken() -> None:
    """A port that another flow to the same destination holds is not given twice."""
    network = SimulatedNetwork(chain())
    first = network.open("10.9.4.2", OPEN_PORT, 40000)
    second = network.open("10.9.4.2", OPEN_PORT, 40000)
    assert first == Flow("10.9.0.1", 40000, "10.9.4.2", OPEN_PORT)
    assert second.source_port != first.source_port


def test_ipv6_addresses() -> None:
    """In IPv6 the same chain has the prober, its routers and the destination in fd09::/48."""
    scenario = chain(family="ipv6", platform_hops=2)
    flow = SimulatedNetwork(scenario).open(scenario.destination, OPEN_PORT)
    assert flow[::2] == ("fd09::1", "fd09:0:0:4::2")
    assert scenario.address(1) == "fd09::2"
    assert scenario.platform_networks == ("fd09::/64", "fd09:0:0:1::/64")


def test_the_same_seed_gives_the_same_run() -> None:
    """A run depends on nothing but the scenario, the conditions and what is sent."""

    def run(seed: int) -> list[tuple[int, float]]:
        conditions = Conditions(seed, loss=0.3, jitter=0.1, reorder=0.1, duplicate=0.1)
        bench = Bench(chain(), CLOSED_PORT, conditions)
        bench.burst(FULL_TTL, 50)
        return [(answer.probe.attempt, answer.rtt) for answer in bench.after(1.0)]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_waiting_ends_with_the_first_arrival() -> None:
    """A reader that waits wakes up at the first arrival, or at its own limit."""
    bench = Bench(chain())
    start = bench.network.clock()
    bench.burst(3, 2)
    assert bench.network.advance_to_arrival(start + 1.0)
    assert bench.network.clock() == pytest.approx(start + 0.006)
    assert len(bench.after(0.0)) == 2
    assert not bench.network.advance_to_arrival(start + 1.0)
    assert bench.network.clock() == start + 1.0

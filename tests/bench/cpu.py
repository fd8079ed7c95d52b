"""What a probe costs in CPU time, from the decision to send it to its answer in the trace.

Behind a TUN device the network's own work falls on the process that simulates it, so what is
counted is the prober's alone, its system calls included. A bare loop over the same device in
the same minute tells what of it no program could save here.
"""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from tests.bench.open_path import ask_prober
from tests.bench.paths import delayed
from tests.bench.prober import BARE_PATHS, Load
from tests.bench.report import Goal, Part, summary
from tests.bench.tun_network import ROOT, Layout, TunNetwork

#: Traces at once.
CROWDS = (20, 100)
ROUNDS = 3
REPEATS = 3
BOUND = 30e-6
#: The machinery around a bare loop may cost twice what the loop costs: this holds on any machine.
TIMES_BARE = 3

#: Without the limit on ICMP errors every probe is answered: the most work there can be.
UNLIMITED = Layout(limited=False)


def measure(crowds: tuple[int, ...] = CROWDS, rounds: int = ROUNDS, repeats: int = REPEATS) -> Part:
    """CPU a probe for each number of traces at once, and for the bare loop."""
    with TunNetwork(delayed(), UNLIMITED) as network:
        measured = {
            crowd: [_loads(network, crowd, rounds) for _ in range(repeats)] for crowd in crowds
        }
    return _part(measured)


def _loads(network: TunNetwork, crowd: int, rounds: int) -> tuple[Load, Load]:
    ours, bare = ask_prober(network, "cpu", crowd, rounds)
    return (
        Load(ours["cpu"], int(ours["probes"]), int(ours["answers"])),
        Load(bare["cpu"], int(bare["probes"]), int(bare["answers"])),
    )


def _part(measured: dict[int, list[tuple[Load, Load]]]) -> Part:
    bare = [pair[1] for pairs in measured.values() for pair in pairs]
    floor = median(load.per_probe for load in bare)
    crowds = {crowd: [ours for ours, _ in pairs] for crowd, pairs in measured.items()}
    rows = [_row(f"bare loop, {BARE_PATHS} paths at once", bare, floor)]
    rows += [_row(f"{crowd} traces at once", loads, floor) for crowd, loads in crowds.items()]
    return Part(
        title="CPU for a probe: send, receive, match, fold",
        header=("what", "CPU a probe, median", "against bare", "answered"),
        rows=tuple(rows),
        goals=tuple(
            goal for crowd, loads in crowds.items() for goal in _goals(crowd, loads, floor)
        ),
    )


def _goals(crowd: int, loads: list[Load], floor: float) -> tuple[Goal, Goal]:
    cost = median(load.per_probe for load in loads)
    return (
        Goal(f"CPU a probe, {crowd} traces at once", cost * 1e6, BOUND * 1e6, "us"),
        Goal(f"the same against the bare loop, {crowd} traces", cost / floor, TIMES_BARE, "x"),
    )


def _row(what: str, loads: list[Load], floor: float) -> tuple[str, ...]:
    costs = [load.per_probe for load in loads]
    probes, answers = sum(load.probes for load in loads), sum(load.answers for load in loads)
    return (
        what,
        summary(costs, "us", 1e6),
        f"{median(costs) / floor:.3g} x",
        f"{answers} of {probes}",
    )


def profile(traces: int = CROWDS[0], rounds: int = ROUNDS) -> str:
    """Where the CPU time goes, as a list for people."""
    argv = [sys.executable, "-m", "tests.bench.prober", "profile", str(traces), str(rounds)]
    with TunNetwork(delayed(), UNLIMITED) as network:
        done = network.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return str(done.stdout)

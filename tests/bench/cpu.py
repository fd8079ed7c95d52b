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
from tests.bench.tun_network import Layout, TunNetwork
from tests.lab.tun import ROOT

#: Traces at once.
CROWDS = (20, 100)
ROUNDS = 3
REPEATS = 3
#: Engine -> CPU seconds that a probe may take. A socket of its own for each probe costs the
#: connect engine a dozen system calls where the syn engine needs two.
BOUNDS = {"syn": 30e-6, "connect": 100e-6}
#: The machinery around a bare loop may cost twice what the loop costs: this holds on any machine.
TIMES_BARE = 3
#: The bare loop is quick, and needs more rounds for as much work.
BARE_ROUNDS = 5

#: Without the limit on ICMP errors every probe is answered: the most work there can be.
UNLIMITED = Layout(limited=False)

#: (engine, traces at once)
Case = tuple[str, int]


def measure(crowds: tuple[int, ...] = CROWDS, rounds: int = ROUNDS, repeats: int = REPEATS) -> Part:
    """CPU a probe for each engine and number of traces at once, and for the bare loop."""
    cases = [(engine, crowd) for engine in BOUNDS for crowd in crowds]
    bare: list[Load] = []
    loads: dict[Case, list[Load]] = {case: [] for case in cases}
    with TunNetwork(delayed(), UNLIMITED) as network:
        # In turn, so that what else the machine does meets all of them.
        for _ in range(repeats):
            bare.append(_load(network, "bare", BARE_ROUNDS * rounds))
            for engine, crowd in cases:
                loads[engine, crowd].append(_load(network, "cpu", engine, crowd, rounds))
    return _part(bare, loads)


def _load(network: TunNetwork, *arguments: str | int) -> Load:
    [told] = ask_prober(network, *arguments)
    return Load(told["cpu"], int(told["probes"]), int(told["answers"]))


def _part(bare: list[Load], loads: dict[Case, list[Load]]) -> Part:
    floor = _median(bare)
    rows = [_row(f"bare loop, {BARE_PATHS} paths at once", bare, floor)]
    rows += [_row(_name(case), found, floor) for case, found in loads.items()]
    against_bare = (
        Goal(
            f"the same against the bare loop, {_name(case)}",
            _median(found) / floor,
            TIMES_BARE,
            "x",
        )
        for case, found in loads.items()
        if case[0] == "syn"  # which does what the loop does
    )
    return Part(
        title="CPU for a probe: send, receive, match, fold",
        header=("what", "CPU a probe, median", "against bare", "answered"),
        rows=tuple(rows),
        goals=(*(_goal(case, found) for case, found in loads.items()), *against_bare),
    )


def _name(case: Case) -> str:
    engine, crowd = case
    return f"engine {engine}, {crowd} traces at once"


def _goal(case: Case, loads: list[Load]) -> Goal:
    return Goal(f"CPU a probe, {_name(case)}", _median(loads) * 1e6, BOUNDS[case[0]] * 1e6, "us")


def _median(loads: list[Load]) -> float:
    return median(load.per_probe for load in loads)


def _row(what: str, loads: list[Load], floor: float) -> tuple[str, ...]:
    costs = [load.per_probe for load in loads]
    probes, answers = sum(load.probes for load in loads), sum(load.answers for load in loads)
    return (
        what,
        summary(costs, "us", 1e6),
        f"{median(costs) / floor:.3g} x",
        f"{answers} of {probes}",
    )


def profile(engine: str, traces: int = CROWDS[0], rounds: int = ROUNDS) -> str:
    """Where the CPU time goes, as a list for people."""
    argv = [sys.executable, "-m", "tests.bench.prober", "profile", engine, str(traces), str(rounds)]
    with TunNetwork(delayed(), UNLIMITED) as network:
        done = network.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return str(done.stdout)

"""A short history for rules and panels: two exporters, a firewall, and a Prometheus that watches.

    one --- hop 1 --- hop 2 --- hop 3 --- hop 4 --- hop 5 --- hop 6 (destination)
          platform             /
    two --------- edge -------
                platform

"one" and "two" stand for two cells of a platform. One has the syn engine, two the connect engine
and a shorter way. Phases follow each other, each lasting until Prometheus says of every target what
`SEEN` holds for it and of every alert what `FIRING` does; tests ask about the times in `Story.at`.

    before   one port is closed, the cache is rejected outside, the chat intercepted, the printer's
             address cannot be traced: so it is at all times. One reads bad lists of targets
    blocked  the database is dropped outside, for both; the directory is rejected inside, for two;
             the mail server is dropped at the platform's edge, for one; and one has been told to
             read a configuration with a mistake in it
    after    all of that is undone, and one reads no lists any more
    dead     two has been killed
    gone     one, too

A second stands for a minute: Prometheus scrapes and evaluates once a second instead of once a
minute, rules and queries are read as `scaled` gives them, and routers have so many ICMP errors more
to give. The exporters are slower than that: who finds silence has to wait, whatever we pretend.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml

from tests.accuracy.chains import Extra, Network, nft, routes, side_end, side_link
from tests.lab.exporting import Exporter, environment, serving
from tests.lab.lab import Device, Lab, ruleset
from tests.lab.prometheus import Line, Prometheus, PrometheusError, Sample, running, tries
from tests.scenarios import NUMBERINGS, Rule, Scenario

RULES = Path(__file__).parents[2] / "dashboards" / "rules"

#: So many times shorter is every duration.
FACTOR = 60
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
#: A duration, wherever it stands. Numbers without a unit are the expression's own, and stay.
DURATION = re.compile(r"(?<=[\[ :])(\d+)([smhd])\b")

# -- the network -----------------------------------------------------------------------

TARGETS = {
    "shop-api": 443,
    "closed-port": 8443,
    "cache": 6379,
    "database": 5432,
    "directory": 636,
    "mail": 25,
    "chat": 5222,
    "printer": 9100,
}
#: Link-local: there is no path to be traced.
UNTRACEABLE = "fe80::1"
INTERVAL_SECONDS = 3
#: The links beside the chain: from two to the edge, and from there to hop 3.
OUTER, INNER = 20, 21
SCENARIO = Scenario(
    name="story",
    title="two cells",
    hops=6,
    platform_hops=1,
    delay=0.0,
    open_ports=tuple(TARGETS[name] for name in ("shop-api", "database", "directory", "mail")),
    destination_exists=True,
    silent=(),
    rules=(Rule(5, "admin-prohibited", ports=(TARGETS["cache"],)),),
    expectations=(),
)
PLATFORM = [NUMBERINGS["ipv4"].network(link) for link in (0, OUTER)]
#: What blocks: network namespace -> a rule of its chain `inet lab forward`.
BLOCKS = {
    "hop4": f"tcp dport {TARGETS['database']} drop",
    "hop1": f"tcp dport {TARGETS['mail']} drop",
    "edge": f"tcp dport {TARGETS['directory']} reject with icmp type admin-prohibited",
}
#: A router's pause between two ICMP errors to one recipient, in ms; a real one's is 1,000.
FAST = Extra(kernel=(("ipv4/icmp_ratelimit", str(1000 // FACTOR)),))


def network() -> Network:
    """The chain, with the second cell and its router beside it."""
    back = {hop: _routes_back(hop) for hop in range(4, SCENARIO.hops)}
    joined = Extra(
        ip=side_end("side", INNER, 2) + _route(OUTER, INNER, 1),
        nft=nft("prerouting priority dstnat", f"tcp dport {TARGETS['chat']} redirect", kind="nat"),
        ports=(TARGETS["chat"],),
    )
    extras = {3: joined, **back}
    return Network(
        SCENARIO,
        extras={hop: extras.get(hop, Extra()) + FAST for hop in range(1, SCENARIO.hops)},
        links="netns add two\nnetns add edge\n"
        + side_link(("two", "far"), ("edge", "near"))
        + side_link(("edge", "far"), ("hop3", "side")),
        devices=(
            Device("two", forwards=False, ip=_up(side_end("far", OUTER, 1), OUTER)),
            Device(
                "edge",
                forwards=True,
                ip=_up(side_end("near", OUTER, 2) + side_end("far", INNER, 1), INNER),
                nft=ruleset(SCENARIO, 1),
                kernel=FAST.kernel,
            ),
        ),
    )


def _route(link: int, through: int, end: int) -> str:
    return routes(lambda family: NUMBERINGS[family].network(link), through, end)


def _routes_back(hop: int) -> Extra:
    return Extra(ip=_route(OUTER, hop - 1, 1) + _route(INNER, hop - 1, 1))


def _up(ends: str, onwards: int) -> str:
    """Lines for `ip -batch`: the interfaces, and all else through the link `onwards`."""
    return f"link set lo up\n{ends}{routes(lambda _: 'default', onwards, 2)}"


# -- what happens ----------------------------------------------------------------------


class Truth(NamedTuple):
    """What is so of one target, seen from one cell."""

    state: str
    location: str = "none"


OPEN, CLOSED = Truth("open"), Truth("closed")
USUAL = {
    "shop-api": OPEN,
    "closed-port": CLOSED,
    "cache": Truth("rejected", "external"),
    "database": OPEN,
    "directory": OPEN,
    "mail": OPEN,
    "chat": Truth("intercepted"),
    "printer": Truth("error"),
}
DROPPED_OUTSIDE = {"database": Truth("filtered", "external")}
#: Phase -> cell -> target -> what its exporter says.
SEEN: Mapping[str, Mapping[str, Mapping[str, Truth]]] = {
    "before": {"one": USUAL, "two": USUAL},
    "blocked": {
        "one": USUAL | DROPPED_OUTSIDE | {"mail": Truth("filtered", "boundary")},
        "two": USUAL | DROPPED_OUTSIDE | {"directory": Truth("rejected", "platform")},
    },
    "after": {"one": USUAL, "two": USUAL},
    "dead": {"one": USUAL},
    "gone": {},
}
#: An alert and what it is about: a target, or the cell of an instance, or "".
Alert = tuple[str, str]
OUTSIDE: frozenset[Alert] = frozenset({("EgressBlockedOutside", "cache")})
FROM_ALL: frozenset[Alert] = frozenset({("EgressBlockedFromAll", "cache")})
#: What is true from the beginning on and takes a while to fire.
INTERCEPTED: frozenset[Alert] = frozenset({("EgressIntercepted", "chat")})
UNKNOWN: frozenset[Alert] = frozenset({("EgressUnknown", "printer")})
LESSER_ENGINE: frozenset[Alert] = frozenset({("EgressEngineUnprivileged", "two")})
BAD_LISTS: frozenset[Alert] = frozenset(
    {("EgressDiscoveryFailed", "one"), ("EgressDiscoveryIncomplete", "one")}
)
SLOW = INTERCEPTED | UNKNOWN | LESSER_ENGINE | BAD_LISTS
#: Phase -> the alerts that fire.
FIRING: Mapping[str, frozenset[Alert]] = {
    "before": OUTSIDE | FROM_ALL,
    "blocked": OUTSIDE
    | FROM_ALL
    | INTERCEPTED
    | LESSER_ENGINE
    | BAD_LISTS
    | {
        ("EgressBlockedOutside", "database"),
        ("EgressBlockedFromAll", "database"),
        ("EgressBlockedInside", "directory"),
        ("EgressBlockedFromSome", "directory"),
        ("EgressBlockedAtBoundary", "mail"),
        ("EgressBlockedFromSome", "mail"),
        ("EgressConfigReloadFailed", "one"),
    },
    "after": OUTSIDE | FROM_ALL | INTERCEPTED | UNKNOWN | LESSER_ENGINE,
    "dead": OUTSIDE | INTERCEPTED | UNKNOWN | {("EgressProberDown", "two")},
    "gone": frozenset(
        {("EgressProberDown", "one"), ("EgressProberDown", "two"), ("EgressNoProber", "")}
    ),
}
#: Phase -> those that may fire by then.
MAYBE: Mapping[str, frozenset[Alert]] = {"before": SLOW, "blocked": UNKNOWN}
#: More than any phase takes.
PATIENCE = 60.0
#: What is asked is so long ago that all scrapes and evaluations of then are over.
SETTLED = 1.0
#: So many seconds after a scrape all rules have been evaluated.
EVALUATED = 1.2


@dataclass(frozen=True, slots=True)
class Story:
    """What has happened, for questions to Prometheus; times are seconds since the epoch."""

    prometheus: Prometheus
    #: Cell -> the label `instance` of its exporter.
    instances: Mapping[str, str]
    begun: float
    #: Phase -> a time at which it was all as the phase says.
    at: dict[str, float] = field(default_factory=dict)
    #: Phase -> the annotations of each alert that was pending or fired then.
    told: dict[str, list[tuple[Alert, Mapping[str, str]]]] = field(default_factory=dict)

    def query(self, expression: str, at: float) -> list[Sample]:
        """What an expression, its durations scaled, gives at a time."""
        return self.prometheus.query(scaled(expression), at)

    def query_range(
        self, expression: str, start: float, end: float, step: float = 1.0
    ) -> list[Line]:
        """What it gives from `start` to `end`."""
        return self.prometheus.query_range(scaled(expression), start, end, step)

    def alerts(self, at: float, state: str = "firing") -> frozenset[Alert]:
        """The alerts that fire at a time, or are "pending"."""
        found = self.query(f'ALERTS{{alertstate="{state}"}}', at)
        return frozenset(self.alert(one.labels) for one in found)

    def alert(self, labels: Mapping[str, str]) -> Alert:
        """An alert by its labels."""
        at = labels.get("instance")
        cells = (cell for cell, instance in self.instances.items() if instance == at)
        about = labels.get("target") or next(cells, "")
        return labels["alertname"], about

    def seen(self, at: float) -> dict[str, dict[str, Truth]]:
        """What the exporters say at a time, as `SEEN` has it."""
        states, locations = (self._labels(of, at) for of in ("state", "location"))
        return {
            cell: {
                target: Truth(states[instance, target], locations.get((instance, target), ""))
                for target in TARGETS
                if (instance, target) in states
            }
            for cell, instance in self.instances.items()
            if any(of == instance for of, _ in states)
        }

    def _annotations(self) -> list[tuple[Alert, Mapping[str, str]]]:
        alerts = self.prometheus.ask("alerts")["alerts"]
        return [(self.alert(one["labels"]), one["annotations"]) for one in alerts]

    def _labels(self, label: str, at: float) -> dict[tuple[str, str], str]:
        """(instance, target) -> the value of the one series that is 1."""
        metric = {"state": "egress_state", "location": "egress_blocked"}[label]
        return {
            (one.labels["instance"], one.labels["target"]): one.labels[label]
            for one in self.query(f"{metric} == 1", at)
        }

    def await_phase(self, phase: str) -> None:
        """Wait until all is as the phase says; PrometheusError with the difference if it is not."""
        awaited: set[tuple[str, ...]] = {*_flat(SEEN[phase]), *FIRING[phase]}
        there: set[tuple[str, ...]] = set()
        for _ in tries(PATIENCE):
            at = time.time() - SETTLED
            there = {*_flat(self.seen(at)), *(self.alerts(at) - MAYBE.get(phase, frozenset()))}
            if there == awaited and self.seen(at - EVALUATED) == SEEN[phase]:
                self.at[phase] = at
                self.told[phase] = self._annotations()
                return
        raise PrometheusError(
            f"{phase!r} did not come: {sorted(awaited - there)} is missing, "
            f"{sorted(there - awaited)} is there instead"
        )


def _flat(seen: Mapping[str, Mapping[str, Truth]]) -> Iterator[tuple[str, ...]]:
    for cell, truths in seen.items():
        yield from ((cell, target, *truth) for target, truth in truths.items())


def scaled(text: str) -> str:
    """Rules or an expression with every duration `FACTOR` times shorter, in milliseconds."""
    return DURATION.sub(
        lambda found: f"{int(found[1]) * SECONDS[found[2]] * 1000 // FACTOR}ms", text
    )


def scaled_rules(folder: Path) -> list[Path]:
    """The rules of dashboards/rules as this story's Prometheus reads them."""
    files = []
    for path in sorted(RULES.glob("*.rules.yml")):
        files.append(folder / path.name)
        files[-1].write_text(scaled(path.read_text()))
    return files


# -- making it happen ------------------------------------------------------------------

IN_TWO = ("ip", "netns", "exec", "two")


def _configuration(lists: Collection[Path] = ()) -> str:
    """A CONFIG_FILE with all targets, and lists of more of them."""
    targets = [
        {
            "name": name,
            "host": UNTRACEABLE if name == "printer" else SCENARIO.destination,
            "port": port,
        }
        for name, port in TARGETS.items()
    ]
    sources = [{"files": [str(path)]} for path in lists]
    return yaml.safe_dump({"targets": targets, **({"file_sd_configs": sources} if lists else {})})


def _bad_lists(folder: Path) -> tuple[Path, ...]:
    """One that is no list, and one with an entry that is no target."""
    torn, wrong = folder / "torn.yml", folder / "wrong.yml"
    torn.write_text("targets: 1")
    wrong.write_text("- targets: [no-port]")
    return torn, wrong


def _exporting(
    lab: Lab, file: Path, engine: str, *wrapper: str
) -> AbstractContextManager[Exporter]:
    """An exporter behind the words that lead to its cell."""
    settings = environment(
        lab,
        CONFIG_FILE=str(file),
        ENGINE=engine,
        INTERVAL_SECONDS=str(INTERVAL_SECONDS),
        PLATFORM_NETWORKS=",".join(PLATFORM),
        LOG_TRACES="none",  # nobody reads its log
    )
    return serving(lab.popen, settings, *wrapper)


def _reload(exporter: Exporter, file: Path, text: str) -> None:
    file.write_text(text)
    exporter.signal(signal.SIGHUP)


def _change(lab: Lab, namespace: str, commands: str) -> None:
    """Give nft commands to a router."""
    argv = ["ip", "netns", "exec", namespace, "nft", "-f", "-"]
    lab.run(argv, input=commands, text=True, check=True)


@contextmanager
def told(folder: Path) -> Iterator[Story]:
    """The story, when all of it has happened; Prometheus still answers. Files are in `folder`.

    Raises LabError or PrometheusError with a line that says what is missing or did not come.
    """
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(SCENARIO, network().plan()))
        one, two = (stack.enter_context(ExitStack()) for _ in range(2))
        file, plain = folder / "one.yml", folder / "two.yml"
        file.write_text(_configuration(_bad_lists(folder)))
        plain.write_text(_configuration())
        exporters = {
            "one": one.enter_context(_exporting(lab, file, "syn")),
            "two": two.enter_context(_exporting(lab, plain, "connect", *IN_TWO)),
        }
        instances = {cell: f"127.0.0.1:{exporter.port}" for cell, exporter in exporters.items()}
        prometheus = running(folder, instances.values(), scaled_rules(folder))
        story = Story(stack.enter_context(prometheus), instances, time.time())
        story.await_phase("before")
        for name, rule in BLOCKS.items():
            _change(lab, name, f"add rule inet lab forward {rule}")
        _reload(exporters["one"], file, "targets: none")
        story.await_phase("blocked")
        for name in BLOCKS:
            _change(lab, name, "flush chain inet lab forward")
        _reload(exporters["one"], file, _configuration())
        story.await_phase("after")
        two.close()
        story.await_phase("dead")
        one.close()
        story.await_phase("gone")
        yield story

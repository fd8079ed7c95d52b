"""What `check` prints: what the configuration will make the program do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from exporter import __version__
from exporter.as_table import AsTable
from exporter.controls.canary import MEMORY
from exporter.diagnosis.zones import Own
from exporter.estimate import TYPICAL_HOPS, Cost, a_second, most_probes, traced
from exporter.model import (
    Controls,
    EngineStatus,
    NamedZone,
    SourceStatus,
    Target,
)
from exporter.publish.tables import series_of_program, series_of_target
from exporter.publish.text import host_port, printable
from exporter.settings import Settings
from exporter.shares import own as own_part

MOST_SHOWN = 4
#: Of the targets: the pace has to do for so many of them being blocked.
BLOCKED = 0.25
#: What is advised is so much more than what is needed on average.
RESERVE = 1.25


def describe(
    settings: Settings,
    engine: EngineStatus,
    addresses: Mapping[str, Sequence[str]],
    own: Sequence[Own],
    *,
    no_echo: str = "",
    table: AsTable | None = None,
    sources: Sequence[SourceStatus] = (),
) -> str:
    """The plan as text.

    `addresses` maps a target's name to what its host resolves to; `own` are the networks that the
    host reveals; `no_echo` is why there are no ICMP echoes, "" where they are possible; `table` is
    what AS_TABLE names; `sources` is how those of discovered targets fare.
    """
    everything = len(settings.targets)
    settings = replace(settings, targets=own_part(settings.targets, settings.share))
    addresses = {target.name: addresses[target.name] for target in settings.targets}
    most_hops = max((target.plan.max_hops for target in settings.targets), default=0)
    return "\n".join(
        [
            f"egress-exporter {__version__}",
            _engine(engine),
            f"listens on: {settings.listen_address or 'all addresses'}, port {settings.port}, "
            + ("with" if settings.basic_auth_username else "without")
            + " basic authentication",
            f"platform networks: {_networks(settings)}",
            *([f"inside as well, as this host shows: {_own(own)}"] if own else []),
            *_zones(settings.zones),
            *(["names of hops: by reverse DNS"] if settings.reverse_dns else []),
            *([f"autonomous systems: from a table of {table.networks:,} rows"] if table else []),
            (
                f"pace: at most {settings.max_concurrent_traces} traces at once and "
                f"{settings.probes_per_second} probes a second"
            ),
            f"plain connects: {'one with each trace' if settings.connect_check else 'off'}",
            *map(_source, sources),
            *_part(settings, everything),
            *_controls(settings.targets, no_echo),
            *([f"proxies, which are never used: {settings.proxy}"] if settings.proxy else []),
            *(f"warning: {warning}" for warning in settings.warnings),
            "",
            *_targets(settings.targets, addresses),
            *_unresolved(addresses),
            "",
            *_pace(settings, addresses),
            (
                f"series: about {_series(settings, addresses, TYPICAL_HOPS)} at {TYPICAL_HOPS} "
                f"hops, at most {_series(settings, addresses, most_hops)}"
            ),
        ]
    )


def _source(status: SourceStatus) -> str:
    fares = "" if status.successful else ", which cannot be read now"
    left_out = f"; entries that are left out: {status.left_out:,}" if status.left_out else ""
    count = f"{status.targets:,} target{'s' * (status.targets != 1)}"
    return f"discovered: {count} from {printable(status.source)}{fares}{left_out}"


def _part(settings: Settings, everything: int) -> Iterator[str]:
    """What is this instance's, where several share the targets out."""
    if share := settings.share:
        yield (
            f"targets: instance {share.index} of {share.count}, counted from 0, traces "
            f"{len(settings.targets):,} of {everything:,}; what follows is about these"
        )


def _engine(engine: EngineStatus) -> str:
    if engine.name == "none":
        return f"engine: none, so nothing can be traced: {engine.reason}"
    return f"engine: {engine.name} ({engine.reason})"


def _controls(targets: Sequence[Target], no_echo: str) -> Iterator[str]:
    """What is measured beside the traces, the commonest choice first."""
    choices = Counter(target.controls for target in targets).most_common()
    for controls, count in choices[:MOST_SHOWN]:
        of = "" if len(choices) == 1 else f" of {count} target{'s' * (count > 1)}"
        always = "; ".join(_always(controls)) or "none"
        failing = ", ".join(_where_something_fails(controls)) or "nothing more"
        yield f"controls{of}: {always}; where something fails, {failing}"
    if len(choices) > MOST_SHOWN:
        yield f"controls of the other targets: {len(choices) - MOST_SHOWN} more choices"
    if no_echo and any(controls.echo for controls, _ in choices):
        yield f"no ICMP echo here: {no_echo}"


def _always(controls: Controls) -> Iterator[str]:
    if controls.canary:
        yield f"a canary for each port, every {MEMORY:g} s"
    if controls.flows > 1:
        yield f"{controls.flows} flows in each cycle"


def _where_something_fails(controls: Controls) -> Iterator[str]:
    if controls.failing_flows > 1:
        yield f"{controls.failing_flows} flows"
    if controls.ports:
        numbers = " and ".join(map(str, controls.ports))
        yield f"port{'s' * (len(controls.ports) > 1)} {numbers} of the same destination"
    if controls.echo:
        yield "an ICMP echo"


def _unresolved(addresses: Mapping[str, Sequence[str]]) -> list[str]:
    failed = sum(not found for found in addresses.values())
    if not failed:
        return []
    return [
        "",
        f"{failed} of {len(addresses)} targets do not resolve now; they are tried each time",
    ]


def _networks(settings: Settings) -> str:
    if settings.platform_networks:
        return ", ".join(map(str, settings.platform_networks))
    if any(zone.platform for zone in settings.zones):
        return "those of zones alone"
    except_zones = " but in a zone" if settings.zones else ""
    return f"none, so no block{except_zones} can be called external (set PLATFORM_NETWORKS)"


def _zones(zones: Iterable[NamedZone]) -> Iterator[str]:
    for zone in zones:
        side = "inside" if zone.platform else "outside"
        yield f"zone {printable(zone.name)}, {side}: {', '.join(map(str, zone.networks))}"


def _own(networks: Sequence[Own]) -> str:
    return ", ".join(f"{one.network} ({one.what})" for one in networks)


def _targets(targets: tuple[Target, ...], addresses: Mapping[str, Sequence[str]]) -> list[str]:
    rows = [("target", "endpoint", "family", "every", "attempts", "hops", "addresses")]
    rows += [
        (
            printable(target.name),
            host_port(target),
            target.family,
            f"{target.interval:g} s",
            str(target.plan.attempts),
            str(target.plan.max_hops),
            printable(_shown(target, addresses[target.name])),
        )
        for target in targets
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _shown(target: Target, addresses: Sequence[str]) -> str:
    more = f" and {len(addresses) - MOST_SHOWN} more" if len(addresses) > MOST_SHOWN else ""
    shown = ", ".join(addresses[:MOST_SHOWN]) + more or "none"
    number = f" ({traced(target, len(addresses))} traced)" if len(addresses) > 1 else ""
    return shown + number


def _pace(settings: Settings, addresses: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What the targets take, and a warning where that is more than the settings let them have."""
    targets = [(target, len(addresses[target.name])) for target in settings.targets]
    calm, busy = a_second(targets, 0), a_second(targets, BLOCKED)
    most = sum(most_probes(t) * traced(t, number) / t.interval for t, number in targets)
    usual, more, highest = (
        f"{60 * min(probes, settings.probes_per_second):.0f}"
        for probes in (calm.probes, busy.probes, most)
    )
    yield (
        f"probes a minute: about {usual} with all targets open {TYPICAL_HOPS} hops away as before, "
        f"{more} with a quarter of them blocked, at most {highest}; less what they share of their "
        "first hops"
    )
    yield f"traces at once: about {calm.seconds:.1f}, or {busy.seconds:.1f}"
    yield from _too_slow(settings, busy)


def _too_slow(settings: Settings, busy: Cost) -> Iterator[str]:
    for name, allowed, needed in (
        ("PROBES_PER_SECOND", settings.probes_per_second, busy.probes),
        ("MAX_CONCURRENT_TRACES", settings.max_concurrent_traces, busy.seconds),
    ):
        if needed > allowed:
            yield (
                f"warning: {name} is {allowed}, and with a quarter of the targets blocked "
                f"{needed:.0f} are needed: traces will be late, and some left out; set it to "
                f"{needed * RESERVE:.0f}, or trace less often"
            )


def _series(settings: Settings, addresses: Mapping[str, Sequence[str]], hops: int) -> int:
    beside = (traced(t, len(addresses[t.name])) for t in settings.targets if t.all_addresses)
    of_targets = len(settings.targets) * series_of_target(hops) + sum(beside)
    return series_of_program() + of_targets

"""What `check` prints: what the configuration will make the program do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from exporter import __version__
from exporter.diagnosis.zones import Own
from exporter.model import MAX_ADDRESSES, EngineStatus, Target
from exporter.probing.tracer import CONFIRMATIONS, WINDOW
from exporter.publish.tables import series_of_program, series_of_target
from exporter.publish.text import host_port, printable
from exporter.settings import Settings

#: A path of ordinary length, for the estimates.
TYPICAL_HOPS = 12
MOST_SHOWN = 4


def describe(
    settings: Settings,
    engine: EngineStatus,
    addresses: Mapping[str, Sequence[str]],
    own: Sequence[Own],
) -> str:
    """The plan as text.

    `addresses` maps a target's name to what its host resolves to; `own` are the networks that the
    host reveals.
    """
    return "\n".join(
        [
            f"egress-exporter {__version__}",
            _engine(engine),
            f"listens on: {settings.listen_address or 'all addresses'}, port {settings.port}, "
            + ("with" if settings.basic_auth_username else "without")
            + " basic authentication",
            f"platform networks: {_networks(settings)}",
            *([f"inside as well, as this host shows: {_own(own)}"] if own else []),
            (
                f"pace: at most {settings.max_concurrent_traces} traces at once and "
                f"{settings.probes_per_second} probes a second"
            ),
            f"plain connects: {'one with each trace' if settings.connect_check else 'off'}",
            *([f"proxies, which are never used: {settings.proxy}"] if settings.proxy else []),
            *(f"warning: {warning}" for warning in settings.warnings),
            "",
            *_targets(settings.targets, addresses),
            *_unresolved(addresses),
            "",
            (
                f"probes a minute: about {_probes(settings, addresses, _typical):.0f} with all "
                f"targets open {TYPICAL_HOPS} hops away, at most "
                f"{_probes(settings, addresses, _most):.0f}"
            ),
            (
                f"series: about {_series(settings, addresses, TYPICAL_HOPS)} at {TYPICAL_HOPS} "
                "hops, at most "
                f"{_series(settings, addresses, max(t.plan.max_hops for t in settings.targets))}"
            ),
        ]
    )


def _engine(engine: EngineStatus) -> str:
    if engine.name == "none":
        return f"engine: none, so nothing can be traced: {engine.reason}"
    return f"engine: {engine.name} ({engine.reason})"


def _unresolved(addresses: Mapping[str, Sequence[str]]) -> list[str]:
    failed = sum(not found for found in addresses.values())
    if not failed:
        return []
    return [
        "",
        f"{failed} of {len(addresses)} targets do not resolve now; they are tried each time",
    ]


def _networks(settings: Settings) -> str:
    if not settings.platform_networks:
        return "none, so no block can be called external (set PLATFORM_NETWORKS)"
    return ", ".join(str(network) for network in settings.platform_networks)


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
    traced = f" ({_traced(target, addresses)} traced)" if len(addresses) > 1 else ""
    return shown + traced


def _traced(target: Target, addresses: Sequence[str]) -> int:
    """How many addresses a cycle traces, once the name resolves."""
    return min(len(addresses) or 1, MAX_ADDRESSES) if target.all_addresses else 1


def _typical(target: Target) -> int:
    return TYPICAL_HOPS * target.plan.attempts + WINDOW


def _most(target: Target) -> int:
    return target.plan.max_hops * target.plan.attempts + CONFIRMATIONS


def _probes(
    settings: Settings,
    addresses: Mapping[str, Sequence[str]],
    of_trace: Callable[[Target], int],
) -> float:
    wanted = sum(
        of_trace(target) * _traced(target, addresses[target.name]) * 60 / target.interval
        for target in settings.targets
    )
    return min(wanted, settings.probes_per_second * 60)


def _series(settings: Settings, addresses: Mapping[str, Sequence[str]], hops: int) -> int:
    beside = (_traced(t, addresses[t.name]) for t in settings.targets if t.all_addresses)
    of_targets = len(settings.targets) * series_of_target(hops) + sum(beside)
    return series_of_program() + of_targets

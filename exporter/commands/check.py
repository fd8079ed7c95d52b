"""`check`: validate the configuration, and print what `serve` would do with it."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from dataclasses import replace

from exporter.commands.parts import configured, open_engine
from exporter.directory import read_table
from exporter.discovery.discovery import Discovery
from exporter.model import ProbeError, SourceStatus, Target
from exporter.networks import revealed
from exporter.plan import describe
from exporter.probing.resolver import Resolver
from exporter.settings import Settings


def run(_options: argparse.Namespace) -> int:
    """Read, look up, print; no probe is sent."""
    settings, sources = asyncio.run(_discovered(configured(os.environ)))
    opened, status = open_engine(settings)
    if opened:
        opened.close()
    own = revealed(settings.source)
    no_echo = opened.echoer.status if opened else ""
    addresses = asyncio.run(_resolve_all(settings))
    table = read_table(settings)
    plan = describe(settings, status, addresses, own, no_echo=no_echo, table=table, sources=sources)
    sys.stdout.write(f"{plan}\n")
    return 0


async def _discovered(settings: Settings) -> tuple[Settings, tuple[SourceStatus, ...]]:
    """The settings with what the sources name now, and how each source fares."""
    if settings.sources is None:
        return settings, ()
    discovery = Discovery()
    await discovery.look(settings.sources)
    found = discovery.merged(settings.targets)
    warnings = (*settings.warnings, *found.problems)
    return replace(settings, targets=found.targets, warnings=warnings), discovery.status


async def _resolve_all(settings: Settings) -> dict[str, list[str]]:
    """Target name -> its addresses, none when it does not resolve."""
    resolver = Resolver()

    async def resolve(target: Target) -> list[str]:
        try:
            return await resolver.resolve(target.host, target.port, target.family)
        except ProbeError:
            return []

    found = await asyncio.gather(*(resolve(target) for target in settings.targets))
    return {t.name: addresses for t, addresses in zip(settings.targets, found, strict=True)}

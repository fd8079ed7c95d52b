"""What the commands put together alike: engine, prober and the verbs of a cycle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from exporter.config import load, usage_text
from exporter.controls.canary import Canaries
from exporter.model import EngineStatus
from exporter.probing import handshake
from exporter.probing.driver import PROBE_BURST, Driver, Prober
from exporter.probing.echo import Echoer
from exporter.probing.engines import Engine, choose
from exporter.probing.near import Near
from exporter.probing.reply_ttl import reply_ttl
from exporter.probing.resolver import Resolver
from exporter.probing.routes import gateway_to
from exporter.settings import ConfigurationError, Settings
from exporter.verbs import Probing, refusing


def configured(environ: Mapping[str, str]) -> Settings:
    """The settings, which name something to trace. Raises `ConfigurationError`."""
    settings = load(environ)
    if not settings.targets and not settings.sources:
        raise ConfigurationError(usage_text().splitlines())
    return settings


class Opened(NamedTuple):
    """What needs privileges to be opened, or may."""

    engine: Engine
    echoer: Echoer

    def close(self) -> None:
        """Close every socket."""
        self.engine.close()
        self.echoer.close()


def open_engine(settings: Settings) -> tuple[Opened | None, EngineStatus]:
    """The engine; none only with ENGINE=auto, where the program then measures what it can."""
    engine, status = choose(settings.engine)
    if engine:
        return Opened(engine, Echoer(settings.probes_per_second)), status
    if settings.engine != "auto":
        raise ConfigurationError([f"ENGINE={settings.engine}: {status.reason}"])
    return None, status


@asynccontextmanager
async def probing_over(opened: Opened, settings: Settings) -> AsyncIterator[tuple[Prober, Probing]]:
    """The engine on the running loop, paced as configured; it is closed at the end."""
    engine, echoer = opened
    driver = Driver(engine, settings.probes_per_second, PROBE_BURST, gateway_to, Near())
    prober = Prober(driver)
    verbs = Probing(
        Resolver().resolve,
        prober.trace,
        handshake.connect if settings.connect_check else None,
        sound=prober.trace,
        echo=None if echoer.status else echoer.echo,
        canary=Canaries(prober.trace).ask,
        # The syn engine's replies bear theirs.
        reply_ttl=reply_ttl if engine.name == "connect" else None,
        unseen_errors=engine.unseen_errors,
    )
    try:
        yield prober, verbs
    finally:
        prober.close()
        echoer.close()


def without_engine(settings: Settings, status: EngineStatus) -> Probing:
    """What is left where no engine can trace: names, and plain connects."""
    connect = handshake.connect if settings.connect_check else None
    return Probing(Resolver().resolve, refusing(status.reason), connect)

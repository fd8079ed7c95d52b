"""The command line: serve (default), trace, check."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from types import FrameType
from typing import NamedTuple, NoReturn, TypeVar

from exporter import __version__, privileges
from exporter.config import load, usage_text
from exporter.controls.canary import Canaries
from exporter.diagnosis.proxies import noted
from exporter.diagnosis.zones import ZoneMap
from exporter.directory import Directory, read_table
from exporter.model import (
    BLOCKED_STATES,
    EngineStatus,
    Observation,
    ProbeError,
    SourceStatus,
    State,
    Target,
)
from exporter.names import Names
from exporter.networks import revealed
from exporter.observer import observe
from exporter.probing import handshake
from exporter.probing.driver import PROBE_BURST, Driver, Prober
from exporter.probing.echo import Echoer
from exporter.probing.engines import Engine, choose
from exporter.probing.near import Near
from exporter.probing.reply_ttl import reply_ttl
from exporter.probing.resolver import Resolver
from exporter.probing.routes import gateway_to
from exporter.publish import objects, text
from exporter.settings import ConfigurationError, Settings
from exporter.verbs import Probing, refusing

T = TypeVar("T")

USAGE_ERROR = 2
EXIT_STATUS = {
    State.OPEN: 0,
    State.CLOSED: 3,
    State.INTERCEPTED: 1,
    **dict.fromkeys(BLOCKED_STATES, 1),
}
UNKNOWN = 4
#: Seconds that `trace` waits for the names of responders, once it has traced.
NAMES_WAIT = 1.0
INTERRUPTED = 130
#: `serve` looks for garbage when so many objects more have been made than have gone. Observations
#: come and go in equal numbers and without cycles: at Python's 700 each search with 1,000 targets
#: found nothing, took 0.1 to 0.4 s of a cycle and stopped the loop for up to 0.15 s.
GARBAGE_THRESHOLD = 10_000
#: What `trace` does not take over from the environment: it traces what its argument names.
ENDPOINT_VARIABLES = (
    *("ENDPOINT", "ENDPOINT_TCP_PORT", "ENDPOINTS", "CONFIG_FILE", "DISCOVER_SERVICES"),
    *("FILE_SD", "HTTP_SD_URL", "HTTP_SD_BEARER_TOKEN"),
    "SPLIT_TARGETS",
    *("VCAP_SERVICES", "VCAP_SERVICES_FILE_PATH", "SERVICE_BINDING_ROOT"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except ConfigurationError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="egress-exporter",
        description="Traces TCP egress paths and says where traffic stops, and who stops it. "
        "The settings are environment variables; docs/configuration.md lists them.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(title="commands", metavar="serve | trace | check")
    commands.add_parser(
        "serve", help="trace the configured targets and serve page and metrics (default)"
    ).set_defaults(run=_serve)
    trace = commands.add_parser(
        "trace",
        help="trace one endpoint now",
        description="Trace HOST:PORT once. Exits with 0 open, 1 blocked or intercepted, "
        "2 wrong usage or configuration, 3 closed, 4 unknown.",
    )
    trace.add_argument("endpoint", metavar="HOST:PORT")
    trace.add_argument("--json", action="store_true", help="print one JSON object")
    trace.add_argument("--engine", choices=("auto", "syn", "connect"), help="instead of ENGINE")
    trace.add_argument(
        "--platform", metavar="CIDR,...", help="the platform's networks, for PLATFORM_NETWORKS"
    )
    trace.set_defaults(run=_trace)
    commands.add_parser(
        "check",
        help="validate the configuration and print what it will do",
        description="Read the settings of the environment and of CONFIG_FILE, and print what "
        "`serve` would do with them. Sends no probe. Exits with 2 when something is wrong.",
    ).set_defaults(run=_check)
    return parser


def _configured(environ: Mapping[str, str]) -> Settings:
    settings = load(environ)
    if not settings.targets and not settings.sources:
        raise ConfigurationError(usage_text().splitlines())
    return settings


class _Opened(NamedTuple):
    """What needs privileges to be opened, or may."""

    engine: Engine
    echoer: Echoer

    def close(self) -> None:
        """Close every socket."""
        self.engine.close()
        self.echoer.close()


def _open(settings: Settings) -> tuple[_Opened | None, EngineStatus]:
    """The engine; none only with ENGINE=auto, where the program then measures what it can."""
    engine, status = choose(settings.engine)
    if engine:
        return _Opened(engine, Echoer(settings.probes_per_second)), status
    if settings.engine != "auto":
        raise ConfigurationError([f"ENGINE={settings.engine}: {status.reason}"])
    return None, status


async def _with_probing(
    settings: Settings,
    opened: _Opened | None,
    status: EngineStatus,
    use: Callable[[Probing], Coroutine[None, None, T]],
) -> T:
    """Run `use` with the engine on the running loop, paced as configured."""
    resolve = Resolver().resolve
    connect = handshake.connect if settings.connect_check else None
    if opened is None:
        return await use(Probing(resolve, refusing(status.reason), connect))
    engine, echoer = opened
    driver = Driver(engine, settings.probes_per_second, PROBE_BURST, gateway_to, Near())
    prober = Prober(driver)
    try:
        return await use(
            Probing(
                resolve,
                prober.trace,
                connect,
                sound=prober.trace,
                echo=None if echoer.status else echoer.echo,
                canary=Canaries(prober.trace).ask,
                # The syn engine's replies bear theirs.
                reply_ttl=reply_ttl if engine.name == "connect" else None,
                unseen_errors=engine.unseen_errors,
            )
        )
    finally:
        prober.close()
        echoer.close()


# -- serve -----------------------------------------------------------------------------


def _serve(_options: argparse.Namespace) -> int:
    # Until the service has its own: the first process of a container has no default for it.
    signal.signal(signal.SIGTERM, _leave)
    # Only here: `trace` and `check` do without the web server's 30 MB.
    from exporter.publish import log
    from exporter.publish.sockets import inherited_sockets, listen
    from exporter.service import Service

    settings = _configured(os.environ)
    opened, status = _open(settings)
    try:
        sockets = inherited_sockets(os.environ) or listen(settings.listen_address, settings.port)
    except OSError as error:
        raise ConfigurationError([str(error)]) from error
    # What needs privileges is open. Before the first thread, which would keep them.
    privileges.drop()
    gc.freeze()  # what is loaded by now stays, so no collection need look at it again
    gc.set_threshold(GARBAGE_THRESHOLD)
    stats = log.configure(settings.log_format, sys.stdout)

    async def run(probing: Probing) -> None:
        await Service(settings, lambda: load(os.environ), probing, status, stats).run(sockets)

    asyncio.run(_with_probing(settings, opened, status, run))
    return 0


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


# -- trace -----------------------------------------------------------------------------


def _trace(options: argparse.Namespace) -> int:
    # A process of seconds: to look for garbage in what it imports costs it 0.1 s.
    gc.disable()
    environ = {key: value for key, value in os.environ.items() if key not in ENDPOINT_VARIABLES}
    environ["ENDPOINTS"] = options.endpoint
    if options.engine:
        environ["ENGINE"] = options.engine
    if options.platform:
        environ["PLATFORM_NETWORKS"] = options.platform
    settings = load(environ)
    if len(settings.targets) != 1:
        raise ConfigurationError(
            [f"{options.endpoint!r} should be one HOST:PORT, such as db.example.com:5432"]
        )
    opened, status = _open(settings)
    if opened is None:
        raise ConfigurationError([f"ENGINE={settings.engine}: {status.reason}"])

    async def run(probing: Probing) -> Observation:
        zones = ZoneMap(settings.platform_networks, revealed(settings.source), settings.zones)
        target = settings.targets[0]
        reading = asyncio.create_task(asyncio.to_thread(read_table, settings))
        observation = await observe(target, probing, zones, source=settings.source)
        directory = Directory(Names() if settings.reverse_dns else None, await reading)
        return directory.asked(noted(observation, settings.proxy), NAMES_WAIT)

    observation = asyncio.run(_with_probing(settings, opened, status, run))
    if options.json:
        print(objects.to_json(objects.observation_object(observation), indent=1))
    else:
        print(text.render_trace(observation))
    gc.freeze()  # and as much again at its end
    return EXIT_STATUS.get(observation.verdict.state, UNKNOWN)


# -- check -----------------------------------------------------------------------------


def _check(_options: argparse.Namespace) -> int:
    from exporter.plan import describe

    settings, sources = asyncio.run(_discovered(_configured(os.environ)))
    opened, status = _open(settings)
    if opened:
        opened.close()
    own = revealed(settings.source)
    no_echo = opened.echoer.status if opened else ""
    addresses = asyncio.run(_resolve_all(settings))
    table = read_table(settings)
    print(describe(settings, status, addresses, own, no_echo=no_echo, table=table, sources=sources))
    return 0


async def _discovered(settings: Settings) -> tuple[Settings, tuple[SourceStatus, ...]]:
    """The settings with what the sources name now, and how each source fares."""
    if settings.sources is None:
        return settings, ()
    from exporter.discovery.discovery import Discovery

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


if __name__ == "__main__":
    sys.exit(main())

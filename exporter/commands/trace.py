"""`trace`: trace endpoints now, and show what comes of it.

1. On a terminal what is known is drawn while it grows (see `terminal`); what stays in the end is
   the same text as in a pipe.
2. Ctrl-C ends it with what is known by then. To watch is meant to end that way, so its exit
   status is that of the latest round.
3. Of several targets the exit status is the worst: `WORST_FIRST`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence

from exporter.commands import proof
from exporter.commands.parts import open_engine, probing_over
from exporter.commands.session import Session
from exporter.commands.terminal import Colours, Terminal, can_redraw, has_colours
from exporter.commands.view import View
from exporter.config import load
from exporter.model import BLOCKED_STATES, Observation, State
from exporter.publish import objects
from exporter.settings import ConfigurationError, Settings

#: What is not taken over from the environment: `trace` traces what its arguments name.
ENDPOINT_VARIABLES = (
    *("ENDPOINT", "ENDPOINT_TCP_PORT", "ENDPOINTS", "CONFIG_FILE", "DISCOVER_SERVICES"),
    *("FILE_SD", "HTTP_SD_URL", "HTTP_SD_BEARER_TOKEN"),
    "SPLIT_TARGETS",
    *("VCAP_SERVICES", "VCAP_SERVICES_FILE_PATH", "SERVICE_BINDING_ROOT"),
)
EXIT_STATUS = {
    State.OPEN: 0,
    State.CLOSED: 3,
    State.INTERCEPTED: 1,
    **dict.fromkeys(BLOCKED_STATES, 1),
}
UNKNOWN = 4
#: A block is to be acted on, and what is not known may be one.
WORST_FIRST = (1, UNKNOWN, 3, 0)
INTERRUPTED, INTERRUPTED_STATUS = "interrupted", 130
#: Seconds from one frame to the next.
FRAME = 0.2


def run(options: argparse.Namespace) -> int:
    """Trace, and tell; returns the exit status."""
    settings = _settings(options)
    proof.accept(options, len(settings.targets))
    if options.watch is None:
        # A process of seconds: to look for garbage in what it imports costs it 0.1 s.
        gc.disable()
    opened, status = open_engine(settings)
    if opened is None:
        raise ConfigurationError([f"ENGINE={settings.engine}: {status.reason}"])
    telling = _Telling(options)

    async def tracing() -> int:
        async with probing_over(opened, settings) as (prober, probing):
            session = Session(settings, status, prober, probing, telling.change)
            ended = await (
                telling.once(session) if options.watch is None else telling.watch(session)
            )
            if options.evidence and session.observations:
                proof.prove(options.evidence, session.observations[0], settings, status)
            return ended

    ended = asyncio.run(tracing())
    gc.freeze()  # and as much again at its end
    return ended


def _settings(options: argparse.Namespace) -> Settings:
    environ = {key: value for key, value in os.environ.items() if key not in ENDPOINT_VARIABLES}
    environ["ENDPOINTS"] = " ".join(options.endpoints)
    if options.engine:
        environ["ENGINE"] = options.engine
    if options.platform:
        environ["PLATFORM_NETWORKS"] = options.platform
    if options.watch is not None:
        environ["INTERVAL_SECONDS"] = str(options.watch)
    settings = load(environ)
    if not settings.targets:
        raise ConfigurationError(["no endpoint is named; write HOST:PORT, e.g. db.example.com:443"])
    return settings


class _Telling:
    """What is told of a session, as the options have it."""

    def __init__(self, options: argparse.Namespace) -> None:
        stream, environ = sys.stdout, os.environ
        self._options = options
        self._terminal = Terminal(stream)
        self._live = not options.json and can_redraw(stream, environ)
        self._colours = Colours(on=has_colours(options.color, stream, environ))

    async def once(self, session: Session) -> int:
        """Trace each target once."""
        view = View(session, self._colours)
        complete = await self._until_interrupted(session, session.round(), view.once)
        if not complete:
            return self._interrupted(view)
        if self._options.json:
            self._tell_objects(session)
        else:
            self._terminal.say(*_parted(view.known()))
        return status_of(session.observations)

    async def watch(self, session: Session) -> int:
        """Trace them again and again, until Ctrl-C."""
        view = View(session, self._colours)

        def traced() -> None:
            if self._options.json:
                self._tell_objects(session)

        watching = session.watch(self._options.watch, traced)
        await self._until_interrupted(session, watching, view.watch)
        if len(session.observations) < len(session.progress):
            return self._interrupted(view)
        if self._live:
            self._terminal.say(*view.latest())
        if not self._options.json:
            self._terminal.say(view.sum())
        return status_of(session.observations)

    def change(self, line: str) -> None:
        """Something is new; who watches without a terminal reads it at once."""
        if self._options.watch is not None and not (self._live or self._options.json):
            self._terminal.say(line)

    async def _until_interrupted(
        self,
        session: Session,
        work: Coroutine[None, None, None],
        frame: Callable[[], Sequence[str]],
    ) -> bool:
        """Work, and draw meanwhile; False when Ctrl-C came before the end."""
        loop = asyncio.get_running_loop()
        working = loop.create_task(work)

        def interrupt() -> None:
            session.keep()  # what is cancelled is forgotten
            working.cancel()

        loop.add_signal_handler(signal.SIGINT, interrupt)
        while not working.done():
            if self._live:
                self._terminal.draw(frame())
            await asyncio.wait({working}, timeout=FRAME if self._live else None)
        if working.cancelled():
            return False
        working.result()
        return True

    def _tell_objects(self, session: Session) -> None:
        """A lone endpoint's object is one to read, others have a line each."""
        lone = len(session.progress) == 1 and self._options.watch is None
        for observation in session.observations:
            found = objects.observation_object(observation)
            self._terminal.say(objects.to_json(found, indent=1 if lone else None))

    def _interrupted(self, view: View) -> int:
        """Tell what is known by now; half of a trace is no object."""
        if self._options.json:
            sys.stderr.write(f"{INTERRUPTED}\n")
        else:
            self._terminal.say(*_parted(view.known()), INTERRUPTED)
        return INTERRUPTED_STATUS


def _parted(blocks: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of blocks, an empty one between each two."""
    for number, block in enumerate(blocks):
        yield from ([""] if number else [])
        yield from block


def status_of(observations: Iterable[Observation]) -> int:
    """The worst exit status of all."""
    states = (one.verdict.state for one in observations)
    return min((EXIT_STATUS.get(state, UNKNOWN) for state in states), key=WORST_FIRST.index)

"""`serve`: trace the configured targets, and serve page and metrics."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys

from exporter import privileges
from exporter.commands.parts import configured, open_engine, probing_over, without_engine
from exporter.config import load
from exporter.publish import log
from exporter.publish.sockets import inherited_sockets, listen
from exporter.service import Service
from exporter.settings import ConfigurationError
from exporter.verbs import Probing

#: The search for garbage begins when so many objects more have been made than have gone.
#: Observations come and go in equal numbers and without cycles: at Python's 700 each search with
#: 1,000 targets found nothing, took 0.1 to 0.4 s of a cycle and stopped the loop for up to 0.15 s.
GARBAGE_THRESHOLD = 10_000


def run(_options: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    settings = configured(os.environ)
    opened, status = open_engine(settings)
    try:
        sockets = inherited_sockets(os.environ) or listen(settings.listen_address, settings.port)
    except OSError as error:
        raise ConfigurationError([str(error)]) from error
    # What needs privileges is open. Before the first thread, which would keep them.
    privileges.drop()
    gc.freeze()  # what is loaded by now stays, so no collection need look at it again
    gc.set_threshold(GARBAGE_THRESHOLD)
    stats = log.configure(settings.log_format, sys.stdout)

    async def serve(probing: Probing) -> None:
        await Service(settings, lambda: load(os.environ), probing, status, stats).run(sockets)

    async def serve_as_can_be() -> None:
        if opened is None:
            await serve(without_engine(settings, status))
            return
        async with probing_over(opened, settings) as (_, probing):
            await serve(probing)

    asyncio.run(serve_as_can_be())
    return 0

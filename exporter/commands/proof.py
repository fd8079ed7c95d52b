"""`trace --evidence FILE`: the observation as evidence, in a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from exporter import __version__
from exporter.model import BLOCKED_STATES, REACHED_STATES, EngineStatus, Observation
from exporter.publish.evidence import refusal, write
from exporter.publish.report import Dossier, Of
from exporter.settings import ConfigurationError, Settings, fingerprint


def accept(options: argparse.Namespace, targets: int) -> None:
    """Raise `ConfigurationError` where evidence is wanted and could not be given."""
    if options.evidence is None:
        return
    if targets > 1 or options.watch is not None:
        raise ConfigurationError(["--evidence takes one endpoint, and goes without --watch"])
    if why_not := refusal(options.evidence):
        raise ConfigurationError([f"--evidence cannot be written: {why_not}"])


def prove(path: Path, observation: Observation, settings: Settings, engine: EngineStatus) -> None:
    """Write the evidence. Raises `ConfigurationError` when the file system refuses after all."""
    state = observation.verdict.state
    dossier = Dossier(
        of=Of.LATEST,
        observed=observation,
        last_good=observation if state in REACHED_STATES else None,
        first_bad=observation if state in BLOCKED_STATES else None,
        engine=engine,
        source=settings.source,
        configuration=fingerprint(settings),
        version=__version__,
    )
    try:
        write(path, dossier)
    except OSError as error:
        raise ConfigurationError([f"--evidence cannot be written: {error}"]) from error

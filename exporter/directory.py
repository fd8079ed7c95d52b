"""What is known of responders beside their zone: names by reverse DNS, systems by a table.

Both are optional, and added to an observation when it is complete: nothing of it takes part in
the judgement.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from exporter import as_table
from exporter.as_table import AsTable
from exporter.model import Observation, Place
from exporter.names import Names
from exporter.settings import ConfigurationError, Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Directory:
    """Where to look addresses up; None where nothing is configured."""

    names: Names | None = None
    table: AsTable | None = None

    def described(self, observation: Observation) -> Observation:
        """The observation with what is known by now of everybody who answered. Never waits."""
        if not self.names and not self.table:
            return observation
        return replace(
            observation,
            places=self._described(observation.places),
            each=tuple(map(self.described, observation.each)),
        )

    def asked(self, observation: Observation, timeout: float) -> Observation:
        """The same, with the names that come within so many seconds. Blocks as long."""
        described = self.described(observation)
        if self.names is None:
            return described
        self.names.wait(timeout)
        return self.described(observation)

    def _described(self, places: Mapping[str, Place]) -> dict[str, Place]:
        return {address: self._place(address, place) for address, place in places.items()}

    def _place(self, address: str, place: Place) -> Place:
        origin = self.table.origin(address) if self.table else None
        number, name = origin or (None, "")
        return replace(
            place,
            name=self.names.of(address) if self.names else None,
            as_number=number,
            as_name=name,
        )


def read_table(settings: Settings) -> AsTable | None:
    """The table that is configured, if one is; takes seconds. Raises `ConfigurationError`."""
    if settings.as_table is None:
        return None
    place = f"AS_TABLE: '{settings.as_table}'"
    try:
        table = as_table.load(settings.as_table)
    except ValueError as error:
        raise ConfigurationError([f"{place} {error}"]) from None
    if table.warning:
        log.warning("%s %s", place, table.warning)
    return table

"""Times and ages as the pages write them."""

from __future__ import annotations

from exporter.model import Observation
from exporter.publish.text import timestamp

NO_BREAK = "\N{NO-BREAK SPACE}"
#: The units of an age and their lengths in seconds, from the longest on.
AGE_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def time_of(seconds: float) -> str:
    """A time for people: to the second, with a blank between date and time."""
    return f"{timestamp(seconds)[:19].replace('T', ' ')} UTC"


def age_of(at: float, now: float) -> str:
    """The time since then, on one line; 0 when the clock was set back meanwhile."""
    age = max(0.0, now - at)
    for unit, length in AGE_UNITS:
        if age >= 2 * length:
            return f"{age / length:.0f}{NO_BREAK}{unit}"
    return f"{age:.0f}{NO_BREAK}s"


def ended_ago(observation: Observation, now: float) -> str:
    """The time since the trace ended."""
    return age_of(observation.started_at + observation.duration, now)

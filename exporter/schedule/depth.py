"""How thoroughly a target is traced this time, and whether soon again.

A target that has just answered twice alike, by the same way, needs one probe a hop to see that
nothing has changed; whatever answers otherwise gets all attempts at once (`Plan.quick`). Every
FULL_EVERY-th trace is whole all the same: loss and limits of a hop show in several attempts only.
A target that fails, or has just begun to answer, is always traced wholly; so is one that somebody
asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from zlib import crc32

from exporter.model import REACHED_STATES, Known, Observation, Plan, Target

FULL_EVERY = 10


def plan_of(target: Target, known: Known) -> Plan:
    """The target's plan for an address of which this is known."""
    # Each target begins elsewhere in its round, so that not all are traced wholly in one cycle.
    turn = known.steady + crc32(target.name.encode())
    if not known.steady or turn % FULL_EVERY == 0:
        return target.plan
    return replace(target.plan, quick=True)


def unsteady(known: Mapping[str, Known]) -> dict[str, Known]:
    """The same without how often each address has answered alike: each is traced wholly."""
    return {address: replace(one, steady=0) for address, one in known.items()}


def is_to_confirm(observation: Observation, before: Observation | None) -> bool:
    """Whether a target has failed, and otherwise than the time before, if there was one."""
    state = observation.verdict.state
    return state not in REACHED_STATES and (before is None or before.verdict.state is not state)

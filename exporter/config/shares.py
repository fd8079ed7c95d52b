"""Which part of the targets is this instance's, by SPLIT_TARGETS and what goes with it.

The instance's number is INSTANCE_INDEX, or else what the platform says of it. How many there are,
no platform tells its instances.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from exporter.config.schema import Globals
from exporter.config.words import shown
from exporter.model import Share

#: Variable of a platform -> where in its value the instance's number stands. The pods of a
#: StatefulSet end in theirs; a Deployment's end in five characters, which may all be digits.
PLATFORM_INDEX = {
    "CF_INSTANCE_INDEX": re.compile(r"([0-9]{1,4})"),
    "POD_NAME": re.compile(r".*-([0-9]{1,4})", re.DOTALL),
}


def share(environ: Mapping[str, str], given: Globals, problems: list[str]) -> Share | None:
    """The part of this instance, None where it traces all targets, or where something is wrong."""
    if not given.split_targets:
        return None
    count, index = given.instance_count, _index(environ, given)
    if count is None:
        problems.append(
            "INSTANCE_COUNT: is missing, and SPLIT_TARGETS is true; set it to the number of "
            "instances, the same on all of them"
        )
    if index is None:
        problems.append(
            "INSTANCE_INDEX: is missing, and SPLIT_TARGETS is true; set it to the number of this "
            f"instance, counted from 0 ({' and '.join(PLATFORM_INDEX)} tell none)"
        )
    if count is None or index is None:
        return None
    variable, number = index
    if number >= count:
        problems.append(
            f"{variable}: {shown(environ[variable])} is instance {number}, counted from 0, and "
            f"INSTANCE_COUNT is {count}; set INSTANCE_COUNT to {number + 1} or more on all "
            "instances"
        )
        return None
    return Share(number, count)


def _index(environ: Mapping[str, str], given: Globals) -> tuple[str, int] | None:
    """The variable that tells the instance's number, and the number."""
    if given.instance_index is not None:
        return "INSTANCE_INDEX", given.instance_index
    for variable, pattern in PLATFORM_INDEX.items():
        if match := pattern.fullmatch(environ.get(variable, "").strip()):
            return variable, int(match[1])
    return None

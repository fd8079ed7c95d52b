"""What values mean on a dashboard: a text and a colour each.

The colours are those of Okabe and Ito, which people tell apart whatever their colour vision; the
text always stands beside. Green and blue: the traffic gets there. Vermilion and orange: it is
blocked, by somebody's rule or for want of a way. Purple: somebody else answers. Grey: not known.
"""

from __future__ import annotations

from collections.abc import Iterable

from grafana_foundation_sdk.models.dashboard import ValueMap, ValueMapping, ValueMappingResult

from exporter.model import REACHED_STATES, Location, State

GREEN = "#009E73"
BLUE = "#56B4E9"
PURPLE = "#CC79A7"
ORANGE = "#E69F00"
VERMILION = "#D55E00"
GREY = "#999999"

#: From the best to the worst: where several states fall on one point of a chart, the last one
#: of them is shown. What is not known hides no block, and is not hidden by an open.
STATES = (
    (State.OPEN, GREEN),
    (State.CLOSED, BLUE),
    (State.INCONCLUSIVE, GREY),
    (State.UNRESOLVED, GREY),
    (State.ERROR, GREY),
    (State.INTERCEPTED, PURPLE),
    (State.LOOP, ORANGE),
    (State.UNREACHABLE, ORANGE),
    (State.FILTERED, VERMILION),
    (State.RESET, VERMILION),
    (State.REJECTED, VERMILION),
)
#: A chart's values are numbers: from 1 on, in this order.
CODES = {state: code for code, (state, _) in enumerate(STATES, start=1)}
#: As a regular expression.
REACHED = "|".join(sorted(REACHED_STATES))

LOCATIONS = (
    (Location.PLATFORM, "inside", VERMILION),
    (Location.BOUNDARY, "at the boundary", ORANGE),
    (Location.EXTERNAL, "outside", BLUE),
    (Location.UNKNOWN, "unknown", GREY),
    (Location.NONE, "-", GREY),
)


def mappings(words: Iterable[tuple[str, str, str]]) -> list[ValueMapping]:
    """(value, text, colour) of each -> what a panel shows instead of the value."""
    return [
        ValueMap(
            {
                value: ValueMappingResult(text=text, color=color, index=index)
                for index, (value, text, color) in enumerate(words)
            }
        )
    ]


#: Of a state as a number, and of one as a label.
STATE_CODES = mappings((str(CODES[state]), state, color) for state, color in STATES)
STATE_NAMES = mappings((state, state, color) for state, color in STATES)
LOCATION_NAMES = mappings(LOCATIONS)

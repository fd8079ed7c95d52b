"""A reader concludes from printed text what the rules of readers.py say, and no more.

The texts were printed by tcptraceroute 1.5beta7, traceroute 2.1.2 and mtr 0.95 in the networks of
this folder.
"""

from __future__ import annotations

import pytest

from tests.accuracy.readers import Conclusion, Reading, compare, read_mtr, read_traceroute
from tests.accuracy.situation import Truth

DESTINATION = "10.9.7.2"
NEAR = " 1  10.9.0.2  6.229 ms  6.329 ms  6.273 ms\n 2  10.9.1.2  12.306 ms  12.327 ms *\n"
TRACEROUTE_HEAD = "traceroute to 10.9.7.2 (10.9.7.2), 15 hops max, 60 byte packets\n"
MTR_HEAD = """\
Start: 2026-11-22T12:32:43+0000
HOST: 10-9-0-1                    Loss%   Snt   Last   Avg  Best  Wrst StDev
  1.|-- 10.9.0.2                   0.0%     3    6.3   6.4   6.3   6.4   0.0
  2.|-- 10.9.1.2                  66.7%     3 3078. 1034.   12.3 3078. 1770.3
"""

TRACEROUTES = {
    "an open port": (
        NEAR + " 3  * * 10.9.7.2 [open] 48.240 ms\n",
        Reading("open", 3, DESTINATION),
    ),
    "a closed port": (
        NEAR + " 3  10.9.7.2 [closed]  30.359 ms  30.357 ms  30.353 ms\n",
        Reading("closed", 3, DESTINATION),
    ),
    "the destination without a word on its port": (
        TRACEROUTE_HEAD + NEAR + " 3  10.9.7.2  30.884 ms  30.213 ms  30.094 ms\n",
        Reading("reached", 3, DESTINATION),
    ),
    "silence behind a hop": (
        TRACEROUTE_HEAD + NEAR + " 3  * * *\n 4  * * *\n",
        Reading("filtered", 2, "10.9.1.2"),
    ),
    "silence in between alone": (
        NEAR + " 3  * * *\n 4  10.9.7.2  48.884 ms * *\n",
        Reading("reached", 4, DESTINATION),
    ),
    "a router that prohibits, at its own hop": (
        TRACEROUTE_HEAD
        + NEAR
        + " 3  10.9.2.2  18.031 ms * *\n 4  10.9.2.2  18.100 ms !X  18.240 ms !X  18.268 ms !X\n",
        Reading("rejected", 3, "10.9.2.2"),
    ),
    "the same in tcptraceroute's words": (
        NEAR + " 3  * * *\n 4  * * 10.9.1.2 12.259 ms !A\n",
        Reading("rejected", 2, "10.9.1.2"),
    ),
    "a router without a route": (
        NEAR + " 3  10.9.2.2  8.253 ms !N * 8.249 ms !N\n",
        Reading("unreachable", 3, "10.9.2.2"),
    ),
    "a host that rejects its port": (
        NEAR + " 3  10.9.7.2  12.250 ms !p  16.059 ms !p  12.262 ms !p\n",
        Reading("rejected", 3, DESTINATION),
    ),
    "an end without a reason": (
        TRACEROUTE_HEAD + NEAR + " 3  10.9.2.2  9.111 ms  9.153 ms  9.275 ms\n",
        Reading("stopped", 3, "10.9.2.2"),
    ),
    "a circle with silent turns": (
        NEAR
        + " 3  10.9.2.2  1.0 ms\n 4  10.9.1.2  1.0 ms\n 5  10.9.2.2  1.0 ms\n 6  * * *\n"
        + " 7  10.9.2.2  1.0 ms\n 8  * * *\n",
        Reading("loop", 7, "10.9.2.2"),
    ),
    "branches": (
        NEAR + " 3  10.9.2.2  1.0 ms 10.9.2.12  1.0 ms 10.9.2.22  1.0 ms\n 4  10.9.7.2  2.0 ms\n",
        Reading("reached", 4, DESTINATION),
    ),
    "silence": (TRACEROUTE_HEAD + " 1  * * *\n 2  * * *\n", Reading("nothing")),
    "nothing at all": ("", Reading("nothing")),
}
MTRS = {
    "the destination": (
        MTR_HEAD + "  3.|-- 10.9.7.2                   0.0%     3   48.4  48.4  48.4  48.5   0.0\n",
        Reading("reached", 3, DESTINATION),
    ),
    "silence behind a hop": (
        MTR_HEAD + "  3.|-- ???                       100.0     3    0.0   0.0   0.0   0.0   0.0\n",
        Reading("filtered", 2, "10.9.1.2"),
    ),
    "an end without a reason": (
        MTR_HEAD + "  3.|-- 10.9.1.2                  50.0%     3    8.4   8.4   8.4   8.4   0.0\n",
        Reading("stopped", 3, "10.9.1.2"),
    ),
    "silence": (
        "  1.|-- ???                       100.0     3    0.0   0.0   0.0   0.0   0.0\n",
        Reading("nothing"),
    ),
    "branches": (
        MTR_HEAD
        + "  3.|-- 10.9.3.2                   0.0%     3   24.4  24.4  24.4  24.5   0.0\n"
        + "        10.9.3.32\n"
        + "  4.|-- 10.9.7.2                   0.0%     3   48.4  48.4  48.4  48.5   0.0\n",
        Reading("reached", 4, DESTINATION),
    ),
}


@pytest.mark.parametrize(("printed", "reading"), TRACEROUTES.values(), ids=TRACEROUTES)
def test_a_reader_of_a_traceroute_concludes(printed: str, reading: Reading) -> None:
    """Marks, the destination, circles and silence mean what the rules say."""
    assert read_traceroute(printed, DESTINATION) == reading


@pytest.mark.parametrize(("printed", "reading"), MTRS.values(), ids=MTRS)
def test_a_reader_of_a_report_concludes(printed: str, reading: Reading) -> None:
    """Mtr has no marks, so there is less to conclude."""
    assert read_mtr(printed, DESTINATION) == reading


def truth(state: str, culprit: int | None = None, by: str = "") -> Truth:
    """A truth with one state."""
    named = {"ipv4": by} if by else {}
    return Truth(frozenset({state}), culprit=culprit, blocked_by=named)


RIGHT, WRONG, CANT_TELL = Conclusion.RIGHT, Conclusion.WRONG, Conclusion.CANT_TELL
COMPARED = (
    (Reading("open", 8), truth("open"), RIGHT),
    (Reading("reached", 8), truth("open"), RIGHT),
    (Reading("reached", 8), truth("closed"), CANT_TELL),
    (Reading("closed", 6), truth("reset", 5), WRONG),
    (Reading("reached", 6), truth("intercepted"), WRONG),
    (Reading("filtered", 5), truth("filtered", 5), RIGHT),
    (Reading("filtered", 4), truth("filtered", 5), RIGHT),
    (Reading("filtered", 3), truth("filtered", 5), WRONG),
    (Reading("filtered", 7), truth("open"), WRONG),
    (Reading("filtered", 5), truth("rejected", 5, "10.9.4.2"), WRONG),
    (Reading("rejected", 5, "10.9.4.2"), truth("rejected", 5, "10.9.4.2"), RIGHT),
    (Reading("rejected", 5, "10.9.4.2"), truth("rejected", 6, "10.9.5.2"), WRONG),
    (Reading("unreachable", 5, "10.9.4.2"), truth("rejected", 5, "10.9.4.2"), RIGHT),
    (Reading("loop", 15), truth("loop", 6), RIGHT),
    (Reading("stopped", 6), truth("rejected", 5), CANT_TELL),
    (Reading("nothing"), truth("filtered", 5), CANT_TELL),
)


@pytest.mark.parametrize(("reading", "true", "conclusion"), COMPARED, ids=str)
def test_a_conclusion_is_right_when_state_and_place_are(
    reading: Reading, true: Truth, conclusion: Conclusion
) -> None:
    """What the text does not say is neither right nor wrong."""
    assert compare(reading, true) is conclusion


def test_a_reading_fits_into_a_table() -> None:
    """One short clause each, with the hop that it rests on."""
    assert str(Reading("closed", 6, DESTINATION)) == "closed 10.9.7.2 at 6"
    assert str(Reading("filtered", 5, "10.9.4.2")) == "silence behind hop 5"
    assert str(Reading("nothing")) == "silence"

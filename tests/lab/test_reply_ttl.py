"""The TTL of answers over TCP among real routers, measured without any capability."""

from __future__ import annotations

import pytest

from tests.lab.chain import CLOSED, OPEN, REJECTED, RESET, SILENT, counted
from tests.lab.controlling import control
from tests.lab.engines import UNPRIVILEGED
from tests.lab.lab import Lab
from tests.scenarios import FAMILIES

pytestmark = pytest.mark.alone

#: Of an answer of the destination, four hops away, and of one of the second router.
GENUINE, FORGED = 61, 63


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Each IP version."""
    return str(request.param)


def measured(lab: Lab, port: int, expected: int) -> int | None:
    """The TTL of the destination's answers, null for what cannot be told."""
    ttl: int | None = control(
        lab, "reply_ttl", lab.scenario.destination, port, expected, wrapper=UNPRIVILEGED
    )
    return ttl


@pytest.mark.parametrize(("port", "ttl"), [(CLOSED, GENUINE), (RESET, FORGED), (OPEN, GENUINE)])
def test_the_ttl_is_found_whatever_was_expected(lab: Lab, port: int, ttl: int) -> None:
    """An RST of the destination, one that a router forges, a SYN-ACK: each has its sender's TTL."""
    found = [measured(lab, port, expected) for expected in (GENUINE, FORGED, GENUINE - 1, 128)]
    assert found == [ttl] * 4


@pytest.mark.parametrize("port", [SILENT, REJECTED])
def test_what_does_not_answer_over_tcp_cannot_be_told(lab: Lab, port: int) -> None:
    """Silence and an ICMP error give no TTL, and no wrong one."""
    assert measured(lab, port, GENUINE) is None


@pytest.mark.parametrize(("port", "left"), [(CLOSED, 0), (OPEN, 1)])
def test_an_ordinary_measurement_is_two_syns(lab: Lab, port: int, left: int) -> None:
    """The expected TTL and the next one are asked, once each; who accepts is left at once."""
    lab.nft(1, "insert rule inet lab ingress tcp flags & (syn | ack) == syn counter")
    lab.nft(4, "add rule inet lab input tcp flags & (rst | ack) == (rst | ack) counter")
    assert measured(lab, port, GENUINE) == GENUINE
    assert (counted(lab, 1, "ingress"), counted(lab, 4, "input")) == ([2], [left])


def test_loss_gives_no_other_ttl(lab: Lab) -> None:
    """Where a third of the answers is lost, what is found is true."""
    lab.nft(2, "insert rule inet lab forward tcp flags rst numgen random mod 3 == 0 drop")
    assert {measured(lab, CLOSED, FORGED) for _ in range(2)} <= {GENUINE, None}

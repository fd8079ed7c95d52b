"""An engine's sides: each proves itself, and one that cannot is gone with its reason."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field

import pytest

from exporter.model import FULL_TTL, FailureReason, Family, Flow, ProbeError, ReplyKind
from exporter.probing.engines import sides
from exporter.probing.engines.sides import Sides, prove_by_loopback
from tests.unit.playing import Says, World, nobody
from tests.unit.worlds import WorldEngine


@dataclass(frozen=True)
class Row:
    """What tells two sides apart."""

    family: Family
    address_family: int = 2
    loopback: str = "127.0.0.1"


@dataclass
class Held:
    """A side that knows whether it is closed."""

    row: Row
    closed: bool = False

    def close(self) -> None:
        """Close it."""
        self.closed = True


@dataclass
class Host:
    """A host that refuses to open or to prove some sides; `opened` are those it opened."""

    unopenable: dict[Family, OSError] = field(default_factory=dict)
    unproved: dict[Family, OSError] = field(default_factory=dict)
    opened: list[Held] = field(default_factory=list)

    def open(self, row: Row) -> Held:
        """Open a side or refuse to."""
        if refusal := self.unopenable.get(row.family):
            raise refusal
        self.opened.append(Held(row))
        return self.opened[-1]

    def prove(self, side: Held) -> None:
        """Prove a side or refuse to."""
        if refusal := self.unproved.get(side.row.family):
            raise refusal

    def start(self) -> Sides[Held]:
        """The sides of an engine on this host."""
        started: Sides[Held] = Sides()
        started.start((Row(Family.IPV4), Row(Family.IPV6)), self.open, self.prove)
        return started


def test_an_address_finds_its_side() -> None:
    """IPv4 and IPv6 destinations each go to their own, and closing closes both."""
    host = Host()
    started = host.start()
    found = [started.toward(address).row.family for address in ("10.9.3.2", "fd09::2")]
    assert found == [Family.IPV4, Family.IPV6]
    started.close()
    assert [side.closed for side in host.opened] == [True, True]


@pytest.mark.parametrize(
    ("error", "reason", "text"),
    [
        (OSError(97, "Address family not supported"), FailureReason.NO_ROUTE, "not supported"),
        (OSError("not answered"), FailureReason.NO_ROUTE, "not answered"),
        (PermissionError("no capability"), FailureReason.PERMISSION, "no capability"),
    ],
)
@pytest.mark.parametrize("when", ["open", "prove"])
def test_an_absent_side_refuses_with_its_reason(
    error: OSError, reason: FailureReason, text: str, when: str
) -> None:
    """A side that cannot be opened or proved is closed and refuses; the other one goes on."""
    refusals = {Family.IPV6: error}
    host = Host(unopenable=refusals) if when == "open" else Host(unproved=refusals)
    started = host.start()
    with pytest.raises(ProbeError, match=f"^IPv6 does not work on this host .*{text}") as refusal:
        started.toward("fd09::2")
    assert refusal.value.failure.reason is reason
    assert "Errno" not in str(refusal.value)
    assert started.toward("10.9.3.2").row.family is Family.IPV4
    assert [side.closed for side in host.opened if side.row.family is Family.IPV6] in ([], [True])


def test_no_side_at_all_is_the_first_ones_error() -> None:
    """Without any side the engine is refused, with what the first one lacked."""
    lacking = {Family.IPV4: PermissionError("no capability"), Family.IPV6: OSError("no IPv6")}
    with pytest.raises(PermissionError, match="no capability"):
        Host(unopenable=lacking).start()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A self-test that does not wait long."""
    monkeypatch.setattr(sides, "SELF_TEST_SECONDS", 0.05)


def prove(world: World, loopback: str = "127.0.0.1") -> list[Flow]:
    """Prove an engine whose loopback is this world; the flows that it has released."""
    with closing(WorldEngine({loopback: world})) as engine:
        prove_by_loopback(engine, Row(Family.IPV4, loopback=loopback))
    return engine.released


def test_an_rst_over_loopback_is_the_proof() -> None:
    """A closed port of the host itself answers at once, and the flow is released."""
    (flow,) = prove(lambda ttl, _: Says(ReplyKind.RST, after=0) if ttl == FULL_TTL else None)
    assert flow.destination == "127.0.0.1"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("world", [nobody, lambda *_: Says(ReplyKind.UNREACHABLE, after=0)])
def test_anything_else_over_loopback_is_none(world: World) -> None:
    """A host whose own RST does not come back cannot be probed from."""
    with pytest.raises(OSError, match="not answered"):
        prove(world)


def test_a_loopback_without_an_address_is_named() -> None:
    """Where even the host's own address is missing, that is what is said."""
    with pytest.raises(OSError, match="loopback is down or has no address"):
        prove(nobody, loopback="192.0.2.1")

"""Names that resolve, fail or hang; nobody waits for another's name."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

import pytest

from exporter.model import FailureReason, Family, ProbeError
from exporter.probing.resolver import Lookup, Resolver, system_lookup

#: Short enough for a test that waits it out, and no test waits for it otherwise.
TIMEOUT = 0.05
#: Long enough for anything that does happen.
PATIENCE = 10.0
AUTO = Family.AUTO
V4, V6 = "192.0.2.1", "2001:db8::1"


class Names:
    """A lookup that hangs for the names in `hanging` until the gate is opened."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked: Counter[str] = Counter()
        self.hanging: set[str] = set()

    def __call__(self, host: str, _port: int, _family: Family) -> list[str]:
        """One address, perhaps late."""
        self.asked[host] += 1
        if host in self.hanging:
            self.gate.wait(PATIENCE)
        return [f"192.0.2.{len(host)}"]


@pytest.fixture
def names() -> Iterator[Names]:
    """A lookup whose threads all end with the test."""
    lookup = Names()
    yield lookup
    lookup.gate.set()
    for thread in threading.enumerate():
        if thread.name.startswith("lookup"):
            thread.join(PATIENCE)


def resolve(lookup: Lookup, family: Family = AUTO) -> list[str]:
    """Resolve one name on a loop of its own."""
    return asyncio.run(Resolver(lookup, PATIENCE).resolve("db.example", 443, family))


def failure(lookup: Lookup, family: Family = AUTO) -> str:
    """Why a name does not resolve; the reason is RESOLVE."""
    with pytest.raises(ProbeError) as caught:
        resolve(lookup, family)
    assert caught.value.failure.reason is FailureReason.RESOLVE
    return caught.value.failure.message


def raising(error: Exception) -> Lookup:
    """A lookup that fails."""

    def lookup(_host: str, _port: int, _family: Family) -> list[str]:
        raise error

    return lookup


def test_addresses_keep_their_order() -> None:
    """Fifty addresses come back in the order of the system's preference."""
    many = [f"192.0.2.{n}" for n in range(50, 0, -1)]
    assert resolve(lambda *_: many) == many


# -- the system's answer ---------------------------------------------------------------


class System:
    """getaddrinfo() of a host that may lack a family, for a name with these addresses."""

    def __init__(self, *addresses: str, has: AbstractSet[Family] = frozenset(Family)) -> None:
        self.addresses = addresses
        self.has = has
        self.asked: list[tuple[int, int]] = []

    def __call__(
        self, host: str, port: int, family: int, kind: int, proto: int = 0, flags: int = 0
    ) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        """The addresses in their order, or the error that the C library gives."""
        assert kind == socket.SOCK_STREAM
        self.asked.append((family, flags))
        found = [
            (family, kind, proto, host, (address, port))
            for address in self.addresses
            if family in {socket.AF_UNSPEC, AF[Family.of(address)]}
            and (not flags & socket.AI_ADDRCONFIG or Family.of(address) in self.has)
        ]
        if not found:
            raise socket.gaierror(socket.EAI_NODATA, "No address associated with hostname")
        return found


AF = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}


def system(monkeypatch: pytest.MonkeyPatch, *addresses: str, **host: AbstractSet[Family]) -> System:
    """Put it in the place of the C library's."""
    made = System(*addresses, **host)
    monkeypatch.setattr(socket, "getaddrinfo", made)
    return made


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "2001:db8::1", "198.51.100.1"])
def test_an_address_resolves_to_itself(address: str) -> None:
    """An address is its own answer, of either family, and nobody is asked."""
    resolver = Resolver(raising(AssertionError("asked")))
    assert asyncio.run(resolver.resolve(address, 443, AUTO)) == [address]


@pytest.mark.parametrize("order", [(V6, V4), (V4, V6)])
def test_the_systems_order_is_kept(order: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Which family comes first is the system's to say, and duplicates are dropped."""
    system(monkeypatch, *order, order[0])
    assert system_lookup("db.example", 443, AUTO) == list(order)


@pytest.mark.parametrize(
    ("family", "found", "asked"),
    [
        (Family.AUTO, [V6, V4], (socket.AF_UNSPEC, socket.AI_ADDRCONFIG)),
        (Family.IPV4, [V4], (socket.AF_INET, 0)),
        (Family.IPV6, [V6], (socket.AF_INET6, 0)),
    ],
)
def test_the_family_is_asked_for(
    family: Family, found: list[str], asked: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is wanted and no other; without one what applications get by default."""
    made = system(monkeypatch, V6, V4)
    assert system_lookup("db.example", 443, family) == found
    assert made.asked == [asked]


@pytest.mark.parametrize(
    ("address", "family", "said"),
    [
        (V4, Family.IPV6, "it has IPv4 addresses only, and family is ipv6"),
        (V6, Family.IPV4, "it has IPv6 addresses only, and family is ipv4"),
        (V6, Family.AUTO, "it has IPv6 addresses only, and this host has none of its own"),
    ],
)
def test_a_name_of_the_other_family(
    address: str, family: Family, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name without an address of the wanted family says which it has, and what was wanted."""
    system(monkeypatch, address, has={Family.IPV4})
    assert failure(system_lookup, family) == f"db.example does not resolve: {said}"


def test_a_name_of_no_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the name has no address at all the system's own words stand."""
    system(monkeypatch)
    assert failure(system_lookup, Family.IPV6).endswith(": No address associated with hostname")


def test_a_system_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that cannot be reached says nothing about families."""
    asked = []

    def lookup(*arguments: object) -> list[object]:
        asked.append(arguments)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    assert "Temporary failure" in failure(system_lookup, Family.IPV6)
    assert len(asked) == 1


@pytest.mark.parametrize("address", ["fe80::1%eth0", "::ffff:192.0.2.1"])
def test_addresses_without_a_path_are_left_out(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One's own link has no path, and IPv4 in IPv6's form would be sent as IPv4."""
    system(monkeypatch, address, V6)
    assert system_lookup("db.example", 443, AUTO) == [V6]
    system(monkeypatch, address)
    assert failure(system_lookup).endswith("the name has no address that can be traced")


# -- what goes wrong -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "not known"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "Temporary failure"),
        (UnicodeError("label empty or too long"), "label empty"),
        (OSError(), "the look-up failed"),
    ],
)
def test_a_name_that_does_not_resolve(error: Exception, said: str) -> None:
    """Whatever the resolver says against a name becomes a failure with its words."""
    assert said in failure(raising(error))


def test_a_name_without_an_address() -> None:
    """A name that exists and has no address is a failure, too."""
    assert failure(lambda *_: []) == (
        "db.example does not resolve: the name has no address that can be traced"
    )


def test_an_unknown_fault_is_passed_on() -> None:
    """What is no resolver's error is left to the caller, and the name can be asked again."""

    async def main() -> None:
        resolver = Resolver(raising(ZeroDivisionError()), PATIENCE)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await resolver.resolve("db.example", 443, AUTO)

    asyncio.run(main())


def test_a_hanging_name_fails_in_time(names: Names) -> None:
    """A look-up that hangs becomes a failure after the timeout."""
    names.hanging.add("slow.example")

    async def main() -> None:
        with pytest.raises(ProbeError, match=r"no answer within 0\.05 s"):
            await Resolver(names, TIMEOUT).resolve("slow.example", 443, AUTO)

    asyncio.run(main())


def test_a_hanging_name_delays_nobody(names: Names) -> None:
    """While twenty names hang the others resolve."""
    hosts = [f"slow{n}.example" for n in range(20)]
    names.hanging.update(hosts)

    async def main() -> None:
        resolver = Resolver(names, PATIENCE)
        hanging = [asyncio.create_task(resolver.resolve(host, 443, AUTO)) for host in hosts]
        assert await resolver.resolve("db.example", 443, AUTO)
        assert not any(task.done() for task in hanging)
        names.gate.set()
        await asyncio.gather(*hanging)

    asyncio.run(main())


def test_a_hanging_name_is_not_asked_twice(names: Names) -> None:
    """As long as a look-up hangs no second one begins; its late answer serves who waits then."""
    names.hanging.add("slow.example")

    async def main() -> None:
        hasty, patient = Resolver(names, TIMEOUT), Resolver(names, PATIENCE)
        patient._pending = hasty._pending
        for _ in range(3):
            with pytest.raises(ProbeError):
                await hasty.resolve("slow.example", 443, AUTO)
        waiting = asyncio.create_task(patient.resolve("slow.example", 443, AUTO))
        await asyncio.sleep(0)
        assert names.asked["slow.example"] == 1
        names.gate.set()
        assert await waiting == ["192.0.2.12"]
        assert await patient.resolve("slow.example", 443, AUTO)
        assert names.asked["slow.example"] == 2

    asyncio.run(main())


def test_every_trace_asks_anew(names: Names) -> None:
    """An answer is not kept: the next trace sees a name that has moved."""

    async def main() -> None:
        resolver = Resolver(names, PATIENCE)
        for _ in range(3):
            await resolver.resolve("db.example", 443, AUTO)

    asyncio.run(main())
    assert names.asked["db.example"] == 3


def test_giving_up_does_not_spoil_it_for_others(names: Names) -> None:
    """A trace that is cancelled while it waits leaves the look-up to the one beside it."""
    names.hanging.add("slow.example")

    async def main() -> None:
        resolver = Resolver(names, PATIENCE)
        gone, stays = (
            asyncio.create_task(resolver.resolve("slow.example", 443, AUTO)) for _ in range(2)
        )
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        names.gate.set()
        assert await stays

    asyncio.run(main())


def test_a_failure_that_nobody_waits_for_is_silent(names: Names) -> None:
    """A look-up that fails after its trace has given up leaves no warning."""
    reached = threading.Event()

    def lookup(host: str, port: int, _family: Family) -> list[str]:
        reached.set()
        names.gate.wait(PATIENCE)
        raise OSError(f"{host}:{port}")

    async def main() -> None:
        resolver = Resolver(lookup, TIMEOUT)
        with pytest.raises(ProbeError):
            await resolver.resolve("slow.example", 443, AUTO)
        names.gate.set()
        while resolver._pending:  # noqa: ASYNC110  -- there is no event, that is the point
            await asyncio.sleep(0.001)

    asyncio.run(main(), debug=True)
    assert reached.is_set()


def test_a_thread_that_cannot_start(monkeypatch: pytest.MonkeyPatch, names: Names) -> None:
    """Out of threads one trace fails, and the next one asks again."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        resolver = Resolver(names, PATIENCE)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError):
                await resolver.resolve("db.example", 443, AUTO)
        assert await resolver.resolve("db.example", 443, AUTO)

    asyncio.run(main())


def test_the_loop_ends_at_once(names: Names) -> None:
    """A loop does not wait for a look-up that hangs, and the late answer disturbs nobody."""
    names.hanging.add("slow.example")

    async def main() -> None:
        task = asyncio.create_task(Resolver(names, PATIENCE).resolve("slow.example", 443, AUTO))
        await asyncio.sleep(0)
        task.cancel()

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < PATIENCE / 2


PROCESS = """
import asyncio, threading
from exporter.model import Family
from exporter.probing.resolver import Resolver
async def main():
    resolver = Resolver(lambda *_: threading.Event().wait())
    asyncio.create_task(resolver.resolve("slow.example", 443, Family.AUTO))
    await asyncio.sleep(0.01)
asyncio.run(main())
"""


def test_the_process_ends_at_once() -> None:
    """A process does not wait for a look-up that hangs."""
    subprocess.run([sys.executable, "-c", PROCESS], check=True, timeout=PATIENCE)

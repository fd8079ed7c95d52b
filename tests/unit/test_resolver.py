"""Names that resolve, fail or hang; nobody waits for another's name."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from exporter.model import FailureReason, ProbeError
from exporter.probing.resolver import Resolver, system_lookup

#: Short enough for a test that waits it out, and no test waits for it otherwise.
TIMEOUT = 0.05
#: Long enough for anything that does happen.
PATIENCE = 10.0


class Names:
    """A lookup that hangs for the names in `hanging` until the gate is opened."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked: Counter[str] = Counter()
        self.hanging: set[str] = set()

    def __call__(self, host: str, _port: int) -> list[str]:
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


def resolve(lookup: Callable[[str, int], list[str]], host: str = "db.example") -> list[str]:
    """Resolve one name on a loop of its own."""
    return asyncio.run(Resolver(lookup, PATIENCE).resolve(host, 443))


def failure(lookup: Callable[[str, int], list[str]]) -> str:
    """Why a name does not resolve; the reason is RESOLVE."""
    with pytest.raises(ProbeError) as caught:
        resolve(lookup)
    assert caught.value.failure.reason is FailureReason.RESOLVE
    return caught.value.failure.message


def raising(error: Exception) -> Callable[[str, int], list[str]]:
    """A lookup that fails."""

    def lookup(_host: str, _port: int) -> list[str]:
        raise error

    return lookup


def test_addresses_keep_their_order() -> None:
    """Fifty addresses come back in the order of the system's preference."""
    many = [f"192.0.2.{n}" for n in range(50, 0, -1)]
    assert resolve(lambda *_: many) == many


def test_an_address_resolves_to_itself() -> None:
    """The system's resolver takes an address for what it is, and names it once."""
    assert system_lookup("127.0.0.1", 443) == ["127.0.0.1"]


def test_each_address_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Duplicates in the system's answer are dropped, the order stays."""
    found = [(0, 0, 0, "", (address, 443)) for address in ("192.0.2.2", "192.0.2.1", "192.0.2.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    assert system_lookup("db.example", 443) == ["192.0.2.2", "192.0.2.1"]


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
    assert failure(lambda *_: []) == "db.example does not resolve: the name has no address"


def test_an_unknown_fault_is_passed_on() -> None:
    """What is no resolver's error is left to the caller, and the name can be asked again."""

    async def main() -> None:
        resolver = Resolver(raising(ZeroDivisionError()), PATIENCE)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await resolver.resolve("db.example", 443)

    asyncio.run(main())


def test_a_hanging_name_fails_in_time(names: Names) -> None:
    """A look-up that hangs becomes a failure after the timeout."""
    names.hanging.add("slow.example")

    async def main() -> None:
        with pytest.raises(ProbeError, match=r"no answer within 0\.05 s"):
            await Resolver(names, TIMEOUT).resolve("slow.example", 443)

    asyncio.run(main())


def test_a_hanging_name_delays_nobody(names: Names) -> None:
    """While twenty names hang the others resolve."""
    hosts = [f"slow{n}.example" for n in range(20)]
    names.hanging.update(hosts)

    async def main() -> None:
        resolver = Resolver(names, PATIENCE)
        hanging = [asyncio.create_task(resolver.resolve(host, 443)) for host in hosts]
        assert await resolver.resolve("db.example", 443)
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
                await hasty.resolve("slow.example", 443)
        waiting = asyncio.create_task(patient.resolve("slow.example", 443))
        await asyncio.sleep(0)
        assert names.asked["slow.example"] == 1
        names.gate.set()
        assert await waiting == ["192.0.2.12"]
        assert await patient.resolve("slow.example", 443)
        assert names.asked["slow.example"] == 2

    asyncio.run(main())


def test_every_trace_asks_anew(names: Names) -> None:
    """An answer is not kept: the next trace sees a name that has moved."""

    async def main() -> None:
        resolver = Resolver(names, PATIENCE)
        for _ in range(3):
            await resolver.resolve("db.example", 443)

    asyncio.run(main())
    assert names.asked["db.example"] == 3


def test_giving_up_does_not_spoil_it_for_others(names: Names) -> None:
    """A trace that is cancelled while it waits leaves the look-up to the one beside it."""
    names.hanging.add("slow.example")

    async def main() -> None:
        resolver = Resolver(names, PATIENCE)
        gone, stays = (asyncio.create_task(resolver.resolve("slow.example", 443)) for _ in range(2))
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

    def lookup(host: str, port: int) -> list[str]:
        reached.set()
        names.gate.wait(PATIENCE)
        raise OSError(f"{host}:{port}")

    async def main() -> None:
        resolver = Resolver(lookup, TIMEOUT)
        with pytest.raises(ProbeError):
            await resolver.resolve("slow.example", 443)
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
                await resolver.resolve("db.example", 443)
        assert await resolver.resolve("db.example", 443)

    asyncio.run(main())


def test_the_loop_ends_at_once(names: Names) -> None:
    """A loop does not wait for a look-up that hangs, and the late answer disturbs nobody."""
    names.hanging.add("slow.example")

    async def main() -> None:
        task = asyncio.create_task(Resolver(names, PATIENCE).resolve("slow.example", 443))
        await asyncio.sleep(0)
        task.cancel()

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < PATIENCE / 2


PROCESS = """
import asyncio, threading
from exporter.probing.resolver import Resolver
async def main():
    asyncio.create_task(Resolver(lambda *_: threading.Event().wait()).resolve("slow.example", 443))
    await asyncio.sleep(0.01)
asyncio.run(main())
"""


def test_the_process_ends_at_once() -> None:
    """A process does not wait for a look-up that hangs."""
    subprocess.run([sys.executable, "-c", PROCESS], check=True, timeout=PATIENCE)

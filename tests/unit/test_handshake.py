"""A plain connect(): every outcome is a value."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.model import Handshake
from exporter.probing.handshake import connect

HOST = "127.0.0.1"


def connected(port: int, address: str = HOST, timeout: float = 5.0) -> Handshake:
    """One connect on a loop of its own."""
    return asyncio.run(connect(address, port, timeout))


@pytest.fixture
def full() -> Iterator[int]:
    """A port whose accept queue is full, so that its host ignores further SYNs (listen(2))."""
    with socket.create_server((HOST, 0), backlog=0) as server:
        port = server.getsockname()[1]
        with socket.create_connection((HOST, port)):
            yield port


def open_files() -> set[Path]:
    """The descriptors of this process."""
    return set(Path("/proc/self/fd").iterdir())


def test_success() -> None:
    """A port that listens is a success, and the connection is closed again."""
    with socket.create_server((HOST, 0)) as server:
        done = connected(server.getsockname()[1])
        assert done.success
        assert done.error is None
        assert 0 <= done.duration < 5
        with server.accept()[0] as accepted:
            assert accepted.recv(1) == b""


def test_refusal() -> None:
    """A port that nobody listens on is refused, in the system's words."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        done = connected(taken.getsockname()[1])
    assert (done.success, done.error) == (False, os.strerror(errno.ECONNREFUSED))


def test_silence(full: int) -> None:
    """Without an answer the wait ends at the timeout, which is named."""
    done = connected(full, timeout=0.1)
    assert (done.success, done.error) == (False, "no answer within 0.1 s")
    assert done.duration >= 0.1


@pytest.mark.parametrize(("address", "number"), [("255.255.255.255", errno.ENETUNREACH)])
def test_an_error_of_this_host(address: str, number: int) -> None:
    """What connect() itself refuses is a failure in the system's words."""
    assert connected(9, address).error == os.strerror(number)


def test_the_kernel_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own timeout is told apart from ours."""

    async def give_up(*_: object) -> None:
        raise TimeoutError(errno.ETIMEDOUT, "Connect call failed")

    async def main() -> Handshake:
        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", give_up)
        return await connect(HOST, 9)

    assert asyncio.run(main()).error == os.strerror(errno.ETIMEDOUT)


def test_cancellation_closes_the_socket(full: int) -> None:
    """A cancelled connect leaves neither a socket nor a task."""

    async def main() -> None:
        before = open_files()
        task = asyncio.create_task(connect(HOST, full))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert open_files() == before

    asyncio.run(main())

"""Listening, inherited sockets, and the end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from exporter.publish import sockets
from tests.web.serving import PATIENCE, Content, Loop

# -- listening -------------------------------------------------------------------------


def port_of(sock: socket.socket) -> int:
    """The port that the kernel chose."""
    port: int = sock.getsockname()[1]
    return port


@pytest.mark.parametrize("client", ["127.0.0.1", "::1"])
def test_no_address_means_both_families(client: str) -> None:
    """Without an address the port is open for IPv4 and IPv6."""
    (sock,) = sockets.listen("", 0)
    with sock, socket.create_connection((client, port_of(sock)), timeout=PATIENCE):
        pass


@pytest.mark.parametrize(
    ("address", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)]
)
def test_an_address_is_the_only_one(address: str, family: socket.AddressFamily) -> None:
    """With an address, that one alone is open."""
    (sock,) = sockets.listen(address, 0)
    with sock:
        assert (sock.family, sock.getsockname()[0]) == (family, address)


@pytest.mark.parametrize("address", ["127.0.0.1", ""])
def test_a_port_in_use_is_named(address: str) -> None:
    """The error says which port, and that another program has it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = port_of(other)
        with pytest.raises(OSError, match=f"port {port}: another program listens there already"):
            sockets.listen(address, port)


def test_a_foreign_address_is_named() -> None:
    """The error says that the address (of a documentation network) is not the host's."""
    with pytest.raises(OSError, match=r"192\.0\.2\.1 port 1: this host does not have"):
        sockets.listen("192.0.2.1", 1)


def test_a_name_that_does_not_resolve_is_named() -> None:
    """The resolver's own words come after the address."""
    with pytest.raises(OSError, match=r"cannot listen on 999\.1\.1\.1 port 1: \w+"):
        sockets.listen("999.1.1.1", 1)


def test_no_permission_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's refusal of a low port comes with what would help."""

    def refuse(*_args: object, **_options: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(OSError, match="port 80: no permission; a port below 1024 needs root"):
        sockets.listen("", 80)


# -- socket activation -----------------------------------------------------------------


@pytest.mark.parametrize(
    "environ",
    [{}, {"LISTEN_FDS": "0"}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {"LISTEN_PID": "1"}],
)
def test_nothing_is_inherited_unless_it_is_for_us(environ: dict[str, str]) -> None:
    """No count, or another process's id: no sockets, and descriptor 3 stays untouched."""
    assert sockets.inherited_sockets(environ) == []


@pytest.mark.parametrize("count", ["x", "-1", "", "1e3", "99999999", "\u0661"])
def test_a_count_that_is_none_is_named(count: str) -> None:
    """LISTEN_FDS that is no number is shown with what would be right."""
    with pytest.raises(OSError, match="it should be a number of descriptors, such as 1"):
        sockets.inherited_sockets({"LISTEN_FDS": count})


def run_with_descriptor_3(sock: socket.socket, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that has this socket as its descriptor 3, and nothing above."""
    with subprocess.Popen(
        [sys.executable, "-c", f"import os\nfrom exporter.publish import sockets\n{code}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.dup2(sock.fileno(), 3),  # noqa: PLW1509 - no other way to a number
        close_fds=False,
    ) as process:
        out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


INHERIT = """
try:
    (sock,) = sockets.inherited_sockets({"LISTEN_FDS": "1"%s})
    print(sock.getsockname()[1], os.get_inheritable(3))
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("pid", ["", ', "LISTEN_PID": str(os.getpid())'])
def test_an_inherited_socket_is_used(pid: str) -> None:
    """Descriptor 3 is taken over, with our process id or none, and not passed on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        done = run_with_descriptor_3(sock, INHERIT % pid)
        assert (done.stdout, done.stderr) == (f"{port_of(sock)} False\n", "")


def test_an_inherited_socket_has_to_listen() -> None:
    """A socket that does not listen is refused with its descriptor's number."""
    with socket.socket() as sock:
        done = run_with_descriptor_3(sock, INHERIT % "")
    assert done.stdout == "LISTEN_FDS: the socket at descriptor 3 does not listen\n"


def test_an_inherited_socket_has_to_be_there() -> None:
    """A descriptor that is closed is refused with its number."""
    code = "import os\nos.closerange(3, 9)\n" + INHERIT % ""
    with socket.socket() as sock:
        done = run_with_descriptor_3(sock, code)
    assert done.stdout == "LISTEN_FDS: descriptor 3 is no open socket\n"


# -- the end ---------------------------------------------------------------------------


def test_stop_does_not_wait_for_anyone() -> None:
    """Within half a second everything is closed, whatever the clients are doing."""
    content = Content(page="x" * 4_000_000)
    loop = Loop(content.site)
    try:
        says = (b"", b"GET / HT", b"GET / HTTP/1.1\r\n\r\n" * 4)
        clients = [
            socket.create_connection(("127.0.0.1", loop.port), timeout=PATIENCE) for _ in says * 20
        ]
        for client, words in zip(clients, says * 20, strict=True):
            client.sendall(words)
        for reader in clients[2::3]:
            reader.recv(1)  # so that its answer is on the way
        began = time.monotonic()
        loop.stop_server()
        assert time.monotonic() - began < 0.5
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", loop.port))
        for client in clients:
            while True:
                try:
                    if not client.recv(1 << 20):
                        break
                except ConnectionResetError:
                    break
            client.close()
    finally:
        loop.end()

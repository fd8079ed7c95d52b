"""Listening sockets: the program's own, or those it was started with."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Mapping
from contextlib import ExitStack

#: Connections that wait for accept(): a burst of them must not cost a scrape a retry.
BACKLOG = 512
#: sd_listen_fds(3): the first inherited descriptor.
LISTEN_FDS_START = 3

WHY_NOT_LISTENING = {
    errno.EADDRINUSE: "another program listens there already",
    errno.EACCES: "no permission; a port below 1024 needs root or CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this host does not have that address",
}


def listen(address: str, port: int) -> list[socket.socket]:
    """Listening sockets; the address "" means all of the host's, IPv4 and IPv6.

    Raises OSError with a sentence for the user.
    """
    try:
        return _listen(address, port) if address else [_listen_everywhere(port)]
    except OSError as error:
        why = WHY_NOT_LISTENING.get(error.errno or 0, error.strerror)
        place = f"{address} port {port}" if address else f"port {port}"
        raise OSError(f"cannot listen on {place}: {why}") from error


def _listen_everywhere(port: int) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    return socket.create_server(
        ("", port),
        family=socket.AF_INET6 if both else socket.AF_INET,
        backlog=BACKLOG,
        dualstack_ipv6=both,
    )


def _listen(address: str, port: int) -> list[socket.socket]:
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    with ExitStack() as on_failure:
        sockets = [
            on_failure.enter_context(socket.create_server(to, family=family, backlog=BACKLOG))
            for family, *_, to in dict.fromkeys(found)
        ]
        on_failure.pop_all()
    return sockets


def inherited_sockets(environ: Mapping[str, str]) -> list[socket.socket]:
    """The listening sockets that the program was started with, as sd_listen_fds(3) has it.

    None without LISTEN_FDS, or when LISTEN_PID names another process; a starter that cannot
    know our process id may leave LISTEN_PID out. Raises OSError with a sentence for the user.
    """
    count = environ.get("LISTEN_FDS", "0")
    if environ.get("LISTEN_PID", str(os.getpid())) != str(os.getpid()):
        return []
    if not re.fullmatch(r"[0-9]{1,3}", count):
        raise OSError(f"LISTEN_FDS is {count!r}; it should be a number of descriptors, such as 1")
    return [_adopt(LISTEN_FDS_START + n) for n in range(int(count))]


def _adopt(descriptor: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise OSError(f"LISTEN_FDS: descriptor {descriptor} is no open socket") from error
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise OSError(f"LISTEN_FDS: the socket at descriptor {descriptor} does not listen")
    sock.set_inheritable(False)
    return sock

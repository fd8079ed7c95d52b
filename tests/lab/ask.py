"""What the kernel says about one SYN per TTL; run by path inside a lab, standard library only.

    python ask.py HOST PORT TTLS SECONDS

Prints a JSON list with an item for each TTL from 1 on: [address, [type, code]] for an ICMP
error, [address, "syn-ack" or "rst"] for TCP, ["", why] where the prober's own kernel refused,
null for silence. It shares nothing with the exporter: ordinary sockets connect, and the kernel
keeps what came back in the error queue (ip(7), IP_RECVERR). HOST is an address of either family.
SECONDS bounds the whole.
"""

from __future__ import annotations

import errno
import json
import os
import selectors
import socket
import struct
import sys
import time
from typing import NamedTuple

#: sock_extended_err: errno, origin, type, code, pad, info, data; then the sender's sockaddr.
ERROR = struct.Struct("=IBBBBII")


class Family(NamedTuple):
    """Options (linux/in.h, in6.h), origin of errors (linux/errqueue.h), address in a sockaddr."""

    number: socket.AddressFamily
    level: int
    ttl: int
    recverr: int
    origin: int
    sender: slice


IPV4 = Family(socket.AF_INET, socket.IPPROTO_IP, socket.IP_TTL, 11, 2, slice(4, 8))
IPV6 = Family(socket.AF_INET6, socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 25, 3, slice(8, 24))

#: SO_ERROR of a socket whose error queue is empty -> what must have come.
TCP_ANSWERS = {0: "syn-ack", errno.ECONNREFUSED: "rst"}

Answer = tuple[str, tuple[int, int] | str]


def main(host: str, port: int, ttls: int, seconds: float) -> list[Answer | None]:
    """Ask at all TTLs at once; an answer for each, None for silence."""
    family = IPV6 if ":" in host else IPV4
    answers: list[Answer | None] = [None] * ttls
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for ttl in range(1, ttls + 1):
            one = socket_for(family, ttl)
            failed = one.connect_ex((host, port))
            if failed == errno.EINPROGRESS:
                selector.register(one, selectors.EVENT_WRITE, ttl)
            else:
                answers[ttl - 1] = ("", os.strerror(failed))
                one.close()
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                answers[key.data - 1] = read(family, key.fileobj, host)
                selector.unregister(key.fileobj)
                key.fileobj.close()
        for key in selector.get_map().values():
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
    return answers


def socket_for(family: Family, ttl: int) -> socket.socket:
    """A socket whose packets start with this TTL, and which keeps the errors that they meet."""
    one = socket.socket(family.number)
    one.setblocking(False)
    one.setsockopt(family.level, family.ttl, ttl)
    one.setsockopt(family.level, family.recverr, 1)
    # No FIN that a TTL would kill, no TIME_WAIT: the connection ends with an RST.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return one


def read(family: Family, one: socket.socket, host: str) -> Answer:
    """What a socket that has become ready was told."""
    try:
        _, ancillary, _, _ = one.recvmsg(0, 512, socket.MSG_ERRQUEUE)
    except BlockingIOError:
        failed = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return host, TCP_ANSWERS.get(failed) or os.strerror(failed)
    (_, _, data), *_ = ancillary
    _, origin, kind, code, *_ = ERROR.unpack_from(data)
    if origin != family.origin:
        return "", f"an error of origin {origin}"
    return socket.inet_ntop(family.number, data[ERROR.size :][family.sender]), (kind, code)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))))

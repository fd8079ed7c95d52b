"""Questions about interfaces and routes, to the kernel: rtnetlink(7). Needs no privilege."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

#: Seconds for the kernel's answer, which it gives at once; a sandbox may not answer at all.
PATIENCE = 1.0
#: So many parts of an answer are taken.
MAX_ANSWERS = 64
_BUFFER = 65536

# linux/netlink.h
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type; padded to 4 octets
_ERROR, _DONE = 2, 3
_REQUEST, _DUMP = 0x001, 0x300


def ask(question: int, body: bytes, *, dump: bool = False) -> list[bytes]:
    """The bodies of the answers to an RTM_GET*, of one or, with `dump`, of all that there are.

    None where the kernel says no. Raises OSError, struct.error.
    """
    flags = _REQUEST | (_DUMP if dump else 0)
    header = _HEADER.pack(_HEADER.size + len(body), question, flags, 0, 0)
    answers: list[bytes] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(PATIENCE)
        kernel.send(header + body)
        while len(answers) < MAX_ANSWERS:
            for kind, answer in messages(kernel.recv(_BUFFER)):
                if kind in (_ERROR, _DONE):
                    return answers
                answers.append(answer)
            if not dump:
                break
    return answers


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of each message in what was received. Raises struct.error."""
    while data:
        length, kind, *_ = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            raise struct.error("a message that ends elsewhere")
        yield kind, data[_HEADER.size : length]
        data = data[_aligned(length) :]


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute of a question; the value's length is a multiple of 4."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value


def attributes(data: bytes) -> dict[int, bytes]:
    """Type -> value of each attribute of an answer. Raises struct.error."""
    found = {}
    while data:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            raise struct.error("an attribute that ends elsewhere")
        found[kind] = data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]
    return found


def _aligned(length: int) -> int:
    return length + 3 & ~3

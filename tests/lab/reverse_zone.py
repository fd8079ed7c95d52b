"""A DNS server for reverse zones, run by path in a lab; standard library only.

    python reverse_zone.py ANSWERS

ANSWERS is JSON: address -> [name, seconds until it answers, null for never]. All other names do not
exist (NXDOMAIN). It listens on 127.0.0.1:53, and prints "ready", then the name in each question.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
from ipaddress import ip_address

# RFC 1035 section 4.1.1: response, recursion desired and available; the code for no such name.
RESPONSE, NO_SUCH_NAME = 0x8180, 3
PTR, IN, TTL = 12, 1, 60
HEADER = struct.Struct("!HHHHHH")


def packed(name: str) -> bytes:
    """A name as labels; whatever stands between the dots is a label's content."""
    labels = (label.encode("latin-1") for label in name.split("."))
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def question(query: bytes) -> tuple[str, bytes]:
    """The name that a query asks for, and its question as it stands there."""
    at, labels = HEADER.size, []
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("latin-1"))
        at += 1 + length
    return ".".join(labels), query[HEADER.size : at + 5]


def response(query: bytes, asked: bytes, name: str | None) -> bytes:
    """The answer with a name, or that there is none."""
    (number, *_) = HEADER.unpack_from(query)
    if name is None:
        return HEADER.pack(number, RESPONSE | NO_SUCH_NAME, 1, 0, 0, 0) + asked
    data = packed(name)
    # 0xc00c points to the name in the question, RFC 1035 section 4.1.4.
    record = struct.pack("!HHHIH", 0xC00C, PTR, IN, TTL, len(data)) + data
    return HEADER.pack(number, RESPONSE, 1, 1, 0, 0) + asked + record


def serve(answers: dict[str, tuple[str, float | None]]) -> None:
    """Answer until killed."""
    names = {ip_address(address).reverse_pointer: said for address, said in answers.items()}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        print("ready", flush=True)
        while True:
            query, client = server.recvfrom(512)
            asked, section = question(query)
            print(asked, flush=True)
            name, delay = names.get(asked, (None, 0.0))
            if delay is not None:
                made = response(query, section, name)
                threading.Timer(delay, server.sendto, (made, client)).start()


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))

"""Classic BPF programs: which packets the kernel copies to a raw socket (linux/filter.h).

A raw socket is offered every packet of its protocol, so on a busy host other programs' as well.
What these programs refuse is never copied. They change only with the ports that the engine holds
and the addresses that it sends from, whatever the number of flows.

`segments` admits TCP segments to these ports. `errors` judges an ICMP error by what it quotes, and
admits what it cannot judge: a quote that is cut, has IP options or extension headers, or whose
source address is none of ours, so that somebody has rewritten it and perhaps the port, too.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice

SO_ATTACH_FILTER = 26  # asm-generic/socket.h; the socket module does not name it

#: Jumps reach 255 instructions; with more ports than these everything is admitted.
MOST_PORTS = 180
#: With more addresses the rest of them counts as somebody else's.
MOST_ADDRESSES = 8

#: An instruction: code, label to go to if true, and if false, constant. The label "" is the next
#: instruction; a text by itself gives the next one a label.
Line = tuple[int, str, str, int] | str

_LENGTH = 0x80  # the packet's
_BYTE, _HALF, _WORD = 0x30, 0x28, 0x20
_INDEXED = 0x20  # added to those three: at x + constant
_HEADER_LENGTH = 0xB1  # to x: of an IPv4 header that begins at the constant
_LESS_X, _MASK = 0x1C, 0x54
_IF_EQUAL, _IF_AT_LEAST = 0x15, 0x35
_RETURN = 0x06

_ROW = struct.Struct("=HBBI")
_REJECT: tuple[Line, ...] = ("reject", (_RETURN, "", "", 0))
_ACCEPT: tuple[Line, ...] = ("accept", (_RETURN, "", "", 0xFFFF))

_PROTOCOL_TCP = 6
#: IPv6 headers that may precede TCP: hop-by-hop, routing, fragment, authentication, options.
_EXTENSIONS = (0, 43, 44, 51, 60)


@dataclass(frozen=True, slots=True)
class Offsets:
    """Where things stand in what a raw socket of one IP version is offered.

    `to_port` leads to a segment's destination port, loaded. `to_quoted_port` leads to an ICMP
    error's quoted source port, loaded, or to "accept" or "reject"; `source` are the instructions
    that load the quoted source address, one for each 32 bits.
    """

    address_family: int
    to_port: tuple[Line, ...]
    to_quoted_port: tuple[Line, ...]
    source: tuple[Line, ...]


#: The whole packet: x is the length of its header. ICMP's own header has 8 octets.
IPV4 = Offsets(
    address_family=socket.AF_INET,
    to_port=((_HEADER_LENGTH, "", "", 0), (_HALF + _INDEXED, "", "", 2)),
    to_quoted_port=(
        (_HEADER_LENGTH, "", "", 0),
        (_LENGTH, "", "", 0),
        (_LESS_X, "", "", 0),
        (_IF_AT_LEAST, "", "accept", 8 + 20 + 8),
        (_BYTE + _INDEXED, "", "", 8),
        (_IF_EQUAL, "", "accept", 0x45),  # version 4, no options
        (_BYTE + _INDEXED, "", "", 8 + 9),
        (_IF_EQUAL, "", "reject", _PROTOCOL_TCP),
        (_HALF + _INDEXED, "", "", 8 + 20),
    ),
    source=((_WORD + _INDEXED, "", "", 8 + 12),),
)

#: What stands behind the IPv6 headers.
IPV6 = Offsets(
    address_family=socket.AF_INET6,
    to_port=((_HALF, "", "", 2),),
    to_quoted_port=(
        (_LENGTH, "", "", 0),
        (_IF_AT_LEAST, "", "accept", 8 + 40 + 8),
        (_BYTE, "", "", 8),
        (_MASK, "", "", 0xF0),
        (_IF_EQUAL, "", "accept", 0x60),
        (_BYTE, "", "", 8 + 6),
        *((_IF_EQUAL, "accept", "", header) for header in _EXTENSIONS),
        (_IF_EQUAL, "", "reject", _PROTOCOL_TCP),
        (_HALF, "", "", 8 + 40),
    ),
    source=tuple((_WORD, "", "", 8 + 8 + part) for part in (0, 4, 8, 12)),
)


def segments(offsets: Offsets, ports: Collection[int]) -> list[Line]:
    """Admits TCP segments to one of `ports`."""
    return [*offsets.to_port, *_one_of(ports), *_REJECT, *_ACCEPT]


def errors(offsets: Offsets, ports: Collection[int], addresses: Iterable[str]) -> list[Line]:
    """Admits ICMP errors but those that quote no TCP, or a port of ours that is none of `ports`.

    It is a port of ours where the quoted source address is one of `addresses`.
    """
    program = [*offsets.to_quoted_port, *_one_of(ports)]
    for address in islice(addresses, MOST_ADDRESSES):
        packed = socket.inet_pton(offsets.address_family, address)
        *first, (last,) = struct.iter_unpack("!I", packed)
        *loads, load = offsets.source
        for load_first, (word,) in zip(loads, first, strict=True):
            program += load_first, (_IF_EQUAL, "", f"not {address}", word)
        program += load, (_IF_EQUAL, "reject", "", last), f"not {address}"
    return [*program, *_ACCEPT, *_REJECT]


def _one_of(ports: Collection[int]) -> list[Line]:
    if len(ports) > MOST_PORTS:
        return [(_IF_EQUAL, "accept", "accept", 0)]
    return [(_IF_EQUAL, "accept", "", port) for port in ports]


def assembled(program: Iterable[Line]) -> bytes:
    """The instructions as the kernel takes them."""
    places: dict[str, int] = {}
    rows: list[tuple[int, str, str, int]] = []
    for line in program:
        if isinstance(line, str):
            places[line] = len(rows)
        else:
            rows.append(line)
    return b"".join(
        _ROW.pack(
            code,
            places[yes] - at if yes else 0,
            places[no] - at if no else 0,
            constant,
        )
        for at, (code, yes, no, constant) in enumerate(rows, start=1)
    )


def attach(raw: socket.socket, program: Iterable[Line]) -> None:
    """Have the kernel run a program for each packet that a socket is offered. Raises OSError."""
    code = assembled(program)
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: unsigned short len; struct sock_filter *filter
    raw.setsockopt(
        socket.SOL_SOCKET,
        SO_ATTACH_FILTER,
        struct.pack("@HP", len(code) // _ROW.size, ctypes.addressof(buffer)),
    )

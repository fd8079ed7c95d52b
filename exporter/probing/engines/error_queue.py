"""The ICMP errors that the kernel keeps for a socket without privilege (IP_RECVERR, ip(7)).

An entry of a socket's error queue is what a router quoted of the probe, from its TCP header on,
and ancillary data: struct sock_extended_err with the error's type, code and sender, the TTL that
the error itself arrived with, and the kernel's stamp.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.model import FULL_TTL, MplsLabel, Probe, Reply, ReplyKind
from exporter.probing.engines.stamps import STAMPING, Ancillary, arrival
from exporter.probing.packet import decode_mpls

IP_RECVERR = 11  # linux/in.h
IP_RECVTTL = 12

#: struct sock_extended_err (linux/errqueue.h): errno, origin, type, code, padding, info, data.
#: The sender's sockaddr stands behind it.
_EXTENDED_ERROR = struct.Struct("=IBBBxII")
_INT = struct.Struct("@i")
_ANCILLARY_SIZE = 256
#: A quote with extensions is at most 576 octets by RFC 1812.
_QUOTE_SIZE = 1024
#: How long the self-tests wait for what the kernel itself sends over loopback.
_SELF_TEST_SECONDS = 1.0

Option = tuple[int, int, int | bytes]

_COMMON_OPTIONS: tuple[Option, ...] = (
    STAMPING,
    (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0)),
)


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between the IP versions; IPv6 is another row."""

    address_family: int
    loopback: str
    #: (level, option) of the TTL of what a socket sends.
    ttl: tuple[int, int]
    #: What has the kernel keep ICMP errors, their TTLs and their times, and end without a FIN.
    options: tuple[Option, ...]
    #: (level, type) of the ancillary data that hold them.
    error: tuple[int, int]
    reply_ttl: tuple[int, int]
    #: SO_EE_ORIGIN_* of an ICMP error, and where its sender's address stands behind it.
    origin: int
    sender: slice
    #: ICMP's type of a time-exceeded.
    time_exceeded: int
    #: IP header of a probe: what the kernel has cut from the quote.
    header_size: int
    #: What silences a socket that needs a gateway, and gives it its voice back.
    mute: tuple[Option, ...]
    unmute: tuple[Option, ...]


IPV4 = Family(
    address_family=socket.AF_INET,
    loopback="127.0.0.1",
    ttl=(socket.IPPROTO_IP, socket.IP_TTL),
    options=(
        (socket.IPPROTO_IP, IP_RECVERR, 1),
        (socket.IPPROTO_IP, IP_RECVTTL, 1),
        *_COMMON_OPTIONS,
    ),
    error=(socket.IPPROTO_IP, IP_RECVERR),
    reply_ttl=(socket.IPPROTO_IP, socket.IP_TTL),
    origin=2,  # SO_EE_ORIGIN_ICMP
    sender=slice(_EXTENDED_ERROR.size + 4, _EXTENDED_ERROR.size + 8),
    time_exceeded=11,
    header_size=20,
    mute=(
        (socket.SOL_SOCKET, socket.SO_DONTROUTE, 1),
        (socket.IPPROTO_IP, socket.IP_TOS, 0x10),
    ),
    unmute=(
        (socket.SOL_SOCKET, socket.SO_DONTROUTE, 0),
        (socket.IPPROTO_IP, socket.IP_TOS, 0),
    ),
)


def set_options(one: socket.socket, options: Sequence[Option]) -> None:
    """Set each of the options on a socket."""
    for option in options:
        one.setsockopt(*option)


def datagram_socket(family: Family) -> socket.socket:
    """A UDP socket that has the kernel keep its errors. Raises OSError."""
    one = socket.socket(family.address_family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    set_options(one, family.options)
    return one


def take_error(one: socket.socket, family: Family, probe: Probe) -> Reply | None:
    """The oldest entry of a socket's error queue, see `icmp_reply`.

    Raises BlockingIOError where the queue is empty.
    """
    quote, ancillary, _, _ = one.recvmsg(_QUOTE_SIZE, _ANCILLARY_SIZE, socket.MSG_ERRQUEUE)
    return icmp_reply(family, quote, ancillary, probe)


def icmp_reply(family: Family, quote: bytes, ancillary: Ancillary, probe: Probe) -> Reply | None:
    """The reply that an entry of the error queue is.

    `quote` is what the kernel leaves of the quoted probe, from its TCP header on. None when the
    entry is no ICMP error or has no sender.
    """
    found = {(level, kind): data for level, kind, data in ancillary}
    error = found.get(family.error, b"")
    if len(error) < family.sender.stop:
        return None
    _, origin, kind, code, _, _ = _EXTENDED_ERROR.unpack_from(error)
    if origin != family.origin:
        return None
    ttl = found.get(family.reply_ttl)
    expired = kind == family.time_exceeded
    return Reply(
        ReplyKind.TIME_EXCEEDED if expired else ReplyKind.UNREACHABLE,
        socket.inet_ntop(family.address_family, error[family.sender]),
        max(arrival(ancillary), probe.sent_at),
        ttl=_INT.unpack(ttl)[0] if ttl else None,
        icmp=(kind, code),
        mpls=_labels(family, quote),
    )


def _labels(family: Family, quote: bytes) -> tuple[MplsLabel, ...]:
    """The MPLS labels behind a quote.

    The ICMP header is gone and with it the quote's length, so they are looked for where almost
    every router puts them, right behind 128 octets (RFC 4884, section 5.5).
    """
    return decode_mpls(bytes(8 + family.header_size) + quote, 0)


# -- the self-test ---------------------------------------------------------------------


def keeps_errors(family: Family, asking: socket.socket) -> bool:
    """Whether a datagram to a closed port of this host shows in the queue of who sent it.

    `asking` is an unconnected `datagram_socket`. Raises OSError, too, where it does not.
    """
    with datagram_socket(family) as closed:
        # Connected elsewhere, it takes nothing from others, and nobody else gets its port.
        closed.bind((family.loopback, 0))
        closed.connect((family.loopback, 1))
        asking.connect(closed.getsockname())
        probe = Probe(FULL_TTL, 1, time.monotonic())
        asking.send(b"")
        wait_until_readable(asking.fileno())
        reply = take_error(asking, family, probe)
    return reply is not None and reply.address == family.loopback


def wait_until_readable(fileno: int) -> None:
    """Wait for what the kernel itself sends over loopback, and not for ever."""
    select.select((fileno,), (), (), _SELF_TEST_SECONDS)

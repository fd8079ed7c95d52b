"""The ICMP errors that the kernel keeps for a socket without privilege (ip(7), ipv6(7)).

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

from exporter.model import FULL_TTL, Family, Probe, Reply, ReplyKind
from exporter.probing.engines.sides import SELF_TEST_SECONDS
from exporter.probing.engines.stamps import STAMPING, Ancillary, arrival
from exporter.probing.packet import decode_mpls

IP_RECVERR = 11  # linux/in.h
IP_RECVTTL = 12
IPV6_RECVERR = 25  # linux/in6.h
IPV6_AUTOFLOWLABEL = 70

#: struct sock_extended_err (linux/errqueue.h): errno, origin, type, code, padding, info, data.
#: The sender's sockaddr stands behind it.
_EXTENDED_ERROR = struct.Struct("=IBBBxII")
_INT = struct.Struct("@i")
_ANCILLARY_SIZE = 256
#: A quote with extensions is at most 576 octets by RFC 1812.
_QUOTE_SIZE = 1024

#: Looking a member up in its enumeration takes longer than the rest of a comparison.
TIME_EXCEEDED, UNREACHABLE = ReplyKind.TIME_EXCEEDED, ReplyKind.UNREACHABLE
_ERROR_QUEUE = int(socket.MSG_ERRQUEUE)

Option = tuple[int, int, int | bytes]

#: A type 4 routing header (RFC 8754) that leads to ::1 first: next header, length, type, segments
#: left, last entry, flags and tag, and the segments, of which the kernel fills in the last.
#: Loopback drops what has one (net.ipv6.conf.lo.seg6_enabled is 0 unless somebody wants it).
_BY_WAY_OF_LOOPBACK = (
    struct.pack("!BBBBBxH", 0, 4, 4, 1, 1, 0) + bytes(16) + socket.inet_pton(socket.AF_INET6, "::1")
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between the IP versions."""

    family: Family
    address_family: int
    loopback: str
    #: (level, option) of the TTL of what a socket sends.
    ttl: tuple[int, int]
    #: What has the kernel keep ICMP errors, their TTLs and their times.
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
    #: What silences a socket, and gives it its voice back.
    mute: tuple[Option, ...]
    unmute: tuple[Option, ...]
    #: Whether only a socket falls silent that needs a gateway.
    mutes_gateways_only: bool


IPV4 = Dialect(
    family=Family.IPV4,
    address_family=socket.AF_INET,
    loopback="127.0.0.1",
    ttl=(socket.IPPROTO_IP, socket.IP_TTL),
    options=(
        (socket.IPPROTO_IP, IP_RECVERR, 1),
        (socket.IPPROTO_IP, IP_RECVTTL, 1),
        STAMPING,
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
    mutes_gateways_only=True,
)

IPV6 = Dialect(
    family=Family.IPV6,
    address_family=socket.AF_INET6,
    loopback="::1",
    ttl=(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
    options=(
        (socket.IPPROTO_IPV6, IPV6_RECVERR, 1),
        (socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1),
        # The kernel's flow label is another one for each socket; routers choose paths by it.
        (socket.IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 0),
        STAMPING,
    ),
    error=(socket.IPPROTO_IPV6, IPV6_RECVERR),
    reply_ttl=(socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT),
    origin=3,  # SO_EE_ORIGIN_ICMP6
    sender=slice(_EXTENDED_ERROR.size + 8, _EXTENDED_ERROR.size + 24),
    time_exceeded=3,
    header_size=40,
    mute=((socket.IPPROTO_IPV6, socket.IPV6_RTHDR, _BY_WAY_OF_LOOPBACK),),
    unmute=((socket.IPPROTO_IPV6, socket.IPV6_RTHDR, b""),),
    mutes_gateways_only=False,
)


def set_options(one: socket.SocketType, options: Sequence[Option]) -> None:
    """Set each of the options on a socket."""
    for option in options:
        one.setsockopt(*option)


def datagram_socket(dialect: Dialect) -> socket.socket:
    """A UDP socket that has the kernel keep its errors. Raises OSError."""
    one = socket.socket(dialect.address_family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    set_options(one, dialect.options)
    return one


def take_error(one: socket.SocketType, dialect: Dialect, probe: Probe) -> Reply | None:
    """The oldest entry of a socket's error queue, see `icmp_reply`.

    Raises BlockingIOError where the queue is empty.
    """
    quote, ancillary, _, _ = one.recvmsg(_QUOTE_SIZE, _ANCILLARY_SIZE, _ERROR_QUEUE)
    return icmp_reply(dialect, quote, ancillary, probe)


def icmp_reply(dialect: Dialect, quote: bytes, ancillary: Ancillary, probe: Probe) -> Reply | None:
    """The reply that an entry of the error queue is.

    `quote` is what the kernel leaves of the quoted probe, from its TCP header on. None when the
    entry is no ICMP error or has no sender.
    """
    found = {(level, kind): data for level, kind, data in ancillary}
    error = found.get(dialect.error, b"")
    if len(error) < dialect.sender.stop:
        return None
    _, origin, kind, code, _, _ = _EXTENDED_ERROR.unpack_from(error)
    if origin != dialect.origin:
        return None
    ttl = found.get(dialect.reply_ttl)
    expired = kind == dialect.time_exceeded
    return Reply(
        TIME_EXCEEDED if expired else UNREACHABLE,
        socket.inet_ntop(dialect.address_family, error[dialect.sender]),
        max(arrival(ancillary), probe.sent_at),
        ttl=_INT.unpack(ttl)[0] if ttl else None,
        icmp=(kind, code),
        # The ICMP header is gone and with it the quote's length, so the labels are looked for where
        # almost every router puts them, right behind 128 octets (RFC 4884, section 5.5).
        mpls=decode_mpls(quote, -dialect.header_size, 0),
    )


# -- the self-test ---------------------------------------------------------------------


def keeps_errors(dialect: Dialect, asking: socket.socket) -> bool:
    """Whether a datagram to a closed port of this host shows in the queue of who sent it.

    `asking` is an unconnected `datagram_socket`. Raises OSError, too, where it does not.
    """
    with datagram_socket(dialect) as closed:
        # Connected elsewhere, it takes nothing from others, and nobody else gets its port.
        closed.bind((dialect.loopback, 0))
        closed.connect((dialect.loopback, 1))
        asking.connect(closed.getsockname())
        probe = Probe(FULL_TTL, 1, time.monotonic())
        asking.send(b"")
        select.select((asking,), (), (), SELF_TEST_SECONDS)
        reply = take_error(asking, dialect, probe)
    return reply is not None and reply.address == dialect.loopback

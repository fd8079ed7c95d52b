"""What may stand for a host: a DNS name, an address; and what is only mistaken for one."""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from exporter.config.words import one_line

_DNS_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_URL_PORTS = {"http": "80", "https": "443"}


def host(text: str) -> str:
    """A DNS name in ASCII, or an address as `inet_ntop` writes it."""
    if url := parts_of_url(text):
        raise ValueError(f"is a URL; write {url[0]} as the host and {url[1]} as the port")
    if address := _address(text):
        return address
    if re.fullmatch(r"\[.*\](?::[0-9]*)?|[^:]*:[0-9]*", text):
        raise ValueError("should be the host alone, without brackets and port")
    # getaddrinfo() would read 10.1 or 0x7f000001 as an address, as inet_aton() does.
    if re.fullmatch(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)", text):
        raise ValueError("is no IPv4 address; it should be four numbers from 0 to 255")
    return _dns_name(text)


def is_address(host: str) -> bool:
    """Whether a host, as `host` gives it, is an address."""
    return _address(host) is not None


def _address(text: str) -> str | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.scope_id:
        raise ValueError("has a zone after %; there is no path to trace on one's own link")
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        raise ValueError(f"is an IPv4 address in IPv6's form; write {address.ipv4_mapped}")
    return str(address)


def _dns_name(text: str) -> str:
    # RFC 1035 section 2.3.4: 63 octets a label, 253 in all as text. An underscore is no host
    # name's (RFC 952), but platforms use it; a dot at the end says that the name is complete.
    name = text if text.isascii() or len(text) > 253 else _idna(text)
    labels = name.removesuffix(".").split(".")
    if len(name.removesuffix(".")) > 253 or not all(map(_DNS_LABEL.fullmatch, labels)):
        raise ValueError("is neither a DNS name nor an IP address")
    return name


def _idna(text: str) -> str:
    """The ASCII form of an international name, if it stands for this name alone.

    RFC 3490 maps some letters away (sharp s to ss) that RFC 5891 keeps: those would trace
    somebody else's host.
    """
    with suppress(UnicodeError):
        name = text.encode("idna")
        if name.decode("idna").lower() == text.lower():
            return name.decode("ascii")
    raise ValueError("has no unambiguous ASCII form; write its form with xn--")


def parts_of_url(text: str) -> tuple[str, str] | None:
    """The host and port of a URL, None for what is none."""
    if "://" not in text:
        return None
    try:
        url = urlsplit(text)
        if text.count("@") != url.netloc.count("@"):
            # A password that is not percent-encoded: a piece of it would pass for host or port.
            return "HOST", "PORT"
        port = str(url.port or _URL_PORTS.get(url.scheme, "PORT"))
    except ValueError:
        return "HOST", "PORT"
    # pydantic cannot carry a message that is not UTF-8.
    return one_line(url.hostname or "HOST"), port

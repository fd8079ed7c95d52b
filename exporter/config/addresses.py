"""Host and port in a text that may hold secrets: URIs, and lists of host:port.

A text either gives what stands plainly in the place of a host and of a port, or nothing. An error
never quotes it, and where an unescaped password could have pushed a piece of itself into the
host's place, there is no answer.
"""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import ip_address

from exporter.config.hosts import host

#: Port -> the schemes of URIs that mean it when they name none.
SCHEMES = {
    22: "ssh sftp",
    25: "smtp",
    80: "http ws",
    389: "ldap",
    443: "https wss",
    465: "smtps",
    636: "ldaps",
    1433: "sqlserver mssql",
    1883: "mqtt",
    3306: "mysql mysql2 mariadb",
    4222: "nats",
    5432: "postgres postgresql",
    5671: "amqps",
    5672: "amqp",
    6379: "redis rediss",
    8883: "mqtts",
    9042: "cassandra",
    9092: "kafka",
    11211: "memcached",
    27017: "mongodb",
}
PORTS = {scheme: port for port, schemes in SCHEMES.items() for scheme in schemes.split()}
#: So many hosts of one text.
MAX_HOSTS = 32


def host_ports(text: str, port: int | None = None) -> list[tuple[str, int]]:
    """The hosts and ports of a URI, or of one host with or without a port.

    `port` is that of a host without one. Raises ValueError, which says nothing of the text.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        return [_host_port(scheme, port)]
    # jdbc:postgresql, postgresql+psycopg
    words = re.split(r"[:+]", scheme.lower())
    if "srv" in words:
        raise ValueError("names a DNS service, not a host")
    # RFC 3986 section 3.2; and a semicolon, behind which SQL Server's has its properties.
    authority = re.split(r"[/?#;\\]", rest, maxsplit=1)[0]
    # More than one @, or one behind the authority: the password is not percent-encoded, and
    # what looks like a host may be the beginning of it.
    if rest.count("@") != authority.count("@") or authority.count("@") > 1:
        raise ValueError("is no URI whose host is certain")
    known = next((PORTS[word] for word in words if word in PORTS), port)
    hosts = authority.rpartition("@")[2].split(",")
    return [_host_port(item, known) for item in hosts[:MAX_HOSTS]]


def _host_port(text: str, port: int | None) -> tuple[str, int]:
    """One host, with a port behind it or this one."""
    with suppress(ValueError):
        return _checked(str(ip_address(text)), port)  # an IPv6 address without brackets
    match = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?", text.strip())
    if not match:
        raise ValueError("is no host and port")
    return _checked(match[1].strip("[]"), int(match[2]) if match[2] else port)


def _checked(name: str, port: int | None) -> tuple[str, int]:
    if port is None or not 1 <= port <= 65_535:
        raise ValueError("has no port")
    return host(name), port

"""What can be configured, as plain values. `config` reads them; docs/configuration.md explains."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from exporter.model import NamedZone, Proxy, Share, Source, Target

Network = IPv4Network | IPv6Network

#: Of the configuration and of discovery together.
MAX_TARGETS = 2_000


class ConfigurationError(Exception):
    """The configuration cannot be used; `problems` has one printable line for each mistake."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Listed(NamedTuple):
    """What a discovered list names.

    `left_out` counts the entries that cannot be targets; `problems` has printable lines about
    them, which are fewer where mistakes repeat.
    """

    targets: tuple[Target, ...] = ()
    left_out: int = 0
    problems: tuple[str, ...] = ()


class Lists(Protocol):
    """How a list of targets is read. Each raises ValueError with one printable line."""

    def of_file(self, path: Path) -> Listed:
        """What a file of JSON or YAML names. Blocks."""

    def of_answer(self, body: bytes, name: str) -> Listed:
        """What JSON from the source of that name names. Takes its time."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """Files that list targets; `name` is their path, whose last part may have a *."""

    name: str
    #: Seconds after which they are read even if they look unchanged.
    refresh_interval: float


@dataclass(frozen=True, slots=True)
class Login:
    """What a request authenticates itself with: a secret, or the file that holds it.

    With a `username` it is that user's password (RFC 7617), else what follows the scheme.
    """

    scheme: str
    username: str = ""
    secret: str = field(default="", repr=False)
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class HttpSource:
    """An address that lists targets; `name` is that address without what may be secret in it."""

    name: str
    url: str = field(repr=False)
    #: Seconds from one request to the next.
    refresh_interval: float
    login: Login | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    """From where targets are discovered, and how their lists are read."""

    lists: Lists = field(repr=False, compare=False)
    files: tuple[FileSource, ...] = ()
    urls: tuple[HttpSource, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be configured; `targets` is empty when nothing names any."""

    targets: tuple[Target, ...]
    engine: Literal["auto", "syn", "connect"]
    platform_networks: tuple[Network, ...]
    #: "" means every address of the host.
    listen_address: str
    port: int
    log_format: Literal["text", "json"]
    log_traces: Literal["all", "changes", "none"]
    connect_check: bool
    max_concurrent_traces: int
    probes_per_second: int
    basic_auth_username: str | None
    basic_auth_password: str | None = field(repr=False)
    config_file: Path | None
    #: Where to keep what should survive a restart; None: nowhere.
    state_file: Path | None
    source: Source
    #: None when the environment names no proxy.
    proxy: Proxy | None = None
    zones: tuple[NamedZone, ...] = ()
    #: Whether the names of responders are looked up.
    reverse_dns: bool = False
    #: The table of autonomous systems; None: none.
    as_table: Path | None = None
    #: From where targets are discovered; None: from nowhere.
    sources: Sources | None = None
    #: Which part of the targets this instance traces; None: all of them.
    share: Share | None = None
    #: One printable line for each thing that was left out without stopping anything.
    warnings: tuple[str, ...] = field(default=(), compare=False)


#: Secrets, what only this instance has, and what is no setting: not hashed.
_APART = ("basic_auth_username", "basic_auth_password", "source", "share", "sources", "warnings")


def fingerprint(settings: Settings) -> str:
    """SHA-256 in hexadecimal of the settings; docs/evidence.md says what is in it.

    Equal settings have the same one in every instance. No user, password or token is in it, nor
    an address from which targets are read, but for its name.
    """
    names = (one.name for one in fields(settings) if one.name not in _APART)
    hashed = {name: getattr(settings, name) for name in names}
    listed = settings.sources
    named: tuple[FileSource | HttpSource, ...] = (*listed.files, *listed.urls) if listed else ()
    hashed["sources"] = [(one.name, one.refresh_interval) for one in named]
    canonical = json.dumps(hashed, sort_keys=True, default=_plain)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: object) -> object:
    """What JSON does not know: a record as its fields, all else as text."""
    if not is_dataclass(value):
        return str(value)
    # `dataclasses.asdict` would copy everything in depth: half a second for 2,000 targets.
    return {one.name: getattr(value, one.name) for one in fields(value)}

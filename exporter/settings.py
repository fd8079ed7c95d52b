"""What can be configured, as plain values. `config` reads them; docs/configuration.md explains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from exporter.model import NamedZone, Proxy, Source, Target

Network = IPv4Network | IPv6Network


class ConfigurationError(Exception):
    """The configuration cannot be used; `problems` has one printable line for each mistake."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


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
    #: One printable line for each thing that was left out without stopping anything.
    warnings: tuple[str, ...] = field(default=(), compare=False)

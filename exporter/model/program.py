"""What the program says about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """Which engine runs, and why; `name` is "none" when no engine can.

    `untraceable` says why tracing is not possible here although an engine runs, "" as long as
    no trace has shown that.
    """

    name: str
    reason: str
    untraceable: str = ""

    @property
    def explanation(self) -> str:
        """Both in one text."""
        if not self.untraceable:
            return self.reason
        return f"{self.reason}; tracing is not possible here: {self.untraceable}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the probes come from; "" for what is not known.

    The first four are the labels of `egress_source_info`: on Cloud Foundry an instance and the
    address of its cell, on Kubernetes a pod's name and that of its node. The rest is Cloud
    Foundry's alone.
    """

    address: str = ""
    instance_index: str = ""
    instance_guid: str = ""
    cell: str = ""
    application: str = ""
    space: str = ""
    organization: str = ""
    application_guid: str = ""
    process_guid: str = ""


@dataclass(frozen=True, slots=True)
class Proxy:
    """The proxies that the environment names for others; this program never uses one.

    `variables` are (name, host:port), without user, password and path; the latter is "" when it
    cannot be read. `exempt` are the entries of NO_PROXY.
    """

    variables: tuple[tuple[str, str], ...]
    exempt: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The variables, each with the proxy's host:port where that is known."""
        return ", ".join(f"{name}={at}" if at else name for name, at in self.variables)


@dataclass(frozen=True, slots=True)
class Share:
    """Which part of the targets an instance traces: that of the `index`-th of `count`, from 0."""

    index: int
    count: int


@dataclass(frozen=True, slots=True)
class ReloadStatus:
    """How the last reading of the configuration ended; `at` is the last success."""

    successful: bool
    at: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """What a source of discovered targets gives: how many, and how many entries were no target.

    `successful` says whether the last look at it succeeded; after one that did not, the targets
    are those of the last one that did.
    """

    source: str
    successful: bool
    targets: int
    left_out: int

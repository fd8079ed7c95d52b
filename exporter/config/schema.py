"""The settings as pydantic sees them, their keys, and its errors in words.

A field's description completes "should be ...". A new setting is one field, and a row in
docs/configuration.md.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from exporter.config.hosts import is_address
from exporter.config.values import (
    ControlPorts,
    FileName,
    Host,
    Labels,
    ListenAddress,
    Name,
    Networks,
    Password,
    Port,
    Services,
    Switch,
    Username,
    ZoneName,
    between,
)
from exporter.config.words import MAX_SHOWN, Place, shown
from exporter.model import FAMILY_NAMES, FULL_TTL, Controls, Family, Plan

_PLAN = Plan()
_CONTROLS = Controls()
#: More branches than a load balancer has in practice; each takes probes in every cycle.
MAX_FLOWS = 16
#: Instances that share the targets out; beyond it each would have a handful.
MAX_INSTANCES = 100


class Tracing(BaseModel):
    """How a target is traced: of the environment, the file's `defaults` and each target."""

    interval_seconds: Annotated[float, between(1, 86_400, "a number")] = 60.0
    attempts: Annotated[int, between(1, 10)] = _PLAN.attempts
    max_hops: Annotated[int, between(1, FULL_TTL - 1)] = _PLAN.max_hops
    timeout_seconds: Annotated[float, between(0.1, 60, "a number")] = _PLAN.timeout
    family: Annotated[Family, Field(description="auto, ipv4 or ipv6")] = Family.AUTO
    all_addresses: Switch = False
    control_ports: ControlPorts = _CONTROLS.ports
    icmp_echo: Switch = _CONTROLS.echo
    canary: Switch = _CONTROLS.canary
    failing_flows: Annotated[int, between(1, MAX_FLOWS)] = _CONTROLS.failing_flows
    flows: Annotated[int, between(1, MAX_FLOWS)] = _CONTROLS.flows
    labels: Labels = {}

    @field_validator("flows")
    @classmethod
    def _no_more_than_where_something_fails(cls, flows: int, info: ValidationInfo) -> int:
        most = info.data.get("failing_flows", MAX_FLOWS)
        if flows > most:
            raise ValueError(
                f"is more than failing_flows, which is {most}; write at most {most}, or raise that"
            )
        return flows


class Entry(Tracing):
    """One target."""

    name: Name = ""
    host: Host
    port: Port

    @field_validator("host")
    @classmethod
    def _of_the_family(cls, host: str, info: ValidationInfo) -> str:
        family = info.data.get("family", Family.AUTO)
        if is_address(host) and family not in {Family.AUTO, Family.of(host)}:
            raise ValueError(f"is no {FAMILY_NAMES[family]} address, and family is {family}")
        return host


class ZoneEntry(BaseModel):
    """One zone."""

    name: ZoneName
    networks: Annotated[
        Networks,
        Field(min_length=1, description="networks such as 10.0.0.0/8, at least one"),
    ]
    platform: Switch = False


class Globals(BaseSettings, Tracing):
    """What is set once; the names in upper case are variables, `labels` excepted."""

    # The defaults stand here, as they are meant: pydantic-settings would validate them, too.
    model_config = SettingsConfigDict(validate_default=False)

    engine: Annotated[
        Literal["auto", "syn", "connect"], Field(description="auto, syn or connect")
    ] = "auto"
    platform_networks: Networks = ()
    listen_address: ListenAddress = ""
    port: Port = 8080
    log_format: Annotated[Literal["text", "json"], Field(description="text or json")] = "text"
    log_traces: Annotated[
        Literal["all", "changes", "none"], Field(description="all, changes or none")
    ] = "changes"
    connect_check: Switch = True
    max_concurrent_traces: Annotated[int, between(1, 1_000)] = 16
    probes_per_second: Annotated[int, between(1, 10_000)] = 200
    basic_auth_username: Username = None
    basic_auth_password: Password = None
    discover_services: Services = ()
    state_file: FileName = None
    reverse_dns: Switch = False
    as_table: FileName = None
    split_targets: Switch = False
    instance_index: Annotated[int | None, between(0, MAX_INSTANCES - 1)] = None
    instance_count: Annotated[int | None, between(1, MAX_INSTANCES)] = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: object,
        **__: object,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The `layers` that are handed in, the first wins: never os.environ, never an .env file."""
        layers = init_settings()["layers"]
        return tuple(InitSettingsSource(settings_cls, layer) for layer in layers)


#: Never shown and never stripped; user:password in the user name is an easy mistake.
SECRETS = frozenset(
    {
        *("basic_auth_username", "basic_auth_password"),
        *("username", "password", "credentials", "url", "http_sd_url", "http_sd_bearer_token"),
    }
)
ENDPOINT_KEYS = ("endpoint", "endpoint_tcp_port", "endpoints")
SOURCE_VARIABLES = ("file_sd", "http_sd_url", "http_sd_bearer_token")
TRACING_KEYS = tuple(Tracing.model_fields)
#: Never in a file or a service, which all instances have in common.
OWN_KEYS = ("instance_index",)
GLOBAL_KEYS = tuple(key for key in Globals.model_fields if key not in (*TRACING_KEYS, *OWN_KEYS))
ZONE_KEYS = tuple(ZoneEntry.model_fields)
SOURCE_KEYS = ("file_sd_configs", "http_sd_configs")
TOP_KEYS = ("targets", "defaults", *GLOBAL_KEYS, "zones", *SOURCE_KEYS)
#: Of a bound service, which may have texts alone.
SERVICE_KEYS = ("endpoints", *TOP_KEYS)
TARGET_KEYS = ("name", "host", "port", *TRACING_KEYS)
VARIABLES = (
    *(key for key in Globals.model_fields if key != "labels"),
    *ENDPOINT_KEYS,
    *SOURCE_VARIABLES,
    "config_file",
    "zones",
)

#: Known keys at a level where they mean nothing, and what to do instead.
_ELSEWHERE = {
    **dict.fromkeys((*GLOBAL_KEYS, "zones", *SOURCE_KEYS), "belongs to the top level of the file"),
    **dict.fromkeys(TRACING_KEYS, "belongs under defaults: or in a target"),
    **dict.fromkeys(("name", "host", "port"), "belongs in each target"),
    **dict.fromkeys(ENDPOINT_KEYS, "is a variable only; a file lists its targets under targets:"),
    **dict.fromkeys(OWN_KEYS, "is a variable only, for instances have the file in common"),
    "file_sd": "is a variable only; a file names its lists under file_sd_configs:",
    **dict.fromkeys(
        ("http_sd_url", "http_sd_bearer_token"),
        "is a variable only; a file names its addresses under http_sd_configs:",
    ),
    "config_file": "is a variable only",
}


def advice(key: str, keys: Sequence[str]) -> str:
    """What to do about a key that means nothing where it stands."""
    if key in _ELSEWHERE:
        return _ELSEWHERE[key]
    if close := difflib.get_close_matches(key.lower()[:MAX_SHOWN], keys, n=1):
        return f"is unknown; did you mean {close[0]}?"
    return f"is unknown; the keys here are {', '.join(keys)}"


_Model = TypeVar("_Model", bound=BaseModel)


def checked(
    model: type[_Model], make: Callable[[], _Model], place: Place, problems: list[str]
) -> _Model | None:
    """What `make` builds, or None and a line for each value that pydantic refuses."""
    try:
        return make()
    except ValidationError as error:
        problems += (_problem(model, item, place) for item in error.errors())
    return None


def _problem(model: type[BaseModel], error: ErrorDetails, place: Place) -> str:
    key = str(error["loc"][0])
    # pydantic marks a dict's key, as opposed to its value, by a step of its own.
    here = place(tuple(step for step in error["loc"] if step != "[key]"))
    expected = f"should be {model.model_fields[key].description}"
    if error["type"] == "missing":
        return f"{here}: is missing; it {expected}"
    value = "the value" if key in SECRETS else shown(error["input"])
    said = error["ctx"]["error"] if error["type"] == "value_error" else expected
    return f"{here}: {value} {said}"

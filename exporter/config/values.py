"""What a single value may be: the types of the fields in `schema`.

A validator takes the text and returns the value, or raises ValueError with a predicate for the
text ("has host bits set; write ..."). Where pydantic judges by itself, the type's description
completes "should be ...".
"""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, SecretStr

from exporter.config.hosts import host
from exporter.settings import Network

MAX_LABELS = 20
MAX_LABEL_LENGTH = 200
MAX_NAME_LENGTH = 100
MAX_ZONE_NAME_LENGTH = 50
MAX_CONTROL_PORTS = 8
#: Linux' PATH_MAX.
MAX_PATH_LENGTH = 4_096

#: Labels that the metrics, or Prometheus itself, use for something else.
RESERVED_LABELS = frozenset(
    {
        *("target", "host", "port", "address", "family", "name", "hop", "zone"),
        *("state", "location", "reason", "engine", "control"),
        *("instance", "job", "le", "quantile"),
    }
)


def between(low: float, high: float, noun: str = "a whole number") -> object:
    """What a number is annotated with; both bounds are allowed."""
    return Field(ge=low, le=high, description=f"{noun} from {low} to {high}")


def _printable(maximum: int) -> AfterValidator:
    def validate(text: str) -> str:
        if not 0 < len(text) <= maximum or not text.isprintable() or text != text.strip():
            raise ValueError(
                f"should be 1 to {maximum} printable characters, with no blank at either end"
            )
        return text

    return AfterValidator(validate)


def _no_dot_segment(text: str) -> str:
    # RFC 3986 section 5.2.4: a browser resolves these two before it asks for /targets/NAME.
    if text in {".", ".."}:
        raise ValueError(
            "cannot be a name, since browsers drop it from /targets/NAME; write another"
        )
    return text


def _label_name(text: str) -> str:
    # The Prometheus data model; names that begin with two underscores are its own.
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", text) or len(text) > MAX_NAME_LENGTH:
        raise ValueError(
            "is no label name; it should be letters, digits and underscores, no digit first, "
            f"at most {MAX_NAME_LENGTH} characters"
        )
    if text in RESERVED_LABELS or text.startswith("__"):
        raise ValueError(f"is a reserved label; write another name, such as my_{text.strip('_')}")
    return text


def _username(text: str) -> str:
    # RFC 7617 section 2: the user-id ends at the first colon.
    if not text or ":" in text or not text.isprintable():
        raise ValueError("should be printable characters without a colon")
    return text


def _password(secret: SecretStr) -> SecretStr:
    with suppress(UnicodeEncodeError):
        if secret.get_secret_value().encode():
            return secret
    raise ValueError("should be a text in UTF-8 that is not empty")


def _file_name(text: str) -> str:
    if not Path(text).name:
        raise ValueError("is a directory; it should be the path of a file")
    return text


def _listen_address(text: str) -> str:
    with suppress(ValueError):
        return str(ip_address(text))
    raise ValueError("should be an IP address of this host, such as 127.0.0.1")


def _split(value: object) -> object:
    """The words of a text, separated by commas or blanks; anything else as it is."""
    return re.findall(r"[^\s,]+", value) if isinstance(value, str) else value


def _none(words: object) -> object:
    return () if words == ["none"] else words


def _each_once(ports: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(ports))


def _network(value: object) -> Network:
    text = str(value)
    try:
        interface = ip_interface(text)
    except ValueError:
        interface = None
    if interface is None or "%" in text:
        raise ValueError("is no network; it should be like 10.0.0.0/8 or fd00::/8")
    if interface.ip != interface.network.network_address:
        raise ValueError(f"has host bits set; write {interface.network}")
    return interface.network


Port = Annotated[int, between(1, 65_535)]
ControlPorts = Annotated[
    tuple[Port, ...],
    BeforeValidator(_none),
    BeforeValidator(_split),  # validators before the value run from the last one to the first
    AfterValidator(_each_once),
    Field(
        max_length=MAX_CONTROL_PORTS,
        description=f"at most {MAX_CONTROL_PORTS} ports from 1 to 65535, separated by commas or "
        "spaces, or none",
    ),
]
Switch = Annotated[bool, Field(description="true or false")]
Host = Annotated[str, AfterValidator(host), Field(description="one DNS name or IP address")]
Name = Annotated[
    str,
    _printable(MAX_NAME_LENGTH),
    AfterValidator(_no_dot_segment),
    Field(description="one name"),
]
ZoneName = Annotated[str, _printable(MAX_ZONE_NAME_LENGTH), Field(description="one name")]
Labels = Annotated[
    dict[Annotated[str, AfterValidator(_label_name)], Annotated[str, _printable(MAX_LABEL_LENGTH)]],
    Field(
        max_length=MAX_LABELS,
        description=f"at most {MAX_LABELS} labels, such as {{team: payments}}",
    ),
]
ListenAddress = Annotated[
    str, AfterValidator(_listen_address), Field(description="one IP address of this host")
]
FileName = Annotated[
    Annotated[str, _printable(MAX_PATH_LENGTH), AfterValidator(_file_name)] | None,
    Field(description="the path of a file"),
]
Networks = Annotated[
    tuple[Annotated[Network, PlainValidator(_network)], ...],
    BeforeValidator(_split),
    Field(description="networks such as 10.0.0.0/8, separated by commas or spaces"),
]
Services = Annotated[
    tuple[str, ...],
    BeforeValidator(_split),
    Field(description="true, false, or names of bound services, separated by commas or spaces"),
]
Username = Annotated[
    Annotated[str, AfterValidator(_username)] | None, Field(description="one user name")
]
Password = Annotated[
    Annotated[SecretStr, AfterValidator(_password)] | None, Field(description="one password")
]

"""Settings: from environment variables and one YAML file to plain, frozen values.

1. Every value arrives as text, from a variable or from a YAML scalar as it is written, so that
   both are judged by the same rules and YAML's own readings (no = false, 0443 = 291,
   22:22 = 1342) never come into play. An empty variable and an empty YAML value are unset.
2. A target is {name, host, port, ...} wherever it was written; what it leaves out comes from
   the environment, then from the file's `defaults`, then from this module.
3. Nothing stops at the first mistake. Each one becomes one line that names its place, the
   value and what would be right; `ConfigurationError` carries them all.
4. A secret, or a value that may hold one, is never part of such a line.

Nothing is read but the mapping that is handed in and the file that it names.
"""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address, ip_interface
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from exporter.model import FULL_TTL, Plan, Source, Target
from exporter.settings import ConfigurationError, Network, Settings

#: Where a value stands among nested ones, e.g. ("targets", 2, "port").
Where = tuple[str | int, ...]
#: What an error line calls such a place, e.g. "targets.yml line 9: targets[2].port".
Place = Callable[[Where], str]

MAX_FILE_BYTES = 1 << 20
MAX_TARGETS = 2_000
MAX_LABELS = 20
MAX_LABEL_LENGTH = 200
MAX_NAME_LENGTH = 100
#: Levels of a YAML file; the deepest that means something, targets[0].labels.team, is the 5th.
MAX_NESTING = 16
#: So many characters of a wrong value or an unknown key are shown.
MAX_SHOWN = 80
#: So many characters of an error line.
MAX_LINE = 500

#: Labels that the metrics, or Prometheus itself, use for something else.
RESERVED_LABELS = frozenset(
    {
        *("target", "host", "port", "address", "family", "name", "hop", "zone"),
        *("state", "location", "reason", "engine"),
        *("instance", "job", "le", "quantile"),
    }
)

_USAGE = """\
Nothing is configured to trace. There are three ways to name the targets:

1. One endpoint, in two variables:

    ENDPOINT=db.example.com ENDPOINT_TCP_PORT=5432 egress-exporter

2. Several endpoints, separated by spaces or commas, each with a name if you like:

    ENDPOINTS="db=db.example.com:5432 10.9.5.2:443 v6=[2001:db8::1]:443" egress-exporter

3. A file, which has room for labels and settings of each target:

    CONFIG_FILE=targets.yml egress-exporter

   where targets.yml holds:

    targets:
      - name: db
        host: db.example.com
        port: 5432
        labels: {team: payments}
        interval_seconds: 30
"""


def usage_text() -> str:
    """What to print when no target is configured: three ways, each with an example to copy."""
    return _USAGE


def load(environ: Mapping[str, str]) -> Settings:
    """The settings that `environ` and the file named by its CONFIG_FILE give.

    Raises `ConfigurationError` with every mistake in them.
    """
    problems: list[str] = []
    environment = _environment(environ)
    document = _document(environment.get("config_file", ""), problems)
    top = document.section(document.root, (), _TOP_KEYS, problems) or {}
    given = _globals(environment, document, top, problems)
    entries = [
        *_endpoint_entries(environment),
        *_endpoints_entries(environment, problems),
        *_file_entries(document, top.get("targets", []), problems),
    ]
    targets = _targets(entries, given, problems)
    if problems:
        raise ConfigurationError(map(_one_line, problems))
    password = given.basic_auth_password
    return Settings(
        targets=targets,
        engine=given.engine,
        platform_networks=given.platform_networks,
        listen_address=given.listen_address,
        port=given.port,
        log_format=given.log_format,
        log_traces=given.log_traces,
        connect_check=given.connect_check,
        max_concurrent_traces=given.max_concurrent_traces,
        probes_per_second=given.probes_per_second,
        basic_auth_username=given.basic_auth_username,
        basic_auth_password=None if password is None else password.get_secret_value(),
        config_file=Path(document.path) if document.path else None,
        source=Source(
            instance_index=_one_line(environ.get("CF_INSTANCE_INDEX", "")),
            instance_guid=_one_line(environ.get("CF_INSTANCE_GUID", "")),
            cell=_one_line(environ.get("CF_INSTANCE_IP", "")),
        ),
    )


# -- what a single value may be: each validator takes text and raises ValueError with a ------
# -- predicate for it ("has host bits set; write ...") --------------------------------------


def _between(low: float, high: float, noun: str = "a whole number") -> object:
    return Field(ge=low, le=high, description=f"{noun} from {low} to {high}")


def _printable(maximum: int) -> AfterValidator:
    def validate(text: str) -> str:
        if not 0 < len(text) <= maximum or not text.isprintable() or text != text.strip():
            raise ValueError(
                f"should be 1 to {maximum} printable characters, with no blank at either end"
            )
        return text

    return AfterValidator(validate)


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


def _listen_address(text: str) -> str:
    with suppress(ValueError):
        return str(ip_address(text))
    raise ValueError("should be an IP address of this host, such as 127.0.0.1")


def _split(value: object) -> object:
    """The words of a text, separated by commas or blanks; anything else as it is."""
    return re.findall(r"[^\s,]+", value) if isinstance(value, str) else value


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


def _host(text: str) -> str:
    """A DNS name in ASCII, or an address as `inet_ntop` writes it."""
    if url := _url(text):
        raise ValueError(f"is a URL; write {url[0]} as the host and {url[1]} as the port")
    if address := _address(text):
        return address
    if re.fullmatch(r"\[.*\](?::[0-9]*)?|[^:]*:[0-9]*", text):
        raise ValueError("should be the host alone, without brackets and port")
    # getaddrinfo() would read 10.1 or 0x7f000001 as an address, as inet_aton() does.
    if re.fullmatch(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)", text):
        raise ValueError("is no IPv4 address; it should be four numbers from 0 to 255")
    return _dns_name(text)


def _address(text: str) -> str | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.scope_id:
        raise ValueError("has a zone after %; there is no path to trace on one's own link")
    return str(address)


def _dns_name(text: str) -> str:
    # RFC 1035 section 2.3.4: 63 octets a label, 253 in all as text. An underscore is no host
    # name's (RFC 952), but platforms use it; a dot at the end says that the name is complete.
    name = text if text.isascii() or len(text) > 253 else _idna(text)
    labels = name.removesuffix(".").split(".")
    if len(name.removesuffix(".")) > 253 or not all(map(_DNS_LABEL.fullmatch, labels)):
        raise ValueError("is neither a DNS name nor an IP address")
    return name


_DNS_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


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


_URL_PORTS = {"http": "80", "https": "443"}


def _url(text: str) -> tuple[str, str] | None:
    """The host and port of a URL, None for what is none."""
    if "://" not in text:
        return None
    try:
        url = urlsplit(text)
        port = str(url.port or _URL_PORTS.get(url.scheme, "PORT"))
    except ValueError:
        return "HOST", "PORT"
    # pydantic cannot carry a message that is not UTF-8.
    return _one_line(url.hostname or "HOST"), port


# -- the settings as pydantic sees them; a description completes "should be ..." -------------

_PLAN = Plan()

Port = Annotated[int, _between(1, 65_535)]


class _Tracing(BaseModel):
    """How a target is traced: of the environment, the file's `defaults` and each target."""

    interval_seconds: Annotated[float, _between(1, 86_400, "a number")] = 60.0
    attempts: Annotated[int, _between(1, 10)] = _PLAN.attempts
    max_hops: Annotated[int, _between(1, FULL_TTL - 1)] = _PLAN.max_hops
    timeout_seconds: Annotated[float, _between(0.1, 60, "a number")] = _PLAN.timeout
    labels: Annotated[
        dict[
            Annotated[str, AfterValidator(_label_name)],
            Annotated[str, _printable(MAX_LABEL_LENGTH)],
        ],
        Field(
            max_length=MAX_LABELS,
            description=f"at most {MAX_LABELS} labels, such as {{team: payments}}",
        ),
    ] = {}


class _Entry(_Tracing):
    """One target."""

    name: Annotated[str, _printable(MAX_NAME_LENGTH), Field(description="one name")] = ""
    host: Annotated[str, AfterValidator(_host), Field(description="one DNS name or IP address")]
    port: Port


class _Globals(BaseSettings, _Tracing):
    """What is set once; the names in upper case are variables, `labels` excepted."""

    # The defaults stand here, as they are meant: pydantic-settings would validate them, too.
    model_config = SettingsConfigDict(validate_default=False)

    engine: Annotated[
        Literal["auto", "syn", "connect"], Field(description="auto, syn or connect")
    ] = "auto"
    platform_networks: Annotated[
        tuple[Annotated[Network, PlainValidator(_network)], ...],
        BeforeValidator(_split),
        Field(description="networks such as 10.0.0.0/8, separated by commas or spaces"),
    ] = ()
    listen_address: Annotated[
        str, AfterValidator(_listen_address), Field(description="one IP address of this host")
    ] = ""
    port: Port = 8080
    log_format: Annotated[Literal["text", "json"], Field(description="text or json")] = "text"
    log_traces: Annotated[
        Literal["all", "changes", "none"], Field(description="all, changes or none")
    ] = "changes"
    connect_check: Annotated[bool, Field(description="true or false")] = True
    max_concurrent_traces: Annotated[int, _between(1, 1_000)] = 16
    probes_per_second: Annotated[int, _between(1, 10_000)] = 200
    basic_auth_username: Annotated[
        Annotated[str, AfterValidator(_username)] | None, Field(description="one user name")
    ] = None
    basic_auth_password: Annotated[
        Annotated[SecretStr, AfterValidator(_password)] | None, Field(description="one password")
    ] = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: object,
        **__: object,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file, as handed in: never os.environ, never an .env file."""
        given = init_settings()
        return (
            InitSettingsSource(settings_cls, given["environment"]),
            InitSettingsSource(settings_cls, given["file"]),
        )


#: Never shown and never stripped; user:password in the user name is an easy mistake.
_SECRETS = frozenset({"basic_auth_username", "basic_auth_password"})
_ENDPOINT_KEYS = ("endpoint", "endpoint_tcp_port", "endpoints")
_TRACING_KEYS = tuple(_Tracing.model_fields)
_GLOBAL_KEYS = tuple(key for key in _Globals.model_fields if key not in _TRACING_KEYS)
_TOP_KEYS = ("targets", "defaults", *_GLOBAL_KEYS)
_TARGET_KEYS = ("name", "host", "port", *_TRACING_KEYS)
_VARIABLES = (
    *(key for key in _Globals.model_fields if key != "labels"),
    *_ENDPOINT_KEYS,
    "config_file",
)

#: Known keys at a level where they mean nothing, and what to do instead.
_ELSEWHERE = {
    **dict.fromkeys(_GLOBAL_KEYS, "belongs to the top level of the file"),
    **dict.fromkeys(_TRACING_KEYS, "belongs under defaults: or in a target"),
    **dict.fromkeys(("name", "host", "port"), "belongs in each target"),
    **dict.fromkeys(_ENDPOINT_KEYS, "is a variable only; a file lists its targets under targets:"),
    "config_file": "is a variable only",
}


# -- from the environment --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Written:
    """A target as it was written, and how an error line names a place in it."""

    values: Mapping[str, Any]
    place: Place


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that are set, by their names in lower case."""
    given = {key: environ.get(key.upper(), "") for key in _VARIABLES}
    return {
        key: value if key in _SECRETS else value.strip()
        for key, value in given.items()
        if value.strip()
    }


def _endpoint_entries(environment: Mapping[str, str]) -> Iterator[_Written]:
    """The target of ENDPOINT and ENDPOINT_TCP_PORT; one without the other lacks a key."""
    names = {"host": "endpoint", "port": "endpoint_tcp_port"}
    values = {key: environment[name] for key, name in names.items() if name in environment}
    if values:
        yield _Written(
            values, lambda where: "ENDPOINT_TCP_PORT" if where == ("port",) else "ENDPOINT"
        )


def _endpoints_entries(environment: Mapping[str, str], problems: list[str]) -> Iterator[_Written]:
    """The targets of ENDPOINTS."""
    for number, word in enumerate(re.findall(r"[^\s,]+", environment.get("endpoints", "")), 1):
        place = _numbered(number)
        try:
            yield _Written(_endpoint(word), place)
        except ValueError as error:
            problems.append(f"{place(())}: {_shown(word)} {error}")


def _numbered(number: int) -> Place:
    return lambda where: ", ".join((f"ENDPOINTS entry {number}", *map(str, where)))


def _endpoint(word: str) -> dict[str, str]:
    """name, host and port of one word of ENDPOINTS; raises ValueError with a predicate."""
    name, equals, rest = word.partition("=")
    if not equals or "://" in name:
        name, equals, rest = "", "", word
    if url := _url(rest):
        raise ValueError(f"is a URL; write {name}{equals}{_joined(*url)}")
    match = re.fullmatch(r"(\[(?P<v6>[^\[\]]*)\]|(?P<host>[^:\[\]]*))(:(?P<port>[^:]*))?", rest)
    if not match:
        raise ValueError("should be host:port, name=host:port or, for IPv6, [2001:db8::1]:port")
    host = match["v6"] if match["host"] is None else match["host"]
    if match["port"] is None:
        raise ValueError(f"has no port; write e.g. {name}{equals}{_joined(host, '443')}")
    return {**({"name": name} if equals else {}), "host": host, "port": match["port"]}


def _joined(host: str, port: str | int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# -- from the file ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Document:
    """A YAML file as dicts, lists and texts, and the line on which each of them begins."""

    path: str
    root: object
    lines: dict[Where, int]

    def place(self, where: Where) -> str:
        """E.g. "targets.yml line 9: targets[2].port"; what is missing is where it belongs."""
        known = next(w for n in range(len(where), -1, -1) if (w := where[:n]) in self.lines)
        line = f"{self.path} line {self.lines[known]}"
        return f"{line}: {_dotted(where)}" if where else line

    def below(self, here: Where) -> Place:
        """`place` for what is counted from here."""
        return lambda where: self.place((*here, *where))

    def section(
        self, value: object, where: Where, keys: Sequence[str], problems: list[str]
    ) -> dict[str, Any] | None:
        """A mapping without the keys that mean nothing there; None when it is no mapping."""
        if not isinstance(value, dict):
            # A file of another kind may be a secret, so nothing of it is shown.
            shown = _shown(value) if where else "the file"
            expected = f"a mapping with keys such as {', '.join(keys[:3])}"
            problems.append(f"{self.place(where)}: {shown} should be {expected}")
            return None
        problems += (
            f"{self.place((*where, key))}: {_advice(key, keys)}" for key in value if key not in keys
        )
        return {key: value[key] for key in keys if key in value}


def _document(path: str, problems: list[str]) -> _Document:
    """The file of that name; one without values when there is none or it cannot be read."""
    if path:
        try:
            return _parsed(path, _text(path), problems)
        except ValueError as error:
            problems.append(str(error))
    return _Document(path, {}, {(): 1})


def _text(path: str) -> str:
    """The file's text; raises ValueError with the whole line to report."""
    here = f"CONFIG_FILE: {_shown(path)}"
    try:
        mode = Path(path).stat().st_mode
        # A pipe would block, and could not be read again on a reload.
        content = _head(path) if stat.S_ISREG(mode) else None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{here} cannot be read: {reason}") from None
    if content is None:
        kind = "directory" if stat.S_ISDIR(mode) else "special file"
        raise ValueError(f"{here} is a {kind}; it should be a regular file")
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"{here} is too large; it should have at most {MAX_FILE_BYTES:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} line {line}: is not UTF-8; save the file as UTF-8") from None


def _head(path: str) -> bytes:
    with Path(path).open("rb") as stream:
        return stream.read(MAX_FILE_BYTES + 1)


def _parsed(path: str, text: str, problems: list[str]) -> _Document:
    """The document in a text; raises ValueError with the whole line to report."""
    try:
        _refuse_extras(path, text)
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        # The problem alone: YAML's snippet of the text could quote a secret.
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{path} line {line}: cannot be read as YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.encode().count(b"\n", 0, error.position) + 1
        raise ValueError(f"{path} line {line}: cannot be read as YAML: {error.reason}") from None
    document = _Document(path, None, {})
    root = None if node is None else _plain(node, (), document, problems)
    if root is None:
        raise ValueError(f"CONFIG_FILE: {_shown(path)} is empty; it should have at least targets:")
    return replace(document, root=root)


def _refuse_extras(path: str, text: str) -> None:
    """Raise ValueError for what this program takes from no file, before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        problem = None
        if isinstance(event, yaml.AliasEvent):  # a few of them expand to gigabytes
            problem = "aliases (*name) are not supported; write the value out"
        elif getattr(event, "tag", None):
            problem = "tags (!name) are not supported; write the value without, or in quotes"
        elif depth > MAX_NESTING:  # the parser recurses into them
            problem = f"more than {MAX_NESTING} levels are not supported; write fewer"
        if problem:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise ValueError(f"{path} line {line}: {problem}")


def _plain(node: yaml.Node, where: Where, document: _Document, problems: list[str]) -> object:
    """The node as dict, list, text or None (unset); notes its line in the document."""
    document.lines.setdefault(where, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == "tag:yaml.org,2002:null" else node.value
    if isinstance(node, yaml.SequenceNode):
        return [
            _plain(item, (*where, index), document, problems)
            for index, item in enumerate(node.value)
        ]
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
        line = key_node.start_mark.line + 1
        inner = (*where, str(key))
        if key is None:
            problems.append(f"{document.path} line {line}: a key should be one word")
        elif inner in document.lines:
            problems.append(
                f"{document.path} line {line}: {_dotted(inner)}: is written twice, "
                f"first on line {document.lines[inner]}; write it once"
            )
        else:
            document.lines[inner] = line
            values[key] = _plain(value_node, inner, document, problems)
    return {key: value for key, value in values.items() if value is not None}


def _file_entries(document: _Document, written: object, problems: list[str]) -> Iterator[_Written]:
    """The targets of the file."""
    if not isinstance(written, list):
        place = document.place(("targets",))
        problems.append(f"{place}: {_shown(written)} should be a list of targets")
        return
    for index, value in enumerate(written):
        here: Where = ("targets", index)
        values = document.section(value, here, _TARGET_KEYS, problems)
        if values is not None:
            yield _Written(values, document.below(here))


# -- both together ---------------------------------------------------------------------------

_Model = TypeVar("_Model", bound=BaseModel)


def _checked(
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
    shown = "the value" if key in _SECRETS else _shown(error["input"])
    said = error["ctx"]["error"] if error["type"] == "value_error" else expected
    return f"{here}: {shown} {said}"


def _globals(
    environment: Mapping[str, str],
    document: _Document,
    top: Mapping[str, Any],
    problems: list[str],
) -> _Globals:
    """What is set once, by the environment or else by the file."""
    defaults = document.section(top.get("defaults", {}), ("defaults",), _TRACING_KEYS, problems)
    by_environment = {key: environment[key] for key in environment if key in _Globals.model_fields}
    by_file = {key: top[key] for key in _GLOBAL_KEYS if key in top} | (defaults or {})

    def place(where: Where) -> str:
        if where[0] in by_environment:
            return str(where[0]).upper()
        return document.place(("defaults", *where) if where[0] in _TRACING_KEYS else where)

    given: dict[str, Any] = {"environment": by_environment, "file": by_file}
    _check_pair(by_environment.keys() | by_file.keys(), place, problems)
    return (
        _checked(_Globals, lambda: _Globals(**given), place, problems) or _Globals.model_construct()
    )


def _check_pair(given: Collection[str], place: Place, problems: list[str]) -> None:
    pair = ("basic_auth_username", "basic_auth_password")
    for key, other in (pair, pair[::-1]):
        if key in given and other not in given:
            problems.append(
                f"{other.upper()}: is missing, and {place((key,))} is set; set both or none"
            )


def _targets(
    entries: Sequence[_Written], given: _Globals, problems: list[str]
) -> tuple[Target, ...]:
    """The targets, each under a name of its own."""
    if len(entries) > MAX_TARGETS:
        place = entries[MAX_TARGETS].place(())
        problems.append(f"{place}: is one target too many; there can be {MAX_TARGETS:,}")
        return ()
    targets: list[Target] = []
    places: dict[str, str] = {}
    for entry in entries:
        target = _target(entry, given, problems)
        if target:
            targets.append(target)
        name = target.name if target else entry.values.get("name")
        if not isinstance(name, str):
            continue
        if name in places:
            here = entry.place(("name",))
            problems.append(f"{here}: {_shown(name)} is taken by {places[name]}; write another")
        places.setdefault(name, entry.place(()))
    return tuple(targets)


def _target(entry: _Written, given: _Globals, problems: list[str]) -> Target | None:
    values = {key: getattr(given, key) for key in _TRACING_KEYS} | dict(entry.values)
    if isinstance(values["labels"], dict):
        values["labels"] = given.labels | values["labels"]
    checked = _checked(_Entry, lambda: _Entry.model_validate(values), entry.place, problems)
    if checked is None:
        return None
    return Target(
        name=checked.name or _joined(checked.host, checked.port),
        host=checked.host,
        port=checked.port,
        labels=tuple(sorted(checked.labels.items())),
        interval=checked.interval_seconds,
        plan=Plan(checked.max_hops, checked.attempts, checked.timeout_seconds),
    )


# -- words for people ------------------------------------------------------------------------


def _advice(key: str, keys: Sequence[str]) -> str:
    """What to do about a key that means nothing where it stands."""
    if key in _ELSEWHERE:
        return _ELSEWHERE[key]
    if close := difflib.get_close_matches(key.lower()[:MAX_SHOWN], keys, n=1):
        return f"is unknown; did you mean {close[0]}?"
    return f"is unknown; the keys here are {', '.join(keys)}"


def _dotted(where: Where) -> str:
    """("targets", 2, "port") as targets[2].port."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step[:MAX_SHOWN]}" for step in where)
    return "".join(steps).removeprefix(".")


def _shown(value: object) -> str:
    """A value as an error line quotes it: short, and without what stands before an @."""
    if isinstance(value, str):
        # No right value has an @ in it; one in https://user:password@host ends a secret.
        _, at, end = value.rpartition("@")
        text = f"***@{end}" if at else value
        return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")
    kinds = {"dict": "a mapping", "list": "a list"}
    return kinds.get(type(value).__name__, "an empty value")


def _one_line(text: str) -> str:
    """The text as far as MAX_LINE, with escapes for what does not print, such as line breaks."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in text[:MAX_LINE]
    )

"""Settings: from environment variables, one YAML file and bound services to frozen values.

1. Every value arrives as text, from a variable or from a YAML scalar as it is written, so that
   both are judged by the same rules and YAML's own readings (no = false, 0443 = 291,
   22:22 = 1342) never come into play. An empty variable and an empty YAML value are unset.
2. A target is {name, host, port, ...} wherever it was written; what it leaves out comes from
   the environment, then from the file's `defaults`, then from the service's, then from `schema`.
3. Nothing stops at the first mistake. Each one becomes one line that names its place, the
   value and what would be right; `ConfigurationError` carries them all.
4. A secret, or a value that may hold one, is never part of such a line.
5. What others have written for their own ends (VCAP_APPLICATION, the credentials of other
   services) stops nothing; what is missing because of it is a warning.

Nothing is read but the mapping that is handed in and the files that it names. The modules, each
of which imports those before it alone:

    words      how a mistake names its place and quotes a value
    hosts      what may stand for a host
    values     what any other single value may be
    schema     the settings and their keys, judged by pydantic
    files      reading a file of bounded size
    plain      JSON as dicts, lists and texts
    document   the YAML file, with the line of everything in it
    targets    the ways to write targets
    zones      the ways to write zones
    bindings   bound services, in the three ways in which they are delivered
    service    the one of them that carries this configuration
    addresses  host and port in URIs that may hold secrets
    discovery  targets from the credentials of the others
    lists      what a discovered list of targets means
    sources    where such lists come from
    runtime    where this process runs, and which proxies are named
    shares     which part of the targets this process traces
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.config import runtime
from exporter.config.bindings import bindings
from exporter.config.discovery import discovered
from exporter.config.document import Document, read
from exporter.config.schema import (
    GLOBAL_KEYS,
    SECRETS,
    SERVICE_KEYS,
    TOP_KEYS,
    TRACING_KEYS,
    VARIABLES,
    Globals,
    checked,
)
from exporter.config.service import document_of, own_binding
from exporter.config.shares import share
from exporter.config.sources import all_sources
from exporter.config.targets import all_targets
from exporter.config.words import Place, Where, one_line
from exporter.config.zones import all_zones
from exporter.settings import ConfigurationError, Settings

#: Hundreds of services may be bound, and none of them readable.
MAX_WARNINGS = 100

_USAGE = """\
Nothing is configured to trace. There are three ways to name the targets (and a fourth, a bound
service of the same content: docs/cloud-foundry.md):

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
    """The settings of `environ`, of the file named by its CONFIG_FILE and of bound services.

    Raises `ConfigurationError` with every mistake in them.
    """
    problems: list[str] = []
    warnings: list[str] = []
    environment = _environment(environ)
    bound = bindings(environ, problems)
    own = document_of(own_binding(bound, problems), problems)
    file = read(environment.get("config_file", ""), problems)
    documents = [
        (document, document.section(document.root, (), keys, problems) or {})
        for document, keys in ((file, TOP_KEYS), (own, SERVICE_KEYS))
    ]
    given = _globals(environment, documents, problems)
    targets = all_targets(environment, documents, given, problems)
    zones = all_zones(environment, documents, given.platform_networks, problems)
    own_share = share(environ, given, problems)
    sources = all_sources(environment, documents, given, problems)
    if problems:
        raise ConfigurationError(map(one_line, problems))
    password = given.basic_auth_password
    return Settings(
        targets=(*targets, *discovered(bound, given, targets, warnings)),
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
        config_file=Path(path) if (path := environment.get("config_file")) else None,
        state_file=Path(given.state_file) if given.state_file else None,
        source=runtime.source(environ, warnings),
        proxy=runtime.proxy(environ),
        zones=zones,
        reverse_dns=given.reverse_dns,
        as_table=Path(given.as_table) if given.as_table else None,
        sources=sources,
        share=own_share,
        warnings=tuple(map(one_line, warnings[:MAX_WARNINGS])),
    )


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that are set, by their names in lower case."""
    given = {key: environ.get(key.upper(), "") for key in VARIABLES}
    return {
        key: value if key in SECRETS else value.strip()
        for key, value in given.items()
        if value.strip()
    }


@dataclass(frozen=True, slots=True)
class _Layer:
    """What one source sets once, and how an error line names a place in it."""

    given: Mapping[str, Any]
    place: Place

    def has(self, where: Where) -> bool:
        """Whether the value comes from here; of labels, which are merged, the single one."""
        value = self.given.get(str(where[0]))
        if where[0] == "labels" and where[1:] and isinstance(value, dict):
            return where[1] in value
        return where[0] in self.given


def _globals(
    environment: Mapping[str, str],
    documents: Iterable[tuple[Document, Mapping[str, Any]]],
    problems: list[str],
) -> Globals:
    """What is set once: by the environment, or else by the first document that does."""
    by_environment = {key: environment[key] for key in environment if key in Globals.model_fields}
    layers = [
        _Layer(by_environment, lambda where: str(where[0]).upper()),
        *(_layer(document, top, problems) for document, top in documents),
    ]

    def place(where: Where) -> str:
        return next(layer for layer in layers if layer.has(where)).place(where)

    _check_pair({key for layer in layers for key in layer.given}, place, problems)
    given: dict[str, Any] = {"layers": [layer.given for layer in layers]}
    return checked(Globals, lambda: Globals(**given), place, problems) or Globals.model_construct()


def _layer(document: Document, top: Mapping[str, Any], problems: list[str]) -> _Layer:
    """A document's settings, those under `defaults` included."""
    defaults = document.section(top.get("defaults", {}), ("defaults",), TRACING_KEYS, problems)

    def place(where: Where) -> str:
        return document.place(("defaults", *where) if where[0] in TRACING_KEYS else where)

    return _Layer({key: top[key] for key in GLOBAL_KEYS if key in top} | (defaults or {}), place)


def _check_pair(given: Collection[str], place: Place, problems: list[str]) -> None:
    pair = ("basic_auth_username", "basic_auth_password")
    for key, other in (pair, pair[::-1]):
        if key in given and other not in given:
            problems.append(
                f"{other.upper()}: is missing, and {place((key,))} is set; set both or none"
            )

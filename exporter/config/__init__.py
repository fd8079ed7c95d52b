"""Settings: from environment variables and one YAML file to plain, frozen values.

1. Every value arrives as text, from a variable or from a YAML scalar as it is written, so that
   both are judged by the same rules and YAML's own readings (no = false, 0443 = 291,
   22:22 = 1342) never come into play. An empty variable and an empty YAML value are unset.
2. A target is {name, host, port, ...} wherever it was written; what it leaves out comes from
   the environment, then from the file's `defaults`, then from `schema`.
3. Nothing stops at the first mistake. Each one becomes one line that names its place, the
   value and what would be right; `ConfigurationError` carries them all.
4. A secret, or a value that may hold one, is never part of such a line.

Nothing is read but the mapping that is handed in and the file that it names. The modules, each
of which imports those before it alone:

    words     how a mistake names its place and quotes a value
    hosts     what may stand for a host
    values    what any other single value may be
    schema    the settings and their keys, judged by pydantic
    document  the YAML file, with the line of everything in it
    targets   the three ways to write targets
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from exporter.config.document import Document, read
from exporter.config.schema import (
    GLOBAL_KEYS,
    SECRETS,
    TOP_KEYS,
    TRACING_KEYS,
    VARIABLES,
    Globals,
    checked,
)
from exporter.config.targets import all_targets
from exporter.config.words import Place, Where, one_line
from exporter.model import Source
from exporter.settings import ConfigurationError, Settings

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
    document = read(environment.get("config_file", ""), problems)
    top = document.section(document.root, (), TOP_KEYS, problems) or {}
    given = _globals(environment, document, top, problems)
    targets = all_targets(environment, document, top.get("targets", []), given, problems)
    if problems:
        raise ConfigurationError(map(one_line, problems))
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
            instance_index=one_line(environ.get("CF_INSTANCE_INDEX", "")),
            instance_guid=one_line(environ.get("CF_INSTANCE_GUID", "")),
            cell=one_line(environ.get("CF_INSTANCE_IP", "")),
        ),
    )


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that are set, by their names in lower case."""
    given = {key: environ.get(key.upper(), "") for key in VARIABLES}
    return {
        key: value if key in SECRETS else value.strip()
        for key, value in given.items()
        if value.strip()
    }


def _globals(
    environment: Mapping[str, str],
    document: Document,
    top: Mapping[str, Any],
    problems: list[str],
) -> Globals:
    """What is set once, by the environment or else by the file."""
    defaults = document.section(top.get("defaults", {}), ("defaults",), TRACING_KEYS, problems)
    by_environment = {key: environment[key] for key in environment if key in Globals.model_fields}
    by_file = {key: top[key] for key in GLOBAL_KEYS if key in top} | (defaults or {})

    def place(where: Where) -> str:
        if where[0] in by_environment:
            return str(where[0]).upper()
        return document.place(("defaults", *where) if where[0] in TRACING_KEYS else where)

    given: dict[str, Any] = {"environment": by_environment, "file": by_file}
    _check_pair(by_environment.keys() | by_file.keys(), place, problems)
    return checked(Globals, lambda: Globals(**given), place, problems) or Globals.model_construct()


def _check_pair(given: Collection[str], place: Place, problems: list[str]) -> None:
    pair = ("basic_auth_username", "basic_auth_password")
    for key, other in (pair, pair[::-1]):
        if key in given and other not in given:
            problems.append(
                f"{other.upper()}: is missing, and {place((key,))} is set; set both or none"
            )

"""What the environment tells about where this process runs, and about proxies.

Platforms write these variables, so nothing in them stops the start: what cannot be read is left
out, with a warning where people would miss it. Every text is bounded and printable.
"""

from __future__ import annotations

from collections.abc import Mapping

from exporter.config.addresses import host_ports
from exporter.config.plain import plain_json
from exporter.config.words import one_line
from exporter.model import Proxy, Source, joined

#: So many characters of a name; a GUID has 36.
MAX_TEXT = 200
#: So many entries of NO_PROXY are looked at.
MAX_EXEMPT = 1_000

#: Field of `Source` -> the variables that tell it: Cloud Foundry's own, and those that
#: deploy/kubernetes fills by the downward API.
VARIABLES = {
    "address": ("CF_INSTANCE_INTERNAL_IP", "POD_IP"),
    "instance_index": ("CF_INSTANCE_INDEX",),
    "instance_guid": ("CF_INSTANCE_GUID", "POD_NAME"),
    "cell": ("CF_INSTANCE_IP", "NODE_NAME"),
}
#: Field of `Source` -> the key of VCAP_APPLICATION that tells it.
APPLICATION_KEYS = {
    "application": "application_name",
    "space": "space_name",
    "organization": "organization_name",
    "application_guid": "application_id",
    "process_guid": "process_id",
}
#: In the order in which they are named; programs look for either case.
PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")


def source(environ: Mapping[str, str], warnings: list[str]) -> Source:
    """Where the probes come from, as far as the platform tells."""
    variables = {
        field: next((text for name in names if (text := environ.get(name, ""))), "")
        for field, names in VARIABLES.items()
    }
    application = _application(environ.get("VCAP_APPLICATION", ""), warnings)
    known = variables | {field: application.get(key) for field, key in APPLICATION_KEYS.items()}
    return Source(**{field: _text(value) for field, value in known.items()})


def _application(text: str, warnings: list[str]) -> Mapping[str, object]:
    if not text.strip():
        return {}
    try:
        found = plain_json(text)
    except ValueError as error:
        warnings.append(f"VCAP_APPLICATION: the value {error}")
        return {}
    if isinstance(found, dict):
        return found
    warnings.append("VCAP_APPLICATION: the value should be a JSON object")
    return {}


def _text(value: object) -> str:
    return one_line(value)[:MAX_TEXT] if isinstance(value, str) else ""


def proxy(environ: Mapping[str, str]) -> Proxy | None:
    """The proxies that the environment names, None when it names none."""
    variables = tuple(
        (name, _proxy_address(text))
        for upper in PROXY_VARIABLES
        for name in (upper, upper.lower())
        if (text := environ.get(name, "").strip())
    )
    if not variables:
        return None
    exempt = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    return Proxy(variables, tuple(map(_text, exempt.replace(",", " ").split()[:MAX_EXEMPT])))


def _proxy_address(text: str) -> str:
    """host:port of a proxy's URL, which may lack its scheme; "" when it cannot be read."""
    try:
        ((host, port),) = host_ports(text if "://" in text else f"http://{text}")
    except ValueError:
        return ""
    return joined(host, port)

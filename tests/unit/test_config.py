"""Settings: every source, every rule, and every mistake in one line that helps."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.config import load, usage_text
from exporter.config.files import MAX_FILE_BYTES
from exporter.config.schema import TARGET_KEYS, TOP_KEYS, VARIABLES
from exporter.config.values import RESERVED_LABELS
from exporter.config.words import MAX_LINE, one_line
from exporter.model import Family, NamedZone, Source, Target
from exporter.settings import MAX_TARGETS, ConfigurationError, Settings

ROOT = Path(__file__).parents[2]
DOCUMENTATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

#: A value of each variable, as it is written and as the settings hold it.
SAMPLES: dict[str, tuple[str, object]] = {
    "ENGINE": ("connect", "connect"),
    "PLATFORM_NETWORKS": (
        "10.0.0.0/8, fd00::/8\n192.0.2.1",
        tuple(map(ip_network, ("10.0.0.0/8", "fd00::/8", "192.0.2.1/32"))),
    ),
    "LISTEN_ADDRESS": ("127.0.0.1", "127.0.0.1"),
    "PORT": ("9100", 9100),
    "LOG_FORMAT": ("json", "json"),
    "LOG_TRACES": ("all", "all"),
    "CONNECT_CHECK": ("false", False),
    "MAX_CONCURRENT_TRACES": ("4", 4),
    "PROBES_PER_SECOND": ("50", 50),
    "STATE_FILE": ("/var/lib/egress/state.json", Path("/var/lib/egress/state.json")),
    "REVERSE_DNS": ("true", True),
    "AS_TABLE": ("/etc/ip2asn.tsv.gz", Path("/etc/ip2asn.tsv.gz")),
    "ZONES": (
        "cell (platform)=10.255.0.0/16; corporate edge=10.1.0.0/16, fd01::/16",
        (
            NamedZone("cell", (ip_network("10.255.0.0/16"),), platform=True),
            NamedZone("corporate edge", (ip_network("10.1.0.0/16"), ip_network("fd01::/16"))),
        ),
    ),
}
#: The same for what is said of a target; the order is that of `tracing`.
TRACING: dict[str, tuple[str, float]] = {
    "INTERVAL_SECONDS": ("7.5", 7.5),
    "MAX_HOPS": ("63", 63),
    "ATTEMPTS": ("5", 5),
    "TIMEOUT_SECONDS": ("0.5", 0.5),
}
DEFAULTS: dict[str, object] = {
    "targets": (),
    "engine": "auto",
    "platform_networks": (),
    "listen_address": "",
    "port": 8080,
    "log_format": "text",
    "log_traces": "changes",
    "connect_check": True,
    "max_concurrent_traces": 16,
    "probes_per_second": 200,
    "basic_auth_username": None,
    "basic_auth_password": None,
    "config_file": None,
    "state_file": None,
    "source": Source(),
    "proxy": None,
    "zones": (),
    "reverse_dns": False,
    "as_table": None,
    "sources": None,
    "share": None,
    "warnings": (),
}
#: A password of characters that mean something to some parser.
AWKWARD = "pa:s@s=w, o'r\"d#%"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The name of a configuration file that a test may write."""
    return tmp_path / "targets.yml"


def written(file: Path, text: str, **environ: str) -> dict[str, str]:
    """An environment whose CONFIG_FILE holds the text."""
    file.write_text(text, encoding="utf-8")
    return {"CONFIG_FILE": str(file), **environ}


def as_dict(found: Settings) -> dict[str, object]:
    """The settings by name."""
    return {name: getattr(found, name) for name in Settings.__slots__}


def tracing(target: Target) -> dict[str, float]:
    """How a target is traced, by the variables' names."""
    plan = target.plan
    values = (target.interval, plan.max_hops, plan.attempts, plan.timeout)
    return dict(zip(TRACING, values, strict=True))


def problems(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The lines of the mistakes, each of which must be short and printable."""
    with pytest.raises(ConfigurationError) as caught:
        load(environ)
    lines = caught.value.problems
    assert lines
    assert all(line.isprintable() for line in lines)
    assert str(caught.value).split("\n") == list(lines)
    # A traceback shows the causes, and pydantic's would show the values.
    assert caught.value.__context__ is None
    return lines


def file_problems(file: Path, text: str, **environ: str) -> list[str]:
    """The mistakes in a file of that text, without its name in front."""
    return [line.removeprefix(f"{file} ") for line in problems(written(file, text, **environ))]


# -- what is read, and from where --------------------------------------------------------


def test_defaults() -> None:
    """Without any setting there are the documented defaults, and no target."""
    assert as_dict(load({})) == DEFAULTS


@pytest.mark.parametrize("name", SAMPLES)
def test_variable(name: str) -> None:
    """A variable sets what it names, and nothing else."""
    text, value = SAMPLES[name]
    assert as_dict(load({name: f" {text}\n"})) == DEFAULTS | {name.lower(): value}


@pytest.mark.parametrize("name", SAMPLES)
def test_key_of_the_file(file: Path, name: str) -> None:
    """The file's key of the same name in lower case means the same."""
    text, value = SAMPLES[name]
    found = load(written(file, f"{name.lower()}: {json.dumps(text)}\n"))
    assert as_dict(found) == DEFAULTS | {name.lower(): value, "config_file": file}


@pytest.mark.parametrize("name", SAMPLES)
def test_environment_wins(file: Path, name: str) -> None:
    """The environment wins over the file, whatever stands there."""
    text, value = SAMPLES[name]
    found = load(written(file, f"{name.lower()}: nonsense\n", **{name: text}))
    assert getattr(found, name.lower()) == value


@pytest.mark.parametrize("name", TRACING)
@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ("targets: [{host: a, port: 1}]", {"{name}": "{right}"}),
        ("targets: [{host: a, port: 1}]\ndefaults: {{{key}: {right}}}", {}),
        ("targets: [{host: a, port: 1}]\ndefaults: {{{key}: 2}}", {"{name}": "{right}"}),
        ("targets: [{host: a, port: 1, {key}: {right}}]\ndefaults: {{{key}: 2}}", {"{name}": "3"}),
        ("defaults: {{{key}: {right}}}", {"ENDPOINTS": "a:1"}),
    ],
    ids=["environment", "defaults", "environment over defaults", "target over all", "no targets"],
)
def test_tracing_comes_from_the_nearest_place(
    file: Path, name: str, text: str, environ: dict[str, str]
) -> None:
    """A target's own value comes before the environment's, that before the file's defaults."""
    right, value = TRACING[name]

    def filled(template: str) -> str:
        for mark, word in {"name": name, "key": name.lower(), "right": right}.items():
            template = template.replace(f"{{{mark}}}", word)
        return template.replace("{{", "{").replace("}}", "}")

    (target,) = load(
        written(file, filled(text), **{filled(k): filled(v) for k, v in environ.items()})
    ).targets
    default = {"INTERVAL_SECONDS": 60.0, "MAX_HOPS": 30, "ATTEMPTS": 3, "TIMEOUT_SECONDS": 2.0}
    assert tracing(target) == default | {name: value}


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("", {"FAMILY": "ipv6", "ALL_ADDRESSES": "true"}, ("ipv6", True)),
        ("defaults: {family: ipv6, all_addresses: yes}", {}, ("ipv6", True)),
        ("defaults: {family: ipv6, all_addresses: yes}", {"FAMILY": "ipv4"}, ("ipv4", True)),
        ("", {}, ("auto", False)),
    ],
    ids=["environment", "defaults", "environment over defaults", "nothing"],
)
def test_which_addresses_are_traced(
    file: Path, text: str, environ: dict[str, str], expected: tuple[str, bool]
) -> None:
    """Family and all_addresses come from the nearest place, as all that is said of a target."""
    own_words = "{host: b, port: 2, family: auto, all_addresses: no}"
    targets = f"targets:\n- {{host: a, port: 1}}\n- {own_words}\n"
    near, own = load(written(file, targets + text, **environ)).targets
    assert (near.family, near.all_addresses) == expected
    assert (own.family, own.all_addresses) == (Family.AUTO, False)


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"FAMILY": "v6"}, "FAMILY: 'v6' should be auto, ipv4 or ipv6"),
        ({"ALL_ADDRESSES": "some"}, "ALL_ADDRESSES: 'some' should be true or false"),
        (
            {"FAMILY": "ipv6", "ENDPOINTS": "a=db1:1 b=[::1]:2 c=10.9.5.2:3"},
            "'10.9.5.2' is no IPv6 address, and family is ipv6",
        ),
        (
            {"FAMILY": "ipv4", "ENDPOINT": "::1", "ENDPOINT_TCP_PORT": "2"},
            "'::1' is no IPv4 address, and family is ipv4",
        ),
        (
            {"ENDPOINTS": "[fe80::1%eth0]:1"},
            "'fe80::1%eth0' has a zone after %; there is no path to trace on one's own link",
        ),
        (
            {"ENDPOINTS": "[::ffff:10.9.5.2]:1"},
            "'::ffff:10.9.5.2' is an IPv4 address in IPv6's form; write 10.9.5.2",
        ),
    ],
)
def test_wrong_family(environ: dict[str, str], line: str) -> None:
    """A family that is none, and an address that is not of the family, are told apart."""
    (problem,) = problems(environ)
    assert problem.endswith(line)


def test_targets_are_added_together(file: Path) -> None:
    """ENDPOINT, ENDPOINTS and the file each give targets, in this order."""
    text = "targets: [{host: f, port: 6}, {name: z, host: '::2', port: 7, labels: {team: x}}]"
    found = load(
        written(
            file,
            text,
            ENDPOINT="old.example",
            ENDPOINT_TCP_PORT="443",
            ENDPOINTS="a=h:1,b:2\t[::1]:3\n , <b>'c'</b>=h:4",
        )
    )
    assert found.targets == (
        Target("old.example:443", "old.example", 443),
        Target("a", "h", 1),
        Target("b:2", "b", 2),
        Target("[::1]:3", "::1", 3),
        Target("<b>'c'</b>", "h", 4),
        Target("f:6", "f", 6),
        Target("z", "::2", 7, labels=(("team", "x"),)),
    )


def test_labels_of_the_defaults_are_merged(file: Path) -> None:
    """A target carries the defaults' labels and its own, and its own win."""
    text = """
        defaults: {labels: {team: none, env: prod}}
        targets: [{host: a, port: 1, labels: {team: db, '_x9': "Zoë <1>"}}]
    """
    found = load(written(file, text, ENDPOINTS="b:2"))
    assert [dict(target.labels) for target in found.targets] == [
        {"team": "none", "env": "prod"},
        {"team": "db", "env": "prod", "_x9": "Zoë <1>"},
    ]


def test_source_from_cloud_foundry() -> None:
    """Cloud Foundry's variables say where probes come from; the address is not theirs to know."""
    found = load(
        {"CF_INSTANCE_INDEX": "0", "CF_INSTANCE_GUID": "6f-1", "CF_INSTANCE_IP": "10.0.1.2"}
    )
    assert found.source == Source(instance_index="0", instance_guid="6f-1", cell="10.0.1.2")


@pytest.mark.parametrize(
    "environ",
    [
        dict.fromkeys([*SAMPLES, *TRACING, "ENDPOINT", "ENDPOINT_TCP_PORT", "CONFIG_FILE"], ""),
        {"ENDPOINTS": " ,, \n", "BASIC_AUTH_USERNAME": "", "BASIC_AUTH_PASSWORD": " "},
        {"port": "1", "Engine": "nonsense", "LABELS": "{}", "SOURCE": "x", "TARGETS": "x"},
        {"UNRELATED": "x"},
    ],
)
def test_what_counts_as_unset(environ: dict[str, str]) -> None:
    """Empty variables, and those in other letters or of other names, set nothing."""
    assert as_dict(load(environ)) == DEFAULTS


def test_empty_values_of_the_file_count_as_unset(file: Path) -> None:
    """A key without a value says nothing."""
    text = """
port:
engine: ~
defaults:
targets:
  - {name: , host: a, port: 1, attempts: null, labels: {team: }}
"""
    assert load(written(file, text)).targets == (Target("a:1", "a", 1),)
    assert load(written(file, "targets:\n")).targets == ()


def test_nothing_else_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the process's own environment nor an .env file has a say."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("PORT=1\nENDPOINTS=a:1\n")
    for name in ("PORT", "port", "ENDPOINTS", "ENGINE", "ENVIRONMENT", "FILE"):
        monkeypatch.setenv(name, "2")
    assert as_dict(load({})) == DEFAULTS


def test_settings_are_frozen_plain_values() -> None:
    """Settings cannot be changed, and nothing of pydantic is in them."""
    environ = {name: text for name, (text, _) in SAMPLES.items()}
    auth = {"BASIC_AUTH_USERNAME": "u", "BASIC_AUTH_PASSWORD": "p"}
    found = load(environ | auth | {"ENDPOINTS": "a:1"})
    with pytest.raises(FrozenInstanceError):
        found.port = 1  # type: ignore[misc]
    modules = {type(value).__module__.split(".")[0] for value in as_dict(found).values()}
    assert modules <= {"builtins", "exporter", "pathlib"}


# -- values that look odd and are right --------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("db", "db"),
        ("DB.Example.COM", "DB.Example.COM"),
        ("db.example.", "db.example."),
        ("_sip._tcp.example", "_sip._tcp.example"),
        ("my_service.apps.internal", "my_service.apps.internal"),
        ("3com.example", "3com.example"),
        ("1.2.3.4.example", "1.2.3.4.example"),
        ("Bücher.Example", "xn--bcher-kva.Example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        (".".join(["a" * 63] * 3 + ["a" * 61]), ".".join(["a" * 63] * 3 + ["a" * 61])),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
    ],
)
def test_hosts(file: Path, text: str, host: str) -> None:
    """DNS names come as ASCII, addresses as inet_ntop writes them, from every source alike."""
    bracketed = f"[{text}]" if ":" in text else text
    for environ in (
        {"ENDPOINT": text, "ENDPOINT_TCP_PORT": "443"},
        {"ENDPOINTS": f"{bracketed}:443"},
        written(file, f"targets: [{{host: {json.dumps(text)}, port: 443}}]"),
    ):
        (target,) = load(environ).targets
        shown = f"[{host}]" if ":" in host else host
        assert (target.name, target.host, target.port) == (f"{shown}:443", host, 443)


def test_yaml_does_not_interpret(file: Path) -> None:
    """Scalars are text as written: no Norway, no octal numbers, no sexagesimals, no dates."""
    text = """
connect_check: off
targets:
  - {name: 2026-01-01, host: a, port: 0443, labels: {zone_label: no, at: 22:22, size: 1_0, e: 1e3}}
"""
    found = load(written(file, text))
    (target,) = found.targets
    assert (found.connect_check, target.name, target.port) == (False, "2026-01-01", 443)
    assert dict(target.labels) == {"zone_label": "no", "at": "22:22", "size": "1_0", "e": "1e3"}


@pytest.mark.parametrize("name", ["x" * 100, "<script>alert('1')</script>", '"', "ünï", "a b", "/"])
def test_names(file: Path, name: str) -> None:
    """A name may hold whatever prints; it is escaped where it is put out."""
    environ = written(file, f"targets: [{{name: {json.dumps(name)}, host: a, port: 1}}]")
    assert [target.name for target in load(environ).targets] == [name]


def test_file_with_byte_order_mark_and_crlf(file: Path) -> None:
    """A file from a Windows editor is read like any other."""
    file.write_bytes(b"\xef\xbb\xbftargets:\r\n  - host: a\r\n    port: 1\r\n")
    assert load({"CONFIG_FILE": str(file)}).targets == (Target("a:1", "a", 1),)


def test_networks_as_a_list(file: Path) -> None:
    """The file's networks may stand as a list."""
    found = load(written(file, "platform_networks: [10.0.0.0/8, 'fd00::/8']"))
    assert found.platform_networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def test_limits_are_inclusive(file: Path) -> None:
    """The outermost values are right, and so are 2,000 targets with 20 labels."""
    labels = ", ".join(f"l{number}: x" for number in range(20))
    environ = {"MAX_HOPS": "63", "ATTEMPTS": "10", "TIMEOUT_SECONDS": "60", "PORT": "65535"}
    endpoints = " ".join(f"h:{port}" for port in range(1, 1 + MAX_TARGETS))
    text = f"defaults: {{labels: {{{labels}}}}}"
    found = load(written(file, text, ENDPOINTS=endpoints, **environ))
    assert len(found.targets) == MAX_TARGETS
    assert {len(target.labels) for target in found.targets} == {20}


# -- mistakes ----------------------------------------------------------------------------

PORT_RANGE = "should be a whole number from 1 to 65535"
NETWORK = "is no network; it should be like 10.0.0.0/8 or fd00::/8"
NO_BLANKS = "printable characters, with no blank at either end"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "80a", f"'80a' {PORT_RANGE}"),
        ("PORT", "0", f"'0' {PORT_RANGE}"),
        ("PORT", "65536", f"'65536' {PORT_RANGE}"),
        ("PORT", "80.5", f"'80.5' {PORT_RANGE}"),
        ("PORT", "9" * 5000, f"'{'9' * 80}...' {PORT_RANGE}"),
        ("PORT", "\udc80\n1", f"'\\udc80\\n1' {PORT_RANGE}"),
        ("MAX_HOPS", "64", "'64' should be a whole number from 1 to 63"),
        ("ATTEMPTS", "11", "'11' should be a whole number from 1 to 10"),
        ("ATTEMPTS", "-1", "'-1' should be a whole number from 1 to 10"),
        ("TIMEOUT_SECONDS", "nan", "'nan' should be a number from 0.1 to 60"),
        ("TIMEOUT_SECONDS", "2s", "'2s' should be a number from 0.1 to 60"),
        ("INTERVAL_SECONDS", "inf", "'inf' should be a number from 1 to 86400"),
        ("INTERVAL_SECONDS", "0.9", "'0.9' should be a number from 1 to 86400"),
        ("ENGINE", "raw", "'raw' should be auto, syn or connect"),
        ("LOG_FORMAT", "xml", "'xml' should be text or json"),
        ("LOG_TRACES", "some", "'some' should be all, changes or none"),
        ("CONNECT_CHECK", "maybe", "'maybe' should be true or false"),
        ("MAX_CONCURRENT_TRACES", "0", "'0' should be a whole number from 1 to 1000"),
        ("PROBES_PER_SECOND", "1e9", "'1e9' should be a whole number from 1 to 10000"),
        (
            "LISTEN_ADDRESS",
            "eth0",
            "'eth0' should be an IP address of this host, such as 127.0.0.1",
        ),
        ("STATE_FILE", "/", "'/' is a directory; it should be the path of a file"),
        (
            "STATE_FILE",
            "a\nb",
            r"'a\nb' should be 1 to 4096 printable characters, with no blank at either end",
        ),
        ("PLATFORM_NETWORKS", "10.9.5.1/16", "'10.9.5.1/16' has host bits set; write 10.9.0.0/16"),
        ("PLATFORM_NETWORKS", "fd00::1/8", "'fd00::1/8' has host bits set; write fd00::/8"),
        ("PLATFORM_NETWORKS", "10.0.0.0/33", f"'10.0.0.0/33' {NETWORK}"),
        ("PLATFORM_NETWORKS", "10.0.0/8", f"'10.0.0/8' {NETWORK}"),
        ("PLATFORM_NETWORKS", "fe80::%eth0/64", f"'fe80::%eth0/64' {NETWORK}"),
        ("PLATFORM_NETWORKS", "internal", f"'internal' {NETWORK}"),
    ],
)
def test_wrong_variable(name: str, value: str, said: str) -> None:
    """A wrong value names the variable, the value and what would be right."""
    assert problems({name: value}) == (f"{name}: {said}",)


NO_NAME = "is neither a DNS name nor an IP address"
NO_V4 = "is no IPv4 address; it should be four numbers from 0 to 255"
ALONE = "should be the host alone, without brackets and port"
NO_ASCII = "has no unambiguous ASCII form; write its form with xn--"
A_URL = "is a URL; write {} as the host and {} as the port"


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("https://x:8443/", f"'https://x:8443/' {A_URL.format('x', 8443)}"),
        ("https://x.example/a", f"'https://x.example/a' {A_URL.format('x.example', 443)}"),
        ("http://[::1]", f"'http://[::1]' {A_URL.format('::1', 80)}"),
        ("ldap://x", f"'ldap://x' {A_URL.format('x', 'PORT')}"),
        ("https://x:port", f"'https://x:port' {A_URL.format('HOST', 'PORT')}"),
        ("https://[::", f"'https://[::' {A_URL.format('HOST', 'PORT')}"),
        ("pg://u:secret@x:5432/d", f"'***@x:5432/d' {A_URL.format('x', 5432)}"),
        ("db.example:5432", f"'db.example:5432' {ALONE}"),
        ("[2001:db8::1]", f"'[2001:db8::1]' {ALONE}"),
        ("[2001:db8::1]:443", f"'[2001:db8::1]:443' {ALONE}"),
        ("10.9.5.300", f"'10.9.5.300' {NO_V4}"),
        ("10.1", f"'10.1' {NO_V4}"),
        ("010.1.1.1", f"'010.1.1.1' {NO_V4}"),
        ("1234", f"'1234' {NO_V4}"),
        ("0x7f000001", f"'0x7f000001' {NO_V4}"),
        ("2001:db8:::1", f"'2001:db8:::1' {NO_NAME}"),
        ("a b", f"'a b' {NO_NAME}"),
        ("a..b", f"'a..b' {NO_NAME}"),
        (".", f"'.' {NO_NAME}"),
        ("-a.example", f"'-a.example' {NO_NAME}"),
        ("a-.example", f"'a-.example' {NO_NAME}"),
        ("a/b", f"'a/b' {NO_NAME}"),
        ("a\nb", f"'a\\nb' {NO_NAME}"),
        ("*.example", f"'*.example' {NO_NAME}"),
        ("a" * 64, f"'{'a' * 64}' {NO_NAME}"),
        (".".join("a" * 128), f"'{'a.' * 40}...' {NO_NAME}"),
        ("ü" * 300, f"'{'ü' * 80}...' {NO_NAME}"),
        ("straße.example", f"'straße.example' {NO_ASCII}"),
        ("a\N{IDEOGRAPHIC FULL STOP}example", f"'a\N{IDEOGRAPHIC FULL STOP}example' {NO_ASCII}"),
        ("ü..example", f"'ü..example' {NO_ASCII}"),
        (
            "fe80::1%eth0",
            "'fe80::1%eth0' has a zone after %; there is no path to trace on one's own link",
        ),
    ],
)
def test_wrong_host(host: str, said: str) -> None:
    """What is no host is refused with a hint, above all a URL and half an address."""
    assert problems({"ENDPOINT": host, "ENDPOINT_TCP_PORT": "1"}) == (f"ENDPOINT: {said}",)


def test_half_an_endpoint() -> None:
    """ENDPOINT and ENDPOINT_TCP_PORT need each other."""
    assert problems({"ENDPOINT": "a"}) == (f"ENDPOINT_TCP_PORT: is missing; it {PORT_RANGE}",)
    assert problems({"ENDPOINT_TCP_PORT": "0"}) == (
        "ENDPOINT: is missing; it should be one DNS name or IP address",
        f"ENDPOINT_TCP_PORT: '0' {PORT_RANGE}",
    )


SHAPE = "should be host:port, name=host:port or, for IPv6, [2001:db8::1]:port"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("db", ": 'db' has no port; write e.g. db:443"),
        ("a=db", ": 'a=db' has no port; write e.g. a=db:443"),
        ("[::1]", ": '[::1]' has no port; write e.g. [::1]:443"),
        ("https://x:8443/", ": 'https://x:8443/' is a URL; write x:8443"),
        ("a=https://[::1]/?b=c", ": 'a=https://[::1]/?b=c' is a URL; write a=[::1]:443"),
        ("https://x/?b=c", ": 'https://x/?b=c' is a URL; write x:443"),
        ("a=pg://u:s=t@x:1/", ": '***@x:1/' is a URL; write a=x:1"),
        ("2001:db8::1", f": '2001:db8::1' {SHAPE}"),
        ("a:1:2", f": 'a:1:2' {SHAPE}"),
        ("[::1", f": '[::1' {SHAPE}"),
        ("[::1]443", f": '[::1]443' {SHAPE}"),
        ("=h:1", f", name: '' should be 1 to 100 {NO_BLANKS}"),
        ("x\x07=h:1", f", name: 'x\\x07' should be 1 to 100 {NO_BLANKS}"),
        ("h:", f", port: '' {PORT_RANGE}"),
        ("h:https", f", port: 'https' {PORT_RANGE}"),
        (":1", f", host: '' {NO_NAME}"),
        ("[]:1", f", host: '' {NO_NAME}"),
        ("h:2", ", name: 'h:2' is taken by ENDPOINTS entry 1; write another"),
    ],
)
def test_wrong_entry_of_endpoints(entry: str, said: str) -> None:
    """A wrong entry of ENDPOINTS is named by its number."""
    assert problems({"ENDPOINTS": f"h:2 {entry}, k:3"}) == (f"ENDPOINTS entry 2{said}",)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("\nport: 0", [f"line 2: port: '0' {PORT_RANGE}"]),
        ("port:\n  - 1", [f"line 1: port: a list {PORT_RANGE}"]),
        ("prot: 1", ["line 1: prot: is unknown; did you mean port?"]),
        ("PORT: 1", ["line 1: PORT: is unknown; did you mean port?"]),
        ("attempts: 1", ["line 1: attempts: belongs under defaults: or in a target"]),
        ("host: a", ["line 1: host: belongs in each target"]),
        ("config_file: a", ["line 1: config_file: is a variable only"]),
        (
            "endpoints: a:1",
            ["line 1: endpoints: is a variable only; a file lists its targets under targets:"],
        ),
        (
            "colour: 1",
            [
                (
                    "line 1: colour: is unknown; the keys here are targets, defaults, "
                    "engine, platform_networks, listen_address, port, log_format, log_traces, "
                    "connect_check, max_concurrent_traces, probes_per_second, "
                    "basic_auth_username, basic_auth_password, discover_services, state_file, "
                    "reverse_dns, as_table, split_targets, instance_count, zones, "
                    "file_sd_configs, http_sd_configs"
                )
            ],
        ),
        (
            "platform_networks:\n  - 10.0.0.0/8\n  - 10.1.1.1/8\n  - [x]",
            [
                "line 3: platform_networks[1]: '10.1.1.1/8' has host bits set; write 10.0.0.0/8",
                f"line 4: platform_networks[2]: a list {NETWORK}",
            ],
        ),
        (
            "platform_networks: {a: b}",
            [
                (
                    "line 1: platform_networks: a mapping should be networks such as 10.0.0.0/8, "
                    "separated by commas or spaces"
                )
            ],
        ),
        ("defaults:\n  port: 1", ["line 2: defaults.port: belongs in each target"]),
        (
            "defaults:\n  engine: syn",
            ["line 2: defaults.engine: belongs to the top level of the file"],
        ),
        (
            "defaults:\n  labels: {hop: x}\ntargets: [{host: a, port: 1}, {host: b, port: 1}]",
            [
                (
                    "line 2: defaults.labels.hop: 'hop' is a reserved label; "
                    "write another name, such as my_hop"
                )
            ],
        ),
        (
            "defaults: [1]",
            [
                (
                    "line 1: defaults: a list should be a mapping with keys such as "
                    "interval_seconds, attempts, max_hops"
                )
            ],
        ),
        ("targets: a:1", ["line 1: targets: 'a:1' should be a list of targets"]),
        (
            "targets:\n- a:1\n-\n- [a]",
            [
                f"line {line}: targets[{index}]: {shown} should be a mapping with keys such as "
                "name, host, port"
                for line, index, shown in (
                    (2, 0, "'a:1'"),
                    (3, 1, "an empty value"),
                    (4, 2, "a list"),
                )
            ],
        ),
        (
            "targets:\n- name: a\n- host: b\n  ports: 1",
            [
                "line 4: targets[1].ports: is unknown; did you mean port?",
                "line 2: targets[0].host: is missing; it should be one DNS name or IP address",
                f"line 2: targets[0].port: is missing; it {PORT_RANGE}",
                f"line 3: targets[1].port: is missing; it {PORT_RANGE}",
            ],
        ),
        (
            "targets:\n- {name: a, host: b, port: 1}\n- host: c\n  port: 2\n  name: a",
            ["line 5: targets[1].name: 'a' is taken by line 2: targets[0]; write another"],
        ),
        (
            "targets:\n- {name: a, host: b, port: x}\n- {name: a, host: c, port: 2}",
            [
                f"line 2: targets[0].port: 'x' {PORT_RANGE}",
                "line 3: targets[1].name: 'a' is taken by line 2: targets[0]; write another",
            ],
        ),
        (
            "targets:\n- host: b\n  port: 1\n  host: c\n  timeout_seconds: 0",
            [
                "line 4: targets[0].host: is written twice, first on line 2; write it once",
                "line 5: targets[0].timeout_seconds: '0' should be a number from 0.1 to 60",
            ],
        ),
        ("port: 1\n? [a]\n: b", ["line 2: a key should be one word"]),
    ],
)
def test_wrong_file(file: Path, text: str, lines: list[str]) -> None:
    """A mistake in the file names line, place and value, and what would be right."""
    found = file_problems(file, text)
    assert [line.replace(f"{file} ", "") for line in found] == lines


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        *(
            (
                f"{{{name}: x}}",
                f".{name}: '{name}' is a reserved label; write another name, such as ",
            )
            for name in (*sorted(RESERVED_LABELS), "__x")
        ),
        ("{a-b: x}", ".a-b: 'a-b' is no label name; it should be letters, digits and underscores"),
        ("{1a: x}", ".1a: '1a' is no label name;"),
        ("{ü: x}", ".ü: 'ü' is no label name;"),
        ('{"a\\n": x}', ".a\\n: 'a\\n' is no label name;"),
        ("{'': x}", ".: '' is no label name;"),
        ("{a: ''}", f".a: '' should be 1 to 200 {NO_BLANKS}"),
        ('{a: "b\\nc"}', f".a: 'b\\nc' should be 1 to 200 {NO_BLANKS}"),
        ("{a: ' b'}", f".a: ' b' should be 1 to 200 {NO_BLANKS}"),
        (f"{{a: {'x' * 201}}}", f".a: '{'x' * 80}...' should be 1 to 200 {NO_BLANKS}"),
        ("{a: [b]}", ".a: a list should be at most 20 labels, such as {team: payments}"),
        ("team", ": 'team' should be at most 20 labels, such as {team: payments}"),
        ("[team]", ": a list should be at most 20 labels, such as {team: payments}"),
        (
            "{" + ", ".join(f"a{n}: x" for n in range(20)) + "}",
            ": a mapping should be at most 20 labels, such as {team: payments}",
        ),
    ],
)
def test_wrong_labels(file: Path, labels: str, said: str) -> None:
    """Labels follow Prometheus' rules, spare the exporter's own, and are bounded with defaults."""
    text = f"defaults: {{labels: {{z: y}}}}\ntargets:\n- {{host: a, port: 1, labels: {labels}}}"
    (line,) = file_problems(file, text)
    assert line.startswith(f"line 3: targets[0].labels{said}")


@pytest.mark.parametrize("name", ["", " ", " a", "a\nb", "x" * 101, "\u202eabc", "a\u2028b", "\0"])
def test_wrong_names(file: Path, name: str) -> None:
    """A name that is empty, too long, or does not print is refused, on one line."""
    text = f"targets: [{{name: {json.dumps(name)}, host: a, port: 1}}]"
    (line,) = file_problems(file, text)
    assert line.startswith("line 1: targets[0].name: ")
    assert line.endswith(f"should be 1 to 100 {NO_BLANKS}")


@pytest.mark.parametrize("name", [".", ".."])
def test_names_that_no_page_can_have(file: Path, name: str) -> None:
    """A name that a browser would drop from /targets/NAME is refused, wherever it is written."""
    said = f"'{name}' cannot be a name, since browsers drop it from /targets/NAME; write another"
    assert problems({"ENDPOINTS": f"{name}=h:1 ...=h:2"}) == (f"ENDPOINTS entry 1, name: {said}",)
    text = f"targets: [{{name: {name}, host: a, port: 1}}]"
    assert file_problems(file, text) == [f"line 1: targets[0].name: {said}"]


def test_duplicate_name_across_sources(file: Path) -> None:
    """A name that two sources use is reported with both places."""
    text = "\ntargets:\n- {name: 'a:1', host: b, port: 2}"
    environ = {"ENDPOINT": "a", "ENDPOINT_TCP_PORT": "1", "ENDPOINTS": "a:1"}
    assert file_problems(file, text, **environ) == [
        "ENDPOINTS entry 1, name: 'a:1' is taken by ENDPOINT; write another",
        "line 3: targets[0].name: 'a:1' is taken by ENDPOINT; write another",
    ]


def test_too_many_targets(file: Path) -> None:
    """More targets than 2,000 are refused where the first of them stands."""
    endpoints = " ".join(f"h:{port}" for port in range(1, MAX_TARGETS))
    text = "targets:\n- {host: a, port: 1}\n- {host: b, port: 0}"
    assert file_problems(file, text, ENDPOINTS=endpoints) == [
        "line 3: targets[1]: is one target too many; there can be 2,000"
    ]


def test_all_mistakes_at_once(file: Path) -> None:
    """Every mistake of every source is in one report, and one mistake is in it once."""
    text = """
port: x
colour: red
basic_auth_username: u
defaults: {attempts: 99, labels: {host: x}}
targets:
  - {host: a, port: 0}
  - {host: a, port: 0}
  - {host: 'http://b', port: 1, color: red}
"""
    environ = {"ENGINE": "x", "MAX_HOPS": "0", "ENDPOINTS": "a a:0 https://a", "ENDPOINT": "1.1"}
    found = file_problems(file, text, **environ)
    assert sorted(line.split(": ", 2)[:2] for line in found) == sorted(
        [
            ["line 2", "port"],
            ["line 3", "colour"],
            ["line 5", "defaults.attempts"],
            ["line 5", "defaults.labels.host"],
            ["line 7", "targets[0].port"],
            ["line 8", "targets[1].port"],
            ["line 9", "targets[2].host"],
            ["line 9", "targets[2].color"],
            ["ENGINE", "'x' should be auto, syn or connect"],
            ["MAX_HOPS", "'0' should be a whole number from 1 to 63"],
            ["ENDPOINT", "'1.1' is no IPv4 address; it should be four numbers from 0 to 255"],
            ["ENDPOINT_TCP_PORT", f"is missing; it {PORT_RANGE}"],
            ["ENDPOINTS entry 1", "'a' has no port; write e.g. a:443"],
            ["ENDPOINTS entry 2, port", f"'0' {PORT_RANGE}"],
            ["ENDPOINTS entry 3", "'https://a' is a URL; write a:443"],
            ["BASIC_AUTH_PASSWORD", f"is missing, and {file} line 4"],
        ]
    )


def test_environment_is_judged_when_the_file_cannot_be_read() -> None:
    """A file that is not there does not hide other mistakes."""
    assert problems({"CONFIG_FILE": "/nonexistent/x.yml", "PORT": "x"}) == (
        "CONFIG_FILE: '/nonexistent/x.yml' cannot be read: No such file or directory",
        f"PORT: 'x' {PORT_RANGE}",
    )


# -- files that are none -----------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"# nothing\n", b"---\n", b"~", b"null\n", b"\xef\xbb\xbf"]
)
def test_empty_file(file: Path, content: bytes) -> None:
    """A file without content is a mistake, not a configuration without targets."""
    file.write_bytes(content)
    (line,) = problems({"CONFIG_FILE": str(file)})
    assert line.startswith("CONFIG_FILE: ")
    assert line.endswith(" is empty; it should have at least targets:")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: 1\nb: \xff", "line 2: is not UTF-8; save the file as UTF-8"),
        ("a: ü".encode("utf-16"), "line 1: is not UTF-8; save the file as UTF-8"),
        (b"a: 1\nb: \x01", "line 2: cannot be read as YAML: control characters are not allowed"),
        (b"a: [1\n", "line 2: cannot be read as YAML: did not find expected ',' or ']'"),
        (
            b"a: 1\n\tb: 2",
            "line 2: cannot be read as YAML: found a tab character that violates indentation",
        ),
        (b"a: 1\n---\nb: 2\n", "line 2: cannot be read as YAML: but found another document"),
        (
            b"a: &x [1]\nb: *x",
            "line 2: aliases (*name) are not supported; write the value out",
        ),
        (
            b"a: &a [b, *a]",
            "line 1: aliases (*name) are not supported; write the value out",
        ),
        (
            b"\nport: !!python/object/apply:os.system ['exit']",
            "line 2: tags (!name) are not supported; write the value without, or in quotes",
        ),
        (b"[" * 100_000, "line 1: more than 16 levels are not supported; write fewer"),
        (b"- " * 100_000, "line 1: more than 16 levels are not supported; write fewer"),
        (b"a", "line 1: the file should be a mapping with keys such as targets, defaults, engine"),
        (
            b"[a]",
            "line 1: the file should be a mapping with keys such as targets, defaults, engine",
        ),
    ],
)
def test_file_that_is_no_configuration(file: Path, content: bytes, said: str) -> None:
    """What is not the YAML that is meant gives one line."""
    file.write_bytes(content)
    assert problems({"CONFIG_FILE": str(file)}) == (f"{file} {said}",)


def test_size_of_the_file(file: Path) -> None:
    """A file may have 1 MiB, and no byte more."""
    content = b"port: 1\n#".ljust(MAX_FILE_BYTES, b"x")
    file.write_bytes(content)
    assert load({"CONFIG_FILE": str(file)}).port == 1
    file.write_bytes(content + b"x")
    (line,) = problems({"CONFIG_FILE": str(file)})
    assert line.endswith(" is too large; it should have at most 1,048,576 bytes")


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    """A directory, a pipe and a device are refused without being opened."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, kind in (
        (tmp_path, "directory"),
        (pipe, "special file"),
        ("/dev/zero", "special file"),
    ):
        (line,) = problems({"CONFIG_FILE": str(path)})
        assert line.startswith("CONFIG_FILE: ")
        assert line.endswith(f" is a {kind}; it should be a regular file")


def test_unreadable_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read is named with the system's reason."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    file.write_text("port: 1")
    monkeypatch.setattr(Path, "open", refuse)
    (line,) = problems({"CONFIG_FILE": str(file)})
    assert line.endswith(" cannot be read: Permission denied")


@pytest.mark.parametrize("path", ["a\0b", "\udcff", "x" * 5000, "a\nb"])
def test_impossible_file_name(path: str) -> None:
    """A name that no file can have is a mistake like any other."""
    (line,) = problems({"CONFIG_FILE": path})
    assert line.startswith("CONFIG_FILE: ")
    assert " cannot be read: " in line


# -- secrets -----------------------------------------------------------------------------


def test_password_arrives_and_is_not_shown(file: Path) -> None:
    """The password is kept to the letter, and no representation of the settings shows it."""
    secret = f" {AWKWARD} "
    auth = {"BASIC_AUTH_USERNAME": "u", "BASIC_AUTH_PASSWORD": secret}
    text = f"basic_auth_username: u\nbasic_auth_password: {json.dumps(secret)}\n"
    for environ in (auth, written(file, text)):
        found = load(environ)
        assert (found.basic_auth_username, found.basic_auth_password) == ("u", secret)
        assert AWKWARD not in f"{found} {found!r}"


@pytest.mark.parametrize("given", ["BASIC_AUTH_USERNAME", "BASIC_AUTH_PASSWORD"])
def test_user_name_and_password_need_each_other(file: Path, given: str) -> None:
    """One of the two alone would leave the pages open, or closed to everybody."""
    (other,) = {"BASIC_AUTH_USERNAME", "BASIC_AUTH_PASSWORD"} - {given}
    said = f"{other}: is missing, and {{}} is set; set both or none"
    assert problems({given: "hunter2"}) == (said.format(given),)
    assert file_problems(file, f"\n{given.lower()}: hunter2") == [
        said.format(f"{file} line 2: {given.lower()}")
    ]
    found = load(written(file, f"{given.lower()}: hunter2", **{other: "p"}))
    assert {found.basic_auth_username, found.basic_auth_password} == {"hunter2", "p"}


@pytest.mark.parametrize(
    "text",
    [
        "basic_auth_password: [hunter2]",
        "basic_auth_password: {hunter2: hunter2}",
        "basic_auth_username: u:hunter2\nbasic_auth_password: p",
        "basic_auth_pasword: hunter2",
        "basic_auth_password: hunter2\nbasic_auth_password: hunter2",
        "basic_auth_password: *hunter2",
        "basic_auth_password: !hunter2 x",
        "basic_auth_password: !hunter2!x x",
        "basic_auth_password: %hunter2: x",
        'basic_auth_password: "hunter2',
        "basic_auth_password: @hunter2",
        "basic_auth_password: hunter2: hunter2",
        "hunter2",
        "- hunter2",
        "targets: [{host: 'https://user:hunter2@x', port: 1}]",
        "targets: ['https://user:hunter2@x']",
        "port: user:hunter2@x",
        "engine: x\nbasic_auth_username: u\nbasic_auth_password: hunter2",
    ],
)
def test_secrets_stay_out_of_error_texts(file: Path, text: str) -> None:
    """No mistake, in the password or beside it, puts the secret into the report."""
    assert not any("hunter2" in line for line in file_problems(file, text))


@pytest.mark.parametrize(
    "environ",
    [
        {"BASIC_AUTH_USERNAME": "u:hunter2", "BASIC_AUTH_PASSWORD": "hunter2"},
        {"BASIC_AUTH_USERNAME": "u", "BASIC_AUTH_PASSWORD": "hunter2\udcff"},
        {"BASIC_AUTH_USERNAME": "u", "BASIC_AUTH_PASSWORD": "hunter2", "PORT": "x"},
        {"BASIC_AUTH_PASSWORD": "hunter2"},
        {"ENDPOINTS": "pg://u:hunter2@h:5432/d u:hunter2@h:1 a=u:hunter2@h"},
        {"ENDPOINT": "u:hunter2@h", "ENDPOINT_TCP_PORT": "1"},
        {"ENDPOINT": "pg://hunter2/x@h", "ENDPOINT_TCP_PORT": "1"},
        {"ENDPOINTS": "pg://hunter2#x@h pg://hunter2:1?x@h:2"},
    ],
)
def test_secrets_of_the_environment_stay_out_of_error_texts(environ: dict[str, str]) -> None:
    """Variables are as discreet as the file."""
    assert not any("hunter2" in line for line in problems(environ))


@pytest.mark.parametrize("key", ["basic_auth_username", "basic_auth_password"])
def test_quoted_empty_secret(file: Path, key: str) -> None:
    """An empty text in quotes is no user name and no password."""
    (other,) = {"basic_auth_username", "basic_auth_password"} - {key}
    (line,) = file_problems(file, f"{key}: ''\n{other}: x")
    assert line.startswith(f"line 1: {key}: the value should be ")


# -- any input at all --------------------------------------------------------------------

#: Pieces that ENDPOINTS is made of, and that break it.
ENDPOINT_PIECES = st.sampled_from(
    [*"=:[],@/%. \n", "a", "db.example", "::1", "443", "0", "https://", "ü", "\0", "\udcff", "1e3"]
)
YAML_PIECES = st.sampled_from(
    [
        *("targets", "defaults", "labels", "name", "host", "port", "attempts", "engine", "<<"),
        *(": ", "- ", "? ", "\n", "\n  ", "\n    ", "[", "]", "{", "}", ", ", "'", '"', "|\n", "#"),
        *("&a ", "*a", "!!int ", "!x ", "%", "---\n", "...", "\t", "\0", "\x85", "\ufeff", "~"),
        *("a", "1", "443", "db.example", "::1", "nan", "null", "\N{PILE OF POO}"),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*TOP_KEYS, *TARGET_KEYS, "x"]) | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def outcome(environ: Mapping[str, str]) -> Settings | ConfigurationError:
    """One of the two things that `load` may do."""
    try:
        return load(environ)
    except ConfigurationError as error:
        return error


def only_settings_or_mistakes(environ: Mapping[str, str]) -> None:
    """Whatever is configured, there are sound targets or printable lines."""
    found = outcome(environ)
    if isinstance(found, ConfigurationError):
        assert found.problems
        assert all(line.isprintable() for line in found.problems)
        assert all(len(line) <= 10 * MAX_LINE for line in found.problems)
    else:
        names = [target.name for target in found.targets]
        assert len(set(names)) == len(names)
        assert all(name.isprintable() for name in names)
        assert all(1 <= target.port <= 65_535 for target in found.targets)


@given(st.text() | st.lists(ENDPOINT_PIECES, max_size=12).map("".join))
def test_any_endpoints(text: str) -> None:
    """No text in ENDPOINTS, or in a variable of another kind, gets past the two outcomes."""
    only_settings_or_mistakes({"ENDPOINTS": text})
    only_settings_or_mistakes({"ENDPOINT": text, "ENDPOINT_TCP_PORT": text})
    only_settings_or_mistakes(dict.fromkeys(VARIABLES, text))
    only_settings_or_mistakes({name.upper(): text for name in VARIABLES})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary()
    | st.lists(YAML_PIECES, max_size=25).map(lambda pieces: "".join(pieces).encode())
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(TOP_KEYS), VALUES).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_any_file(file: Path, content: bytes) -> None:
    """No file, be it garbage, half of YAML or all of it, gets past the two outcomes."""
    file.write_bytes(content)
    only_settings_or_mistakes({"CONFIG_FILE": str(file)})


@given(st.text())
def test_any_quotation_is_one_line(text: str) -> None:
    """Whatever a mistake quotes, it prints on one line of bounded length."""
    line = one_line(text * 100)
    assert line.isprintable()
    assert len(line) <= 10 * MAX_LINE


# -- what people read --------------------------------------------------------------------


PRINT_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"


def test_usage_shows_three_ways_that_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the three examples gives targets when it is copied into a shell and a file."""
    monkeypatch.chdir(tmp_path)
    text = re.search(r"^ +targets:\n.*", usage_text(), re.MULTILINE | re.DOTALL)
    assert text
    Path("targets.yml").write_text(text[0])
    names = []
    for command in re.findall(r"^ {4}(.*) egress-exporter$", usage_text(), re.MULTILINE):
        script = f"{command} {sys.executable} -c '{PRINT_ENVIRONMENT}'"
        printed = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True, env={})
        names.append([target.name for target in load(json.loads(printed.stdout)).targets])
    assert names == [["db.example.com:5432"], ["db", "10.9.5.2:443", "v6"], ["db"]]


def test_documented_variables() -> None:
    """The page has a row for every variable, with its default, and no other."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| (?:`([^`]*)`)? ?\|", DOCUMENTATION, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(name.upper() for name in VARIABLES)
    (target,) = load({"ENDPOINTS": "a:1"}).targets
    defaults = {
        **{name.upper(): value for name, value in DEFAULTS.items() if value is not None},
        **tracing(target),
        "FAMILY": target.family,
        "ALL_ADDRESSES": target.all_addresses,
        "CONTROL_PORTS": ",".join(map(str, target.controls.ports)),
        "ICMP_ECHO": target.controls.echo,
        "CANARY": target.controls.canary,
        "FLOWS": target.controls.flows,
        "FAILING_FLOWS": target.controls.failing_flows,
        "SPLIT_TARGETS": False,
    }
    for name, said in rows:
        default = defaults.get(name, "")
        text = "" if default == () else f"{default:g}" if isinstance(default, float) else default
        assert said == str(text).lower(), name


def test_documented_examples(file: Path) -> None:
    """The page's file is read without a mistake, and its variables' examples are right."""
    text = re.search(r"```yaml\n(.*?)```", DOCUMENTATION, re.DOTALL)
    assert text
    found = load(written(file, text[1]))
    assert [target.name for target in found.targets] == ["db", "[2001:db8::1]:443"]
    assert dict(found.targets[0].labels) == {"team": "payments", "tier": "data"}
    rows = re.findall(r"^\| `([A-Z_]+)` \|.*\| `\"?([^`\"]+)\"?` \|$", DOCUMENTATION, re.MULTILINE)
    examples = {**dict(rows), "CONFIG_FILE": str(file)}
    assert len(examples) == len(VARIABLES)
    assert len(load(examples | {"ENDPOINTS": "c:1 d=e:2"}).targets) == 5


def test_documented_keys_and_labels() -> None:
    """The page names every key of the file and every reserved label."""
    words = set(re.findall(r"`[^`]*`", DOCUMENTATION))
    keys = {f"`{key}`" for key in RESERVED_LABELS}
    assert keys <= words
    assert all(key in DOCUMENTATION for key in (*TARGET_KEYS, "targets", "defaults"))


@pytest.mark.parametrize(
    "line",
    [
        "PORT: '80a' should be a whole number from 1 to 65535",
        "PLATFORM_NETWORKS: '10.9.5.1/16' has host bits set; write 10.9.0.0/16",
        "ENDPOINTS entry 2: 'https://example.com/' is a URL; write example.com:443",
        "targets.yml line 7: targets[1].prot: is unknown; did you mean port?",
    ],
)
def test_documented_mistakes(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page shows mistakes in the words that are really used."""
    monkeypatch.chdir(tmp_path)
    Path("targets.yml").write_text("\ntargets:\n- host: a\n  port: 1\n\n- host: b\n  prot: 1\n")
    environ = {
        "PORT": "80a",
        "PLATFORM_NETWORKS": "10.9.5.1/16",
        "ENDPOINTS": "a:2 https://example.com/",
        "CONFIG_FILE": "targets.yml",
    }
    assert f"  {line}\n" in DOCUMENTATION
    assert line in problems(environ)

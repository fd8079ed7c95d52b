"""Bound services: the exporter's own configuration, and targets from the others' credentials."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import MAX_WARNINGS, load
from exporter.config.bindings import MAX_ENTRIES
from exporter.config.discovery import HOST_KEYS, URI_KEYS
from exporter.config.files import MAX_FILE_BYTES
from exporter.model import EngineStatus
from exporter.plan import describe
from exporter.settings import ConfigurationError, Settings

DOCUMENTATION = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
#: What must be seen nowhere.
CANARY = "hunter2-Canary"
OWN = "user-provided[egress-exporter].credentials"
PORT_RANGE = "should be a whole number from 1 to 65535"

#: A service as VCAP_SERVICES has it, without its label.
Service = dict[str, Any]
#: Binding name -> credentials; makes the environment of one way of delivery.
Deliver = Callable[[Mapping[str, Any]], dict[str, str]]


def vcap(services: Mapping[str, Any], label: str = "user-provided") -> str:
    """VCAP_SERVICES of services with these names and credentials."""
    bound = [
        {"name": name, "label": label, "tags": [], "credentials": credentials}
        for name, credentials in services.items()
    ]
    return json.dumps({label: bound})


def as_folders(root: Path, services: Mapping[str, Any]) -> dict[str, str]:
    """SERVICE_BINDING_ROOT as Cloud Foundry fills it: JSON for all that is no text."""
    for name, credentials in services.items():
        folder = root / name
        folder.mkdir()
        for key, value in credentials.items():
            (folder / key).write_text(value if isinstance(value, str) else json.dumps(value))
        (folder / "type").write_text("user-provided")
        (folder / "instance-name").write_text(name)
        (folder / "tags").write_text('["a", "b"]')
    return {"SERVICE_BINDING_ROOT": str(root)}


def as_file(root: Path, services: Mapping[str, Any]) -> dict[str, str]:
    """VCAP_SERVICES_FILE_PATH, and the file that it names."""
    path = root / "vcap_services"
    path.write_text(vcap(services))
    return {"VCAP_SERVICES_FILE_PATH": str(path)}


DELIVERIES: dict[str, Callable[[Path, Mapping[str, Any]], dict[str, str]]] = {
    "variable": lambda _, services: {"VCAP_SERVICES": vcap(services)},
    "file": as_file,
    "folders": as_folders,
}


@pytest.fixture(params=DELIVERIES)
def deliver(request: pytest.FixtureRequest, tmp_path: Path) -> Deliver:
    """Each of the three ways in which a platform hands services over."""
    return lambda services: DELIVERIES[request.param](tmp_path, services)


def problems(environ: Mapping[str, str]) -> list[str]:
    """The lines of the mistakes, which are printable."""
    with pytest.raises(ConfigurationError) as caught:
        load(environ)
    assert all(line.isprintable() for line in caught.value.problems)
    assert caught.value.__context__ is None
    return list(caught.value.problems)


def found(credentials: Mapping[str, Any], name: str = "db", **environ: str) -> Settings:
    """The settings when targets are discovered in one service's credentials."""
    services = {"VCAP_SERVICES": vcap({name: credentials}, "some-service")}
    return load(services | {"DISCOVER_SERVICES": "true"} | environ)


def endpoints(settings: Settings) -> list[tuple[str, str, int]]:
    """The targets in short."""
    return [(target.name, target.host, target.port) for target in settings.targets]


# -- the exporter's own configuration ----------------------------------------------------


def test_a_service_configures_like_the_file(deliver: Deliver) -> None:
    """The credentials of the service egress-exporter have the keys of the YAML file."""
    credentials = {
        "endpoints": "db=db.example:5432 [2001:db8::1]:443",
        "targets": [
            {"name": "web", "host": "web.example", "port": 443, "labels": {"team": "payments"}}
        ],
        "defaults": {"interval_seconds": 7.5, "labels": {"env": "prod"}},
        "platform_networks": ["10.0.0.0/8", "fd00::/8"],
        "connect_check": False,
        "basic_auth_username": "prometheus",
        "basic_auth_password": f" {CANARY} ",
    }
    settings = load(deliver({"egress-exporter": credentials}))
    assert endpoints(settings) == [
        ("db", "db.example", 5432),
        ("[2001:db8::1]:443", "2001:db8::1", 443),
        ("web", "web.example", 443),
    ]
    assert {target.interval for target in settings.targets} == {7.5}
    assert dict(settings.targets[2].labels) == {"env": "prod", "team": "payments"}
    assert list(map(str, settings.platform_networks)) == ["10.0.0.0/8", "fd00::/8"]
    assert (settings.connect_check, settings.basic_auth_password) == (False, f" {CANARY} ")
    assert settings.warnings == ()
    assert CANARY not in repr(settings)


@pytest.mark.parametrize(
    "service",
    [
        {"name": "egress-exporter"},
        {"name": "other", "instance_name": "egress-exporter"},
        {"name": "other", "tags": ["monitoring", "egress-exporter"]},
        {"name": "other", "type": "egress-exporter"},
        {"binding_name": None, "name": "egress-exporter", "tags": None, "plan": 5},
    ],
)
def test_how_the_service_is_recognised(service: Service) -> None:
    """By its name, the name of its instance, a tag or its type."""
    bound = [{"credentials": {"endpoints": "a:1"}, **service}, {"credentials": {"port": 0}}]
    assert endpoints(load({"VCAP_SERVICES": json.dumps({"x": bound})})) == [("a:1", "a", 1)]


def test_a_type_in_a_file_will_do(tmp_path: Path) -> None:
    """On Kubernetes a binding of any name may have the type egress-exporter; links are followed."""
    version = tmp_path / "config" / "..2026_01_01"
    version.mkdir(parents=True)
    (version / "type").write_text("egress-exporter\n")
    (version / "targets").write_text("- {host: a, port: 1}\n")
    (tmp_path / "config" / "..data").symlink_to(version.name)
    for key in ("type", "targets"):
        (tmp_path / "config" / key).symlink_to(f"..data/{key}")
    (tmp_path / "README").write_text("no binding")
    assert endpoints(load({"SERVICE_BINDING_ROOT": str(tmp_path)})) == [("a:1", "a", 1)]


def test_text_for_what_is_nested() -> None:
    """Where the command line of a platform takes texts alone, JSON or YAML in one will do."""
    credentials = {
        "targets": '[{"host": "a", "port": 1}]',
        "defaults": "attempts: 5\nlabels: {team: x}",
        "platform_networks": '["10.0.0.0/8"]',
    }
    settings = load({"VCAP_SERVICES": vcap({"egress-exporter": credentials})})
    assert settings.targets[0].plan.attempts == 5
    assert settings.targets[0].labels == (("team", "x"),)
    assert list(map(str, settings.platform_networks)) == ["10.0.0.0/8"]


def test_environment_before_file_before_service(tmp_path: Path) -> None:
    """What is nearer to this one app wins; targets of all are added together."""
    file = tmp_path / "targets.yml"
    file.write_text(
        "targets: [{host: f, port: 2}]\n"
        "log_format: json\nport: 2\n"
        "defaults: {attempts: 2, max_hops: 2, labels: {a: file, b: file}}\n"
    )
    credentials = {
        "targets": [{"host": "s", "port": 3}],
        "log_format": "nonsense",
        "engine": "connect",
        "port": 3,
        "defaults": {
            "attempts": 3,
            "max_hops": 3,
            "timeout_seconds": 3,
            "labels": {"b": "service", "c": "service"},
        },
    }
    settings = load(
        {
            "ENDPOINTS": "e:1",
            "PORT": "1",
            "ATTEMPTS": "1",
            "CONFIG_FILE": str(file),
            "VCAP_SERVICES": vcap({"egress-exporter": credentials}),
        }
    )
    assert [target.host for target in settings.targets] == ["e", "f", "s"]
    assert (settings.port, settings.log_format, settings.engine) == (1, "json", "connect")
    plan = settings.targets[0].plan
    assert (plan.attempts, plan.max_hops, plan.timeout) == (1, 2, 3)
    assert dict(settings.targets[0].labels) == {"a": "file", "b": "file", "c": "service"}


def test_numbers_and_words_as_they_are_written() -> None:
    """JSON's numbers are text like YAML's, and what is empty counts as unset."""
    credentials = {"targets": [{"host": "a", "port": 44.50}], "port": "", "engine": None}
    (line,) = problems({"VCAP_SERVICES": vcap({"egress-exporter": credentials})})
    assert line == f"VCAP_SERVICES {OWN}.targets[0].port: '44.5' {PORT_RANGE}"


@pytest.mark.parametrize("value", ["", " ", "{}", "null", '{"a": []}', '{"a": 5, "b": [6, null]}'])
def test_no_service_is_no_mistake(value: str) -> None:
    """A platform that binds nothing says so in many ways, and what is foreign is not judged."""
    assert load({"VCAP_SERVICES": value}) == load({})
    assert load({"SERVICE_BINDING_ROOT": "/nonexistent/bindings"}) == load({})


@pytest.mark.parametrize(
    ("credentials", "lines"),
    [
        (
            {"targets": [{"host": "a", "port": "x"}], "prot": "1"},
            [
                f"VCAP_SERVICES {OWN}.prot: is unknown; did you mean port?",
                f"VCAP_SERVICES {OWN}.targets[0].port: 'x' {PORT_RANGE}",
            ],
        ),
        (
            {"endpoints": "a:1 b"},
            [f"VCAP_SERVICES {OWN}.endpoints entry 2: 'b' has no port; write e.g. b:443"],
        ),
        (
            {"endpoints": ["a:1"]},
            [
                (
                    f"VCAP_SERVICES {OWN}.endpoints: a list should be host:port or "
                    "name=host:port, separated by commas or spaces"
                )
            ],
        ),
        (
            {"targets": "a: [b"},
            [
                (
                    f"VCAP_SERVICES {OWN}.targets line 2: cannot be read as YAML: did not find "
                    "expected ',' or ']'"
                )
            ],
        ),
        (
            {"defaults": {"labels": {"team": "x", "hop": "y"}}},
            [
                (
                    f"VCAP_SERVICES {OWN}.defaults.labels.hop: 'hop' is a reserved label; "
                    "write another name, such as my_hop"
                )
            ],
        ),
        (
            {"basic_auth_password": CANARY},
            [
                (
                    "BASIC_AUTH_USERNAME: is missing, and "
                    f"VCAP_SERVICES {OWN}.basic_auth_password is set; set both or none"
                )
            ],
        ),
    ],
)
def test_mistakes_name_their_place(credentials: Mapping[str, Any], lines: list[str]) -> None:
    """A wrong value is found by delivery, label, name and key."""
    assert problems({"VCAP_SERVICES": vcap({"egress-exporter": credentials})}) == lines


def test_mistakes_in_files_name_the_file(tmp_path: Path) -> None:
    """In folders the place is the path below SERVICE_BINDING_ROOT."""
    credentials = {"targets": [{"host": "a", "port": 0}], "engine": "x"}
    assert problems(as_folders(tmp_path, {"egress-exporter": credentials})) == [
        "SERVICE_BINDING_ROOT/egress-exporter/engine: 'x' should be auto, syn or connect",
        f"SERVICE_BINDING_ROOT/egress-exporter/targets[0].port: '0' {PORT_RANGE}",
    ]


def test_two_services_of_the_name(tmp_path: Path) -> None:
    """Which of two is meant cannot be known."""
    own = {"egress-exporter": {"port": "1"}}
    both = as_folders(tmp_path, own) | {"VCAP_SERVICES": vcap(own)}
    (line,) = problems(both)
    assert line == (
        f"VCAP_SERVICES {OWN} and SERVICE_BINDING_ROOT/egress-exporter are both called "
        "egress-exporter; bind one service of that name"
    )


TOO_LARGE = json.dumps({"a": "x" * MAX_FILE_BYTES})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{{"a": "{CANARY}', "cannot be read as JSON, from line 1, column 7 on"),
        (CANARY, "cannot be read as JSON, from line 1, column 1 on"),
        ("[" * 100_000, "cannot be read as JSON: too many levels"),
        (TOO_LARGE, "is too large; it should have at most 1,048,576 bytes"),
    ],
)
def test_json_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    """What cannot be read is a mistake, bounded and without a word of the text."""
    file = tmp_path / "vcap"
    file.write_text(text)
    assert problems({"VCAP_SERVICES": text}) == [f"VCAP_SERVICES: the value {said}"]
    (line,) = problems({"VCAP_SERVICES_FILE_PATH": str(file)})
    assert line.startswith("VCAP_SERVICES_FILE_PATH: ")
    assert line.endswith(said)


@pytest.mark.parametrize("text", ["[]x", '["a"]', '"a"', "5"])
def test_json_of_another_kind(text: str) -> None:
    """A list or a text is no set of services."""
    (line,) = problems({"VCAP_SERVICES": text})
    assert line.startswith("VCAP_SERVICES: the value ")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A path that leads nowhere, a pipe, and a key of the own service that is no text."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert problems({"VCAP_SERVICES_FILE_PATH": "/nonexistent"}) == [
        "VCAP_SERVICES_FILE_PATH: '/nonexistent' cannot be read: No such file or directory"
    ]
    (line,) = problems({"VCAP_SERVICES_FILE_PATH": str(pipe)})
    assert line.endswith(" is a special file; it should be a regular file")
    (line,) = problems({"SERVICE_BINDING_ROOT": str(pipe)})
    assert line.endswith(" cannot be read: Not a directory")
    own = tmp_path / "root" / "egress-exporter"
    own.mkdir(parents=True)
    os.mkfifo(own / "targets")
    (own / "engine").write_bytes(b"\xff")
    (own / "defaults").write_bytes(b"\xff")
    place = "SERVICE_BINDING_ROOT/egress-exporter"
    assert sorted(problems({"SERVICE_BINDING_ROOT": str(own.parent)})) == [
        f"{place}/defaults: is not UTF-8",
        f"{place}/engine: '\\udcff' should be auto, syn or connect",
        f"{place}/targets is a special file; it should be a regular file",
    ]


def test_folders_without_end(tmp_path: Path) -> None:
    """More bindings than anybody has are not looked at."""
    for number in range(MAX_ENTRIES + 1):
        (tmp_path / f"b{number}").mkdir()
    assert load({"SERVICE_BINDING_ROOT": str(tmp_path)}) == load({})


# -- targets from credentials ------------------------------------------------------------


def test_discovery_is_off_by_default() -> None:
    """Nobody's services are traced unasked."""
    environ = {"VCAP_SERVICES": vcap({"db": {"host": "h", "port": 1}})}
    for off in ({}, {"DISCOVER_SERVICES": ""}, {"DISCOVER_SERVICES": "false"}):
        assert load(environ | off).targets == ()


def test_discovery_from_every_delivery(deliver: Deliver) -> None:
    """All three deliveries give the same targets, and the own service is none of them."""
    services = {
        "db": {"uri": f"postgres://u:{CANARY}@db.example:5433/x", "username": CANARY},
        "cache": {"hostname": "10.0.0.9", "port": 6380, "password": CANARY},
        "egress-exporter": {"defaults": {"labels": {"team": "x"}}, "discover_services": "true"},
    }
    settings = load(deliver(services))
    assert sorted(endpoints(settings)) == [
        ("cache", "10.0.0.9", 6380),
        ("db", "db.example", 5433),
    ]
    assert {target.labels for target in settings.targets} == {(("team", "x"),)}
    assert settings.warnings == ()


@pytest.mark.parametrize("wanted", ["db", "some-service", "no-such db", '["db"]'])
def test_discovery_of_named_services(wanted: str) -> None:
    """A list has names, labels or tags; a name that nobody has is a warning."""
    services = json.loads(vcap({"db": {"host": "h", "port": 1}}, "some-service"))
    services |= json.loads(vcap({"other": {"host": "o", "port": 2}}, "other-service"))
    own = {"egress-exporter": {"discover_services": wanted}}
    services |= json.loads(vcap(own))
    settings = load({"VCAP_SERVICES": json.dumps(services)})
    assert endpoints(settings) == [("db", "h", 1)]
    missing = ("DISCOVER_SERVICES: no bound service is called 'no-such'",)
    assert settings.warnings == (missing if "no-such" in wanted else ())


MONGO = f"mongodb://u:{CANARY}@m1.example:27018,m2.example,[2001:db8::1]:27019/d?replicaSet=r"


@pytest.mark.parametrize(
    ("credentials", "expected"),
    [
        ({"host": "h", "port": "5432"}, ["h:5432"]),
        ({"hostname": "H.Example", "port": 1}, ["H.Example:1"]),
        ({"host": "2001:DB8::1", "port": 1}, ["[2001:db8::1]:1"]),
        ({"hosts": ["a:1", "b"], "port": 2}, ["a:1", "b:2"]),
        ({"hosts": "a:1, b:2"}, ["a:1", "b:2"]),
        ({"hosts": [{"host": "a", "port": 1}, {"host": "b", "port": 2}]}, ["a:1", "b:2"]),
        ({"bootstrap-servers": "k1:9093,k2:9093"}, ["k1:9093", "k2:9093"]),
        ({"bootstrap_servers": "SASL_SSL://k1:9093,SASL_SSL://k2:9094"}, ["k1:9093", "k2:9094"]),
        ({"brokers": ["k1:1", "k2:1"]}, ["k1:1", "k2:1"]),
        ({"uri": f"postgres://u:{CANARY}@h/d"}, ["h:5432"]),
        ({"uri": f"mysql2://u:{CANARY}@h/d?reconnect=true"}, ["h:3306"]),
        ({"uri": f"amqps://u:{CANARY}@h/vhost"}, ["h:5671"]),
        ({"uri": f"amqp://u:{CANARY}@h"}, ["h:5672"]),
        ({"uri": f"redis://:{CANARY}@h:7000/0"}, ["h:7000"]),
        ({"uri": f"rediss://:{CANARY}@h"}, ["h:6379"]),
        ({"url": "https://api.example/path"}, ["api.example:443"]),
        ({"URL": "http://api.example"}, ["api.example:80"]),
        ({"uri": MONGO}, ["m1.example:27018", "m2.example:27017", "[2001:db8::1]:27019"]),
        ({"jdbcUrl": f"jdbc:postgresql://h:1/d?user=u&password={CANARY}"}, ["h:1"]),
        ({"jdbc_url": f"jdbc:mysql://h/d?user=u&password={CANARY}"}, ["h:3306"]),
        ({"jdbcurl": f"jdbc:sqlserver://h:1433;user=u;password={CANARY}"}, ["h:1433"]),
        ({"uri": f"postgresql+psycopg://u:{CANARY}@h/d"}, ["h:5432"]),
        # The host that has a port of its own is not taken again with the scheme's.
        ({"hostname": "h", "port": 5433, "uri": f"postgres://u:{CANARY}@h/d"}, ["h:5433"]),
        ({"hostname": "h", "uri": f"amqp://u:{CANARY}@h:5673"}, ["h:5673"]),
        (
            {
                "hostname": "q",
                "protocols": {
                    "amqp": {"host": "q", "port": 5672, "uris": [f"amqp://u:{CANARY}@q:5672/v"]},
                    "management": {"uri": f"https://u:{CANARY}@q:15672/api"},
                },
            },
            ["q:5672", "q:15672"],
        ),
    ],
)
def test_what_credentials_name(credentials: Mapping[str, Any], expected: list[str]) -> None:
    """Hosts with ports, lists of them, and URIs with the scheme's port, wherever they stand."""
    settings = found(credentials)
    shown = [
        f"[{t.host}]:{t.port}" if ":" in t.host else f"{t.host}:{t.port}" for t in settings.targets
    ]
    assert shown == expected
    names = [target.name for target in settings.targets]
    assert names == (["db"] if len(expected) == 1 else [f"db-{one}" for one in expected])
    assert CANARY not in repr(settings)


@pytest.mark.parametrize(
    ("credentials", "places"),
    [
        ({"password": CANARY}, [": names no host and port"]),
        ({}, [": names no host and port"]),
        ({"host": "h"}, [".host"]),
        ({"host": f"{CANARY}!", "port": 1}, [".host"]),
        ({"host": "h", "port": CANARY}, [".host"]),
        ({"host": "h", "port": 70_000}, [".host"]),
        ({"uri": CANARY}, [".uri"]),
        ({"uri": f"postgres://{CANARY} x/d"}, [".uri"]),
        ({"uri": f"postgres://u:{CANARY}@/d"}, [".uri"]),
        ({"uri": f"redis://:{CANARY}@:6379"}, [".uri"]),
        ({"uri": f"amqp://u:{CANARY}"}, [".uri"]),
        ({"uri": f"unknown://u:{CANARY}@h"}, [".uri"]),
        ({"uri": f"mongodb+srv://u:{CANARY}@cluster.example/d"}, [".uri"]),
        ({"uri": f"jdbc:oracle:thin:u/{CANARY}@h:1521:sid"}, [".uri"]),
        # A password that is not percent-encoded: what stands in the host's place is not the host.
        ({"uri": f"postgres://u:1/{CANARY}@h:5432/d"}, [".uri"]),
        ({"uri": f"postgres://u:1#{CANARY}@h:5432/d"}, [".uri"]),
        ({"uri": f"postgres://u:1?{CANARY}@h:5432/d"}, [".uri"]),
        ({"uri": f"postgres://u:1@{CANARY}@h:5432/d"}, [".uri"]),
        ({"uri": f"postgres://u:1\\{CANARY}@h:5432/d"}, [".uri"]),
        ({"uri": f"https://[{CANARY}"}, [".uri"]),
        ({"hosts": [f"{CANARY}:pw@x", 5], "url": {"a": CANARY}}, [".hosts", ".url"]),
        ({"nested": [{"uri": f"x{CANARY}"}]}, [".nested[0].uri"]),
    ],
)
def test_what_cannot_be_read_is_named_by_its_key(
    credentials: Mapping[str, Any], places: list[str]
) -> None:
    """Binding and key are in a warning, the value nowhere, and nothing stops."""
    settings = found(credentials)
    assert settings.targets == ()
    place = "VCAP_SERVICES some-service[db].credentials"
    assert settings.warnings == tuple(
        f"{place}{key}" if " " in key else f"{place}{key}: no host and port can be read from it"
        for key in places
    )
    assert CANARY not in repr(settings)


def test_names_are_found_for_all() -> None:
    """The same endpoint is traced once, a name that is taken gets host:port added."""
    bound = {
        "db": {"host": "a", "port": 1},
        "again": {"uri": "postgres://a:1/x"},
        "web": {"host": "b", "port": 2},
    }
    services = json.loads(vcap(bound))
    services["second"] = [{"name": "db", "credentials": {"host": "c", "port": 3}}]
    settings = load(
        {
            "VCAP_SERVICES": json.dumps(services),
            "DISCOVER_SERVICES": "true",
            "ENDPOINTS": "web=x:9 y:9 mine=b:2",
        }
    )
    assert endpoints(settings)[3:] == [("db", "a", 1), ("db-c:3", "c", 3)]
    assert settings.warnings == ()


def test_a_name_that_no_page_can_have_is_left_out() -> None:
    """A binding whose name is no target's name gives a warning instead of a mistake."""
    settings = found({"host": "h", "port": 1}, name="x" * 101)
    assert settings.targets == ()
    (line,) = settings.warnings
    assert line.endswith(".credentials: an endpoint of it cannot be a target")


def test_warnings_are_bounded() -> None:
    """Hundreds of unreadable services do not fill the log."""
    services = vcap({f"s{number}": {} for number in range(2 * MAX_WARNINGS)})
    settings = load({"VCAP_SERVICES": services, "DISCOVER_SERVICES": "true"})
    assert len(settings.warnings) == MAX_WARNINGS


def test_the_plan_shows_warnings_and_no_secret() -> None:
    """`check` prints what was left out, and what it prints of the rest holds no secret."""
    settings = found(
        {
            **dict.fromkeys(("username", "password", "path", "query", CANARY), CANARY),
            "uri": f"postgres://{CANARY}:{CANARY}@db.example/{CANARY}?{CANARY}#{CANARY}",
            "nested": {"uri": f"https://u:{CANARY}@"},
        },
        HTTPS_PROXY=f"http://{CANARY}:{CANARY}@proxy.example:3128/{CANARY}",
    )
    plan = describe(settings, EngineStatus("connect", "fine"), {"db": ["10.0.0.1"]}, ())
    assert "db.example:5432" in plan
    assert "proxies, which are never used: HTTPS_PROXY=proxy.example:3128\n" in plan
    assert "warning: VCAP_SERVICES some-service[db].credentials.nested.uri: no host" in plan
    assert CANARY not in plan + repr(settings)


# -- what people read --------------------------------------------------------------------


def test_the_documented_service_and_mistake() -> None:
    """The page's credentials are accepted, and its mistake is in the words that are used."""
    section = DOCUMENTATION.partition("\n## Bound services")[2]
    text = re.search(r"```json\n(.*?)```", section, re.DOTALL)
    assert text
    credentials = json.loads(text[1])
    settings = load({"VCAP_SERVICES": vcap({"egress-exporter": credentials})})
    assert [target.port for target in settings.targets] == [5432, 443, 443]
    credentials["targets"][0]["port"] = "x"
    (line,) = problems({"VCAP_SERVICES": vcap({"egress-exporter": credentials})})
    assert f"\n{line}\n" in DOCUMENTATION


def test_the_documented_keys() -> None:
    """Every key that is looked at has its place on the page, in one of its spellings."""
    words = {word.lower().replace("_", "") for word in re.findall(r"`(\w+)`", DOCUMENTATION)}
    assert words >= HOST_KEYS | URI_KEYS


# -- any input at all --------------------------------------------------------------------

KEYS = st.sampled_from(["host", "hosts", "port", "uri", "url", "jdbcUrl", "name", "x"])
PIECES = st.sampled_from(
    [
        "postgres",
        "jdbc:",
        "://",
        "user",
        ":",
        "@",
        "h",
        "/",
        "?",
        "#",
        ",",
        "[",
        "]",
        "::1",
        "1",
        ";",
    ]
)
TEXTS = st.lists(PIECES, max_size=10).map("".join) | st.text(max_size=8)
VALUES = st.recursive(
    TEXTS | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | TEXTS, inner, max_size=4),
    max_leaves=12,
)


def outcome(environ: Mapping[str, str]) -> Settings | ConfigurationError:
    """One of the two things that `load` may do."""
    try:
        return load(environ)
    except ConfigurationError as error:
        return error


@given(VALUES)
def test_any_credentials(value: object) -> None:
    """Whatever services hand over, there are sound targets and printable lines."""
    service = [{"name": "db", "credentials": value}, value]
    for services in (value, {"a": value}, {"a": service}):
        found = outcome({"VCAP_SERVICES": json.dumps(services), "DISCOVER_SERVICES": "true"})
        if isinstance(found, ConfigurationError):
            assert all(line.isprintable() for line in found.problems)
            continue
        names = [target.name for target in found.targets]
        assert len(set(names)) == len(names)
        assert all(1 <= target.port <= 65_535 for target in found.targets)
        assert all(line.isprintable() for line in found.warnings)


@given(st.text(alphabet="Zx9:/?#[]@!$&'()*+,;=%\\ -._~", min_size=4, max_size=12))
def test_no_password_ever_becomes_a_host(password: str) -> None:
    """However a password is written, it is never a piece of what is traced."""
    secret = f"Q{password}Q"
    settings = found({"uri": f"postgres://user:{secret}@db.example:5432/name"})
    assert [(t.host, t.port) for t in settings.targets] in ([], [("db.example", 5432)])

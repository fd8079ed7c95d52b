"""Cloud Foundry's manifests: as documented, accepted by the exporter, and what they push starts.

No platform is asked: the schema beside this file is written from Cloud Foundry's documentation.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from exporter.config import load
from exporter.model import Source
from exporter.publish.instance import answered_by, routing_headers
from exporter.publish.web import EXACT
from tests.lab.conftest import open_lab
from tests.lab.exporting import Exporter, environment
from tests.lab.lab import Lab
from tests.scenarios import FOLDER as SCENARIOS
from tests.scenarios import Scenario
from tests.scenarios import load as load_scenario
from tests.unit.test_project import PROJECT, pins

__all__ = ["open_lab"]  # the fixture

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads(Path(__file__).with_name("cloudfoundry-manifest.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
DOCUMENT = (ROOT / "docs" / "cloud-foundry.md").read_text()
MANIFESTS = ["manifest.yml", "manifest-buildpack.yml"]
#: What the command at the top of a manifest gives by --var.
GIVEN = {
    "image": "registry.example.com/egress-exporter:0.1.0",
    "domain": "apps.example.com",
    "password": "correct horse",
}
#: What the buildpack and the start command use; LICENSE goes with every copy.
PUSHED = {"exporter", "requirements.txt", "requirements.lock", "runtime.txt", "LICENSE"}
#: Never pushed, whatever stands in .cfignore (cf push's documentation).
ALWAYS_IGNORED = {".git", ".gitignore", ".cfignore"}


def variables(name: str) -> set[str]:
    """The ((variables)) of a manifest."""
    return set(re.findall(r"\(\((.+?)\)\)", (ROOT / name).read_text()))


def manifest(name: str) -> Any:
    """A manifest with its variables filled in, as the cf command line does before it is sent."""
    text = (ROOT / name).read_text()
    return yaml.safe_load(re.sub(r"\(\((.+?)\)\)", lambda found: GIVEN[found[1]], text))


def application(name: str) -> Any:
    """The one application of a manifest."""
    (one,) = manifest(name)["applications"]
    return one


def errors(found: Any) -> list[str]:
    """What the schema says against a manifest."""
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(found)]


def ignored(name: str) -> bool:
    """Whether .cfignore leaves out an entry of the project's folder."""
    lines = (ROOT / ".cfignore").read_text().splitlines()
    patterns = {line.rstrip("/") for line in lines if not line.startswith("#")}
    return name in ALWAYS_IGNORED or any(fnmatch(name, pattern) for pattern in patterns)


# -- what the documentation demands ------------------------------------------------------


def test_the_schema_is_one() -> None:
    """The schema itself is a valid JSON Schema."""
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_are_as_documented(name: str) -> None:
    """Every attribute is one that Cloud Foundry documents, with a value that it documents."""
    assert errors(manifest(name)) == []


OFFENCES: dict[str, Callable[[Any], object]] = {
    "an unknown attribute": lambda app: app.update(health_check_type="http"),
    "memory without a unit": lambda app: app.update(memory="128"),
    "memory as a number": lambda app: app.update(memory=128),
    "disk with a unit that is none": lambda app: app.update(disk_quota="1X"),
    "a log rate without a unit": lambda app: app.update({"log-rate-limit-per-second": "16"}),
    "an unknown health check": lambda app: app.update({"health-check-type": "tcp"}),
    "an endpoint for another health check": lambda app: app.update({"health-check-type": "port"}),
    "an endpoint for the default check": lambda app: app.pop("health-check-type"),
    "an endpoint that is no path": lambda app: app.update({"health-check-http-endpoint": "ok"}),
    "instances as text": lambda app: app.update(instances="1"),
    "no name": lambda app: app.pop("name"),
    "a name that the command line takes for an option": lambda app: app.update(name="-x"),
    "a route as text": lambda app: app.update(routes=["egress.example.com"]),
    "a route with a scheme": lambda app: app.update(routes=[{"route": "https://x.example"}]),
    "an unknown protocol": lambda app: app["routes"][0].update(protocol="h2"),
    "a nested environment": lambda app: app["env"].update(A={"b": "c"}),
    "a variable that no shell takes": lambda app: app["env"].update({"A-B": "c"}),
    "an image with buildpacks": lambda app: app.update(
        docker={"image": "a"}, buildpacks=["python_buildpack"]
    ),
    "docker without an image": lambda app: app.update(docker={}, buildpacks=None),
    "services as text": lambda app: app.update(services="egress-exporter"),
}


@pytest.mark.parametrize("offence", OFFENCES)
@pytest.mark.parametrize("name", MANIFESTS)
def test_the_schema_bites(name: str, offence: str) -> None:
    """A mistake of each kind in one of our manifests is found."""
    found = deepcopy(manifest(name))
    OFFENCES[offence](found["applications"][0])
    assert errors(found)


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_command_on_top_gives_every_variable(name: str) -> None:
    """The comment's cf push names this file, and each ((variable)) of it by --var."""
    comment = " ".join(
        line.strip("# \\")
        for line in (ROOT / name).read_text().split("\napplications")[0].split("\n")
    )
    assert variables(name) == set(re.findall(r"--var (\w+)=", comment)) <= set(GIVEN)
    assert f"-f {name}" in comment or name == "manifest.yml"


# -- what the exporter demands -----------------------------------------------------------


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_exporter_takes_the_environment(name: str) -> None:
    """The settings of a manifest are accepted, beside those that the platform adds."""
    platform = {"PORT": "8080", "CF_INSTANCE_INDEX": "0", "VCAP_SERVICES": "{}"}
    found = load(application(name)["env"] | platform)
    assert [target.name for target in found.targets] == ["db", "api"]
    assert (found.basic_auth_password, found.warnings) == (GIVEN["password"], ())
    assert found.platform_networks


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_health_check_asks_for_health(name: str) -> None:
    """The path is one that is served without a password, whatever the targets do."""
    assert application(name)["health-check-http-endpoint"] == "/-/healthy"
    assert "/-/healthy" in EXACT


def test_the_two_ways_differ_in_what_is_pushed() -> None:
    """Image or source: all the rest is the same in both manifests."""
    first, second = (
        {k: v for k, v in application(name).items() if k not in {"docker", "buildpacks", "command"}}
        for name in MANIFESTS
    )
    assert first == second
    assert "docker" in application(MANIFESTS[0])
    assert application(MANIFESTS[1])["buildpacks"] == ["python_buildpack"]


# -- what the documentation shows --------------------------------------------------------


def test_the_documented_service_is_accepted() -> None:
    """The credentials of `cf create-user-provided-service` give two targets and a password."""
    given = re.search(r"cf create-user-provided-service (\S+) -p '(.*?)'", DOCUMENT, re.DOTALL)
    assert given
    service = {"name": given[1], "credentials": json.loads(given[2])}
    found = load({"VCAP_SERVICES": json.dumps({"user-provided": [service]})})
    assert [target.name for target in found.targets] == ["db", "api"]
    assert (found.basic_auth_username, found.basic_auth_password) == ("prometheus", "choose-one")


def test_the_documented_page_line_is_the_real_one() -> None:
    """The quoted line about an instance is what the page says."""
    quoted = " ".join(re.findall(r"^> (.*)$", DOCUMENT, re.MULTILINE))
    source = Source(
        instance_index="1",
        instance_guid="41653aa4-3a3a-486a-4431-ef258b39f042",
        cell="10.0.4.7",
        application="egress-exporter",
        space="my-space",
        organization="my-org",
        application_guid="fa05c1a9-0fc1-4fbd-bae1-139850dec7a3",
        process_guid="c0134bad-97a9-468d-ab9d-e97547e3aed5",
    )
    assert quoted.startswith(f"Answered by {answered_by(source)}.")
    assert re.findall(r"`(.*?)`", quoted) == list(routing_headers(source))


# -- from the source, by the buildpack ---------------------------------------------------


def test_everything_else_stays_at_home() -> None:
    """.cfignore leaves out every folder that the start does not need, and nothing that it does."""
    entries = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"vendor"} | PUSHED
    assert {name for name in entries if not ignored(name)} == PUSHED


def test_the_buildpack_installs_the_locked_versions() -> None:
    """requirements.txt is the lock and nothing beside it."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "--requirement requirements.lock"
    ]
    assert pins("requirements.lock")


def test_the_buildpack_takes_a_python_that_is_supported() -> None:
    """runtime.txt names a line of versions, one of those that pyproject.toml lists."""
    line = re.fullmatch(r"python-(3\.\d+)\.x\n", (ROOT / "runtime.txt").read_text())
    assert line
    assert f"Programming Language :: Python :: {line[1]}" in PROJECT["classifiers"]


#: What the platform's user may do: nothing special, and nothing to gain.
UNPRIVILEGED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")


def pushed_copy(folder: Path) -> Path:
    """What cf push would upload."""
    app = folder / "app"
    app.mkdir()
    for name in PUSHED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, app / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, app)
    return app


def test_the_start_command_runs_as_the_platform_does_it(
    open_lab: Callable[[Scenario], Lab], tmp_path: Path
) -> None:
    """By `bash -c` in a folder of the pushed files, without any privilege: healthy, and tracing."""
    scenario = load_scenario(SCENARIOS / "mid_path_firewall.toml")
    command = application("manifest-buildpack.yml")["command"]
    app = pushed_copy(tmp_path)
    lab = open_lab(scenario)
    settings = environment(
        lab,
        ENDPOINTS=f"web={scenario.destination}:443",
        CF_INSTANCE_INDEX="0",
        PYTHONDONTWRITEBYTECODE="1",
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        lab.popen(
            [*UNPRIVILEGED, "bash", "-c", command],
            listener,
            cwd=app,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        try:
            exporter = Exporter(process, listener.getsockname()[1])
            exporter.wait_for("engine connect")
            assert exporter.fetch("/-/healthy")[0] == 200
            exporter.wait_for_traces("web")
            assert exporter.metrics()['egress_state{state="open",target="web"}'] == 1
        finally:
            process.kill()

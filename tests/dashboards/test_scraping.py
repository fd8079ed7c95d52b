"""The scraping guide: its configurations load, and fit what the manifests deploy.

Debian's promtool lacks two of the fields (`UNKNOWN`): they are taken out and judged here, and it
loads the rest.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.model import MAX_ADDRESSES, Plan, Source
from exporter.publish.instance import routing_headers
from exporter.publish.tables import series_of_program, series_of_target
from tests.dashboards.test_rules import RULES, file_name, promtool, rules
from tests.deploy.manifests import Manifest, of_kind, pod, rendered, workload

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "dashboards" / "prometheus"
CONFIGURATIONS = sorted(FOLDER.glob("*.yml"))
GUIDE = (ROOT / "docs" / "prometheus.md").read_text()
#: `http_headers` is of Prometheus 2.55; Debian builds without Kubernetes' discovery.
UNKNOWN = {"http_headers", "kubernetes_sd_configs"}
#: What the configurations expect beside them, rules apart.
BESIDE = {
    "secrets/egress-password": "choose-one\n",
    "secrets/remote-write-password": "choose-another\n",
    "secrets/platform-ca.pem": "",
    "egress/berlin.yml": "- targets: [egress-3.example.com:8080]\n",
}
MANIFESTS = ("manifest.yml", "manifest-buildpack.yml")


def jobs(path: Path) -> list[dict[str, Any]]:
    """The scrape configurations of a file."""
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text())["scrape_configs"]
    return found


def named(name: str) -> list[dict[str, Any]]:
    """Those of one of the files."""
    return jobs(FOLDER / name)


def application(manifest: str) -> Manifest:
    """The app of a manifest of Cloud Foundry's."""
    [found] = yaml.safe_load((ROOT / manifest).read_text())["applications"]
    return dict(found)


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A folder with all that the configurations name, such as /etc/prometheus."""
    shutil.copytree(ROOT / "dashboards" / "rules", tmp_path / "rules")
    for name, text in BESIDE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def known(path: Path) -> dict[str, Any]:
    """A configuration without the fields that Debian's promtool does not know."""
    whole: dict[str, Any] = yaml.safe_load(path.read_text())
    for job in whole["scrape_configs"]:
        for field in UNKNOWN & job.keys():
            del job[field]
    return whole


def discovered(folder: Path, job: dict[str, Any]) -> list[dict[str, str]]:
    """The labels of each target of a job, as Prometheus would scrape it."""
    configuration = folder / "prometheus.yml"
    configuration.write_text(yaml.safe_dump({"scrape_configs": [job]}))
    looked = promtool(
        "check", "service-discovery", "--timeout=1s", str(configuration), job["job_name"]
    )
    labels = [one["labels"] for one in json.loads(looked)]
    return [{key: one[key] for key in one if not key.startswith("__")} for one in labels]


# -- the files -------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=file_name)
def test_prometheus_can_load_the_configuration(beside: Path, path: Path) -> None:
    """`promtool check config` finds no mistake, and every file that is named."""
    configuration = beside / "prometheus.yml"
    configuration.write_text(yaml.safe_dump(known(path)))
    agent = ["--agent"] if path.stem.endswith("-agent") else []
    told = promtool("check", "config", *agent, str(configuration))
    assert "WARNING" not in told
    if "rule_files" in known(path):
        numbers = re.findall(r"SUCCESS: (\d+) rules found", told)
        assert sorted(map(int, numbers)) == sorted(len(rules(one)) for one in RULES)


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=file_name)
def test_the_guide_shows_the_configuration(path: Path) -> None:
    """docs/prometheus.md has the file's text, to the letter."""
    assert f"```yaml\n{path.read_text()}```\n" in GUIDE
    assert f"`{path.name}`" in GUIDE


def test_the_guide_shows_no_other_configuration() -> None:
    """What looks like a configuration of Prometheus is one of the files."""
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    assert sum("scrape_configs:" in block for block in blocks) == len(CONFIGURATIONS)


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=file_name)
def test_every_job_is_one_fleet_and_bounded(path: Path) -> None:
    """Each is scraped twice a trace, with a limit, its own labels, and no password in the file."""
    for job in jobs(path):
        assert (job["scrape_interval"], job["sample_limit"]) == ("30s", 20_000)
        assert "honor_labels" not in job
        assert "password" not in job.get("basic_auth", {})


def test_the_guides_queries_are_about_the_job() -> None:
    """They ask for the job that the configurations give."""
    queries = re.findall(r"```promql\n(.*?)```", GUIDE, re.DOTALL)
    assert queries
    assert all('{job="egress"}' in query for query in queries)


# -- Cloud Foundry ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cloud-foundry-inside.yml", "cloud-foundry-agent.yml"])
@pytest.mark.parametrize("manifest", MANIFESTS)
def test_the_internal_route_is_the_manifests(name: str, manifest: str) -> None:
    """What is looked up is a route of the app, and the user is the one that it asks for."""
    app = application(manifest)
    [job] = named(name)
    [discovery] = job["dns_sd_configs"]
    routes = {route["route"] for route in app["routes"]}
    assert set(discovery["names"]) == {route for route in routes if route.endswith(".internal")}
    assert job["basic_auth"]["username"] == app["env"]["BASIC_AUTH_USERNAME"]


def test_the_policy_opens_the_port_that_is_scraped() -> None:
    """`cf add-network-policy` names the app and the port of the configuration."""
    [port] = re.findall(r"cf add-network-policy prometheus egress-exporter .*--port (\d+)", GUIDE)
    [discovery] = named("cloud-foundry-inside.yml")[0]["dns_sd_configs"]
    assert discovery["port"] == int(port)


def test_an_agent_scrapes_as_prometheus_inside_does() -> None:
    """The two differ in what becomes of the series alone."""
    assert named("cloud-foundry-agent.yml") == named("cloud-foundry-inside.yml")


def test_each_header_leads_to_an_instance_of_its_own() -> None:
    """It is the one that the page shows, with the number of the job, counted from 0."""
    guid = "fa05c1a9-0fc1-4fbd-bae1-139850dec7a3"
    [shown] = routing_headers(Source(application_guid=guid))
    for index, job in enumerate(named("cloud-foundry-outside.yml")):
        [(header, given)] = job["http_headers"].items()
        assert given.keys() == {"values"}
        assert [f"{header}: {value}" for value in given["values"]] == [
            shown.replace("INDEX", str(index))
        ]
        assert job["job_name"] == f"egress-{index}"


def test_instances_behind_one_route_are_one_job(beside: Path) -> None:
    """Each has the job of all and an `instance` of its own, at the address of the route."""
    found = [
        labels
        for job in known(FOLDER / "cloud-foundry-outside.yml")["scrape_configs"]
        for labels in discovered(beside, job)
    ]
    route = "egress-exporter.apps.example.com"
    assert found == [{"job": "egress", "instance": f"{route}/#{index}"} for index in range(2)]


# -- Kubernetes ------------------------------------------------------------------------


@pytest.mark.parametrize("component", ["", "daemonset", "split"])
def test_the_pods_that_are_looked_for_are_the_manifests(component: str) -> None:
    """Namespace and label select them, whatever makes them."""
    manifests = rendered(*filter(None, [component]))
    [job] = named("kubernetes.yml")
    [discovery] = job["kubernetes_sd_configs"]
    assert discovery["namespaces"]["names"] == [of_kind(manifests, "Namespace")["metadata"]["name"]]
    [selector] = discovery["selectors"]
    assert discovery["role"] == selector["role"] == "pod"
    label, _, value = selector["label"].partition("=")
    assert workload(manifests)["spec"]["template"]["metadata"]["labels"][label] == value


def pods() -> Iterator[dict[str, str]]:
    """What a cluster says of a running pod's two ports, and of one that has ended."""
    [container] = pod(rendered())["containers"]
    [port] = container["ports"]
    for name, phase in ((port["name"], "Running"), ("other", "Running"), (port["name"], "Failed")):
        yield {
            "__meta_kubernetes_pod_container_port_name": name,
            "__meta_kubernetes_pod_phase": phase,
            "__meta_kubernetes_pod_name": "egress-exporter-0",
            "__meta_kubernetes_pod_node_name": "node-7",
        }


def test_of_a_pod_the_port_of_the_metrics_is_scraped(beside: Path) -> None:
    """Once, with the names of pod and node, and not after its end."""
    [job] = known(FOLDER / "kubernetes.yml")["scrape_configs"]
    job["static_configs"] = [
        {"targets": [f"10.1.2.{number}:8080"], "labels": labels}
        for number, labels in enumerate(pods())
    ]
    assert [labels for labels in discovered(beside, job) if labels] == [
        {
            "job": "egress",
            "instance": "10.1.2.0:8080",
            "pod": "egress-exporter-0",
            "node": "node-7",
        }
    ]


# -- how much it is --------------------------------------------------------------------


def test_the_guide_counts_as_the_exporter_does() -> None:
    """Each row's series are those of its targets, and its samples those of a day at 30 s."""
    row = r"^\| ([\d,]+) \| (\d+)[^|]* \| ([\d,]+) \| (\S+) million \|"
    rows = re.findall(row, GUIDE, re.MULTILINE)
    assert len(rows) == 3
    for targets, hops, series, samples in rows:
        counted = int(targets.replace(",", "")) * series_of_target(int(hops))
        assert int(series.replace(",", "")) == counted
        assert float(samples) == pytest.approx(counted * 2 * 60 * 24 / 1e6, rel=0.02)


def test_the_limit_is_above_the_longest_paths() -> None:
    """What the guide says of `sample_limit` holds for every hop that there may be."""
    hops = Plan().max_hops
    each = series_of_target(hops)
    none, one = series_of_target(0), series_of_target(1) - series_of_target(0)
    assert f"`({none} + {one} * MAX_HOPS) * targets + 50`" in GUIDE
    assert f"default of {hops} hops {each} a\ntarget" in GUIDE
    assert f"`ALL_ADDRESSES` add {MAX_ADDRESSES} a target" in GUIDE
    assert series_of_program() + 20 <= 50  # ten of the process, and two lists
    assert 120 * each + 50 <= 20_000
    assert 500 * each + 50 <= 85_000

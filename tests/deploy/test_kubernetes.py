"""The Kubernetes manifests: valid, allowed by the strictest standard, and of one piece.

No cluster is asked: the schemas are those that Kubernetes publishes, the rules of the pod
security standards and the ServiceMonitor's schema stand beside this file.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from exporter import __version__
from exporter.config import load
from exporter.publish.web import EXACT
from exporter.settings import Settings
from tests.deploy.manifests import (
    FOLDER,
    ROOT,
    Manifest,
    applied,
    of_kind,
    pod,
    read,
    rendered,
    workload,
)
from tests.deploy.pod_security import BASELINE, RESTRICTED, broken

KUBERNETES = "1.36"
SCHEMA = json.loads(Path(__file__).with_name("servicemonitor.schema.json").read_text())
VARIANTS = [(), ("daemonset",), ("raw-sockets",), ("daemonset", "raw-sockets")]

#: What the cluster knows of a pod.
FIELDS = {
    "metadata.name": "egress-exporter-7d4b9",
    "spec.nodeName": "node-3",
    "status.podIP": "10.244.1.7",
}

#: Each rule of the restricted standard, and a change of our pod that breaks it and no other.
OFFENCES: dict[str, tuple[str, object]] = {
    "HostProcess": ("/securityContext/windowsOptions", {"hostProcess": True}),
    "Host Namespaces": ("/hostNetwork", True),
    "Privileged Containers": ("/containers/0/securityContext/privileged", True),
    "Capabilities": ("/containers/0/securityContext/capabilities/add", ["CHOWN"]),
    "Host Ports": ("/containers/0/ports/0/hostPort", 8080),
    "Host Probes / Lifecycle Hooks": ("/containers/0/livenessProbe/httpGet/host", "10.0.0.1"),
    "AppArmor": ("/securityContext/appArmorProfile", {"type": "Unconfined"}),
    "SELinux type": ("/securityContext/seLinuxOptions", {"type": "spc_t"}),
    "SELinux user": ("/containers/0/securityContext/seLinuxOptions", {"user": "system_u"}),
    "SELinux role": ("/securityContext/seLinuxOptions", {"role": "system_r"}),
    "/proc Mount Type": ("/containers/0/securityContext/procMount", "Unmasked"),
    "Sysctls": ("/securityContext/sysctls", [{"name": "kernel.msgmax", "value": "1"}]),
    "Volume Types": ("/volumes/0/nfs", {"server": "10.0.0.1", "path": "/"}),
    "Privilege Escalation": ("/containers/0/securityContext/allowPrivilegeEscalation", True),
    "Running as Non-root": ("/securityContext/runAsNonRoot", None),
    "Running as Non-root user": ("/containers/0/securityContext/runAsUser", 0),
    "Seccomp": ("/containers/0/securityContext/seccompProfile", {"type": "Unconfined"}),
    "Capabilities dropped": ("/containers/0/securityContext/capabilities", {}),
}


def container(*components: str) -> Manifest:
    """The one container of a pod."""
    [one] = pod(rendered(*components))["containers"]
    found: Manifest = one
    return found


def environment() -> dict[str, str]:
    """The container's variables, as the cluster fills them in."""
    return {
        one["name"]: one.get("value") or FIELDS[one["valueFrom"]["fieldRef"]["fieldPath"]]
        for one in container()["env"]
    }


def mounted(folder: Path) -> Path:
    """The ConfigMap's files as kubelet lays them out: links into a folder that is exchanged."""
    version = folder / "..2026_01_01"
    version.mkdir()
    (folder / "..data").symlink_to(version.name)
    for name, text in of_kind(rendered(), "ConfigMap")["data"].items():
        (version / name).write_text(text)
        (folder / name).symlink_to(f"..data/{name}")
    return folder


def settings(folder: Path) -> Settings:
    """What the exporter makes of the container's variables and files."""
    variables = environment()
    variables["CONFIG_FILE"] = str(mounted(folder) / Path(variables["CONFIG_FILE"]).name)
    return load(variables)


@pytest.mark.parametrize("components", VARIANTS, ids="+".join)
def test_every_object_is_valid_for_kubernetes(components: tuple[str, ...]) -> None:
    """Kubernetes' own schemas accept each object, unknown fields refused."""
    for manifest in rendered(*components):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_a_misspelt_field_is_not_valid() -> None:
    """The strict schemas are what is asked."""
    offence = {"op": "add", "path": "/spec/replica", "value": 1}
    deployment = applied([offence], workload(rendered()))
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


def test_the_servicemonitor_is_valid_for_the_operator() -> None:
    """It has the fields that the operator's reference documents, and no other."""
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(read("servicemonitor.yaml"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/spec/endpoint", []),
        ("/spec/endpoints/0/port", 8080),
        ("/spec/endpoints/0/interval", "30"),
        ("/spec/selector", {"app.kubernetes.io/name": "egress-exporter"}),
    ],
)
def test_what_the_operator_would_refuse_is_not_valid(path: str, value: object) -> None:
    """A misspelt field, a port by number, a time without a unit, a selector without its kind."""
    monitor = applied([{"op": "add", "path": path, "value": value}], read("servicemonitor.yaml"))
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate(monitor)


@pytest.mark.parametrize("components", VARIANTS[:2], ids="+".join)
def test_the_pods_meet_the_restricted_standard(components: tuple[str, ...]) -> None:
    """Every rule of it holds, and the namespace enforces it."""
    manifests = rendered(*components)
    assert broken(RESTRICTED, pod(manifests)) == []
    assert enforced(manifests) == "restricted"


@pytest.mark.parametrize("rule", sorted(RESTRICTED.keys() - {"HostPath Volumes"}))
def test_each_rule_of_the_restricted_standard_bites(rule: str) -> None:
    """A pod that breaks one rule is found to break that one."""
    path, value = OFFENCES[rule]
    offence = {"op": "add", "path": path, "value": value}
    assert broken(RESTRICTED, applied([offence], pod(rendered()))) == [rule]


def test_a_folder_of_the_node_breaks_two_rules() -> None:
    """The baseline names hostPath, and it is none of the restricted standard's types."""
    offence = {"op": "add", "path": "/volumes/0/hostPath", "value": {"path": "/"}}
    pod_with_it = applied([offence], pod(rendered()))
    assert broken(RESTRICTED, pod_with_it) == ["HostPath Volumes", "Volume Types"]


@pytest.mark.parametrize("kind", ["initContainers", "ephemeralContainers"])
def test_no_kind_of_container_escapes_the_rules(kind: str) -> None:
    """What runs beside the exporter is looked at as well."""
    offence = {"op": "add", "path": f"/{kind}", "value": [{"name": "other"}]}
    found = broken(RESTRICTED, applied([offence], pod(rendered())))
    assert found == ["Privilege Escalation", "Capabilities dropped"]


def test_raw_sockets_cost_the_baseline_standard() -> None:
    """The baseline forbids to add CAP_NET_RAW, so the namespace enforces nothing."""
    manifests = rendered("raw-sockets")
    assert broken(BASELINE, pod(manifests)) == ["Capabilities"]
    assert broken(RESTRICTED, pod(manifests)) == [
        "Capabilities",
        "Running as Non-root",
        "Running as Non-root user",
    ]
    assert enforced(manifests) == "privileged"


def test_raw_sockets_take_one_capability() -> None:
    """All others stay dropped."""
    capabilities = container("raw-sockets")["securityContext"]["capabilities"]
    assert capabilities == {"drop": ["ALL"], "add": ["NET_RAW"]}


@pytest.mark.parametrize("components", VARIANTS, ids="+".join)
def test_the_pods_write_nothing_and_may_ask_the_cluster_nothing(
    components: tuple[str, ...],
) -> None:
    """What no standard asks: a read-only file system, no account, no variables of others."""
    assert container(*components)["securityContext"]["readOnlyRootFilesystem"] is True
    specification = pod(rendered(*components))
    assert specification["automountServiceAccountToken"] is False
    assert specification["enableServiceLinks"] is False


def test_memory_is_reserved_in_full() -> None:
    """What is asked for is the limit, so a node short of memory does not end the exporter."""
    resources = container()["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert "cpu" not in resources["limits"]


def test_the_exporter_accepts_its_configuration(tmp_path: Path) -> None:
    """Targets and networks of the example are read from where kubelet puts them."""
    found = settings(tmp_path)
    assert [target.name for target in found.targets] == ["db", "api"]
    assert found.platform_networks == (ip_network("10.0.0.0/8"),)


def test_the_exporter_knows_which_pod_it_is(tmp_path: Path) -> None:
    """Name, node and address of the pod become its source, by the names that it reads."""
    source = settings(tmp_path).source
    assert source.instance_guid == FIELDS["metadata.name"]
    assert source.cell == FIELDS["spec.nodeName"]
    assert source.address == FIELDS["status.podIP"]


def test_the_configuration_is_mounted_where_it_is_looked_for() -> None:
    """CONFIG_FILE names a file of the ConfigMap in the folder of its volume."""
    file = Path(environment()["CONFIG_FILE"])
    manifests = rendered()
    [mount] = container()["volumeMounts"]
    [volume] = pod(manifests)["volumes"]
    configuration = of_kind(manifests, "ConfigMap")
    assert mount["mountPath"] == str(file.parent)
    assert volume == {
        "name": mount["name"],
        "configMap": {"name": configuration["metadata"]["name"]},
    }
    assert file.name in configuration["data"]


def test_the_port_is_the_exporters(tmp_path: Path) -> None:
    """The container's port is where it listens, and everyone else calls it by its name."""
    [port] = container()["ports"]
    [service_port] = of_kind(rendered(), "Service")["spec"]["ports"]
    [endpoint] = read("servicemonitor.yaml")["spec"]["endpoints"]
    probes = [container()[kind]["httpGet"] for kind in ("livenessProbe", "readinessProbe")]
    assert port["containerPort"] == settings(tmp_path).port
    assert service_port["targetPort"] == port["name"]
    assert endpoint["port"] == service_port["name"]
    assert {probe["port"] for probe in probes} == {port["name"]}
    assert {endpoint["path"], *(probe["path"] for probe in probes)} <= set(EXACT)


def test_labels_lead_from_the_monitor_to_the_pods() -> None:
    """ServiceMonitor, Service and workload select what the next one is labelled with."""
    manifests = rendered()
    monitor, service = read("servicemonitor.yaml"), of_kind(manifests, "Service")
    running = workload(manifests)["spec"]
    labels = running["template"]["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels_of(service).items()
    assert service["spec"]["selector"].items() <= labels.items()
    assert running["selector"]["matchLabels"].items() <= labels.items()


def test_everything_is_in_one_namespace() -> None:
    """The objects, and the ServiceMonitor that is applied on its own, say the same one."""
    kustomization, monitor = read("kustomization.yaml"), read("servicemonitor.yaml")
    manifests = rendered()
    named = {one["metadata"].get("namespace") for one in (*manifests, monitor)} - {None}
    assert named == {kustomization["namespace"]}
    assert of_kind(manifests, "Namespace")["metadata"]["name"] == kustomization["namespace"]


def test_the_image_is_this_version() -> None:
    """The image's name in the pod is the one that kustomization.yaml replaces."""
    [image] = read("kustomization.yaml")["images"]
    assert image["name"] == container()["image"]
    assert image["newTag"] == __version__


def test_every_file_is_offered_in_the_kustomization() -> None:
    """What is not part of it stands there as a comment that may be uncommented."""
    text = (FOLDER / "kustomization.yaml").read_text()
    offered = set(re.findall(r"^  +(?:# )?- ([\w.-]+)$", text, re.MULTILINE))
    there = {path.name for path in FOLDER.iterdir()}
    assert offered == there - {"kustomization.yaml"}


def test_the_documented_scrape_configuration_is_valid(tmp_path: Path) -> None:
    """Prometheus accepts what docs/kubernetes.md gives for clusters without the operator."""
    assert shutil.which("promtool"), "promtool is missing: Debian package prometheus"
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/kubernetes.md").read_text(), re.DOTALL)
    [block] = [block for block in blocks if block.startswith("scrape_configs:")]
    [job] = yaml.safe_load(block)["scrape_configs"]
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(block)
    subprocess.run(["promtool", "check", "config", configuration], check=True)
    [discovery] = job["dns_sd_configs"]
    service = of_kind(rendered(), "Service")
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    assert discovery["names"] == [f"{name}.{namespace}.svc"]
    assert discovery["port"] == container()["ports"][0]["containerPort"]
    assert service["spec"]["clusterIP"] == "None"  # else the name leads to one address for all


def enforced(manifests: list[Manifest]) -> object:
    """The standard that the namespace asks of its pods."""
    return labels_of(of_kind(manifests, "Namespace"))["pod-security.kubernetes.io/enforce"]


def labels_of(manifest: Manifest) -> dict[str, Any]:
    """The labels of an object."""
    found: dict[str, Any] = manifest["metadata"]["labels"]
    return found

"""The StatefulSet whose pods share the targets out."""

from __future__ import annotations

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from exporter.config import load
from exporter.model import Share
from tests.deploy.manifests import Manifest, pod, rendered, workload
from tests.deploy.pod_security import RESTRICTED, broken
from tests.deploy.test_kubernetes import KUBERNETES


def variables(components: tuple[str, ...]) -> dict[str, str]:
    """What the container's manifest sets itself."""
    [container] = pod(rendered(*components))["containers"]
    return {one["name"]: one["value"] for one in container["env"] if "value" in one}


@pytest.mark.parametrize("components", [("split",), ("split", "raw-sockets")], ids="+".join)
def test_every_object_is_valid(components: tuple[str, ...]) -> None:
    """Kubernetes' own schemas accept each object, unknown fields refused."""
    for manifest in rendered(*components):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_its_pods_are_as_restricted_as_the_deployments() -> None:
    """The strictest standard allows them."""
    assert broken(RESTRICTED, pod(rendered("split"))) == []


def test_each_pod_has_a_part_of_its_own() -> None:
    """As many parts as there are replicas: the pods' names tell them apart."""
    statefulset: Manifest = workload(rendered("split"))
    name, replicas = statefulset["metadata"]["name"], statefulset["spec"]["replicas"]
    environ = variables(("split",)) | {"CONFIG_FILE": "", "ENDPOINTS": "db.example.com:5432"}
    shares = [load(environ | {"POD_NAME": f"{name}-{n}"}).share for n in range(replicas)]
    assert shares == [Share(index, replicas) for index in range(replicas)]


def test_its_service_exists() -> None:
    """A StatefulSet names the Service that gives its pods names."""
    services = [one["metadata"]["name"] for one in rendered() if one["kind"] == "Service"]
    assert workload(rendered("split"))["spec"]["serviceName"] in services

"""The manifests of deploy/kubernetes as Python values, put together as kustomize does it.

Only what these manifests use of kustomize: resources, a generated ConfigMap, and components
that patch with RFC 6902's operations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"

#: An object of the Kubernetes API, or a part of one.
Manifest = dict[str, Any]


def read(name: str) -> Manifest:
    """The one document of a file."""
    manifest: Manifest = yaml.safe_load((FOLDER / name).read_text())
    return manifest


def rendered(*components: str) -> list[Manifest]:
    """Every object that is applied, with the components that are named."""
    kustomization = read("kustomization.yaml")
    manifests = [read(name) for name in kustomization["resources"]]
    manifests += map(_generated, kustomization["configMapGenerator"])
    for component in components:
        for patch in read(f"{component}/kustomization.yaml")["patches"]:
            manifests = [_patched(manifest, patch) for manifest in manifests]
    return manifests


def of_kind(manifests: Sequence[Manifest], *kinds: str) -> Manifest:
    """The one object among them that is of such a kind."""
    [found] = [manifest for manifest in manifests if manifest["kind"] in kinds]
    return found


def workload(manifests: Sequence[Manifest]) -> Manifest:
    """What runs the pods."""
    return of_kind(manifests, "Deployment", "DaemonSet", "StatefulSet")


def pod(manifests: Sequence[Manifest]) -> Manifest:
    """The specification of its pods."""
    specification: Manifest = workload(manifests)["spec"]["template"]["spec"]
    return specification


def applied(operations: Sequence[Manifest], document: Manifest) -> Manifest:
    """The document after operations of RFC 6902: `add`, `replace` and `remove`."""
    root: Any = deepcopy(document)
    for operation in operations:
        *above, last = _steps(operation["path"])
        parent = root
        for step in above:
            parent = parent[int(step) if isinstance(parent, list) else step]
        if operation["op"] != "add":
            del parent[last]  # raises where there is nothing to replace or to remove
        if last == "-":  # RFC 6902 section 4.1: behind the last element
            parent.append(deepcopy(operation["value"]))
        elif operation["op"] != "remove":
            parent[last] = deepcopy(operation["value"])
    result: Manifest = root
    return result


def _steps(pointer: str) -> Iterator[str]:
    """The steps of a JSON Pointer (RFC 6901)."""
    for step in pointer.split("/")[1:]:
        yield step.replace("~1", "/").replace("~0", "~")


def _generated(generator: Manifest) -> Manifest:
    files = {name: (FOLDER / name).read_text() for name in generator["files"]}
    metadata = {"name": generator["name"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": files}


def _patched(manifest: Manifest, patch: Manifest) -> Manifest:
    target = patch["target"]
    if not re.fullmatch(target["kind"], manifest["kind"]):
        return manifest
    assert target["name"] == manifest["metadata"]["name"]
    return applied(yaml.safe_load(patch["patch"]), manifest)

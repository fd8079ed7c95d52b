"""The image with the rights that platforms give it: it runs, measures, is healthy, and ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.image.build import Image
from tests.image.container import DEFAULT, Container, Rights, RunningContainer, platform, running
from tests.lab.chain import CHAIN, OPEN, SILENT
from tests.lab.lab import LabError

#: Cloud Foundry kills what has not ended 10 s after SIGTERM; so does Docker.
STOP_SECONDS = 10
TARGETS = {"web": OPEN, "db": SILENT}


@dataclass(frozen=True, slots=True)
class Platform:
    """Rights, and the engine that they must lead to."""

    rights: Rights
    engine: str
    settings: Mapping[str, str] = field(default_factory=dict)


PLATFORMS = {
    "docker-as-root": Platform(Rights((0, 0), bounding=DEFAULT, permitted=DEFAULT), "syn"),
    "docker": Platform(Rights(bounding=DEFAULT), "connect"),
    "kubernetes-restricted": Platform(Rights(no_new_privileges=True), "connect"),
    "read-only": Platform(Rights(bounding=DEFAULT, read_only=True), "connect"),
    "random-user": Platform(
        Rights((1_000_690_000, 0), read_only=True, no_new_privileges=True),
        "connect",
        {"LISTEN_ADDRESS": "127.0.0.1", "PORT": "9090"},
    ),
    "root-without-capabilities": Platform(Rights((0, 0), no_new_privileges=True), "connect"),
    # The +ei of the image's Python meets what the platform lets a process inherit.
    "cloud-foundry": Platform(Rights(None, DEFAULT, DEFAULT, DEFAULT), "syn"),
    "cloud-foundry-as-vcap": Platform(Rights((2000, 2000), DEFAULT, DEFAULT, DEFAULT), "syn"),
}


@pytest.fixture(scope="module")
def used(image: Image) -> Iterator[Path]:
    """The files that all containers here share and some could write to."""
    with image.root() as used:
        yield used


@pytest.fixture(scope="module")
def containers(
    image: Image, used: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, RunningContainer]]:
    """A container on every platform, all at the same time, each in a lab of its own."""
    with ExitStack() as stack:

        def start(name: str) -> RunningContainer:
            wanted = PLATFORMS[name]
            container = Container(image, used, wanted.rights, {**SETTINGS, **wanted.settings})
            lab = stack.enter_context(platform(CHAIN))
            return stack.enter_context(running(lab, container, tmp_path_factory.mktemp(name)))

        try:
            started = {name: start(name) for name in PLATFORMS}
        except LabError as error:
            pytest.fail(str(error), pytrace=False)
        for container in started.values():
            container.wait_for(" ready: ")
        yield started


SETTINGS = {
    "ENDPOINTS": " ".join(f"{name}={CHAIN.destination}:{port}" for name, port in TARGETS.items()),
    "PLATFORM_NETWORKS": ",".join(CHAIN.platform_networks),
}

everywhere = pytest.mark.parametrize("name", PLATFORMS)


@everywhere
def test_it_judges_the_lab(containers: dict[str, RunningContainer], name: str) -> None:
    """It takes the best engine that its rights allow, and tells open from dropped."""
    container = containers[name]
    container.wait_for_traces(*TARGETS)
    metrics = container.metrics()
    engines = [sample for sample in metrics if sample.startswith("egress_engine_info{")]
    assert [f'engine="{PLATFORMS[name].engine}"' in sample for sample in engines] == [True]
    assert metrics['egress_state{state="open",target="web"}'] == 1
    assert metrics['egress_last_reachable_hop{target="web"}'] == CHAIN.hops
    assert metrics['egress_state{state="filtered",target="db"}'] == 1
    assert metrics['egress_suspect_hop_first{target="db"}'] == 2
    assert metrics['egress_suspect_hop_last{target="db"}'] == 3


@everywhere
def test_it_is_healthy(containers: dict[str, RunningContainer], name: str, tmp_path: Path) -> None:
    """The health endpoint says so, and the image's own check agrees, on whatever port it is."""
    assert containers[name].fetch("/-/healthy") == (200, "healthy\n")
    assert containers[name].check_health(tmp_path) == 0


def test_the_health_check_can_fail(containers: dict[str, RunningContainer], tmp_path: Path) -> None:
    """Where nobody listens the check's exit status is 1, the only other one that Docker knows."""
    assert containers["docker"].check_health(tmp_path, PORT="1") == 1


@everywhere
def test_it_ends_when_asked(containers: dict[str, RunningContainer], name: str) -> None:
    """As the first process, which no signal kills by default, it ends with 0 on SIGTERM."""
    container = containers[name]
    container.signal(signal.SIGTERM)
    assert container.process.wait(STOP_SECONDS) == 0


def test_it_writes_nothing(containers: dict[str, RunningContainer], used: Path, root: Path) -> None:
    """The files are those of the image after all of this, though root could write in places."""
    assert containers
    assert listing(used) == listing(root)


def listing(root: Path) -> dict[str, tuple[int, int]]:
    """Path -> size and time of last change, for all that is not a folder."""
    return {
        str(path.relative_to(root)): (status.st_size, status.st_mtime_ns)
        for folder, _, names in os.walk(root)
        for path in (Path(folder, name) for name in names)
        for status in [path.lstat()]
    }

"""The image as a process in a lab: an OCI bundle that crun runs, with the rights of a platform.

The container has process, mount, IPC and host name namespaces of its own; its network is the
lab's prober. What differs from platform to platform is in `Rights`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.image.build import Image
from tests.lab.exporting import Exporter
from tests.lab.lab import Lab
from tests.scenarios import Scenario

PORT = "8080"
#: What Docker leaves a container, Cloud Foundry as well: 0xa80425fb.
DEFAULT = tuple(
    f"CAP_{name}"
    for name in (
        *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
        *("NET_BIND_SERVICE", "NET_RAW", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP"),
    )
)
#: The folder is the lab's own: so is its /run.
CRUN = ("crun", "--root", "/run/crun", "--cgroup-manager=disabled")
NAME = "egress-exporter"

_FETCH = """
import sys, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[1], method=sys.argv[2])
try:
    answer = urllib.request.urlopen(request, timeout=10)
except urllib.error.HTTPError as error:
    answer = error
with answer:
    print(answer.status)
    sys.stdout.write(answer.read().decode())
"""


@dataclass(frozen=True, slots=True)
class Rights:
    """What a platform lets a container do. `user` is (uid, gid); None: as the image says."""

    user: tuple[int, int] | None = None
    bounding: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    #: As runtimes do it: permitted to whoever starts the process, in effect for root alone.
    permitted: tuple[str, ...] = ()
    no_new_privileges: bool = False
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    """An image, unpacked at `root`, with rights and settings."""

    image: Image
    root: Path
    rights: Rights
    settings: Mapping[str, str] = field(default_factory=dict)

    def bundle(self, folder: Path, *arguments: str) -> None:
        """Write what crun needs to run the image, with arguments instead of its own."""
        config = self.image.config
        argv = [*config["Entrypoint"], *(arguments or config["Cmd"])]
        (folder / "config.json").write_text(json.dumps(self._specification(argv)))

    def process(self, argv: Sequence[str], **settings: str) -> dict[str, Any]:
        """A process of this container, as the OCI runtime specification has it."""
        rights, config = self.rights, self.image.config
        uid, gid = rights.user or map(int, config["User"].split(":"))
        given = {**self.settings, **settings}
        return {
            "user": {"uid": uid, "gid": gid},
            "args": argv,
            "env": [*config["Env"], *(f"{name}={value}" for name, value in given.items())],
            "cwd": config["WorkingDir"],
            "noNewPrivileges": rights.no_new_privileges,
            "capabilities": {
                "bounding": rights.bounding,
                "inheritable": rights.inheritable,
                "permitted": rights.permitted,
                "effective": rights.permitted if uid == 0 else (),
                "ambient": (),
            },
        }

    def _specification(self, argv: list[str]) -> dict[str, Any]:
        return {
            "ociVersion": "1.0.2",
            "process": self.process(argv),
            "root": {"path": str(self.root), "readonly": self.rights.read_only},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
            ],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
        }


class RunningContainer(Exporter):
    """`serve` in a container: it listens in the lab, so that is where it is asked."""

    def __init__(self, process: subprocess.Popen[str], lab: Lab, container: Container) -> None:
        super().__init__(process, int(container.settings.get("PORT", PORT)))
        self._lab, self._container = lab, container

    def fetch(self, path: str, method: str = "GET") -> tuple[int, str]:
        """The status and the body of an answer."""
        argv = [sys.executable, "-c", _FETCH, self.address + path, method]
        done = self._lab.run(argv, check=True, capture_output=True, text=True)
        status, _, body = done.stdout.partition("\n")
        return int(status), body

    def check_health(self, folder: Path, **settings: str) -> int:
        """Run the image's HEALTHCHECK as Docker does: user and rights are the container's.

        Returns its exit status.
        """
        kind, *argv = self._container.image.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        file = folder / "process.json"
        file.write_text(json.dumps(self._container.process(argv, **settings)))
        return self._lab.run(
            [*CRUN, "exec", "--process", str(file), NAME], capture_output=True
        ).returncode


def run(
    lab: Lab, container: Container, folder: Path, *arguments: str
) -> subprocess.CompletedProcess[Any]:
    """Run a command of the exporter in a container until it ends."""
    container.bundle(folder, *arguments)
    return lab.run([*CRUN, "run", "--bundle", str(folder), NAME], capture_output=True, text=True)


@contextmanager
def platform(scenario: Scenario) -> Iterator[Lab]:
    """A lab where crun can work: it refuses a machine with both kinds of cgroups, needing none."""
    with Lab(scenario) as lab:
        lab.run(["mount", "-t", "tmpfs", "none", "/sys/fs/cgroup"], check=True)
        yield lab


@contextmanager
def running(lab: Lab, container: Container, folder: Path) -> Iterator[RunningContainer]:
    """Run what the image runs by itself, for a while."""
    container.bundle(folder)
    with lab.popen(
        [*CRUN, "run", "--bundle", str(folder), NAME],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield RunningContainer(process, lab, container)
        finally:
            # Ends the processes, too, that stand between us and the exporter.
            lab.run([*CRUN, "delete", "--force", NAME], capture_output=True)
            process.kill()

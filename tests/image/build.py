"""The image, built from the Dockerfile as it is, where there is neither a registry nor Docker.

1. The base, which a registry would give, is made by debootstrap and cleaned as Debian's own
   image is: nothing of this machine stays in it.
2. The wheels of the locks are downloaded by this machine's pip, so whatever makes pip work
   here (index, proxy, certificates) is used and never enters the build.
3. buildah runs the Dockerfile. For the time of its steps, and in no layer, it sees the wheels
   and where this machine's apt gets its packages.

Everything stands in build/image, and what has not changed is not made again; `make clean`
removes it, and with it a base that has become old.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from exporter import __version__
from tests.lab.inside import SYSTEM_PATH

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "image"
#: What the Dockerfile is built from, and by.
INPUTS = (
    *("Dockerfile", ".dockerignore", "LICENSE", "README.md", "pyproject.toml"),
    *("requirements.lock", "requirements-dev.lock", "exporter", "tests/image/build.py"),
)
#: Tool -> Debian package.
TOOLS = {"buildah": "buildah", "debootstrap": "debootstrap", "crun": "crun"}

#: Debian keeps debootstrap where the PATH of some has no entry.
PATH = f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATH}"

NAME = "localhost/egress-exporter"
BASE = "docker.io/library/debian:trixie-slim"
SUITE = "trixie"
PYTHON = "3.13"  # trixie's
#: Suffix of a suite -> where Debian keeps it.
REPOSITORIES = {
    "": "http://deb.debian.org/debian",
    "-updates": "http://deb.debian.org/debian",
    "-security": "http://deb.debian.org/debian-security",
}
#: What Debian's image for containers tells dpkg: documents, but for the licences, stay away.
DPKG = """\
force-unsafe-io
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/groff/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
"""


class ImageError(Exception):
    """The image cannot be built here; the message is one line that says what is missing."""


@dataclass(frozen=True)
class Image:
    """An image in the storage. `inspected` is what `buildah inspect` says of it."""

    name: str
    inspected: dict[str, Any]

    @cached_property
    def config(self) -> dict[str, Any]:
        """User, Env, Entrypoint, Cmd, Labels, Healthcheck ..., as Docker writes them."""
        config: dict[str, Any] = self.inspected["Docker"]["config"]
        return config

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The steps that the image remembers, the base's first."""
        steps: list[dict[str, Any]] = self.inspected["OCIv1"]["history"]
        return steps

    @cached_property
    def layers(self) -> list[int]:
        """The unpacked size of each layer in bytes, the base's first."""
        return [layer["size"] for layer in json.loads(self.inspected["Manifest"])["layers"]]

    @contextmanager
    def root(self) -> Iterator[Path]:
        """A copy of the image's files for a while."""
        container = _buildah("from", "--pull-never", self.name)
        try:
            yield Path(_buildah("mount", container))
        finally:
            _buildah("rm", container)


def base() -> Image:
    """The base, which stands in the storage after `build`."""
    return _image(BASE)


def size_beyond_base(image: Image) -> int:
    """How many bytes the image adds to its base, unpacked."""
    return sum(image.layers) - sum(base().layers)


def build() -> Image:
    """The image as the working tree has it, built when something has changed.

    Raises ImageError.
    """
    _check_tools()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp, inputs = FOLDER / "inputs", _digest(_files(INPUTS))
        if not stamp.exists() or stamp.read_text() != inputs:
            stamp.unlink(missing_ok=True)
            _make_base()
            _build()
            stamp.write_text(inputs)
    return _image(NAME)


def _check_tools() -> None:
    for tool, package in TOOLS.items():
        if shutil.which(tool, path=PATH) is None:
            raise ImageError(f"the image needs {tool} (Debian package {package})")
    if os.geteuid() != 0:
        raise ImageError("the image is built without Docker here, and that needs root")


def _files(names: Iterable[str]) -> Iterator[Path]:
    for path in (ROOT / name for name in names):
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (one for one in found if one.is_file() and "__pycache__" not in one.parts)


def _digest(files: Iterable[Path]) -> str:
    digests = (f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in files)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


# -- the base --------------------------------------------------------------------------


def _make_base() -> None:
    if BASE in _buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines():
        return
    files = FOLDER / "base"
    shutil.rmtree(files, ignore_errors=True)
    mirror = apt_repositories()[""]
    _run(
        # Of its own mounts nothing may be left in a folder that is removed below.
        *("unshare", "--mount", "debootstrap", "--variant=minbase", SUITE, str(files), mirror),
        env=_apt_proxies(),
    )
    _clean_base(files)
    container = _buildah("from", "scratch")
    _buildah("add", container, str(files), "/")
    _buildah("config", "--cmd", "bash", container)
    _buildah("commit", "--format", "docker", "--rm", container, BASE)
    shutil.rmtree(files)


def _clean_base(files: Path) -> None:
    """Take out what debootstrap has brought from this machine, and what it has downloaded."""
    for folder in ("var/cache/apt", "var/lib/apt/lists", "var/log"):
        shutil.rmtree(files / folder)
        (files / folder).mkdir()
    for name in ("etc/hostname", "etc/resolv.conf"):
        (files / name).unlink(missing_ok=True)
    (files / "etc/apt/sources.list").write_text(sources(REPOSITORIES))
    (files / "etc/dpkg/dpkg.cfg.d/docker").write_text(DPKG)


def sources(repositories: Mapping[str, str]) -> str:
    """A sources.list; `repositories` is as `REPOSITORIES`."""
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    return "".join(
        f"deb [signed-by={keyring}] {uri} {SUITE}{suffix} main\n"
        for suffix, uri in repositories.items()
    )


# -- the build -------------------------------------------------------------------------


def _build() -> None:
    wheels, apt, pip = FOLDER / "wheels", FOLDER / "apt", FOLDER / "pip.conf"
    _download_wheels(wheels)
    _write_apt(apt)
    # /mnt and /etc/apt exist in the base, so nothing is left of them where they were mounted.
    pip.write_text("[global]\nno-index = true\nfind-links = /mnt\n")
    _buildah(
        *("build", "--isolation", "chroot", "--pull-never", "--format", "docker"),
        *("--secret", f"id=pip.conf,src={pip}"),
        *("--volume", f"{wheels}:/mnt:ro", "--volume", f"{apt}:/etc/apt:ro"),
        *("--label", f"org.opencontainers.image.version={__version__}"),
        *("--tag", NAME, str(ROOT)),
    )
    _buildah("rmi", "--prune")  # the image before this one, and what stood between


def _download_wheels(folder: Path) -> None:
    """Have this machine's pip fetch what the Dockerfile installs, unless it is there already."""
    folder.mkdir(exist_ok=True)
    lock = (ROOT / "requirements-dev.lock").read_text()
    flit = re.search(r"^flit-core==.*?(?=^ +# via)", lock, re.DOTALL | re.MULTILINE)
    assert flit
    (folder / "flit.lock").write_text(flit[0])
    _run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
        *("--only-binary", ":all:", "--python-version", PYTHON, "--dest", str(folder)),
        *("--find-links", str(folder), "--requirement", str(ROOT / "requirements.lock")),
        *("--requirement", str(folder / "flit.lock")),
    )


def _write_apt(folder: Path) -> None:
    """A folder to stand for /etc/apt while the image is built: this machine's way to Debian."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "sources.list").write_text(sources(apt_repositories()))
    settings = [line for line in _apt_settings() if not line.startswith("Acquire::IndexTargets")]
    bundle = ssl.get_default_verify_paths().cafile  # SSL_CERT_FILE, where it is set
    if bundle and Path(bundle).is_file():
        shutil.copy(bundle, folder / "ca.crt")
        settings.append('Acquire::https::CAInfo "/etc/apt/ca.crt";')
    (folder / "apt.conf").write_text("\n".join(settings) + "\n")


def apt_repositories() -> Mapping[str, str]:
    """Suffix of a suite -> where this machine gets it; Debian's own where it does not say."""
    text = _run(
        *("apt-get", "indextargets", "Created-By: Packages"),
        *("--format", "$(ORIGIN)|$(COMPONENT)|$(RELEASE)|$(REPO_URI)"),
    )
    found = {}
    for line in text.splitlines():
        origin, component, suite, uri = line.split("|")
        _, dash, suffix = suite.partition("-")
        if (origin, component) == ("Debian", "main") and dash + suffix in REPOSITORIES:
            found[dash + suffix] = uri
    return found if "" in found else REPOSITORIES


def _apt_settings() -> list[str]:
    """The settings of this machine for downloads by apt, as lines of apt.conf."""
    return _run("apt-config", "dump", "--no-empty", "Acquire").splitlines()


def _apt_proxies() -> dict[str, str]:
    """The proxies of apt for debootstrap, which knows the environment's only."""
    text = _run("apt-config", "shell", "http_proxy", "Acquire::http::Proxy")
    return dict(line.replace("'", "").split("=", 1) for line in text.splitlines())


# -- buildah ---------------------------------------------------------------------------


def _image(name: str) -> Image:
    return Image(name, json.loads(_buildah("inspect", "--type", "image", name)))


def buildah(*arguments: str) -> list[str]:
    """The command line that reaches the storage: plain folders, which need nothing of a kernel."""
    storage = ("--root", str(FOLDER / "storage"), "--runroot", str(FOLDER / "run"))
    return ["buildah", "--storage-driver", "vfs", *storage, *arguments]


def _buildah(*arguments: str) -> str:
    return _run(*buildah(*arguments))


def _run(*argv: str, env: dict[str, str] | None = None) -> str:
    """What a tool prints; ImageError with its last line when it fails, and the rest in a file."""
    environment = {**os.environ, "PATH": PATH, **(env or {})}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        log = FOLDER / "failure.log"
        log.write_text(f"{shlex.join(argv)}\n{done.stdout}{done.stderr}")
        *_, said = done.stderr.splitlines() or ["no message"]
        raise ImageError(f"{Path(argv[0]).name} failed, see {log}: {said}")
    return done.stdout.strip()

"""What is in the image, and what is not."""

from __future__ import annotations

import json
import os
import re
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter import __version__
from tests.image import build
from tests.image.build import Image
from tests.unit.test_project import pins

MEGABYTE = 1_000_000
CAP_NET_RAW = 13  # linux/capability.h
#: struct vfs_cap_data, revision 2: magic and flags, permitted, inheritable; then the upper 32.
FILE_CAPABILITIES = struct.Struct("<IIIII")
EFFECTIVE = 1
#: What makes or fetches programs, or hands out rights.
TOOLS = {"cc", "curl", "ensurepip", "gcc", "ld", "make", "pip", "pip3", "setcap", "wget"}


def files(root: Path, *below: str) -> Iterator[Path]:
    """The regular files of the image."""
    for top in below or (".",):
        for folder, _, names in os.walk(root / top):
            paths = (Path(folder, name) for name in names)
            yield from (path for path in paths if stat.S_ISREG(path.lstat().st_mode))


def site_packages(root: Path) -> Path:
    """Where the exporter and its libraries stand."""
    (found,) = root.glob("opt/venv/lib/python3.*/site-packages")
    return found


def test_it_is_small(image: Image) -> None:
    """Unpacked it adds at most 90 MB to its base; the promise is 150."""
    assert build.size_beyond_base(image) <= 90 * MEGABYTE


def test_the_base_is_the_dockerfiles() -> None:
    """What stands for the base here has the name by which the Dockerfile asks a registry."""
    text = (build.ROOT / "Dockerfile").read_text()
    assert re.findall(r"^ARG BASE=(.*)$", text, re.MULTILINE) == [build.BASE]


def test_no_tool_to_build_with_is_left(root: Path) -> None:
    """No compiler, no pip, no setcap, not even a wheel to install one from."""
    assert {path.name for path in files(root)} & TOOLS == set()
    assert [path for path in files(root) if path.suffix == ".whl"] == []
    assert list(site_packages(root).glob("pip*")) == []


def test_one_file_has_a_capability_and_only_where_it_is_inherited(root: Path) -> None:
    """The exporter's own Python has NET_RAW as +ei; with +ep it could not start everywhere."""
    found = {}
    for path in files(root):
        if "security.capability" in os.listxattr(path, follow_symlinks=False):
            found[path] = os.getxattr(path, "security.capability", follow_symlinks=False)
    ((path, value),) = found.items()
    assert path == root / "opt/venv/bin/python3"
    magic, permitted, inheritable, *upper = FILE_CAPABILITIES.unpack(value)
    assert (magic & EFFECTIVE, permitted, inheritable) == (EFFECTIVE, 0, 1 << CAP_NET_RAW)
    assert upper == [0, 0]


def test_it_runs_as_a_number_that_is_not_root(image: Image, root: Path) -> None:
    """Kubernetes can tell from the number; the user has an entry, and so has root, with a shell."""
    user, group = map(int, image.config["User"].split(":"))
    assert user > 0
    assert group > 0
    users = dict(line.split(":", 1) for line in (root / "etc/passwd").read_text().splitlines())
    assert users["egress"].split(":")[1:3] == [str(user), str(group)]
    assert users["root"].endswith("/bin/bash")
    assert (root / "bin/sh").exists()


def test_the_labels_say_what_it_is(image: Image) -> None:
    """Title, description, version and licences are there; scapy's licence is among them."""
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in image.config["Labels"].items()
    }
    assert labels["title"] == "egress-exporter"
    assert labels["description"]
    assert labels["version"] == __version__
    assert "GPL-2.0-only" in labels["licenses"]
    assert "MIT" in labels["licenses"]


def test_what_it_is_made_of_can_be_read_from_it(root: Path) -> None:
    """Every library has its metadata and scapy its licence, every Debian package its status."""
    packages = site_packages(root)
    found = {
        re.sub(r"[-_.]+", "-", path.name.removesuffix(".dist-info")).lower()
        for path in packages.glob("*.dist-info")
    }
    libraries = {f"{name}-{version}" for name, version in pins("requirements.lock").items()}
    ours = f"egress-exporter-{__version__}"
    assert found == {re.sub(r"[-_.]+", "-", name) for name in (*libraries, ours)}
    assert list(packages.glob("scapy-*.dist-info/licenses/LICENSE"))
    assert list(packages.glob("egress_exporter-*.dist-info/licenses/LICENSE"))
    status = (root / "var/lib/dpkg/status").read_text()
    assert "Package: libpython3.13-stdlib\nStatus: install ok installed" in status


def test_every_module_is_compiled(root: Path) -> None:
    """Each has bytecode that is used whatever its source's time says: PEP 552, flags 0b01."""
    packages = site_packages(root)
    tag = f"cpython-{build.PYTHON.replace('.', '')}.pyc"
    for source in packages.glob("exporter/**/*.py"):
        compiled = source.parent / "__pycache__" / f"{source.stem}.{tag}"
        assert compiled.read_bytes()[4:8] == b"\1\0\0\0", source


@pytest.mark.parametrize("name", ["mnt", "var/cache/apt", "var/lib/apt/lists", "var/log"])
def test_the_build_leaves_no_folder_filled(root: Path, name: str) -> None:
    """What the build was given and what it has downloaded is gone."""
    assert list(files(root, name)) == []


def test_nothing_of_this_machine_is_in_it(image: Image, root: Path) -> None:
    """No package index, mirror, proxy, certificate, name or path of the machine that built it."""
    assert {line.partition("=")[0] for line in image.config["Env"]} == {
        *("PATH", "PORT", "PYTHONDONTWRITEBYTECODE", "XDG_CACHE_HOME"),
    }
    for name in ("etc/pip.conf", "etc/apt/apt.conf", "etc/apt/ca.crt", "etc/ssl", "root/.config"):
        assert not (root / name).exists(), name
    for name in ("etc/hostname", "etc/hosts", "etc/resolv.conf"):
        assert not (root / name).exists() or (root / name).read_text() == "", name
    assert (root / "etc/apt/sources.list").read_text() == build.sources(build.REPOSITORIES)
    pattern = re.compile(b"|".join(re.escape(word.encode()) for word in machine_words()))
    assert not pattern.search(json.dumps(image.inspected).encode())
    assert [path for path in files(root, "etc", "opt", "var") if has(path, pattern)] == []


def machine_words() -> set[str]:
    """What would tell where the image was built, and from where."""
    variables = re.compile(r".*_proxy|PIP_(EXTRA_)?INDEX_URL|PIP_FIND_LINKS", re.IGNORECASE)
    return {
        str(build.ROOT),
        *(uri for uri in build.apt_repositories().values() if "deb.debian.org" not in uri),
        *(value for name, value in os.environ.items() if variables.fullmatch(name) and value),
    }


def has(path: Path, pattern: re.Pattern[bytes]) -> bool:
    """Whether a file contains the pattern."""
    return pattern.search(path.read_bytes()) is not None


def test_the_history_holds_the_dockerfiles_steps_and_nothing_given(image: Image) -> None:
    """No secret, proxy or package index stands in what the image remembers of its making."""
    history = json.dumps(image.history)
    assert "libpython3-stdlib" in history
    assert not re.search(r"pip|proxy|secret|index|https?:", history, re.IGNORECASE)

"""`python -m tests.image`: build the image, run it once in a lab, and say how to go on."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path

from tests.image.build import FOLDER, NAME, Image, ImageError, build, buildah, size_beyond_base
from tests.image.container import Container, Rights, platform, run
from tests.lab.chain import CHAIN, OPEN
from tests.lab.lab import LabError

FILE = FOLDER / "egress-exporter.tar"
HOW = """\
image: {name}, {size:.0f} MB beyond its base

to a registry:
  {push} docker://REGISTRY/egress-exporter
to Docker on this machine:
  {push} {archive}
  docker load --input {file}
and then:
  docker run --rm --publish 8080:8080 --env ENDPOINTS="db=db.example.com:5432" egress-exporter
"""


def main() -> int:
    """Run the command line; returns the exit status."""
    print("Building. The first time takes a minute or two.", flush=True)
    try:
        image = build()
        print(f"A trace from a container without any capability:\n\n{trace(image)}")
    except (ImageError, LabError) as error:
        print(error, file=sys.stderr)
        return 2
    print(
        HOW.format(
            name=NAME,
            size=size_beyond_base(image) / 1e6,
            push=shlex.join(buildah("push", NAME)),
            archive=f"docker-archive:{FILE}:egress-exporter:latest",
            file=FILE,
        )
    )
    return 0


def trace(image: Image) -> str:
    """What `trace` prints in a container, in a lab."""
    rights = Rights(read_only=True, no_new_privileges=True)
    with (
        image.root() as root,
        platform(CHAIN) as lab,
        tempfile.TemporaryDirectory() as folder,
    ):
        container = Container(image, root, rights)
        done = run(lab, container, Path(folder), "trace", f"{CHAIN.destination}:{OPEN}")
    if done.returncode != 0:
        raise ImageError(f"the image does not run: {(done.stderr or done.stdout).strip()}")
    return str(done.stdout)


if __name__ == "__main__":
    sys.exit(main())

"""User-mode networks between a namespace "inner" and the prober's; who uses one adds the namespace.

namespace "inner" -- slirp4netns or passt -- the prober's namespace -- the chain of a lab
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab.lab import Lab

#: The words in front of a command that `Lab.run` and `Lab.popen` run behind the network.
INNER = ("ip", "netns", "exec", "inner")
ABSENT = "the lab needs {} (Debian package {})"


@contextmanager
def slirp(lab: Lab) -> Iterator[None]:
    """slirp4netns between the inner namespace and the prober's; ready when this is entered."""
    ready, told = os.pipe()
    argv = ["slirp4netns", "--netns-type=path", "--configure", f"--ready-fd={told}"]
    argv += ["/run/netns/inner", "tap0"]
    with lab.popen(argv, pass_fds=(told,), stdout=subprocess.DEVNULL) as process:
        os.close(told)
        assert os.read(ready, 1), ABSENT.format("slirp4netns", "slirp4netns")
        os.close(ready)
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def passt(lab: Lab) -> Iterator[None]:
    """The same with passt, which goes into the background when it is ready, and with the lab."""
    argv = ["pasta", "--config-net", "--netns-only", "--netns", "/run/netns/inner", "--runas", "0"]
    done = lab.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert done.returncode == 0, ABSENT.format("pasta", "passt")
    yield

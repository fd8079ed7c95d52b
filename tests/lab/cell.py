"""A Cloud Foundry cell in front of a lab's chain, with a container on it.

    container             cell (the lab's prober)      hop1               hopN (destination)
      eth0 ------------- silk             far -------- near   far -- ... near
      10.255.1.2   169.254.0.1       10.9.0.1      10.9.0.2            10.9.(N-1).2

As Cloud Foundry's silk networking does it: the container has a user and a network namespace
of its own, a /32 address and a gateway that is link-local; nobody asks for neighbours (ARP is
off, they are permanent). Out of the container the cell forwards what the rules of an
application security group (ASG) allow, in its own name, and rejects everything else with ICMP
port-unreachable. So the lab's hop n is hop n + 1 for the container, and the cell is hop 1.

Needs root: the container has more than one user.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from tests.lab.lab import Lab, LabError

CONTAINER, GATEWAY = "10.255.1.2", "169.254.0.1"
INSTANCE_GUID = "5d0c6b6e-8c57-4f0a-6ab2-9f4d"
#: What Cloud Foundry tells a container of itself.
ENVIRONMENT = {
    "CF_INSTANCE_GUID": INSTANCE_GUID,
    "CF_INSTANCE_INDEX": "0",
    "CF_INSTANCE_IP": "10.9.0.1",
    "CF_INSTANCE_INTERNAL_IP": CONTAINER,
}

_CELL_MAC, _CONTAINER_MAC = "aa:aa:0a:ff:01:02", "ee:ee:0a:ff:01:02"
_CELL_IP = f"""\
link set silk address {_CELL_MAC} arp off up
addr add {GATEWAY} peer {CONTAINER}/32 dev silk scope link
neigh replace {CONTAINER} lladdr {_CONTAINER_MAC} dev silk nud permanent
"""
_CONTAINER_IP = f"""\
link set lo up
link set eth0 address {_CONTAINER_MAC} arp off up
addr add {CONTAINER} peer {GATEWAY}/32 dev eth0 scope link
neigh replace {GATEWAY} lladdr {_CELL_MAC} dev eth0 nud permanent
route add default via {GATEWAY} dev eth0 src {CONTAINER}
"""
#: Silk's own order: what is open stays open, a stray segment is dropped, the rules, the rest.
_CELL_NFT = """\
table ip cell {
  chain forward {
    type filter hook forward priority filter;
    iifname "silk" jump netout
  }
  chain netout {
    ct state established,related accept
    meta l4proto tcp ct state invalid drop
    jump asg
    reject with icmp type port-unreachable
  }
  chain asg {
  }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    ip saddr 10.255.0.0/16 oifname "far" masquerade
  }
}
"""
#: What a container's bounding and inheritable sets hold: 0xa80425fb, Docker's default.
_CAPABILITIES = ",".join(
    [
        "-all",
        *("+chown", "+dac_override", "+fowner", "+fsetid", "+kill", "+setgid", "+setuid"),
        *("+setpcap", "+net_bind_service", "+net_raw", "+sys_chroot", "+mknod", "+audit_write"),
        "+setfcap",
    ]
)
_SETPRIV = ("setpriv", f"--bounding-set={_CAPABILITIES}", f"--inh-caps={_CAPABILITIES}")
#: User -> how a process becomes it. Only root has the capabilities in effect.
_BECOME = {"root": (), "vcap": ("--reuid=2000", "--regid=2000", "--clear-groups")}
USERS = tuple(_BECOME)
#: For uid_map and gid_map. The container's root is nobody outside, as in Garden, and vcap is
#: whoever runs the tests, who may read the Python that they run with.
_USER_MAP = "0 100000 1\n2000 0 1\n"


class Cell:
    """The cell and its container, in a running lab; a context manager.

    Raises LabError on entry where it cannot be built.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def __enter__(self) -> Self:
        self._container = self._lab.popen(
            ["unshare", "--user", "--net", "--", "sh", "-c", "echo $$ && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self._build()
        except BaseException:
            self._container.communicate()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # communicate() closes its standard input, and that ends the container's only process.
        self._container.communicate()

    def _build(self) -> None:
        assert self._container.stdout
        # As the lab's process namespace counts.
        self._pid = self._container.stdout.readline().strip()
        for users in ("uid_map", "gid_map"):
            self._tool(["tee", f"/proc/{self._pid}/{users}"], _USER_MAP)
        links = f"link add name silk type veth peer name eth0 netns {self._pid}\n"
        self._tool(["ip", "-batch", "-"], links + _CELL_IP)
        self._tool(["tee", "/proc/sys/net/ipv4/ip_forward"], "1")
        self._tool(["nft", "-f", "-"], _CELL_NFT)
        self._tool([*self._enter(), "ip", "-batch", "-"], _CONTAINER_IP)

    def inside(self, user: str) -> list[str]:
        """The words in front of a command that `Lab.run` and `Lab.popen` run in the container."""
        return [*self._enter(), *_SETPRIV, *_BECOME[user]]

    def run(
        self, argv: Sequence[str], user: str = "root", **options: Any
    ) -> subprocess.CompletedProcess[Any]:
        """`subprocess.run` in the container."""
        return self._lab.run([*self.inside(user), *argv], **options)

    def allow(self, rules: Iterable[str]) -> None:
        """Give the container these rules (nft's words) instead of those that it has.

        A running container gets them at once, as with dynamic security groups.
        """
        lines = [f"add rule ip cell asg {rule} accept\n" for rule in rules]
        self._tool(["nft", "-f", "-"], "".join(["flush chain ip cell asg\n", *lines]))

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", self._pid, "--user", "--net", "--"]

    def _tool(self, argv: Sequence[str], given: str) -> None:
        done = self._lab.run(argv, input=given, capture_output=True, text=True)
        if done.returncode != 0:
            raise LabError(f"a cell needs root: {' '.join(argv)}: {done.stderr.strip()}")

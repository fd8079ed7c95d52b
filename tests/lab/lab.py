"""A scenario as a chain of network namespaces: real routers and firewalls, the host untouched.

    prober            hop1              hop2                     hopN (destination)
      far ---------- near   far ------ near   far -- ... ------- near
      10.9.0.1   10.9.0.2   10.9.1.1   10.9.1.2                  10.9.(N-1).2
       fd09::1    fd09::2  fd09:0:0:1::1  ::2              fd09:0:0:(N-1)::2

Every device speaks both families at once, whichever the scenario's own is.

Everything stands in one private set of mount, network and process namespaces, made by
`unshare` (with a user namespace in front when the caller is not root) and kept by one process
in them, see inside.py. Nothing of the host is touched, and the lab goes when that process
goes. Kernel defaults stay as they are, above all the limits on ICMP errors: a router sends one
recipient 6 at once and then one a second. That is part of the truth.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab.inside import SYSTEM_PATH
from tests.scenarios import NUMBERINGS, Numbering, Rule, Scenario

#: As it was at the start: labs are made by threads, while pytest changes the environment.
ENVIRONMENT = dict(os.environ)
INSIDE = Path(__file__).with_name("inside.py")
TOOLS = {"unshare": "util-linux", "mount": "mount", "ip": "iproute2", "nft": "nftables"}

#: Chain of a `Rule` -> its hook. Prerouting comes before the TTL check, which ip_forward and
#: ip6_forward make.
HOOKS = {
    "ingress": "prerouting priority raw",
    "forward": "forward priority filter",
    "input": "input priority filter",
    "output": "output priority filter",
}
#: Action of a `Rule` -> its nft statement for both families; the other actions are ICMP codes.
STATEMENTS = {"drop": "drop", "tcp-reset": "reject with tcp reset"}
#: ICMPv6's names for the actions that are called otherwise there; see `scenarios.ACTIONS`.
ICMPV6_NAMES = {
    "net-unreachable": "no-route",
    "host-unreachable": "addr-unreachable",
    "net-prohibited": "policy-fail",
    "host-prohibited": "reject-route",
}
#: Neighbour discovery is ICMPv6 too, and must pass.
NO_ICMP_ERRORS = tuple(
    f"{protocol} type {{ time-exceeded, destination-unreachable }} drop"
    for protocol in ("icmp", "icmpv6")
)


class LabError(Exception):
    """The lab cannot be built here; the message is one line that names what is missing."""


# -- what to build ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Device:
    """One namespace, "" for the prober's: text for `ip -batch` and `nft -f`, open TCP ports.

    `ip6` is for what tells no family by its addresses, and is IPv4's without `ip -6`: rules.
    `kernel` holds (path below /proc/sys/net, value).
    """

    name: str
    forwards: bool
    ip: str
    ip6: str = ""
    nft: str = ""
    ports: tuple[int, ...] = ()
    kernel: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What `inside.hold` builds: namespaces and links first, then each device."""

    links: str
    devices: tuple[Device, ...]


def plan(scenario: Scenario) -> Plan:
    """The lab of a scenario as text for the tools."""
    hops = range(1, scenario.hops + 1)
    return Plan(
        links="".join([f"netns add {name(hop)}\n" for hop in hops] + [_link(hop) for hop in hops]),
        devices=(_prober(), *(_device(scenario, hop) for hop in hops)),
    )


def name(hop: int) -> str:
    """The network namespace of the device at a hop, as `ip netns` knows it."""
    return f"hop{hop}"


def _link(hop: int) -> str:
    """The link between the device at `hop` and the one before it."""
    before = f"netns {name(hop - 1)}" if hop > 1 else ""
    return f"link add name far {before} type veth peer name near netns {name(hop)}\n"


def _prober() -> Device:
    lines = ["link set lo up"]
    for numbering in NUMBERINGS.values():
        lines += _interface("far", numbering, link=0, end=1)
        lines.append(_route("default", numbering.address(0, 2)))
    return Device("", forwards=False, ip=_text(lines))


def _device(scenario: Scenario, hop: int) -> Device:
    last = hop == scenario.hops
    present = not last or scenario.destination_exists
    return Device(
        name(hop),
        forwards=not last,
        ip=_text(_addressing(scenario, hop) if present else ["link set near up"]),
        nft=ruleset(scenario, hop),
        ports=scenario.open_ports if last and present else (),
    )


def _addressing(scenario: Scenario, hop: int) -> Iterator[str]:
    """Lines for `ip -batch`; "replace" throughout, so that they can be given again."""
    yield "link set lo up"
    for numbering in NUMBERINGS.values():
        back = numbering.address(hop - 1, 1)
        yield from _interface("near", numbering, link=hop - 1, end=2)
        if hop == scenario.hops:
            yield _route("default", back)
            continue
        yield from _interface("far", numbering, link=hop, end=1)
        yield from (_route(numbering.network(link), back) for link in range(hop - 1))
        if not any(_is_missing_route(scenario, rule) for rule in scenario.rules if rule.hop == hop):
            yield _route(numbering.everything, numbering.address(hop, 2))


def _interface(interface: str, numbering: Numbering, link: int, end: int) -> tuple[str, str]:
    """An address and the interface up; nodad, or nobody could use an IPv6 address for a second."""
    address = f"{numbering.address(link, end)}/{numbering.prefix}"
    nodad = " nodad" if ":" in address else ""
    return f"addr replace {address} dev {interface}{nodad}", f"link set {interface} up"


def _route(network: str, via: str) -> str:
    return f"route replace {network} via {via}"


def _text(lines: Iterator[str] | Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _is_missing_route(scenario: Scenario, rule: Rule) -> bool:
    """Whether the rule says what a router without a route does by itself (ICMP 3/0).

    The last router is on the destination's link and cannot miss the route.
    """
    shape = (rule.chain, rule.action, rule.ports)
    return shape == ("ingress", "net-unreachable", ()) and rule.hop < scenario.hops - 1


def ruleset(scenario: Scenario, hop: int) -> str:
    """The table `inet lab` of one device, with a chain for each hook even where it is empty."""
    lines: dict[str, list[str]] = {chain: [] for chain in HOOKS}
    if hop in scenario.silent:
        lines["output"] += NO_ICMP_ERRORS
    for rule in scenario.rules:
        if rule.hop == hop and not _is_missing_route(scenario, rule):
            lines[rule.chain] += _statements(rule)
    chains = "".join(
        f"chain {chain} {{ type filter hook {HOOKS[chain]};\n{_text(body)}}}\n"
        for chain, body in lines.items()
    )
    return f"table inet lab {{\n{chains}}}\n"


def _statements(rule: Rule) -> Iterator[str]:
    """A rule in nft's words; it holds for what comes from the prober's side only."""
    ports = f"tcp dport {{ {', '.join(map(str, rule.ports))} }}"
    met = f'iifname "near" {ports if rule.ports else "meta l4proto tcp"}'
    if statement := STATEMENTS.get(rule.action):
        yield f"{met} {statement}"
        return
    yield f"meta nfproto ipv4 {met} reject with icmp type {rule.action}"
    code = ICMPV6_NAMES.get(rule.action, rule.action)
    yield f"meta nfproto ipv6 {met} reject with icmpv6 type {code}"


# -- a lab that runs -------------------------------------------------------------------


class Lab:
    """The lab of one scenario, built as `built` says if it is more than that; a context manager.

    Raises LabError on entry where it cannot be built.
    """

    def __init__(self, scenario: Scenario, built: Plan | None = None) -> None:
        self.scenario = scenario
        self._plan = built or plan(scenario)

    def __enter__(self) -> Self:
        self._holder = _hold()
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _build(self) -> None:
        """Hand the plan to the holder and wait until it stands."""
        assert self._holder.stdin
        assert self._holder.stdout
        assert self._holder.stderr
        with suppress(BrokenPipeError):  # unshare has failed, and says why below
            self._holder.stdin.write(json.dumps(asdict(self._plan)) + "\n")
            self._holder.stdin.flush()
        answer = self._holder.stdout.readline().strip()
        if answer != "ready":
            raise LabError(_explain(answer or self._holder.stderr.read().strip()))

    @property
    def pid(self) -> int:
        """The process whose end is the lab's end."""
        return self._holder.pid

    def close(self) -> None:
        """End the lab: every process in it is killed, every namespace goes."""
        # communicate() closes the holder's standard input, and that ends it.
        self._holder.communicate()

    def run(
        self, argv: Sequence[str], *, check: bool = False, **options: Any
    ) -> subprocess.CompletedProcess[Any]:
        """`subprocess.run` in the prober's namespace."""
        return subprocess.run(self._entering(argv), check=check, **options)

    def popen(
        self, argv: Sequence[str], listener: socket.socket | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """`subprocess.Popen` in the prober's namespace.

        `listener` is handed down as systemd does it, as descriptor 3 with LISTEN_FDS=1; it
        stays in the namespace that it was opened in. Signals sent to the process that this
        returns reach the command, and its exit status is the command's; see `command_pid`.
        """
        if listener is None:
            return subprocess.Popen(self._entering(argv), **options)
        options["pass_fds"] = (*options.get("pass_fds", ()), listener.fileno())
        options["env"] = {**(options.get("env") or ENVIRONMENT), "LISTEN_FDS": "1"}
        options["env"].pop("LISTEN_PID", None)
        return subprocess.Popen(self._entering(argv, listener.fileno()), **options)

    def nft(self, hop: int, text: str) -> None:
        """Give nft commands to the device at a hop; its chains are in the table `inet lab`."""
        self._tool(at(hop, ["nft", "-f", "-"]), text)

    def link(self, hop: int, *, up: bool) -> None:
        """Set the device's interface toward the prober down or up; 0 is the prober's own."""
        side = "near" if hop else "far"
        self._tool(at(hop, ["ip", "link", "set", side, "up" if up else "down"]))
        if up:  # the routes went with the interface
            self._tool(at(hop, ["ip", "-batch", "-"]), self._plan.devices[hop].ip)

    def _tool(self, argv: Sequence[str], given: str = "") -> None:
        done = self.run(argv, input=given, capture_output=True, text=True)
        if done.returncode != 0:
            raise LabError(f"{' '.join(argv)}: {done.stderr.strip()}")

    def _entering(self, argv: Sequence[str], listener: int = -1) -> list[str]:
        return [*_python("enter"), str(self.pid), str(listener), *argv]


def at(hop: int, argv: Sequence[str]) -> list[str]:
    """The command line that runs a command at a hop, for `Lab.run` and `Lab.popen`."""
    return ["ip", "netns", "exec", name(hop), *argv] if hop else list(argv)


def command_pid(process: subprocess.Popen[Any]) -> int:
    """The process of the command itself that `Lab.popen` started, e.g. to read its memory.

    There is none until the command has begun, so wait for a sign of it first.
    """
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return int(children.split()[0])


def _hold() -> subprocess.Popen[str]:
    path = f"{ENVIRONMENT.get('PATH', os.defpath)}:{SYSTEM_PATH}"
    for tool, package in TOOLS.items():
        if shutil.which(tool, path=path) is None:
            raise LabError(f"the lab needs {tool} (Debian package {package})")
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return subprocess.Popen(
        [
            *("unshare", *user, "--net", "--mount", "--pid", "--mount-proc"),
            *("--fork", "--kill-child", "--", *_python("hold")),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, "PATH": path},
        start_new_session=True,  # a Ctrl-C at the terminal is not for the lab
    )


def _python(part: str) -> tuple[str, ...]:
    return sys.executable, "-I", "-S", str(INSIDE), part


def _explain(said: str) -> str:
    """One line from what the holder or unshare said."""
    first = said.partition("\n")[0] or "no reason given"
    if any(word in first for word in ("not permitted", "denied", "No space left")):
        return f"the lab needs root, or user namespaces that an ordinary user may use: {first}"
    return f"the lab could not be built: {first}"


# -- what it looks like ----------------------------------------------------------------


def draw(scenario: Scenario) -> str:
    """A map: one line a hop, with zone, address and rules."""
    rows = [("hop", "zone", "address", "")]
    rows += [("0", _zone(scenario, 0), scenario.source, "the prober")]
    rows += [
        (str(hop), _zone(scenario, hop), scenario.address(hop), "; ".join(_notes(scenario, hop)))
        for hop in range(1, scenario.hops + 1)
    ]
    width = max(len(address) for _, _, address, _ in rows)
    lines = (f"{hop:>4}  {zone:8}  {at:{width}}  {notes}" for hop, zone, at, notes in rows)
    return "\n".join((scenario.title, *(line.rstrip() for line in lines)))


def _zone(scenario: Scenario, hop: int) -> str:
    return "platform" if hop <= scenario.platform_hops else "external"


def _notes(scenario: Scenario, hop: int) -> Iterator[str]:
    if hop == scenario.hops:
        ports = ", ".join(map(str, scenario.open_ports)) or "nothing"
        yield f"the destination, listens on {ports}" if scenario.destination_exists else "nobody"
    if hop in scenario.silent:
        yield "sends no ICMP errors"
    for rule in scenario.rules:
        if rule.hop == hop:
            ports = f"tcp {', '.join(map(str, rule.ports))}" if rule.ports else "all tcp"
            yield f"{rule.chain}: {ports} {rule.action}"

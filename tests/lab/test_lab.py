"""The lab is what its scenario says, and nothing of it outlives its owner."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests import scenarios
from tests.lab.conftest import OpenLab
from tests.lab.lab import Lab, LabError, _explain, at, command_pid, draw, plan
from tests.lab.processes import descendants, gone
from tests.scenarios import FAMILIES, NUMBERINGS, Expectation, Rule, Scenario
from tests.simulated.network import ICMP_OF_ACTION, fate

ASK = Path(__file__).with_name("ask.py")
FOLDER = Path(__file__).parents[2]
MID_PATH = scenarios.load(scenarios.FOLDER / "mid_path_firewall.toml")
#: Small, with every kind of answer left to the test.
PLAIN = replace(MID_PATH, name="plain", hops=4, rules=(), expectations=())
CASES = {
    f"{scenario.name}-{expectation.port}": (scenario, expectation)
    for scenario in scenarios.load_all()
    for expectation in scenario.expectations
}
#: What a fate is called by tests.lab.ask, apart from ICMP errors.
TCP_ANSWERS = {"open": "syn-ack", "closed": "rst", "tcp-reset": "rst"}
#: Long enough for an answer on a busy machine, and for a last router that asks for 3 s.
PATIENCE = {True: 0.5, False: 4.0}

Asked = list[object]


def ask(lab: Lab, port: int, ttls: int, seconds: float = 5.0, destination: str = "") -> Asked:
    """Ask from the prober with one SYN per TTL; see ask.py."""
    argv = [sys.executable, "-I", str(ASK), destination or lab.scenario.destination, str(port)]
    done = lab.run([*argv, str(ttls), str(seconds)], capture_output=True, text=True, check=True)
    answers: Asked = json.loads(done.stdout)
    return answers


def true_answer(scenario: Scenario, ttl: int, port: int) -> object:
    """What the scenario says about one SYN, as ask.py writes it."""
    end = fate(scenario, ttl, port)
    action = "host-unreachable" if end.action == "no-neighbour" else end.action
    if action in TCP_ANSWERS:
        return [scenario.destination, TCP_ANSWERS[action]]
    if action == "drop" or end.hop in scenario.silent:
        return None
    return [scenario.address(end.hop), list(ICMP_OF_ACTION[scenario.family][action])]


@pytest.mark.parametrize(("scenario", "expectation"), CASES.values(), ids=CASES)
def test_the_lab_and_the_simulated_network_agree(
    open_lab: OpenLab, scenario: Scenario, expectation: Expectation
) -> None:
    """A SYN with any TTL meets the same fate among real routers as in virtual time."""
    lab = open_lab(scenario)
    seconds = PATIENCE[scenario.destination_exists]
    for family in FAMILIES:  # each has its own budget of ICMP errors
        speaking = replace(scenario, family=family)
        truth = [
            true_answer(speaking, ttl, expectation.port)
            for ttl in range(1, scenario.hops + 1)
            # More would meet the limit of a router without a route: 2 answers at once.
            if ttl <= expectation.last_reachable_hop + 1
        ]
        asked = ask(lab, expectation.port, len(truth), seconds, speaking.destination)
        assert asked == truth, family


def test_tcptraceroute_sees_the_chain(open_lab: OpenLab) -> None:
    """A well-known tool finds each device at its hop and the destination open."""
    found = printed_by(open_lab(MID_PATH), "tcptraceroute", "-n", "-q", "1")
    assert [line[:2] for line in found] == chain_of(MID_PATH)
    assert found[-1][2] == "[open]"


def test_traceroute_sees_the_chain_in_ipv6(open_lab: OpenLab) -> None:
    """A well-known tool finds each device at its hop by the addresses of the other family."""
    scenario = replace(MID_PATH, family="ipv6")
    argv = ("traceroute", "-6", "-T", "-n", "-q", "1", "-p", "443")
    found = printed_by(open_lab(MID_PATH), *argv, destination=(scenario.destination,))
    assert [line[:2] for line in found[1:]] == chain_of(scenario)


def printed_by(
    lab: Lab, *argv: str, destination: tuple[str, ...] = (MID_PATH.destination, "443")
) -> list[list[str]]:
    """What a tool prints, in words."""
    seen = lab.run([*argv, *destination], capture_output=True, text=True, check=True)
    return [line.split() for line in seen.stdout.splitlines()]


def chain_of(scenario: Scenario) -> list[list[str]]:
    """Every hop and its device as tools print them."""
    return [[str(hop), scenario.address(hop)] for hop in range(1, scenario.hops + 1)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_router_sends_one_recipient_six_errors_at_once(open_lab: OpenLab, family: str) -> None:
    """The kernel's limit on ICMP errors is in force, for time-exceeded and rejects together."""
    answers = ask(open_lab(replace(MID_PATH, family=family)), 6379, 12, seconds=0.8)
    from_the_firewall = [answer for answer in answers[5:] if answer]
    assert len(answers[5:]) == 7
    assert len(from_the_firewall) == 6


@pytest.mark.parametrize(("family", "code", "at_once"), [("ipv4", [3, 0], 2), ("ipv6", [1, 0], 6)])
def test_a_router_without_a_route_says_so(
    open_lab: OpenLab, family: str, code: list[int], at_once: int
) -> None:
    """In IPv4 such errors are counted twice by the kernel (ip_error and icmp_send): 2, not 6."""
    scenario = scenarios.load(scenarios.FOLDER / "missing_route.toml")
    scenario = replace(scenario, family=family)
    answers = ask(open_lab(scenario), 443, 12, seconds=0.5)
    assert answers[4:] == [[scenario.address(5), code]] * at_once + [None] * (8 - at_once)


def test_a_reset_in_mid_path_comes_in_the_destinations_name(open_lab: OpenLab) -> None:
    """A router that resets answers from the destination's address, at its distance + 1."""
    scenario = replace(PLAIN, rules=(Rule(2, "tcp-reset"),))
    assert ask(open_lab(scenario), 443, 3) == [
        ["10.9.0.2", [11, 0]],
        ["10.9.1.2", [11, 0]],
        ["10.9.3.2", "rst"],
    ]


def test_rules_can_be_switched_while_the_lab_runs(open_lab: OpenLab) -> None:
    """`Lab.nft` changes the firewall of one device, there and back."""
    lab = open_lab(PLAIN)
    assert ask(lab, 443, 4)[3] == ["10.9.3.2", "syn-ack"]
    lab.nft(2, "add rule inet lab forward tcp dport 443 reject with icmp type admin-prohibited")
    assert ask(lab, 443, 4)[3] == ["10.9.1.2", [3, 13]]
    lab.nft(2, "flush chain inet lab forward")
    assert ask(lab, 443, 4)[3] == ["10.9.3.2", "syn-ack"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("hop", [0, 1, 3, 4])
def test_a_link_can_go_down_and_up(open_lab: OpenLab, hop: int, family: str) -> None:
    """After a link has been down the routes over it are there again."""
    lab = open_lab(replace(PLAIN, family=family))
    arrived = [lab.scenario.destination, "syn-ack"]
    lab.link(hop, up=False)
    assert ask(lab, 443, 4, seconds=0.5)[3] != arrived
    lab.link(hop, up=True)
    assert ask(lab, 443, 4)[3] == arrived


def test_nft_words_that_are_wrong_are_an_error_that_quotes_them(open_lab: OpenLab) -> None:
    """A typing error in a test's rule does not pass in silence."""
    lab = open_lab(PLAIN)
    with pytest.raises(LabError, match="no-such-chain"):
        lab.nft(2, "add rule inet lab no-such-chain drop")


def test_commands_run_as_if_they_ran_here(open_lab: OpenLab, tmp_path: Path) -> None:
    """Folder, environment, exit code and a deadly signal pass through."""
    lab = open_lab(PLAIN)
    seen = lab.run(
        ["sh", "-c", "pwd; echo $GREETING; exit 7"],
        cwd=tmp_path,
        env={"GREETING": "hello"},
        capture_output=True,
        text=True,
    )
    assert (seen.returncode, seen.stdout) == (7, f"{tmp_path}\nhello\n")
    assert lab.run(["sh", "-c", "kill -KILL $$"]).returncode == -signal.SIGKILL
    assert lab.run(["no-such-command"], stderr=subprocess.DEVNULL).returncode == 127


def test_a_signal_reaches_the_command(open_lab: OpenLab) -> None:
    """SIGTERM to the process that `Lab.popen` returns is the command's to handle."""
    script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do read line; done"
    with open_lab(PLAIN).popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.readline() == "caught\n"
        assert process.wait() == 5


def test_a_socket_from_outside_is_served_inside(open_lab: OpenLab) -> None:
    """A listener handed down answers on the host's loopback, as descriptor 3 with LISTEN_FDS."""
    program = (
        "import os, socket;"
        "assert os.environ['LISTEN_FDS'] == '1' and 'LISTEN_PID' not in os.environ;"
        "socket.socket(fileno=3).accept()[0].sendall(open('/proc/net/route').read().encode())"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = open_lab(PLAIN).popen([sys.executable, "-c", program], listener)
        with socket.create_connection(listener.getsockname(), timeout=10) as client:
            assert b"far" in client.makefile("rb").read()
        assert process.wait() == 0


def test_the_lab_takes_its_processes_with_it(open_lab: OpenLab) -> None:
    """Closing the lab ends its holder and what runs inside."""
    lab = open_lab(PLAIN)
    argv = ["sh", "-c", "echo ready; exec sleep 1000"]
    with lab.popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        inside = command_pid(process)
        lab.close()
        assert gone([lab.pid, inside])


OWNER = """
import sys
from tests import scenarios
from tests.lab.processes import descendants, gone
from tests.lab.lab import Lab, command_pid
with Lab(scenarios.load(scenarios.FOLDER / "drop_at_last_router.toml")) as lab:
    process = lab.popen(["sh", "-c", "sleep 1000 & echo; wait"], stdout=-1)
    process.stdout.readline()
    print(lab.pid, command_pid(process), flush=True)
    process.wait()
"""


def test_the_lab_goes_when_its_owner_is_killed(open_lab: OpenLab) -> None:
    """After SIGKILL of the owner no process of the lab is left, and with them goes the rest."""
    open_lab(PLAIN)  # says in one line what is missing, if something is
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=FOLDER, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(pids) == 2
        pids += descendants(pids[0])
        owner.kill()
        assert gone(pids)


def test_the_host_keeps_its_network(open_lab: OpenLab) -> None:
    """Neither a lab's interfaces nor its named namespaces are to be seen on the host."""
    open_lab(PLAIN)
    assert not Path("/sys/class/net/far").exists()
    assert not Path("/run/netns/hop1").exists()


@pytest.mark.parametrize("tool", ["unshare", "mount", "ip", "nft"])
def test_a_missing_tool_is_named_with_its_package(
    tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says which tool is missing and which package brings it."""

    def which(name: str, path: str) -> str | None:
        return None if name == tool else f"{path}/{name}"

    monkeypatch.setattr("shutil.which", which)
    with pytest.raises(LabError, match=f"^the lab needs {tool} .Debian package [a-z2-]+.$"):
        Lab(PLAIN).__enter__()


def test_a_missing_privilege_is_one_line() -> None:
    """Without namespaces the message says what the lab needs, and what the system said."""
    explained = _explain("unshare: unshare failed: Operation not permitted\nmore")
    assert explained == (
        "the lab needs root, or user namespaces that an ordinary user may use: "
        "unshare: unshare failed: Operation not permitted"
    )


def test_a_lab_that_cannot_be_built_leaves_nothing(open_lab: OpenLab) -> None:
    """A plan that the tools refuse is an error with the tool's words, and its holder ends."""
    open_lab(PLAIN)
    lab = Lab(PLAIN)
    lab._plan = replace(lab._plan, links="nonsense\n")
    with pytest.raises(LabError, match=r"^the lab could not be built: ip: .*nonsense"):
        lab.__enter__()
    assert gone([lab.pid])


def test_a_missing_route_is_made_by_leaving_it_out() -> None:
    """The rule that means a missing route becomes neither a route nor a firewall's rule."""
    scenario = replace(PLAIN, rules=(Rule(2, "net-unreachable", "ingress"),))
    device = plan(scenario).devices[2]
    for numbering in NUMBERINGS.values():
        assert numbering.everything not in device.ip
    assert "reject" not in device.nft


def test_a_user_namespace_is_privilege_enough(
    open_lab: OpenLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an ordinary user's lab is made of works: a user namespace in front of the others."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    lab = open_lab(MID_PATH)
    assert not Path("/proc/self/ns/user").samefile(f"/proc/{lab.pid}/ns/user")
    assert ask(lab, 443, 12)[11] == [MID_PATH.destination, "syn-ack"]
    assert ask(lab, 6379, 7)[6] == [MID_PATH.address(6), [3, 13]]


def test_the_map_names_every_hop_and_rule() -> None:
    """The map has the prober, each device with its zone, and what the firewalls do."""
    assert draw(replace(PLAIN, silent=(1,), rules=(Rule(2, "drop", "ingress", (22, 23)),))) == (
        "A firewall in mid-path: open, closed, dropped and rejected ports of one host\n"
        " hop  zone      address\n"
        "   0  platform  10.9.0.1  the prober\n"
        "   1  platform  10.9.0.2  sends no ICMP errors\n"
        "   2  platform  10.9.1.2  ingress: tcp 22, 23 drop\n"
        "   3  external  10.9.2.2\n"
        "   4  external  10.9.3.2  the destination, listens on 443"
    )


def test_the_map_has_the_scenarios_family() -> None:
    """In IPv6 the map shows the addresses that the same devices have there."""
    assert draw(replace(PLAIN, hops=2, family="ipv6")).splitlines()[1:] == [
        " hop  zone      address",
        "   0  platform  fd09::1        the prober",
        "   1  platform  fd09::2",
        "   2  platform  fd09:0:0:1::2  the destination, listens on 443",
    ]


@pytest.mark.parametrize("hop", [0, 3])
def test_a_command_can_run_at_any_device(open_lab: OpenLab, hop: int) -> None:
    """`at` leads into the namespace of a hop, or leaves the command with the prober."""
    seen = open_lab(PLAIN).run(
        at(hop, ["ip", "-brief", "address", "show", "far"]), capture_output=True, text=True
    )
    assert f"10.9.{hop}.1/24" in seen.stdout


@pytest.mark.parametrize(
    ("options", "mapped"), [((), "5  external  10.9.4.2"), (("-6",), "5  external  fd09:0:0:4::2")]
)
def test_the_command_line_draws_the_map_and_runs_the_command(
    open_lab: OpenLab, options: tuple[str, ...], mapped: str
) -> None:
    """`python -m tests.lab` ends as the command in the lab ended."""
    open_lab(PLAIN)
    seen = subprocess.run(
        [
            *(sys.executable, "-m", "tests.lab", *options, "dead_host", "--"),
            *("sh", "-c", "ip -brief address show far; exit 7"),
        ],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert seen.returncode == 7
    assert "nobody" in seen.stdout
    assert mapped in seen.stdout
    assert "10.9.0.1/24 fd09::1/64" in seen.stdout


def test_an_unknown_scenario_is_named() -> None:
    """A scenario that does not exist is wrong usage, and the message quotes it."""
    seen = subprocess.run(
        [sys.executable, "-m", "tests.lab", "nowhere"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert seen.returncode == 2
    assert "no scenario 'nowhere'" in seen.stderr

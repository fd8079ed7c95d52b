"""The settings for controls: where they come from, what they may be, what `check` says of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter.config import load
from exporter.model import Controls, EngineStatus
from exporter.plan import MOST_SHOWN, describe
from exporter.settings import ConfigurationError

PORTS = "at most 8 ports from 1 to 65535, separated by commas or spaces, or none"


def controls(environ: Mapping[str, str]) -> list[Controls]:
    """The controls of each target."""
    return [target.controls for target in load(environ).targets]


def problems(environ: Mapping[str, str]) -> list[str]:
    """The lines of the mistakes."""
    with pytest.raises(ConfigurationError) as caught:
        load(environ)
    return list(caught.value.problems)


def written(folder: Path, text: str) -> dict[str, str]:
    """An environment whose CONFIG_FILE holds the text."""
    file = folder / "targets.yml"
    file.write_text(text)
    return {"CONFIG_FILE": str(file)}


def plan(environ: Mapping[str, str], no_echo: str = "") -> list[str]:
    """The lines of what `check` prints."""
    settings = load(environ)
    addresses: dict[str, list[str]] = {target.name: [] for target in settings.targets}
    status = EngineStatus("syn", "fine")
    return describe(settings, status, addresses, (), no_echo=no_echo).splitlines()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Controls()),
        ({"CONTROL_PORTS": "22, 5432\t80 22"}, Controls(ports=(22, 5432, 80))),
        ({"CONTROL_PORTS": "none"}, Controls(ports=())),
        ({"ICMP_ECHO": "no", "CANARY": "false"}, Controls(echo=False, canary=False)),
        ({"FLOWS": "4"}, Controls(flows=4)),
        ({"FLOWS": "16", "FAILING_FLOWS": "16"}, Controls(flows=16, failing_flows=16)),
        ({"FAILING_FLOWS": "1"}, Controls(failing_flows=1)),
    ],
)
def test_variables(environ: dict[str, str], expected: Controls) -> None:
    """Each variable sets its part of the controls; a port that is written twice counts once."""
    assert controls({"ENDPOINTS": "a:1", **environ}) == [expected]


def test_a_target_has_its_own(tmp_path: Path) -> None:
    """What a target says wins over the environment, and that over the file's defaults."""
    text = """
        defaults: {control_ports: [22, 25], canary: no, flows: 2}
        targets:
        - {host: a, port: 1}
        - {host: b, port: 2, control_ports: none, icmp_echo: no, canary: yes, failing_flows: 9}
        - {host: c, port: 3, control_ports: "53 123"}
    """
    assert controls({**written(tmp_path, text), "FLOWS": "3"}) == [
        Controls(ports=(22, 25), canary=False, flows=3),
        Controls(ports=(), echo=False, flows=3, failing_flows=9),
        Controls(ports=(53, 123), canary=False, flows=3),
    ]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CONTROL_PORTS", "http", f"'http' should be {PORTS}"),
        ("CONTROL_PORTS", "22 0", f"'0' should be {PORTS}"),
        ("CONTROL_PORTS", "none 22", f"'none' should be {PORTS}"),
        ("CONTROL_PORTS", "1 2 3 4 5 6 7 8 9", f"'1 2 3 4 5 6 7 8 9' should be {PORTS}"),
        ("ICMP_ECHO", "maybe", "'maybe' should be true or false"),
        ("CANARY", "198.51.100.1", "'198.51.100.1' should be true or false"),
        ("FLOWS", "0", "'0' should be a whole number from 1 to 16"),
        ("FAILING_FLOWS", "17", "'17' should be a whole number from 1 to 16"),
        (
            "FLOWS",
            "8",
            "'8' is more than failing_flows, which is 4; write at most 4, or raise that",
        ),
    ],
)
def test_mistakes(name: str, value: str, said: str) -> None:
    """A wrong value is one line that names the variable, the value and what would be right."""
    assert problems({"ENDPOINTS": "a:1", name: value}) == [f"{name}: {said}"]


def test_mistakes_in_the_file(tmp_path: Path) -> None:
    """In a list the port is named; what does not go together is, wherever the other one stands."""
    text = """targets:
- {host: a, port: 1, control_ports: [22, x]}
- {host: b, port: 2, control_ports: {a: b}}
- {host: c, port: 3, failing_flows: 2}
defaults: {flows: 3}
"""
    environ = written(tmp_path, text)
    assert [line.removeprefix(environ["CONFIG_FILE"]) for line in problems(environ)] == [
        f" line 2: targets[0].control_ports[1]: 'x' should be {PORTS}",
        f" line 3: targets[1].control_ports: a mapping should be {PORTS}",
        (
            " line 4: targets[2].flows: 3 is more than failing_flows, which is 2; "
            "write at most 2, or raise that"
        ),
    ]


def test_the_plan_says_which_controls_are_made() -> None:
    """`check` says what belongs to every cycle, and what to one in which something fails."""
    assert (
        "controls: a canary for each port, every 300 s; where something fails, 4 flows, "
        "ports 443 and 80 of the same destination, an ICMP echo"
    ) in plan({"ENDPOINTS": "a:1 b:2"})
    assert (
        "controls: 2 flows in each cycle; where something fails, 4 flows, "
        "port 22 of the same destination"
    ) in plan(
        {
            "ENDPOINTS": "a:1",
            "FLOWS": "2",
            "CONTROL_PORTS": "22",
            "ICMP_ECHO": "no",
            "CANARY": "no",
        }
    )


def test_the_plan_of_targets_that_differ(tmp_path: Path) -> None:
    """Each choice has a line, the commonest first, and where there are many the rest a number."""
    few = "targets:\n- {host: a, port: 1, failing_flows: 1, control_ports: none, icmp_echo: no}\n"
    few += "- {host: b, port: 1}\n- {host: c, port: 1}\n"
    lines = [line for line in plan(written(tmp_path, few)) if line.startswith("controls")]
    assert lines[0].startswith("controls of 2 targets: a canary for each port")
    assert lines[1] == (
        "controls of 1 target: a canary for each port, every 300 s; "
        "where something fails, nothing more"
    )
    many = "".join(f"- {{host: h{n}, port: 1, failing_flows: {n}}}\n" for n in range(1, 10))
    lines = [line for line in plan(written(tmp_path, f"targets:\n{many}")) if "controls" in line]
    assert len(lines) == MOST_SHOWN + 1
    assert lines[-1] == "controls of the other targets: 5 more choices"


def test_the_plan_where_echoes_are_not_permitted() -> None:
    """Why there is none is said to whoever wants some."""
    wanted, line = {"ENDPOINTS": "a:1"}, "no ICMP echo here: no permission"
    assert line in plan(wanted, "no permission")
    assert line not in plan({**wanted, "ICMP_ECHO": "false"}, "no permission")


def test_the_estimate_counts_further_flows() -> None:
    """Flows of every cycle are part of the ordinary estimate, controls of the highest."""
    assert (
        "probes a minute: about 18 with all targets open 12 hops away as before, "
        "34 with a quarter of them blocked, at most 232; less what they share of their first hops"
    ) in plan({"ENDPOINTS": "a:1"})
    assert (
        "probes a minute: about 57 with all targets open 12 hops away as before, "
        "63 with a quarter of them blocked, at most 279; less what they share of their first hops"
    ) in plan({"ENDPOINTS": "a:1", "FLOWS": "4"})

"""A proxy that the environment names is said beside a direct failure, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.diagnosis.proxies import DIRECT_STATES, noted
from exporter.model import Observation, Proxy, State, Target
from tests.unit import samples

PROXY = Proxy((("HTTPS_PROXY", "proxy.example:3128"), ("http_proxy", "")))


def filtered(host: str = "db.example.com", port: int = 443) -> Observation:
    """A blocked target of that host."""
    return replace(samples.filtered(), target=Target("db", host, port))


def of_state(state: State) -> Observation:
    """An observation with a verdict of this state."""
    blocked = filtered()
    return replace(blocked, verdict=replace(blocked.verdict, state=state))


def test_the_note_is_the_last_line_of_evidence() -> None:
    """It names the variables and the proxy's address, and what follows from it."""
    before = filtered()
    after = noted(before, PROXY)
    assert after.verdict.evidence == (
        *before.verdict.evidence,
        (
            "the environment names a proxy (HTTPS_PROXY=proxy.example:3128, http_proxy), and "
            "NO_PROXY does not exempt db.example.com: direct connections may be blocked by "
            "design; this program uses no proxy"
        ),
    )
    assert replace(after, verdict=before.verdict) == before


@pytest.mark.parametrize("state", State)
def test_only_a_failure_is_noted(state: State) -> None:
    """Where something answers directly, a proxy explains nothing."""
    observation = of_state(state)
    assert (noted(observation, PROXY) == observation) is (state in DIRECT_STATES)


def test_without_a_proxy_nothing_is_said() -> None:
    """No variable, no note."""
    assert noted(filtered(), None) == filtered()


def test_each_address_is_noted_by_itself() -> None:
    """Of several addresses those that fail have the note, those that answer have not."""
    several = replace(filtered(), each=(filtered(), of_state(State.OPEN)))
    marked = [len(one.verdict.evidence) for one in noted(several, PROXY).each]
    plain = [len(one.verdict.evidence) for one in several.each]
    assert [a - b for a, b in zip(marked, plain, strict=True)] == [1, 0]


@pytest.mark.parametrize(
    ("entry", "host", "exempt"),
    [
        ("*", "db.example.com", True),
        ("db.example.com", "db.example.com", True),
        ("DB.example.com.", "db.Example.com", True),
        ("example.com", "db.example.com", True),
        (".example.com", "db.example.com", True),
        ("*.example.com", "db.example.com", True),
        ("ample.com", "db.example.com", False),
        ("x.db.example.com", "db.example.com", False),
        ("db.example.com:443", "db.example.com", True),
        ("db.example.com:8443", "db.example.com", False),
        (".", "db.example.com", False),
        (":443", "db.example.com", False),
        ("::", "db.example.com", False),
        ("10.0.0.0/8", "10.9.1.1", True),
        ("10.0.0.0/8", "11.9.1.1", False),
        ("10.9.1.1", "10.9.1.1", True),
        ("10.9.1.1:443", "10.9.1.1", True),
        ("10.9.1.1/33", "10.9.1.1", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("[2001:db8::1]:443", "2001:db8::1", True),
        ("10.0.0.0/8", "2001:db8::1", False),
        ("10.9.11.2", "db.example.com", False),
    ],
)
def test_what_no_proxy_exempts(entry: str, host: str, exempt: bool) -> None:  # noqa: FBT001
    """Domains with all below them, addresses, networks and *, as common programs read them."""
    observation = filtered(host)
    proxy = replace(PROXY, exempt=("other.example", entry))
    assert (noted(observation, proxy) == observation) is exempt

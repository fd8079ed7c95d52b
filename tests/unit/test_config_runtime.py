"""What the environment tells about where the exporter runs, and about proxies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import load
from exporter.config.runtime import MAX_EXEMPT, MAX_TEXT
from exporter.model import Proxy, Source

CANARY = "hunter2-Canary"

#: As a running container has it, shortened.
APPLICATION = {
    "application_id": "fa05c1a9-0fc1-4fbd-bae1-139850dec7a3",
    "application_name": "egress-exporter",
    "application_uris": ["egress-exporter.apps.example.com"],
    "limits": {"disk": 512, "fds": 16384, "mem": 128},
    "name": "egress-exporter",
    "organization_name": "platform",
    "process_id": "c0134bad-97a9-468d-ab9d-e97547e3aed5",
    "process_type": "web",
    "space_name": "monitoring",
    "users": None,
}
ON_CLOUD_FOUNDRY = {
    "CF_INSTANCE_INDEX": "1",
    "CF_INSTANCE_GUID": "41653aa4-3a3a-486a-4431-ef258b39f042",
    "CF_INSTANCE_IP": "10.0.4.7",
    "CF_INSTANCE_INTERNAL_IP": "10.255.1.2",
    "VCAP_APPLICATION": json.dumps(APPLICATION),
}


def source(value: Any) -> Source:
    """The source with this VCAP_APPLICATION."""
    return load({"VCAP_APPLICATION": json.dumps(value)}).source


def test_an_instance_on_cloud_foundry() -> None:
    """Instance, cell, application and the GUIDs that its router takes."""
    assert load(ON_CLOUD_FOUNDRY).source == Source(
        address="10.255.1.2",
        instance_index="1",
        instance_guid="41653aa4-3a3a-486a-4431-ef258b39f042",
        cell="10.0.4.7",
        application="egress-exporter",
        space="monitoring",
        organization="platform",
        application_guid="fa05c1a9-0fc1-4fbd-bae1-139850dec7a3",
        process_guid="c0134bad-97a9-468d-ab9d-e97547e3aed5",
    )


def test_a_pod_on_kubernetes() -> None:
    """The downward API's pod and node stand where an instance and its cell do."""
    environ = {"POD_NAME": "egress-7d9f", "NODE_NAME": "node-3", "POD_IP": "10.42.0.9"}
    assert load(environ).source == Source(
        address="10.42.0.9", instance_guid="egress-7d9f", cell="node-3"
    )


def test_a_plain_host() -> None:
    """Where no platform says anything, nothing is made up."""
    assert load({"HOSTNAME": "laptop"}).source == Source()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (f'{{"application_name": "{CANARY}', "cannot be read as JSON, from line 1, column 22 on"),
        ("x" * 2_000_000, "is too large; it should have at most 1,048,576 bytes"),
        ("[" * 100_000, "cannot be read as JSON: too many levels"),
        ('["a"]', "should be a JSON object"),
        ("5", "should be a JSON object"),
    ],
)
def test_an_unreadable_application_stops_nothing(value: str, said: str) -> None:
    """A warning says so, the rest of the settings is as ever."""
    found = load({"VCAP_APPLICATION": value, "ENDPOINTS": "a:1"})
    assert found.warnings == (f"VCAP_APPLICATION: the value {said}",)
    assert (found.source, len(found.targets)) == (Source(), 1)


@pytest.mark.parametrize("value", [{}, {"application_name": ["x"], "space_name": {"a": "b"}}])
def test_an_application_of_another_shape(value: Any) -> None:
    """What is no text is left out."""
    assert source(value) == Source()


def test_texts_are_bounded_and_printable() -> None:
    """Names from the platform are as suspicious as any other text."""
    hostile = source({"application_name": "a\n\x1b[31m\u202e", "space_name": "x" * 10_000})
    assert hostile.application == r"a\n\x1b[31m\u202e"
    assert hostile.space == "x" * MAX_TEXT


# -- proxies -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("http://proxy.example:3128", "proxy.example:3128"),
        ("proxy.example:3128", "proxy.example:3128"),
        ("https://proxy.example", "proxy.example:443"),
        ("http://[2001:db8::1]:3128/", "[2001:db8::1]:3128"),
        (f"http://user:{CANARY}@proxy.example:3128/{CANARY}?{CANARY}", "proxy.example:3128"),
        (f"user:{CANARY}@proxy.example:3128", "proxy.example:3128"),
        (f"http://user:1/{CANARY}@proxy.example:3128", ""),
        (f"http://{CANARY} x", ""),
        ("http://a:1,b:2", ""),
        ("socks5://proxy.example", ""),
        ("direct", "direct:80"),
    ],
)
def test_of_a_proxy_only_host_and_port_are_kept(value: str, address: str) -> None:
    """User, password, path and query are dropped; where the host is not certain, it is, too."""
    found = load({"HTTPS_PROXY": value})
    assert found.proxy == Proxy((("HTTPS_PROXY", address),))
    assert CANARY not in repr(found)


def test_every_spelling_of_a_proxy() -> None:
    """Either case counts, and which variable it was is kept; empty ones are unset."""
    found = load(
        {
            "https_proxy": "http://a:1",
            "HTTP_PROXY": "http://b:2",
            "all_proxy": "socks5://c:3",
            "ALL_PROXY": " ",
            "NO_PROXY": "localhost,.example.com 10.0.0.0/8,,",
        }
    )
    assert found.proxy == Proxy(
        (("https_proxy", "a:1"), ("HTTP_PROXY", "b:2"), ("all_proxy", "c:3")),
        ("localhost", ".example.com", "10.0.0.0/8"),
    )
    assert str(found.proxy) == "https_proxy=a:1, HTTP_PROXY=b:2, all_proxy=c:3"


def test_no_proxy_alone_is_no_proxy() -> None:
    """NO_PROXY says nothing where no proxy is named, and its length is bounded."""
    assert load({"NO_PROXY": "a"}).proxy is None
    found = load({"ALL_PROXY": "a:1", "no_proxy": "b," * 2 * MAX_EXEMPT}).proxy
    assert found
    assert len(found.exempt) == MAX_EXEMPT


@given(st.text())
def test_any_text(text: str) -> None:
    """No text in a variable of the platform stops the start or stays unprintable."""
    names = [*ON_CLOUD_FOUNDRY, "HTTPS_PROXY", "http_proxy", "NO_PROXY", "POD_NAME", "NODE_NAME"]
    found = load(dict.fromkeys(names, text))
    shown = [getattr(found.source, name) for name in Source.__slots__]
    if found.proxy:
        shown += [str(found.proxy), *found.proxy.exempt]
    assert all(one.isprintable() for one in (*shown, *found.warnings))

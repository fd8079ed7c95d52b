"""The hash of the settings: the same for equal settings, and without any secret."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.config import load
from exporter.model import Share, Source
from exporter.settings import Settings, fingerprint

ENDPOINTS = {"ENDPOINTS": "db=db.example:5432 web=192.0.2.7:443", "PLATFORM_NETWORKS": "10.0.0.0/8"}
URL = "https://lists.example/targets"


def of(**changes: str) -> str:
    """The hash of settings from an environment."""
    return fingerprint(load(ENDPOINTS | changes))


def test_equal_settings_have_one_hash() -> None:
    """What is said in other words, or by default, is the same."""
    assert len(of()) == 64
    assert of() == of(INTERVAL_SECONDS="60.0", ENDPOINTS=ENDPOINTS["ENDPOINTS"].replace(" ", ","))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ENDPOINTS", "db=db.example:5433"),
        ("PLATFORM_NETWORKS", "10.0.0.0/9"),
        ("INTERVAL_SECONDS", "61"),
        ("ENGINE", "connect"),
        ("FILE_SD", "/etc/egress/*.json"),
        ("HTTP_SD_URL", URL),
    ],
)
def test_another_setting_gives_another_hash(variable: str, value: str) -> None:
    """Whatever decides what is traced, and how, is in it."""
    assert of(**{variable: value}) != of()


def test_no_secret_is_in_it() -> None:
    """Passwords, users and tokens may change; so nobody can guess one and try the hash."""
    auth = {"BASIC_AUTH_USERNAME": "u", "BASIC_AUTH_PASSWORD": "hunter2"}
    assert of(**auth) == of()
    token = {"HTTP_SD_BEARER_TOKEN": "hunter2"}
    assert of(HTTP_SD_URL=URL, **token) == of(HTTP_SD_URL=URL)
    assert of(HTTP_SD_URL=f"{URL}?token=hunter2") == of(HTTP_SD_URL=f"{URL}?token=other")


def test_all_instances_have_the_same() -> None:
    """Neither where an instance runs nor its part of the targets is in it."""
    one: Settings = load(ENDPOINTS)
    other = replace(one, source=Source("10.0.0.9", "7"), share=Share(1, 4))
    assert fingerprint(one) == fingerprint(other)

"""Sources of lists in the configuration: what they may be, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporter.config import load
from exporter.config.sources import FILE_KEYS, HTTP_KEYS, MAX_SOURCES, PARTS
from exporter.settings import ConfigurationError, FileSource, HttpSource, Login, Sources

ROOT = Path(__file__).parents[2]
DOCUMENTATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
SECTION = DOCUMENTATION.partition("\n## Discovery")[2].partition("\n## ")[0]


def sources(**environ: str) -> Sources:
    """The sources of these settings."""
    found = load(environ).sources
    assert found
    return found


def in_file(tmp_path: Path, text: str) -> dict[str, str]:
    """An environment whose file has this text."""
    path = tmp_path / "c.yml"
    path.write_text(text, encoding="utf-8")
    return {"CONFIG_FILE": str(path)}


def problems(**environ: str) -> list[str]:
    """The lines of the mistakes, without the file's name."""
    with pytest.raises(ConfigurationError) as caught:
        load(environ)
    file = environ.get("CONFIG_FILE", "")
    return [line.removeprefix(f"{file} ") for line in caught.value.problems]


# -- what they may be --------------------------------------------------------------------


def test_variables_name_sources() -> None:
    """FILE_SD has paths; HTTP_SD_URL an address, and its token."""
    found = sources(
        FILE_SD="/a/*.json, b.yml",
        HTTP_SD_URL="https://h.example/x?y=z",
        HTTP_SD_BEARER_TOKEN="secret\n",  # noqa: S106  -- nobody's
    )
    assert found.files == (FileSource("/a/*.json", 300.0), FileSource("b.yml", 300.0))
    login = Login("Bearer", "", "secret")
    assert found.urls == (
        HttpSource("https://h.example/x", "https://h.example/x?y=z", 60.0, login),
    )
    assert "secret" not in repr(found)
    assert "y=z" not in repr(found)


def test_the_documented_file_is_right(tmp_path: Path) -> None:
    """The page's example is read as it is meant."""
    text = SECTION.partition("```yaml\n")[2].partition("```")[0]
    found = sources(**in_file(tmp_path, text))
    assert found.files == (
        FileSource("/etc/egress/sd/*.json", 300.0),
        FileSource("/etc/egress/more.yml", 300.0),
    )
    assert found.urls == (
        HttpSource(
            "https://inventory.example/egress",
            "https://inventory.example/egress",
            120.0,
            Login("Bearer", file=Path("/var/run/secrets/inventory/token")),
            ca_file=Path("/etc/egress/ca.pem"),
        ),
    )


def test_every_key_is_documented() -> None:
    """The page names each key, with its default."""
    nested = [key for part in PARTS.values() for key in part.model_fields]
    assert all(
        f"`{key}`" in SECTION or f".{key}`" in SECTION or f"[].{key}" in SECTION
        for key in (*FILE_KEYS, *HTTP_KEYS, *nested)
    )


def test_sources_from_everywhere_are_added(tmp_path: Path) -> None:
    """Variables, file and service each name sources; a path that stands twice counts once."""
    bound = {"file_sd_configs": '[{"files": ["/c.json", "/a.json"]}]'}
    found = sources(
        FILE_SD="/a.json",
        VCAP_SERVICES=json.dumps(
            {"user-provided": [{"name": "egress-exporter", "credentials": bound}]}
        ),
        **in_file(tmp_path, "file_sd_configs: [{files: [/b.json], refresh_interval: 1m}]"),
    )
    assert [(one.name, one.refresh_interval) for one in found.files] == [
        ("/a.json", 300.0),
        ("/b.json", 60.0),
        ("/c.json", 300.0),
    ]


def test_addresses_that_differ_in_their_query_are_told_apart(tmp_path: Path) -> None:
    """A name never shows the query, which may hold a token, and is unique all the same."""
    text = "http_sd_configs: [{url: http://h/?a=1}, {url: http://h/?a=2}, {url: http://i/}]"
    found = sources(**in_file(tmp_path, text))
    assert [one.name for one in found.urls] == ["http://h/", "http://h/ (2)", "http://i/"]


def test_basic_authentication(tmp_path: Path) -> None:
    """A password stands in the file, or in one of its own."""
    for text, login in {
        "password: 'p:w'": Login("Basic", "u", "p:w"),
        "password_file: /p": Login("Basic", "u", file=Path("/p")),
    }.items():
        url = f"http_sd_configs: [{{url: http://h/, basic_auth: {{username: u, {text}}}}}]"
        assert sources(**in_file(tmp_path, url)).urls[0].login == login


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("1h30m", 5_400), ("1d", 86_400), ("01m", 60)]
)
def test_durations(tmp_path: Path, text: str, seconds: float) -> None:
    """Durations are written as Prometheus has them."""
    written = f"file_sd_configs: [{{files: [a.json], refresh_interval: {text}}}]"
    assert sources(**in_file(tmp_path, written)).files[0].refresh_interval == seconds


def test_nothing_is_discovered_unless_it_is_asked_for(tmp_path: Path) -> None:
    """Without a source, or with empty lists of them, there is none."""
    assert load({}).sources is None
    assert load(in_file(tmp_path, "file_sd_configs: []\nhttp_sd_configs: []")).sources is None


# -- what is wrong -----------------------------------------------------------------------

PATH = (
    "should be the path of a file that ends in .json, .yml or .yaml, with one * at most and that "
    "in its last part"
)
DURATION = "should be a duration from 1s to 1d, such as 30s or 5m"
BOTH = "basic_auth: {username: a, password: b}, authorization: {credentials: c}"
NO_MAPPING = "should be a mapping with keys such as type, credentials"
NO_SUCH_KEY = "is unknown; the keys here are ca_file, cert_file, key_file"
URL = "should be an address that begins with http:// or https://"


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"FILE_SD": "a.json /b"}, f"FILE_SD entry 2: '/b' {PATH}"),
        ({"FILE_SD": "/*/b.json"}, f"FILE_SD entry 1: '/*/b.json' {PATH}"),
        (
            {"FILE_SD": "http://h/a.json"},
            "FILE_SD entry 1: 'http://h/a.json' is a URL; write it under http_sd_configs:",
        ),
        ({"HTTP_SD_URL": "ftp://h/"}, f"HTTP_SD_URL: the value {URL}"),
        ({"HTTP_SD_URL": "http:///x"}, f"HTTP_SD_URL: the value {URL}"),
        ({"HTTP_SD_URL": "http://h:x/"}, f"HTTP_SD_URL: the value {URL}"),
        ({"HTTP_SD_URL": "http://h/ x"}, f"HTTP_SD_URL: the value {URL}"),
        ({"HTTP_SD_URL": "http://h/#x"}, f"HTTP_SD_URL: the value {URL}"),
        (
            {"HTTP_SD_URL": "http://user:secret@h/"},
            "HTTP_SD_URL: the value holds a user name; write it under basic_auth:",
        ),
        (
            {"HTTP_SD_URL": "http://h/", "HTTP_SD_BEARER_TOKEN": "a\x1bb"},
            "HTTP_SD_BEARER_TOKEN: the value should be 1 to 4,096 printable characters of ASCII",
        ),
        (
            {"HTTP_SD_BEARER_TOKEN": "secret"},
            "HTTP_SD_URL: is missing, and HTTP_SD_BEARER_TOKEN is set",
        ),
        (
            {"FILE_SD": " ".join(f"{number}.json" for number in range(MAX_SOURCES + 1))},
            "FILE_SD entry 1: a list should be a list of 1 to 16 paths",
        ),
    ],
)
def test_wrong_variables(environ: dict[str, str], line: str) -> None:
    """A mistake names the variable and what would be right, and shows no secret."""
    assert problems(**environ) == [line]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("file_sd_configs: {a: b}", "line 1: file_sd_configs: a mapping should be a list"),
        (
            "file_sd_configs: [{file: [a.json]}]",
            "line 1: file_sd_configs[0].file: is unknown; did you mean files?",
        ),
        (
            "file_sd_configs: [{refresh_interval: 1m}]",
            "line 1: file_sd_configs[0].files: is missing; it should be a list of 1 to 16 paths",
        ),
        (
            "file_sd_configs: [{files: [a.json], refresh_interval: 30}]",
            f"line 1: file_sd_configs[0].refresh_interval: '30' {DURATION}",
        ),
        (
            "file_sd_configs: [{files: [a.json, a.txt]}]",
            f"line 1: file_sd_configs[0].files[1]: 'a.txt' {PATH}",
        ),
        (
            "http_sd_configs: [{refresh_interval: 1m}]",
            f"line 1: http_sd_configs[0].url: is missing; it {URL}",
        ),
        (
            "http_sd_configs: [{url: http://h/, basic_auth: {username: a}}]",
            "line 1: http_sd_configs[0].basic_auth: should have one of password and password_file",
        ),
        (
            "http_sd_configs: [{url: http://h/, basic_auth: {username: 'a:b', password: c}}]",
            "line 1: http_sd_configs[0].basic_auth.username: the value should have no colon",
        ),
        (
            "http_sd_configs: [{url: http://h/, basic_auth: {user: a}}]",
            "line 1: http_sd_configs[0].basic_auth.user: is unknown; did you mean username?",
        ),
        (
            "http_sd_configs: [{url: http://h/, authorization: {type: basic, credentials: x}}]",
            "line 1: http_sd_configs[0].authorization.type: 'basic' is written under basic_auth:",
        ),
        (
            "http_sd_configs: [{url: http://h/, authorization: Bearer abc}]",
            f"line 1: http_sd_configs[0].authorization: the value {NO_MAPPING}",
        ),
        (
            f"http_sd_configs: [{{url: http://h/, {BOTH}}}]",
            "line 1: http_sd_configs[0].authorization: stands beside basic_auth; write one of both",
        ),
        (
            "http_sd_configs: [{url: http://h/, tls_config: {insecure_skip_verify: true}}]",
            f"line 1: http_sd_configs[0].tls_config.insecure_skip_verify: {NO_SUCH_KEY}",
        ),
        (
            "defaults: {file_sd_configs: []}",
            "line 1: defaults.file_sd_configs: belongs to the top level of the file",
        ),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, line: str) -> None:
    """A mistake names the line, the place, the value and what would be right."""
    assert line in problems(**in_file(tmp_path, text))


def test_there_is_an_end_to_the_sources(tmp_path: Path) -> None:
    """Sources of all kinds together are bounded."""
    urls = ", ".join(f"{{url: http://h{number}/}}" for number in range(MAX_SOURCES))
    (line,) = problems(FILE_SD="a.json", **in_file(tmp_path, f"http_sd_configs: [{urls}]"))
    assert line == "file_sd_configs, http_sd_configs: name 17 sources; there can be 16"

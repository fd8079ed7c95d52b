"""Where lists of targets come from: FILE_SD, HTTP_SD_URL, and what documents have of both.

The keys under `file_sd_configs` and `http_sd_configs` are Prometheus'. Like targets, sources from
everywhere are added together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from exporter.config.document import Document
from exporter.config.lists import Lists
from exporter.config.schema import Globals, checked
from exporter.config.targets import Written
from exporter.config.values import FileName
from exporter.config.words import Where, shown
from exporter.settings import FileSource, HttpSource, Login, Sources

#: Each may have a descriptor open at the same time.
MAX_SOURCES = 16
MAX_URL_LENGTH = 2_000
MAX_SECRET_LENGTH = 4_096
#: Seconds, as Prometheus has them.
FILE_INTERVAL = 300.0
HTTP_INTERVAL = 60.0
DAY = 86_400.0

_UNITS = {"d": DAY, "h": 3_600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,6}}){unit})?" for unit in _UNITS))
#: As Prometheus has it: a star in the last part of the path alone.
_PATTERN = re.compile(r"[^*]*(\*[^*/]*)?\.(json|yml|yaml|JSON|YML|YAML)")

_ADDRESS = "an address that begins with http:// or https://"


# -- single values -----------------------------------------------------------------------


def _duration(value: object) -> float:
    match = _DURATION.fullmatch(str(value))
    parts = zip(match.groups(), _UNITS.values(), strict=True) if match else ()
    seconds = sum(int(number) * unit for number, unit in parts if number)
    if not 1 <= seconds <= DAY:
        raise ValueError("should be a duration from 1s to 1d, such as 30s or 5m")
    return seconds


def _pattern(text: str) -> str:
    if "://" in text:
        raise ValueError("is a URL; write it under http_sd_configs:")
    if not _PATTERN.fullmatch(text) or not text.isprintable():
        raise ValueError(
            "should be the path of a file that ends in .json, .yml or .yaml, with one * at most "
            "and that in its last part"
        )
    return text


def _url(text: str) -> str:
    # What is no printable ASCII could end the request line, and begin another header.
    if not re.fullmatch(rf"[!-~]{{1,{MAX_URL_LENGTH}}}", text):
        raise ValueError(f"should be {_ADDRESS}")
    try:
        url = urlsplit(text)
        right = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        right = False
    if not right or url.fragment:
        raise ValueError(f"should be {_ADDRESS}")
    if "@" in url.netloc:
        raise ValueError("holds a user name; write it under basic_auth:")
    return text


def _secret(text: str) -> str:
    # RFC 9110 section 5.5: a header's value has no control characters, and is best in ASCII.
    if not re.fullmatch(rf"[ -~]{{1,{MAX_SECRET_LENGTH}}}", text):
        raise ValueError(f"should be 1 to {MAX_SECRET_LENGTH:,} printable characters of ASCII")
    return text


def _without_colon(text: str) -> str:
    # RFC 7617 section 2: the user-id ends at the first colon.
    if ":" in text:
        raise ValueError("should have no colon")
    return text


def _word(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]{1,50}", text):
        raise ValueError("should be one word, such as Bearer")
    if text.lower() == "basic":
        raise ValueError("is written under basic_auth:")
    return text


Duration = Annotated[float, BeforeValidator(_duration), Field(description="a duration such as 5m")]
Secret = Annotated[str, AfterValidator(_secret), Field(description="one text")]


# -- mappings ----------------------------------------------------------------------------


class FileEntry(BaseModel):
    """One of `file_sd_configs`."""

    files: Annotated[
        list[Annotated[str, AfterValidator(_pattern)]],
        Field(
            min_length=1, max_length=MAX_SOURCES, description=f"a list of 1 to {MAX_SOURCES} paths"
        ),
    ]
    refresh_interval: Duration = FILE_INTERVAL


class HttpEntry(BaseModel):
    """One of `http_sd_configs`, without the mappings in it."""

    url: Annotated[str, AfterValidator(_url), Field(description=_ADDRESS)]
    refresh_interval: Duration = HTTP_INTERVAL


class BasicAuth(BaseModel):
    """`basic_auth`: RFC 7617."""

    username: Annotated[Secret, AfterValidator(_without_colon)]
    password: Secret = ""
    password_file: FileName = None


class Authorization(BaseModel):
    """`authorization`: RFC 6750, and others that send what they have."""

    type: Annotated[str, AfterValidator(_word), Field(description="one word")] = "Bearer"
    credentials: Secret = ""
    credentials_file: FileName = None


class TlsConfig(BaseModel):
    """`tls_config`; the other end is always verified."""

    ca_file: FileName = None
    cert_file: FileName = None
    key_file: FileName = None


FILE_KEYS = tuple(FileEntry.model_fields)
PARTS: Mapping[str, type[BaseModel]] = {
    "basic_auth": BasicAuth,
    "authorization": Authorization,
    "tls_config": TlsConfig,
}
HTTP_KEYS = (*HttpEntry.model_fields, *PARTS)

_Part = TypeVar("_Part", bound=BaseModel)


# -- sources -----------------------------------------------------------------------------


def all_sources(
    environment: Mapping[str, str],
    documents: Iterable[tuple[Document, Mapping[str, Any]]],
    given: Globals,
    problems: list[str],
) -> Sources | None:
    """The sources of FILE_SD, of HTTP_SD_URL and of documents; None without any."""
    files, urls = [*_of_file_sd(environment)], [*_of_http_sd(environment, problems)]
    for document, top in documents:
        files += _of_list(document, top, "file_sd_configs", FILE_KEYS, problems)
        urls += _of_list(document, top, "http_sd_configs", HTTP_KEYS, problems)
    sources = Sources(
        Lists(given),
        _each_once(source for entry in files for source in _files(entry, problems)),
        _told_apart(source for entry in urls for source in _urls(entry, problems)),
    )
    count = len(sources.files) + len(sources.urls)
    if count > MAX_SOURCES:
        problems.append(
            f"file_sd_configs, http_sd_configs: name {count} sources; there can be {MAX_SOURCES}"
        )
    return sources if count else None


def _of_file_sd(environment: Mapping[str, str]) -> Iterator[Written]:
    """The paths of FILE_SD, separated by commas or blanks."""
    if words := re.findall(r"[^\s,]+", environment.get("file_sd", "")):
        yield Written({"files": words}, lambda where: f"FILE_SD entry {_index(where) + 1}")


def _index(where: Where) -> int:
    return next((step for step in where if isinstance(step, int)), 0)


def _of_http_sd(environment: Mapping[str, str], problems: list[str]) -> Iterator[Written]:
    """The address of HTTP_SD_URL, with the token of HTTP_SD_BEARER_TOKEN."""
    url, token = environment.get("http_sd_url"), environment.get("http_sd_bearer_token")
    if url is None:
        if token is not None:
            problems.append("HTTP_SD_URL: is missing, and HTTP_SD_BEARER_TOKEN is set")
        return
    login = {"authorization": {"credentials": token.strip()}} if token else {}
    yield Written(
        {"url": url.strip(), **login},
        lambda where: "HTTP_SD_URL" if where == ("url",) else "HTTP_SD_BEARER_TOKEN",
    )


def _of_list(
    document: Document, top: Mapping[str, Any], key: str, keys: Sequence[str], problems: list[str]
) -> Iterator[Written]:
    """What a document lists under a key."""
    listed = top.get(key, [])
    if not isinstance(listed, list):
        problems.append(f"{document.place((key,))}: {shown(listed)} should be a list")
        return
    for index, value in enumerate(listed):
        here: Where = (key, index)
        values = document.section(value, here, keys, problems)
        if values is not None:
            parts = {
                part: _section(document, values[part], (*here, part), model, problems)
                for part, model in PARTS.items()
                if part in values
            }
            yield Written(values | parts, document.below(here))


def _section(
    document: Document, value: object, where: Where, model: type[BaseModel], problems: list[str]
) -> dict[str, Any] | None:
    """A mapping within a source; what stands there instead of one may be a secret."""
    keys = tuple(model.model_fields)
    if not isinstance(value, dict):
        expected = f"should be a mapping with keys such as {', '.join(keys[:2])}"
        problems.append(f"{document.place(where)}: the value {expected}")
        return None
    return document.section(value, where, keys, problems)


def _files(entry: Written, problems: list[str]) -> Iterator[FileSource]:
    found = checked(
        FileEntry, lambda: FileEntry.model_validate(entry.values), entry.place, problems
    )
    if found:
        yield from (FileSource(path, found.refresh_interval) for path in found.files)


def _urls(entry: Written, problems: list[str]) -> Iterator[HttpSource]:
    found = checked(
        HttpEntry, lambda: HttpEntry.model_validate(entry.values), entry.place, problems
    )
    login, tls = _login(entry, problems), _part(TlsConfig, entry, "tls_config", problems)
    if found:
        yield HttpSource(
            _shown_url(found.url), found.url, found.refresh_interval, login, **_paths(tls)
        )


def _shown_url(url: str) -> str:
    """The address without its query, in which some have a token."""
    return url.partition("?")[0]


def _paths(tls: TlsConfig | None) -> dict[str, Path]:
    return {key: Path(path) for key, path in tls or () if path}


def _login(entry: Written, problems: list[str]) -> Login | None:
    """What the requests authenticate themselves with; None where they do not."""
    basic = _part(BasicAuth, entry, "basic_auth", problems)
    other = _part(Authorization, entry, "authorization", problems)
    if basic and other:
        here = entry.place(("authorization",))
        problems.append(f"{here}: stands beside basic_auth; write one of both")
    if basic:
        _one_of(basic, ("password", "password_file"), entry.place(("basic_auth",)), problems)
        return Login("Basic", basic.username, basic.password, _path(basic.password_file))
    if other:
        keys = ("credentials", "credentials_file")
        _one_of(other, keys, entry.place(("authorization",)), problems)
        return Login(other.type, "", other.credentials, _path(other.credentials_file))
    return None


def _one_of(part: BaseModel, keys: Sequence[str], place: str, problems: list[str]) -> None:
    if sum(key in part.model_fields_set for key in keys) != 1:
        problems.append(f"{place}: should have one of {' and '.join(keys)}")


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None


def _part(model: type[_Part], entry: Written, key: str, problems: list[str]) -> _Part | None:
    """The mapping of that key, None when there is none or it has mistakes."""
    values = entry.values.get(key)
    if values is None:
        return None

    def place(where: Where) -> str:
        return entry.place((key, *where))

    return checked(model, lambda: model.model_validate(values), place, problems)


def _each_once(files: Iterable[FileSource]) -> tuple[FileSource, ...]:
    """The files; a path that is written twice counts once, with its first interval."""
    first: dict[str, FileSource] = {}
    for source in files:
        first.setdefault(source.name, source)
    return tuple(first.values())


def _told_apart(urls: Iterable[HttpSource]) -> tuple[HttpSource, ...]:
    """The addresses, each under a name of its own: some differ in their query alone."""
    counts: Counter[str] = Counter()
    named = []
    for source in urls:
        counts[source.name] += 1
        number = counts[source.name]
        named.append(source if number == 1 else replace(source, name=f"{source.name} ({number})"))
    return tuple(named)

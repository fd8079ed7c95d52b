"""Sources together: whose targets count, when a change is told, and what `check` says."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.config import load
from exporter.discovery.discovery import Discovery
from exporter.discovery.files import FileWatch
from exporter.discovery.http import HttpWatch
from exporter.discovery.merging import MAX_PROBLEMS, merged
from exporter.model import SourceStatus, Target
from exporter.settings import MAX_TARGETS, Sources

ROOT = Path(__file__).parents[2]
#: More than any look takes; a test that waits longer has failed.
PATIENCE = 20.0


def target(name: str, host: str = "h", **labels: str) -> Target:
    """A target."""
    return Target(name, host, 1, tuple(labels.items()))


# -- merging -----------------------------------------------------------------------------


def test_the_configuration_comes_first() -> None:
    """Of one name the configured target counts, then that of the first source."""
    own, a, b = target("x", "own"), target("x", "a"), target("y", "b")
    found = merged([own], [("s1", [a, b]), ("s2", [target("y", "c"), target("z")])])
    assert found.targets == (own, b, target("z"))
    assert found.problems == (
        "s1: 'x' for a:1 is left out, for the name is taken for own:1",
        "s2: 'y' for c:1 is left out, for the name is taken for b:1",
    )


def test_the_same_target_twice_is_no_mistake() -> None:
    """A target that moves from one list to another may stand in both; other labels may not."""
    found = merged([], [("s1", [target("x"), target("x")]), ("s2", [target("x", a="b")])])
    assert found.targets == (target("x"),)
    assert found.problems == (
        "s2: 'x' for h:1 is left out, for the name is taken with other labels or settings",
    )


def test_there_is_room_for_so_many() -> None:
    """Beyond the bound the rest is left out, with one line a source, and no more than a few."""
    many = [target(str(number)) for number in range(MAX_TARGETS + 5)]
    found = merged([target("own")], [("s1", many), ("s2", many)])
    assert len(found.targets) == MAX_TARGETS
    assert found.targets[0] == target("own")
    line = "there are more than 2,000 targets; the rest is left out"
    assert found.problems == (f"s1: {line}", f"s2: {line}")
    others = [target(str(number), "other") for number in range(100)]
    assert len(merged(many[:200], [("s", others)]).problems) == MAX_PROBLEMS


# -- looking -----------------------------------------------------------------------------


def sources(*paths: Path) -> Sources:
    """Sources of these files."""
    found = load({"FILE_SD": " ".join(map(str, paths))}).sources
    assert found
    return found


def write(path: Path, *words: str, **labels: str) -> None:
    """Replace a list."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps([{"targets": words, "labels": labels}]))
    beside.replace(path)


def names(found: Discovery, *configured: Target) -> list[str]:
    """The targets' names now."""
    return [one.name for one in found.merged(configured).targets]


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at files as often as they can be looked at."""
    monkeypatch.setattr(FileWatch, "pause", 0.01)


def test_a_change_is_told_once(tmp_path: Path) -> None:
    """A target that comes, goes or changes is told; looking without a change tells nothing."""
    path = tmp_path / "a.json"
    write(path, "a:1")

    async def run() -> None:
        told: list[list[str]] = []
        changed = asyncio.Event()
        discovery = Discovery()

        def tell() -> None:
            told.append(names(discovery, target("own")))
            changed.set()

        await discovery.look(sources(path))
        assert names(discovery, target("own")) == ["own", "a:1"]
        discovery.start(tell)
        for words in (["a:1", "b:1"], ["b:1"]):
            changed.clear()
            write(path, *words)
            await changed.wait()
        await discovery.stop()
        assert told == [["own", "a:1", "b:1"], ["own", "b:1"]]

    asyncio.run(asyncio.wait_for(run(), PATIENCE))


def test_a_failure_is_told_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A list that is no list any more leaves its targets, one line, and its status at 0."""
    caplog.set_level(logging.INFO)
    path = tmp_path / "a.json"
    write(path, "a:1")

    async def run() -> None:
        discovery = Discovery()
        changed = asyncio.Event()
        await discovery.look(sources(path))
        assert discovery.status == (SourceStatus(str(path), True, 1, 0),)
        discovery.start(changed.set)
        path.write_text("half")
        await changed.wait()
        assert discovery.status == (SourceStatus(str(path), False, 1, 0),)
        # Something else about the file, and the same to complain of.
        path.write_text("half ")
        path.touch()
        changed.clear()
        write(path, "a:1", "b")
        await changed.wait()
        assert discovery.status == (SourceStatus(str(path), True, 1, 1),)
        await discovery.stop()

    asyncio.run(asyncio.wait_for(run(), PATIENCE))
    no_json = "cannot be read as JSON, from line 1, column 1 on"
    assert [record.message for record in caplog.records] == [
        f"discovery: {path} {no_json}; what was named before stays",
        f"discovery: {path}: entries that are left out: 1",
        f"discovery: {path}: [0].targets[1]: 'b' has no port; write e.g. b:443",
        f"discovery: {path} can be read again",
    ]


def test_other_sources_are_taken_over(tmp_path: Path) -> None:
    """A reload adds and removes sources; one that stays keeps what it has named."""
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    write(a, "a:1")
    write(b, "b:1")

    async def run() -> None:
        discovery = Discovery()
        await discovery.look(sources(a))
        a.write_text("half")
        await discovery.look(sources(a, b))
        assert names(discovery) == ["a:1", "b:1"]
        await discovery.look(sources(b))
        assert names(discovery) == ["b:1"]
        await discovery.look(None)
        assert (names(discovery), discovery.status) == ([], ())

    asyncio.run(asyncio.wait_for(run(), PATIENCE))


def test_an_error_of_this_program_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody has foreseen in one source is logged, and the others go on."""
    write(tmp_path / "b.json", "b:1")

    async def fail(_watch: object) -> None:
        raise RuntimeError("unforeseen")

    async def run() -> None:
        discovery = Discovery()
        with monkeypatch.context() as patched:
            patched.setattr(HttpWatch, "look", fail)
            found = load(
                {"FILE_SD": str(tmp_path / "b.json"), "HTTP_SD_URL": "http://127.0.0.1:1/"}
            ).sources
            await discovery.look(found)
        assert names(discovery) == ["b:1"]
        assert [status.successful for status in discovery.status] == [True, False]

    asyncio.run(asyncio.wait_for(run(), PATIENCE))
    assert "internal error while looking at http://127.0.0.1:1/" in caplog.text


# -- check -------------------------------------------------------------------------------


def check(**environ: str) -> subprocess.CompletedProcess[str]:
    """`check` with these settings."""
    return subprocess.run(
        [sys.executable, "-m", "exporter", "check"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "ENGINE": "connect", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_check_shows_what_is_named_now(tmp_path: Path) -> None:
    """Discovered targets stand in the plan, and each source with their number."""
    path = tmp_path / "a.json"
    write(path, "db=127.0.0.1:1", "x")
    done = check(FILE_SD=str(path), ENDPOINTS="db=127.0.0.2:1 web=127.0.0.1:2")
    assert done.returncode == 0
    assert f"discovered: 1 target from {path}; entries that are left out: 1\n" in done.stdout
    assert "warning: " + f"{path}: 'db' for 127.0.0.1:1 is left out, for the name" in done.stdout
    assert "'x' has no port" in done.stderr
    assert "127.0.0.2:1" in done.stdout


def test_check_needs_no_target_where_there_is_discovery(tmp_path: Path) -> None:
    """Sources that name nobody, or cannot be read, are no mistake."""
    empty = tmp_path / "a.json"
    empty.write_text("[]")
    done = check(FILE_SD=str(empty), HTTP_SD_URL="http://127.0.0.1:1/?token=secret")
    assert done.returncode == 0, done.stderr
    assert f"discovered: 0 targets from {empty}\n" in done.stdout
    assert (
        "discovered: 0 targets from http://127.0.0.1:1/, which cannot be read now\n" in done.stdout
    )
    assert "Connection refused; what was named before stays" in done.stderr
    assert "secret" not in done.stdout + done.stderr

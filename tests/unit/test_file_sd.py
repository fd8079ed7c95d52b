"""Lists in files: what is seen of a change, and what stays when a file cannot be read."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter.discovery import files
from exporter.discovery.files import MAX_FILES, FileWatch, Seen, looked
from exporter.model import Target
from exporter.settings import FileSource, Listed


class Words:
    """Lists of host names, one a line; "?" is half a list. Counts what it reads."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def of_file(self, path: Path) -> Listed:
        """The hosts in a file."""
        self.read.append(path.name)
        try:
            words = path.read_text().split()
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None
        if "?" in words:
            raise ValueError(f"{path} is half a list")
        hosts = [word for word in words if word != "-"]
        return Listed(tuple(Target(host, host, 1) for host in hosts), words.count("-"))

    def of_answer(self, body: bytes, name: str) -> Listed:
        """Nobody answers here."""
        raise NotImplementedError


class Folder:
    """What one source sees of a folder, look by look."""

    def __init__(self, path: Path, pattern: str) -> None:
        self.path = path
        self.lists = Words()
        self._pattern = path / pattern
        self._seen: Mapping[Path, Seen] = {}

    def look(self, *, anew: bool = False) -> str:
        """The hosts that the files name now."""
        self._seen = looked(self._pattern, self._seen, self.lists, anew=anew)
        return " ".join(t.host for seen in self._seen.values() for t in seen.listed.targets)

    @property
    def failures(self) -> list[str]:
        """Why files could not be read."""
        return [seen.failure for seen in self._seen.values() if seen.failure]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder without files, and a source of all that end in .json."""
    return Folder(tmp_path, "*.json")


def test_what_is_written_in_place_is_seen(folder: Folder) -> None:
    """A file that appears and one that changes are read at the next look, and not again."""
    path = folder.path / "a.json"
    assert folder.look() == ""
    path.write_text("h1")
    assert folder.look() == "h1"
    path.write_text("h1 h2")
    assert folder.look() == "h1 h2"
    assert folder.look() == "h1 h2"
    assert len(folder.lists.read) == 2


def test_what_is_renamed_over_is_seen(folder: Folder) -> None:
    """A file that takes the name of another one is read, of whatever size and age it is."""
    path, other = folder.path / "a.json", folder.path / "b.new"
    path.write_text("h1")
    assert folder.look() == "h1"
    other.write_text("h2")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    assert folder.look() == "h2"


def test_a_link_that_leads_elsewhere_is_seen(folder: Folder) -> None:
    """A ConfigMap of Kubernetes is changed by one link, that of its folder ..data."""
    for number in ("1", "2"):
        (folder.path / f"..{number}").mkdir()
        (folder.path / f"..{number}" / "a.json").write_text(f"h{number}")
    data = folder.path / "..data"
    data.symlink_to("..1")
    (folder.path / "a.json").symlink_to("..data/a.json")
    assert folder.look() == "h1"
    (folder.path / "..tmp").symlink_to("..2")
    (folder.path / "..tmp").replace(data)
    assert folder.look() == "h2"


def test_a_time_that_is_put_back_hides_nothing(folder: Folder) -> None:
    """The same size and time of writing as before do not make it the same file."""
    path = folder.path / "a.json"
    path.write_text("h1")
    before = path.stat()
    assert folder.look() == "h1"
    path.write_text("h2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert folder.look() == "h2"


def test_half_a_list_leaves_what_was_named_before(folder: Folder) -> None:
    """A file that is being written keeps its targets, and is read when it is whole."""
    path = folder.path / "a.json"
    path.write_text("h1")
    assert folder.look() == "h1"
    path.write_text("h2 ?")
    assert folder.look() == "h1"
    assert folder.failures == [f"{path} is half a list"]
    path.write_text("h2 h3")
    assert folder.look() == "h2 h3"
    assert folder.failures == []


def test_a_file_that_has_gone_takes_its_targets_with_it(folder: Folder) -> None:
    """They go at the second look that misses it; the other files' stay."""
    for name in ("a", "b"):
        (folder.path / f"{name}.json").write_text(name)
    assert folder.look() == "a b"
    (folder.path / "a.json").unlink()
    assert folder.look() == "a b"
    assert folder.look() == "b"
    (folder.path / "a.json").write_text("a2")
    assert folder.look() == "a2 b"


def test_a_file_that_is_replaced_step_by_step_is_not_missed(folder: Folder) -> None:
    """A writer that removes the old file first takes no target away between two looks."""
    path = folder.path / "a.json"
    path.write_text("h1")
    assert folder.look() == "h1"
    path.unlink()
    assert folder.look() == "h1"
    path.write_text("h1 h2")
    assert folder.look() == "h1 h2"
    path.unlink()
    assert folder.look() == "h1 h2"


def test_a_link_to_nowhere_leaves_what_was_named_before(folder: Folder) -> None:
    """A name that stands while its file is missing is a failure, not an empty list."""
    path, real = folder.path / "a.json", folder.path / "real"
    real.write_text("h1")
    path.symlink_to(real)
    assert folder.look() == "h1"
    real.unlink()
    assert [folder.look(), folder.look()] == ["h1", "h1"]
    assert folder.failures == [f"{path} cannot be read: No such file or directory"]


def test_everything_is_read_now_and_then(folder: Folder) -> None:
    """What looks unchanged is read all the same when it is time."""
    (folder.path / "a.json").write_text("h1")
    folder.look()
    folder.look(anew=True)
    assert folder.lists.read == ["a.json", "a.json"]


def test_a_star_stands_for_anything_and_other_characters_for_themselves(tmp_path: Path) -> None:
    """Files come in the order of their names, and a bracket or a dot is no pattern."""
    for name in ("t-b.json", "t-a.json", "t-.json", "u-a.json", "t-aXjson", "t-[c].json"):
        (tmp_path / name).write_text(name)
    assert Folder(tmp_path, "t-*.json").look() == "t-.json t-[c].json t-a.json t-b.json"
    assert Folder(tmp_path, "t-[c].json").look() == "t-[c].json"


def test_there_is_an_end_to_the_files(folder: Folder) -> None:
    """Of very many files the first by name are read."""
    for number in range(MAX_FILES + 1):
        (folder.path / f"{number:03}.json").write_text(f"h{number}")
    assert len(folder.look().split()) == MAX_FILES


# -- as a watch --------------------------------------------------------------------------


def watch(path: Path, lists: Words, refresh_interval: float = 300.0) -> FileWatch:
    """A watch of one source."""
    return FileWatch(FileSource(str(path), refresh_interval), lists)


def test_a_folder_that_cannot_be_listed_takes_nothing_away(tmp_path: Path) -> None:
    """A mount that has gone says nothing about the files in it."""
    folder = tmp_path / "sd"
    folder.mkdir()
    (folder / "a.json").write_text("h1 -")
    seen = watch(folder / "*.json", Words())
    asyncio.run(seen.look())
    assert (len(seen.found.targets), seen.found.left_out, seen.found.failure) == (1, 1, "")
    folder.rename(tmp_path / "elsewhere")
    for _ in range(3):
        asyncio.run(seen.look())
        assert (len(seen.found.targets), seen.found.failure) == (
            1,
            f"{folder}: No such file or directory",
        )


def test_a_path_without_a_star_has_to_exist(tmp_path: Path) -> None:
    """A single file that is missing is a failure; no file of a pattern is none."""
    one, many = watch(tmp_path / "a.json", Words()), watch(tmp_path / "*.json", Words())
    for seen in (one, many):
        asyncio.run(seen.look())
    assert one.found.failure == f"{tmp_path / 'a.json'} does not exist"
    assert one.found.status("a").successful is False
    assert many.found.failure == ""


def test_the_interval_says_when_everything_is_read(tmp_path: Path) -> None:
    """The first look reads all, and so does each that comes an interval later."""
    (tmp_path / "a.json").write_text("h1")

    async def reads(refresh_interval: float) -> int:
        lists = Words()
        seen = watch(tmp_path / "a.json", lists, refresh_interval)
        for _ in range(3):
            await seen.look()
        return len(lists.read)

    assert asyncio.run(reads(300.0)) == 1
    assert asyncio.run(reads(0.0)) == 3


def test_a_new_watch_knows_what_the_old_one_has_seen(tmp_path: Path) -> None:
    """A reload that finds half a list leaves what was named before it."""
    path = tmp_path / "a.json"
    path.write_text("h1")
    lists = Words()
    old = watch(path, lists)
    asyncio.run(old.look())
    path.write_text("?")
    new = FileWatch(FileSource(str(path), 300.0), lists, old)
    asyncio.run(new.look())
    assert [target.host for target in new.found.targets] == ["h1"]
    assert new.found.failure == f"{path} is half a list"


def test_files_are_looked_at_often() -> None:
    """A change is seen within seconds."""
    assert FileWatch.pause == files.POLL <= 5

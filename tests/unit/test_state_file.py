"""The state file: whole or not at all, and never a reason to stop."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.model import Observation
from exporter.state import file
from exporter.state.file import MAX_BYTES, MAX_TARGET_BYTES, MAX_TARGETS, StateFile, read, write
from exporter.state.kept import keep
from exporter.store import Record, Store
from tests.unit import samples

OPEN, FILTERED = samples.opened(), replace(samples.filtered(), target=samples.opened().target)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file in a folder of its own."""
    return tmp_path / "state.json"


def record_of(store: Store) -> Record:
    """The record of the one target."""
    record = store.get(OPEN.target.name)
    assert record
    return record


def written(path: Path, *observations: Observation) -> None:
    """Write what a store remembers of them."""
    write(path, [keep(record) for record in samples.store(*observations)])


def load(path: Path) -> Store:
    """A new process's store, with what the file has kept."""
    store = samples.store(waiting=[OPEN.target, samples.target("other")])
    asyncio.run(StateFile(path, store).load(lambda _: {}))
    return store


# -- writing ---------------------------------------------------------------------------


def test_what_is_written_is_read(path: Path) -> None:
    """The next process has the memory of the one before."""
    written(path, OPEN, FILTERED)
    record = record_of(load(path))
    assert record.last_good
    assert record.first_bad
    assert [phase.state.value for phase in record.history.phases] == ["open", "filtered"]
    assert record.latest is None


def test_it_is_one_json_object_of_its_owner(path: Path) -> None:
    """Any tool can read it, if its owner's; nobody else can."""
    written(path, OPEN)
    document = json.loads(path.read_text(encoding="ascii"))
    assert (document["version"], document["targets"][0]["name"]) == (1, "web")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_moved_target_begins_anew(path: Path) -> None:
    """Name, host and port together are the key."""
    written(path, replace(OPEN, target=replace(OPEN.target, port=80)))
    assert record_of(load(path)).last_good is None


def test_a_removed_target_is_forgotten_with_the_next_writing(path: Path) -> None:
    """The file holds the targets of the configuration and no others."""
    written(path, OPEN)
    written(path)
    assert json.loads(path.read_text())["targets"] == []


def test_a_failed_writing_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk takes neither the file nor leaves half a one beside it."""
    written(path, OPEN)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        written(path, OPEN, FILTERED)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_what_an_interrupted_writing_left_is_no_obstacle(path: Path) -> None:
    """Neither a half-written file nor a link that somebody has laid in its place."""
    trap = path.parent / "trap"
    trap.write_text("untouched")
    path.with_name(".state.json.new").symlink_to(trap)
    written(path, OPEN)
    assert trap.read_text() == "untouched"
    assert json.loads(path.read_text())["targets"]


def test_a_full_file_can_be_read_again() -> None:
    """What may be written is less than what may be read."""
    assert MAX_TARGETS * (MAX_TARGET_BYTES + 2) + 1_000 < MAX_BYTES


def test_no_more_targets_than_may_be_read_are_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those beyond the limit begin anew."""
    monkeypatch.setattr(file, "MAX_TARGETS", 2)
    written(path, *(samples.opened(name) for name in "abc"))
    found, problems = read(path)
    assert ([name for name, _, _ in found], problems) == (["a", "b"], [])


# -- reading ---------------------------------------------------------------------------


def test_no_file_is_fine(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first start has none, and says nothing."""
    load(path)
    assert caplog.messages == []
    assert not path.exists()


def a_pipe(path: Path) -> None:
    """Nobody writes into it."""
    os.mkfifo(path)


def a_large_file(path: Path) -> None:
    """A byte more than is read; a hole takes no room on the disk."""
    with path.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)


NO_JSON = "is no JSON"
NO_STATE = "holds no state of this program in version 1"
NO_LIST = "has no list of at most 2,000 targets"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", NO_JSON),
        ("{", NO_JSON),
        ('{"version": NaN}', NO_JSON),
        ("[" * 100_000, NO_JSON),
        ('{"version": 1' + "0" * 5_000 + "}", NO_JSON),
        ("[]", NO_STATE),
        ('{"version": 2, "targets": []}', NO_STATE),
        ('{"targets": []}', NO_STATE),
        ('{"version": 1}', NO_LIST),
        ('{"version": 1, "targets": {}}', NO_LIST),
        (f'{{"version": 1, "targets": [{"0," * 2_000}0]}}', NO_LIST),
    ],
    ids=range(11),
)
def test_content_that_cannot_be_used_is_one_warning(
    path: Path, content: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning names the file and what is wrong; the program begins without, the file stays."""
    path.write_text(content)
    store = load(path)
    assert caplog.messages == [f"the state file {path} is not used: it {words}"]
    assert record_of(store).history.phases == ()
    assert path.read_text() == content


@pytest.mark.parametrize("make", [Path.mkdir, a_pipe, a_large_file])
def test_what_is_no_ordinary_file_is_one_warning(
    path: Path, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """A directory, a pipe that nobody writes into, a file as large as a disk."""
    make(path)
    load(path)
    words = "is no regular file of at most 64 MiB"
    assert caplog.messages == [f"the state file {path} is not used: it {words}"]


def test_a_file_that_is_no_text_is_refused(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that are no UTF-8 are no JSON."""
    path.write_bytes(b'{"version": 1, "targets": ["\xff"]}')
    load(path)
    assert caplog.messages == [f"the state file {path} is not used: it is no JSON"]


def test_a_truncated_file_is_refused_wherever_it_ends(path: Path) -> None:
    """No part of a state is taken for the whole."""
    written(path, OPEN, FILTERED)
    content = path.read_bytes().rstrip(b"\n")
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="is no JSON"):
            read(path)


def test_targets_that_cannot_be_read_begin_anew(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The others keep their state, and one warning says how many and what the first one lacks."""
    written(path, OPEN, samples.filtered("other"))
    document = json.loads(path.read_text())
    document["targets"][1]["port"] = 0.5
    document["targets"].append({"name": "third"})
    path.write_text(json.dumps(document))
    assert record_of(load(path)).last_good
    first = "targets[1]: something in it is no whole number from 0 to 65535"
    assert caplog.messages == [
        f"the state file {path}: 2 targets cannot be read and begin anew; the first: {first}"
    ]


# -- while the program runs ------------------------------------------------------------


async def kept(path: Path, store: Store, during: Callable[[], None]) -> StateFile:
    """Keep a store in the file, do something after the start, and end."""
    stopping = asyncio.Event()
    store.state_file_written = None
    state_file = StateFile(path, store, pause=0.001)
    await state_file.load(lambda _: {})
    state_file.start(stopping)
    await written_once(store)
    during()
    stopping.set()
    await state_file.end()
    return state_file


async def written_once(store: Store) -> None:
    """Wait until a writing has succeeded or failed."""
    while store.state_file_written is None:  # noqa: ASYNC110  -- a thread writes
        await asyncio.sleep(0.001)


def test_it_is_written_now_and_then_and_at_the_end(path: Path) -> None:
    """What is seen last is in the file when the program has ended."""
    store = samples.store(OPEN)
    asyncio.run(kept(path, store, lambda: void(store.add(FILTERED))))
    assert record_of(load(path)).first_bad
    assert store.state_file_written is True


def void(_: object) -> None:
    """Nothing."""


def test_a_folder_that_is_not_there_is_told_at_the_start_and_at_the_first_writing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two warnings, however often it fails; and a line when it works again."""
    caplog.set_level(logging.INFO)
    path = path.parent / "later" / "state.json"
    store = samples.store(OPEN)
    asyncio.run(kept(path, store, path.parent.mkdir))
    assert caplog.messages == [
        f"the state file {path} cannot be written: No such file or directory",
        f"the state file {path} was not written: No such file or directory",
        f"the state file {path} is written again",
    ]
    assert store.state_file_written is True
    assert read(path)[0]


def test_a_disk_that_hangs_does_not_keep_the_program(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The end waits for the last writing as long as it can, and says that it gave up."""
    monkeypatch.setattr(file, "END_PATIENCE", 0.01)
    reading, writing = os.pipe()

    def hang(_: int) -> None:
        os.read(reading, 1)

    async def end() -> None:
        stopping = asyncio.Event()
        state_file = StateFile(path, samples.store(OPEN))
        monkeypatch.setattr(os, "fsync", hang)
        state_file.start(stopping)
        stopping.set()
        await state_file.end()

    try:
        asyncio.run(end())
    finally:
        os.close(writing)
    assert caplog.messages == [f"the state file {path} was not written: it takes too long"]

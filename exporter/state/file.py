"""The state file: read once at the start, written now and then and at the end.

1. Nothing that the file holds, or that happens to it, ends the program. What cannot be used is one
   warning in the log, and the program begins without; the file stays as it is until the next
   writing replaces it.
2. It is written at most every PAUSE seconds, to a new file beside it that then takes its name
   (rename(2)): whoever reads it, or is interrupted, has the old one or the new one, whole.
3. Reading, coding and writing happen in a thread: a large file or a slow disk delays no probe. As
   the thread is a daemon, a disk that hangs does not keep the process from ending.
4. At most MAX_TARGETS targets of MAX_TARGET_BYTES are written, which is less than MAX_BYTES, the
   most that is read. A target that needs more loses the traces of its further addresses first.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NoReturn, TypeVar

from exporter.state.coding import decoded, encoded
from exporter.state.kept import Kept, PlacesOf, keep, restore
from exporter.store import Record, Store

log = logging.getLogger(__name__)

T = TypeVar("T")

VERSION = 1
#: Seconds between two writings.
PAUSE = 60.0
#: How long the end of the program waits for the last one.
END_PATIENCE = 3.0
MAX_BYTES = 64 << 20
MAX_TARGETS = 2_000
MAX_TARGET_BYTES = 32_000
#: So many addresses of a target are written, or fewer where that takes too much room.
ADDRESSES = (8, 1, 0)

#: Name, host and port: a target that has moved begins anew.
Key = tuple[str, str, int]


class StateFile:
    """Keeps a store's memory in a file."""

    def __init__(self, path: Path, store: Store, pause: float = PAUSE) -> None:
        self._path = path
        self._store = store
        self._pause = pause
        self._failing = False

    async def load(self, places_of: PlacesOf) -> None:
        """Give the records of the store what the file has kept of them."""
        if problem := await _in_thread(lambda: _problem(lambda: _try_beside(self._path))):
            log.warning("the state file %s cannot be written: %s", self._path, problem)
        try:
            found, problems = await _in_thread(lambda: read(self._path))
        except ValueError as error:
            log.warning("the state file %s is not used: it %s", self._path, error)
            return
        if problems:
            log.warning(
                "the state file %s: %d targets cannot be read and begin anew; the first: %s",
                self._path,
                len(problems),
                problems[0],
            )
        for record in self._store:
            if kept := found.get(_key(record)):
                restore(record, kept, places_of)

    def start(self, stopping: asyncio.Event) -> None:
        """Write the file now and then, and once more when the program stops."""
        self._keeping = asyncio.create_task(self._keep(stopping))

    async def end(self) -> None:
        """Wait for the last writing, as long as the end of the program can wait."""
        try:
            async with asyncio.timeout(END_PATIENCE):
                await self._keeping
        except TimeoutError:
            log.warning("the state file %s was not written: it takes too long", self._path)

    async def _keep(self, stopping: asyncio.Event) -> None:
        ended = False
        while not ended:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause):
                    await stopping.wait()
            ended = stopping.is_set()
            await self._save()

    async def _save(self) -> None:
        """Write the file, and say when that begins to fail, or succeeds again."""
        kept = [keep(record) for record in self._store]
        problem = await _in_thread(lambda: _problem(lambda: write(self._path, kept)))
        self._store.state_file_written = not problem
        if problem and not self._failing:
            log.warning("the state file %s was not written: %s", self._path, problem)
        elif self._failing and not problem:
            log.info("the state file %s is written again", self._path)
        self._failing = bool(problem)


def read(path: Path) -> tuple[dict[Key, Kept], list[str]]:
    """What the file keeps, and a line for each target in it that cannot be read.

    No file is an empty one. Raises ValueError with a predicate of the file.
    """
    content = _content(path)
    if content is None:
        return {}, []
    found: dict[Key, Kept] = {}
    problems = []
    for number, one in enumerate(_targets(content)):
        try:
            kept = decoded(one)
        except KeyError as error:
            problems.append(f"targets[{number}] has no {error}")
        except (ValueError, TypeError) as error:
            problems.append(f"targets[{number}]: something in it {error}")
        else:
            found[kept.target.name, kept.target.host, kept.target.port] = kept
    return found, problems


def write(path: Path, kept: Iterable[Kept]) -> None:
    """Replace the file. Raises OSError."""
    texts = filter(None, map(text_of, islice(kept, MAX_TARGETS)))
    beside = _beside(path)
    descriptor = _create(beside)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            # One after the other: all of them together take as much memory as they do on disk.
            stream.write(f'{{"version":{VERSION},"targets":[\n{next(texts, "")}')
            stream.writelines(f",\n{text}" for text in texts)
            stream.write("\n]}\n")
            stream.flush()
            # Before the rename, or a crash of the host could leave an empty file.
            os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def text_of(kept: Kept) -> str:
    """A target in JSON, with as many of its addresses as there is room for; "" for not even one."""
    for most in ADDRESSES:
        text = json.dumps(encoded(kept, most), separators=(",", ":"))
        if len(text) <= MAX_TARGET_BYTES:
            return text
    return ""


def _key(record: Record) -> Key:
    target = record.target
    return target.name, target.host, target.port


# -- reading -----------------------------------------------------------------------------


def _content(path: Path) -> bytes | None:
    """What the file holds, None when there is none; raises ValueError with a predicate."""
    try:
        found = path.stat()
        # Nothing else is opened: to open a pipe would wait for its writer.
        content = path.read_bytes() if _is_ordinary(found) else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if content is None:
        raise ValueError(f"is no regular file of at most {MAX_BYTES >> 20} MiB")
    return content


def _is_ordinary(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_size <= MAX_BYTES


def _targets(content: bytes) -> Sequence[object]:
    """The entries of the file; raises ValueError with a predicate."""
    try:
        document = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ValueError("is no JSON") from None
    of = document if isinstance(document, dict) else {}
    if of.get("version") != VERSION:
        raise ValueError(f"holds no state of this program in version {VERSION}")
    targets = of.get("targets")
    if not isinstance(targets, list) or len(targets) > MAX_TARGETS:
        raise ValueError(f"has no list of at most {MAX_TARGETS:,} targets")
    return targets


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


# -- writing -----------------------------------------------------------------------------


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _create(path: Path) -> int:
    """A new file that is its owner's alone; what an interrupted writing has left goes first."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _try_beside(path: Path) -> None:
    """Raise OSError where no file can be made beside this one."""
    os.close(_create(_beside(path)))
    _beside(path).unlink()


def _problem(work: Callable[[], None]) -> str:
    """Why the work failed, "" when it did not."""
    try:
        work()
    except OSError as error:
        return error.strerror or str(error)
    return ""


async def _in_thread(work: Callable[[], T]) -> T:
    """The result of work that blocks, or what it raises; see 3 above."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001  -- goes to whoever awaits the future
            error = raised
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="state file", daemon=True).start()
    return await future

"""Lists in files (Prometheus' file_sd): looked at often, read when they have changed.

1. Every POLL seconds each file is asked for its identity, size and times. That sees what writes in
   place, what renames over it, and a symbolic link that leads elsewhere, as in a ConfigMap of
   Kubernetes; and it works on file systems that notify nobody, where inotify(7) does not.
2. A file that cannot be read, or is no list, keeps what it has named before. It is read again when
   it changes, so one that is only half written is a matter of seconds; and every
   `refresh_interval` whether it seems to have changed or not.
3. A file that has gone takes its targets with it, at the second look that misses it: some writers
   remove the old file before the new one stands. A folder that cannot be listed has no say in it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from exporter.discovery.watch import Found
from exporter.settings import FileSource, Listed, Lists

POLL = 5.0
#: Of one source.
MAX_FILES = 100

#: What differs once a file has been written, replaced, or given to somebody else.
Signature = tuple[int, ...]

NOTHING = Listed()


@dataclass(frozen=True, slots=True)
class Seen:
    """What the last look has shown of one file, and its last good list.

    `signature` is None where there is no regular file to be read.
    """

    signature: Signature | None = None
    listed: Listed = NOTHING
    failure: str = ""
    missing: bool = False


class FileWatch:
    """Watches the files of one source; `before` is what an earlier watch of it has seen."""

    pause = POLL

    def __init__(self, source: FileSource, lists: Lists, before: FileWatch | None = None) -> None:
        self.name = source.name
        self.found: Found = before.found if before else Found()
        self._seen: Mapping[Path, Seen] = before._seen if before else {}  # noqa: SLF001
        self._pattern = Path(source.name)
        self._lists = lists
        self._refresh_interval = source.refresh_interval
        self._read_all_at = 0.0

    async def look(self) -> None:
        """Read what has changed, or everything when it is time."""
        now = asyncio.get_running_loop().time()
        anew = now >= self._read_all_at
        if anew:
            self._read_all_at = now + self._refresh_interval
        try:
            # In a thread: a list may be long, and a file system slow.
            self._seen = await asyncio.to_thread(
                looked, self._pattern, self._seen, self._lists, anew=anew
            )
        except OSError as error:
            self.found = self.found.failed(f"{self._pattern.parent}: {error.strerror}")
        else:
            self.found = _together(self._pattern, self._seen)


def looked(
    pattern: Path, before: Mapping[Path, Seen], lists: Lists, *, anew: bool
) -> dict[Path, Seen]:
    """What is to be seen of the files now; raises OSError when the folder cannot be listed."""
    paths = _matching(pattern)
    gone = {
        path: replace(seen, missing=True)
        for path, seen in before.items()
        if path not in paths and not seen.missing
    }
    here = {path: _read(path, before.get(path, Seen()), lists, anew=anew) for path in paths}
    return dict(sorted((gone | here).items()))


def _matching(pattern: Path) -> list[Path]:
    """The files that the last part of the pattern means, in order."""
    words = map(re.escape, pattern.name.split("*"))
    name = re.compile(".*".join(words), re.DOTALL)
    return sorted(path for path in pattern.parent.iterdir() if name.fullmatch(path.name))[
        :MAX_FILES
    ]


def _read(path: Path, before: Seen, lists: Lists, *, anew: bool) -> Seen:
    signature = _signature(path)
    if signature == before.signature and not anew:
        return replace(before, missing=False)
    try:
        return Seen(signature, lists.of_file(path))
    except ValueError as error:
        return Seen(signature, before.listed, str(error))


def _signature(path: Path) -> Signature | None:
    try:
        found = path.stat()
    except OSError:
        return None
    # The time of the last change of its permissions or its name as well (st_ctime).
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _together(pattern: Path, seen: Mapping[Path, Seen]) -> Found:
    """What all files of a source name."""
    lists = [one.listed for one in seen.values()]
    return Found(
        targets=tuple(target for listed in lists for target in listed.targets),
        left_out=sum(listed.left_out for listed in lists),
        problems=tuple(line for listed in lists for line in listed.problems),
        failure="; ".join(_failures(pattern, seen)),
    )


def _failures(pattern: Path, seen: Mapping[Path, Seen]) -> Iterator[str]:
    if "*" not in pattern.name and all(one.missing for one in seen.values()):
        yield f"{pattern} does not exist"
    yield from (one.failure for one in seen.values() if one.failure)

"""Files that configuration may come from: regular ones, of bounded size."""

from __future__ import annotations

import stat
from pathlib import Path

MAX_FILE_BYTES = 1 << 20


def content(path: str | Path, maximum: int = MAX_FILE_BYTES) -> bytes:
    """What a file holds; raises ValueError with a predicate, e.g. "cannot be read: ..."."""
    try:
        mode = Path(path).stat().st_mode
        # A pipe would block, and could not be read again on a reload.
        found = _head(path, maximum) if stat.S_ISREG(mode) else None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"cannot be read: {reason}") from None
    if found is None:
        kind = "directory" if stat.S_ISDIR(mode) else "special file"
        raise ValueError(f"is a {kind}; it should be a regular file")
    if len(found) > maximum:
        raise ValueError(f"is too large; it should have at most {maximum:,} bytes")
    return found


def _head(path: str | Path, maximum: int) -> bytes:
    with Path(path).open("rb") as stream:
        return stream.read(maximum + 1)

"""A long run: python -m tests.fuzz [COUNT [SEED]], by default a million and a new seed."""

# ruff: noqa: T201  -- a program with a person in front of it

from __future__ import annotations

import secrets
import sys
import time

from tests.fuzz import run


def main(count: int = 1_000_000, seed: int | None = None) -> None:
    """Run and say what came of it; a failure is a traceback that has the seed above it."""
    seed = secrets.randbelow(2**32) if seed is None else seed
    print(f"seed {seed}, {count} packets", flush=True)
    began = time.monotonic()
    results = run(seed, count)
    print(f"{time.monotonic() - began:.1f} s:", dict(results))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""`python -m tests.browser` makes the pictures in docs/screenshots; see `pictures`."""

from __future__ import annotations

from tests.browser.pictures import main

if __name__ == "__main__":
    main()

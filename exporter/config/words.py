"""Words for people: how a mistake names its place and quotes what is wrong there.

Every line is "PLACE: VALUE PREDICATE", e.g. "PORT: '80a' should be a whole number ...". Validators
raise ValueError with the predicate; whoever catches it knows the place and the value.
"""

from __future__ import annotations

from collections.abc import Callable

#: Where a value stands among nested ones, e.g. ("targets", 2, "port").
Where = tuple[str | int, ...]
#: What an error line calls such a place, e.g. "targets.yml line 9: targets[2].port".
Place = Callable[[Where], str]

#: So many characters of a wrong value or an unknown key are shown.
MAX_SHOWN = 80
#: So many characters of an error line.
MAX_LINE = 500


def dotted(where: Where) -> str:
    """("targets", 2, "port") as targets[2].port."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step[:MAX_SHOWN]}" for step in where)
    return "".join(steps).removeprefix(".")


def shown(value: object) -> str:
    """A value as an error line quotes it: short, and without what stands before an @."""
    if isinstance(value, str):
        # No right value has an @ in it; one in https://user:password@host ends a secret.
        _, at, end = value.rpartition("@")
        text = f"***@{end}" if at else value
        return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")
    if isinstance(value, int):  # inherited, and judged before
        return str(value)
    kinds = {"dict": "a mapping", "list": "a list"}
    return kinds.get(type(value).__name__, "an empty value")


def one_line(text: str) -> str:
    """The text as far as MAX_LINE, with escapes for what does not print, such as line breaks."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in text[:MAX_LINE]
    )

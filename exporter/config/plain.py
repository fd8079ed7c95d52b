"""JSON that a platform hands over, as dicts, lists and texts.

As with the YAML file no scalar is interpreted: numbers and booleans are text as written, null and
an empty text are unset. Nothing of the JSON is ever part of an error: it may hold secrets.
"""

from __future__ import annotations

import json

from exporter.config.files import MAX_FILE_BYTES

#: Levels of JSON that are looked at, what is deeper counts as unset; and levels of a YAML file,
#: where the deepest that means something, targets[0].labels.team, is the 5th.
MAX_NESTING = 16


def plain_json(text: str) -> object:
    """The JSON in a text; raises ValueError with a predicate."""
    if len(text) > MAX_FILE_BYTES:
        raise ValueError(f"is too large; it should have at most {MAX_FILE_BYTES:,} bytes")
    try:
        value = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"cannot be read as JSON, from {where} on") from None
    except RecursionError:
        raise ValueError("cannot be read as JSON: too many levels") from None
    return _plain(value, MAX_NESTING)


def _plain(value: object, levels: int) -> object:
    """`value` with texts for its scalars, None for what is unset."""
    if isinstance(value, bool):
        return str(value).lower()
    if not levels or not value:
        return None
    if isinstance(value, list):
        return [_plain(item, levels - 1) for item in value]
    if isinstance(value, dict):
        inner = {key: _plain(item, levels - 1) for key, item in value.items()}
        return {key: item for key, item in inner.items() if item is not None}
    return value

r"""Format results as text or JSON, and write them to stdout."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import datetime
import json
import math
import sys
from typing import Any
import warnings

import audmodel
from audmodel.core.units import size as size


_SHOWN = 200


def write(text: str) -> None:
    r"""Write to stdout, and flush.

    Args:
        text: text, in which bytes of paths are kept

    Raises:
        OSError: if it cannot be written

    """
    stream = sys.stdout
    buffer = getattr(stream, "buffer", None)
    if buffer is None:  # replaced by a program that calls main()
        stream.write(text)
        return
    try:
        content = text.encode(stream.encoding, "surrogateescape")
    except UnicodeEncodeError:
        content = text.encode(stream.encoding, "backslashreplace")
    buffer.write(content)
    buffer.flush()


def is_utf8() -> bool:
    r"""Whether any character can be written to stdout."""
    encoding = sys.stdout.encoding or "utf-8"
    return codecs.lookup(encoding).name == "utf-8"


def to_json(data: object) -> str:
    r"""JSON of the result of a command.

    Returns:
        one line per value, in ASCII.
        Values that JSON does not have are texts, NaN and infinity as well

    """
    return json.dumps(_plain(data), indent=2, allow_nan=False)


def record(value: Any) -> dict[str, Any]:
    r"""Fields of a record."""
    names = [field.name for field in dataclasses.fields(value)]
    return {name: getattr(value, name) for name in names}


def _plain(value: Any) -> Any:
    r"""Value made of types that JSON has."""
    if isinstance(value, audmodel.Repository):
        return value.name
    if dataclasses.is_dataclass(value):
        return _plain(record(value))
    if isinstance(value, Mapping):
        return dict(zip(_names(list(value)), map(_plain, value.values()), strict=True))
    if isinstance(value, set | frozenset):
        return sorted((_plain(item) for item in value), key=repr)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    # Times, paths, and numbers that JSON does not have
    return value if isinstance(value, str | int | float | None) else str(value)


def _names(keys: list[Any]) -> list[str]:
    r"""Texts of the keys of a dictionary, as different as the keys."""
    names = list(map(str, keys))
    if len(set(names)) == len(names):
        return names
    names = list(map(repr, keys))
    shown = ", ".join(names)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    warnings.warn(
        "Keys of a dictionary have to be texts in JSON, and some of these "
        f"would be the same text. They are written as in Python: {shown}",
        stacklevel=2,
    )
    return names


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    r"""Columns next to each other, without line break at the end."""
    shown = [[printable(str(value)) for value in row] for row in rows]
    if not shown:
        return ""
    lines = [[title.upper() for title in titles], *shown]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip()
        for line in lines
    )


def fields(values: Mapping[str, object]) -> str:
    r"""Names and values below each other, without line break at the end."""
    width = max(map(len, values))
    return "\n".join(
        f"{name:{width}}  {printable(str(value))}".rstrip()
        for name, value in values.items()
    )


def printable(text: str) -> str:
    r"""Text without characters that control the terminal.

    Names, authors and messages may come from other users.
    """
    return "".join(
        character if character.isprintable() else repr(character)[1:-1]
        for character in text
    )


def printable_lines(text: str) -> str:
    r"""Lines without characters that control the terminal, see :func:`printable`."""
    return "\n".join(map(printable, text.split("\n")))

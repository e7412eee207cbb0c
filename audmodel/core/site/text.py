r"""Values of records as text that people can read, and that cannot deceive them."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


# Characters of a value, and rows of a table, that a page shows
MAX_TEXT = 2_000
MAX_ROWS = 500

_LINKS = ("http", "https", "mailto")
# They change the order in which other characters are shown
_DIRECTIONS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


def visible(value: object, limit: int = MAX_TEXT, *, keep: str = "") -> str:
    r"""Text in which each character is seen.

    Characters that are not printed, or change the order of others,
    are shown as in Python.

    Args:
        value: any value
        limit: characters of a text that are shown
        keep: other characters that stay as they are

    """
    text = str(value)
    rest = len(text) - limit
    shown = "".join(
        character if character in keep else _visible(character)
        for character in text[:limit]
    )
    return shown if rest <= 0 else f"{shown} … ({rest:,} more characters)"


def _visible(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


def prose(text: str) -> str:
    r"""Lines of text without characters that control how others are shown."""
    return "".join(
        _visible(character)
        if character in _DIRECTIONS or _is_control(character)
        else character
        for character in text.replace("\r\n", "\n")
    )


def _is_control(character: str) -> bool:
    code = ord(character)
    is_surrogate = 0xD800 <= code < 0xE000
    return (
        is_surrogate or 0x7F <= code < 0xA0 or (code < 0x20 and character not in "\n\t")
    )


def is_link(url: str) -> bool:
    r"""Whether a page may link to a URL."""
    if len(url) > MAX_TEXT or " " in url or not url.isprintable():
        return False
    try:
        return urlsplit(url).scheme.lower() in _LINKS
    except ValueError:
        return False


def flat(values: Mapping[Any, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    r"""Values of nested dictionaries.

    Args:
        values: dictionary of plain data

    Yields:
        keys that lead to a value, and its text

    """
    todo: list[tuple[tuple[str, ...], Any]] = [((), values)] if values else []
    while todo:
        keys, value = todo.pop()
        if isinstance(value, Mapping) and value:
            inner = [((*keys, visible(key, 200)), value[key]) for key in value]
            todo += reversed(inner)
        else:
            yield keys, visible(value, keep="\n")

r"""Files of a model that a user asks for."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Sequence
from fnmatch import fnmatchcase

from audmodel.core.errors import FileNotInModelError
from audmodel.core.errors import InvalidInputError


# Names that an error lists
_SHOWN = 10


def check_patterns(files: str | Iterable[str]) -> tuple[str, ...]:
    r"""Patterns that a user gave.

    Raises:
        TypeError: if a pattern is not a string
        InvalidInputError: if there is no pattern, or an empty one

    """
    patterns = strings(files, "files")
    if not patterns or not all(patterns):
        raise InvalidInputError(
            "'files' must hold at least one pattern, and no empty one. "
            "Leave it out to load the whole model."
        )
    return patterns


def strings(patterns: str | Iterable[str], what: str) -> tuple[str, ...]:
    r"""One or several patterns as a tuple.

    Args:
        patterns: pattern or patterns that a user gave
        what: name of the argument, for messages

    Raises:
        TypeError: if a pattern is not a string

    """
    if isinstance(patterns, str):
        return (patterns,)
    if not isinstance(patterns, Iterable) or isinstance(patterns, bytes | dict):
        raise TypeError(
            f"'{what}' has to be a pattern or a list of patterns, "
            f"not {type(patterns).__name__}."
        )
    found = tuple(patterns)
    for pattern in found:
        if not isinstance(pattern, str):
            raise TypeError(
                f"A pattern in '{what}' has to be a string, "
                f"not {type(pattern).__name__}."
            )
    return found


def select(names: Collection[str], patterns: Iterable[str], what: str) -> set[str]:
    r"""Names that match at least one pattern.

    Args:
        names: names of files, with ``'/'`` between folders
        patterns: names, or patterns as of :mod:`fnmatch`,
            whose wildcards match ``'/'`` as well;
            one that ends with ``'/'`` stands for all files in a folder
        what: what holds the files, for messages

    Raises:
        FileNotInModelError: if a pattern matches no name

    """
    known = set(names)
    selected = set()
    unmatched = []
    for pattern in patterns:
        matches = _matches(known, pattern)
        if not matches:
            unmatched.append(pattern)
        selected |= matches
    if unmatched:
        raise FileNotInModelError(
            f"No file of {what} matches {listed(unmatched)}. "
            f"It has: {listed(sorted(names))}."
        )
    return selected


def _matches(names: Collection[str], pattern: str) -> set[str]:
    # A name may look like a pattern
    if pattern in names:
        return {pattern}
    if pattern.endswith("/"):
        if inside := {name for name in names if name.startswith(pattern)}:
            return inside
        pattern += "*"
    return {name for name in names if fnmatchcase(name, pattern)}


def listed(names: Sequence[str]) -> str:
    r"""The first of some names, for messages."""
    shown = ", ".join(repr(name[:100]) for name in names[:_SHOWN])
    more = len(names) - _SHOWN
    return f"{shown}, and {more} more" if more > 0 else shown

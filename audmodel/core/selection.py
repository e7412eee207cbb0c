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
    if isinstance(files, str):
        files = (files,)
    elif not isinstance(files, Iterable) or isinstance(files, bytes | dict):
        raise TypeError(
            "'files' has to be a pattern or a list of patterns, "
            f"not {type(files).__name__}."
        )
    patterns = tuple(files)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(
                "A pattern in 'files' has to be a string, "
                f"not {type(pattern).__name__}."
            )
    if not patterns or not all(patterns):
        raise InvalidInputError(
            "'files' must hold at least one pattern, and no empty one. "
            "Leave it out to load the whole model."
        )
    return patterns


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

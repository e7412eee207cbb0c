r"""Patterns of files that are not published, in the syntax of ``.gitignore``.

The last pattern that matches a file or a folder decides.
What is in a folder that is excluded is not looked at,
so no later pattern brings it back.

"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import os
import re
import stat
from typing import NamedTuple

from audmodel.core import disk
from audmodel.core.errors import InvalidFolderError
from audmodel.core.errors import InvalidInputError
from audmodel.core.selection import strings


IGNORE_FILE = ".audmodelignore"
_MAX_BYTES = 1 << 20
# Folders, or none, in front of the rest of a pattern
_FOLDERS = "(?:.*/)?"


class Pattern(NamedTuple):
    r"""Pattern that excludes files, or includes them again.

    Args:
        regex: matches paths, with ``'/'`` between folders
        excludes: whether files that match are excluded
        only_folders: whether it matches folders alone

    """

    regex: re.Pattern[str]
    excludes: bool
    only_folders: bool


class Exclusion:
    r"""Decides what is excluded, and remembers it.

    Args:
        patterns: patterns, of which later ones come first

    """

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._patterns = list(reversed(patterns))
        self.excluded: list[str] = []
        r"""What was excluded, folders with ``'/'`` at the end."""

    def excludes(self, name: str, *, is_folder: bool) -> bool:
        r"""Whether a file or a folder is excluded.

        Args:
            name: its path below the folder that is published
            is_folder: whether it is a folder, and no link to one

        """
        if name == IGNORE_FILE:
            return True
        for pattern in self._patterns:
            if (is_folder or not pattern.only_folders) and pattern.regex.match(name):
                if pattern.excludes:
                    self.excluded.append(f"{name}/" if is_folder else name)
                return pattern.excludes
        return False


def check_exclude(exclude: str | Iterable[str] | None) -> tuple[str, ...]:
    r"""Patterns that a user gave.

    Raises:
        TypeError: if a pattern is not a string
        InvalidInputError: if one is not valid, is empty, or is a comment

    """
    if exclude is None:
        return ()
    lines = strings(exclude, "exclude")
    for line in lines:
        if parse(line, "in 'exclude'") is None:
            raise InvalidInputError(
                f"{line!r} in 'exclude' is no pattern, but empty or a comment. "
                r"Write '\#' for a name that begins with '#'."
            )
    return lines


def exclusion(root: str, exclude: Sequence[str]) -> Exclusion:
    r"""What is excluded of a folder, by its ignore file and by a user.

    Args:
        root: the folder
        exclude: patterns of the user, which come after those of the file

    Raises:
        InvalidFolderError: if the ignore file cannot be used

    """
    patterns = [parse(line, "in 'exclude'") for line in exclude]
    return Exclusion([*_read(root), *filter(None, patterns)])


def _read(root: str) -> Iterator[Pattern]:
    r"""Patterns of the ignore file of a folder."""
    path = os.path.join(root, IGNORE_FILE)
    try:
        with open(path, "rb", opener=disk.open_file) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidFolderError(f"'{path}' is not a regular file.")
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InvalidFolderError(
            f"'{path}' cannot be read: {error.strerror}."
        ) from error
    if len(content) > _MAX_BYTES:
        raise InvalidFolderError(f"'{path}' has more than {_MAX_BYTES} bytes.")
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InvalidFolderError(f"'{path}' is not in UTF-8: {error}.") from error
    for number, line in enumerate(lines, start=1):
        try:
            pattern = parse(line.removesuffix("\r"), f"in line {number} of '{path}'")
        except InvalidInputError as error:
            raise InvalidFolderError(str(error)) from error
        if pattern is not None:
            yield pattern


def parse(line: str, where: str) -> Pattern | None:
    r"""Pattern of one line.

    Args:
        line: line without its end
        where: where it is, for messages

    Returns:
        pattern, or ``None`` if the line is empty or a comment

    Raises:
        InvalidInputError: if it is no valid pattern

    """
    text = _without_spaces(line)
    if not text or text.startswith("#"):
        return None
    excludes = not text.startswith("!")
    text = text.removeprefix("!")
    only_folders = text.endswith("/")
    text = text.removesuffix("/")
    is_anchored = "/" in text
    try:
        regex = _regex(text.removeprefix("/"))
    except ValueError as error:
        raise InvalidInputError(f"The pattern {line!r} {where} {error}.") from error
    return Pattern(
        re.compile(f"{'' if is_anchored else _FOLDERS}{regex}\\Z", re.DOTALL),
        excludes,
        only_folders,
    )


def _without_spaces(line: str) -> str:
    r"""Line without spaces at its end, unless a backslash precedes them."""
    text = line.rstrip(" ")
    backslashes = len(text) - len(text.rstrip("\\"))
    return line[: len(text) + 1] if backslashes % 2 else text


def _regex(text: str) -> str:
    r"""Regular expression for a pattern that is compared with a whole path."""
    if not text:
        raise ValueError("names no file")
    result = []
    position = 0
    while position < len(text):
        character = text[position]
        if character == "*":
            stop = position
            while text[stop : stop + 1] == "*":
                stop += 1
            begins = position == 0 or text[position - 1] == "/"
            is_path = stop - position > 1 and begins
            position = stop
            if is_path and stop == len(text):
                result.append(".*")
            elif is_path and text[stop] == "/":
                result.append(_FOLDERS)
                position += 1
            else:
                result.append("[^/]*")
        elif character == "[":
            expression, position = _characters(text, position + 1)
            result.append(expression)
        else:
            if character == "\\":
                position += 1
                if position == len(text):
                    raise ValueError("ends with a backslash")
            is_wild = character == "?"
            result.append("[^/]" if is_wild else re.escape(text[position]))
            position += 1
    return "".join(result)


def _characters(text: str, start: int) -> tuple[str, int]:
    r"""Regular expression for one of several characters.

    Args:
        text: pattern
        start: position after the opening bracket

    Returns:
        expression, and the position after the closing bracket

    """
    position = start
    negates = text[position : position + 1] in ("!", "^")
    position += negates
    ranges: list[str] = []
    first = position
    while text[position : position + 1] != "]" or position == first:
        if text.startswith("[:", position):
            raise ValueError("has a class like '[:alpha:]', which is not known")
        low, position = _character(text, position)
        high = low
        if text[position : position + 1] == "-" and text[position + 1 :][:1] != "]":
            high, position = _character(text, position + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    if not ranges:
        return "[^/]" if negates else "(?!)", position + 1
    return f"(?!/)[{'^' if negates else ''}{''.join(ranges)}]", position + 1


def _character(text: str, position: int) -> tuple[str, int]:
    r"""Character between brackets, and the position after it."""
    if text[position : position + 1] == "\\":
        position += 1
    if position >= len(text):
        raise ValueError("has a bracket that is not closed")
    return text[position], position + 1

r"""Which names of files an archive may hold."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
import re
import unicodedata

from audmodel.core.archive import format
from audmodel.core.errors import ArchiveError


_MAX_NAME = 2048
_MAX_NAME_PART = 255
_MAX_DEPTH = 255
# Parts that are empty, '.', '..', or too long,
# and characters that are control characters, backslashes,
# half of a surrogate pair, or control the direction of text
_FORBIDDEN = re.compile(
    rf"(?:^|/)\.{{0,2}}(?:/|$)|[^/]{{{_MAX_NAME_PART + 1}}}"
    r"|[\x00-\x1f\x7f-\x9f\\\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def check_names(names: Iterable[str]) -> None:
    r"""Raise an error if names cannot all be extracted to the same folder.

    Raises:
        ArchiveError: if a name is not allowed or occurs twice,
            is both a file and a folder,
            or if there are too many folders

    """
    paths = []
    for name in names:
        check_name(name)
        path = name.removesuffix("/")
        # This separator sorts before all characters of names,
        # so the content of a folder comes right after the folder
        paths.append((path.replace("/", "\0"), path == name))
    paths.sort()
    folders = 0
    previous: list[str] = []
    is_file = False
    for path, is_file_next in paths:
        parts = path.split("\0")
        common = 0
        for part, other in zip(parts, previous):
            if part != other:
                break
            common += 1
        if common == len(parts):
            raise ArchiveError(f"{'/'.join(parts)!r} occurs in it more than once")
        if is_file and common == len(previous):
            raise ArchiveError(f"{'/'.join(previous)!r} is both a file and a folder")
        folders += len(parts) - common - is_file_next
        previous, is_file = parts, is_file_next
    if folders > format.MAX_MEMBERS:
        raise ArchiveError(
            f"it has {folders} folders, allowed are {format.MAX_MEMBERS}"
        )


def check_name(name: str) -> None:
    r"""Raise an error if a name could leave the folder it is extracted to.

    Raises:
        ArchiveError: if the name is absolute,
            has empty parts, ``'.'`` or ``'..'``,
            a backslash, control characters,
            or is longer than file systems allow

    """
    path = name.removesuffix("/")
    if _FORBIDDEN.search(path) or path.count("/") > _MAX_DEPTH:
        raise ArchiveError(f"the name {name[:300]!r} is not allowed")
    encoded = path.encode("utf-8")
    if len(encoded) > _MAX_NAME or (
        not path.isascii() and max(map(len, encoded.split(b"/"))) > _MAX_NAME_PART
    ):
        raise ArchiveError(f"the name {name[:300]!r} is too long")


def find_collisions(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    r"""Find names that collide on some file systems.

    These are names of files or folders that differ only in case,
    or in the composition of Unicode characters.

    Yields:
        pairs of paths

    """
    # The paths of all folders that a deep one is in would take much memory.
    # A path has a number, known by that of its folder and the last part,
    numbers: dict[tuple[int, str], int] = {}
    # and it collides with the first path that has the same folded parts
    known: dict[tuple[int, str], int] = {}
    firsts = [0]
    # It begins the name of a member
    members = [""]
    for name in names:
        path = name.removesuffix("/")
        number = 0
        found = []
        for depth, part in enumerate(path.split("/"), start=1):
            folder = number
            number = numbers.setdefault((folder, part), len(members))
            if number == len(members):
                first = known.setdefault((firsts[folder], _fold(part)), number)
                firsts.append(first)
                members.append(path)
                if first != number:
                    found.append((members[first], depth))
        for other, depth in reversed(found):
            yield _start(other, depth), _start(path, depth)


def _fold(part: str) -> str:
    folded = unicodedata.normalize("NFC", part.casefold())
    folded = unicodedata.normalize("NFC", folded.casefold())
    return part if folded == part else folded


def _start(path: str, depth: int) -> str:
    r"""The first parts of a path."""
    return "/".join(path.split("/")[:depth])

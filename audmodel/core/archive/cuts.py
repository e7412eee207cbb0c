r"""Cut large files into parts, where their content has seams.

A part that begins and ends where a large tensor does
is the same in the next version of a model,
even if everything around it has changed or moved.
Cuts follow from the names and the contents of the files alone.

"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import itertools
import struct
from typing import TypeVar

from audmodel.core.archive import tensors
from audmodel.core.archive.input import InputFile
from audmodel.core.archive.tensors import Range
from audmodel.core.archive.window import Window
from audmodel.core.errors import ArchiveError


# A tensor of this share of a part has parts of its own
_LARGE = 4
# There would be too many small parts, or a file pretends to have so many
_MAX_TENSORS = 100_000
# What reading a file may raise that is not what it seems to be
_DOUBTS = (
    *(ArchiveError, ArithmeticError, AttributeError, LookupError),
    *(RecursionError, TypeError, ValueError, struct.error),
)

Found = TypeVar("Found")


class Cuts:
    r"""Where the files of a folder are cut."""

    def __init__(self, files: Sequence[InputFile], part_size: int) -> None:
        self._files = files
        self._part_size = part_size
        self._external: dict[str, list[Range]] | None = None

    def parts(self, file: InputFile) -> list[Range]:
        r"""Parts of a file.

        Args:
            file: file that is not empty

        Returns:
            position of the first byte of each part, and of the byte after its last

        Raises:
            FileChangedError: if the file is not the one that was scanned
            OSError: if it cannot be read

        """
        found = self._beside(file.name) or _found(tensors.find, file)
        if not _fits(found, file.size):
            found = []
        starts = [*_starts(found, file.size, self._part_size), file.size]
        return list(itertools.pairwise(starts))

    def _beside(self, name: str) -> list[Range]:
        r"""Tensors in a file that a model beside it names."""
        if self._external is None:
            self._external = {}
            for file in self._files:
                if file.name.endswith(".onnx"):
                    for other, place in _found(tensors.external, file):
                        self._external.setdefault(other, []).append(place)
        return self._external.get(name, [])


def _found(
    find: Callable[[str, Window], Iterable[Found]], file: InputFile
) -> list[Found]:
    r"""What is found in a file, nothing if that is uncertain."""
    with contextlib.closing(Window(file)) as window:
        try:
            found = list(itertools.islice(find(file.name, window), _MAX_TENSORS + 1))
        except _DOUBTS:
            return []
    return found if len(found) <= _MAX_TENSORS else []


def _fits(found: list[Range], size: int) -> bool:
    r"""Sort ranges, and say whether they lie one after the other in a file."""
    if not all(type(place) is int for places in found for place in places):
        return False
    found.sort()
    places = [0, *itertools.chain(*found), size]
    return places == sorted(places)


def _starts(found: list[Range], size: int, part_size: int) -> Iterator[int]:
    r"""Position of the first byte of each part.

    Large tensors are in parts of their own, cut every ``part_size``.
    Smaller ones, and what lies between, share a part as long as they fit.
    """
    seams = sorted({0, *itertools.chain(*found)} - {size})
    begin = 0
    is_large = False
    yield begin
    for start, stop in itertools.pairwise([*seams, size]):
        was_large, is_large = is_large, stop - start >= part_size // _LARGE
        is_alone = was_large or is_large
        if start > begin and (is_alone or stop - begin > part_size):
            begin = start
            yield begin
        while stop - begin > part_size:
            begin += part_size
            yield begin

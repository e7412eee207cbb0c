r"""Compare files on disk with the members of an archive."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os

from blake3 import blake3
from isal import isal_zlib

from audmodel.core.archive import format
from audmodel.core.archive.target import Target


def part_crc(
    folder: Target,
    member: format.Member,
    part: format.Part,
    buffer: Callable[[int], memoryview],
    *,
    any_size: bool = False,
) -> int | None:
    r"""CRC-32 of a part of a file, if it is right.

    Args:
        folder: folder that the file is in
        member: what the file should be
        part: part of the member
        buffer: gives a buffer of a length that may be overwritten
        any_size: whether the file may have another size

    Returns:
        CRC-32, or ``None`` if the part is missing or wrong

    """
    with _open(folder, member, any_size=any_size) as fd:
        if fd is None:
            return None
        view = buffer(part.uncompressed_size)
        if os.preadv(fd, [view], part.file_offset) != part.uncompressed_size:
            return None
    if blake3(view).digest() != part.digest:
        return None
    return isal_zlib.crc32(view)


def is_right(
    folder: Target,
    member: format.Member,
    buffer: memoryview,
    tick: Callable[[], None] = lambda: None,
) -> bool:
    r"""Whether a file that has one part, or no index, is right.

    Args:
        folder: folder that the file is in
        member: what the file should be
        buffer: what the file is read into, piece by piece
        tick: called before each piece

    Returns:
        whether it exists with the published content

    """
    crc = 0
    digest = blake3()
    with _open(folder, member) as fd:
        if fd is None:
            return False
        for offset in range(0, member.size, len(buffer)):
            tick()
            piece = buffer[: min(len(buffer), member.size - offset)]
            if os.preadv(fd, [piece], offset) != len(piece):
                return False
            crc = isal_zlib.crc32(piece, crc)
            if member.index is not None:
                digest.update(piece)
    if member.index is None or not member.size:
        return crc == member.crc
    return digest.digest() == member.index.parts[0][2] and crc == member.crc


@contextlib.contextmanager
def _open(
    folder: Target, member: format.Member, *, any_size: bool = False
) -> Iterator[int | None]:
    r"""Open a file for reading, if there is one of the right size."""
    try:
        fd = folder.open(member.name)
    except FileNotFoundError:
        yield None
        return
    try:
        is_right = any_size or os.fstat(fd).st_size == member.size
        yield fd if is_right else None
    finally:
        os.close(fd)

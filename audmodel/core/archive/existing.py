r"""Find content of an archive that is on the disk already."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
from typing import NamedTuple

from blake3 import blake3
from isal import isal_zlib

from audmodel.core.archive import format
from audmodel.core.archive.deflate import PIECE
from audmodel.core.archive.plan import MemberPart
from audmodel.core.archive.seeds import Seeds
from audmodel.core.archive.seeds import fill
from audmodel.core.archive.target import Files


class Found(NamedTuple):
    r"""Content that need not be fetched.

    Args:
        crc: CRC-32 of the content
        copy: the content if it is elsewhere on the disk,
            ``None`` if it is in its place

    """

    crc: int
    copy: memoryview | None = None


def fresh_buffer(length: int) -> memoryview:
    r"""Buffer that nothing else uses."""
    return memoryview(bytearray(length))


class OnDisk:
    r"""Content on the disk, all of which is verified when it is asked for.

    Args:
        left: gives the folder in which an earlier attempt left a file, if one did
        seeds: where parts are in other files
        buffer: gives a buffer of a length,
            the content of which is valid until the next one is asked for
        tick: called before something is read
        any_size: whether a file that was left may have another size

    """

    def __init__(
        self,
        left: Callable[[str], Files | None],
        seeds: Seeds,
        buffer: Callable[[int], memoryview] = fresh_buffer,
        *,
        tick: Callable[[], None] = lambda: None,
        any_size: bool = False,
    ) -> None:
        self._left = left
        self._seeds = seeds
        self._buffer = buffer
        self._tick = tick
        self._any_size = any_size

    def member(self, member: format.Member) -> Found | None:
        r"""Content of a member that has one part, or no index."""
        folder = self._left(member.name)
        if folder is not None and is_right(
            folder, member, self._buffer(PIECE), self._tick
        ):
            return Found(member.crc)
        if not self._seeds or member.index is None:
            return None
        copy: memoryview | None = memoryview(b"")
        for _, length, digest in member.index.parts:  # one, or none if it is empty
            copy = self.seed(digest, length)
        if copy is None or isal_zlib.crc32(copy) != member.crc:
            return None
        return Found(member.crc, copy)

    def part(self, job: MemberPart) -> Found | None:
        r"""Content of a part."""
        member, part = job.member, job.part
        folder = self._left(member.name)
        if folder is not None:
            crc = part_crc(folder, member, part, self._buffer, any_size=self._any_size)
            if crc is not None:
                return Found(crc)
        copy = self.seed(part.digest, part.uncompressed_size)
        return None if copy is None else Found(isal_zlib.crc32(copy), copy)

    def seed(self, digest: bytes, length: int) -> memoryview | None:
        r"""Bytes with a digest that another file has."""
        if digest not in self._seeds:
            return None
        self._tick()
        view = self._buffer(length)
        return view if fill(self._seeds[digest], digest, view) else None


def part_crc(
    folder: Files,
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
    folder: Files,
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
    folder: Files, member: format.Member, *, any_size: bool = False
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

r"""Pieces of an archive that another archive may hold as well.

A piece is a header, a part of a file, or a data descriptor.
Its key says what it holds, so that pieces of two archives are compared
without the bytes of the older one.

"""

from __future__ import annotations

from collections.abc import Iterator
import struct
from typing import NamedTuple

from audmodel.core.archive import encoding
from audmodel.core.archive import format


# Pieces of an archive that are remembered, some 300 bytes each
_LIMIT = 200_000
_KEY = struct.Struct(f"<B?2L{format.DIGEST_SIZE}s")


class Piece(NamedTuple):
    r"""Piece of an archive.

    Args:
        data: its bytes
        key: what it holds, empty if no other archive holds the same.
            It is no proof of the bytes that are stored:
            the digest of a deflated part is that of the bytes of the file,
            and another compressor stores them as other bytes
        is_certain: whether pieces with this key always have the same bytes

    """

    data: bytes
    key: bytes = b""
    is_certain: bool = False


def part_key(method: int, part: format.PartRecord, *, last: bool) -> bytes:
    r"""Key of a part of a file.

    Args:
        method: ``STORED`` or ``DEFLATED``
        part: length in the archive, length in the file, and digest
        last: whether it is the last one of the file,
            with which a deflate stream ends

    """
    return _KEY.pack(method, last and method == format.DEFLATED, *part)


class KnownPieces:
    r"""Where an archive has its pieces."""

    def __init__(self, directory: format.Directory, limit: int = _LIMIT) -> None:
        self._first: dict[bytes, int] = {}
        self._keys: dict[int, bytes] = {}
        self._next = -1
        for offset, key in _pieces(directory):
            if len(self._keys) == limit:
                break
            self._keys[offset] = key
            self._first.setdefault(key, offset)

    def find(self, piece: Piece) -> int | None:
        r"""Position of a piece in the archive.

        If there are several, it is the one after the piece that was found last,
        so that pieces that are one after the other are found as such.

        Returns:
            position of its first byte, ``None`` if the archive does not have it

        """
        offset: int | None = self._next
        if self._keys.get(self._next) != piece.key:
            offset = self._first.get(piece.key)
        if offset is not None:
            self._next = offset + len(piece.data)
        return offset


def _pieces(directory: format.Directory) -> Iterator[tuple[int, bytes]]:
    r"""Position and key of each piece."""
    for member in directory.members:
        index = member.index
        if index is None:
            continue
        offset = member.header_offset
        header = encoding.local_header(member)
        if len(header) == index.header_length:
            yield offset, header
        offset += index.header_length
        for number, part in enumerate(index.parts, start=1):
            last = number == len(index.parts)
            yield offset, part_key(member.method, part, last=last)
            offset += part[0]
        if member.flags & format.FLAG_DESCRIPTOR:
            yield offset, encoding.data_descriptor(member)

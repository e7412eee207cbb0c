r"""The end of an archive: table of parts, directory, and what identifies it."""

from __future__ import annotations

from collections.abc import Iterator

from blake3 import blake3

from audmodel.core.archive import format
from audmodel.core.archive import parsing
from audmodel.core.archive.source import Content
from audmodel.core.errors import ArchiveError
from audmodel.core.ranges import Buffer


# Bytes to read first, if the source comes without its last bytes
_TAIL = 64 * format.KIB
_MAX_EXPECTED = 1024 * format.KIB


def read(source: Content) -> bytearray:
    r"""Read everything after the members of an archive.

    Returns:
        table of parts, directory, and end records

    Raises:
        ArchiveError: if the archive has no directory
        RepositoryError: if the archive cannot be read

    """
    tail: Buffer = source.tail
    if not tail:
        count = min(source.size, _TAIL)
        tail = bytes(source.read(source.size - count, count))
    where = parsing.find_directory(tail, source.size)
    if source.size - len(tail) > where.offset - format.TABLE_END.size:
        start = max(0, where.offset - _expected_length(where.count))
        tail = _from(start, source, tail)
    start = parsing.table_start(tail, where, source.size)
    return _from(start, source, tail)


def ranges(
    directory: format.Directory, size: int, known: int
) -> Iterator[tuple[int, int]]:
    r"""Ranges that :func:`read` fetches.

    Args:
        directory: directory of an archive
        size: size of the archive in bytes
        known: number of the last bytes that are known

    Yields:
        position of the first byte and of the byte after the last one

    """
    first = size - known
    length = 0
    indexed = [member.index for member in directory.members if member.index is not None]
    if indexed:
        length = format.PART.size * sum(len(index.parts) for index in indexed)
        length += format.TABLE_END.size
    offset = directory.offset + length
    if first > offset - format.TABLE_END.size:
        start = max(0, offset - _expected_length(len(directory.members)))
        yield start, first
        first = start
    if directory.offset < first:
        yield directory.offset, first


def _expected_length(count: int) -> int:
    r"""What is fetched in front of the directory of an archive, with all of it."""
    # Most files have one part
    return min(max(_TAIL, count * format.PART.size), _MAX_EXPECTED)


def _from(start: int, source: Content, tail: Buffer) -> bytearray:
    r"""Everything from a position to the end, of which the last bytes are known."""
    data = bytearray(source.size - start)
    known = min(len(tail), len(data))
    with memoryview(data) as view:
        if known < len(data):
            source.readinto(start, view[:-known])
        view[-known:] = tail[-known:]
    return data


def digest(data: Buffer) -> bytes:
    r"""Digest of everything after the members of an archive.

    It identifies the whole archive,
    since the table of parts holds the digests of the rest.
    """
    return blake3(data).digest()


def parse(data: Buffer, size: int) -> format.Directory:
    r"""Directory in the last bytes of an archive.

    Args:
        data: everything after the members
        size: size of the archive in bytes

    Raises:
        ArchiveError: if the directory is damaged,
            or holds something that is not supported or not allowed

    """
    where = parsing.find_directory(bytes(data[-format.END_SIZE :]), size)
    table_length = len(data) - (size - where.offset)
    if table_length < 0:
        raise ArchiveError("its directory is truncated")
    view = memoryview(data)
    table, rest = view[:table_length], view[table_length:]
    return parsing.parse_directory(table, rest[: where.length], where)


def part_digests(data: Buffer, size: int) -> Iterator[bytes]:
    r"""Digests of all parts of an archive, which takes less time than its directory.

    Args:
        data: everything after the members
        size: size of the archive in bytes

    Raises:
        ArchiveError: if the directory is damaged

    """
    where = parsing.find_directory(bytes(data[-format.END_SIZE :]), size)
    start = size - len(data)
    stop = where.offset - format.TABLE_END.size
    if start <= stop and parsing.table_start(data, where, size) == start:
        table = memoryview(data)[: stop - start]
        for _, _, digest in format.PART.iter_unpack(table):
            yield digest

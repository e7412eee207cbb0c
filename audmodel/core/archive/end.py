r"""The end of an archive: its directory, and the digest that identifies it."""

from __future__ import annotations

from blake3 import blake3

from audmodel.core.archive import format
from audmodel.core.archive import parsing
from audmodel.core.archive.source import Source
from audmodel.core.errors import ArchiveError


# Bytes to read first, if the source comes without its last bytes
_TAIL = 64 * format.KIB


def read(source: Source) -> bytearray:
    r"""Read everything from the directory of an archive to its end.

    Args:
        source: the archive

    Returns:
        the bytes

    Raises:
        ArchiveError: if the archive has no directory
        RepositoryError: if the archive cannot be read

    """
    tail = source.tail
    if not tail:
        count = min(source.size, _TAIL)
        tail = bytes(source.read(source.size - count, count))
    where = parsing.find_directory(tail, source.size)
    data = bytearray(source.size - where.offset)
    known = min(len(tail), len(data))
    with memoryview(data) as view:
        if known < len(data):
            source.readinto(where.offset, view[:-known])
        view[-known:] = tail[-known:]
    return data


def digest(data: format.Buffer) -> bytes:
    r"""Digest of everything from the directory of an archive to its end.

    It identifies the whole archive,
    since the directory holds the digests of the rest.
    """
    return blake3(data).digest()


def parse(data: format.Buffer, size: int) -> format.Directory:
    r"""Directory in the last bytes of an archive.

    Args:
        data: everything from the directory to the end
        size: size of the archive in bytes

    Returns:
        directory

    Raises:
        ArchiveError: if the directory is damaged,
            or holds something that is not supported or not allowed

    """
    where = parsing.find_directory(bytes(data[-format.END_SIZE :]), size)
    if size - where.offset != len(data):
        raise ArchiveError("its directory is truncated")
    return parsing.parse_directory(memoryview(data)[: where.length], where)

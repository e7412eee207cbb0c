r"""Copy of the directory of an archive in the cache.

It says which files a model has, how large they are, and what is in them,
so that none of this needs the repository a second time.
Files that were loaded alone are of the same archive,
even if the repository holds another one by now,
since a version was deleted there and published again.

::

    BLAKE3 digest of what follows, 32 bytes
    size of the archive, 8 bytes, little-endian
    everything after the members of the archive

"""

from __future__ import annotations

from collections.abc import Set
import struct

from blake3 import blake3

from audmodel.core.archive import end
from audmodel.core.archive import format
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.errors import ArchiveError
from audmodel.core.ranges import Buffer


_SIZE = struct.Struct("<Q")
_MAX_BYTES = (
    format.DIGEST_SIZE
    + _SIZE.size
    + format.MAX_TABLE
    + format.TABLE_END.size
    + format.MAX_DIRECTORY
    + format.END_SIZE
)
# Members of all directories that this process remembers
_MAX_MEMBERS = 100_000
# Directories that were parsed, with the identity of the file that held them
_parsed: dict[str, tuple[tuple[int, ...], format.Directory]] = {}


def pack(data: Buffer, size: int) -> bytes:
    r"""Content of the file that keeps the directory of an archive."""
    body = _SIZE.pack(size) + data
    return blake3(body).digest() + body


def is_other(entry: CacheEntry, packed: bytes) -> bool:
    r"""Whether there is the directory of another archive."""
    known = entry.index.read(_MAX_BYTES)
    return known is not None and known != packed and _body(known) is not None


def keep(entry: CacheEntry, packed: bytes) -> None:
    r"""Store the directory of an archive, in place of an earlier one."""
    entry.index.keep(packed)


def read(entry: CacheEntry) -> format.Directory | None:
    r"""Directory of an archive, ``None`` if it is not in the cache, or was damaged."""
    path, identity = entry.index.path, entry.index.identity()
    if identity is None:
        return None
    known = _parsed.pop(path, None)
    if known is None or known[0] != identity:
        kept = content(entry)
        if kept is None:
            return None
        try:
            known = identity, end.parse(*kept)
        except ArchiveError:
            return None
    # Those that were used last are the last ones
    _parsed[path] = known
    while len(_parsed) > 1 and _members() > _MAX_MEMBERS:
        _parsed.pop(next(iter(_parsed)), None)
    return known[1]


def read_if(entry: CacheEntry, digests: Set[bytes]) -> format.Directory | None:
    r"""Directory of the archive of a model, if it has one of some parts.

    Returns:
        directory,
        or ``None`` if there is none with one of the parts, or it was damaged

    """
    kept = content(entry)
    try:
        if kept is None or digests.isdisjoint(end.part_digests(*kept)):
            return None
    except ArchiveError:
        return None
    return read(entry)


def _members() -> int:
    return sum(len(directory.members) for _, directory in list(_parsed.values()))


def content(entry: CacheEntry) -> tuple[bytes, int] | None:
    r"""Directory of an archive in the cache, not parsed yet.

    Returns:
        everything after the members of the archive,
        and the size of the archive,
        or ``None`` if there is nothing, or it was damaged

    """
    kept = entry.index.read(_MAX_BYTES)
    body = None if kept is None else _body(kept)
    if body is None:
        return None
    (size,) = _SIZE.unpack_from(body)
    return body[_SIZE.size :], size


def _body(content: bytes) -> bytes | None:
    r"""Bytes after the digest, ``None`` if the digest is wrong."""
    digest, body = content[: format.DIGEST_SIZE], content[format.DIGEST_SIZE :]
    if len(body) < _SIZE.size or blake3(body).digest() != digest:
        return None
    return body

r"""Copy of the directory of an archive in the cache.

It says which files a model has, how large they are, and what is in them,
so that none of this needs the repository a second time.

::

    BLAKE3 digest of what follows, 32 bytes
    size of the archive, 8 bytes, little-endian
    everything from the directory of the archive to its end

"""

from __future__ import annotations

import contextlib
import struct

from blake3 import blake3

from audmodel.core import disk
from audmodel.core.archive import end
from audmodel.core.archive import format
from audmodel.core.cache.entry import CacheEntry
from audmodel.errors import ArchiveError


_SIZE = struct.Struct("<Q")
_MAX_BYTES = format.DIGEST_SIZE + _SIZE.size + format.MAX_DIRECTORY + format.END_SIZE


def keep(entry: CacheEntry, data: format.Buffer, size: int) -> None:
    r"""Keep the directory of an archive.

    Args:
        entry: place of the model in the cache
        data: everything from the directory of the archive to its end
        size: size of the archive in bytes

    """
    body = _SIZE.pack(size) + data
    content = blake3(body).digest() + body
    if disk.read_small(entry.index_file, len(content)) != content:
        # It only saves requests
        with contextlib.suppress(OSError):
            disk.replace_file(entry.index_file, content)


def read(entry: CacheEntry) -> format.Directory | None:
    r"""Directory of the archive of a model, if it is in the cache.

    Args:
        entry: place of the model in the cache

    Returns:
        directory,
        or ``None`` if there is none, or it was damaged

    """
    content = disk.read_small(entry.index_file, _MAX_BYTES)
    if content is None:
        return None
    digest, body = content[: format.DIGEST_SIZE], content[format.DIGEST_SIZE :]
    if len(body) < _SIZE.size or blake3(body).digest() != digest:
        return None
    try:
        return end.parse(body[_SIZE.size :], *_SIZE.unpack_from(body))
    except ArchiveError:
        return None

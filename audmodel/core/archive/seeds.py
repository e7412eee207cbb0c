r"""Parts of an archive that files on the disk have already.

A part is known by the digest of its bytes in the file,
so it does not matter in which file, or where in it, the same bytes are.

"""

from __future__ import annotations

from collections.abc import Container
from collections.abc import Iterator
from collections.abc import Mapping
import os
from typing import NamedTuple
from typing import TypeAlias

from blake3 import blake3

from audmodel.core.archive import format
from audmodel.core.archive import parsing
from audmodel.core.archive.plan import member_parts
from audmodel.core.archive.target import Files


class Seed(NamedTuple):
    r"""Where the bytes of a part may be.

    Args:
        folder: folder of a file
        name: name of the file
        offset: position of the first byte in the file

    """

    folder: Files
    name: str
    offset: int


# By the digest of the bytes
Seeds: TypeAlias = Mapping[bytes, Seed]


def wanted(
    directory: format.Directory, only: Container[str], stop: int
) -> dict[bytes, int]:
    r"""Parts that need not be fetched if there is a seed.

    Args:
        directory: directory of an archive
        only: names of the members that are loaded
        stop: position in the archive from which on all bytes are known

    Returns:
        bytes of each part in the file, by digest

    """
    found = {}
    for member, end in zip(directory.members, directory.stops(), strict=True):
        if member.index is None or member.name not in only:
            continue
        if member.is_divided:
            for job in member_parts(member):
                if job.start < stop:
                    found[job.part.digest] = job.part.uncompressed_size
        elif parsing.data_range(member, end)[0] < stop:
            found |= {digest: length for _, length, digest in member.index.parts}
    return found


def offered(
    directory: format.Directory, wanted: Container[bytes]
) -> Iterator[tuple[bytes, format.Member, int]]:
    r"""Digests of parts that another archive has too, and where in which member."""
    for member in directory.members:
        if member.index is not None:
            for part in member.parts():
                if part.digest in wanted:
                    yield part.digest, member, part.file_offset


def fill(seed: Seed, digest: bytes, view: memoryview) -> bool:
    r"""Fill a buffer with the bytes of a part, if they are still there.

    The file may have been changed, replaced or removed.

    Returns:
        whether the buffer holds the bytes that the digest stands for

    """
    try:
        fd = seed.folder.open(seed.name)
    except OSError:
        return False
    try:
        count = os.preadv(fd, [view], seed.offset)
    except OSError:
        return False
    finally:
        os.close(fd)
    return count == len(view) and blake3(view).digest() == digest

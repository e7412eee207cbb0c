r"""Let a file system copy bytes of one file into another one.

It pays where files share blocks on the disk (reflinks),
and where a server copies.
Elsewhere the kernel reads and writes the bytes, as this process would.

"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import struct
import tempfile

from audmodel.core import disk
from audmodel.core.backend.copies import Chunk
from audmodel.core.backend.copies import CopyableChunk


# Blocks are shared as a whole. Those of most file systems have this size
_BLOCK = 4096
# Linux: FICLONERANGE, and its argument
_CLONE = 0x4020940D
_RANGE = struct.Struct("qQQQ")


def pays(source: int, folder: str) -> bool:
    r"""Whether the file system has something better than to read and write.

    Args:
        source: file descriptor of a file of at least a block
        folder: folder of the new file

    """
    return disk.has_server_copies(folder) or _clones(source, folder)


def _clones(source: int, folder: str) -> bool:
    r"""Whether files share blocks on the disk."""
    with (
        contextlib.suppress(OSError),
        tempfile.TemporaryFile(dir=folder, buffering=0) as file,
    ):
        fcntl.ioctl(file.fileno(), _CLONE, _RANGE.pack(source, 0, _BLOCK, 0))
        return True
    return False


class FileCopies:
    r"""Writes chunks, some of which are copied from one file.

    Args:
        source: file descriptor of that file
        folder: folder of the new file

    """

    def __init__(self, source: int, folder: str) -> None:
        self._source = source
        self._folder = folder
        self._works = True
        #: Bytes that were copied so far
        self.copied = 0

    @functools.cached_property
    def _unaligned(self) -> bool:
        r"""Whether bytes are copied that do not begin with a block."""
        return disk.has_server_copies(self._folder)

    def write(self, fd: int, chunk: Chunk) -> None:
        r"""Write a chunk at the end of a file, and copy it if that is possible.

        Raises:
            OSError: if it cannot be written

        """
        if not isinstance(chunk, CopyableChunk):
            write(fd, chunk)
            return
        data = memoryview(chunk.data)
        place = os.lseek(fd, 0, os.SEEK_CUR)
        start = 0
        if (place - chunk.offset) % _BLOCK == 0:
            start = min(-place % _BLOCK, len(data))
        elif not self._unaligned:
            start = len(data)
        write(fd, data[:start])
        if len(data) - start >= _BLOCK:
            start += self._copy(fd, chunk.offset + start, len(data) - start)
        write(fd, data[start:])

    def _copy(self, fd: int, offset: int, length: int) -> int:
        r"""Copy bytes, and return how many that were."""
        done = 0
        try:
            while self._works and done < length:
                count = os.copy_file_range(
                    self._source, fd, length - done, offset + done
                )
                self._works = count > 0
                done += count
                self.copied += count
        except OSError as error:
            # Writing the bytes would give the same error
            if error.errno in disk.FULL:
                raise
            # What is left is written, and so is everything that follows
            self._works = False
        return done


def write_file(fd: int, source: tuple[int, int]) -> None:
    r"""Let the file system copy a whole file to the end of another one.

    Args:
        fd: file descriptor of the new file, which is empty
        source: file descriptor of the file to copy, and its size in bytes

    Raises:
        OSError: if it cannot be copied

    """
    other, size = source
    done = 0
    while done < size:
        count = os.copy_file_range(other, fd, size - done, done)
        if not count:
            raise OSError(errno.EIO, "the file to copy has become shorter")
        done += count


def write(fd: int, data: bytes | bytearray | memoryview) -> None:
    r"""Write all bytes.

    Raises:
        OSError: if they cannot be written

    """
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]

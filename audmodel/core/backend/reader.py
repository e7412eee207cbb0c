r"""Byte ranges of one object, or of a file."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from contextlib import contextmanager
import os
import threading
from typing import IO

from audmodel.core.backend.errors import RepositoryError
from audmodel.core.ranges import Ranges


# End of an object that comes with opening it.
# Holds the directory of most archives,
# and the whole of small ones.
TAIL = 256 * 1024


class ObjectReader(abc.ABC):
    r"""Byte ranges of one object.

    All ranges are of the content
    that the object had when it was opened.

    Args:
        size: size of the object in bytes
        tail: the last bytes of the object
        etag: etag of the object, empty if it is not known

    """

    def __init__(self, size: int, tail: bytes, etag: str = "") -> None:
        self.size = size
        self.etag = etag
        self.tail = tail
        # Each thread counts what it receives, as a lock may be held during a fork
        self._received: dict[int, int] = {}
        self.arrived(len(tail))

    @property
    def received(self) -> int:
        r"""Bytes that came from the storage so far, those that came again included."""
        return sum(self._received.copy().values())

    def arrived(self, count: int) -> None:
        r"""Take note of bytes that came from the storage."""
        thread = threading.get_ident()
        self._received[thread] = self._received.get(thread, 0) + count

    def readinto(self, offset: int, view: memoryview) -> None:
        r"""Fill a buffer with the bytes from an offset on.

        May be called by several threads at once.

        Raises:
            RepositoryError: if the bytes cannot be read

        """
        if not self.copy_tail(offset, view):
            self._readinto(offset, view)

    @contextmanager
    def in_order(self, start: int, stop: int) -> Iterator[Ranges]:
        r"""Announce that bytes will be read one after the other.

        A storage may send them in one go.
        Any other ones can be read as well.

        Yields:
            gives the bytes, to one thread

        """
        yield self

    def copy_tail(self, offset: int, view: memoryview) -> bool:
        r"""Fill a buffer from the tail of the object, if it holds the bytes."""
        tail = self.tail
        start = offset - (self.size - len(tail))
        if not tail or start < 0:
            return False
        view[:] = tail[start : start + len(view)]
        return True

    def cancel_reads(self) -> None:  # noqa: B027
        r"""Let reads in other threads fail."""

    def forget_tail(self) -> None:
        r"""Fetch the last bytes again, since they may have been damaged.

        No connection that is open now is used again.

        Raises:
            RepositoryError: if they cannot be read

        """
        tail = bytearray(len(self.tail))
        self._readinto(self.size - len(tail), memoryview(tail))
        self.tail = bytes(tail)

    @abc.abstractmethod
    def _readinto(self, offset: int, view: memoryview) -> None:
        r"""Fill a buffer with a range of the storage."""

    def read(self, offset: int, length: int) -> bytearray:
        r"""Bytes from an offset on.

        Raises:
            RepositoryError: if the bytes cannot be read

        """
        data = bytearray(length)
        self.readinto(offset, memoryview(data))
        return data


class FileReader(ObjectReader):
    r"""Byte ranges of a file.

    The file stays open,
    so that all ranges are of the same file
    even if another one takes its place.

    """

    def __init__(self, file: IO[bytes], path: str, etag: str = "") -> None:
        self._fd = file.fileno()
        self._path = path
        size = os.fstat(self._fd).st_size
        length = min(TAIL, size)
        super().__init__(size, os.pread(self._fd, length, size - length), etag)

    def _readinto(self, offset: int, view: memoryview) -> None:
        while len(view):
            try:
                count = os.preadv(self._fd, [view], offset)
            except OSError as error:
                raise RepositoryError(
                    f"Could not read '{self._path}': {error.strerror}.", error
                ) from error
            if count == 0:
                raise RepositoryError(
                    f"{self._path!r} ends at {offset} bytes "
                    f"instead of {self.size}, it was changed while it was read."
                )
            self.arrived(count)
            view = view[count:]
            offset += count

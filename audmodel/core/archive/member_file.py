r"""A member of an archive as a file that fetches only the parts that are read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from contextlib import AbstractContextManager
import errno
import io
import os
from typing import TYPE_CHECKING

from audmodel.core.archive.format import KIB
from audmodel.core.archive.parts import MemberParts
from audmodel.parallel import prefetch


if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


# Bytes of parts that are kept when they were read, at least one part
KEPT = 16 * KIB * KIB
# Small reads are served from a buffer
BUFFER = 64 * KIB
# After reading crossed into so many parts in a row, it counts as sequential.
# A single range may well lie in two parts
_CROSSED = 2
# Generators of a parent process: to close them would wait for its threads
_of_parents: list[object] = []


class MemberFile(io.RawIOBase):
    r"""A member of an archive as a file.

    All bytes that it returns have been verified.
    It keeps in memory
    parts that were read, up to ``KEPT`` bytes, at least one,
    and ``num_workers + 1`` parts that are fetched ahead,
    each with its compressed form while it is inflated.

    Args:
        parts: parts of the member
        name: name of the file
        num_workers: number of threads that fetch ahead,
            1 fetches each part when it is read, in the calling thread
        naming: gives a context in which errors learn what they are about
        release: called when the file is closed

    """

    def __init__(
        self,
        parts: MemberParts,
        name: str,
        *,
        num_workers: int,
        naming: Callable[[], AbstractContextManager[None]],
        release: Callable[[], None],
    ) -> None:
        super().__init__()
        self.name = name
        self._naming = naming
        self._release = release
        self._layout = parts
        self._parts = _FetchedParts(parts, num_workers)
        self._size = parts.size
        # Where to read next, ``None`` after a failure: the buffer above discards
        # bytes that it has read already, and does not say how many
        self._position: int | None = 0
        # Where the last read ended
        self._last_stop = 0

    def readable(self) -> bool:
        r"""Whether the file can be read, always ``True``."""
        self._checkClosed()
        return True

    def seekable(self) -> bool:
        r"""Whether the position can be changed, always ``True``."""
        self._checkClosed()
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        r"""Change the position.

        Raises:
            OSError: if the position would be negative,
                is relative to a position that is unknown after an error,
                or data or a hole is searched for outside of the file
            ValueError: if ``whence`` is unknown

        """
        self._checkClosed()
        if whence == os.SEEK_CUR:
            offset += self._known_position()
        elif whence == os.SEEK_END:
            offset += self._size
        elif whence in (os.SEEK_DATA, os.SEEK_HOLE):
            if not 0 <= offset < self._size:
                raise OSError(errno.ENXIO, "The position is outside of the file")
            offset = self._size if whence == os.SEEK_HOLE else offset
        elif whence != os.SEEK_SET:
            raise ValueError(f"whence value {whence} unsupported")
        if offset < 0:
            raise OSError(errno.EINVAL, "The position is negative")
        self._position = offset
        return offset

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        r"""Read bytes into a buffer.

        Args:
            buffer: buffer to fill.
                A small one is filled from one part only

        Returns:
            number of bytes, 0 at the end of the file

        Raises:
            ArchiveError: if a part is damaged
            OSError: if reading failed, and the position was not set since
            RepositoryError: if a part cannot be fetched

        """
        try:
            view = memoryview(buffer).cast("B")
            start = self._known_position()
            stop = start + len(view)
            if len(view) <= BUFFER:
                number = self._layout.number_at(start)
                part_stop = self._layout.starts[number] + self._layout.length(number)
                stop = min(stop, part_stop)
            done = 0
            for piece in self._pieces(start, stop):
                view[done : done + len(piece)] = piece
                done += len(piece)
            self._position = start + done
        except BaseException:
            self._position = None
            raise
        return done

    def readall(self) -> bytes:
        r"""Read all bytes up to the end of the file.

        Raises:
            ArchiveError: if a part is damaged
            OSError: if reading failed, and the position was not set since
            RepositoryError: if a part cannot be fetched

        """
        try:
            start = self._known_position()
            stream = io.BytesIO()
            for piece in self._pieces(start, self._size):
                stream.write(piece)
            content = stream.getvalue()
            self._position = start + len(content)
        except BaseException:
            self._position = None
            raise
        return content

    def _pieces(self, start: int, stop: int) -> Iterator[memoryview]:
        r"""Bytes between two positions, as far as the file goes."""
        stop = min(stop, self._size)
        if start >= stop:
            return
        last = self._layout.number_at(stop - 1)
        goes_on = start == self._last_stop
        for number in range(self._layout.number_at(start), last + 1):
            with self._naming():
                part = self._parts.get(number, last, goes_on=goes_on)
            offset = self._layout.starts[number]
            yield part[max(0, start - offset) : stop - offset]
        self._last_stop = stop

    def _known_position(self) -> int:
        self._checkClosed()
        if self._position is None:
            raise OSError(
                errno.EIO,
                "The position is unknown, since reading failed before. "
                "Seek to a position from the start or the end of the file",
            )
        return self._position

    def close(self) -> None:
        r"""Stop fetching, and let go of the archive."""
        if not self.closed:
            try:
                self._parts.close()
            finally:
                super().close()
                self._release()


class _FetchedParts:
    r"""Parts that were read a short while ago, or will be read soon."""

    def __init__(self, parts: MemberParts, num_workers: int) -> None:
        self._parts = parts
        self._num_workers = num_workers
        self._kept: OrderedDict[int, memoryview] = OrderedDict()
        self._ahead: Generator[memoryview, None, None] | None = None
        # Process whose threads fetch it
        self._process = os.getpid()
        # What comes from there
        self._coming = range(0)
        # Parts in a row that reading went on to
        self._crossed = 0

    def get(self, number: int, last: int, *, goes_on: bool) -> memoryview:
        r"""Get a part.

        Args:
            number: number of the part
            last: last part that is known to be needed
            goes_on: whether reading continues where it stopped before

        """
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        self._crossed = self._crossed + 1 if goes_on else 0
        if self._crossed >= _CROSSED:
            last = len(self._parts) - 1
        room = KEPT - self._parts.length(number)
        while self._kept and sum(map(len, self._kept.values())) > room:
            self._kept.popitem(last=False)
        self._forget_threads_of_parent()
        if number not in self._coming[:1]:
            if self._num_workers == 1 or number >= last:
                part = self._kept[number] = self._parts.read(number)
                return part
            self._fetch_ahead(range(number, last + 1))
        part = self._kept[number] = self._take()
        return part

    def _fetch_ahead(self, numbers: range) -> None:
        self.close()
        self._coming = numbers
        self._ahead = prefetch(
            self._parts.read,
            numbers,
            num_workers=self._num_workers,
            ahead=self._num_workers + 1,
            on_abort=self._parts.cancel_reads,
        )

    def _take(self) -> memoryview:
        assert self._ahead is not None
        coming = self._coming[1:]
        self._coming = range(0)
        part = next(self._ahead)
        self._coming = coming
        if not coming:
            # To its end, as closing it early would end connections as well
            next(self._ahead, None)
            self.close()
        return part

    def _forget_threads_of_parent(self) -> None:
        r"""Expect nothing of threads that do not exist in a fork."""
        if self._process != os.getpid():
            self._process = os.getpid()
            _of_parents.append(self._ahead)
            self._ahead = None
            self._coming = range(0)

    def close(self) -> None:
        r"""Stop fetching ahead."""
        self._forget_threads_of_parent()
        ahead, self._ahead = self._ahead, None
        self._coming = range(0)
        if ahead is not None:
            ahead.close()

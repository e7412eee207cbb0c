r"""Divide the content of an object into parts, sent ones and copied ones.

Storages refuse small parts, except as the last one.
So copyable chunks that follow each other in the source make one part,
fewer of them are sent,
and a part that is sent between two copied ones is made large enough
by the first bytes of what would be copied next.

"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
import hashlib

from audmodel.core.backend.copies import Chunk
from audmodel.core.backend.copies import CopyableChunk
from audmodel.core.ranges import Buffer


MIB = 1024 * 1024

# Size of an object that is stored by one request, and of parts of larger ones
PART_SIZE = 8 * MIB
# An object has 10,000 parts at most.
# Some storages want parts of one size, so the size grows late
PARTS_OF_ONE_SIZE = 2500
# What storages accept as a part that is not the last one
_SMALLEST = 5 * MIB
# How many times larger than one that is sent a copied part may be.
# It takes the storage a while, and others can be copied meanwhile
_COPIED = 8


@dataclass(frozen=True)
class CopiedPart:
    r"""Part that the storage copies.

    Args:
        start: position of its first byte in the source
        stop: position behind its last byte
        md5: MD5 of its bytes, ``None`` if it is not needed

    """

    start: int
    stop: int
    md5: str | None

    def __len__(self) -> int:
        return self.stop - self.start


def parts_of(
    chunks: Iterable[Chunk], smallest: int = PART_SIZE, *, hashing: bool = False
) -> Generator[bytes | CopiedPart, None, None]:
    r"""Chunks of any size as parts of the size they are stored in.

    Args:
        chunks: content, in order
        smallest: size of the first part
        hashing: whether to compute digests of copied parts

    Yields:
        parts

    """
    division = _Division(smallest, hashing=hashing)
    for chunk in chunks:
        if isinstance(chunk, CopyableChunk):
            yield from division.copy(chunk.offset, memoryview(chunk.data))
        else:
            yield from division.send(chunk)
    yield from division.end()


def part_size(number: int, smallest: int = PART_SIZE) -> int:
    r"""Size of a part of a large object.

    Args:
        number: number of the part, from 0
        smallest: size of the first part

    """
    return int(smallest * 4 ** (number // PARTS_OF_ONE_SIZE))


def copied_parts(size: int, smallest: int = PART_SIZE) -> Iterator[CopiedPart]:
    r"""Parts of an object that is copied as a whole.

    Args:
        size: size of the object in bytes
        smallest: size of the first part if it were sent

    Yields:
        parts

    """
    start = number = 0
    while start < size:
        stop = min(start + _COPIED * part_size(number, smallest), size)
        yield CopiedPart(start, stop, None)
        start, number = stop, number + 1


def num_requests(size: int) -> int:
    r"""Number of requests that store an object."""
    parts = 0
    while size > 0:
        size -= part_size(parts)
        parts += 1
    return num_requests_of(parts)


def num_requests_of(parts: int) -> int:
    r"""Number of requests that store an object."""
    # An upload in parts is begun and completed, and the object gets its checksum
    return parts + 3 if parts > 1 else 1


class _Division:
    r"""Parts of an object, as far as they are known."""

    def __init__(self, smallest: int, *, hashing: bool) -> None:
        self._smallest = smallest
        self._hashing = hashing
        self._number = 0
        # Bytes to be sent
        self._pieces: deque[memoryview] = deque()
        self._size = 0
        # What follows them is copied: a run that is large enough, and one after it
        self._full: _Run | None = None
        self._run: _Run | None = None

    def send(self, chunk: Buffer) -> Iterator[bytes | CopiedPart]:
        r"""Add bytes that have to be sent."""
        yield from self._end_run()
        yield from self._send(chunk)

    def copy(self, offset: int, view: memoryview) -> Iterator[bytes | CopiedPart]:
        r"""Add bytes that the source has at a position."""
        if self._run is None or self._run.stop != offset:
            yield from self._end_run()
            if 0 < self._size < self._least:
                borrowed = view[: self._least - self._size]
                yield from self._send(borrowed)
                offset += len(borrowed)
                view = view[len(borrowed) :]
            if not view:
                return
            self._run = self._make_run(offset)
        self._run.add(view)
        if self._run.size >= self._least:
            self._run.kept = None
            yield from self._end_full()
        if self._run.size >= part_size(self._number, self._smallest) * _COPIED:
            self._full, self._run = self._run, self._make_run(self._run.stop)

    def end(self) -> Iterator[bytes | CopiedPart]:
        r"""What is left."""
        yield from self._end_run()
        if self._size:
            yield self._sent(self._size)

    @property
    def _least(self) -> int:
        r"""Smallest size of the next part, with which 10,000 hold any object."""
        return max(_SMALLEST, part_size(self._number, self._smallest) * 5 // 8)

    def _send(self, chunk: Buffer) -> Iterator[bytes]:
        # Its maker may use the buffer again
        view = memoryview(chunk if isinstance(chunk, bytes) else bytes(chunk))
        if view:
            self._pieces.append(view)
            self._size += len(view)
        while self._size >= (size := part_size(self._number, self._smallest)):
            yield self._sent(size)

    def _sent(self, size: int) -> bytes:
        r"""Take the next part from what is sent."""
        self._number += 1
        self._size -= size
        taken = []
        while size:
            piece = self._pieces.popleft()
            if len(piece) > size:
                self._pieces.appendleft(piece[size:])
                piece = piece[:size]
            taken.append(piece)
            size -= len(piece)
        return b"".join(taken)

    def _end_run(self) -> Iterator[bytes | CopiedPart]:
        r"""Copy what is large enough, and send it otherwise."""
        run, self._run = self._run, None
        if run is None:
            return
        if run.kept is None:
            self._full = run
        elif self._full is not None:
            for view in run.kept:
                self._full.add(view)
        else:
            for view in run.kept:
                yield from self._send(view)
        yield from self._end_full()

    def _end_full(self) -> Iterator[bytes | CopiedPart]:
        full, self._full = self._full, None
        if full is not None:
            if self._size:
                yield self._sent(self._size)
            self._number += 1
            md5 = None if full.md5 is None else full.md5.hexdigest()
            yield CopiedPart(full.start, full.stop, md5)

    def _make_run(self, start: int) -> _Run:
        return _Run(start, hashing=self._hashing)


class _Run:
    r"""Bytes that follow each other in the source."""

    def __init__(self, start: int, *, hashing: bool) -> None:
        self.start = self.stop = start
        self.md5 = hashlib.md5(usedforsecurity=False) if hashing else None
        # The bytes themselves, as long as they may have to be sent
        self.kept: list[memoryview] | None = []

    @property
    def size(self) -> int:
        return self.stop - self.start

    def add(self, view: memoryview) -> None:
        self.stop += len(view)
        if self.md5 is not None:
            self.md5.update(view)
        if self.kept is not None:
            self.kept.append(view)

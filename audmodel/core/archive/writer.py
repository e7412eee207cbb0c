r"""Write an archive as a stream, compressed by several workers."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
import os
from typing import TypeAlias

from blake3 import blake3
from isal import isal_zlib

from audmodel.core.archive import deflate
from audmodel.core.archive import encoding
from audmodel.core.archive import end
from audmodel.core.archive import format
from audmodel.core.archive.cuts import Cuts
from audmodel.core.archive.input import InputFile
from audmodel.core.archive.pieces import Piece
from audmodel.core.archive.pieces import part_key
from audmodel.core.errors import FileChangedError
from audmodel.parallel import prefetch


# Files that are read and compressed by one call of a worker
_BATCH_FILES = 256
_SAMPLES = 8


@dataclass(frozen=True, slots=True)
class _Batch:
    r"""Small files that one worker turns into headers and data."""

    files: tuple[InputFile, ...]


@dataclass(frozen=True, slots=True)
class _FilePart:
    r"""Part of a large file."""

    file: InputFile
    method: int
    offset: int
    length: int

    @property
    def is_last(self) -> bool:
        return self.offset + self.length == self.file.size


@dataclass(frozen=True, slots=True)
class _Encoded:
    r"""What a worker made of a batch or a part.

    Args:
        pieces: pieces of the archive
        members: members of a batch,
            with header offsets relative to the start of the first piece
        part: length in the archive, length in the file, and digest of a part
        crc: CRC-32 of the content of a part
        uncompressed_size: bytes read from files

    """

    pieces: tuple[Piece, ...]
    members: tuple[format.Member, ...]
    part: format.PartRecord
    crc: int
    uncompressed_size: int


_Job: TypeAlias = _Batch | _FilePart


class ArchiveWriter:
    r"""Archive of a model folder, made while it is read.

    Iterating gives the bytes of the archive in order,
    once.
    No more than ``2 * num_workers`` parts are in memory at a time.

    Args:
        files: files of the folder, sorted by name
        compression: 0 stores, 1 to 9 compress, higher is smaller or equal
        num_workers: number of threads that read and compress
        part_size: largest size of a part in bytes
        enlarge: called with the difference between the bytes of the archive
            and those of files that they stand for, which is negative as a rule

    """

    def __init__(
        self,
        files: Sequence[InputFile],
        *,
        compression: int = 1,
        num_workers: int = 1,
        part_size: int = format.PART_SIZE,
        enlarge: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._files = files
        self._level = compression
        self._num_workers = num_workers
        self._part_size = part_size
        self._cuts = Cuts(files, part_size)
        self._enlarge = enlarge
        self.size = 0
        r"""Size of the archive so far, in bytes."""
        self.digest = b""
        r"""Digest that stands for the archive, known after the last byte."""

    def __iter__(self) -> Iterator[bytes]:
        for pieces in self._groups():
            yield _joined(pieces)

    def pieces(self) -> Generator[Piece, None, None]:
        r"""Pieces of the archive in order, once.

        Yields:
            pieces, with keys by which another archive may know them

        Raises:
            FileChangedError: if a file changes in the meantime

        """
        for pieces in self._groups():
            yield from pieces

    def _groups(self) -> Iterator[tuple[Piece, ...]]:
        members: list[format.Member] = []
        large: _LargeMember | None = None
        encoded = prefetch(self._encode, self._jobs(), num_workers=self._num_workers)
        for job, result in encoded:
            if isinstance(job, _Batch):
                for member in result.members:
                    member.header_offset += self.size
                members += result.members
                yield self._count(*result.pieces, size=result.uncompressed_size)
            else:
                if large is None:
                    large = _LargeMember(job, self.size)
                    yield self._count(_record(large.header))
                large.add(result)
                yield self._count(*result.pieces, size=result.uncompressed_size)
                if job.is_last:
                    members.append(large.member)
                    descriptor = encoding.data_descriptor(large.member)
                    yield self._count(_record(descriptor))
                    large = None
        # A file may change after it was read as well
        for file in self._files:
            file.check_unchanged()
        tail = encoding.tail(members, self.size)
        self.digest = end.digest(tail)
        yield self._count(Piece(tail))

    def _count(self, *pieces: Piece, size: int = 0) -> tuple[Piece, ...]:
        stored = sum(len(piece.data) for piece in pieces)
        self.size += stored
        self._enlarge(stored - size)
        return pieces

    def _jobs(self) -> Iterator[_Job]:
        batch: list[InputFile] = []
        size = 0
        for file in self._files:
            is_large = encoding.needs_descriptor(file.size, self._part_size)
            full = size + file.size > self._part_size or len(batch) == _BATCH_FILES
            if batch and (is_large or full):
                yield _Batch(tuple(batch))
                batch, size = [], 0
            if is_large:
                yield from self._parts(file)
            else:
                batch.append(file)
                size += file.size
        if batch:
            yield _Batch(tuple(batch))

    def _parts(self, file: InputFile) -> Iterator[_FilePart]:
        shrinks = self._level > 0 and deflate.shrinks(_samples(file), self._level)
        method = format.DEFLATED if shrinks else format.STORED
        for start, stop in self._cuts.parts(file):
            yield _FilePart(file, method, start, stop - start)

    def _encode(self, job: _Job) -> tuple[_Job, _Encoded]:
        if isinstance(job, _Batch):
            return job, self._encode_batch(job)
        return job, self._encode_part(job)

    def _encode_part(self, job: _FilePart) -> _Encoded:
        raw = _read(job.file, job.offset, job.length)
        data = raw
        if job.method == format.DEFLATED:
            data = deflate.deflate(raw, self._level, last=job.is_last)
        part = (len(data), len(raw), blake3(raw).digest())
        piece = _part(job.method, data, part, last=job.is_last)
        return _Encoded((piece,), (), part, isal_zlib.crc32(raw), len(raw))

    def _encode_batch(self, batch: _Batch) -> _Encoded:
        pieces: list[Piece] = []
        members = []
        position = uncompressed_size = 0
        for file in batch.files:
            raw = _read(file, 0, file.size)
            method, data = self._encode_small(raw)
            member = _small_member(file, method, raw, data, position)
            header = encoding.local_header(member)
            pieces.append(_record(header))
            if member.index is not None and member.index.parts:
                part = member.index.parts[0]
                pieces.append(_part(method, data, part, last=True))
            members.append(member)
            position += len(header) + len(data)
            uncompressed_size += len(raw)
        return _Encoded(
            tuple(pieces), tuple(members), (0, 0, b""), 0, uncompressed_size
        )

    def _encode_small(self, raw: bytes) -> tuple[int, bytes]:
        r"""Method and data of a file that is compressed as a whole."""
        if self._level > 0:
            samples = [raw[: deflate.SAMPLE], raw[-deflate.SAMPLE :]]
            if len(raw) < 4 * deflate.SAMPLE or deflate.shrinks(samples, self._level):
                data = deflate.deflate(raw, self._level, last=True)
                if len(data) < len(raw) * deflate.limit(self._level):
                    return format.DEFLATED, data
        return format.STORED, raw


class _LargeMember:
    r"""Member that grows part by part.

    Args:
        job: first part
        header_offset: position of the header in the archive

    """

    def __init__(self, job: _FilePart, header_offset: int) -> None:
        self._job = job
        self._header_offset = header_offset
        self._records = bytearray()
        self._compressed_size = 0
        self._crc = 0
        self.header = encoding.local_header(self._make_member(None))

    def add(self, encoded: _Encoded) -> None:
        r"""Add the next part."""
        self._records += format.PART.pack(*encoded.part)
        self._compressed_size += encoded.part[0]
        self._crc = isal_zlib.crc32_combine(
            self._crc, encoded.crc, encoded.uncompressed_size
        )

    @property
    def member(self) -> format.Member:
        r"""Member with all parts that were added."""
        parts = format.Parts(bytes(self._records))
        index = format.Index(len(self.header), parts)
        return self._make_member(index)

    def _make_member(self, index: format.Index | None) -> format.Member:
        file = self._job.file
        return format.Member(
            file.name,
            self._job.method,
            encoding.flags_for(file.name, descriptor=True),
            self._crc,
            self._compressed_size,
            file.size,
            self._header_offset,
            file.executable,
            index,
        )


def _joined(pieces: tuple[Piece, ...]) -> bytes:
    if len(pieces) == 1:
        return pieces[0].data
    return b"".join(piece.data for piece in pieces)


def _record(data: bytes) -> Piece:
    r"""Header or data descriptor, which is its own key.

    An archive of another program may have other values in fields
    that its directory does not repeat.
    """
    return Piece(data, data)


def _part(method: int, data: bytes, part: format.PartRecord, *, last: bool) -> Piece:
    key = part_key(method, part, last=last)
    return Piece(data, key, is_certain=method == format.STORED)


def _small_member(
    file: InputFile,
    method: int,
    raw: bytes,
    data: bytes,
    header_offset: int,
) -> format.Member:
    header_length = encoding.local_header_length(file.name, len(raw))
    parts = [(len(data), len(raw), blake3(raw).digest())] if raw else []
    return format.Member(
        file.name,
        method,
        encoding.flags_for(file.name, descriptor=False),
        isal_zlib.crc32(raw),
        len(data),
        len(raw),
        header_offset,
        file.executable,
        format.Index(header_length, format.Parts.of(parts)),
    )


def _read(file: InputFile, offset: int, length: int) -> bytes:
    r"""Bytes of a file that has not changed."""
    fd = file.open()
    try:
        data = os.pread(fd, length, offset)
        while len(data) < length:
            more = os.pread(fd, length - len(data), offset + len(data))
            if not more:
                break
            data += more
    finally:
        os.close(fd)
    if len(data) != length:
        raise FileChangedError(f"'{file.path}' became shorter while it was published.")
    return data


def _samples(file: InputFile) -> list[bytes]:
    r"""Pieces that are spread evenly over a file."""
    length = min(deflate.SAMPLE, file.size)
    step = (file.size - length) // (_SAMPLES - 1)
    return [_read(file, n * step, length) for n in range(_SAMPLES)]

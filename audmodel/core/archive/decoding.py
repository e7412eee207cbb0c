r"""Bytes of an archive to the content of its members, verified."""

from __future__ import annotations

from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence

from blake3 import blake3
from isal import isal_zlib

from audmodel.core.archive import checks
from audmodel.core.archive import format
from audmodel.core.archive import parsing
from audmodel.core.archive.deflate import Inflater
from audmodel.core.archive.plan import Entry
from audmodel.core.archive.plan import MemberPart
from audmodel.core.archive.plan import Stream
from audmodel.core.errors import ArchiveError
from audmodel.core.ranges import Buffer


class Content:
    r"""Content of a member, or of a part of one."""

    def __init__(self, job: Entry | MemberPart | Stream) -> None:
        self.crc = 0
        r"""CRC-32 of the pieces so far."""
        self._job = job
        self._member = member = job.member
        self._digests: Sequence[bytes] = ()
        if isinstance(job, MemberPart):
            self._begins, self._ends = job.number == 0, job.is_last
            self._length, self._size = job.part.length, job.part.uncompressed_size
            self._digests = (job.part.digest,)
        else:
            self._begins = self._ends = True
            self._length, self._size = member.compressed_size, member.size
            if member.index is not None:
                # One, or none if the member is empty
                self._digests = [digest for _, _, digest in member.index.parts]

    def pieces(self, chunks: Iterable[memoryview]) -> Generator[Buffer, None, None]:
        r"""Decode and verify the content.

        Args:
            chunks: bytes of the archive that hold it, in order

        Yields:
            pieces, all of which are right if the generator reaches its end

        Raises:
            ArchiveError: if it is damaged,
                the message names the file and the part

        """
        with checks.naming(self._job):
            deflated = self._member.method == format.DEFLATED
            inflater = Inflater(self._size) if deflated else None
            digest = blake3()
            for data in self._stored(chunks):
                for piece in [data] if inflater is None else inflater.feed(data):
                    self.crc = isal_zlib.crc32(piece, self.crc)
                    if self._digests:
                        digest.update(piece)
                    yield piece
            if inflater is not None:
                inflater.finish(last=self._ends)
            for expected in self._digests:
                checks.check(expected, digest.digest(), "digest")
            if self._begins and self._ends:
                checks.check_crc(self._member, self.crc)

    def read(self, data: memoryview) -> memoryview:
        r"""Decode and verify the content in memory.

        Raises:
            ArchiveError: if it is damaged,
                the message names the file and the part

        """
        pieces = list(self.pieces((data,)))
        return memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _stored(self, chunks: Iterable[memoryview]) -> Iterator[memoryview]:
        r"""Bytes that follow the header, as they are stored."""
        left = self._length
        has_header = self._begins
        for chunk in chunks:
            data = chunk
            if has_header:
                has_header = False
                start = parsing.check_local_header(data, self._member)
                if self._job.start + start + left > self._job.stop:
                    raise ArchiveError("it overlaps the data that follows it")
                data = data[start:]
            data = data[:left]
            left -= len(data)
            yield data

r"""Bytes of an archive to the content of its members, verified."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
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
    r"""Content of a member, or of a part of one.

    Args:
        job: what is read
        tick: called before each piece, since a small member may grow to gigabytes

    """

    def __init__(
        self,
        job: Entry | MemberPart | Stream,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.crc = 0
        r"""CRC-32 of the content, once all pieces were taken."""
        self._job = job
        self._tick = tick

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
        job = self._job
        begins, ends, left, size, digests = _layout(job)
        deflated = job.member.method == format.DEFLATED
        inflater = Inflater(size) if deflated else None
        digest = blake3()
        crc = 0
        try:
            for number, chunk in enumerate(chunks):
                data = chunk
                if begins and number == 0:
                    data = _after_header(data, job, left)
                data = data[:left]
                left -= len(data)
                for piece in (data,) if inflater is None else inflater.feed(data):
                    self._tick()
                    crc = isal_zlib.crc32(piece, crc)
                    if digests:
                        digest.update(piece)
                    yield piece
            if inflater is not None:
                inflater.finish(last=ends)
            for expected in digests:
                checks.check(expected, digest.digest(), "digest")
            if begins and ends:
                checks.check_crc(job.member, crc)
        except ArchiveError as error:
            raise checks.named(error, job) from error
        self.crc = crc

    def read(self, data: memoryview) -> memoryview:
        r"""Decode and verify the content in memory.

        Raises:
            ArchiveError: if it is damaged,
                the message names the file and the part

        """
        pieces = list(self.pieces((data,)))
        return memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))


def _layout(
    job: Entry | MemberPart | Stream,
) -> tuple[bool, bool, int, int, Sequence[bytes]]:
    r"""Whether it begins and ends the member, its sizes, and its digest."""
    member = job.member
    if isinstance(job, MemberPart):
        part = job.part
        sizes = part.length, part.uncompressed_size
        return job.number == 0, job.is_last, *sizes, (part.digest,)
    # One part, or none if it is empty
    parts = () if member.index is None else member.index.parts
    digests = [digest for _, _, digest in parts]
    return True, True, member.compressed_size, member.size, digests


def _after_header(
    data: memoryview, job: Entry | MemberPart | Stream, length: int
) -> memoryview:
    r"""Bytes that follow the header of a member."""
    start = parsing.check_local_header(data, job.member)
    if job.start + start + length > job.stop:
        raise ArchiveError("it overlaps the data that follows it")
    return data[start:]

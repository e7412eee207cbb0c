r"""Read a member of an archive part by part, each of them verified, in memory."""

from __future__ import annotations

import bisect
from collections.abc import Callable

from blake3 import blake3

from audmodel.core.archive import format
from audmodel.core.archive import parsing
from audmodel.core.archive.decoding import Content
from audmodel.core.archive.existing import OnDisk
from audmodel.core.archive.plan import Entry
from audmodel.core.archive.plan import MemberPart
from audmodel.core.archive.plan import member_parts
from audmodel.core.archive.seeds import Seeds
from audmodel.core.archive.source import Source
from audmodel.core.damage import until_intact


def find_member(directory: format.Directory, name: str) -> Entry | None:
    r"""A file in an archive and the bytes that hold it, ``None`` if there is none."""
    for member, stop in zip(directory.members, directory.stops(), strict=True):
        if member.name == name and not member.is_folder:
            return Entry(member, *parsing.data_range(member, stop))
    return None


def has_parts(member: format.Member) -> bool:
    r"""Whether a member can be verified part by part.

    A small one is a single part.
    A large one without index is verified when all of it has arrived.
    """
    if member.index is not None:
        return True
    return max(member.size, member.compressed_size) <= format.PART_SIZE


class MemberParts:
    r"""Parts of a member.

    Args:
        source: the archive
        entry: member that has parts
        seeds: tells where parts are on the disk already.
            They are copied from there, and fetched only if that fails

    """

    def __init__(
        self,
        source: Source,
        entry: Entry,
        seeds: Callable[[], Seeds] = dict,
    ) -> None:
        member = entry.member
        self._source = source
        self._seeds = seeds
        self._index = member.index
        self._jobs: list[Entry | MemberPart] = [entry]
        self.size = member.size
        r"""Bytes of the file."""
        self.starts = [0]
        r"""Position of the first byte of each part in the file."""
        if member.is_divided:
            parts = list(member_parts(member))
            self._jobs = [*parts]
            self.starts = [job.part.file_offset for job in parts]

    def __len__(self) -> int:
        return len(self._jobs)

    def number_at(self, position: int) -> int:
        r"""Number of the part that holds a position in the file."""
        return bisect.bisect_right(self.starts, position) - 1

    def length(self, number: int) -> int:
        r"""Bytes of the file in a part."""
        stops = [*self.starts[number + 1 : number + 2], self.size]
        return stops[0] - self.starts[number]

    def read(self, number: int) -> memoryview:
        r"""Read a part, from a seed if there is one, else from the archive.

        It is fetched again if it is damaged.

        May be called by several threads at once.

        Raises:
            ArchiveError: if the part is damaged
            RepositoryError: if it cannot be fetched

        """
        job = self._jobs[number]
        copy = self._from_seed(number)
        if copy is not None:
            return copy
        data = bytearray()

        def attempt() -> memoryview:
            nonlocal data
            data = self._source.read(job.start, job.stop - job.start)
            return Content(job).read(memoryview(data))

        return until_intact(
            attempt, self._source.forget_tail, lambda: blake3(data).digest()
        )

    def _from_seed(self, number: int) -> memoryview | None:
        index = self._index
        if index is None or not index.parts:
            return None
        _, length, digest = index.parts[number]
        return OnDisk(lambda _: None, self._seeds()).seed(digest, length)

    def cancel_reads(self) -> None:
        r"""Let reads that are under way in other threads end, with an error."""
        self._source.cancel_reads()

r"""Tell which ranges of an archive will be fetched, and what will be copied."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Container
from collections.abc import Iterator
from dataclasses import dataclass

from audmodel.core.archive import existing
from audmodel.core.archive import format
from audmodel.core.archive.deflate import PIECE
from audmodel.core.archive.plan import Job
from audmodel.core.archive.plan import MemberPart
from audmodel.core.archive.plan import Schedule
from audmodel.core.archive.plan import Span
from audmodel.core.archive.plan import runs
from audmodel.core.archive.seeds import Seeds
from audmodel.core.archive.seeds import fill
from audmodel.core.archive.seeds import has_all
from audmodel.core.archive.target import Target


@dataclass(frozen=True)
class DryRun:
    r"""What extracting members of an archive takes.

    Args:
        ranges: position of the first byte and of the byte after the last one
            of each request
        copied: bytes of files that are copied from seeds

    """

    ranges: list[tuple[int, int]]
    copied: int


def dry_run(
    directory: format.Directory,
    only: Container[str],
    left: Callable[[str], Target | None] | None,
    seeds: Seeds,
    num_workers: int,
) -> DryRun:
    r"""What extracting members of an archive takes.

    Args:
        directory: directory of the archive
        only: names of the members to extract
        left: gives the folder in which an earlier attempt left a file, if one did,
            and is ``None`` if there was none
        seeds: where parts are on the disk already
        num_workers: number of workers

    Returns:
        what is fetched, and what is copied

    """
    schedule = Schedule(
        directory, only, num_workers, resume=left is not None, seeded=seeds
    )
    look = _Look(left or (lambda _: None), seeds)
    ranges = []
    for group in schedule.groups():
        found = [
            bounds
            for job in group
            for bounds in look.ranges(job, schedule.stream_workers)
        ]
        if isinstance(group[0], MemberPart) and found:
            found = [(found[0][0], found[-1][1])]
        ranges += found
    return DryRun(ranges, look.copied)


class _Look:
    r"""Look for what need not be fetched.

    Args:
        left: gives the folder in which an earlier attempt left a file
        seeds: where parts are on the disk already

    """

    def __init__(self, left: Callable[[str], Target | None], seeds: Seeds) -> None:
        self._left = left
        self._seeds = seeds
        self.copied = 0
        r"""Bytes of files for which there are seeds that are right."""

    def ranges(self, job: Job, workers: int) -> Iterator[tuple[int, int]]:
        r"""Ranges of the requests of a job.

        Args:
            job: the job
            workers: number of workers that fetch a large member without index

        Yields:
            position of the first byte and of the byte after the last one

        """
        if isinstance(job, Span):
            missing = [entry for entry in job.entries if not self._has(entry.member)]
            for run in runs(missing):
                yield run[0].start, run[-1].stop
        elif isinstance(job, MemberPart):
            if not self._has_part(job.member, job.part):
                yield job.start, job.stop
        elif not self._is_left(job.member):
            yield from job.ranges(workers)

    def _has(self, member: format.Member) -> bool:
        if self._is_left(member):
            return True
        return has_all(self._seeds, member) and all(
            self._has_seed(digest, length) for _, length, digest in _parts(member)
        )

    def _has_part(self, member: format.Member, part: format.Part) -> bool:
        folder = self._left(member.name)
        # A load gives the file its size first
        if (
            folder is not None
            and existing.part_crc(folder, member, part, _buffer, any_size=True)
            is not None
        ):
            return True
        return self._has_seed(part.digest, part.uncompressed_size)

    def _is_left(self, member: format.Member) -> bool:
        folder = self._left(member.name)
        return folder is not None and existing.is_right(folder, member, _buffer(PIECE))

    def _has_seed(self, digest: bytes, length: int) -> bool:
        seed = self._seeds.get(digest)
        if seed is None or not fill(seed, digest, _buffer(length)):
            return False
        self.copied += length
        return True


def _parts(member: format.Member) -> tuple[tuple[int, int, bytes], ...]:
    return member.index.parts if member.index is not None else ()


def _buffer(length: int) -> memoryview:
    return memoryview(bytearray(length))

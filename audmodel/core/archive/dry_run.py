r"""Tell which ranges of an archive will be fetched, and what will be copied."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Container
from collections.abc import Iterator
from dataclasses import dataclass

from audmodel.core.archive import format
from audmodel.core.archive.existing import Found
from audmodel.core.archive.existing import OnDisk
from audmodel.core.archive.plan import Job
from audmodel.core.archive.plan import MemberPart
from audmodel.core.archive.plan import Schedule
from audmodel.core.archive.plan import Span
from audmodel.core.archive.plan import runs
from audmodel.core.archive.seeds import Seeds
from audmodel.core.archive.target import Files


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
    left: Callable[[str], Files | None] | None,
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
    # A load gives a file that was left its size first
    look = _Look(OnDisk(left or (lambda _: None), seeds, any_size=True))
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
    r"""Look for what need not be fetched."""

    def __init__(self, disk: OnDisk) -> None:
        self._disk = disk
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
            missing = [
                entry
                for entry in job.entries
                if self._is_missing(self._disk.member(entry.member))
            ]
            for run in runs(missing):
                yield run[0].start, run[-1].stop
        elif isinstance(job, MemberPart):
            if self._is_missing(self._disk.part(job)):
                yield job.start, job.stop
        elif self._is_missing(self._disk.member(job.member)):
            yield from job.ranges(workers)

    def _is_missing(self, found: Found | None) -> bool:
        if found is not None and found.copy is not None:
            self.copied += len(found.copy)
        return found is None

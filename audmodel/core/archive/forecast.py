r"""Tell which ranges of an archive will be fetched."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Container
from collections.abc import Iterator

from audmodel.core.archive import existing
from audmodel.core.archive import format
from audmodel.core.archive.deflate import PIECE
from audmodel.core.archive.plan import Job
from audmodel.core.archive.plan import MemberPart
from audmodel.core.archive.plan import Span
from audmodel.core.archive.plan import batches
from audmodel.core.archive.plan import plan
from audmodel.core.archive.plan import stream_workers
from audmodel.core.archive.target import Target


def ranges(
    directory: format.Directory,
    only: Container[str],
    left: Callable[[str], Target | None] | None,
    num_workers: int,
) -> Iterator[tuple[int, int]]:
    r"""Ranges of an archive that extracting it takes.

    Args:
        directory: directory of the archive
        only: names of the members to extract
        left: gives the folder in which an earlier attempt left a file, if one did,
            and is ``None`` if there was none
        num_workers: number of workers

    Yields:
        position of the first byte and of the byte after the last one

    """
    jobs = plan(directory, only)
    workers = stream_workers(jobs, num_workers)
    if left is not None:
        for job in jobs:
            yield from _missing(job, left, workers)
        return
    for batch in batches(jobs, num_workers):
        found = [bounds for job in batch for bounds in _all(job, workers)]
        if isinstance(batch[0], MemberPart):
            found = [(found[0][0], found[-1][1])]
        yield from found


def _all(job: Job, workers: int) -> Iterator[tuple[int, int]]:
    if isinstance(job, Span):
        yield job.entries[0].start, job.entries[-1].stop
    elif isinstance(job, MemberPart):
        yield job.start, job.stop
    else:
        yield from job.ranges(workers)


def _missing(
    job: Job, left: Callable[[str], Target | None], workers: int
) -> Iterator[tuple[int, int]]:
    def is_right(member: format.Member) -> bool:
        folder = left(member.name)
        return folder is not None and existing.is_right(folder, member, _buffer(PIECE))

    if isinstance(job, Span):
        missing = [entry for entry in job.entries if not is_right(entry.member)]
        if missing:
            yield missing[0].start, missing[-1].stop
    elif isinstance(job, MemberPart):
        member, part = job.member, job.part
        folder = left(member.name)
        # A load gives the file its size first
        if folder is None or not _has_part(folder, member, part):
            yield job.start, job.stop
    elif not is_right(job.member):
        yield from _all(job, workers)


def _has_part(folder: Target, member: format.Member, part: format.Part) -> bool:
    crc = existing.part_crc(folder, member, part, _buffer, any_size=True)
    return crc is not None


def _buffer(length: int) -> memoryview:
    return memoryview(bytearray(length))

r"""Turn the directory of an archive into requests."""

from __future__ import annotations

from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Iterator
from typing import NamedTuple
from typing import TypeAlias

from audmodel.core.archive import format
from audmodel.core.archive import parsing


# Requests of several workers for a large member without index
RANGE = 8 * format.KIB * format.KIB
# Neighbouring parts are fetched in one request up to this size,
# as each request takes server and client about as long as 2 MiB of data
_TOGETHER = 16 * format.KIB * format.KIB
# and up to this share of the remaining bytes for each worker
_SHARES = 2
# Members are fetched together if no more than this lies between them
_GAP = 64 * format.KIB
_SPAN_MEMBERS = 1024


class Entry(NamedTuple):
    r"""Member and the bytes of the archive that hold it."""

    member: format.Member
    start: int
    stop: int


class Span(NamedTuple):
    r"""Small members that are next to each other, fetched in one request."""

    entries: tuple[Entry, ...]

    @property
    def start(self) -> int:
        r"""Position of the first byte."""
        return self.entries[0].start

    @property
    def stop(self) -> int:
        r"""Position of the byte after the last one."""
        return self.entries[-1].stop


class MemberPart(NamedTuple):
    r"""Part of a large member, fetched together with those that follow it.

    The first part brings the header of the member.
    """

    member: format.Member
    part: format.Part
    number: int
    start: int
    stop: int

    @property
    def is_last(self) -> bool:
        r"""Whether it is the last part of the member."""
        return self.part.file_offset + self.part.uncompressed_size == self.member.size


class Stream(NamedTuple):
    r"""Large member without index, which is inflated from its start to its end."""

    member: format.Member
    start: int
    stop: int

    def ranges(self, workers: int) -> list[tuple[int, int]]:
        r"""Ranges of the requests, a single one with one worker.

        Args:
            workers: number of workers that fetch it

        Returns:
            position of the first byte and of the byte after the last one

        """
        size = RANGE if workers > 1 else self.stop - self.start
        starts = range(self.start, self.stop, size)
        return [(start, min(start + size, self.stop)) for start in starts]


Job: TypeAlias = Span | MemberPart | Stream


def plan(directory: format.Directory, only: Container[str] | None = None) -> list[Job]:
    r"""Turn a directory into requests.

    Small members that are next to each other share one request,
    parts of large ones have a request each.

    Args:
        directory: directory of an archive
        only: names of the members that are wanted,
            all of them if it is ``None``

    Returns:
        jobs in the order of their position in the archive

    """
    jobs: list[Job] = []
    entries: list[Entry] = []

    def close_span() -> None:
        if entries:
            jobs.append(Span(tuple(entries)))
            entries.clear()

    for member, stop in zip(directory.members, directory.stops(), strict=True):
        if member.is_folder or (only is not None and member.name not in only):
            continue
        entry = Entry(member, *parsing.data_range(member, stop))
        if member.is_divided:
            close_span()
            jobs += member_parts(member)
        elif member.index is None and entry.stop - entry.start > format.PART_SIZE:
            close_span()
            jobs.append(Stream(*entry))
        else:
            if entries and (
                entry.stop - entries[0].start > format.PART_SIZE
                or entry.start - entries[-1].stop > _GAP
                or len(entries) == _SPAN_MEMBERS
            ):
                close_span()
            entries.append(entry)
    close_span()
    return jobs


def split(jobs: list[Job], most: int) -> list[Job]:
    r"""Let no request bring too many files."""
    smaller: list[Job] = []
    for job in jobs:
        if isinstance(job, Span):
            starts = range(0, len(job.entries), most)
            smaller += [Span(job.entries[n : n + most]) for n in starts]
        else:
            smaller.append(job)
    return smaller


def runs(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    r"""Group small members that are fetched in one request.

    Args:
        entries: some members of a span, in order

    Yields:
        members between which there is little else

    """
    run: list[Entry] = []
    for entry in entries:
        if run and entry.start - run[-1].stop > _GAP:
            yield run
            run = []
        run.append(entry)
    if run:
        yield run


def finished_files(job: Job) -> list[str]:
    r"""Names of the files that are complete after a job and all before it."""
    if isinstance(job, Span):
        return [entry.member.name for entry in job.entries]
    if isinstance(job, MemberPart) and not job.is_last:
        return []
    return [job.member.name]


def member_parts(member: format.Member) -> Iterator[MemberPart]:
    r"""Parts of a large member and the bytes of the archive that hold them.

    Args:
        member: member that has an index

    Yields:
        parts in order

    """
    assert member.index is not None
    data_offset = member.header_offset + member.index.header_length
    for number, part in enumerate(member.parts()):
        start = data_offset + part.offset
        yield MemberPart(
            member,
            part,
            number,
            member.header_offset if number == 0 else start,
            start + part.length,
        )


def batches(
    jobs: list[Job], num_workers: int, seeded: Container[bytes] = frozenset()
) -> Iterator[list[Job]]:
    r"""Group parts that one worker fetches one after the other.

    Groups get smaller towards the end,
    so that all workers have something to do until it is reached.
    A single worker gets all parts of a member together.

    Args:
        jobs: jobs in the order of their position
        num_workers: number of workers
        seeded: digests of parts that are not fetched

    Yields:
        jobs, several of them only if they are parts of one member

    """
    left = sum(_length(job, seeded) for job in jobs)
    batch: list[Job] = []
    size = 0
    for job in jobs:
        length = _length(job, seeded)
        most = left + size
        if num_workers > 1:
            most = min(_TOGETHER, most // (_SHARES * num_workers))
        if batch and not (
            isinstance(job, MemberPart)
            and isinstance(batch[-1], MemberPart)
            and job.member is batch[-1].member
            and size > 0
            and 0 < length <= most - size
        ):
            yield batch
            batch = []
            size = 0
        batch.append(job)
        size += length
        left -= length
    if batch:
        yield batch


def stream_workers(jobs: list[Job], num_workers: int) -> int:
    r"""Number of workers that fetch each large member without index."""
    num_streams = sum(isinstance(job, Stream) for job in jobs)
    return max(1, num_workers // max(1, num_streams))


def _length(job: Job, seeded: Container[bytes]) -> int:
    r"""Bytes of a part that is fetched."""
    if not isinstance(job, MemberPart) or job.part.digest in seeded:
        return 0
    return job.stop - job.start


class Schedule:
    r"""Which requests extract an archive, and which of them a worker makes.

    Args:
        directory: directory of the archive
        only: names of the members to extract, all of them if it is ``None``
        num_workers: number of workers
        ahead: largest number of files that are begun
            before the caller asks for them,
            bound by the number of requests alone if it is ``None``
        resume: whether some parts may be there already
        seeded: digests of parts that are not fetched

    """

    def __init__(
        self,
        directory: format.Directory,
        only: Container[str] | None,
        num_workers: int,
        *,
        ahead: int | None = None,
        resume: bool = False,
        seeded: Container[bytes] = frozenset(),
    ) -> None:
        self._num_workers = num_workers
        self._resume = resume
        self._seeded = seeded
        self.jobs = plan(directory, only)
        self.ahead: int | None = None
        r"""Largest number of groups that are begun ahead."""
        if ahead is not None:
            self.ahead = min(2 * num_workers, ahead)
            self.jobs = split(self.jobs, ahead // self.ahead)
        self.stream_workers = stream_workers(self.jobs, num_workers)

    def groups(self) -> Iterable[list[Job]]:
        r"""Jobs that one worker does one after the other."""
        if self._resume:
            # Only some parts may be missing of what an earlier attempt left
            return [[job] for job in self.jobs]
        return batches(self.jobs, self._num_workers, self._seeded)

r"""Read an archive and check it, without writing anything."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import contextlib
import functools

from audmodel.core.archive import checks
from audmodel.core.archive import format
from audmodel.core.archive.decoding import Content
from audmodel.core.archive.fetching import Fetcher
from audmodel.core.archive.plan import Entry
from audmodel.core.archive.plan import Job
from audmodel.core.archive.plan import MemberPart
from audmodel.core.archive.plan import Schedule
from audmodel.core.archive.plan import Span
from audmodel.core.archive.plan import Stream
from audmodel.core.archive.source import Source
from audmodel.core.errors import ArchiveError
from audmodel.core.ranges import Ranges
from audmodel.parallel import prefetch


class Checker:
    r"""Check everything that extracting an archive checks.

    Args:
        source: the archive
        directory: directory of the archive
        num_workers: number of threads
        progress: called with the number of bytes of the archive that were checked

    """

    def __init__(
        self,
        source: Source,
        directory: format.Directory,
        *,
        num_workers: int = 1,
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._num_workers = num_workers
        self._progress = progress
        schedule = Schedule(directory, None, num_workers)
        self._jobs = schedule.jobs
        self._fetcher = Fetcher(source, schedule.stream_workers)

    def damaged(self) -> dict[str, str]:
        r"""Files that cannot be extracted.

        Returns:
            the problem of each, by its name

        Raises:
            RepositoryError: if the archive cannot be read

        """
        found: dict[str, str] = {}
        checksums: dict[str, int] = {}
        results = prefetch(
            self._check_job,
            self._jobs,
            num_workers=self._num_workers,
            on_abort=self._fetcher.cancel,
        )
        with contextlib.closing(results):
            for job, crc, errors in results:
                for name, error in errors.items():
                    found.setdefault(name, error)
                if isinstance(job, MemberPart):
                    try:
                        checks.combine_crc(checksums, job, crc)
                    except ArchiveError as error:
                        found.setdefault(job.member.name, str(error))
        return found

    def _check_job(self, job: Job) -> tuple[Job, int, dict[str, str]]:
        r"""Check a job, and give the CRC-32 of a part, and problems of files."""
        try:
            crc = self._fetcher.intact(
                self._fetcher.source, functools.partial(self._check, job)
            )
        except ArchiveError as error:
            if not isinstance(job, Span):
                return job, 0, {job.member.name: str(error)}
            if len(job.entries) == 1:
                return job, 0, {job.entries[0].member.name: str(error)}
            errors: dict[str, str] = {}
            for entry in job.entries:
                errors.update(self._check_job(Span((entry,)))[2])
            return job, 0, errors
        if isinstance(job, Span):
            self._progress(sum(entry.member.compressed_size for entry in job.entries))
        elif isinstance(job, MemberPart):
            self._progress(job.part.length)
        else:
            self._progress(job.member.compressed_size)
        return job, crc, {}

    def _check(self, job: Job, ranges: Ranges) -> int:
        tick = self._fetcher.check_not_cancelled
        if isinstance(job, Stream):
            with contextlib.closing(self._fetcher.stream(job)) as chunks:
                return _crc(job, chunks, tick)
        data = self._fetcher.fetch(ranges, job.start, job.stop)
        return check_data(job, data, tick)


def check_data(
    job: Span | MemberPart, data: memoryview, tick: Callable[[], None]
) -> int:
    r"""Check the bytes of the archive that a job is about.

    Args:
        job: members, or a part of one
        data: the bytes
        tick: called before each piece of content

    Returns:
        CRC-32 of a part

    Raises:
        ArchiveError: if they are damaged,
            the message names the file and the part

    """
    if isinstance(job, MemberPart):
        return _crc(job, (data,), tick)
    for entry in job.entries:
        stored = data[entry.start - job.start : entry.stop - job.start]
        _crc(entry, (stored,), tick)
    return 0


def _crc(
    job: Entry | MemberPart | Stream,
    chunks: Iterable[memoryview],
    tick: Callable[[], None],
) -> int:
    content = Content(job, tick)
    for _ in content.pieces(chunks):
        pass
    return content.crc

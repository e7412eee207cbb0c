r"""Read an archive and check it, without writing anything."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import errno
import os

from audmodel.core.archive import checks
from audmodel.core.archive import format
from audmodel.core.archive.plan import Job
from audmodel.core.archive.plan import MemberPart
from audmodel.core.archive.plan import Span
from audmodel.core.archive.reader import Extractor
from audmodel.core.archive.source import Source
from audmodel.core.errors import ArchiveError
from audmodel.parallel import prefetch


class Checker(Extractor):
    r"""Check everything that extracting an archive checks.

    Args:
        source: the archive
        directory: directory of the archive
        num_workers: number of threads
        progress: called with the number of bytes of files that were checked

    """

    def __init__(
        self,
        source: Source,
        directory: format.Directory,
        *,
        num_workers: int = 1,
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        super().__init__(
            source, directory, _Nowhere(), num_workers=num_workers, progress=progress
        )

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
            self._schedule.jobs,
            num_workers=self._num_workers,
            on_abort=self._cancel,
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
        try:
            return job, self._attempt(job, self._source), {}
        except ArchiveError as error:
            if isinstance(job, Span):
                if len(job.entries) == 1:
                    return job, 0, {job.entries[0].member.name: str(error)}
                errors: dict[str, str] = {}
                for entry in job.entries:
                    errors.update(self._check_job(Span((entry,)))[2])
                return job, 0, errors
            return job, 0, {job.member.name: str(error)}


class _Nowhere:
    r"""Folder that discards everything that is written to it."""

    def open(self, name: str) -> int:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)

    def open_own(self, name: str, mode: int) -> int:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[Callable[[str, int], int]]:
        yield self.open_own

    def make(self, name: str) -> None:
        pass

    def status(self, name: str) -> os.stat_result:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)

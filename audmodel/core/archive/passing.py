r"""Pass the bytes of an archive on, after they were checked."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
import contextlib
import itertools
from typing import NamedTuple

from isal import isal_zlib

from audmodel.core.archive import checks
from audmodel.core.archive import format
from audmodel.core.archive.checker import Checker
from audmodel.core.archive.plan import RANGE
from audmodel.core.archive.plan import Job
from audmodel.core.archive.plan import MemberPart
from audmodel.core.archive.plan import Span
from audmodel.core.archive.plan import Stream
from audmodel.core.archive.source import Source
from audmodel.core.errors import ArchiveError
from audmodel.parallel import prefetch


class _Window(NamedTuple):
    r"""Bytes of the archive that are fetched at once.

    Args:
        start: position of the first byte
        stop: position behind the last byte
        job: how they are checked, ``None`` for what is between members

    """

    start: int
    stop: int
    job: Job | None

    @property
    def is_stream(self) -> bool:
        r"""Whether they are checked while they arrive."""
        return isinstance(self.job, Stream)


class Passer(Checker):
    r"""Fetch an archive in parallel, and pass its bytes on.

    The bytes of members are compared with the directory.
    The directory itself, which the caller has read before, is fetched again,
    so what it has become at its destination has to be compared.

    Args:
        source: the archive
        directory: directory of the archive
        num_workers: number of threads
        progress: called with the number of bytes that were passed on

    """

    def __init__(
        self,
        source: Source,
        directory: format.Directory,
        *,
        num_workers: int = 1,
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        super().__init__(source, directory, num_workers=num_workers)
        self._passed = progress
        # Bytes of a stream that were fetched and not passed on
        self._arrived: list[bytes] = []

    def chunks(self) -> Generator[bytes, None, None]:
        r"""All bytes of the archive, in order.

        Raises:
            ArchiveError: if a member is damaged
            RepositoryError: if the archive cannot be read

        """
        groups = itertools.groupby(self._windows(), lambda window: window.is_stream)
        for is_stream, windows in groups:
            pass_on = self._streams if is_stream else self._blocks
            with contextlib.closing(pass_on(windows)) as chunks:
                for chunk in chunks:
                    self._passed(len(chunk))
                    yield chunk

    def _windows(self) -> Iterator[_Window]:
        position = 0
        for job in self._schedule.jobs:
            start, stop = _bounds(job)
            if start < position:
                raise ArchiveError("its members overlap")
            yield from _unchecked(position, start)
            yield _Window(start, stop, job)
            position = stop
        yield from _unchecked(position, self._source.size)

    def _blocks(self, windows: Iterator[_Window]) -> Generator[bytes, None, None]:
        r"""Bytes that are checked as a whole, by several workers."""
        checksums: dict[str, int] = {}
        results = prefetch(
            self._block, windows, num_workers=self._num_workers, on_abort=self._cancel
        )
        with contextlib.closing(results):
            for job, data, crc in results:
                if isinstance(job, MemberPart):
                    checks.combine_crc(checksums, job, crc)
                yield data

    def _block(self, window: _Window) -> tuple[Job | None, bytes, int]:
        start, stop, job = window
        if job is None:
            return job, bytes(self._source.read(start, stop - start)), 0
        crc = self._attempt(job, self._source)
        return job, bytes(self._local.fetched), crc

    def _streams(self, windows: Iterator[_Window]) -> Generator[bytes, None, None]:
        r"""Bytes of members that are inflated from their start to their end."""
        for window in windows:
            job = window.job
            assert isinstance(job, Stream)
            with checks.naming(job):
                crc = 0
                with contextlib.closing(self._inflated(job)) as pieces:
                    for piece in pieces:
                        crc = isal_zlib.crc32(piece, crc)
                        yield from self._take()
                checks.check_crc(job.member, crc)
                yield from self._take()

    def _fetched(self, job: Stream) -> Generator[memoryview, None, None]:
        with contextlib.closing(super()._fetched(job)) as chunks:
            for chunk in chunks:
                self._arrived.append(bytes(chunk))
                yield chunk

    def _take(self) -> list[bytes]:
        taken, self._arrived = self._arrived, []
        return taken


def _bounds(job: Job) -> tuple[int, int]:
    if isinstance(job, Span):
        return job.entries[0].start, job.entries[-1].stop
    return job.start, job.stop


def _unchecked(start: int, stop: int) -> Iterator[_Window]:
    r"""Bytes that belong to no member."""
    for position in range(start, stop, RANGE):
        yield _Window(position, min(position + RANGE, stop), None)

r"""Pass the bytes of an archive on, after they were checked."""

from __future__ import annotations

from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import itertools
from typing import NamedTuple

from audmodel.core.archive import checks
from audmodel.core.archive import format
from audmodel.core.archive.checker import check_data
from audmodel.core.archive.decoding import Content
from audmodel.core.archive.fetching import Fetcher
from audmodel.core.archive.plan import RANGE
from audmodel.core.archive.plan import Job
from audmodel.core.archive.plan import MemberPart
from audmodel.core.archive.plan import Schedule
from audmodel.core.archive.plan import Stream
from audmodel.core.archive.source import Source
from audmodel.core.errors import ArchiveError
from audmodel.core.ranges import Ranges
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


class Passer:
    r"""Fetch an archive in parallel, and pass its bytes on.

    The bytes of members are compared with the directory.
    The directory itself, which the caller has read before, is fetched again,
    so what it has become at its destination has to be compared.

    Args:
        source: the archive
        directory: directory of the archive
        num_workers: number of threads

    """

    def __init__(
        self,
        source: Source,
        directory: format.Directory,
        *,
        num_workers: int = 1,
    ) -> None:
        schedule = Schedule(directory, None, num_workers)
        self._jobs = schedule.jobs
        self._fetcher = Fetcher(source, schedule.stream_workers)
        self._tick = self._fetcher.check_not_cancelled
        self._num_workers = num_workers

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
                yield from chunks

    def _windows(self) -> Iterator[_Window]:
        position = 0
        for job in self._jobs:
            if job.start < position:
                raise ArchiveError("its members overlap")
            yield from _unchecked(position, job.start)
            yield _Window(job.start, job.stop, job)
            position = job.stop
        yield from _unchecked(position, self._fetcher.source.size)

    def _blocks(self, windows: Iterator[_Window]) -> Generator[bytes, None, None]:
        r"""Bytes that are checked as a whole, by several workers."""
        checksums: dict[str, int] = {}
        results = prefetch(
            self._block,
            windows,
            num_workers=self._num_workers,
            on_abort=self._fetcher.cancel,
        )
        with contextlib.closing(results):
            for job, data, crc in results:
                if isinstance(job, MemberPart):
                    checks.combine_crc(checksums, job, crc)
                yield data

    def _block(self, window: _Window) -> tuple[Job | None, bytes, int]:
        start, stop, job = window

        def fetch(ranges: Ranges) -> tuple[bytes, int]:
            data = self._fetcher.fetch(ranges, start, stop)
            assert not isinstance(job, Stream)
            crc = 0 if job is None else check_data(job, data, self._tick)
            return bytes(data), crc

        return job, *self._fetcher.intact(self._fetcher.source, fetch)

    def _streams(self, windows: Iterator[_Window]) -> Generator[bytes, None, None]:
        r"""Bytes of members that are inflated from their start to their end."""
        for window in windows:
            job = window.job
            assert isinstance(job, Stream)
            arrived: list[bytes] = []
            with contextlib.closing(self._fetcher.stream(job)) as chunks:
                for _ in Content(job, self._tick).pieces(_noted(chunks, arrived)):
                    yield from arrived
                    arrived.clear()
            yield from arrived


def _noted(chunks: Iterable[memoryview], arrived: list[bytes]) -> Iterator[memoryview]:
    for chunk in chunks:
        arrived.append(bytes(chunk))
        yield chunk


def _unchecked(start: int, stop: int) -> Iterator[_Window]:
    r"""Bytes that belong to no member."""
    for position in range(start, stop, RANGE):
        yield _Window(position, min(position + RANGE, stop), None)

r"""Read an archive in parallel: fetch, inflate, verify, write."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Container
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import functools
import itertools
import os
import threading

from audmodel.core.archive import checks
from audmodel.core.archive import format
from audmodel.core.archive.decoding import Content
from audmodel.core.archive.existing import Found
from audmodel.core.archive.existing import OnDisk
from audmodel.core.archive.fetching import CancelledError
from audmodel.core.archive.fetching import Fetcher
from audmodel.core.archive.plan import Entry
from audmodel.core.archive.plan import Job
from audmodel.core.archive.plan import MemberPart
from audmodel.core.archive.plan import Schedule
from audmodel.core.archive.plan import Span
from audmodel.core.archive.plan import Stream
from audmodel.core.archive.plan import finished_files
from audmodel.core.archive.plan import runs
from audmodel.core.archive.seeds import Seeds
from audmodel.core.archive.source import Source
from audmodel.core.archive.target import Target
from audmodel.core.ranges import Buffer
from audmodel.core.ranges import Ranges
from audmodel.parallel import prefetch


# Members of a request that count as many small files
_MANY = 32


class Extractor:
    r"""Extract an archive into a folder.

    The folder may hold files of an earlier attempt.
    Parts that are right in them are kept and not fetched again;
    everything else in them is overwritten.

    Args:
        source: the archive
        directory: directory of the archive
        target: existing folder that the files are written to
        num_workers: number of threads,
            1 extracts in the calling thread
        resume: whether the folder holds files of an earlier attempt
        only: names of the members to extract,
            all of them if it is ``None``
        ahead: largest number of files
            that are begun before the consumer of :meth:`files` asks for them,
            bound by the number of requests alone if it is ``None``
        is_slow: whether it takes long to open a file in the folder
        seeds: where parts are on the disk already.
            They are copied from there, and fetched only if that fails
        progress: called with the number of bytes of the archive
            that were fetched, the content of which was written,
            by any thread
        kept: called with those that are not fetched, since it is there
        copied: called with those that are not fetched,
            and the number of bytes that were copied from seeds instead

    """

    def __init__(
        self,
        source: Source,
        directory: format.Directory,
        target: Target,
        *,
        num_workers: int = 1,
        resume: bool = False,
        only: Container[str] | None = None,
        ahead: int | None = None,
        is_slow: bool = False,
        seeds: Seeds | None = None,
        progress: Callable[[int], None] = lambda count: None,
        kept: Callable[[int], None] = lambda count: None,
        copied: Callable[[int, int], None] = lambda count, size: None,
    ) -> None:
        self._members = [
            member
            for member in directory.members
            if only is None or member.name in only
        ]
        self._target = target
        self._num_workers = num_workers
        self._resume = resume
        self._progress = progress
        self._kept = kept
        self._copied = copied
        self._schedule = Schedule(
            directory,
            only,
            num_workers,
            ahead=ahead,
            resume=resume,
            seeded=seeds or {},
        )
        self._fetcher = Fetcher(source, self._schedule.stream_workers)
        self._tick = self._fetcher.check_not_cancelled
        self._may_exist = resume or bool(seeds)
        self._disk = OnDisk(
            lambda _: target if resume else None,
            seeds or {},
            self._fetcher.buffer,
            tick=self._tick,
        )
        self._failure: BaseException = CancelledError()
        # Many small files take more of Python than of anything else.
        # Threads that unpack them side by side only wait for each other,
        # unless a file takes so long to open that all of them wait for that.
        self._interpreter: contextlib.AbstractContextManager[object] = (
            contextlib.nullcontext() if is_slow else threading.Lock()
        )

    def run(self) -> None:
        r"""Extract all files.

        Raises:
            ArchiveError: if the archive is damaged,
                the message names the file and the part
            RepositoryError: if the archive cannot be read
            OSError: if a file cannot be written

        """
        for _ in self.files():
            pass

    def files(self) -> Generator[str, None, None]:
        r"""Extract one file after the other.

        Closing the generator ends the work.

        Yields:
            names of files that are complete and right,
            in the order of the archive

        Raises:
            ArchiveError: if the archive is damaged,
                the message names the file and the part
            RepositoryError: if the archive cannot be read
            OSError: if a file cannot be written

        """
        self._make_folders()
        checksums: dict[str, int] = {}
        results = prefetch(
            self._run_batch,
            self._schedule.groups(),
            num_workers=self._num_workers,
            ahead=self._schedule.ahead,
            on_abort=self._fetcher.cancel,
        )
        try:
            with contextlib.closing(results):
                for job, crc in itertools.chain.from_iterable(results):
                    if isinstance(job, MemberPart):
                        checks.combine_crc(checksums, job, crc)
                    yield from finished_files(job)
        except CancelledError:
            # Another job failed, and this one only stopped because of it
            raise self._failure from None

    def _make_folders(self) -> None:
        folders = {
            member.name.rstrip("/")
            if member.is_folder
            else member.name.rpartition("/")[0]
            for member in self._members
        }
        for name in sorted(folders):
            self._target.make(name)

    # ------------------------------------------------------------ jobs

    def _run_batch(self, jobs: list[Job]) -> list[tuple[Job, int]]:
        r"""Extract jobs that are next to each other in the archive."""
        source = self._fetcher.source
        first, last = jobs[0], jobs[-1]
        if not (isinstance(first, MemberPart) and isinstance(last, MemberPart)):
            return [(job, self._run_job(job, source)) for job in jobs]
        with source.in_order(first.start, last.stop) as ranges:
            return [(job, self._run_job(job, ranges)) for job in jobs]

    def _run_job(self, job: Job, ranges: Ranges) -> int:
        r"""Extract a job, or tell the others why not; return the CRC-32 of a part."""
        try:
            if isinstance(job, MemberPart):
                return self._extract_part(job, ranges)
            if isinstance(job, Span):
                self._extract_span(job, ranges)
            else:
                self._extract_stream(job, ranges)
        except CancelledError:
            raise
        except BaseException as error:
            # The other workers learn of it before they are waited for.
            # What they fail with is only a consequence
            if not self._fetcher.is_cancelled.is_set():
                self._failure = error
                self._fetcher.is_cancelled.set()
            raise
        return 0

    # ------------------------------------------------------------ small files

    def _extract_span(self, job: Span, ranges: Ranges) -> None:
        is_many = len(job.entries) >= _MANY
        lock = self._interpreter if is_many else contextlib.nullcontext()
        entries: Sequence[Entry] = job.entries
        if self._may_exist:
            with lock:
                entries = self._missing(entries)
        for run in runs(entries):
            self._fetcher.intact(
                ranges, functools.partial(self._extract_run, run, lock)
            )
            self._progress(sum(entry.member.compressed_size for entry in run))

    def _missing(self, entries: Sequence[Entry]) -> list[Entry]:
        r"""Members that are not on the disk. Those that are elsewhere are copied."""
        missing = []
        for folder, members in itertools.groupby(entries, _folder):
            with self._target.opened(folder) as make:
                for entry in members:
                    found = self._disk.member(entry.member)
                    if found is None:
                        missing.append(entry)
                        continue
                    if found.copy is not None:
                        self._write_file(entry.member, [found.copy], make)
                    self._count_found(
                        entry.member.compressed_size, entry.member.size, found
                    )
        return missing

    def _extract_run(
        self,
        run: list[Entry],
        lock: contextlib.AbstractContextManager[object],
        ranges: Ranges,
    ) -> None:
        r"""Extract members that are next to each other in the archive."""
        start = run[0].start
        data = self._fetcher.fetch(ranges, start, run[-1].stop)
        with lock:
            for folder, members in itertools.groupby(run, _folder):
                with self._target.opened(folder) as make:
                    for entry in members:
                        stored = data[entry.start - start : entry.stop - start]
                        pieces = Content(entry, self._tick).pieces((stored,))
                        self._write_file(entry.member, pieces, make)

    def _write_file(
        self,
        member: format.Member,
        pieces: Iterable[Buffer],
        make: Callable[[str, int], int],
    ) -> None:
        fd = make(member.name.rpartition("/")[2], _mode(member))
        try:
            if self._resume:
                os.ftruncate(fd, 0)
            offset = 0
            for piece in pieces:
                _write(fd, piece, offset)
                offset += len(piece)
        finally:
            os.close(fd)

    # ------------------------------------------------------------ large files

    def _extract_part(self, job: MemberPart, ranges: Ranges) -> int:
        found = self._disk.part(job)
        if found is not None:
            if found.copy is not None:
                self._write_part(job, [found.copy])
            self._count_found(job.part.length, job.part.uncompressed_size, found)
            return found.crc

        def extract(ranges: Ranges) -> int:
            content = Content(job, self._tick)
            data = self._fetcher.fetch(ranges, job.start, job.stop)
            self._write_part(job, content.pieces((data,)))
            return content.crc

        crc = self._fetcher.intact(ranges, extract)
        self._progress(job.part.length)
        return crc

    def _write_part(self, job: MemberPart, pieces: Iterable[Buffer]) -> None:
        with self._opened(job.member) as fd:
            if os.fstat(fd).st_size != job.member.size:
                os.ftruncate(fd, job.member.size)
            for offset, piece in _placed(pieces, job.part.file_offset):
                _write(fd, piece, offset)

    def _extract_stream(self, job: Stream, ranges: Ranges) -> None:
        r"""Extract a member while its ranges arrive."""
        found = self._disk.member(job.member)
        if found is not None:
            self._count_found(job.member.compressed_size, job.member.size, found)
        else:
            self._fetcher.intact(ranges, lambda _: self._write_stream(job))

    def _write_stream(self, job: Stream) -> None:
        # Stored data is in a buffer that is about to be used again
        is_fresh = job.member.method == format.DEFLATED
        with (
            self._opened(job.member) as fd,
            contextlib.closing(self._fetcher.stream(job)) as chunks,
            contextlib.closing(
                Content(job, self._tick).pieces(self._counted(job.member, chunks))
            ) as pieces,
            contextlib.closing(
                # Writing takes a tenth of the time of inflating
                prefetch(
                    functools.partial(self._write_piece, fd),
                    _placed(pieces),
                    num_workers=min(2, self._num_workers) if is_fresh else 1,
                    ahead=2,
                )
            ) as written,
        ):
            if self._resume:
                os.ftruncate(fd, 0)
            for _ in written:
                pass

    def _write_piece(self, fd: int, placed: tuple[int, Buffer]) -> None:
        offset, piece = placed
        _write(fd, piece, offset)

    # ------------------------------------------------------------ files

    def _counted(
        self, member: format.Member, chunks: Iterable[memoryview]
    ) -> Iterator[memoryview]:
        left = member.compressed_size
        for chunk in chunks:
            yield chunk
            # Without the header
            count = min(len(chunk), left)
            left -= count
            self._progress(count)

    def _count_found(self, compressed_size: int, size: int, found: Found) -> None:
        if found.copy is None:
            self._kept(compressed_size)
        else:
            self._copied(compressed_size, size)

    @contextlib.contextmanager
    def _opened(self, member: format.Member) -> Iterator[int]:
        r"""Open a file for writing."""
        fd = self._target.open_own(member.name, _mode(member))
        try:
            yield fd
        finally:
            os.close(fd)


def _folder(entry: Entry) -> str:
    return entry.member.name.rpartition("/")[0]


def _mode(member: format.Member) -> int:
    return 0o777 if member.executable else 0o666


def _placed(
    pieces: Iterable[Buffer], position: int = 0
) -> Iterator[tuple[int, Buffer]]:
    r"""Pieces and their positions in a file."""
    for piece in pieces:
        yield position, piece
        position += len(piece)


def _write(fd: int, data: Buffer, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view = view[count:]
        offset += count

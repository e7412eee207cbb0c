r"""Read an archive in parallel: fetch, inflate, verify, write."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Container
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import itertools
import os
import stat
import threading

from blake3 import blake3
from isal import isal_zlib

from audmodel.core.archive import checks
from audmodel.core.archive import existing
from audmodel.core.archive import format
from audmodel.core.archive import parsing
from audmodel.core.archive.deflate import PIECE
from audmodel.core.archive.deflate import Inflater
from audmodel.core.archive.plan import RANGE
from audmodel.core.archive.plan import Entry
from audmodel.core.archive.plan import Job
from audmodel.core.archive.plan import MemberPart
from audmodel.core.archive.plan import Schedule
from audmodel.core.archive.plan import Span
from audmodel.core.archive.plan import Stream
from audmodel.core.archive.plan import finished_files
from audmodel.core.archive.plan import runs
from audmodel.core.archive.seeds import Seeds
from audmodel.core.archive.seeds import fill
from audmodel.core.archive.seeds import has_all
from audmodel.core.archive.source import Source
from audmodel.core.archive.target import Target
from audmodel.core.damage import until_intact
from audmodel.core.errors import ArchiveError
from audmodel.core.ranges import Buffer
from audmodel.core.ranges import Ranges
from audmodel.parallel import prefetch


# Members of a request that count as many small files
_MANY = 32


class _CancelledError(Exception):
    r"""Another job failed, or the user interrupted the call."""


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
        progress: called with the number of bytes of files
            that were written or found to be right,
            by any thread
        copied: called with those of them that were copied from seeds

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
        copied: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._source = source
        self._members = [
            member
            for member in directory.members
            if only is None or member.name in only
        ]
        self._target = target
        self._num_workers = num_workers
        self._resume = resume
        self._seeds = seeds or {}
        self._progress = progress
        self._copied = copied
        self._schedule = Schedule(
            directory,
            only,
            num_workers,
            ahead=ahead,
            resume=resume,
            seeded=self._seeds,
        )
        self._cancelled = threading.Event()
        self._failure: BaseException = _CancelledError()
        self._local = threading.local()
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
            on_abort=self._cancel,
        )
        try:
            with contextlib.closing(results):
                for job, crc in itertools.chain.from_iterable(results):
                    if isinstance(job, MemberPart):
                        checks.combine_crc(checksums, job, crc)
                    yield from finished_files(job)
        except _CancelledError:
            # Another job failed, and this one only stopped because of it
            raise self._failure from None

    def _cancel(self) -> None:
        self._cancelled.set()
        self._source.cancel_reads()

    def _make_folders(self) -> None:
        folders = {
            member.name.rstrip("/")
            if member.is_folder
            else os.path.dirname(member.name)
            for member in self._members
        }
        for name in sorted(folders):
            self._target.make(name)

    # ------------------------------------------------------------ jobs

    def _run_batch(self, jobs: list[Job]) -> list[tuple[Job, int]]:
        r"""Extract jobs that are next to each other in the archive."""
        first, last = jobs[0], jobs[-1]
        if not (isinstance(first, MemberPart) and isinstance(last, MemberPart)):
            return [self._run_job(job, self._source) for job in jobs]
        with self._source.in_order(first.start, last.stop) as ranges:
            return [self._run_job(job, ranges) for job in jobs]

    def _run_job(self, job: Job, ranges: Ranges) -> tuple[Job, int]:
        r"""Extract what a job is about, tell the others if that fails."""
        try:
            return job, self._attempt(job, ranges)
        except _CancelledError:
            raise
        except BaseException as error:
            # The other workers learn of it before they are waited for.
            # What they fail with is only a consequence
            if not self._cancelled.is_set():
                self._failure = error
                self._cancelled.set()
            raise

    def _attempt(self, job: Job, ranges: Ranges) -> int:
        r"""Extract what a job is about, fetch it again if it is damaged."""
        source = ranges

        def renew() -> None:
            nonlocal source
            self._source.forget_tail()
            # Nothing but these, while those that follow keep coming
            source = self._source

        def attempt() -> int:
            self._local.fetched = None
            self._local.copied = 0
            return self._extract(job, source)

        crc = until_intact(attempt, renew, self._fetched_digest)
        if self._local.copied:
            self._copied(self._local.copied)
        return crc

    def _fetched_digest(self) -> bytes | None:
        r"""What tells bytes that were fetched at once from others."""
        fetched: memoryview | None = self._local.fetched
        return None if fetched is None else blake3(fetched).digest()

    def _extract(self, job: Job, ranges: Ranges) -> int:
        if isinstance(job, Span):
            self._extract_span(job)
            return 0
        with checks.naming(job):
            if isinstance(job, MemberPart):
                return self._extract_part(job, ranges)
            self._extract_stream(job)
        return 0

    def _extract_span(self, job: Span) -> None:
        entries = self._missing(job) if self._resume else job.entries
        many = len(entries) >= _MANY
        if self._seeds:
            with self._interpreter if many else contextlib.nullcontext():
                entries = self._copy_members(entries)
        for run in runs(entries):
            start = run[0].start
            data = self._fetch(self._source, start, run[-1].stop)
            with self._interpreter if many else contextlib.nullcontext():
                for folder, members in itertools.groupby(run, _folder):
                    with self._target.opened(folder) as make:
                        for entry in members:
                            piece = data[entry.start - start : entry.stop - start]
                            self._extract_member(entry, piece, make)
            self._progress(sum(entry.member.size for entry in run))

    def _missing(self, job: Span) -> Sequence[Entry]:
        r"""Members that an earlier attempt did not leave behind."""
        missing = [entry for entry in job.entries if not self._is_right(entry.member)]
        kept = sum(entry.member.size for entry in job.entries)
        self._progress(kept - sum(entry.member.size for entry in missing))
        return missing

    def _copy_members(self, entries: Sequence[Entry]) -> list[Entry]:
        r"""Copy members from seeds.

        Returns:
            members that have to be fetched

        """
        left = []
        for folder, members in itertools.groupby(entries, _folder):
            with self._target.opened(folder) as make:
                left += [m for m in members if not self._copy_member(m.member, make)]
        return left

    def _copy_member(
        self, member: format.Member, make: Callable[[str, int], int]
    ) -> bool:
        if not has_all(self._seeds, member):
            return False
        assert member.index is not None
        content = memoryview(b"")
        for _, length, digest in member.index.parts:  # one, or none if it is empty
            found = self._from_seed(digest, length)
            if found is None or isal_zlib.crc32(found) != member.crc:
                return False
            content = found
        with _closing(make(os.path.basename(member.name), _mode(member))) as fd:
            self._empty(fd)
            _write(fd, content, 0)
        self._progress_copied(member.size)
        return True

    def _extract_member(
        self, entry: Entry, data: memoryview, make: Callable[[str, int], int]
    ) -> None:
        try:
            self._write_member(entry.member, data, make)
        except ArchiveError as error:
            raise checks.named(error, entry) from error

    def _write_member(
        self,
        member: format.Member,
        data: memoryview,
        make: Callable[[str, int], int],
    ) -> None:
        content = checks.content(member, data)
        pieces: Iterable[Buffer] = [content]
        inflater = None
        if member.method == format.DEFLATED:
            inflater = Inflater(member.size)
            pieces = inflater.feed(content)
        expected = member.index.parts if member.index is not None else ()
        digest = blake3()
        crc = offset = 0
        fd = make(os.path.basename(member.name), _mode(member))
        try:
            self._empty(fd)
            for piece in pieces:
                # A small member may grow to gigabytes
                self._check_not_cancelled()
                crc = isal_zlib.crc32(piece, crc)
                if expected:
                    digest.update(piece)
                _write(fd, piece, offset)
                offset += len(piece)
        finally:
            os.close(fd)
        if inflater is not None:
            inflater.finish(last=True)
        for _, _, part_digest in expected:  # one, or none if it is empty
            checks.check(part_digest, digest.digest(), "digest")
        checks.check_crc(member, crc)

    def _extract_part(self, job: MemberPart, ranges: Ranges) -> int:
        member, part = job.member, job.part
        if self._resume:
            crc = existing.part_crc(self._target, member, part, self._buffer)
            if crc is not None:
                self._progress(part.uncompressed_size)
                return crc
        copy = self._from_seed(part.digest, part.uncompressed_size)
        if copy is not None:
            with _closing(self._open(member)) as fd:
                _set_size(fd, member.size)
                _write(fd, copy, part.file_offset)
            self._progress_copied(part.uncompressed_size)
            return isal_zlib.crc32(copy)
        data = self._fetch(ranges, job.start, job.stop)
        if part.offset == 0:
            data = checks.content(member, data, part.length)
        crc = 0
        with _closing(self._open(member)) as fd:
            _set_size(fd, member.size)
            if member.method == format.STORED:
                checks.check(part.digest, blake3(data).digest(), "digest")
                crc = isal_zlib.crc32(data)
                _write(fd, data, part.file_offset)
            else:
                inflater = Inflater(part.uncompressed_size)
                digest = blake3()
                offset = part.file_offset
                for piece in inflater.feed(data):
                    digest.update(piece)
                    crc = isal_zlib.crc32(piece, crc)
                    _write(fd, piece, offset)
                    offset += len(piece)
                inflater.finish(last=job.is_last)
                checks.check(part.digest, digest.digest(), "digest")
        self._progress(part.uncompressed_size)
        return crc

    def _extract_stream(self, job: Stream) -> None:
        r"""Extract a member while its ranges arrive."""
        member = job.member
        if self._resume and self._is_right(member):
            self._progress(member.size)
            return
        crc = position = 0
        # Stored data is in a buffer that is about to be used again
        is_fresh = member.method == format.DEFLATED

        def in_order(pieces: Iterable[Buffer]) -> Iterator[tuple[int, Buffer]]:
            nonlocal crc, position
            for piece in pieces:
                self._check_not_cancelled()
                crc = isal_zlib.crc32(piece, crc)
                yield position, piece
                position += len(piece)

        def write(item: tuple[int, Buffer]) -> None:
            offset, piece = item
            _write(fd, piece, offset)
            self._progress(len(piece))

        with (
            _closing(self._open(member)) as fd,
            contextlib.closing(self._inflated(job)) as pieces,
            contextlib.closing(
                # Writing takes a tenth of the time of inflating
                prefetch(
                    write,
                    in_order(pieces),
                    num_workers=min(2, self._num_workers) if is_fresh else 1,
                    ahead=2,
                )
            ) as written,
        ):
            self._empty(fd)
            for _ in written:
                pass
        checks.check_crc(member, crc)

    def _inflated(self, job: Stream) -> Generator[Buffer, None, None]:
        r"""Content of a member, in order."""
        member = job.member
        inflater = Inflater(member.size) if member.method == format.DEFLATED else None
        left = member.compressed_size
        with contextlib.closing(self._fetched(job)) as chunks:
            for number, chunk in enumerate(chunks):
                data = chunk
                if number == 0:
                    header_length = parsing.check_local_header(data, member)
                    if job.start + header_length + left > job.stop:
                        raise ArchiveError("it overlaps the data that follows it")
                    data = data[header_length:]
                data = data[:left]
                left -= len(data)
                yield from [data] if inflater is None else inflater.feed(data)
        if inflater is not None:
            inflater.finish(last=True)

    def _fetched(self, job: Stream) -> Generator[memoryview, None, None]:
        r"""Bytes of a member, in order, each valid until the next ones are taken."""
        workers = self._schedule.stream_workers
        ahead = workers + 2
        size = RANGE if workers > 1 else PIECE
        # One more than are fetched ahead, which is the one that is in use
        buffers = [bytearray(0) for _ in range(ahead + 1)]

        def fetch(number: int) -> memoryview:
            self._check_not_cancelled()
            start = job.start + number * size
            length = min(size, job.stop - start)
            slot = number % len(buffers)
            if len(buffers[slot]) < length:
                buffers[slot] = bytearray(length)
            view = memoryview(buffers[slot])[:length]
            source.readinto(start, view)
            return view

        with self._source.in_order(job.start, job.stop) as ranges:
            source = ranges if workers == 1 else self._source
            count = -(-(job.stop - job.start) // size)
            chunks = prefetch(fetch, range(count), num_workers=workers, ahead=ahead)
            with contextlib.closing(chunks):
                yield from chunks

    def _check_not_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise _CancelledError

    def _is_right(self, member: format.Member) -> bool:
        r"""Whether an earlier attempt wrote a file, and it is right."""
        view = self._buffer(PIECE)
        return existing.is_right(self._target, member, view, self._check_not_cancelled)

    # ------------------------------------------------------------ seeds

    def _from_seed(self, digest: bytes, length: int) -> memoryview | None:
        r"""Bytes with a digest, if there is a seed that is right."""
        if digest not in self._seeds:
            return None
        self._check_not_cancelled()
        view = self._buffer(length)
        return view if fill(self._seeds[digest], digest, view) else None

    def _progress_copied(self, count: int) -> None:
        self._local.copied += count
        self._progress(count)

    # ------------------------------------------------------------ bytes

    def _fetch(self, ranges: Ranges, start: int, stop: int) -> memoryview:
        r"""Range of the archive, valid until the thread fetches the next one."""
        self._check_not_cancelled()
        view = self._local.fetched = self._buffer(stop - start)
        ranges.readinto(start, view)
        return view

    def _buffer(self, length: int) -> memoryview:
        # Fresh memory has to be mapped and zeroed page by page,
        # which costs as much as inflating
        buffer: bytearray | None = getattr(self._local, "buffer", None)
        if buffer is None or len(buffer) < length:
            buffer = self._local.buffer = bytearray(length)
        return memoryview(buffer)[:length]

    # ------------------------------------------------------------ files

    def _open(self, member: format.Member) -> int:
        r"""Open a file for writing."""
        return self._target.open_own(member.name, _mode(member))

    def _empty(self, fd: int) -> None:
        r"""Remove what an earlier attempt wrote to a file."""
        if self._resume:
            os.ftruncate(fd, 0)


def _folder(entry: Entry) -> str:
    return os.path.dirname(entry.member.name)


def _mode(member: format.Member) -> int:
    return 0o777 if member.executable else 0o666


@contextlib.contextmanager
def _closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


def _set_size(fd: int, size: int) -> None:
    status = os.fstat(fd)
    # A check writes to a device, which has no size
    if status.st_size != size and stat.S_ISREG(status.st_mode):
        os.ftruncate(fd, size)


def _write(fd: int, data: Buffer, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view = view[count:]
        offset += count

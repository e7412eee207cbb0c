r"""Fetch the bytes of an archive that jobs need, and again if they are damaged."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
import contextlib
import threading
from typing import TypeVar

from blake3 import blake3

from audmodel.core.archive.deflate import PIECE
from audmodel.core.archive.plan import RANGE
from audmodel.core.archive.plan import Stream
from audmodel.core.archive.source import Source
from audmodel.core.damage import until_intact
from audmodel.core.ranges import Ranges
from audmodel.parallel import prefetch


Result = TypeVar("Result")


class CancelledError(Exception):
    r"""Another job failed, or the user interrupted the call."""


class Fetcher:
    r"""Fetch the bytes of jobs in several threads.

    Args:
        source: the archive
        stream_workers: number of threads that fetch a large member without index

    """

    def __init__(self, source: Source, stream_workers: int) -> None:
        self.source = source
        self.is_cancelled = threading.Event()
        r"""Set when no job has to go on."""
        self._stream_workers = stream_workers
        self._local = threading.local()

    def cancel(self) -> None:
        r"""Let the jobs of all threads end soon."""
        self.is_cancelled.set()
        self.source.cancel_reads()

    def check_not_cancelled(self) -> None:
        r"""Raise an error if the jobs are cancelled.

        Raises:
            CancelledError: if they are

        """
        if self.is_cancelled.is_set():
            raise CancelledError

    def intact(self, ranges: Ranges, use: Callable[[Ranges], Result]) -> Result:
        r"""Fetch and verify some bytes, again if they are damaged.

        Args:
            ranges: where they are fetched from at first
            use: fetches and verifies them

        Raises:
            ArchiveError: if they are damaged each time

        """
        source = ranges

        def renew() -> None:
            nonlocal source
            self.source.forget_tail()
            # Nothing but these, while those that follow keep coming
            source = self.source

        self._local.fetched = None
        return until_intact(lambda: use(source), renew, self._digest)

    def _digest(self) -> bytes | None:
        r"""What tells bytes that were fetched at once from others."""
        fetched: memoryview | None = self._local.fetched
        return None if fetched is None else blake3(fetched).digest()

    def fetch(self, ranges: Ranges, start: int, stop: int) -> memoryview:
        r"""Range of the archive, valid until the thread asks for another buffer."""
        self.check_not_cancelled()
        view = self._local.fetched = self.buffer(stop - start)
        ranges.readinto(start, view)
        return view

    def buffer(self, length: int) -> memoryview:
        r"""Buffer of the thread, which the next call gives again."""
        # Fresh memory has to be mapped and zeroed page by page,
        # which costs as much as inflating
        buffer: bytearray | None = getattr(self._local, "buffer", None)
        if buffer is None or len(buffer) < length:
            buffer = self._local.buffer = bytearray(length)
        return memoryview(buffer)[:length]

    def stream(self, job: Stream) -> Generator[memoryview, None, None]:
        r"""Bytes of a member, in order, each valid until the next ones are taken."""
        workers = self._stream_workers
        ahead = workers + 2
        size = RANGE if workers > 1 else PIECE
        # One more than are fetched ahead, which is the one that is in use
        buffers = [bytearray(0) for _ in range(ahead + 1)]

        def fetch(number: int) -> memoryview:
            self.check_not_cancelled()
            start = job.start + number * size
            length = min(size, job.stop - start)
            slot = number % len(buffers)
            if len(buffers[slot]) < length:
                buffers[slot] = bytearray(length)
            view = memoryview(buffers[slot])[:length]
            source.readinto(start, view)
            return view

        with self.source.in_order(job.start, job.stop) as ranges:
            source = ranges if workers == 1 else self.source
            count = -(-(job.stop - job.start) // size)
            chunks = prefetch(fetch, range(count), num_workers=workers, ahead=ahead)
            with contextlib.closing(chunks):
                yield from chunks

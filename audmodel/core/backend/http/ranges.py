r"""Byte ranges of an object behind HTTP."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
from contextlib import contextmanager

from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.http.store import NO_LENGTH
from audmodel.core.backend.http.store import WRONG_RANGE
from audmodel.core.backend.http.store import Store
from audmodel.core.backend.http.transfer import Kind
from audmodel.core.backend.http.transfer import RequestError
from audmodel.core.backend.http.transfer import Stream
from audmodel.core.backend.http.transfer import drain
from audmodel.core.backend.http.transfer import fill
from audmodel.core.backend.reader import TAIL
from audmodel.core.backend.reader import ObjectReader
from audmodel.core.process.requests import Requests
from audmodel.core.ranges import Ranges


_NO_RANGES = "the server does not support range requests. A proxy may be the reason."


def open_reader(store: Store, path: str) -> RemoteReader | None:
    r"""Open an object for reading byte ranges.

    Returns:
        reader, ``None`` if there is no such object

    Raises:
        RepositoryError: if it cannot be opened

    """
    what = f"Could not open '{store.url(path)}'"
    try:
        whole = store.read("open", path, TAIL, f"bytes=-{TAIL}")
    except RequestError:
        # There is no last byte of an empty object,
        # and some servers refuse a range that is larger than the object
        whole = store.read("open", path, TAIL)
    if whole is None:
        return None
    size = whole.length
    if whole.response.status == 206:
        first, last, size = whole.response.range or (-1, -1, -1)
        if (first, last, whole.length) != (
            max(0, size - TAIL),
            size - 1,
            min(TAIL, size),
        ):
            raise RepositoryError(f"{what}: {WRONG_RANGE}")
    elif whole.data is not None and not whole.response.has_end:
        raise RepositoryError(f"{what}: {NO_LENGTH}")
    if whole.data is None or size is None:
        raise RepositoryError(f"{what}: {_NO_RANGES}")
    etag = whole.response.etag
    condition = "" if whole.response.is_weak else etag
    return RemoteReader(store, path, size, whole.data, etag, condition)


class RemoteReader(ObjectReader):
    r"""Byte ranges of an object behind HTTP.

    Args:
        store: where the object is
        path: path of the object
        size: size of the object in bytes
        tail: the last bytes of the object
        etag: etag of the object
        condition: etag as a condition of requests, empty for none

    """

    def __init__(
        self,
        store: Store,
        path: str,
        size: int,
        tail: bytes,
        etag: str,
        condition: str,
    ) -> None:
        super().__init__(size, tail, etag)
        self.store = store
        self.path = path
        self.condition = condition
        self.requests = Requests()

    def cancel_reads(self) -> None:  # noqa: D102
        requests, self.requests = self.requests, Requests()
        requests.cancel()

    def forget_tail(self) -> None:  # noqa: D102
        self.store.distrust()
        super().forget_tail()

    @contextmanager
    def in_order(self, start: int, stop: int) -> Iterator[Ranges]:  # noqa: D102
        with contextlib.closing(_Run(self, start, stop)) as run:
            yield run

    def _readinto(self, offset: int, view: memoryview) -> None:
        with contextlib.closing(_Run(self, offset, offset + len(view))) as run:
            run.fetch(offset, view)


class _Run:
    r"""Bytes of an object from one position to another.

    They are requested when the first of them are needed,
    and again from where the response ended early,
    or from where reading continues.
    """

    def __init__(self, reader: RemoteReader, start: int, stop: int) -> None:
        self._reader = reader
        self._requests = reader.requests
        self._position = start
        self._stop = stop
        self._response: contextlib.ExitStack | None = None
        self._stream: Stream
        self._has_end: bool

    def readinto(self, offset: int, view: memoryview) -> None:
        r"""Fill a buffer with the bytes from an offset on."""
        is_coming = self._response is not None and offset == self._position
        if is_coming or not self._reader.copy_tail(offset, view):
            self.fetch(offset, view)

    def fetch(self, offset: int, view: memoryview) -> None:
        r"""Fill a buffer with bytes from the storage."""
        with self._requests.here():
            self._fetch(offset, view)

    def _fetch(self, offset: int, view: memoryview) -> None:
        reader = self._reader
        what = f"Could not read '{reader.store.url(reader.path)}'"
        if offset != self._position:
            self.close()
            self._position = offset
        self._stop = max(self._stop, offset + len(view))
        retry = reader.store.retry()

        def received(count: int) -> None:
            self._position += count
            reader.arrived(count)
            retry.received(count)

        def attempt() -> None:
            try:
                if self._response is None:
                    self._request()
                fill(self._stream, view[self._position - offset :], received)
            except RequestError as failure:
                self.close()
                reader.store.failed(failure)
                if failure.kind is Kind.CONDITION:
                    raise RepositoryError(
                        f"{what}: it was replaced while it was read. Try again.",
                        failure.cause,
                    ) from failure
                raise

        if len(view):
            retry.run(attempt, what)
        if self._position == self._stop and self._response is not None:
            if self._has_end:
                drain(self._stream)
            self.close()

    def _request(self) -> None:
        r"""Request all bytes that are left."""
        reader = self._reader
        first, last = self._position, self._stop - 1
        with contextlib.ExitStack() as stack:
            response = stack.enter_context(
                reader.store.get(reader.path, f"bytes={first}-{last}", reader.condition)
            )
            if response.status != 206:
                raise RequestError(Kind.OTHER, _NO_RANGES)
            if (
                response.range != (first, last, reader.size)
                or response.length != last - first + 1
            ):
                raise RequestError(Kind.AMBIGUOUS, WRONG_RANGE)
            if response.etag != reader.etag:
                kind = reader.store.other_etag if reader.condition else Kind.CONDITION
                raise RequestError(kind, WRONG_RANGE)
            self._stream = response.stream
            self._has_end = response.has_end
            self._response = stack.pop_all()

    def close(self) -> None:
        r"""Let go of the connection."""
        if self._response is not None:
            self._response.close()
            self._response = None

r"""Objects of a storage behind HTTP, read whole or in ranges, with retries."""

from __future__ import annotations

import abc
from collections.abc import Callable
from collections.abc import Container
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
from contextlib import AbstractContextManager
from contextlib import contextmanager
from dataclasses import dataclass
import re
from typing import TypeVar

from audmodel.core.backend.base import TAIL
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.base import ObjectReader
from audmodel.core.backend.base import ObjectState
from audmodel.core.backend.base import Ranges
from audmodel.core.backend.base import StoredObject
from audmodel.core.backend.errors import DamagedObjectError
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.http.transfer import FailureError
from audmodel.core.backend.http.transfer import Kind
from audmodel.core.backend.http.transfer import Retry
from audmodel.core.backend.http.transfer import Stream
from audmodel.core.backend.http.transfer import cut_off
from audmodel.core.backend.http.transfer import drain
from audmodel.core.backend.http.transfer import fill
from audmodel.core.backend.http.transfer import read_body
from audmodel.core.backend.http.transfer import uncertain
from audmodel.core.damage import Damage
from audmodel.core.process.requests import Requests
from audmodel.core.process.requests import prefetch_requests


Result = TypeVar("Result")

CHUNK = 4 * 1024 * 1024
# No object is larger, and Python makes no number of thousands of digits
_NUMBER = "[0-9]{1,19}"
_CONTENT_RANGE = re.compile(f"bytes ({_NUMBER})-({_NUMBER})/({_NUMBER})")
_WEAK = "W/"
_NO_RANGES = "the server does not support range requests. A proxy may be the reason."
_WRONG_RANGE = "the server sent other bytes than requested."
_NO_LENGTH = "the server does not send the size of the object."


@dataclass(frozen=True)
class Answer:
    r"""Response to a request for an object, or a part of it.

    Args:
        status: status
        headers: HTTP headers, with names in lower case
        stream: body, which has to be read and drained

    """

    status: int
    headers: Mapping[str, str]
    stream: Stream

    @property
    def _length(self) -> int | None:
        value = self.headers.get("content-length", "")
        return int(value) if re.fullmatch(_NUMBER, value) else None

    @property
    def length(self) -> int | None:
        r"""Length of the body, if the server says it."""
        if self._length is not None:
            return self._length
        found = self.range if self.status == 206 else None
        # Some proxies leave out the one, and none the other
        return None if found is None else found[1] - found[0] + 1

    @property
    def has_end(self) -> bool:
        r"""Whether the body ends before the connection does, and all of it arrived."""
        encoding = self.headers.get("transfer-encoding", "").lower()
        return self._length is not None or encoding == "chunked"

    @property
    def range(self) -> tuple[int, int, int] | None:
        r"""First and last byte of the body in the object, and size of the object."""
        match = _CONTENT_RANGE.fullmatch(self.headers.get("content-range", ""))
        return (int(match[1]), int(match[2]), int(match[3])) if match else None

    @property
    def is_whole(self) -> bool:
        r"""Whether the body is that of the whole object."""
        if self.status != 206:
            return True
        found = self.range
        return found is not None and found[:2] == (0, found[2] - 1)

    @property
    def tag(self) -> str:
        r"""Etag, or time of the last change if there is none."""
        headers = self.headers
        tag = headers.get("etag") or headers.get("last-modified") or ""
        return tag.removeprefix(_WEAK)

    @property
    def is_weak(self) -> bool:
        r"""Whether the etag cannot be a condition of a range request.

        Proxies that may change the encoding of content make etags weak.
        """
        return self.headers.get("etag", "").startswith(_WEAK)


@dataclass(frozen=True)
class Whole:
    r"""Response to a request for an object, with its whole body.

    Args:
        answer: the response
        length: length of the body, ``None`` if it is not known
        data: body, ``None`` if it is too long

    """

    answer: Answer
    length: int | None
    data: bytes | None


class Store(abc.ABC):
    r"""Storage of objects behind HTTP."""

    #: What it means if a range is of an object with another etag,
    #: though the etag was a condition of the request
    other_tag = Kind.LOST

    def __init__(self) -> None:
        self.reached = False

    @abc.abstractmethod
    def url(self, path: str) -> str:
        r"""Location of an object."""

    @abc.abstractmethod
    def get(
        self, path: str, bytes_: str = "", tag: str = ""
    ) -> AbstractContextManager[Answer]:
        r"""Send one request for an object or a part of it.

        Args:
            path: path of the object
            bytes_: value of the HTTP header ``Range``, the whole object if not given
            tag: etag that the object has to have, any if not given.
                Some storages ignore this

        Returns:
            context manager that gives the response

        Raises:
            FailureError: if the request fails

        """

    @abc.abstractmethod
    def distrust(self) -> None:
        r"""Use no connection again that is open now."""

    def failed(self, failure: FailureError) -> FailureError:
        r"""Use no open connection again after a transient failure.

        The server may be at another address by now,
        and data may have been damaged on their way.

        Args:
            failure: what went wrong

        Returns:
            ``failure``

        """
        if failure.is_transient:
            self.distrust()
        return failure

    def found_absent(self) -> None:  # noqa: B027
        r"""Make sure that the object is absent, and not the whole repository.

        Raises:
            RepositoryNotFoundError: if the repository does not exist

        """

    def retry(self) -> Retry:
        r"""Retry policy of one request."""
        return Retry(reached=self.reached)

    def repeat(
        self,
        action: str,
        path: str,
        attempt: Callable[[], Result],
        expected: Container[Kind],
        *,
        is_write: bool = False,
    ) -> Result:
        r"""Repeat a request until it succeeds, or the retry budget is spent.

        Args:
            action: what it is for, in messages
            path: path of the object it is about
            attempt: sends the request once
            expected: failures that the caller handles
            is_write: whether it stores something

        Returns:
            result of ``attempt``

        Raises:
            FailureError: if it fails as expected
            RepositoryError: if it fails
            WriteUncertainError: if a write may be carried out later

        """
        retry = self.retry()
        in_doubt = False
        while True:
            try:
                return attempt()
            except FailureError as failure:
                self.failed(failure)
                if failure.kind is Kind.ABSENT:
                    self.found_absent()
                if failure.kind in expected:
                    raise
                in_doubt = in_doubt or (is_write and failure.kind is Kind.LOST)
                what = f"Could not {action} '{self.url(path)}'"
                try:
                    retry.pause(failure, what)
                except RepositoryError as error:
                    if in_doubt:
                        raise uncertain(what, error) from error
                    raise

    def read(
        self, action: str, path: str, limit: int, bytes_: str = ""
    ) -> Whole | None:
        r"""Get an object, or a part of it.

        Args:
            action: what it is for, in messages
            path: path of the object
            limit: largest size in bytes that is read
            bytes_: value of the HTTP header ``Range``, the whole object if not given

        Returns:
            response, ``None`` if there is no such object

        Raises:
            FailureError: if the object does not have the bytes that were requested
            RepositoryError: if the request fails

        """

        def attempt() -> Whole:
            with self.get(path, bytes_) as answer:
                if not bytes_ and not answer.is_whole:
                    raise FailureError(Kind.LOST, _WRONG_RANGE)
                length = answer.length
                if length is None:
                    data = _read_to_end(answer.stream, limit)
                    return Whole(answer, None if data is None else len(data), data)
                if length > limit:
                    return Whole(answer, length, None)
                buffer = bytearray(length)
                # Retries start from the first byte, so nothing counts as progress
                fill(answer.stream, memoryview(buffer))
                if answer.has_end:
                    drain(answer.stream)
                return Whole(answer, length, bytes(buffer))

        try:
            return self.repeat(action, path, attempt, (Kind.ABSENT, Kind.RANGE))
        except FailureError as failure:
            if failure.kind is Kind.RANGE:
                raise
            return None

    def open(self, path: str) -> RemoteReader | None:
        r"""Open an object for reading byte ranges.

        Args:
            path: path of the object

        Returns:
            reader, ``None`` if there is no such object

        Raises:
            RepositoryError: if it cannot be opened

        """
        what = f"Could not open '{self.url(path)}'"
        try:
            whole = self.read("open", path, TAIL, f"bytes=-{TAIL}")
        except FailureError:
            # There is no last byte of an empty object,
            # and some servers refuse a range that is larger than the object
            whole = self.read("open", path, TAIL)
        if whole is None:
            return None
        size = whole.length
        if whole.answer.status == 206:
            first, last, size = whole.answer.range or (-1, -1, -1)
            if (first, last, whole.length) != (
                max(0, size - TAIL),
                size - 1,
                min(TAIL, size),
            ):
                raise RepositoryError(f"{what}: {_WRONG_RANGE}")
        elif whole.data is not None and not whole.answer.has_end:
            raise RepositoryError(f"{what}: {_NO_LENGTH}")
        if whole.data is None or size is None:
            raise RepositoryError(f"{what}: {_NO_RANGES}")
        tag = whole.answer.tag
        condition = "" if whole.answer.is_weak else tag
        return RemoteReader(self, path, size, whole.data, tag, condition)


def _read_to_end(stream: Stream, limit: int) -> bytes | None:
    r"""Body of unknown length, ``None`` if it is too long."""
    from urllib3.exceptions import HTTPError

    try:
        return read_body(stream, limit)
    except (HTTPError, OSError) as error:
        failure = cut_off(error)
    try:
        # Outside of the handler, as the frames below know secrets
        raise failure
    finally:
        # An error that refers to itself by its traceback keeps all frames
        del failure


class RemoteReader(ObjectReader):
    r"""Byte ranges of an object behind HTTP.

    Args:
        store: where the object is
        path: path of the object
        size: size of the object in bytes
        tail: the last bytes of the object
        tag: etag of the object
        condition: etag as a condition of requests, empty for none

    """

    def __init__(
        self,
        store: Store,
        path: str,
        size: int,
        tail: bytes,
        tag: str,
        condition: str,
    ) -> None:
        super().__init__(size, tail, tag)
        self.store = store
        self.path = path
        self.condition = condition
        self.requests = Requests()

    def end_reads(self) -> None:  # noqa: D102
        requests, self.requests = self.requests, Requests()
        requests.end()

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

    Args:
        reader: reader of the object
        start: position of the first byte
        stop: position behind the last byte

    """

    def __init__(self, reader: RemoteReader, start: int, stop: int) -> None:
        self._reader = reader
        self._requests = reader.requests
        self._position = start
        self._stop = stop
        self._answer: contextlib.ExitStack | None = None
        self._stream: Stream
        self._has_end: bool

    def readinto(self, offset: int, view: memoryview) -> None:
        r"""Fill a buffer with the bytes from an offset on."""
        is_coming = self._answer is not None and offset == self._position
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

        while self._position < offset + len(view):
            try:
                if self._answer is None:
                    self._ask()
                fill(self._stream, view[self._position - offset :], received)
            except FailureError as failure:
                self.close()
                reader.store.failed(failure)
                if failure.kind is Kind.CONDITION:
                    raise RepositoryError(
                        f"{what}: it was replaced while it was read. Try again.",
                        failure.cause,
                    ) from failure
                retry.pause(failure, what)
        if self._position == self._stop and self._answer is not None:
            if self._has_end:
                drain(self._stream)
            self.close()

    def _ask(self) -> None:
        r"""Request all bytes that are left."""
        reader = self._reader
        first, last = self._position, self._stop - 1
        with contextlib.ExitStack() as stack:
            answer = stack.enter_context(
                reader.store.get(reader.path, f"bytes={first}-{last}", reader.condition)
            )
            if answer.status != 206:
                raise FailureError(Kind.OTHER, _NO_RANGES)
            if (
                answer.range != (first, last, reader.size)
                or answer.length != last - first + 1
            ):
                raise FailureError(Kind.LOST, _WRONG_RANGE)
            if answer.tag != reader.tag:
                kind = reader.store.other_tag if reader.condition else Kind.CONDITION
                raise FailureError(kind, _WRONG_RANGE)
            self._stream = answer.stream
            self._has_end = answer.has_end
            self._answer = stack.pop_all()

    def close(self) -> None:
        r"""Let go of the connection."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None


class RemoteBackend(ObjectBackend):
    r"""What the backends of all storages behind HTTP share."""

    _store: Store

    def read_object(self, path: str, limit: int) -> StoredObject | None:  # noqa: D102
        what = f"Could not read '{self.object_url(path)}'"
        damage = Damage()
        while True:
            stored = self._read_once(what, path, limit)
            if stored is None or not stored.is_damaged:
                return stored
            damage.add(stored.data)
            if damage.is_final:
                break
            self._store.distrust()
        other = ", or another tool changed it" if damage.is_same else ""
        raise DamagedObjectError(
            f"{what}: its content does not have the checksum it was stored with. "
            f"{damage}{other}.",
            stored,
        )

    def _read_once(self, what: str, path: str, limit: int) -> StoredObject | None:
        whole = self._store.read("read", path, limit)
        if whole is None:
            return None
        if whole.data is None:
            size = f"more than {limit}" if whole.length is None else whole.length
            raise RepositoryError(f"{what}: it has {size} bytes, allowed are {limit}.")
        if not whole.answer.has_end and not self._has_checksum(whole.answer):
            raise RepositoryError(f"{what}: {_NO_LENGTH}")
        return self._checked(whole.answer, whole.data)

    @abc.abstractmethod
    def _has_checksum(self, answer: Answer) -> bool:
        r"""Whether a checksum would show that a response was truncated."""

    @abc.abstractmethod
    def _checked(self, answer: Answer, data: bytes) -> StoredObject:
        r"""Object that was read, compared with its checksum."""

    @contextmanager
    def open_object(  # noqa: D102
        self, path: str, *, tmp_root: str | None = None
    ) -> Iterator[ObjectReader | None]:
        yield self._store.open(path)

    def object_url(self, path: str) -> str:  # noqa: D102
        return self._store.url(path)

    # ------------------------------------------------------------ audbackend

    def _existing(self, path: str) -> RemoteReader:
        reader = self._store.open(path)
        if reader is None:
            raise self._missing(path)
        return reader

    def _existing_state(self, path: str) -> ObjectState:
        state = self.stat_object(path)
        if state is None:
            raise self._missing(path)
        return state

    def _missing(self, path: str) -> FileNotFoundError:
        return FileNotFoundError(f"There is no object '{self.object_url(path)}'.")

    def _exists(self, path: str) -> bool:
        # Unlike HEAD, it tells a missing object from a missing repository
        try:
            return self._store.read("look up", path, 1, "bytes=0-0") is not None
        except FailureError:
            return True  # it is empty

    def _get_file(
        self, src_path: str, dst_path: str, num_workers: int, verbose: bool
    ) -> None:
        reader = self._existing(src_path)

        def read(start: int) -> bytearray:
            return reader.read(start, min(CHUNK, reader.size - start))

        chunks = prefetch_requests(
            read, range(0, reader.size, CHUNK), num_workers=max(1, num_workers)
        )
        with contextlib.closing(chunks), open(dst_path, "wb") as file:
            file.writelines(chunks)

    def _get_file_stream(self, src_path: str) -> Iterator[bytes]:
        reader = self._existing(src_path)
        with reader.in_order(0, reader.size) as ranges:
            for start in range(0, reader.size, CHUNK):
                data = bytearray(min(CHUNK, reader.size - start))
                ranges.readinto(start, memoryview(data))
                yield bytes(data)

    def _ls(self, path: str) -> list[str]:
        return self.list_objects(path)

r"""Requests for objects of a storage behind HTTP, with retries."""

from __future__ import annotations

import abc
from collections.abc import Callable
from collections.abc import Container
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
import re
from typing import TypeVar

from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.http.causes import translated
from audmodel.core.backend.http.transfer import Kind
from audmodel.core.backend.http.transfer import RequestError
from audmodel.core.backend.http.transfer import Retry
from audmodel.core.backend.http.transfer import Stream
from audmodel.core.backend.http.transfer import clock_ahead
from audmodel.core.backend.http.transfer import drain
from audmodel.core.backend.http.transfer import fill
from audmodel.core.backend.http.transfer import read_body
from audmodel.core.backend.http.transfer import truncated
from audmodel.core.backend.http.transfer import uncertain


Result = TypeVar("Result")

# No object is larger, and Python makes no number of thousands of digits
_NUMBER = "[0-9]{1,19}"
_CONTENT_RANGE = re.compile(f"bytes ({_NUMBER})-({_NUMBER})/({_NUMBER})")
_WEAK = "W/"
WRONG_RANGE = "the server sent other bytes than requested."
NO_LENGTH = "the server does not send the size of the object."


@dataclass(frozen=True)
class ObjectResponse:
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
    def etag(self) -> str:
        r"""Etag, or time of the last change if there is none."""
        headers = self.headers
        etag = headers.get("etag") or headers.get("last-modified") or ""
        return etag.removeprefix(_WEAK)

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
        response: the response
        length: length of the body, ``None`` if it is not known
        data: body, ``None`` if it is too long

    """

    response: ObjectResponse
    length: int | None
    data: bytes | None


class Store(abc.ABC):
    r"""Storage of objects behind HTTP."""

    #: What it means if a range is of an object with another etag,
    #: though the etag was a condition of the request
    other_etag = Kind.AMBIGUOUS

    def __init__(self) -> None:
        self.reached = False
        #: Seconds by which the clock of the server was ahead at its last response,
        #: ``None`` if it did not tell
        self.clock_ahead: float | None = None

    def arrived(self, headers: Mapping[str, str]) -> None:
        r"""Take note of a response, success or not.

        Args:
            headers: HTTP headers, with names in lower case

        """
        self.reached = True
        self.clock_ahead = clock_ahead(headers)

    @abc.abstractmethod
    def url(self, path: str) -> str:
        r"""Location of an object."""

    @abc.abstractmethod
    def get(
        self, path: str, bytes_: str = "", etag: str = ""
    ) -> AbstractContextManager[ObjectResponse]:
        r"""Send one request for an object or a part of it.

        Args:
            path: path of the object
            bytes_: value of the HTTP header ``Range``, the whole object if not given
            etag: etag that the object has to have, any if not given.
                Some storages ignore this

        Returns:
            context manager that gives the response

        Raises:
            RequestError: if the request fails

        """

    @abc.abstractmethod
    def distrust(self) -> None:
        r"""Use no connection again that is open now."""

    def failed(self, failure: RequestError) -> RequestError:
        r"""Use no open connection again after a transient failure.

        The server may be at another address by now,
        and data may have been damaged on their way.
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
            RequestError: if it fails as expected
            RepositoryError: if it fails
            WriteUncertainError: if a write may be carried out later

        """
        ambiguous = False

        def once() -> Result:
            nonlocal ambiguous
            try:
                return attempt()
            except RequestError as failure:
                self.failed(failure)
                if failure.kind is Kind.ABSENT:
                    self.found_absent()
                ambiguous = ambiguous or (is_write and failure.kind is Kind.AMBIGUOUS)
                raise

        what = f"Could not {action} '{self.url(path)}'"
        try:
            return self.retry().run(once, what, expected)
        except RepositoryError as error:
            if ambiguous:
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
            RequestError: if the object does not have the bytes that were requested
            RepositoryError: if the request fails

        """
        from urllib3.exceptions import HTTPError

        def attempt() -> Whole:
            with self.get(path, bytes_) as response:
                if not bytes_ and not response.is_whole:
                    raise RequestError(Kind.AMBIGUOUS, WRONG_RANGE)
                length = response.length
                if length is None:
                    data = translated(
                        lambda: read_body(response.stream, limit),
                        (HTTPError, OSError),
                        truncated,
                    )
                    return Whole(response, None if data is None else len(data), data)
                if length > limit:
                    return Whole(response, length, None)
                buffer = bytearray(length)
                # Retries start from the first byte, so nothing counts as progress
                fill(response.stream, memoryview(buffer))
                if response.has_end:
                    drain(response.stream)
                return Whole(response, length, bytes(buffer))

        try:
            return self.repeat(action, path, attempt, (Kind.ABSENT, Kind.RANGE))
        except RequestError as failure:
            if failure.kind is Kind.RANGE:
                raise
            return None

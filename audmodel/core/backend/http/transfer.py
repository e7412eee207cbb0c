r"""Failures, retries and bodies of requests to any storage behind HTTP."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Container
from collections.abc import Mapping
import contextlib
import datetime
import email.utils
import enum
import logging
import random
import time
from typing import Protocol
from typing import TypeVar

from audmodel.core.backend.errors import HiddenError
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import RepositoryNotFoundError
from audmodel.core.backend.errors import RepositoryUnreachableError
from audmodel.core.backend.errors import WriteUncertainError
from audmodel.core.backend.http.causes import translated
from audmodel.core.backend.http.causes import without_secrets
from audmodel.core.process import requests as interruption


Result = TypeVar("Result")

logger = logging.getLogger("audmodel")

# Seconds that are spent on retries of one request
BUDGET = 30.0
# Seconds that are spent on a host that never responded
CONNECT_BUDGET = 8.0
_CONNECT_ATTEMPTS = 3
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0

# Failures are forgotten after so many bytes arrived
_PROGRESS = 256 * 1024
_PIECE = 256 * 1024

# Responses after which the outcome is unknown, and those after which nothing was done
AMBIGUOUS_STATUS = frozenset({408, 500, 502, 504})
BUSY_STATUS = frozenset({425, 429, 503})


class Kind(enum.Enum):
    r"""Kind of a failure, as far as the caller has to tell them apart."""

    ABSENT = enum.auto()
    NO_REPOSITORY = enum.auto()
    DENIED = enum.auto()
    # Denied as well, which may also mean that there is nothing
    HIDDEN = enum.auto()
    CONDITION = enum.auto()
    CONFLICT = enum.auto()
    RANGE = enum.auto()
    UNSUPPORTED = enum.auto()
    # The server was not reached, so nothing was done
    NOT_REACHED = enum.auto()
    # There was no response, so the outcome is unknown
    AMBIGUOUS = enum.auto()
    # The server is overloaded
    BUSY = enum.auto()
    OTHER = enum.auto()


class RequestError(Exception):
    r"""A request failed.

    Args:
        kind: kind of the failure
        reason: text for people, without any secret
        cause: error of the library that sent the request.
            A copy without secrets is kept
        retry_after: seconds that the server asks to wait

    """

    def __init__(
        self,
        kind: Kind,
        reason: str,
        cause: Exception | None = None,
        retry_after: float = 0,
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.cause = self.__cause__ = cause and without_secrets(cause)
        self.retry_after = retry_after

    @property
    def is_transient(self) -> bool:
        r"""Whether the same request may succeed the next time."""
        return self.kind in (Kind.NOT_REACHED, Kind.AMBIGUOUS, Kind.BUSY)

    def as_busy(self, *kinds: Kind) -> RequestError:
        r"""The same failure, as a transient one if it is of one of some kinds."""
        if self.kind not in kinds:
            return self
        return RequestError(Kind.BUSY, self.reason, self.cause, self.retry_after)

    def error(self, what: str) -> RepositoryError:
        r"""The error that users see.

        Args:
            what: what was tried, e.g. ``"Could not read 'https://...'"``

        """
        classes: dict[Kind, type[RepositoryError]] = {
            Kind.NO_REPOSITORY: RepositoryNotFoundError,
            Kind.HIDDEN: HiddenError,
            Kind.NOT_REACHED: RepositoryUnreachableError,
            Kind.AMBIGUOUS: RepositoryUnreachableError,
            Kind.BUSY: RepositoryUnreachableError,
        }
        error = classes.get(self.kind, RepositoryError)(
            f"{what}: {self.reason}", self.cause
        )
        error.__cause__ = self.cause
        return error


def unsendable(error: Exception) -> RequestError:
    r"""Failure of a request that could not even be made.

    The error may quote an HTTP header, or the URL of a proxy, with a secret.
    So neither its text nor the error itself appears.

    Args:
        error: error of the library that sends requests

    """
    return RequestError(
        Kind.OTHER,
        f"the request cannot be sent ({type(error).__name__}). "
        "Check host, credentials and proxy.",
    )


def uncertain(what: str, error: RepositoryError) -> WriteUncertainError:
    r"""Error of a write whose outcome is unknown.

    Args:
        what: what was tried
        error: why the outcome could not be found out

    """
    return WriteUncertainError(
        f"{what}: the response was lost, and the outcome of the write is unknown "
        f"({error}) Check what is stored before you try again.",
        error.exception,
    )


def server_time(headers: Mapping[str, str], what: str) -> datetime.datetime:
    r"""Time by the clock of a server.

    Args:
        headers: HTTP headers of a response, with names in lower case
        what: what was tried

    Raises:
        RepositoryError: if the response does not tell

    """
    found = _date(headers)
    if found is None:
        raise RepositoryError(f"{what}: the response has no date.")
    return found


def _date(headers: Mapping[str, str]) -> datetime.datetime | None:
    try:
        return email.utils.parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        return None


def clock_ahead(headers: Mapping[str, str]) -> float | None:
    r"""Seconds by which the clock of a server is ahead of that of this machine.

    Args:
        headers: HTTP headers of a response that has just arrived,
            with names in lower case

    Returns:
        seconds, which are right within a second or two,
        or ``None`` if the response does not tell

    """
    if "age" in headers:
        return None  # a proxy has kept it for a while
    found = _date(headers)
    if found is None or found.tzinfo is None:
        return None  # a date without time zone says nothing
    return (found - datetime.datetime.now(datetime.UTC)).total_seconds()


class Retry:
    r"""Retry policy of one request: time budget, and backoff with jitter.

    Args:
        reached: whether the host responded before.
            If it never did, the budget is small

    """

    def __init__(self, *, reached: bool) -> None:
        self._reached = reached
        self._start = time.monotonic()
        self._failures = 0
        self._received = 0

    def received(self, count: int) -> None:
        r"""Bytes arrived: the host is alive."""
        self._received += count
        if self._received >= _PROGRESS:
            self._received = 0
            self._failures = 0
            self._reached = True
            self._start = time.monotonic()

    def run(
        self,
        attempt: Callable[[], Result],
        what: str,
        expected: Container[Kind] = (),
    ) -> Result:
        r"""Repeat a request until it succeeds, or the budget is spent.

        Args:
            attempt: sends the request once
            what: what is tried, for messages
            expected: failures that the caller handles

        Returns:
            result of ``attempt``

        Raises:
            RequestError: if it fails as expected
            RepositoryError: if it fails

        """
        while True:
            try:
                return attempt()
            except RequestError as failure:
                if failure.kind in expected:
                    raise
                self.pause(failure, what)

    def pause(self, failure: RequestError, what: str) -> None:
        r"""Wait before the next attempt.

        Args:
            failure: what went wrong
            what: what was tried, for messages

        Raises:
            RepositoryError: if another attempt makes no sense

        """
        self._failures += 1
        longest = min(FIRST_PAUSE * 2**self._failures, LONGEST_PAUSE)
        jitter = random.uniform(0, longest)  # noqa: S311
        seconds = max(jitter, failure.retry_after)
        elapsed = time.monotonic() - self._start
        hopeless = (
            failure.kind is Kind.NOT_REACHED
            and not self._reached
            and (
                self._failures >= _CONNECT_ATTEMPTS
                or elapsed + seconds > CONNECT_BUDGET / 2
            )
        )
        if (
            hopeless
            or not failure.is_transient
            or elapsed + seconds > BUDGET
            or interruption.cancelled()
        ):
            raise failure.error(what)
        logger.info("%s: %s Trying again in %.1f s.", what, failure.reason, seconds)
        interruption.wait(seconds)


class Stream(Protocol):
    r"""Body of a response, as urllib3 gives it."""

    def read1(self, amt: int) -> bytes:
        r"""Bytes that arrived."""

    def read(self, amt: int) -> bytes:
        r"""Bytes, waiting for as many as asked for."""


def fill(
    stream: Stream,
    view: memoryview,
    received: Callable[[int], None] = lambda count: None,
) -> None:
    r"""Fill a buffer from the body of a response.

    Raises:
        RequestError: if the body ends early,
            the connection breaks, or hardly anything arrives

    """
    from urllib3.exceptions import HTTPError

    def read() -> int:
        position = 0
        while position < len(view):
            data = stream.read1(min(_PIECE, len(view) - position))
            if not data:
                break
            view[position : position + len(data)] = data
            position += len(data)
            received(len(data))
        return position

    if translated(read, (HTTPError, OSError), truncated) < len(view):
        raise RequestError(
            Kind.AMBIGUOUS,
            "the data ended early.",
            EOFError("the connection was closed"),
        )


def truncated(error: Exception) -> RequestError:
    r"""Failure of a request whose response ends early."""
    return RequestError(
        Kind.AMBIGUOUS, f"the data ended early ({type(error).__name__}).", error
    )


def read_body(stream: Stream, limit: int) -> bytes | None:
    r"""Body of a response of unknown length, ``None`` if it is longer than allowed."""
    pieces = []
    size = 0
    while data := stream.read1(_PIECE):
        pieces.append(data)
        size += len(data)
        if size > limit:
            return None
    return b"".join(pieces)


def drain(stream: Stream) -> None:
    r"""Read the end of a response, so that its connection is used again."""
    from urllib3.exceptions import HTTPError

    # An error in the end of the framing closes the connection
    with contextlib.suppress(HTTPError, OSError):
        stream.read(1)

r"""Test the conditional writes of a storage."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import contextlib
from dataclasses import dataclass
from functools import partial
import secrets
import threading

from audmodel.core.backend.errors import HiddenError
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import RepositoryUnreachableError
from audmodel.core.backend.errors import WriteUncertainError
from audmodel.core.backend.objects import ANY
from audmodel.core.backend.objects import Writer
from audmodel.core.process.requests import prefetch_requests


# Writers that create one object at the same moment,
# and those that replace it
RACERS = 32
REPLACERS = 8
# The same where a user waits for the verdict
FEW_RACERS = 8
FEW_REPLACERS = 4
# Folder for the objects of tests, and for nothing else.
# Its name is no short ID
FOLDER = "/_uid/_probe/"
# Names of the tests
CREATE = "create if absent"
REPLACE = "replace if unchanged"
MISSING = "replace what is missing"
NAMES = (CREATE, REPLACE, MISSING)
_LIMIT = 1024
# Content of an object before it is replaced
_BEGIN = b"begin"
# Seconds that concurrent writers wait for each other before they start
_MEETING = 2.0


@dataclass(frozen=True)
class Check:
    r"""Result of a test of a storage.

    Args:
        name: what was tested
        ok: whether the storage did what audmodel needs
        seen: what happened
        meaning: what follows from it

    """

    __module__ = "audmodel"

    name: str
    ok: bool
    seen: str
    meaning: str


class UnsupportedError(Exception):
    r"""The storage refuses conditional writes altogether."""


def new_path() -> str:
    r"""Path at which no other process stores an object."""
    return f"{FOLDER}{secrets.token_hex(16)}.yaml"


def check(
    writer: Writer,
    *,
    racers: int = RACERS,
    replacers: int = REPLACERS,
    others: Iterable[Callable[[], Check]] = (),
) -> list[Check]:
    r"""Test whether conditional writes work, also with concurrent writers.

    The objects of the tests are removed again.
    All tests run at the same time.

    Args:
        writer: where to write
        racers: number of writers that create one object
        replacers: number of writers that replace one object
        others: more tests

    Returns:
        results

    Raises:
        RepositoryError: if an object cannot be stored or removed

    """
    new, old, gone = new_path(), new_path(), new_path()
    tests: tuple[Callable[[], Check], ...] = (
        partial(_attempt, CREATE, partial(_create, writer, new, racers)),
        partial(_attempt, REPLACE, partial(_replace, writer, old, replacers)),
        partial(_attempt, MISSING, partial(_replace_missing, writer, gone)),
        *others,
    )
    try:
        # One write goes first: without permission 32 more make no sense
        with contextlib.suppress(UnsupportedError):
            writer.create_object(old, _BEGIN)
        checks = prefetch_requests(
            lambda test: test(), tests, num_workers=len(tests), ahead=len(tests)
        )
        with contextlib.closing(checks):
            return list(checks)
    except BaseException:
        # It does not hide the error that it follows
        with contextlib.suppress(RepositoryError):
            for path in (new, old, gone):
                writer.delete_object(path, ANY)
        raise


def _attempt(name: str, attempt: Callable[[], tuple[bool, str, str]]) -> Check:
    try:
        return Check(name, *attempt())
    except UnsupportedError as error:
        return Check(
            name,
            False,
            f"it was refused: {error}",
            "Concurrent writes are not noticed.",
        )


def _create(writer: Writer, path: str, count: int) -> tuple[bool, str, str]:
    winners, stored = _meet(
        writer, path, count, lambda data: writer.create_object(path, data)
    )
    writer.delete_object(path, ANY)
    seen = f"{len(winners)} of {count} concurrent writers succeeded"
    if winners == [stored]:
        return True, seen, "Exactly one of several publishers wins."
    if len(winners) == 1:
        seen += ", but the object of another one is stored"
    return False, seen, "Concurrent publishers of a model may overwrite each other."


def _replace(writer: Writer, path: str, count: int) -> tuple[bool, str, str]:
    def meet(etag: str) -> tuple[list[bytes], bytes | None]:
        return _meet(
            writer, path, count, lambda data: writer.replace_object(path, data, etag)
        )

    etag = writer.etag_of(_BEGIN)
    winners, stored = meet(etag)
    if stored == _BEGIN:
        # The storage may compute etags in another way
        etag = _etag(writer, path)
        winners, stored = meet(etag)
    stale = writer.replace_object(path, b"stale", etag)
    writer.delete_object(path, ANY)
    if stored == _BEGIN:
        return (
            False,
            "an object was not replaced although it was unchanged",
            "Metadata and aliases cannot be changed.",
        )
    seen = (
        f"{len(winners)} of {count} concurrent writers succeeded, "
        f"and a late one was {'not ' if stale else ''}refused"
    )
    if winners == [stored] and not stale:
        return True, seen, "No change of metadata or aliases is lost."
    return False, seen, "Changes of metadata and aliases may be lost."


def _replace_missing(writer: Writer, path: str) -> tuple[bool, str, str]:
    writer.create_object(path, _BEGIN)
    writer.delete_object(path, ANY)
    done = writer.replace_object(path, b"again", writer.etag_of(_BEGIN))
    if done or _content(writer, path) is not None:
        writer.delete_object(path, ANY)
        return False, "it was stored", "A publisher that lost its claim may continue."
    return True, "it was refused", "A publisher that lost its claim cannot continue."


def _meet(
    writer: Writer, path: str, count: int, write: Callable[[bytes], bool]
) -> tuple[list[bytes], bytes | None]:
    r"""Data of concurrent writers that succeeded, and data that is stored then."""
    tried: list[bytes] = []

    def attempt(data: bytes) -> bool:
        tried.append(data)
        try:
            return write(data)
        except (RepositoryUnreachableError, WriteUncertainError):
            # Concurrent writers may block each other for long
            return False

    winners = race(count, attempt)
    stored = _content(writer, path)
    # The response was lost, or the request was sent twice
    if not winners and stored in tried:
        winners = [stored]
    return winners, stored


def race(count: int, write: Callable[[bytes], bool]) -> list[bytes]:
    r"""Run concurrent writers.

    Args:
        count: number of writers
        write: stores data, and returns whether they were stored

    Returns:
        data of the writers that succeeded

    """
    start = threading.Barrier(count)

    def run(number: int) -> bytes | None:
        data = b"%d %s" % (number, secrets.token_hex(8).encode())
        # If fewer threads can be started, they do not wait for the others
        with contextlib.suppress(threading.BrokenBarrierError):
            start.wait(_MEETING)
        return data if write(data) else None

    with contextlib.closing(
        prefetch_requests(run, range(count), num_workers=count, ahead=count)
    ) as results:
        return [data for data in results if data is not None]


def _etag(writer: Writer, path: str) -> str:
    stored = writer.read_object(path, _LIMIT)
    return "" if stored is None else stored.etag


def _content(writer: Writer, path: str) -> bytes | None:
    try:
        stored = writer.read_object(path, _LIMIT)
    except HiddenError:
        return None  # what was stored here could be read before
    return None if stored is None else stored.data

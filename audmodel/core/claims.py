r"""The right to publish a model, which one publisher has at a time.

A claim is an object beside the records of the model,
created only if there is none.
Its publisher renews it, and says where it runs,
so that others can tell whether it is alive:
on the same machine at once, elsewhere after a while.

"""

from __future__ import annotations

from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
import logging
import os
import secrets
import socket
import time
from typing import Any

from audmodel.core import disk
from audmodel.core import document
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.registry import Registry
from audmodel.core.uid import ModelId
from audmodel.errors import InvalidDocumentError
from audmodel.errors import PublishConflictError


logger = logging.getLogger("audmodel")

# A publisher renews its claim while it works
RENEW_INTERVAL = 10.0
# A claim that was not renewed for so long was left by a dead publisher
TIMEOUT = 60.0
_POLL_INTERVAL = 1.0
# What the system tells of processes
_PROCESSES = "/proc"
# States of processes that have ended
_DEAD = {"Z", "X", "x"}
# Claims of this process that it works under
_own: set[bytes] = set()


class Claim:
    r"""Right to publish a model, as long as nobody takes it over.

    Args:
        registry: where to publish
        model: ID of the model
        data: stored form of the claim

    """

    #: Whether another publisher had it, who is dead
    is_taken_over = False

    def __init__(self, registry: Registry, model: ModelId, data: bytes) -> None:
        self._backend = registry.backend
        self._model = model
        self._path = registry.record_path(model, "claim")
        # Forms in which it may be stored, as a storage may not say whether it is
        self._forms = {data}
        self._renewed = _now()

    def renew(self) -> None:
        r"""Show that the publisher is alive, and make sure the claim is ours.

        Raises:
            PublishConflictError: if somebody else took the claim over

        """
        stored = self._backend.read_object(self._path, document.MAX_BYTES)
        if stored is None or stored.data not in self._forms:
            raise self._conflict()
        data = _data()
        _own.add(data)
        self._forms.add(data)
        if not self._backend.replace_object(self._path, data, stored.tag):
            raise self._conflict()
        _own.difference_update(self._forms - {data})
        self._forms = {data}
        self._renewed = _now()

    def renewing(self, chunks: Iterable[bytes]) -> Generator[bytes, None, None]:
        r"""Renew the claim from time to time while chunks are taken."""
        for chunk in chunks:
            if self._age() > RENEW_INTERVAL:
                self.renew()
            yield chunk

    def fence(self) -> None:
        r"""Make sure that nobody took the claim over, if that is possible.

        Where the storage does not keep writers apart,
        somebody may have had the same idea at the same moment.
        """
        if self._age() > RENEW_INTERVAL:
            self.renew()
        elif self._is_weak():
            self._look()

    def _look(self) -> None:
        if not self._is_stored():
            raise self._conflict()

    def _is_weak(self) -> bool:
        return bool(self._backend.weakness) or self._backend.unprotected

    def _is_stored(self) -> bool:
        stored = self._backend.read_object(self._path, document.MAX_BYTES)
        return stored is not None and stored.data in self._forms

    def replace(self, path: str, data: bytes) -> None:
        r"""Store a small object, which a dead publisher may have left.

        Should somebody take the claim over in the meantime,
        then either the claim or the object is not what it was.

        Args:
            path: path of the object
            data: content

        Raises:
            PublishConflictError: if somebody else stored it

        """
        self.fence()
        if self._backend.create_object(path, data):
            return
        stored = self._backend.read_damaged(path, document.MAX_BYTES)
        self.fence()
        if stored is None or not self._backend.replace_object(path, data, stored.tag):
            raise self._conflict()

    def discard(self, path: str) -> None:
        r"""Delete an object, unless it belongs to somebody else by now.

        It follows an error, which it does not hide.

        Args:
            path: path of the object

        """
        try:
            is_ours = self._is_stored()
        except RepositoryError as error:
            logger.warning("Left over is '%s', the claim is unknown: %s", path, error)
            return
        if is_ours:
            self._delete(path)

    def _delete(self, path: str) -> None:
        try:
            # If the first attempt gave up the claim, others may have it by the next
            self._backend.delete_object(path, before_repeat=self._look)
        except PublishConflictError:
            pass  # it is gone, or is of somebody else
        except RepositoryError as error:
            logger.warning("Left over is '%s', which can be deleted: %s", path, error)

    def release(self) -> None:
        r"""Give up the claim if it is still ours."""
        _own.difference_update(self._forms)
        if self._age() > RENEW_INTERVAL or self._is_weak():
            self.discard(self._path)
        else:
            # Too young to have been taken over, which saves a look
            self._delete(self._path)

    def _conflict(self) -> PublishConflictError:
        return PublishConflictError(
            f"Somebody else took over publishing '{self._model}', "
            "who began at the same moment, "
            "or to whom this process gave no sign of life for too long. "
            "Try again if the model does not exist in a minute."
        )

    def _age(self) -> float:
        return _now() - self._renewed


@contextmanager
def claimed(registry: Registry, model: ModelId) -> Iterator[Claim]:
    r"""Keep publishers of a model away.

    Args:
        registry: where they publish
        model: ID of the model

    Yields:
        claim

    Raises:
        PublishConflictError: if somebody publishes it at the moment
        RepositoryError: if the claim cannot be stored

    """
    path = registry.record_path(model, "claim")
    data = _data()
    claim = Claim(registry, model, data)
    is_ours = False
    _own.add(data)
    try:
        if not registry.backend.create_object(path, data):
            claim.is_taken_over = _take_over(registry, model, path, data)
        is_ours = True
        yield claim
    finally:
        if is_ours:
            claim.release()
        else:
            _own.discard(data)
            # It may have been stored all the same
            claim.discard(path)


def _data() -> bytes:
    return document.dump(
        {
            "id": secrets.token_hex(16),
            "host": socket.gethostname(),
            "space": _process_space(),
            "process": os.getpid(),
            "start": _process_start(os.getpid()),
        },
        "claim",
    )


def _take_over(registry: Registry, model: ModelId, path: str, data: bytes) -> bool:
    r"""Take over the claim of a dead publisher, refuse if it is alive.

    Returns:
        ``False`` if it was given up in the meantime

    Raises:
        PublishConflictError: if it is alive
        RepositoryError: if the claim cannot be had

    """
    seen = registry.backend.read_damaged(path, document.MAX_BYTES)
    # However long that took, nobody was watched yet
    start = time.monotonic()
    stored = seen
    announced = False
    while True:
        waited = time.monotonic() - start
        if stored is None:
            # Its publisher is done, or gave up
            if registry.backend.create_object(path, data):
                return False
        elif seen is None or stored.data != seen.data:
            raise _busy(model, stored.data)
        elif (alive := is_alive(stored.data)) is False or waited > TIMEOUT:
            if alive:
                raise _busy(model, stored.data)
            if registry.backend.replace_object(path, data, stored.tag):
                return True
        elif not announced:
            announced = True
            logger.warning(
                "%s started to publish '%s'. "
                "Waiting up to %.0f s for a sign that it is still at work.",
                _publisher(stored.data),
                model,
                TIMEOUT,
            )
        # Others who take it, or are at work, change it before
        if waited > TIMEOUT + RENEW_INTERVAL:
            raise RepositoryError(
                f"Could not claim '{model}': "
                f"'{registry.backend.object_url(path)}' "
                "can be neither stored nor replaced, though nobody changes it. "
                "Remove it, whatever it is, if nobody publishes the model."
            )
        time.sleep(_POLL_INTERVAL)
        stored = registry.backend.read_damaged(path, document.MAX_BYTES)


def _busy(model: ModelId, data: bytes) -> PublishConflictError:
    return PublishConflictError(
        f"{_publisher(data)} publishes '{model}' at the moment. "
        "Wait until it is done, or end it."
    )


def _read_claim(data: bytes) -> dict[str, Any]:
    try:
        return document.load(data, "A claim")
    except InvalidDocumentError:
        return {}  # not a claim of ours, it expires like any other


def _publisher(data: bytes) -> str:
    claim = _read_claim(data)
    return (
        f"Process {str(claim.get('process'))[:20]} on '{str(claim.get('host'))[:100]}'"
    )


def _now() -> float:
    r"""Seconds that pass even while the machine is asleep."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def _process_space() -> str:
    r"""What tells the processes of this machine from those of its containers.

    They may have the same host name, but do not see each other.

    Returns:
        ID, empty if the machine does not tell

    """
    try:
        # A container may be shown the processes of another one
        if os.readlink(f"{_PROCESSES}/self") != str(os.getpid()):
            return ""
        space = os.readlink(f"{_PROCESSES}/self/ns/pid")
    except OSError:
        return ""
    boot = disk.boot_id()
    return f"{boot} {space}" if boot else ""


def is_alive(data: bytes) -> bool | None:
    r"""Whether the publisher runs on this machine.

    Args:
        data: stored form of its claim

    Returns:
        ``False`` if it ran here and is gone,
        ``None`` if it cannot be told,
        since it is on another machine, or hidden on this one

    """
    claim = _read_claim(data)
    process = claim.get("process")
    space = _process_space()
    if (
        not space
        or claim.get("space") != space
        or claim.get("host") != socket.gethostname()
        # Others stand for groups of processes
        or type(process) is not int
        or process <= 0
    ):
        return None
    if process == os.getpid():
        # One that could not be given up is of no use to anybody
        return data in _own
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # of another user, or no number of a process
    claimed_start, start = claim.get("start"), _process_start(process)
    if claimed_start is None or start is None:
        return None
    # Another process may have got the number
    return bool(start == claimed_start)


def _process_start(process: int) -> str | None:
    r"""When a process started.

    Returns:
        time, empty if it has ended,
        or ``None`` if this cannot be seen

    """
    try:
        path = f"{_PROCESSES}/{process}/stat"
        with open(path, encoding="ascii", errors="replace") as file:
            # The name of the program, in parentheses, may hold anything
            fields = file.read().rpartition(")")[2].split()
            # Nobody may ever ask how a process ended that is dead
            return "" if fields[0] in _DEAD else fields[19]
    except (OSError, IndexError):
        return None

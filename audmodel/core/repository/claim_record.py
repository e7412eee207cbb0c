r"""Stored form of a claim, and whether the publisher that it names is alive."""

from __future__ import annotations

import os
import secrets
import socket
from typing import Any

from audmodel.core import disk
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.yaml import document


# Where the system describes processes
_PROCESSES = "/proc"
# States of processes that have ended
_DEAD = {"Z", "X", "x"}
# Claims of this process that it works under
own: set[bytes] = set()


def dump(
    archive: str,
    found: str | None,
    *,
    may_be_published: bool = False,
    is_deleted: bool = False,
    is_left: bool = False,
) -> bytes:
    r"""Stored form of a claim, another one each time.

    Args:
        archive: path of the archive that its publisher stores
        found: etag of the archive that was there before
        may_be_published: whether the model may have a header
        is_deleted: whether the model is being deleted
        is_left: whether the claim no longer names the process

    """
    process = None if is_left else os.getpid()
    return document.dump(
        {
            "id": secrets.token_hex(16),
            "archive": archive,
            "found": found,
            "may_be_published": may_be_published,
            "deleted": is_deleted,
            "host": socket.gethostname(),
            "space": _process_space(),
            "process": process,
            "start": process and _process_start(process),
        },
        "claim",
    )


def _load(data: bytes) -> dict[str, Any]:
    try:
        return document.load(data, "A claim")
    except InvalidDocumentError:
        return {}  # not a claim of ours, it expires like any other


def archive_of(data: bytes) -> str | None:
    r"""Path of the archive that a publisher stores.

    Returns:
        path, ``None`` if the claim does not name it

    """
    archive = _load(data).get("archive")
    return archive if isinstance(archive, str) else None


def has_left(data: bytes, path: str, etag: str, backend: ObjectBackend) -> bool:
    r"""Whether a publisher has stored an archive, and no header.

    Args:
        data: stored form of its claim
        path: path of the archive
        etag: etag of the archive
        backend: where it is stored

    Returns:
        whether the archive was not there before,
        and the publisher did not get so far as to store a header,
        or whether the model was being deleted

    """
    if archive_of(data) != path:
        return False
    if is_deleted_by(data):
        return True
    if is_published_by(data):
        return False
    found = found_by(data)
    return found is None or not backend.may_be_same(found, etag)


def found_by(data: bytes) -> str | None:
    r"""Etag of the archive that was there before, ``None`` if there was none."""
    found = _load(data).get("found")
    return None if found is None else str(found)


def is_published_by(data: bytes) -> bool:
    r"""Whether a publisher may have stored a header."""
    return _load(data).get("may_be_published") is not False


def is_deleted_by(data: bytes) -> bool:
    r"""Whether the model was being deleted, and its header may be gone."""
    return _load(data).get("deleted") is True


def publisher(data: bytes) -> str:
    r"""Process and host of a publisher, for messages."""
    claim = _load(data)
    return (
        f"Process {str(claim.get('process'))[:20]} on '{str(claim.get('host'))[:100]}'"
    )


def _process_space() -> str:
    r"""ID of the boot and of the PID namespace.

    Containers may have the host name of their machine,
    but do not see its processes.

    Returns:
        ID, empty if it cannot be read

    """
    try:
        # The container may see /proc of another PID namespace
        if os.readlink(f"{_PROCESSES}/self") != str(os.getpid()):
            return ""
        space = os.readlink(f"{_PROCESSES}/self/ns/pid")
    except OSError:
        return ""
    boot = disk.boot_id()
    return f"{boot} {space}" if boot else ""


def is_alive(data: bytes) -> bool | None:
    r"""Whether the publisher runs on this machine.

    Returns:
        ``False`` if it ran here and is gone,
        ``None`` if it cannot be told,
        since it is on another machine, or hidden on this one

    """
    claim = _load(data)
    process = claim.get("process")
    space = _process_space()
    if (
        not space
        or claim.get("space") != space
        or claim.get("host") != socket.gethostname()
        # 0 and negative PIDs address process groups
        or type(process) is not int
        or process <= 0
    ):
        return None
    if process == os.getpid():
        # A claim of this process that it failed to delete counts as dead
        return data in own
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # process of another user, or not a valid PID
    claimed_start, start = claim.get("start"), _process_start(process)
    if claimed_start is None or start is None:
        return None
    # The PID may have been reused
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
            # A zombie has ended, but was not reaped yet
            return "" if fields[0] in _DEAD else fields[19]
    except (OSError, IndexError):
        return None

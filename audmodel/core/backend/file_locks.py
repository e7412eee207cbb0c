r"""Locks of files in a repository in a folder."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
import errno
import fcntl
import functools
import logging
import os
import random
import secrets
import time

from audmodel.core import disk


logger = logging.getLogger("audmodel")

# Seconds to wait for a process that replaces an object, which takes milliseconds
_TIMEOUT = 30.0
# Longest pause between two looks at a lock
_PAUSE = 0.02
_MODE = 0o664


@contextmanager
def exclusive(folder: str, root: str) -> Iterator[None]:
    r"""Let one process at a time compare and replace.

    Locking the folder itself leaves no lock file behind.
    On network file systems this lock does not exclude other machines:
    they need a lock on a file that is open for writing,
    and some have no locks at all.
    """
    with contextlib.ExitStack() as stack:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(_unlock, fd)
        if _lock(fd, "its folder") is not None or disk.is_shared(folder):
            path = os.path.join(root, ".lock")
            fd = _open_lock(path)
            stack.callback(_unlock, fd)
            error = _lock(fd, path)
            if error is not None:
                if error.errno not in disk.NO_LOCKS:
                    raise error
                _announce_no_locks(root)
        yield


@functools.cache
def _announce_no_locks(root: str) -> None:
    r"""Warn once."""
    logger.warning(
        "The file system of '%s' has no file locks. "
        "Let only one process at a time publish, and change aliases and metadata.",
        root,
    )


def _open_lock(path: str) -> int:
    r"""Open a lock file, which all users that may change the repository may lock."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, _MODE)
    with contextlib.suppress(OSError):  # it may belong to another user
        os.fchmod(fd, _MODE)
    return fd


def _lock(fd: int, what: str) -> OSError | None:
    r"""Wait for a lock, return why there is none.

    Raises:
        TimeoutError: if another process has it

    """
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    errno.ETIMEDOUT,
                    f"another process has locked {what} for {_TIMEOUT:g} s, "
                    "stop it or try again later",
                ) from None
            time.sleep(random.uniform(0, _PAUSE))  # noqa: S311
        except OSError as error:
            return error
        else:
            return None


def create_locked(folder: str, prefix: str) -> tuple[str, int]:
    r"""New file that is locked as long as its writer lives."""
    while True:
        path = os.path.join(folder, prefix + secrets.token_hex(8))
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            with contextlib.suppress(OSError):  # not every file system has locks
                fcntl.flock(fd, fcntl.LOCK_EX)
        except BaseException:
            # A signal may come while the file is made
            disk.remove(path)
            raise
        # Another process may have removed the file before it was locked
        if os.fstat(fd).st_nlink:
            return path, fd
        os.close(fd)


def remove_abandoned(folder: str, prefix: str) -> None:
    r"""Remove temporary files that dead writers of an object left."""
    with os.scandir(folder) as entries:
        paths = [entry.path for entry in entries if entry.name.startswith(prefix)]
    for path in paths:
        # A file that is locked, or that cannot be locked, may be in use
        with contextlib.suppress(OSError), locked(path):
            os.unlink(path)


@contextmanager
def locked(path: str) -> Iterator[int]:
    r"""Lock a file that no other process has locked.

    Raises:
        OSError: if another process has locked it, or it cannot be locked

    """
    fd = disk.open_file(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fd
    finally:
        _unlock(fd)


def _unlock(fd: int) -> None:
    r"""Close a file that was locked, if it was."""
    # A child that was forked in the meantime keeps the file open
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)

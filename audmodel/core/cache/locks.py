r"""Locks that keep processes from doing the same work twice.

The cache stays correct without them, see :mod:`audmodel.core.cache.entry`.
Path, mode and kind are those of earlier releases,
which use :mod:`filelock`.
That package opens a lock by its path, which in a shared cache may lead elsewhere,
so this module opens it.

"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import errno
import fcntl
import logging
import os
import time

from audmodel.core import disk
from audmodel.core.cache.root import write_error
from audmodel.core.cache.tree import Folder
from audmodel.core.errors import CacheBusyError


logger = logging.getLogger("audmodel")

# Group members have to be able to take a lock in a shared cache
_MODE = 0o664
# Seconds between two attempts to take a lock
_POLL = 0.05
# Seconds after which a wait for a lock is announced, and between reminders
_FIRST_NOTICE = 2.0
_NEXT_NOTICE = 30.0
# Errors that say that a lock is held
_HELD = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK}
# Locks that this process holds, and whether its threads may enter them again,
# which would otherwise wait for themselves
_ours: dict[str, bool] = {}


# A child process does not hold what its parent does
os.register_at_fork(after_in_child=_ours.clear)


@contextmanager
def hold(
    folder: Folder,
    name: str,
    *,
    timeout: float,
    reentrant: bool = False,
    reenter: bool = True,
) -> Iterator[bool]:
    r"""Hold a lock.

    A wait is announced with the path of the lock and the time waited.

    Args:
        folder: folder of the lock file
        name: name of the lock file
        timeout: seconds to wait, forever if negative
        reentrant: whether code of the user runs inside the block,
            so that no thread of this process waits for the lock
        reenter: whether to accept a reentrant lock that this process holds

    Yields:
        whether the lock excludes others:
        not every file system supports this,
        and a lock that is entered again does not

    Raises:
        LockTimeoutError: if the lock was not free in time
        CacheError: if the lock file cannot be made, or is no regular file

    """
    path = os.path.join(folder.path, name)
    fd = None
    try:
        folder.make()
        fd = _acquire(folder, name, timeout, reenter=reenter)
    except CacheBusyError:
        raise
    except OSError as error:
        if error.errno not in disk.NO_LOCKS:
            raise write_error(folder.root.path, error) from error
        logger.warning("The file system of '%s' has no file locks.", folder.root.path)
    if fd is None:
        yield False
        return
    process = os.getpid()
    _ours[path] = reentrant
    try:
        yield _keeps_others_away(folder, name)
    finally:
        # A child process has a copy of the descriptor, and not the lock
        if os.getpid() == process:
            _ours.pop(path, None)
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _acquire(folder: Folder, name: str, timeout: float, *, reenter: bool) -> int | None:
    r"""Descriptor of a lock file that is locked, or ``None`` to enter it again."""
    path = os.path.join(folder.path, name)
    start = time.monotonic()
    notice = _FIRST_NOTICE
    while True:
        fd = _try(folder, name)
        if fd is not None:
            return fd
        if reenter and _ours.get(path):
            return None
        waited = time.monotonic() - start
        if 0 <= timeout <= waited:
            raise _timeout_error(path, timeout)
        if waited >= notice:
            notice = waited + _NEXT_NOTICE
            logger.warning(
                "Waiting for %.0f s for the lock '%s', "
                "which %s holds for the same model.",
                waited,
                path,
                _holder(path),
            )
        time.sleep(min(_POLL, timeout - waited) if timeout >= 0 else _POLL)


def _try(folder: Folder, name: str) -> int | None:
    r"""Descriptor of a lock file, or ``None`` if another one has locked it."""
    fd = folder.open_shared(name, _MODE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Some releases of filelock remove the file when they release the lock
        if os.fstat(fd).st_nlink:
            return fd
    except OSError as error:
        if error.errno not in _HELD:
            os.close(fd)
            raise
    os.close(fd)
    return None


def _timeout_error(path: str, timeout: float) -> CacheBusyError:
    from audmodel.core.cache.errors import LockTimeoutError

    holder = _holder(path)
    return LockTimeoutError(
        f"{holder[:1].upper()}{holder[1:]} uses the model, "
        f"and has locked '{path}' for longer than {timeout:g} s. "
        "Wait until it is done, stop it, or allow a longer 'timeout'.",
        path,
    )


def _holder(path: str) -> str:
    return "another thread of this process" if path in _ours else "another process"


def _keeps_others_away(folder: Folder, name: str) -> bool:
    r"""Whether a lock that is held excludes others."""
    try:
        fd = _try(folder, name)
    except OSError:
        return False
    if fd is None:
        return True
    os.close(fd)
    return False

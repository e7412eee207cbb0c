r"""Locks that keep processes from doing the same work twice.

The cache stays correct without them, see :mod:`audmodel.core.cache.entry`.
Path, mode and kind are those of earlier releases,
which use :mod:`filelock`.
That package opens a lock by its path, which in a shared cache may lead elsewhere,
so this module opens it.
The file may hold the progress of its holder, for those that wait.

"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
import errno
import fcntl
import logging
import os
import re
import time

from audmodel.core import disk
from audmodel.core import units
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
# Seconds between two looks at the progress of the holder
_LOOK = 0.5
# Errors that say that a lock is held
_HELD = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK}
_PROGRESS = re.compile(rb" *(\d{1,20}) +(\d{1,20})\n")
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
    waiting: Callable[[int, int], object] = lambda done, total: None,
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
        waiting: called now and then with the progress of the holder, if it is known

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
        fd = _acquire(folder, name, timeout, waiting, reenter=reenter)
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
        _forget_progress(fd)
        yield _keeps_others_away(folder, name)
    finally:
        # A child process has a copy of the descriptor, and not the lock
        if os.getpid() == process:
            _ours.pop(path, None)
            _forget_progress(fd)
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def note_progress(folder: Folder, name: str, done: int, total: int) -> None:
    r"""Let those that wait for a lock of this process see its progress.

    Args:
        folder: folder of the lock file
        name: name of the lock file
        done: bytes that are done
        total: bytes of the whole task

    """
    with contextlib.suppress(OSError):
        fd = folder.open_shared(name, _MODE)
        try:
            # One write, and always as long, so that no mixture can be read
            os.pwrite(fd, b"%20d %20d\n" % (done, total), 0)
        finally:
            os.close(fd)


def read_progress(folder: Folder, name: str) -> tuple[int, int] | None:
    r"""Progress of the holder of a lock.

    Args:
        folder: folder of the lock file
        name: name of the lock file

    Returns:
        bytes that are done, and those of the whole task,
        ``None`` if the holder does not tell, such as one of an earlier release

    """
    match = _PROGRESS.fullmatch(folder.read_start(name, 64) or b"")
    if match is None:
        return None
    done, total = map(int, match.groups())
    return min(done, total), total


def _forget_progress(fd: int) -> None:
    r"""Forget the progress of a holder, which may have been killed."""
    with contextlib.suppress(OSError):
        if os.fstat(fd).st_size:
            os.ftruncate(fd, 0)


def _acquire(
    folder: Folder,
    name: str,
    timeout: float,
    waiting: Callable[[int, int], object],
    *,
    reenter: bool,
) -> int | None:
    r"""Descriptor of a lock file that is locked, or ``None`` to enter it again."""
    path = os.path.join(folder.path, name)
    start = time.monotonic()
    notice = _FIRST_NOTICE
    look = _LOOK
    while True:
        fd = _try(folder, name)
        if fd is not None:
            return fd
        if reenter and _ours.get(path):
            return None
        waited = time.monotonic() - start
        if 0 <= timeout <= waited:
            raise _timeout_error(path, timeout, _so_far(folder, name))
        if waited >= look:
            look = waited + _LOOK
            if (progress := read_progress(folder, name)) is not None:
                waiting(*progress)
        if waited >= notice:
            notice = waited + _NEXT_NOTICE
            logger.warning(
                "Waiting for %.0f s for the lock '%s', "
                "which %s holds for the same model%s.",
                waited,
                path,
                _holder(path),
                _so_far(folder, name),
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


def _so_far(folder: Folder, name: str) -> str:
    r"""Progress of the holder of a lock, in words."""
    progress = read_progress(folder, name)
    if progress is None:
        return ""
    done, total = map(units.size, progress)
    return f", {done} of {total} so far"


def _timeout_error(path: str, timeout: float, so_far: str) -> CacheBusyError:
    from audmodel.core.cache.errors import LockTimeoutError

    holder = _holder(path)
    return LockTimeoutError(
        f"{holder[:1].upper()}{holder[1:]} uses the model, "
        f"and has locked '{path}' for longer than {timeout:g} s{so_far}. "
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

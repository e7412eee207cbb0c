r"""Locks that keep processes from doing the same work twice.

Nothing relies on them to be right, see :mod:`audmodel.core.cache.entry`.
Path and mode are those of earlier releases, which take them as well.

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


logger = logging.getLogger("audmodel")

# Group members have to be able to take a lock in a shared cache
_MODE = 0o664
# Seconds after which a wait for a lock is announced, and between reminders
_FIRST_NOTICE = 2.0
_NEXT_NOTICE = 30.0
# Locks that this process holds while code of its user runs
_lent: set[str] = set()


# A child process does not hold what its parent does
os.register_at_fork(after_in_child=_lent.clear)


@contextmanager
def hold(
    root: str,
    path: str,
    *,
    timeout: float,
    lend: bool = False,
    borrow: bool = True,
) -> Iterator[bool]:
    r"""Hold a lock.

    A wait is announced with the path of the lock and the time waited.

    Args:
        root: root folder of the cache
        path: path of the lock file
        timeout: seconds to wait, forever if negative
        lend: whether nobody in this process waits for the lock,
            since the code of its user runs inside the block,
            which would wait for itself
        borrow: whether a lock that is lent will do

    Yields:
        whether the lock keeps others away,
        which not every file system cares for,
        and which it does not if it is lent

    Raises:
        LockTimeoutError: if the lock was not free in time
        CacheError: if the lock file cannot be made

    """
    import filelock

    from audmodel.core.cache.errors import LockTimeoutError

    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        lock = filelock.FileLock(
            path,
            mode=_MODE,
            thread_local=False,
            # A lock that is a mere file outlives its process.
            # Releases of filelock that know of no choice ignore it
            fallback_to_soft=False,
        )
        is_held = _acquire(lock, path, timeout, borrow)
    except LockTimeoutError:
        raise
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", errno.ENOSYS) not in disk.NO_LOCKS:
            raise write_error(root, error) from error
        logger.warning("The file system of '%s' has no file locks.", root)
        yield False
        return
    if not is_held:
        yield False
        return
    if lend:
        _lent.add(path)
    try:
        yield _keeps_others_away(path)
    finally:
        if lend:
            _lent.discard(path)
        lock.release()


def _acquire(lock: object, path: str, timeout: float, borrow: bool) -> bool:
    r"""Acquire a lock, unless it is borrowed, and say so."""
    import filelock

    from audmodel.core.cache.errors import LockTimeoutError

    assert isinstance(lock, filelock.BaseFileLock)
    start = time.monotonic()
    notice = _FIRST_NOTICE
    while True:
        waited = time.monotonic() - start
        left = timeout - waited if timeout >= 0 else float("inf")
        try:
            seconds = 0 if borrow and path in _lent else min(notice - waited, left)
            lock.acquire(timeout=max(0, seconds))
            return True
        except filelock.Timeout as error:
            if borrow and path in _lent:
                return False
            waited = time.monotonic() - start
            if timeout >= 0 and waited >= timeout:
                raise LockTimeoutError(
                    f"Another process is at work on the model, and has locked '{path}' "
                    f"for longer than {timeout:g} s. "
                    "Wait until it is done, end it, or allow a longer 'timeout'.",
                    path,
                ) from error
        logger.warning(
            "Waiting since %.0f s for '%s', "
            "which another process holds that is at work on the same model.",
            waited,
            path,
        )
        notice = waited + _NEXT_NOTICE


def _keeps_others_away(path: str) -> bool:
    r"""Whether a lock that is held does what it should."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(fd)

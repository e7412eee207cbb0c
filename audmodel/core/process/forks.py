r"""Let a fork wait for what other threads hold locks for.

A thread that imports a module holds a lock of the interpreter,
and one that makes a context for TLS holds a lock of OpenSSL.
A child process that is forked meanwhile has that lock, and not the thread:
its own import of the module, or its own context, would wait for ever.
A first call imports what it needs inside the call,
as do many of the packages that are used.

"""

from __future__ import annotations

import _imp
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
from importlib import _bootstrap
import logging
import os
import sys
import threading
import time
from typing import Any


# Seconds to wait at most, should another thread wait for the one that forks
_TIMEOUT = 10.0
_PAUSE = 0.002
# There is no public way to ask for the locks of modules, which live while in use
_locks: dict[str, Callable[[], Any]] = getattr(_bootstrap, "_module_locks", {})
# Threads in a block of hold_off(), once for each block
_busy: list[int] = []


@contextlib.contextmanager
def hold_off() -> Iterator[None]:
    r"""Let no other thread fork this process before the block ends."""
    thread = threading.get_ident()
    with _lock.gate:
        _busy.append(thread)
    try:
        yield
    finally:
        _busy.remove(thread)


class _Lock:
    r"""The locks without which no thread begins to do what forks wait for.

    ``logging`` locks itself before a fork as well, after this module does,
    and some of its functions import while they have that lock.
    So both are taken, in the order of these functions.
    """

    # There is no public way to it
    _of_logging = getattr(logging, "_lock", None) or threading.RLock()

    def __init__(self) -> None:
        self.gate = threading.RLock()

    def acquire(self) -> None:
        self.gate.acquire()
        self._of_logging.acquire()
        _imp.acquire_lock()

    def release(self) -> None:
        # A signal may have ended the hook before it had all of them
        for release in (
            _imp.release_lock,
            self._of_logging.release,
            self.gate.release,
        ):
            with contextlib.suppress(RuntimeError):
                release()


_lock = _Lock()


def _wait() -> None:
    r"""Wait until no other thread imports a module or holds off forks.

    A thread that forks in the middle of such work of its own does not wait,
    since others may wait for that.
    """
    deadline = time.monotonic() + _TIMEOUT
    while True:
        _lock.acquire()
        others = {*_imported().values(), *_busy}
        is_own = threading.get_ident() in others
        if not others or is_own or time.monotonic() > deadline:
            return
        _lock.release()
        time.sleep(_PAUSE)


def _begin_anew() -> None:
    r"""Forget what other threads had begun to import, should the wait have ended."""
    for name, thread in _imported().items():
        if thread not in (None, threading.get_ident()):
            _locks.pop(name, None)
            sys.modules.pop(name, None)
    _busy[:] = [thread for thread in _busy if thread == threading.get_ident()]
    _lock.release()


def _imported() -> dict[str, int | None]:
    r"""Threads that have the lock of a module, ``None`` if it was just made."""
    locks = {name: reference() for name, reference in tuple(_locks.items())}
    return {name: lock.owner for name, lock in locks.items() if lock is not None}


os.register_at_fork(
    before=_wait, after_in_parent=_lock.release, after_in_child=_begin_anew
)

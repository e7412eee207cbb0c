r"""Let a fork wait for imports of other threads.

A thread that imports a module holds a lock of the interpreter.
A child process that is forked meanwhile has that lock, and not the thread:
its own import of the module would wait for ever.
A first call imports what it needs inside the call,
as do many of the packages that are used.

"""

from __future__ import annotations

import _imp
from collections.abc import Callable
import contextlib
from importlib import _bootstrap
import logging
import os
import sys
import threading
import time
from typing import Any


# Seconds to wait at most, should an import wait for the thread that forks
_TIMEOUT = 10.0
_PAUSE = 0.002
# There is no public way to ask for the locks of modules, which live while in use
_locks: dict[str, Callable[[], Any]] = getattr(_bootstrap, "_module_locks", {})


class _ImportLock:
    r"""The lock without which no thread begins to import a module.

    ``logging`` locks itself before a fork as well, after this module does,
    and some of its functions import while they have that lock.
    So both are taken, in the order of these functions.
    """

    # There is no public way to it
    _of_logging = getattr(logging, "_lock", None) or threading.RLock()

    def acquire(self) -> None:
        self._of_logging.acquire()
        _imp.acquire_lock()

    def release(self) -> None:
        # A signal may have ended the hook before it had both
        with contextlib.suppress(RuntimeError):
            _imp.release_lock()
        with contextlib.suppress(RuntimeError):
            self._of_logging.release()


_lock = _ImportLock()


def _stop_imports() -> None:
    r"""Wait until no other thread imports a module, and let none begin to.

    A thread that forks in the middle of an import does not wait,
    since others may wait for its import.
    """
    deadline = time.monotonic() + _TIMEOUT
    while True:
        _lock.acquire()
        importing = set(_imported().values())
        if not importing or threading.get_ident() in importing:
            return
        if time.monotonic() > deadline:
            return
        _lock.release()
        time.sleep(_PAUSE)


def _begin_anew() -> None:
    r"""Forget what other threads had begun to import, should the wait have ended."""
    for name, thread in _imported().items():
        if thread not in (None, threading.get_ident()):
            _locks.pop(name, None)
            sys.modules.pop(name, None)
    _lock.release()


def _imported() -> dict[str, int | None]:
    r"""Threads that have the lock of a module, ``None`` if it was just made."""
    locks = {name: reference() for name, reference in tuple(_locks.items())}
    return {name: lock.owner for name, lock in locks.items() if lock is not None}


os.register_at_fork(
    before=_stop_imports, after_in_parent=_lock.release, after_in_child=_begin_anew
)

r"""Let a fork wait for imports of other threads.

A thread that imports a module holds a lock of the interpreter.
A child process that is forked meanwhile has that lock, and not the thread:
its own import of the module would wait for ever.
A first call imports what it needs inside the call,
as do many of the packages that are used.

"""

from __future__ import annotations

from importlib import _bootstrap

# The module registers a hook that holds a lock which imports need.
# The hook that is registered last runs first
import logging as logging
import os
import threading
import time


# Seconds to wait at most, should an import wait for the thread that forks
_PATIENCE = 10.0
_PAUSE = 0.002


def wait_for_imports() -> None:
    r"""Wait until no other thread imports a module.

    A thread that forks in the middle of an import does not wait,
    since others may wait for its import.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        importing = _importing_threads()
        if not importing or threading.get_ident() in importing:
            return
        time.sleep(_PAUSE)


def _importing_threads() -> set[int | None]:
    r"""Threads that hold the lock of a module, ``None`` if it was just made."""
    # There is no public way to ask for these locks, which live while in use
    references = getattr(_bootstrap, "_module_locks", {})
    locks = (reference() for reference in tuple(references.values()))
    return {lock.owner for lock in locks if lock is not None}


os.register_at_fork(before=wait_for_imports)

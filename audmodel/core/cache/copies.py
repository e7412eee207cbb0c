r"""Copies of small files of a repository."""

from __future__ import annotations

import contextlib
import os
import stat

from audmodel.core.cache import locks
from audmodel.core.cache.tree import Folder


# Seconds to wait for the lock of a small file
_TIMEOUT = 10


class Copy:
    r"""Copy of a small file.

    It saves requests,
    so a cache that cannot be written to is no error.

    Args:
        folder: folder that it is in
        name: name of the file
        has_lock: whether earlier releases read and write it under a lock

    """

    def __init__(self, folder: Folder, name: str, *, has_lock: bool) -> None:
        self._folder = folder
        self._name = name
        self._has_lock = has_lock

    @property
    def path(self) -> str:
        r"""Path of the file, for messages."""
        return os.path.join(self._folder.path, self._name)

    def exists(self) -> bool:
        r"""Whether there is a copy."""
        try:
            return stat.S_ISREG(self._folder.status(self._name).st_mode)
        except OSError:
            return False

    def identity(self) -> tuple[int, ...] | None:
        r"""Numbers that differ after the file changed, ``None`` if there is none."""
        try:
            status = self._folder.status(self._name)
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def size(self) -> int:
        r"""Bytes of the file, 0 if there is none."""
        return self._folder.size(self._name) or 0

    def read(self, limit: int) -> bytes | None:
        r"""Content of the file, ``None`` if there is none that can be read."""
        return self._folder.read(self._name, limit)

    def keep(self, content: bytes) -> None:
        r"""Replace the file, as one step, if it differs."""
        if self.read(len(content)) != content:
            with contextlib.suppress(OSError), self._lock():
                self._folder.replace(self._name, content)

    def remove(self) -> None:
        r"""Remove the file.

        A folder of that name is another version of the model.
        """
        with contextlib.suppress(OSError), self._lock():
            if self.exists():
                self._folder.remove(self._name)

    def _lock(self) -> contextlib.AbstractContextManager[object]:
        if not self._has_lock:
            return contextlib.nullcontext()
        return locks.hold(self._folder, f".{self._name}.lock", timeout=_TIMEOUT)

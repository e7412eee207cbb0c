r"""Errors of the cache that need imports, see :mod:`audmodel.errors`."""

from __future__ import annotations

from typing import Any

import filelock

from audmodel.core.errors import CacheBusyError


class LockTimeoutError(CacheBusyError, filelock.Timeout):
    r"""Another process used a model in the cache for longer than ``timeout``.

    Args:
        message: what happened, why, and what to do
        lock_file: path of the lock

    """

    __module__ = "audmodel.errors"

    def __init__(self, message: str, lock_file: str = "") -> None:
        super().__init__(lock_file)
        self.args = (message,)

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.lock_file)

r"""Connections of urllib3 that other threads can shut down, and that cannot hang."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import time
from typing import Any

from audmodel.core.backend.http import pace
from audmodel.core.process.requests import Requests
from audmodel.core.process.requests import current
from audmodel.core.process.requests import ended


class _Guarded(pace.Connection):
    r"""Connection of urllib3 that another thread can cut, and that cannot hang."""

    _socket: Any = None
    _process: int
    _opened = 0.0

    @property
    def is_connected(self) -> bool:
        r"""Whether it is used again, what urllib3 asks before it does so."""
        requests = current()
        is_trusted = requests is None or requests.trusts(self._opened)
        return is_trusted and bool(super().is_connected)  # type: ignore[misc]

    @staticmethod
    def used_for() -> Requests | None:
        return None

    def request(self, *arguments: Any, **options: Any) -> Any:
        requests = current()
        if requests is None:
            self.__dict__.pop("used_for", None)
        else:
            requests.take(self)
        return super().request(*arguments, **options)  # type: ignore[misc]

    def connect(self) -> None:
        super().connect()
        # An answer after which the server closes keeps it to itself
        self._socket = self.sock
        self._process = os.getpid()
        self._opened = time.monotonic()
        if ended():
            self.cut()

    def cut(self) -> None:
        r"""Let whoever waits for the server learn that it is in vain."""
        # That of a parent process is still in use there
        if self._socket is not None and self._process == os.getpid():
            # TLS to a proxy wraps that to the server
            inner = getattr(self._socket, "socket", self._socket)
            with contextlib.suppress(OSError, TypeError):
                # That of TLS connections would go on unencrypted
                socket.socket.shutdown(inner, socket.SHUT_RDWR)


@functools.cache
def _guarded(pool: type) -> type:
    connection = pool.ConnectionCls  # type: ignore[attr-defined]
    if issubclass(connection, _Guarded):
        return pool
    changed = type(connection.__name__, (_Guarded, connection), {})
    return type(pool.__name__, (pool,), {"ConnectionCls": changed})


def guarded(pools: dict[str, Any]) -> dict[str, Any]:
    r"""Classes of connection pools whose connections cannot hang for ever.

    Args:
        pools: classes of urllib3 by scheme

    Returns:
        classes by scheme

    """
    return {scheme: _guarded(pool) for scheme, pool in pools.items()}

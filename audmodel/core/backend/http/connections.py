r"""Connections of urllib3 that other threads can shut down, and that cannot hang."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Any
from typing import cast

from audmodel.core.backend.http import pace
from audmodel.core.process.requests import Requests
from audmodel.core.process.requests import cancelled
from audmodel.core.process.requests import current


class Trust:
    r"""Decides which connections of a session are used again.

    A connection always leads to the same machine.
    After a failure the name of the server may belong to another machine.
    """

    def __init__(self) -> None:
        self._oldest = 0.0

    def withdraw(self) -> None:
        r"""Use no connection again that is open now."""
        self._oldest = time.monotonic()

    def lasts(self, opened: float) -> bool:
        r"""Whether a connection may be used again, or another one is opened instead."""
        return opened >= self._oldest


class _Guarded(pace.Connection):
    r"""Connection that another thread can shut down, and that cannot hang."""

    trust: Trust
    _socket: Any = None
    _process: int
    _opened = 0.0

    @property
    def is_connected(self) -> bool:
        r"""Whether urllib3 may use it again."""
        is_connected: bool = super().is_connected  # type: ignore[misc]
        return is_connected and self.trust.lasts(self._opened)

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
        # If the server closes after a response, only the response keeps the socket
        self._socket = self.sock
        self._process = os.getpid()
        self._opened = time.monotonic()
        if cancelled():
            self.shut_down()

    def shut_down(self) -> None:
        r"""Shut the socket down, so that blocked reads fail."""
        # That of a parent process is still in use there
        if self._socket is not None and self._process == os.getpid():
            # TLS to a proxy wraps that to the server
            inner = getattr(self._socket, "socket", self._socket)
            with contextlib.suppress(OSError, TypeError):
                # shutdown() of a TLS socket would continue unencrypted
                socket.socket.shutdown(inner, socket.SHUT_RDWR)


def _guarded(pool: Any, trust: Trust) -> type:
    connection = pool.ConnectionCls
    if issubclass(connection, _Guarded):
        return cast(type, pool)
    changed = type(connection.__name__, (_Guarded, connection), {"trust": trust})
    return type(pool.__name__, (pool,), {"ConnectionCls": changed})


def guarded(pools: dict[str, Any], trust: Trust) -> dict[str, Any]:
    r"""Classes of connection pools whose connections cannot hang for ever."""
    return {scheme: _guarded(pool, trust) for scheme, pool in pools.items()}

r"""Connections that end: by themselves, or since nobody waits for them any more."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
import functools
import os
import socket
import threading
import time
from typing import Any
import weakref


# Seconds for the head of an answer,
# in addition to those that the server may take to say anything
SLOWEST_HEAD = 30.0

_local = threading.local()
_lock = threading.Lock()


def _after_fork() -> None:
    global _lock
    # Whoever held it does not exist in the child
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


class Requests:
    r"""Requests of one or several threads that can be ended at once."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self._timer: threading.Timer | None = None

    @property
    def ended(self) -> bool:
        r"""Whether no more requests are wanted."""
        return self._ended.is_set()

    @contextmanager
    def here(self) -> Iterator[None]:
        r"""What the thread sends inside the block can be ended."""
        outer = _current()
        _local.requests = self
        try:
            yield
        finally:
            _local.requests = outer

    def end(self) -> None:
        r"""End all requests with an error, those of the future as well."""
        self._ended.set()
        with _lock:
            for connection in list(self._connections):
                # It may be used for something else by now
                if connection.used_for() is self:
                    connection.cut()

    def end_in(self, seconds: float) -> None:
        r"""End all requests that take longer.

        Args:
            seconds: time that is left

        """
        self.keep()
        self._timer = threading.Timer(seconds, self.end)
        self._timer.daemon = True
        self._timer.start()

    def keep(self) -> None:
        r"""Let requests take their time again, unless they were ended."""
        if self._timer is not None:
            self._timer.cancel()

    def take(self, connection: Any) -> None:
        r"""Use a connection.

        Args:
            connection: connection

        Raises:
            InterruptedError: if no more requests are wanted

        """
        with _lock:
            if self.ended:
                raise InterruptedError("The request is not wanted any more.")
            self._connections.add(connection)
            connection.used_for = weakref.ref(self)

    def wait(self, seconds: float) -> None:
        r"""Do nothing for a while, unless no more requests are wanted."""
        self._ended.wait(seconds)


def _current() -> Requests | None:
    found: Requests | None = getattr(_local, "requests", None)
    return found


def ended() -> bool:
    r"""Whether no more requests of this thread are wanted."""
    requests = _current()
    return requests is not None and requests.ended


def wait(seconds: float) -> None:
    r"""Do nothing for a while, unless no more requests of this thread are wanted."""
    requests = _current()
    if requests is None:
        time.sleep(seconds)
    else:
        requests.wait(seconds)


class _Guarded:
    r"""Connection of urllib3 that another thread can cut, and that ends by itself."""

    sock: Any
    timeout: Any
    _socket: Any = None

    @staticmethod
    def used_for() -> Requests | None:
        return None

    def request(self, *arguments: Any, **options: Any) -> Any:
        requests = _current()
        if requests is None:
            self.__dict__.pop("used_for", None)
        else:
            requests.take(self)
        return super().request(*arguments, **options)  # type: ignore[misc]

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        # An answer after which the server closes keeps it to itself
        self._socket = self.sock
        if ended():
            self.cut()

    def getresponse(self) -> Any:
        is_late = threading.Event()

        def give_up() -> None:
            is_late.set()
            self.cut()

        timer = threading.Timer((self.timeout or 0) + SLOWEST_HEAD, give_up)
        timer.daemon = True
        timer.start()
        try:
            response = super().getresponse()  # type: ignore[misc]
        finally:
            timer.cancel()
        if is_late.is_set():
            # What arrived may look like an answer
            response.close()
            raise ConnectionAbortedError("The answer takes too long.")
        return response

    def cut(self) -> None:
        r"""Let whoever waits for the server learn that it is in vain."""
        if self._socket is not None:
            # TLS to a proxy wraps that to the server
            inner = getattr(self._socket, "socket", self._socket)
            with contextlib.suppress(OSError, TypeError):
                # That of TLS connections would go on unencrypted
                socket.socket.shutdown(inner, socket.SHUT_RDWR)


@functools.cache
def _guarded(pool: type) -> type:
    connection = pool.ConnectionCls  # type: ignore[attr-defined]
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

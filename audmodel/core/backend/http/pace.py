r"""Connections of urllib3 that fail if they make no progress.

Timeouts of sockets limit the wait for any byte.
A server, or a proxy, that sends one byte per second,
in the head of a response, in the framing of a body or in the body itself,
would never reach them.
So every read and write of a connection is limited
by the time that is left to make progress.
The calling thread watches the time, no other thread is needed.

"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import sys
import time
from typing import Any


# Bytes of a body that have to arrive, or be sent, within so many seconds.
# The head of a response has as much time from its first byte on
PROGRESS = 30 * 1024
STANDSTILL = 20.0
# The server cannot respond to data that the system has not sent yet.
# The name is missing in Python 3.11
_TCP_NOTSENT_LOWAT = 0x201 if sys.platform == "darwin" else 25
_UNSENT = 128 * 1024


class _TimedReader(io.RawIOBase):
    r"""Reads from a socket, and fails if there is no progress.

    Args:
        raw: unlimited reader of the socket, is closed with this one
        sock: socket, or an object like it

    """

    def __init__(self, raw: io.RawIOBase, sock: Any) -> None:
        self._raw = raw
        self._sock = sock
        # Seconds to wait for any byte, also for the first one
        self._timeout: float | None = sock.gettimeout()
        self._deadline: float | None = None

    def progress(self) -> None:
        r"""Give the connection time to make more progress."""
        self._deadline = time.monotonic() + STANDSTILL

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is None:
            count = self._raw.readinto(buffer)
            self.progress()
            return count
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("there is no progress")
        if self._timeout is not None:
            self._sock.settimeout(min(self._timeout, left))
        return self._raw.readinto(buffer)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._raw.close()
        super().close()


class Response(http.client.HTTPResponse):
    r"""Response that ends with an error if it makes no progress.

    Args:
        sock: socket, or an object like it
        arguments: those of :class:`http.client.HTTPResponse`
        options: likewise

    """

    def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._reader = _TimedReader(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self._reader)
        self._arrived = 0

    def begin(self) -> None:
        r"""Read the head."""
        super().begin()
        self._reader.progress()

    def read(self, amt: int | None = None) -> bytes:
        r"""Bytes of the body, waiting for as many as asked for."""
        return self._count(super().read(amt))

    def read1(self, n: int = -1) -> bytes:
        r"""Bytes of the body that arrived."""
        return self._count(super().read1(n))

    def _count(self, data: bytes) -> bytes:
        r"""Count bytes of the body as progress, but not its framing."""
        self._arrived += len(data)
        if self._arrived >= PROGRESS:
            self._arrived = 0
            self._reader.progress()
        return data


class Connection:
    r"""Connection whose requests and responses have to make progress.

    To be mixed with a class of urllib3.
    """

    sock: Any
    response_class = Response

    def connect(self) -> None:
        r"""Connect to the server, or to a proxy."""
        super().connect()  # type: ignore[misc]
        # TLS to a proxy wraps that to the server
        sock = getattr(self.sock, "socket", self.sock)
        with contextlib.suppress(OSError):  # not every system has it
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT)

    def send(self, data: Any) -> None:
        r"""Send a part of a request."""
        if not isinstance(data, bytes | bytearray | memoryview):
            # A file comes here piece by piece
            super().send(data)  # type: ignore[misc]
            return
        if self.sock is None:
            self.connect()
        timeout = self.sock.gettimeout()
        self.sock.settimeout(STANDSTILL)
        for start in range(0, len(data), PROGRESS):
            super().send(data[start : start + PROGRESS])  # type: ignore[misc]
        self.sock.settimeout(timeout)

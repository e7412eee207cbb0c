"""A link with a latency and a rate, which counts what passes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


_CHUNK = 1 << 17
# A pause that took too long is made up for, up to this many seconds
_CREDIT = 0.01


class Link:
    """Relay in front of a server.

    Args:
        upstream: host and port of the server
        rate: bytes per second of each connection in each direction,
            0 for no limit
        latency: seconds that a round trip takes,
            that for opening a connection included
        total: bytes per second of all connections in each direction,
            0 for no limit

    """

    def __init__(
        self, upstream: str, rate: float = 0, latency: float = 0, total: float = 0
    ) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._rate = rate
        self._latency = latency
        self._there, self._back = _Pace(total), _Pace(total)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests = 0
        self.received = 0
        self.sent = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def forget(self) -> None:
        """Count from zero."""
        with self._lock:
            self.requests = self.received = self.sent = 0

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        # The thread that waits for a connection is woken
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            time.sleep(self._latency)
            with socket.create_connection(self._upstream) as server:
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                back = threading.Thread(
                    target=self._pass, args=(server, client, None), daemon=True
                )
                back.start()
                self._pass(client, server, _Requests())
                back.join()

    def _pass(
        self, source: socket.socket, target: socket.socket, requests: _Requests | None
    ) -> None:
        buffer = memoryview(bytearray(_CHUNK))
        pace = _Pace(self._rate)
        together = self._back if requests is None else self._there
        with contextlib.suppress(OSError):
            while length := source.recv_into(buffer):
                data = buffer[:length]
                number = 0 if requests is None else requests.feed(data)
                with self._lock:
                    self.requests += number
                    if requests is None:
                        self.received += length
                    else:
                        self.sent += length
                if number:
                    time.sleep(self._latency)
                pause = max(pace.delay(length), together.delay(length))
                if pause:
                    time.sleep(pause)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RD if end is source else socket.SHUT_WR)


class _Pace:
    """Tells how long bytes have to wait.

    Args:
        rate: bytes per second, 0 for no limit

    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._due = 0.0
        self._lock = threading.Lock()

    def delay(self, length: int) -> float:
        """Seconds until the next bytes may have passed."""
        if not self._rate:
            return 0
        with self._lock:
            now = time.monotonic()
            self._due = max(self._due, now - _CREDIT) + length / self._rate
            return max(0, self._due - now)


class _Requests:
    """Finds the requests in what a client sends."""

    def __init__(self) -> None:
        self._head = b""
        self._body = 0

    def feed(self, data: memoryview) -> int:
        """Take the next bytes, and tell how many requests have begun with them."""
        number = 0
        while data:
            if self._body:
                length = min(self._body, len(data))
                self._body -= length
                data = data[length:]
                continue
            self._head += bytes(data)
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                break
            number += 1
            self._head = b""
            self._body = _content_length(head)
            data = memoryview(rest)
        return number


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0

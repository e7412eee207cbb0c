"""An HTTP proxy that counts requests and gives wrong responses on demand."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
from dataclasses import dataclass
from dataclasses import field
import http.client
import itertools
import re
import socket
import struct
import threading
from typing import Any

from tests.backends.loopback import Handler
from tests.backends.loopback import LoopbackServer


@dataclass
class Request:
    """A request that arrived.

    Args:
        method: method
        path: path with query
        headers: headers, with names in lower case
        body: body

    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = field(repr=False)


@dataclass
class Response:
    """A response on its way to the client.

    Args:
        status: status
        headers: headers
        body: body

    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    # What happens to it while it is sent
    cut_after: int | None = None
    stall_after: int | None = None
    trickle: float | None = None
    reset: bool = False
    # Sent instead of all that
    raw: Iterable[bytes] | None = None

    def header(self, name: str) -> str | None:
        for known, value in self.headers:
            if known.lower() == name.lower():
                return value
        return None

    def replace(self, name: str, value: str | None) -> None:
        """Replace a header, or remove it."""
        self.headers = [h for h in self.headers if h[0].lower() != name.lower()]
        if value is not None:
            self.headers.append((name, value))


# Given a request, and what forwards it, a fault gives a response.
# None stands for a connection that breaks.
Forward = Callable[[], Response]
Fault = Callable[[Request, Forward], Response | None]


class Proxy(LoopbackServer):
    """Proxy in front of a server.

    Args:
        upstream: host and port of the server
        address: where the proxy listens

    """

    def __init__(
        self, upstream: str, address: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        super().__init__(_Handler, address)
        self.upstream = upstream
        self.requests: list[Request] = []
        self.fault: Fault | None = None
        self.connections = 0
        self.released = threading.Event()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """URL of the proxy."""
        return f"http://{self.host}"

    def __exit__(self, *error: object) -> None:
        self.released.set()
        super().__exit__(*error)

    def log(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def connected(self) -> None:
        with self._lock:
            self.connections += 1

    @contextlib.contextmanager
    def counting(self) -> Iterator[list[str]]:
        """Methods and paths of the requests inside the block."""
        seen: list[str] = []
        before = len(self.requests)
        yield seen
        seen += [f"{r.method} {r.path}" for r in self.requests[before:]]

    def forward(self, request: Request) -> Response:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            # Clients that know of the proxy say where to as well
            path = re.sub("^http://[^/]*", "", request.path)
            connection.putrequest(
                request.method, path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in request.headers.items():
                if name not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(request.body or None)
            length = int(request.headers.get("content-length") or 0)
            if len(request.body) < length:
                # The client died, and the server has to learn that nothing follows
                connection.sock.shutdown(socket.SHUT_WR)
            response = connection.getresponse()
            found = Response(
                response.status,
                [
                    (name, value)
                    for name, value in response.getheaders()
                    if name.lower() not in ("connection", "transfer-encoding")
                ],
                response.read(),
            )
            if request.method != "HEAD" and response.status != 204:
                found.replace("Content-Length", str(len(found.body)))
            return found
        finally:
            connection.close()


class _Handler(Handler):
    @property
    def proxy(self) -> Proxy:
        proxy: Proxy = self.owner
        return proxy

    def setup(self) -> None:
        super().setup()
        self.proxy.connected()

    def handle_request(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            self.command,
            self.path,
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(length),
        )
        proxy = self.proxy
        proxy.log(request)

        def forward() -> Response:
            return proxy.forward(request)

        fault = proxy.fault
        response = forward() if fault is None else fault(request, forward)
        if response is None:
            self.reset()
        else:
            self.send(response)

    def handle_expect_100(self) -> bool:
        """Let the client send its body."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def do_CONNECT(self) -> None:  # noqa: N802
        """Let a client speak to a server itself, which TLS is for."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.proxy.log(Request(self.command, self.path, headers, b""))
        self.close_connection = True
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as server:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            self.wfile.flush()
            back = threading.Thread(target=_copy, args=[server, self.connection])
            back.start()
            _copy(self.connection, server)
            back.join()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_request  # noqa: N815

    def send_raw(self, chunks: Iterable[bytes]) -> None:
        self.close_connection = True
        for chunk in chunks:
            if self.proxy.released.is_set():
                return
            self.wfile.write(chunk)
            self.wfile.flush()

    def send(self, response: Response) -> None:
        if response.raw is not None:
            self.send_raw(response.raw)
            return
        self.send_response_only(response.status)
        for name, value in response.headers:
            self.send_header(name, value)
        has_body = self.command != "HEAD" and response.status != 204
        if response.header("Content-Length") is None and has_body:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        body = response.body if has_body else b""
        for limit in (response.cut_after, response.stall_after):
            body = body if limit is None else body[:limit]
        self.send_body(body, response.trickle)
        if response.stall_after is not None:
            self.proxy.released.wait(60)
        if response.reset:
            self.reset()
        elif response.cut_after is not None or response.stall_after is not None:
            self.close_connection = True

    def send_body(self, body: bytes, trickle: float | None) -> None:
        """Send bytes, one after the other if there is to be time between them."""
        if trickle is None:
            self.wfile.write(body)
            self.wfile.flush()
            return
        for position in range(len(body)):
            self.wfile.write(body[position : position + 1])
            self.wfile.flush()
            if self.proxy.released.wait(trickle):
                break

    def reset(self) -> None:
        """Break the connection in a way that the client notices."""
        self.close_connection = True
        self.connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.connection.close()
        raise ConnectionAbortedError


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


# Faults ----------------------------------------------------------------------


def first(
    count: int, fault: Fault, *, when: Callable[[Request], bool] = lambda _: True
) -> Fault:
    """Fault that happens to the first requests of a kind only."""
    left = [count]
    lock = threading.Lock()

    def apply(request: Request, forward: Forward) -> Response | None:
        if when(request):
            with lock:
                hit = left[0] > 0
                left[0] -= 1
            if hit:
                return fault(request, forward)
        return forward()

    return apply


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """The proxy responds itself."""
    lines = [(name.replace("_", "-"), value) for name, value in headers.items()]

    def apply(_: Request, __: Forward) -> Response:
        return Response(code, [*lines, ("Content-Length", str(len(body)))], body)

    return apply


def s3_error(code: int, name: str, **headers: str) -> Fault:
    """The proxy responds with an error of S3."""
    text = f"<Error><Code>{name}</Code><Message>{name}</Message></Error>"
    return status(code, text.encode(), Content_Type="application/xml", **headers)


def break_before(_: Request, __: Forward) -> None:
    """The connection breaks before the server learns of the request."""


def lose_response(_: Request, forward: Forward) -> None:
    """The server does what it is asked for, and the client does not learn of it."""
    forward()


def change(**changes: Any) -> Fault:
    """The response is changed on its way."""

    def apply(_: Request, forward: Forward) -> Response:
        response = forward()
        for name, value in changes.items():
            if name in ("body", "status"):
                value = value(getattr(response, name)) if callable(value) else value
                setattr(response, name, value)
            elif hasattr(response, name):
                setattr(response, name, value)
            else:
                response.replace(name.replace("_", "-"), value)
        return response

    return apply


def raw(chunks: Callable[[], Iterable[bytes]]) -> Fault:
    """The proxy says something that need not be HTTP."""

    def apply(_: Request, __: Forward) -> Response:
        return Response(0, [], raw=chunks())

    return apply


def endless(head: bytes, chunk: bytes) -> Fault:
    """The response never ends."""
    return raw(lambda: itertools.chain([head], itertools.repeat(chunk)))


def nth(number: int, fault: Fault, *, and_later: bool = False) -> Fault:
    """Fault that happens to one request only, or from it on."""
    seen = itertools.count()

    def apply(request: Request, forward: Forward) -> Response | None:
        current = next(seen)
        if current == number or (and_later and current > number):
            return fault(request, forward)
        return forward()

    return apply


def flip(data: bytes, bit: int) -> bytes:
    """The same bytes but for one bit."""
    if not data:
        return data
    position, bit = divmod(bit % (8 * len(data)), 8)
    return data[:position] + bytes([data[position] ^ (1 << bit)]) + data[position + 1 :]

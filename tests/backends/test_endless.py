"""A server that never comes to an end, or leads elsewhere, is given up."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import gc
from pathlib import Path
import socket
import threading
import time

import pytest

from audmodel import errors
from audmodel.core.backend.artifactory.backend import Artifactory
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.http import pace
from audmodel.core.backend.http import transfer
from audmodel.core.backend.objects import ANY
from audmodel.core.backend.s3.backend import S3
from tests.backends import proxy as faults
from tests.backends.proxy import Proxy


MIB = 1024 * 1024
# What goes on until the client has enough of it
Endless = Callable[[], Iterator[bytes]]


class EndlessServer:
    """Server that sends the same beginning and end to everybody.

    Args:
        answer: pieces of the answer

    """

    def __init__(self, response: Endless) -> None:
        self._answer = response
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ended = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent = 0

    def __enter__(self) -> EndlessServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.recv(65536)
            for piece in self._answer():
                client.sendall(piece)
                self.sent += len(piece)
                if self._ended.is_set():
                    return


@pytest.fixture(params=["s3", "artifactory"])
def connect(request: pytest.FixtureRequest) -> Callable[[str], ObjectBackend]:
    """Connect to a server, whatever it is."""
    keys = ("user", "secret")
    if request.param == "s3":
        return lambda url: S3(url, "bucket", authentication=keys)
    return lambda url: Artifactory(f"{url}/artifactory", "models", authentication=keys)


def endless_error() -> Iterator[bytes]:
    yield b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\n\r\n"
    while True:
        yield b"<Error>" * 10_000


def endless_chunked_error() -> Iterator[bytes]:
    yield b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"10000\r\n" + b"x" * 0x10000 + b"\r\n"


def long_error() -> Iterator[bytes]:
    yield b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1000000000000\r\n\r\n"
    while True:
        yield b"x" * 100_000


@pytest.mark.parametrize("response", [endless_error, endless_chunked_error, long_error])
def test_an_endless_error(
    connect: Callable[[str], ObjectBackend], hasty: None, response: Endless
) -> None:
    with EndlessServer(response) as server:
        backend = connect(server.url)
        for call in (
            lambda: backend.read_object("/a", 100),
            lambda: backend.list_objects("/a/"),
            lambda: backend.delete_object("/a", ANY),
        ):
            server.sent = 0
            with pytest.raises(errors.RepositoryError, match="403"):
                call()
            # Buffers of the system hold some of it
            assert server.sent < 32 * MIB


def slow_head() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    for number in range(10**9):
        yield b"X-%d: x\r\n" % (number % 90)
        time.sleep(0.3)


def slow_error() -> Iterator[bytes]:
    yield b"HTTP/1.1 500 Oops\r\nContent-Length: 10000\r\n\r\n"
    while True:
        yield b"x"
        time.sleep(0.3)


@pytest.mark.sample(1)
@pytest.mark.parametrize("response", [slow_head, slow_error])
def test_an_answer_that_comes_byte_by_byte(
    connect: Callable[[str], ObjectBackend],
    hasty: None,
    monkeypatch: pytest.MonkeyPatch,
    response: Endless,
) -> None:
    monkeypatch.setattr(pace, "STANDSTILL", 0.2)
    with EndlessServer(response) as server:
        backend = connect(server.url)
        start = time.monotonic()
        with pytest.raises(errors.RepositoryUnreachableError):
            backend.read_object("/a", 100)
        assert time.monotonic() - start < 10


ARTIFACTORY = b"X-JFrog-Version: 7\r\n"


def huge_length() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nETag: 1\r\n" + ARTIFACTORY
    # Python refuses to make a number of so many digits
    yield b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nx"


def huge_range() -> Iterator[bytes]:
    yield b"HTTP/1.1 206 Partial Content\r\nETag: 1\r\n" + ARTIFACTORY
    yield b"Content-Length: 1\r\n"
    yield b"Content-Range: bytes 0-0/" + b"9" * 5000 + b"\r\n\r\nx"


def no_date() -> Iterator[bytes]:
    yield b"HTTP/1.1 206 Partial Content\r\nETag: 1\r\n" + ARTIFACTORY
    yield b"Content-Length: 1\r\nLast-Modified: once\r\n\r\nx"


@pytest.mark.sample(2)
@pytest.mark.parametrize("response", [huge_length, huge_range, no_date])
def test_headers_that_make_no_sense(
    connect: Callable[[str], ObjectBackend],
    hasty: None,
    monkeypatch: pytest.MonkeyPatch,
    response: Endless,
) -> None:
    monkeypatch.setattr(transfer, "BUDGET", 0.05)
    with EndlessServer(response) as server:
        backend = connect(server.url)
        with pytest.raises(errors.RepositoryError):
            backend.open_object("/a").__enter__()
        for call in (
            lambda: backend.read_object("/a", 0),
            lambda: backend.list_objects("/a/"),
        ):
            # The number may be of no interest
            with contextlib.suppress(errors.RepositoryError):
                call()
    # A connection that is still open is warned of, which fails the test
    gc.collect()


def late_answer() -> Iterator[bytes]:
    time.sleep(0.6)
    yield b"HTTP/1.1 200 OK\r\nETag: 1\r\nContent-Length: 1\r\n\r\nx"


def test_waiting_without_limit(
    hasty: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pace, "STANDSTILL", 0.1)
    config = tmp_path / "minio.cfg"
    config.write_text("[127.0.0.1]\nread_timeout = None\n")
    monkeypatch.setenv("MINIO_CONFIG_FILE", str(config))
    with EndlessServer(late_answer) as server:
        backend = S3(server.url, "bucket", authentication=("user", "secret"))
        stored = backend.read_object("/a", 1)
    assert stored is not None
    assert stored.data == b"x"


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    "netrc", ["", "machine localhost login me password secret", "default login me"]
)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_credentials_do_not_follow_to_another_host(
    connect: Callable[[str], ObjectBackend],
    hasty: None,
    home: Path,
    status: int,
    netrc: str,
) -> None:
    (home / ".netrc").write_text(f"{netrc}\n")
    (home / ".netrc").chmod(0o600)
    # Another name is another host, though it is the same machine
    with Proxy("nowhere:1") as proxy, Proxy("nowhere:1") as other:
        other.fault = faults.status(404)
        location = f"{other.url.replace('127.0.0.1', 'localhost')}/a"
        proxy.fault = faults.status(
            status, Location=location, x_amz_bucket_region="eu-north-1"
        )
        backend = connect(proxy.url)
        for call in (
            lambda: backend.read_object("/a", 100),
            lambda: backend.list_objects("/a/"),
            lambda: backend.write_object("/a", [b"x"]),
            lambda: backend.delete_object("/a", ANY),
        ):
            with pytest.raises(errors.RepositoryError):
                call()
        assert proxy.requests
        assert all("authorization" in request.headers for request in proxy.requests)
        for request in other.requests:
            assert "authorization" not in request.headers
            assert "secret" not in request.path
            assert "signature" not in request.path.lower()


@pytest.mark.parametrize("status", [400, 401, 403])
def test_what_is_permanent_is_asked_once(
    connect: Callable[[str], ObjectBackend], status: int
) -> None:
    with Proxy("nowhere:1") as proxy:
        proxy.fault = faults.status(status, b"no", Retry_After="0")
        backend = connect(proxy.url)
        calls: list[Callable[[], object]] = [
            lambda: backend.read_object("/a", 100),
            lambda: backend.delete_object("/a", ANY),
            lambda: backend.write_object("/a", [b"x"]),
        ]
        for call in calls:
            before = len(proxy.requests)
            with pytest.raises(errors.RepositoryError):
                call()
            assert len(proxy.requests) == before + 1

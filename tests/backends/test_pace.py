"""A connection without progress is given up in time, a slow one is not."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import itertools
import socket
import struct
import threading
import time

import pytest

from audmodel import errors
from audmodel.core.backend.artifactory import backend as artifactory
from audmodel.core.backend.artifactory import server as artifactory_requests
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.http import pace
from audmodel.core.backend.http import transfer
from audmodel.core.backend.s3 import endpoint as s3_endpoint
from tests.backends.test_endless import connect as connect


Connect = Callable[[str], ObjectBackend]
# What a server does with a connection
Script = Callable[[socket.socket], None]
Fault = Callable[[socket.socket, bytes], None]

LIMIT = 0.25
# Nothing is repeated here, the rest is for a busy machine
SLACK = 3.0

HEAD = b"HTTP/1.1 200 OK\r\nETag: 1\r\nX-JFrog-Version: 7\r\n"
LENGTH = HEAD + b"Content-Length: 1000000\r\n\r\n"
CHUNKED = HEAD + b"Content-Length: 1000000\r\nTransfer-Encoding: chunked\r\n\r\n"
ERROR = b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n"

# What arrives at full speed before something happens, and what would follow
PHASES = {
    "nothing": (b"", b"H"),
    "status": (b"HTTP/1.1 2", b"0"),
    "head": (HEAD, b"X-Name: value\r\n"),
    "interim": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "size of a chunk": (CHUNKED, b"0"),
    "extension of a chunk": (CHUNKED + b"5;", b"x"),
    "chunks": (CHUNKED, b"1\r\nx\r\n"),
    "trailer": (CHUNKED + b"0\r\n", b"X-Name: value\r\n"),
    "body": (LENGTH, b"x"),
    "rest of the body": (LENGTH + b"x" * 100_000, b"x"),
    "body of an error": (ERROR, b"1\r\nx\r\n"),
    "framing of an error": (ERROR + b"5;", b"x"),
}


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little time, and one attempt."""
    monkeypatch.setattr(transfer, "BUDGET", 0.0)
    monkeypatch.setattr(pace, "STANDSTILL", LIMIT)
    for module in (s3_endpoint, artifactory_requests):
        monkeypatch.setattr(module, "READ_TIMEOUT", LIMIT)
    monkeypatch.setattr(artifactory, "DEPLOY_TIMEOUT", LIMIT)


@contextlib.contextmanager
def serving(script: Script) -> Iterator[str]:
    """URL of a server that treats each connection in the same way."""

    def serve(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            script(client)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                clients.append(client)
                served.append(threading.Thread(target=serve, args=[client]))
                served[-1].start()

    clients: list[socket.socket] = []
    served: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Connections get this as well, if it is set before
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for client in clients:
                # The first wakes a thread that waits, the second ends one that is slow
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
                client.close()
            for thread in served:
                thread.join()


def drip(client: socket.socket, piece: bytes) -> None:
    for position in itertools.count():
        client.sendall(piece[position % len(piece) :][:1])
        time.sleep(LIMIT / 5)


def stall(client: socket.socket, _: bytes) -> None:
    client.recv(1)


def flood(client: socket.socket, piece: bytes) -> None:
    while True:
        client.sendall(piece * 100)


def reset(client: socket.socket, _: bytes) -> None:
    # What was sent arrives before that
    time.sleep(0.05)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


CASES = [
    (phase, fault)
    for phase, fault in itertools.product(PHASES, (drip, stall, flood, reset))
    # That would be progress
    if fault is not flood or phase not in ("chunks", "body", "rest of the body")
]


@pytest.mark.sample(4)
@pytest.mark.parametrize(("phase", "fault"), CASES)
def test_a_response_without_progress(
    connect: Connect, phase: str, fault: Fault
) -> None:
    before, after = PHASES[phase]

    def script(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(before)
        fault(client, after)

    with serving(script) as url:
        backend = connect(url)
        start = time.monotonic()
        with pytest.raises(errors.RepositoryError) as info:
            backend.read_object("/a", 1_000_000)
        assert time.monotonic() - start < 2 * LIMIT + SLACK
    # The status of an error may say enough
    if not (before.startswith(ERROR) and "403" in str(info.value)):
        assert isinstance(info.value, errors.RepositoryUnreachableError)


@pytest.mark.sample(1)
def test_a_slow_response(connect: Connect) -> None:
    count = 8
    head = HEAD + b"Content-Length: %d\r\n\r\n" % (count * pace.PROGRESS)

    def script(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(head)
        for _ in range(count):
            time.sleep(LIMIT / 2)
            client.sendall(b"x" * pace.PROGRESS)

    with serving(script) as url:
        stored = connect(url).read_object("/a", 1_000_000)
    assert stored is not None
    assert stored.data == b"x" * count * pace.PROGRESS


# Requests ---------------------------------------------------------------------

SIZE = 6 * 1024 * 1024


def receiving(take: Callable[[socket.socket], bytes]) -> Script:
    """Server that takes a request as fast as a function does, and answers it."""

    def script(client: socket.socket) -> None:
        received = bytearray()
        while len(received) < SIZE:
            if not (taken := take(client)):
                return
            received += taken
        body = b"{}" if b"/artifactory/" in received else b""
        client.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    return script


def test_a_request_that_is_not_taken(connect: Connect) -> None:
    def take(client: socket.socket) -> bytes:
        time.sleep(LIMIT / 5)
        return client.recv(1)

    with serving(receiving(take)) as url:
        backend = connect(url)
        start = time.monotonic()
        # What was sent may still be carried out
        with pytest.raises(errors.WriteUncertainError):
            backend.write_object("/a", [bytes(SIZE)])
        assert time.monotonic() - start < 2 * LIMIT + SLACK


@pytest.mark.sample(1)
def test_a_request_that_is_taken_slowly(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "STANDSTILL", 1.0)
    # No limit for connecting has anything to do with sending
    for module in (s3_endpoint, artifactory_requests):
        monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.1)

    def take(client: socket.socket) -> bytes:
        time.sleep(0.02)
        return client.recv(65536)

    with serving(receiving(take)) as url:
        backend = connect(url)
        start = time.monotonic()
        backend.write_object("/a", [bytes(SIZE)])
        # That is longer than it may stand still, or wait for the response
        assert time.monotonic() - start > pace.STANDSTILL

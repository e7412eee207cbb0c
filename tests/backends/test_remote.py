"""What holds for objects on every kind of server."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
import contextlib
from dataclasses import dataclass
from dataclasses import replace
import gc
import hashlib
import os
from pathlib import Path
import pickle
import time
import weakref

import audbackend
import pytest
import trustme

from audmodel import errors
from audmodel.core.backend.artifactory import server as artifactory_requests
from audmodel.core.backend.artifactory.backend import Artifactory
from audmodel.core.backend.http import transfer
from audmodel.core.backend.http.backend import RemoteBackend
from audmodel.core.backend.http.ranges import open_reader
from audmodel.core.backend.objects import ANY
from audmodel.core.backend.reader import TAIL
from audmodel.core.backend.s3 import endpoint as s3_endpoint
from audmodel.core.backend.s3.backend import S3
from tests.backends import proxy as faults
from tests.backends import seaweedfs
from tests.backends.artifactory_server import User
from tests.backends.artifactory_server import artifactory
from tests.backends.interface import check_interface
from tests.backends.proxy import Proxy
from tests.backends.test_s3_client import TlsServer
from tests.backends.test_s3_client import tls


MIB = 1024 * 1024
LARGE = hashlib.shake_128(b"large").digest(3 * MIB)


@dataclass(frozen=True)
class Storage:
    """An empty repository, and who reaches it.

    Args:
        backend_class: class of the backend
        server: host and port
        path: what follows in the URL of the server
        name: name of the repository

    """

    backend_class: type[S3] | type[Artifactory]
    server: str
    path: str
    name: str

    def url(self, host: str) -> str:
        return f"http://{host}{self.path}"

    def backend(self, host: str) -> RemoteBackend:
        return self.backend_class(self.url(host), self.name)


@pytest.fixture(params=["s3", "artifactory"])
def storage(
    request: pytest.FixtureRequest, keys: None, login: None, hasty: None
) -> Iterator[Storage]:
    if request.param == "s3":
        server = seaweedfs.shared()
        yield Storage(S3, server.host, "", server.empty_bucket())
    else:
        with artifactory(tester=User("secret")) as stand_in:
            yield Storage(Artifactory, stand_in.host, "/artifactory", "models")


@pytest.fixture
def proxy(storage: Storage) -> Iterator[Proxy]:
    with Proxy(storage.server) as proxy:
        yield proxy


@pytest.fixture
def backend(storage: Storage, proxy: Proxy) -> Iterator[RemoteBackend]:
    """Backend that reaches the server through a proxy."""
    with storage.backend(proxy.host) as backend:
        yield backend


def read(backend: RemoteBackend, path: str) -> bytes | None:
    stored = backend.read_object(path, 100)
    return None if stored is None else stored.data


# Small objects ----------------------------------------------------------------


def test_absent(backend: RemoteBackend) -> None:
    assert backend.read_object("/a/b", 100) is None
    assert backend.list_objects("/a/") == []
    assert not backend.exists("/a/b")
    with backend.open_object("/a/b") as reader:
        assert reader is None
    backend.delete_object("/a/b", ANY)


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 100])
def test_small_object(backend: RemoteBackend, data: bytes) -> None:
    assert backend.create_object("/a/b.yaml", data)
    assert not backend.create_object("/a/b.yaml", b"other")
    assert read(backend, "/a/b.yaml") == data
    assert backend.exists("/a/b.yaml")
    assert backend.list_objects("/a/") == ["/a/b.yaml"]
    assert backend.list_objects("/") == ["/a/b.yaml"]
    with backend.open_object("/a/b.yaml") as reader:
        assert reader is not None
        assert reader.size == len(data)
        assert reader.read(0, reader.size) == data
    backend.delete_object("/a/b.yaml", ANY)
    assert read(backend, "/a/b.yaml") is None


def test_object_is_larger_than_allowed(backend: RemoteBackend) -> None:
    backend.write_object("/a", [b"x" * 101])
    with pytest.raises(errors.RepositoryError, match="101 bytes, allowed are 100"):
        backend.read_object("/a", 100)


# Hosts that do not answer -----------------------------------------------------


def test_a_host_that_is_down_is_reported_soon(storage: Storage, free_port: int) -> None:
    start = time.monotonic()
    with pytest.raises(errors.RepositoryUnreachableError, match="cannot be reached"):
        storage.backend(f"127.0.0.1:{free_port}").read_object("/a", 100)
    assert time.monotonic() - start < 4


def test_a_host_that_takes_no_connections_is_reported_soon(
    storage: Storage, full_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (s3_endpoint, artifactory_requests):
        monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.3)
    start = time.monotonic()
    with pytest.raises(errors.RepositoryUnreachableError, match="cannot be reached"):
        storage.backend(f"127.0.0.1:{full_port}").read_object("/a", 100)
    assert time.monotonic() - start < 4


# Errors that errors hold, as those of audbackend do -----------------------------


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (None, ["EndpointConnectionError", "ConnectionError"]),
        (faults.status(403), ["ClientError", "HTTPError"]),
        (faults.status(500), ["ClientError", "HTTPError"]),
        (faults.status(404), ["ClientError", "HTTPError"]),
        (faults.break_before, ["ConnectionClosedError", "ConnectionError"]),
        (faults.change(stall_after=0), ["ReadTimeoutError", "ReadTimeoutError"]),
        (faults.change(cut_after=1), ["EOFError", "ProtocolError"]),
    ],
)
def test_the_underlying_error(
    storage: Storage,
    proxy: Proxy,
    free_port: int,
    fault: faults.Fault | None,
    name: list[str],
) -> None:
    storage.backend(proxy.host).write_object("/a", [b"0123456789"])
    proxy.fault = fault
    backend = storage.backend(proxy.host if fault else f"127.0.0.1:{free_port}")
    with pytest.raises(errors.RepositoryError) as info:
        backend.read_object("/a", 100)
    assert isinstance(info.value, audbackend.BackendError)
    cause = info.value.exception
    assert type(cause).__name__ == name[storage.backend_class is Artifactory]
    assert str(cause)
    assert info.value.__cause__ is cause
    assert cause.__traceback__ is None
    assert isinstance(pickle.loads(pickle.dumps(info.value)), errors.RepositoryError)


# Trouble that passes ----------------------------------------------------------


@pytest.mark.sample(6)
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    "fault",
    [
        faults.s3_error(503, "SlowDown"),
        faults.s3_error(503, "SlowDown", Retry_After="0"),
        faults.s3_error(500, "InternalError"),
        faults.s3_error(429, "TooManyRequests"),
        faults.status(502, b"<html>Bad gateway</html>"),
        faults.status(503),
        faults.break_before,
        faults.lose_response,
        faults.change(cut_after=0),
        faults.change(cut_after=3),
        faults.change(cut_after=0, reset=True),
        faults.change(cut_after=3, reset=True),
        faults.change(stall_after=0),
        faults.change(stall_after=3),
    ],
)
def test_passing_trouble_is_survived(
    backend: RemoteBackend, proxy: Proxy, fault: faults.Fault
) -> None:
    proxy.fault = faults.first(2, fault)
    backend.write_object("/a", [b"0123456789"])
    proxy.fault = faults.first(2, fault)
    assert read(backend, "/a") == b"0123456789"
    proxy.fault = faults.first(2, fault)
    assert backend.list_objects("/") == ["/a"]
    proxy.fault = faults.first(2, fault)
    backend.write_object("/a", [b"other"])
    assert read(backend, "/a") == b"other"
    proxy.fault = faults.first(2, fault)
    backend.delete_object("/a", ANY)
    assert read(backend, "/a") is None


# Ranges -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, TAIL - 1, TAIL, TAIL + 1, 3 * MIB])
def test_opening_takes_one_request(
    backend: RemoteBackend, proxy: Proxy, size: int
) -> None:
    backend.write_object("/a", [LARGE[:size]])
    with proxy.counting() as requests, backend.open_object("/a") as reader:
        assert reader is not None
        assert reader.size == size
        assert reader.tail == LARGE[:size][-TAIL:]
    assert len(requests) == 1
    assert reader.read(0, size) == LARGE[:size]
    assert reader.read(size, 0) == b""


@pytest.mark.sample(6)
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    "fault",
    [
        faults.s3_error(503, "SlowDown"),
        faults.break_before,
        faults.change(cut_after=0),
        faults.change(cut_after=1),
        faults.change(cut_after=MIB),
        faults.change(cut_after=2 * MIB - 1),
        faults.change(cut_after=MIB, reset=True),
        faults.change(stall_after=MIB),
        faults.change(Content_Range="bytes 0-5/6"),
        faults.change(Content_Range=None),
        faults.change(Content_Range="nonsense"),
        faults.change(body=lambda body: body + b"more"),
    ],
)
def test_a_range_arrives_whole(
    backend: RemoteBackend, proxy: Proxy, fault: faults.Fault
) -> None:
    backend.write_object("/a", [LARGE])
    with backend.open_object("/a") as reader:
        assert reader is not None
        proxy.fault = faults.first(3, fault)
        assert reader.read(1000, 2 * MIB) == LARGE[1000 : 1000 + 2 * MIB]


def test_an_object_is_replaced_while_it_is_read(backend: RemoteBackend) -> None:
    backend.write_object("/a", [LARGE])
    with backend.open_object("/a") as reader:
        assert reader is not None
        backend.write_object("/a", [LARGE[::-1]])
        with pytest.raises(errors.RepositoryError, match="was replaced while"):
            reader.read(0, MIB)


def test_ranges_in_threads_use_few_connections(
    backend: RemoteBackend, proxy: Proxy
) -> None:
    backend.write_object("/a", [LARGE])
    with backend.open_object("/a") as reader:
        assert reader is not None
        with ThreadPoolExecutor(4) as executor:
            step = 64 * 1024
            starts = range(0, 2 * MIB, step)
            pieces = list(executor.map(lambda start: reader.read(start, step), starts))
    assert b"".join(pieces) == LARGE[: 2 * MIB]
    assert proxy.connections <= 5


def test_a_byte_flips(backend: RemoteBackend, proxy: Proxy) -> None:
    def flip(body: bytes) -> bytes:
        return body[:3] + bytes([body[3] ^ 1]) + body[4:]

    backend.write_object("/a", [b"0123456789"])
    proxy.fault = faults.first(1, faults.change(body=flip))
    assert read(backend, "/a") == b"0123456789"
    proxy.fault = faults.change(body=flip)
    with pytest.raises(errors.RepositoryError, match="does not have the checksum"):
        read(backend, "/a")


# Proxies that clients know of ----------------------------------------------------


def test_behind_a_proxy(
    storage: Storage, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.url)
    # Not even the server itself can be reached
    storage = replace(storage, server="127.0.0.1:1")
    for _ in range(2):
        with storage.backend(storage.server) as backend:
            for name in ("/a", "/b"):
                backend.write_object(name, [b"x"])
                assert read(backend, name) == b"x"
            assert sorted(backend.list_objects("/")) == ["/a", "/b"]
    assert len(proxy.requests) >= 10
    assert proxy.connections <= 2


def test_tls_through_a_proxy(
    storage: Storage, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    monkeypatch.setenv("https_proxy", proxy.url)
    with TlsServer(tls(authority, "127.0.0.1")) as server:
        host = f"127.0.0.1:{server.port}"
        backend = storage.backend_class(f"https://{host}{storage.path}", storage.name)
        assert [read(backend, "/a") for _ in range(3)] == [b"x"] * 3
    assert [(r.method, r.path) for r in proxy.requests] == [("CONNECT", host)] * 3


# Processes, and the interface of audbackend -------------------------------------


def test_a_child_process_makes_its_own_connections(
    backend: RemoteBackend, proxy: Proxy
) -> None:
    backend.write_object("/a", [b"x"])
    process = os.fork()
    if process == 0:
        status = 1
        try:
            status = 0 if read(backend, "/a") == b"x" else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(process, 0)
    assert status == 0
    assert proxy.connections == 2
    assert read(backend, "/a") == b"x"
    assert proxy.connections == 2


@pytest.mark.sample(1)
def test_interface_of_audbackend(storage: Storage, tmp_path: Path) -> None:
    name = f"new-{storage.name}"
    check_interface(storage.backend_class, storage.url(storage.server), name, tmp_path)


# Errors ------------------------------------------------------------------------


class Marker:
    """Stands for what the frames of a caller hold, as files and secrets."""


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "fault",
    [
        faults.break_before,
        faults.status(403, b""),
        faults.change(cut_after=3),
        faults.change(body=b"{", Content_Length="100", cut_after=1),
        faults.change(cut_after=3, Transfer_Encoding="chunked"),
    ],
    ids=["no answer", "refused", "cut off", "cut off early", "cut off without length"],
)
@pytest.mark.parametrize(
    "ask",
    [
        lambda backend: backend.read_object("/a", 10_000),
        lambda backend: backend.list_objects("/"),
        lambda backend: backend.stat_object("/a"),
        lambda backend: open_reader(backend._store, "/a"),
    ],
    ids=["read", "list", "look", "open"],
)
def test_what_the_frames_of_an_error_hold_is_freed_with_it(
    backend: RemoteBackend,
    proxy: Proxy,
    fault: faults.Fault,
    ask: Callable[[RemoteBackend], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend.create_object("/a", b"12345" * 1000)
    markers = []

    def act() -> None:
        marker = Marker()
        markers.append(weakref.ref(marker))
        with contextlib.suppress(errors.RepositoryError):
            ask(backend)

    monkeypatch.setattr(transfer, "BUDGET", 0.0)
    proxy.fault = fault
    act()
    gc.collect()
    gc.disable()
    try:
        act()
        assert markers[-1]() is None
    finally:
        gc.enable()

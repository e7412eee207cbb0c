"""Requests that are carried out after their publisher gave up take nothing away."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import secrets
import socket
import threading
import time

import pytest

import audmodel
from audmodel.core.repository import claims
from audmodel.core.repository import layout
from audmodel.core.uid import ModelId
from audmodel.errors import PublishConflictError
from tests.backends import seaweedfs
from tests.backends.conftest import forget as forget
from tests.backends.conftest import hasty as hasty
from tests.backends.conftest import keys as keys
from tests.backends.conftest import proxy as proxy
from tests.backends.conftest import weed as weed
from tests.backends.proxy import Forward
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.reliability.remote import remote


MODEL = ModelId(*audmodel.uid("torch", {"sampling_rate": 16000}, "1.0.0").split("-"))
ARCHIVE = layout.archive_path(MODEL, "torch")
CLAIM = layout.record_path(MODEL, "claim")
HEADER = layout.record_path(MODEL, "header")

Storages = tuple[audmodel.Repository, audmodel.Repository]


@pytest.fixture(autouse=True)
def hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread is a host of its own, and soon taken for dead."""
    monkeypatch.setattr(claims, "TIMEOUT", 0.6)
    monkeypatch.setattr(claims, "_POLL_INTERVAL", 0.05)
    monkeypatch.setattr(socket, "gethostname", lambda: f"host-{threading.get_ident()}")


def elsewhere(function: Callable[[], object]) -> None:
    """Do something on another host."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(function).result()


@pytest.fixture
def storages(
    keys: None, hasty: None, weed: seaweedfs.SeaweedFS, proxy: Proxy, cache: Path
) -> Storages:
    """One bucket, behind a gateway and without it."""
    bucket = weed.bucket()
    direct = audmodel.Repository(bucket, weed.url, "s3")
    audmodel.config.REPOSITORIES = [direct]
    return audmodel.Repository(bucket, proxy.url, "s3"), direct


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    roots = [tmp_path / "first", tmp_path / "second"]
    for root in roots:
        root.mkdir()
        (root / "file").write_bytes(secrets.token_bytes(1000))
    return roots


def commits_archive(request: Request) -> bool:
    path, _, query = request.path.partition("?")
    is_small = request.method == "PUT" and not query
    is_large = request.method == "POST" and "uploadId" in query
    return path.endswith(".zip") and (is_small or is_large)


@pytest.mark.sample(1)
@pytest.mark.parametrize("size", [1000, 9_000_000])
@pytest.mark.parametrize("is_same", [False, True])
def test_archive(
    storages: Storages, proxy: Proxy, folders: list[Path], size: int, is_same: bool
) -> None:
    behind, direct = storages
    data = secrets.token_bytes(size)
    (folders[0] / "file").write_bytes(data)
    if is_same:
        (folders[1] / "file").write_bytes(data)
    late: list[Forward] = []

    def fault(request: Request, forward: Forward) -> Response | None:
        if commits_archive(request):
            late.append(forward)
            return None
        # Whether the upload was given up is not known either
        return None if request.method == "DELETE" and late else forward()

    proxy.fault = fault
    with pytest.raises(audmodel.errors.WriteUncertainError, match=r"\.zip"):
        publish(folders[0], repository=behind)
    proxy.fault = None
    assert late
    # Others wait for it
    assert CLAIM in content(direct)
    start = time.monotonic()
    uid = publish(folders[1], repository=direct)
    assert time.monotonic() - start > claims.TIMEOUT
    assert files(audmodel.load(uid)) == files(folders[1])
    for forward in late:
        assert forward().status in (404, 412)
    audmodel.remove_cached(uid)
    assert files(audmodel.load(uid)) == files(folders[1])
    assert CLAIM not in content(direct)


@pytest.mark.thorough
def test_archive_that_was_given_up(
    storages: Storages, proxy: Proxy, folders: list[Path]
) -> None:
    """An upload that was aborted is not completed later, so that nobody waits."""
    behind, direct = storages
    (folders[0] / "file").write_bytes(secrets.token_bytes(9_000_000))
    late: list[Forward] = []

    def fault(request: Request, forward: Forward) -> Response | None:
        if commits_archive(request):
            late.append(forward)
            return None
        return forward()

    proxy.fault = fault
    with pytest.raises(audmodel.errors.RepositoryUnreachableError):
        publish(folders[0], repository=behind)
    assert content(direct) == {}
    for forward in late:
        assert forward().status == 404


@pytest.mark.thorough
def test_archive_that_was_stored_after_all(
    storages: Storages, proxy: Proxy, folders: list[Path]
) -> None:
    behind, _ = storages
    (folders[0] / "file").write_bytes(secrets.token_bytes(9_000_000))

    def fault(request: Request, forward: Forward) -> Response | None:
        if commits_archive(request):
            forward()
            return None
        return forward()

    proxy.fault = fault
    uid = publish(folders[0], repository=behind)
    assert files(audmodel.load(uid)) == files(folders[0])


@pytest.mark.thorough
@pytest.mark.parametrize("when", ["before the archive", "after it", "at the end"])
def test_header(
    storages: Storages, proxy: Proxy, folders: list[Path], when: str
) -> None:
    behind, _ = storages
    late: list[Forward] = []

    def hold(request: Request, forward: Forward) -> Response | None:
        if request.method == "PUT" and request.path.endswith(HEADER):
            late.append(forward)
            return None
        return forward()

    def arrive(request: Request, forward: Forward) -> Response | None:
        moment = {"before the archive": ARCHIVE, "after it": ".meta.yaml"}.get(when)
        if moment and late and request.method == "PUT" and moment in request.path:
            assert late.pop()().status == 200
            late.clear()
        return forward()

    proxy.fault = hold
    with pytest.raises(audmodel.errors.WriteUncertainError, match="header"):
        publish(folders[0], repository=behind)
    proxy.fault = arrive
    uid = publish(folders[1], repository=behind, author="second")
    for forward in late:
        assert forward().status == 412
    proxy.fault = None
    assert files(audmodel.load(uid)) == files(folders[1])
    assert audmodel.author(uid) == "second"


@pytest.mark.parametrize("name", ["file-system", "s3"])
@pytest.mark.parametrize("with_header", [False, True])
def test_archive_that_an_earlier_version_replaces(
    request: pytest.FixtureRequest, name: str, folders: list[Path], with_header: bool
) -> None:
    """It is found before the call returns, and the ID can be used again."""
    from tests.behaviour.backends import BACKENDS

    request.getfixturevalue("cache")
    with BACKENDS[name](request) as repository, repository.connect() as other:
        audmodel.config.REPOSITORIES = [repository]
        cls = type(other)
        create = cls.create_object

        def late(backend: object, path: str, data: bytes) -> object:
            if path != HEADER:
                return create(backend, path, data)  # type: ignore[arg-type]
            if with_header:
                other.write_object(HEADER, [b"name: torch\n"])
            else:
                assert create(backend, path, data)  # type: ignore[arg-type]
            other.write_object(ARCHIVE, [b"PK of another program"])
            return not with_header

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cls, "create_object", late)
            error = audmodel.errors.ModelExistsError
            with pytest.raises(error if with_header else PublishConflictError):
                publish(folders[0])
        stored = other.read_object(ARCHIVE, 1000)
        assert stored is not None
        assert stored.data == b"PK of another program"
        assert (other.read_object(HEADER, 1000) is not None) == with_header
        if not with_header:
            uid = publish(folders[1])
            assert files(audmodel.load(uid)) == files(folders[1])


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["s3", "artifactory"])
def test_claim_of_a_write_that_may_come_late(
    name: str,
    hasty: None,
    folders: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is left, and expires though the process lives."""
    with remote(name, monkeypatch, tmp_path) as storage:

        def fault(request: Request, forward: Forward) -> Response | None:
            is_archive = request.method == "PUT" and request.path.endswith(".zip")
            return None if is_archive else forward()

        with (
            storage.fault(fault),
            pytest.raises(audmodel.errors.WriteUncertainError, match=r"\.zip"),
        ):
            publish(folders[0])
        assert CLAIM in content(storage.repository)
        start = time.monotonic()
        uid = publish(folders[1])
        assert time.monotonic() - start > claims.TIMEOUT
        assert files(audmodel.load(uid)) == files(folders[1])
        assert CLAIM not in content(storage.repository)


# Signs of life ---------------------------------------------------------------


def test_slow_disk(
    repository: audmodel.Repository,
    folders: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A publisher that waits for the disk is alive."""
    import os

    monkeypatch.setattr(claims, "RENEW_INTERVAL", 0.1)
    fsync = os.fsync
    conflicts: list[BaseException] = []

    def slow(fd: int) -> None:
        fsync(fd)
        if ".zip~" in os.readlink(f"/proc/self/fd/{fd}") and not conflicts:
            with pytest.raises(PublishConflictError, match="at the moment") as info:
                elsewhere(lambda: publish(folders[1]))
            conflicts.append(info.value)
            time.sleep(2 * claims.TIMEOUT)

    monkeypatch.setattr(os, "fsync", slow)
    uid = publish(folders[0])
    assert conflicts
    assert files(audmodel.load(uid)) == files(folders[0])


def test_slow_upload(
    storages: Storages,
    proxy: Proxy,
    folders: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    behind, direct = storages
    monkeypatch.setattr(claims, "RENEW_INTERVAL", 0.1)
    (folders[0] / "file").write_bytes(secrets.token_bytes(20_000_000))
    conflicts: list[BaseException] = []
    lock = threading.Lock()

    def fault(request: Request, forward: Forward) -> Response | None:
        if "partNumber" in request.path:
            with lock:
                if not conflicts:
                    with pytest.raises(PublishConflictError, match="at the mo") as info:
                        elsewhere(lambda: publish(folders[1], repository=direct))
                    conflicts.append(info.value)
        return forward()

    monkeypatch.setattr("audmodel.core.backend.s3.endpoint.READ_TIMEOUT", 20.0)
    proxy.fault = fault
    uid = publish(folders[0], repository=behind, num_workers=4)
    assert conflicts
    assert files(audmodel.load(uid)) == files(folders[0])


@pytest.mark.parametrize("num_workers", [1, 4])
def test_upload_ends_when_the_claim_is_lost(
    storages: Storages,
    proxy: Proxy,
    folders: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    num_workers: int,
) -> None:
    behind, direct = storages
    monkeypatch.setattr(claims, "RENEW_INTERVAL", 0.2)
    monkeypatch.setattr("audmodel.core.backend.s3.endpoint.READ_TIMEOUT", 60.0)
    monkeypatch.setattr("audmodel.core.backend.http.transfer.BUDGET", 60.0)
    (folders[0] / "file").write_bytes(secrets.token_bytes(20_000_000))

    def fault(request: Request, forward: Forward) -> Response | None:
        if "partNumber" in request.path:
            with direct.connect() as backend:
                backend.write_object(CLAIM, [b"host: another\n"])
            proxy.released.wait(30)
        return forward()

    proxy.fault = fault
    start = time.monotonic()
    with pytest.raises(PublishConflictError, match="took over"):
        publish(folders[0], repository=behind, num_workers=num_workers)
    assert time.monotonic() - start < 10
    assert content(direct) == {CLAIM: b"host: another\n"}

"""Deleting names what was seen, so that what others stored since then stays."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import secrets
import signal
import socket
import threading
import time

import pytest

import audmodel
from audmodel.core.backend.filesystem import FileSystem
from audmodel.core.repository import claims
from audmodel.core.repository import layout
from audmodel.core.uid import ModelId
from tests.backends import seaweedfs
from tests.backends.conftest import forget as forget
from tests.backends.conftest import keys as keys
from tests.backends.conftest import proxy as proxy
from tests.backends.conftest import weed as weed
from tests.backends.proxy import Forward
from tests.backends.proxy import Proxy
from tests.backends.proxy import Request
from tests.backends.proxy import Response
from tests.behaviour.backends import BACKENDS
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.behaviour.backends import store
from tests.processes import Interpreter
from tests.processes import python as python


MODEL = ModelId(*audmodel.uid("torch", {"sampling_rate": 16000}, "1.0.0").split("-"))
ARCHIVE = layout.archive_path(MODEL, "torch")
CLAIM = layout.record_path(MODEL, "claim")
# Claim of a publisher that died when it had stored its archive
DEAD = f"""
archive: {ARCHIVE}
found: null
host: third
may_be_published: false
process: 1
""".encode()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Publishers that give no sign of life are soon taken for dead."""
    monkeypatch.setattr(claims, "TIMEOUT", 0.3)
    monkeypatch.setattr(claims, "_POLL_INTERVAL", 0.05)


# In a folder -----------------------------------------------------------------


STOPPING = """
    import signal, socket
    from audmodel.core.repository import claims
    from audmodel.core.backend.filesystem import FileSystem
    claims.TIMEOUT = 0.1
    claims._POLL_INTERVAL = 0.05
    socket.gethostname = lambda: "elsewhere"
    unlink = os.unlink

    def stop(path, **kwargs):
        if str(path).endswith(args["suffix"]) and "~" not in str(path):
            os.kill(os.getpid(), signal.SIGSTOP)
        unlink(path, **kwargs)

    os.unlink = stop
"""
CLEAN = """
    repository = audmodel.config.REPOSITORIES[0]
    found = audmodel.leftovers(repository, min_age=0, remove=True)
    return [(left.kind, left.removed) for left in found]
"""
FAIL = """
    create_object = FileSystem.create_object

    def fail(backend, path, data):
        if ".meta." in path:
            raise audmodel.errors.RepositoryError("No.")
        return create_object(backend, path, data)

    FileSystem.create_object = fail
    try:
        audmodel.publish(args["root"], "torch", {"sampling_rate": 16000}, "1.0.0")
    except audmodel.errors.RepositoryError as error:
        return str(error)
"""


def wait_until_stopped(pid: int) -> None:
    status = Path(f"/proc/{pid}/status")
    deadline = time.monotonic() + 30
    while "T (stopped)" not in status.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.sample(2)
@pytest.mark.parametrize("suffix", [".zip", ".claim.yaml"])
@pytest.mark.parametrize("other", ["other files", "the same files"])
@pytest.mark.parametrize("work", [CLEAN, FAIL], ids=["cleaner", "failing publisher"])
def test_process_that_is_stopped_while_it_deletes(
    repository: audmodel.Repository,
    python: Interpreter,
    model_folder: Path,
    tmp_path: Path,
    work: str,
    other: str,
    suffix: str,
) -> None:
    root = model_folder
    if other == "other files":
        root = tmp_path / "other"
        root.mkdir()
        (root / "file").write_bytes(b"of the one that is stopped")
    if work is CLEAN:
        store(repository, ARCHIVE, b"PK")
        store(repository, CLAIM, DEAD)
    process = python.start(STOPPING + work, root=str(root), suffix=suffix)
    wait_until_stopped(process.process.pid)
    with ThreadPoolExecutor(1) as executor:
        published = executor.submit(publish, model_folder)
        deadline = time.monotonic() + 2
        while not published.done() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.process.send_signal(signal.SIGCONT)
        process.result()
        uid = published.result()
    assert files(audmodel.load(uid)) == files(model_folder)
    assert not [path for path in content(repository) if "claim" in path]


def test_process_that_is_stopped_before_it_deletes(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All the time between the last look and the deletion."""
    delete = FileSystem.delete_object
    uids: list[str] = []

    def late(backend: FileSystem, path: str, etag: str) -> bool:
        if path == ARCHIVE and not uids:
            uids.append("")
            with monkeypatch.context() as patch:
                patch.setattr(socket, "gethostname", lambda: "elsewhere")
                uids.append(publish(model_folder))
        return delete(backend, path, etag)

    monkeypatch.setattr(FileSystem, "delete_object", late)
    store(repository, ARCHIVE, b"PK")
    store(repository, CLAIM, DEAD)
    found = audmodel.leftovers(repository, min_age=0, remove=True)
    assert files(audmodel.load(uids[1])) == files(model_folder)
    assert [left.kind for left in found if left.removed] in ([], ["claim"])


# In a bucket -----------------------------------------------------------------


@pytest.fixture
def places(
    keys: None, weed: seaweedfs.SeaweedFS, proxy: Proxy, cache: Path
) -> tuple[audmodel.Repository, audmodel.Repository]:
    """One bucket, once behind a proxy."""
    bucket = weed.bucket()
    direct = audmodel.Repository(bucket, weed.url, "s3")
    audmodel.config.REPOSITORIES = [direct]
    return audmodel.Repository(bucket, proxy.url, "s3"), direct


@pytest.mark.sample(2)
@pytest.mark.parametrize("size", [100, 9_000_000])
@pytest.mark.parametrize("other", ["other files", "the same files"])
def test_request_to_delete_that_is_late(
    places: tuple[audmodel.Repository, audmodel.Repository],
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    other: str,
    size: int,
) -> None:
    behind, direct = places
    roots = [tmp_path / "a", tmp_path / "b"]
    same = secrets.token_bytes(size)
    for root in roots:
        root.mkdir()
        data = same if other == "the same files" else secrets.token_bytes(size)
        (root / "file").write_bytes(data)
    uids: list[str] = []
    host = socket.gethostname

    def fault(request: Request, forward: Forward) -> Response | None:
        if request.method == "PUT" and ".meta." in request.path:
            # The publisher fails
            return Response(403, [("Content-Length", "0")])
        if request.method == "DELETE" and request.path.endswith(".zip"):
            # Meanwhile another host publishes
            monkeypatch.setattr(socket, "gethostname", host)
            uids.append(publish(roots[1], repository=direct))
        return forward()

    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    proxy.fault = fault
    with pytest.raises(audmodel.errors.RepositoryError):
        publish(roots[0], repository=behind)
    [uid] = uids
    assert files(audmodel.load(uid)) == files(roots[1])


# What backends promise -------------------------------------------------------


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("how", ["read", "looked at", "written"])
def test_delete(request: pytest.FixtureRequest, name: str, how: str) -> None:
    with BACKENDS[name](request) as repository, repository.connect() as backend:

        def etag() -> str:
            if how == "written":
                written = backend.write_object("/a/b", [b"one"])
                assert written is not None
                return written
            backend.write_object("/a/b", [b"one"])
            if how == "read":
                stored = backend.read_object("/a/b", 100)
                assert stored is not None
                return stored.etag
            state = backend.stat_object("/a/b")
            assert state is not None
            return state.etag

        before = etag()
        backend.write_object("/a/b", [b"two"])
        assert not backend.delete_object("/a/b", before)
        stored = backend.read_object("/a/b", 100)
        assert stored is not None
        assert stored.data == b"two"
        assert backend.delete_object("/a/b", etag())
        assert backend.read_object("/a/b", 100) is None
        assert backend.stat_object("/a/b") is None
        # As it is gone already
        assert backend.delete_object("/a/b", before)


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", BACKENDS)
def test_write_in_place_of_what_was_seen(
    request: pytest.FixtureRequest, name: str
) -> None:
    with BACKENDS[name](request) as repository, repository.connect() as backend:
        first = backend.write_object("/a/b", [b"one"], replaces=None)
        assert first is not None
        assert backend.write_object("/a/b", [b"two"], replaces=None) is None
        second = backend.write_object("/a/b", [b"two"], replaces=first)
        assert second is not None
        assert backend.write_object("/a/b", [b"three"], replaces=first) is None
        assert backend.delete_object("/a/b", second)
        # What it was to replace may be gone
        assert backend.write_object("/a/b", [b"four"], replaces=second)
        assert backend.list_objects("/a/") == ["/a/b"]


def test_only_some_storages_compare_when_they_delete(
    request: pytest.FixtureRequest,
) -> None:
    blind = set()
    for name in BACKENDS:
        with BACKENDS[name](request) as repository, repository.connect() as backend:
            backend.read_object("/a", 1)
            if backend.deletes_blindly:
                blind.add(name)
    assert blind == {"plain", "artifactory"}


def test_files_wait_while_one_is_deleted(
    repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing takes the place of a file between the look and its removal."""
    import os

    steps: list[str] = []
    unlink: Callable[..., None] = os.unlink
    with repository.connect() as backend, repository.connect() as other:
        etag = backend.write_object("/a/b", [b"one"])
        assert etag is not None
        is_writing = threading.Event()

        def write() -> None:
            other.write_object("/a/b", [b"two"], before_commit=is_writing.set)
            steps.append("written")

        with ThreadPoolExecutor(1) as executor:

            def slow(path: str, **kwargs: object) -> None:
                if path.endswith("/a/b"):
                    executor.submit(write)
                    assert is_writing.wait(10)
                    time.sleep(0.3)
                    steps.append("deleted")
                unlink(path, **kwargs)

            monkeypatch.setattr(os, "unlink", slow)
            assert backend.delete_object("/a/b", etag)
        assert steps == ["deleted", "written"]
        stored = backend.read_object("/a/b", 10)
        assert stored is not None
        assert stored.data == b"two"

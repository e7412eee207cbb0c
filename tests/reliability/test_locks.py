"""Locks that are held by the dead, by nobody, by the stopped, or are no locks."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import errno
import fcntl
import os
from pathlib import Path
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import filelock
import pytest

import audmodel
from audmodel.core import disk
from audmodel.core.backend import file_locks
from audmodel.core.backend import filesystem
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.processes import Interpreter
from tests.reliability.strace import Tracer
from tests.users import let_in
from tests.users import needs_root


# Of each family of faults
pytestmark = pytest.mark.sample(1)


@pytest.fixture
def uid(repository: audmodel.Repository, model_folder: Path) -> str:
    return publish(model_folder)


# Locks of a cache ----------------------------------------------------------


def test_killed_loader_delays_others_by_little(
    uid: str, python: Interpreter, cache: Path, model_folder: Path, tmp_path: Path
) -> None:
    code = """
        from audmodel.core.backend.reader import FileReader
        def readinto(self, offset, view):
            open(args["ready"], "w").close()
            time.sleep(600)
        if args["number"] == 0:
            FileReader._readinto = readinto
            FileReader.readinto = readinto
        else:
            while not os.path.exists(args["ready"]):
                time.sleep(0.01)
        return [audmodel.load(args["uid"]), time.monotonic()]
    """
    ready = tmp_path / "ready"
    processes = python.start_many(code, 4, uid=uid, ready=str(ready))
    while not ready.exists():
        time.sleep(0.01)
    time.sleep(1)
    processes[0].process.kill()
    killed = time.monotonic()
    for process in processes[1:]:
        root, end = process.result()
        assert files(root) == files(model_folder)
        assert end - killed < 5


def test_lock_file_that_is_huge(uid: str, cache: Path, model_folder: Path) -> None:
    lock = cache / uid.split("-")[0] / ".1.0.0.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    os.truncate(lock, 1 << 30)
    start = time.monotonic()
    assert files(audmodel.load(uid, timeout=1)) == files(model_folder)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "inject",
    [
        "flock:retval=0",
        "flock:error=ENOLCK",
        "flock:error=ENOSYS",
        "flock:error=EOPNOTSUPP",
        "link,linkat:error=ENOSYS",
        "link,linkat:error=EOPNOTSUPP",
        "link,linkat:error=EPERM",
    ],
)
def test_operating_system_without_locks_or_links(
    inject: str,
    uid: str,
    repository: audmodel.Repository,
    model_folder: Path,
    tracer: Tracer,
) -> None:
    run = tracer.run("return audmodel.load(args['uid'])", inject=inject, uid=uid)
    assert run.error is None, run
    assert files(run.result) == files(model_folder)
    code = """
        return audmodel.publish(args["root"], "torch", {}, "2.0.0", alias="best")
    """
    run = tracer.run(code, inject=inject, uid=uid, root=str(model_folder))
    assert run.result is not None, run
    assert audmodel.resolve_alias("best") == run.result
    code = "return audmodel.update_meta(args['uid'], {'a': 1})"
    run = tracer.run(code, inject=inject, uid=uid)
    assert run.result == {"a": 1}, run
    code = "return audmodel.publish(args['root'], 'torch', {}, '2.0.0')"
    run = tracer.run(code, inject=inject, root=str(model_folder))
    assert run.error == "ModelExistsError", run
    names = [path.rpartition("/")[2] for path in content(repository)]
    assert not [name for name in names if "~" in name or "claim" in name]


def test_lock_that_was_left_on_another_machine_without_locks(
    uid: str, cache: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cache / uid.split("-")[0] / ".1.0.0.lock"
    path.parent.mkdir(parents=True)

    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with monkeypatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: "elsewhere")
        left = filelock.SoftFileLock(path)
        left.acquire()
    try:
        assert files(audmodel.load(uid, timeout=1)) == files(model_folder)
    finally:
        left.release()


def test_what_dead_loaders_left_beside_a_model(
    uid: str, cache: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cache.joinpath(*uid.split("-"))
    left = folder.with_name(".1.0.0~left")

    class Late(filesystem.FileSystem):
        # Somebody whose locks are broken loads the same model, and dies
        def open_object(self, path: str, **kwargs: str | None):  # type: ignore[no-untyped-def]
            left.mkdir()
            (left / "model.yaml").write_bytes(b"part")
            os.utime(left / "model.yaml", (0, 0))
            os.utime(left, (0, 0))
            private = folder.with_name(".1.0.0~~left")
            shutil.copytree(left, private)
            os.utime(private, (0, 0))
            return super().open_object(path, **kwargs)

    audmodel.Repository.register("file-system", Late)
    assert files(audmodel.load(uid)) == files(model_folder)
    assert not list(folder.parent.glob(".1.0.0~*"))


# Locks of a repository -----------------------------------------------------


@pytest.fixture
def stopped(
    uid: str, repository: audmodel.Repository
) -> Iterator[Callable[[str], None]]:
    """Somebody who holds the lock of a folder and does not go on."""
    held: list[int] = []

    def hold(folder: str) -> None:
        fd = os.open(os.path.join(repository.host, "models", folder), os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        held.append(fd)

    yield hold
    for fd in held:
        os.close(fd)


def test_wait_for_a_locked_folder_ends(
    uid: str, stopped: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_locks, "_TIMEOUT", 0.5)
    short, version = uid.split("-")
    stopped(f"_uid/{short}/{version}")
    start = time.monotonic()
    with pytest.raises(
        audmodel.errors.RepositoryError, match=r"meta\.yaml.*another process.*0\.5 s"
    ):
        audmodel.update_meta(uid, {"a": 1})
    assert 0.5 <= time.monotonic() - start < 5
    assert audmodel.meta(uid) == {}


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_does_not_keep_a_lock(uid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace
    children: list[int] = []

    def fork(*args: Any) -> None:
        if "/host/" not in str(args[-1]):
            replace(*args)
            return
        # As another thread may at this moment
        child = os.fork()
        if not child:
            time.sleep(600)
            os._exit(0)
        children.append(child)
        replace(*args)

    monkeypatch.setattr(file_locks, "_TIMEOUT", 0.5)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", fork)
            audmodel.update_meta(uid, {"a": 1})
        assert len(children) == 1
        assert audmodel.update_meta(uid, {"b": 2}) == {"a": 1, "b": 2}
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_wait_for_the_lock_of_a_repository_ends(
    uid: str,
    repository: audmodel.Repository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    # Some network file systems lock files, but no folders
    monkeypatch.setattr(file_locks, "_TIMEOUT", 0.3)
    path = Path(repository.host, "models", ".lock")
    real = fcntl.flock
    with filelock.FileLock(path):

        def only_files(fd: int, operation: int) -> None:
            if os.path.isdir(f"/proc/self/fd/{fd}"):
                refuse(fd, operation)
            real(fd, operation)

        monkeypatch.setattr(fcntl, "flock", only_files)
        with pytest.raises(audmodel.errors.RepositoryError, match="another process"):
            audmodel.update_meta(uid, {"a": 1})
    assert audmodel.update_meta(uid, {"a": 2}) == {"a": 2}


def test_repository_on_a_network_share(
    uid: str,
    repository: audmodel.Repository,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Locks on folders keep nobody away who works on another machine."""
    device = os.stat(repository.host).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts = tmp_path / "mounts"
    is_shared = disk.is_shared
    for kind, expected in [
        ("nfs4", True),
        ("fuse.sshfs", True),
        ("cifs", True),
        ("ext4", False),
        ("fuseblk", False),
    ]:
        mounts.write_text(
            f"1 0 0:0 / /other rw - nfs4 host:/other rw\n"
            f"2 0 {number} / / rw,relatime shared:1 - {kind} source rw\n"
        )
        assert is_shared(repository.host, str(mounts)) is expected
    assert not is_shared(repository.host, str(tmp_path / "absent"))
    monkeypatch.setattr(file_locks, "_TIMEOUT", 0.3)
    mounts.write_text(f"2 0 {number} / / rw - nfs host:/models rw\n")
    monkeypatch.setattr(disk, "is_shared", lambda path: is_shared(path, str(mounts)))
    with (
        filelock.FileLock(Path(repository.host, "models", ".lock")),
        pytest.raises(audmodel.errors.RepositoryError, match="another process"),
    ):
        audmodel.update_meta(uid, {"a": 1})
    assert audmodel.update_meta(uid, {"a": 2}) == {"a": 2}


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.EACCES])
def test_lock_that_another_process_has(
    uid: str,
    repository: audmodel.Repository,
    monkeypatch: pytest.MonkeyPatch,
    error: int,
) -> None:
    real = fcntl.flock
    left = [3]

    def busy(fd: int, operation: int) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(error, "It has it")
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", busy)
    assert audmodel.update_meta(uid, {"a": 1}) == {"a": 1}
    assert left[0] < 0
    assert not Path(repository.host, "models", ".lock").exists()


@pytest.mark.parametrize("kind", ["header", "meta", "zip"])
def test_pipe_in_place_of_an_object(
    kind: str, uid: str, repository: audmodel.Repository
) -> None:
    (path,) = Path(repository.host).rglob(f"*.{kind}*")
    path.unlink()
    os.mkfifo(path)
    start = time.monotonic()
    if kind == "meta":
        assert audmodel.meta(uid) == {}
    else:
        with pytest.raises(audmodel.errors.AudmodelError, match=uid):
            audmodel.load(uid)
    assert time.monotonic() - start < 5


def test_pipe_in_place_of_what_the_dead_left(
    uid: str, repository: audmodel.Repository
) -> None:
    (path,) = Path(repository.host).rglob("*.meta.yaml")
    os.mkfifo(path.with_name(f".{path.name}~0123456789abcdef"))
    start = time.monotonic()
    assert audmodel.update_meta(uid, {"a": 1}) == {"a": 1}
    assert time.monotonic() - start < 5


def test_dead_publisher_that_nobody_has_buried(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    # As in containers, whose first process often asks for nobody
    code = f"""
import os, signal
import audmodel
from audmodel.core.backend.filesystem import FileSystem
class Dying(FileSystem):
    def write_object(self, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)
audmodel.Repository.register("file-system", Dying)
audmodel.publish(
    {str(model_folder)!r}, "torch", {{}}, "1.0.0",
    repository=audmodel.Repository("models", {repository.host!r}, "file-system"),
)
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        status = Path(f"/proc/{process.pid}/status")
        deadline = time.monotonic() + 60
        while "Z (zombie)" not in status.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert [path for path in content(repository) if "claim" in path]
        start = time.monotonic()
        uid = audmodel.publish(str(model_folder), "torch", {}, "1.0.0")
        assert time.monotonic() - start < 5
        assert files(audmodel.load(uid)) == files(model_folder)
    finally:
        assert process.wait() == -signal.SIGKILL


# Caches of others ----------------------------------------------------------


@pytest.fixture
def read_only(cache: Path) -> Iterator[Callable[[], None]]:
    """Mount the cache so that not even root can write to it."""
    mounted = False

    def mount() -> None:
        nonlocal mounted
        for options in ("bind", "remount,bind,ro"):
            done = subprocess.run(
                ["mount", "-o", options, str(cache), str(cache)],
                capture_output=True,
                check=False,
            )
            if done.returncode:
                pytest.skip("only root can mount a cache that is read only")
            mounted = True

    yield mount
    if mounted:
        subprocess.run(["umount", "-l", str(cache)], check=True)


def test_cache_on_a_read_only_disk(
    uid: str,
    repository: audmodel.Repository,
    model_folder: Path,
    cache: Path,
    read_only: Callable[[], None],
) -> None:
    root = audmodel.load(uid)
    other = publish(model_folder, version="2.0.0")
    read_only()
    assert audmodel.load(uid) == root
    assert audmodel.header(uid)["name"] == "torch"
    assert audmodel.header(other)["name"] == "torch"
    assert audmodel.meta(uid) == {}
    with pytest.raises(audmodel.errors.CacheError, match="Read-only") as info:
        audmodel.load(other)
    assert str(cache) in str(info.value)
    # What is there is served even if nothing else is
    shutil.rmtree(repository.host)
    assert audmodel.load(uid) == root
    assert audmodel.header(uid)["name"] == "torch"


@needs_root
@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_two_users(
    umask: int,
    uid: str,
    python: Interpreter,
    cache: Path,
    model_folder: Path,
    tmp_path: Path,
) -> None:
    second = publish(model_folder, version="2.0.0")
    cache.mkdir()
    os.chown(cache, 0, 4242)
    cache.chmod(0o2775)
    let_in(tmp_path)
    code = """
        import tempfile
        from tests.users import become
        with tempfile.TemporaryDirectory() as folder:
            audmodel.load(args["uids"][0], cache_root=folder)
        os.umask(args["umask"])
        become(args["user"], 4242, [4242])
        outcomes = []
        for uid in args["uids"]:
            try:
                outcomes.append(audmodel.load(uid, timeout=5))
            except audmodel.errors.CacheError as error:
                outcomes.append(str(error))
        return outcomes
    """
    first = python.run(code, uids=[uid], umask=umask, user=5001)
    outcomes = python.run(code, uids=[uid, second], umask=umask, user=5002)
    assert files(first[0]) == files(model_folder)
    if umask == 0o002:
        assert outcomes[0] == first[0]
        assert files(outcomes[1]) == files(model_folder)
    else:
        # What was made for one user only says so
        for outcome in outcomes:
            assert str(cache) in outcome
            assert "Permission denied" in outcome

"""The cache: layout, locks, finished models, models that are being loaded."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
import random
import shutil
import signal
import socket
import stat
import time
from typing import Any

import filelock
import pytest

import audmodel
from audmodel.core.backend.filesystem import FileSystem
from audmodel.core.backend.reader import ObjectReader
from audmodel.core.cache import locks
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.cache.slot import Slot
from audmodel.core.cache.tree import Folder
from audmodel.core.uid import ModelId
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.conftest import ROOT
from tests.processes import Interpreter
from tests.users import let_in
from tests.users import needs_root


@pytest.fixture
def uid(repository: audmodel.Repository, model_folder: Path) -> str:
    return publish(model_folder)


def entry_of(uid: str) -> CacheEntry:
    return CacheEntry(audmodel.default_cache_root(), ModelId(*uid.split("-")))


def tree(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


# Layout --------------------------------------------------------------------


def test_layout(uid: str, cache: Path, model_folder: Path) -> None:
    root = audmodel.load(uid)
    audmodel.header(uid)
    audmodel.meta(uid)
    short = uid.split("-")[0]
    assert root == str(cache / short / "1.0.0")
    assert tree(cache) == sorted(
        [
            short,
            f"{short}/.1.0.0+index",
            f"{short}/.1.0.0+origin",
            f"{short}/.1.0.0.header.yaml.lock",
            f"{short}/.1.0.0.lock",
            f"{short}/.1.0.0.meta.yaml.lock",
            f"{short}/.1.0.0.unsynced",
            f"{short}/1.0.0",
            f"{short}/1.0.0.header.yaml",
            f"{short}/1.0.0.meta.yaml",
            *(f"{short}/1.0.0/{name}" for name in tree(model_folder)),
        ]
    )


@pytest.mark.parametrize("suffix", ["header.yaml", "meta.yaml"])
@pytest.mark.parametrize("is_first", [True, False])
def test_version_that_is_named_like_a_copy_for_another_one(
    repository: audmodel.Repository, tmp_path: Path, suffix: str, is_first: bool
) -> None:
    uids = {}
    for version in ("1.0.0-int8", f"1.0.0-int8.{suffix}"):
        folder = tmp_path / version
        folder.mkdir()
        (folder / "file").write_text(version)
        uids[version] = publish(
            folder, version=version, author=version, meta={"is": version}
        )
    order = sorted(uids, reverse=is_first)
    for version in [*order, *order]:
        root = Path(audmodel.load(uids[version]))
        assert files(root) == {"file": version.encode()}
        assert audmodel.author(uids[version]) == version
        assert audmodel.meta(uids[version]) == {"is": version}
    assert {model.uid for model in audmodel.cached()} == set(uids.values())
    audmodel.remove_cached(uids[order[0]])
    assert [model.uid for model in audmodel.cached()] == [uids[order[1]]]
    assert files(Path(audmodel.load(uids[order[1]]))) == {"file": order[1].encode()}


def test_the_documentation_shows_the_layout(
    cache: Path, repository: audmodel.Repository, model_folder: Path
) -> None:
    uid = publish(model_folder, alias="best")
    audmodel.load("best", files="readme.txt")
    audmodel.load("best")
    audmodel.meta("best")
    short = uid.split("-")[0]
    found = {
        path.relative_to(cache).as_posix() + "/" * path.is_dir()
        for path in [*cache.iterdir(), *(cache / short).iterdir()]
    }
    page = (ROOT / "docs" / "shared-cache.rst").read_text(encoding="utf-8")
    lines = page.partition("/data/audmodel/\n")[2].partition("\n\n")[0].splitlines()
    shown: set[str] = set()
    parents = {8: ""}
    for line in lines:
        name, _, _ = line.strip().partition(" ")
        depth = len(line) - len(line.lstrip())
        # Explanations that go on in the next line stand further to the right
        if depth in parents:
            parent = parents[depth]
            shown.add(parent + name)
            parents[depth + 4] = parent + name
    shown = {path.replace("3e120e8d", short) for path in shown}
    assert shown == found


def test_cache_root(
    uid: str, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert audmodel.load(uid, cache_root=str(tmp_path / "a")).startswith(
        str(tmp_path / "a")
    )
    root = audmodel.load(uid, cache_root="~/b")
    assert root.startswith(str(home / "b"))
    monkeypatch.chdir(tmp_path)
    root = audmodel.load(uid, cache_root="c")
    assert root.startswith(str(tmp_path / "c"))
    audmodel.header(uid, cache_root=str(tmp_path / "d"))
    audmodel.meta(uid, cache_root=str(tmp_path / "e"))
    short = uid.split("-")[0]
    assert (tmp_path / "d" / short / "1.0.0.header.yaml").exists()
    assert (tmp_path / "e" / short / "1.0.0.meta.yaml").exists()


def test_modes_of_a_shared_cache(python: Interpreter, uid: str, cache: Path) -> None:
    # Whatever the umask, members of the group can take the locks
    python.run(
        """
        os.umask(0o077)
        audmodel.load(args["uid"])
        audmodel.header(args["uid"])
        audmodel.meta(args["uid"])
        """,
        uid=uid,
    )
    locks = list(cache.rglob(".*.lock"))
    assert len(locks) == 3
    assert [oct(lock.stat().st_mode & 0o777) for lock in locks] == ["0o664"] * 3


def test_executable_files(repository: audmodel.Repository, model_folder: Path) -> None:
    script = model_folder / "run.sh"
    script.write_bytes(b"#!/bin/sh\n")
    script.chmod(0o700)
    (model_folder / "readme.txt").chmod(0o444)
    root = Path(audmodel.load(publish(model_folder)))
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((root / "run.sh").stat().st_mode) == 0o777 & ~umask
    assert stat.S_IMODE((root / "model.yaml").stat().st_mode) == 0o666 & ~umask


# Finished models -----------------------------------------------------------


def test_finished_model_needs_neither_lock_nor_network_nor_repository(
    uid: str, repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = audmodel.load(uid)
    shutil.rmtree(repository.host)
    for lock in Path(root).parent.glob(".*.lock"):
        lock.unlink()
    before = tree(Path(root).parent)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"A finished model needs nothing, but was {args} called.")

    open_file = os.open

    def look(path: str, flags: int, *args: Any, **kwargs: Any) -> int:
        # Whether the power may have failed since the model was loaded,
        # and which files it has
        assert flags & os.O_DIRECTORY or path.endswith((".unsynced", "+index"))
        assert flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) == 0
        return open_file(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", look)
    monkeypatch.setattr(os, "mkdir", refuse)
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr("fcntl.flock", refuse)
    loaded = audmodel.load(uid)
    monkeypatch.undo()
    assert loaded == root
    assert tree(Path(root).parent) == before


def test_finished_model_is_returned_at_once(uid: str) -> None:
    audmodel.load(uid)
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        for _ in range(100):
            audmodel.load(uid)
        best = min(best, (time.process_time() - start) / 100)
    assert best < 0.0005


def test_finished_model_is_returned_while_its_lock_is_held(uid: str) -> None:
    root = audmodel.load(uid)
    with entry_of(uid).whole.lock(timeout=1):
        assert audmodel.load(uid, timeout=0) == root


def test_header_from_the_cache(uid: str, repository: audmodel.Repository) -> None:
    header = audmodel.header(uid)
    shutil.rmtree(repository.host)
    assert audmodel.header(uid) == header
    assert audmodel.name(uid) == "torch"
    assert audmodel.parameters(uid) == {"sampling_rate": 16000}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"author: [",
        b"\xff",
        b"name: other\n",
        b"!!python/object/apply:os.abort []",
    ],
)
def test_damaged_header_in_the_cache_is_fetched_again(
    uid: str, cache: Path, content: bytes
) -> None:
    header = audmodel.header(uid)
    copy = cache / uid.split("-")[0] / "1.0.0.header.yaml"
    original = copy.read_bytes()
    copy.write_bytes(content)
    assert audmodel.header(uid) == header
    assert copy.read_bytes() == original


def test_too_large_header_in_the_cache_is_fetched_again(uid: str, cache: Path) -> None:
    header = audmodel.header(uid)
    copy = cache / uid.split("-")[0] / "1.0.0.header.yaml"
    os.truncate(copy, 100_000_000)
    assert audmodel.header(uid) == header
    assert copy.stat().st_size < 1000


# Locks ---------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.2])
def test_timeout(uid: str, timeout: float) -> None:
    with entry_of(uid).whole.lock(timeout=1):
        start = time.monotonic()
        with pytest.raises(filelock.Timeout, match=r"\.1\.0\.0\.lock"):
            audmodel.load(uid, timeout=timeout)
        assert timeout <= time.monotonic() - start < timeout + 2
    assert audmodel.load(uid, timeout=timeout)


def test_wait_is_announced(
    uid: str, python: Interpreter, cache: Path, tmp_path: Path
) -> None:
    ready, go = tmp_path / "ready", tmp_path / "go"
    lock = cache / uid.split("-")[0] / ".1.0.0.lock"
    holder = python.start(
        """
        import filelock
        os.makedirs(os.path.dirname(args["lock"]), exist_ok=True)
        with filelock.FileLock(args["lock"], mode=0o664):
            open(args["ready"], "w").close()
            while not os.path.exists(args["go"]):
                time.sleep(0.01)
        """,
        lock=str(lock),
        ready=str(ready),
        go=str(go),
    )
    wait_for(ready)
    waiting = python.start("return audmodel.load(args['uid'], timeout=-1)", uid=uid)
    assert waiting.process.stderr is not None
    line = waiting.process.stderr.readline()
    assert str(lock) in line
    assert "2 s" in line
    go.touch()
    assert waiting.result() == str(lock.parent / "1.0.0")
    holder.result()


def test_wait_is_announced_again(
    uid: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audmodel.core.cache.locks._FIRST_NOTICE", 0.1)
    monkeypatch.setattr("audmodel.core.cache.locks._NEXT_NOTICE", 0.2)
    with (
        entry_of(uid).whole.lock(timeout=1),
        caplog.at_level(logging.WARNING, logger="audmodel"),
        pytest.raises(filelock.Timeout),
    ):
        audmodel.load(uid, timeout=0.8)
    messages = [record.getMessage() for record in caplog.records]
    assert 2 <= len(messages) <= 4
    assert all(".1.0.0.lock" in message for message in messages)


def test_lock_of_a_dead_process_is_free(
    uid: str, python: Interpreter, cache: Path, model_folder: Path
) -> None:
    lock = cache / uid.split("-")[0] / ".1.0.0.lock"
    python.start(
        """
        import filelock, signal
        os.makedirs(os.path.dirname(args["lock"]), exist_ok=True)
        lock = filelock.FileLock(args["lock"], mode=0o664)
        lock.acquire()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        lock=str(lock),
    ).errors()
    assert lock.exists()
    assert files(audmodel.load(uid, timeout=5)) == files(model_folder)


def test_load_while_another_one_loads(
    uid: str, python: Interpreter, model_folder: Path, tmp_path: Path
) -> None:
    ready, go = tmp_path / "ready", tmp_path / "go"
    slow = python.start(
        """
        from audmodel.core.backend.filesystem import FileSystem
        class Slow(FileSystem):
            def open_object(self, path, **kwargs):
                open(args["ready"], "w").close()
                while not os.path.exists(args["go"]):
                    time.sleep(0.01)
                return super().open_object(path, **kwargs)
        audmodel.Repository.register("file-system", Slow)
        return audmodel.load(args["uid"])
        """,
        uid=uid,
        ready=str(ready),
        go=str(go),
    )
    wait_for(ready)
    with pytest.raises(filelock.Timeout):
        audmodel.load(uid, timeout=0.1)
    go.touch()
    assert audmodel.load(uid) == slow.result()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def parts_folder(tmp_path: Path) -> Path:
    """A model whose archive has many parts and files."""
    root = tmp_path / "parts"
    root.mkdir()
    pattern = random.Random(2)
    (root / "large").write_bytes(pattern.randbytes(20_000_000))
    for number in range(200):
        (root / f"small-{number}").write_bytes(pattern.randbytes(number * 10))
    return root


# Loads that end early ------------------------------------------------------


KILL = """
    import signal
    from audmodel.core.backend.reader import FileReader
    original = FileReader.readinto
    left = args["reads"]
    def readinto(self, offset, view):
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return original(self, offset, view)
    FileReader.readinto = readinto
    audmodel.load(args["uid"], files=args.get("files"))
"""


def test_killed_load_is_continued(
    repository: audmodel.Repository,
    python: Interpreter,
    parts_folder: Path,
    cache: Path,
    fetched: list[int],
) -> None:
    uid = publish(parts_folder)
    process = python.start(KILL, uid=uid, reads=4)
    process.errors()
    assert process.process.returncode == -signal.SIGKILL
    folder = cache / uid.split("-")[0]
    assert not (folder / "1.0.0").exists()
    assert len(list(folder.glob(".1.0.0~*"))) == 1

    root = audmodel.load(uid)
    assert files(root) == files(parts_folder)
    # What was there already is not fetched again
    assert 0 < sum(fetched) < 18_000_000
    assert not list(folder.glob(".1.0.0~*"))


def test_leftovers_of_several_kills(
    repository: audmodel.Repository,
    python: Interpreter,
    parts_folder: Path,
    cache: Path,
) -> None:
    uid = publish(parts_folder)
    folder = cache / uid.split("-")[0]
    for name in (".1.0.0~a", ".1.0.0~b", ".1.0.0~c"):
        (folder / name / "sub").mkdir(parents=True)
        (folder / name / "large").write_bytes(b"x" * 1000)
        (folder / name / "foreign").write_bytes(b"x")
        (folder / name / "sub" / "foreign").symlink_to("/etc/passwd")
    (folder / ".1.0.0~file").write_bytes(b"")
    (folder / ".1.0.0-rc~other").mkdir()
    assert files(audmodel.load(uid)) == files(parts_folder)
    # Files of others are none of our business
    assert sorted(path.name for path in folder.glob(".*~*")) == [
        ".1.0.0-rc~other",
        ".1.0.0~file",
    ]


def test_planted_links_are_not_followed(
    repository: audmodel.Repository, parts_folder: Path, cache: Path, tmp_path: Path
) -> None:
    uid = publish(parts_folder)
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    staging = cache / uid.split("-")[0] / ".1.0.0~planted"
    staging.mkdir(parents=True)
    (staging / "large").symlink_to(victim)
    (staging / "small-1").symlink_to(victim)
    assert files(audmodel.load(uid)) == files(parts_folder)
    assert victim.read_bytes() == b"untouched"


def test_no_room(
    uid: str, cache: Path, monkeypatch: pytest.MonkeyPatch, model_folder: Path
) -> None:
    usage = shutil.disk_usage(cache.parent)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(audmodel.errors.DiskFullError, match="only 10 are free") as info:
        audmodel.load(uid)
    assert isinstance(info.value, OSError)
    assert str(cache) in str(info.value)
    assert not list((cache / uid.split("-")[0]).glob(".*~*"))
    monkeypatch.undo()
    assert files(audmodel.load(uid)) == files(model_folder)


# Caches that cannot be written to ------------------------------------------


AS_NOBODY = """
    import tempfile
    from tests.users import NOBODY, become
    with tempfile.TemporaryDirectory() as folder:
        audmodel.load(args["uid"], cache_root=folder)
        audmodel.header(args["uid"], cache_root=folder)
        audmodel.meta(args["uid"], cache_root=folder)
    become(NOBODY)
    assert not os.access(args["cache_root"], os.W_OK)
    uid = args["uid"]
"""


@needs_root
def test_read_only_cache(
    uid: str, python: Interpreter, cache: Path, model_folder: Path, tmp_path: Path
) -> None:
    root = audmodel.load(uid)
    header = audmodel.header(uid)
    audmodel.meta(uid)
    let_in(tmp_path)
    before = tree(cache)
    code = """
    return [
        audmodel.load(uid),
        audmodel.name(uid),
        audmodel.meta(uid),
        audmodel.exists(uid),
    ]
    """
    answers = python.run(AS_NOBODY + code, uid=uid)
    assert answers == [root, header["name"], {}, True]
    assert tree(cache) == before


@needs_root
def test_read_only_cache_without_the_model(
    uid: str, python: Interpreter, cache: Path, tmp_path: Path
) -> None:
    cache.mkdir()
    let_in(tmp_path)
    code = """
    assert audmodel.header(uid)["name"] == "torch"
    try:
        audmodel.load(uid)
    except audmodel.errors.CacheError as error:
        return [str(error), error.errno, isinstance(error, OSError)]
    """
    message, number, is_os_error = python.run(AS_NOBODY + code, uid=uid)
    assert str(cache) in message
    assert "AUDMODEL_CACHE_ROOT" in message
    assert number == 13
    assert is_os_error


def test_file_in_place_of_the_cache(uid: str, cache: Path) -> None:
    cache.write_bytes(b"")
    assert audmodel.header(uid)["name"] == "torch"
    with pytest.raises(audmodel.errors.CacheError, match=str(cache)):
        audmodel.load(uid)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to nothing", "link"])
def test_strange_lock_file(uid: str, cache: Path, tmp_path: Path, kind: str) -> None:
    lock = cache / uid.split("-")[0] / ".1.0.0.lock"
    lock.parent.mkdir(parents=True)
    victim = tmp_path / "victim"
    if kind == "folder":
        lock.mkdir()
    elif kind == "pipe":
        os.mkfifo(lock)
    elif kind == "link":
        victim.write_bytes(b"untouched")
        lock.symlink_to(victim)
    else:
        lock.symlink_to(victim)
    # It does not hang, and does not write where the link points to
    with pytest.raises(audmodel.errors.CacheError, match=str(lock)):
        audmodel.load(uid, timeout=0.5)
    if kind == "link":
        assert victim.read_bytes() == b"untouched"
    else:
        assert not victim.exists()


# Locks that cannot be trusted ----------------------------------------------


@pytest.fixture
def broken_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", lambda fd, operation: None)


def test_others_keep_their_folder_if_locks_are_broken(
    uid: str, cache: Path, model_folder: Path, broken_locks: None
) -> None:
    other = cache / uid.split("-")[0] / ".1.0.0~other"
    (other / "log").mkdir(parents=True)
    (other / "log" / "eval.yaml").write_bytes(b"at work")
    assert files(audmodel.load(uid)) == files(model_folder)
    assert files(other) == {"log/eval.yaml": b"at work"}


@pytest.mark.parametrize("name", [".1.0.0~other", ".1.0.0~~other"])
def test_folder_that_was_left_long_ago(
    uid: str, cache: Path, model_folder: Path, broken_locks: None, name: str
) -> None:
    other = cache / uid.split("-")[0] / name
    other.mkdir(parents=True)
    (other / "model.yaml").write_bytes(b"")
    for path in (other / "model.yaml", other):
        os.utime(path, (0, time.time() - 3600))
    assert files(audmodel.load(uid)) == files(model_folder)
    assert not other.exists()


@pytest.mark.parametrize("is_complete", [False, True])
def test_folder_is_taken_away(
    uid: str, cache: Path, model_folder: Path, is_complete: bool
) -> None:
    target = cache / uid.split("-")[0] / "1.0.0"
    thefts: list[Path] = []

    class Thief(FileSystem):
        def open_object(self, path: str, *, tmp_root: str | None = None) -> Any:
            return contextlib.nullcontext(self._open_object(path))

        def _open_object(self, path: str) -> ObjectReader:
            with super().open_object(path) as reader:
                assert reader is not None
                return Reader(bytes(reader.read(0, reader.size)))

    class Reader(ObjectReader):
        def __init__(self, data: bytes) -> None:
            super().__init__(len(data), b"")
            self.tail = data

        def readinto(self, offset: int, view: memoryview) -> None:
            if not thefts:
                (staging,) = target.parent.glob(".1.0.0~*")
                shutil.rmtree(staging)
                thefts.append(staging)
                if is_complete:
                    shutil.copytree(model_folder, target)
            super().readinto(offset, view)

        def _readinto(self, offset: int, view: memoryview) -> None:
            raise AssertionError

    audmodel.Repository.register("file-system", Thief)
    assert audmodel.load(uid) == str(target)
    assert len(thefts) == 1
    assert files(target) == files(model_folder)
    assert not list(target.parent.glob(".*~*"))


def test_repository_that_cannot_be_read_is_not_a_problem_of_the_cache(
    uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("audmodel.core.backend.reader.TAIL", 0)
    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(audmodel.errors.RepositoryError, match=r"zip.*Input/output"):
        audmodel.load(uid)


def test_no_room_for_the_rest(
    repository: audmodel.Repository,
    parts_folder: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uid = publish(parts_folder)
    staging = cache / uid.split("-")[0] / ".1.0.0~left"
    staging.mkdir(parents=True)
    shutil.copy(parts_folder / "large", staging / "large")
    usage = shutil.disk_usage(cache)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(audmodel.errors.DiskFullError, match="only 1000 are free"):
            audmodel.load(uid)
        # What is there is kept, and is enough with a little more room
        (kept,) = staging.parent.glob(".1.0.0~*")
        assert (kept / "large").stat().st_size == 20_000_000
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
        assert files(audmodel.load(uid)) == files(parts_folder)


def test_error_of_the_disk(
    uid: str, cache: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Folder.rename

    def fail(self: Folder, name: str, folder: Folder, new_name: str) -> None:
        if "~" in name:
            raise OSError(5, "Input/output error")
        rename(self, name, folder, new_name)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "rename", fail)
        with pytest.raises(audmodel.errors.CacheError, match="Input/output") as info:
            audmodel.load(uid)
    assert str(cache) in str(info.value)
    assert not (cache / uid.split("-")[0] / "1.0.0").exists()
    assert files(audmodel.load(uid)) == files(model_folder)


def test_somebody_else_was_faster(
    uid: str, cache: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = cache / uid.split("-")[0] / "1.0.0"
    rename = Folder.rename

    def late(self: Folder, name: str, folder: Folder, new_name: str) -> None:
        if new_name == target.name:
            shutil.copytree(model_folder, target)
        rename(self, name, folder, new_name)

    monkeypatch.setattr(Folder, "rename", late)
    assert audmodel.load(uid) == str(target)
    assert files(target) == files(model_folder)
    assert not list(target.parent.glob(".*~*"))


def test_lock_that_vanishes(
    uid: str, cache: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder of somebody else stays, since the lock cannot be looked at again
    other = cache / uid.split("-")[0] / ".1.0.0~other"
    other.mkdir(parents=True)
    acquire = locks._acquire

    def remove(folder: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        result = acquire(folder, name, *args, **kwargs)
        os.unlink(os.path.join(folder.path, name))
        return result

    monkeypatch.setattr(locks, "_acquire", remove)
    assert files(audmodel.load(uid)) == files(model_folder)
    assert other.exists()


def test_folder_vanishes_while_it_is_looked_at(
    uid: str,
    cache: Path,
    model_folder: Path,
    broken_locks: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = cache / uid.split("-")[0] / ".1.0.0~other"
    other.mkdir(parents=True)
    status = Folder.status

    def late(self: Folder, name: str = "") -> os.stat_result:
        if self.path == str(other) and not name:
            other.rmdir()
        return status(self, name)

    monkeypatch.setattr(Folder, "status", late)
    assert files(audmodel.load(uid)) == files(model_folder)


def test_attempt_that_another_process_removes_is_no_obstacle(
    uid: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = entry_of(uid).whole
    gone = Folder(str(cache), uid.split("-")[0]).folder(".1.0.0~gone")
    monkeypatch.setattr(Slot, "attempts", lambda _: [gone])
    assert not slot.is_left(gone)
    slot.tidy()


def test_attempt_of_a_stream_that_rests_stays(
    uid: str, cache: Path, model_folder: Path
) -> None:
    """Its lock is held by this process, which may enter it again."""
    stream = audmodel.stream(uid)
    paths = [next(stream)]
    (attempt,) = cache.glob("*/.*~*")
    for path in [*attempt.rglob("*"), attempt]:
        os.utime(path, (0, time.time() - 3600))
    assert files(audmodel.load(uid)) == files(model_folder)
    assert attempt.exists()
    paths += stream
    assert {Path(path).read_bytes() for path in paths} == set(
        files(model_folder).values()
    )

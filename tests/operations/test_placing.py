"""Put a model into a folder of the user, where something may be already."""

from __future__ import annotations

from collections.abc import Callable
import errno
import fcntl
import logging
import os
from pathlib import Path
import random
import stat
import subprocess
import sys
from typing import Any

import pytest

import audmodel
from audmodel.core import disk
from audmodel.core.archive import names
from audmodel.core.cache.tree import Folder
from audmodel.core.operations import placing
from audmodel.errors import CacheError
from audmodel.errors import InvalidInputError
from audmodel.errors import LockTimeoutError
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.processes import Interpreter


@pytest.fixture
def uid(repository: audmodel.Repository, model_folder: Path) -> str:
    (model_folder / "run.sh").write_bytes(b"#!/bin/sh\n")
    (model_folder / "run.sh").chmod(0o755)
    return publish(model_folder)


@pytest.fixture
def to(tmp_path: Path) -> Path:
    """A folder that does not exist yet."""
    return tmp_path / "deployed"


def put(uid: str, to: Path, **options: Any) -> str:
    return audmodel.load(uid, to=str(to), **options)


# What is wrong ---------------------------------------------------------------


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("to", "error", "message"),
    [
        ("", InvalidInputError, "'to' is empty"),
        (b"a", TypeError, "'to' has to be a path, not bytes"),
        (1, TypeError, "'to' has to be a path, not int"),
        ("{cache}", InvalidInputError, "is in the cache"),
        ("{cache}/x/../y", InvalidInputError, "is in the cache"),
        ("{link}/y", InvalidInputError, "is in the cache"),
        ("{file}", NotADirectoryError, "it is no folder"),
        ("{broken}", NotADirectoryError, "it is no folder"),
        ("{file}/below", NotADirectoryError, "cannot be put there"),
    ],
)
def test_folder_that_cannot_be_used(
    uid: str,
    cache: Path,
    tmp_path: Path,
    to: Any,
    error: type[Exception],
    message: str,
) -> None:
    cache.mkdir()
    (tmp_path / "link").symlink_to(cache)
    (tmp_path / "broken").symlink_to("nothing")
    (tmp_path / "file").write_bytes(b"file")
    if isinstance(to, str):
        names = {name: tmp_path / name for name in ("cache", "link", "file", "broken")}
        to = to.format(**names)
    with pytest.raises(error, match=message):
        audmodel.load(uid, to=to)
    assert (tmp_path / "file").read_bytes() == b"file"


def test_options_without_a_folder_and_a_folder_for_a_list(uid: str, to: Path) -> None:
    load: Any = audmodel.load
    for option in ("force", "hardlinks"):
        with pytest.raises(InvalidInputError, match="need a folder as 'to'"):
            load(uid, **{option: True})
    with pytest.raises(InvalidInputError, match="'to' is the folder of one model"):
        load([uid], to=str(to))
    assert not to.exists()


def test_model_that_does_not_exist(repository: audmodel.Repository, to: Path) -> None:
    with pytest.raises(audmodel.errors.ModelNotFoundError):
        put("12345678-1.0.0", to)
    assert not to.exists()


def other_file(path: Path) -> None:
    path.write_bytes(b"mine")


def same_size(path: Path) -> None:
    path.write_bytes(b"input: melspec\noutput: emotiom\n")


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "spoil",
    [other_file, same_size, os.mkfifo, lambda path: path.symlink_to("elsewhere")],
    ids=["other file", "same size", "pipe", "link"],
)
def test_other_content_is_named_and_replaced_by_force_alone(
    uid: str, to: Path, model_folder: Path, spoil: Callable[[Path], object]
) -> None:
    to.mkdir()
    (to / "elsewhere").write_bytes(b"mine")
    spoil(to / "model.yaml")
    before = sorted(os.listdir(to))
    with pytest.raises(FileExistsError, match="Nothing was changed") as info:
        put(uid, to)
    assert "other files than the model: 'model.yaml'. " in str(info.value)
    assert sorted(os.listdir(to)) == before
    put(uid, to, force=True)
    assert not (to / "model.yaml").is_symlink()
    assert (to / "elsewhere").read_bytes() == b"mine"
    (to / "elsewhere").unlink()
    assert files(to) == files(model_folder)


def folder_for_file(to: Path) -> None:
    (to / "model.yaml").mkdir()
    (to / "model.yaml" / "mine").write_bytes(b"mine")


def file_for_folder(to: Path) -> None:
    (to / "log").write_bytes(b"mine")


def link_for_folder(to: Path) -> None:
    (to / "elsewhere").mkdir()
    (to / "elsewhere" / "mine").write_bytes(b"mine")
    (to / "log").symlink_to("elsewhere")


@pytest.mark.sample(2)
@pytest.mark.parametrize("spoil", [folder_for_file, file_for_folder, link_for_folder])
@pytest.mark.parametrize("force", [False, True])
def test_something_that_is_never_replaced(
    uid: str, to: Path, spoil: Callable[[Path], object], force: bool
) -> None:
    to.mkdir()
    spoil(to)
    before = files(to)
    with pytest.raises(FileExistsError, match="Remove or rename it"):
        put(uid, to, force=force)
    assert files(to) == before
    assert b"mine" in before.values()


@pytest.mark.sample(1)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_nothing_is_lost_if_a_copy_fails(
    uid: str, to: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    to.mkdir()
    (to / "model.yaml").write_bytes(b"mine")
    copy, copied = disk.copy, []

    def fail(source: int, target: int) -> None:
        copied.append(source)
        if len(copied) == 3:
            raise OSError(number, os.strerror(number))
        copy(source, target)

    monkeypatch.setattr(disk, "copy", fail)
    with pytest.raises(OSError, match="The model cannot be put there") as info:
        put(uid, to, force=True)
    assert info.value.errno == number
    assert os.strerror(number) in str(info.value)
    assert files(to) == {"model.yaml": b"mine"}
    assert os.listdir(to) == ["model.yaml"]


def test_folder_that_cannot_be_written_to(
    uid: str, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(uid, to)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(to))

    monkeypatch.setattr(Folder, "make_new", refuse)
    # All of it is there
    assert put(uid, to) == str(to)
    (to / "readme.txt").unlink()
    with pytest.raises(PermissionError, match="its permissions forbid it"):
        put(uid, to)


# What is put there -----------------------------------------------------------


def test_new_folder(uid: str, to: Path, model_folder: Path, cache: Path) -> None:
    below = to / "a" / "b"
    assert put(uid, below) == str(below)
    assert files(below) == files(model_folder)
    assert sorted(os.listdir(below)) == sorted(os.listdir(model_folder))
    executable = [path.name for path in below.rglob("*") if os.access(path, os.X_OK)]
    assert sorted(executable) == ["log", "run.sh"]
    loaded = Path(audmodel.load(uid))
    for name in files(below):
        copy, original = (below / name).stat(), (loaded / name).stat()
        assert stat.S_IMODE(copy.st_mode) == stat.S_IMODE(original.st_mode)
        assert copy.st_ino != original.st_ino
    # The cache does not change with it
    (below / "model.yaml").write_bytes(b"mine")
    assert audmodel.verify(uid).ok


def test_path_is_one_of_the_user(
    uid: str,
    home: Path,
    tmp_path: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert audmodel.load(uid, to="here") == str(tmp_path / "here")
    assert audmodel.load(uid, to="~/model") == str(home / "model")
    (tmp_path / "link").symlink_to(home / "model")
    (home / "model" / "readme.txt").unlink()
    audmodel.load(uid, to="link")
    assert (tmp_path / "link").is_symlink()
    assert files(home / "model") == files(tmp_path / "here") == files(model_folder)


def test_what_is_right_stays(
    uid: str, to: Path, model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(uid, to)
    (to / "mine").write_bytes(b"mine")
    (to / "run.sh").chmod(0o644)
    (to / "readme.txt").unlink()
    before = {name: (to / name).stat().st_ino for name in files(to)}
    caplog.set_level(logging.INFO, "audmodel")
    put(uid, to)
    after = {name: (to / name).stat().st_ino for name in files(to)}
    assert {name for name in after if before.get(name) != after[name]} == {
        "readme.txt",
        "run.sh",
    }
    assert os.access(to / "run.sh", os.X_OK)
    assert f"Put '{uid}' into '{to}': 2 of 5 files" in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_another_version_by_force(
    uid: str, to: Path, model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(uid, to)
    (model_folder / "readme.txt").unlink()
    (model_folder / "model.yaml").write_bytes(b"new")
    newer = publish(model_folder, version="2.0.0")
    with pytest.raises(FileExistsError, match=r"'model\.yaml'"):
        put(newer, to)
    put(newer, to, force=True)
    # A file of the old version may be what a program finds first
    [warning] = [r.getMessage() for r in caplog.records if r.levelno > logging.INFO]
    assert "also holds files that are not part of the model" in warning
    assert "'readme.txt'" in warning
    (to / "readme.txt").unlink()
    assert files(to) == files(model_folder)


def test_some_files(uid: str, to: Path) -> None:
    put(uid, to, files="log/")
    assert set(files(to)) == {"log/eval.yaml"}
    put(uid, to, files=["*.onnx"])
    assert set(files(to)) == {"log/eval.yaml", "model.onnx"}
    with pytest.raises(audmodel.errors.FileNotInModelError):
        put(uid, to, files="nothing")


def test_hard_links(uid: str, to: Path) -> None:
    put(uid, to, hardlinks=True)
    loaded = Path(audmodel.load(uid))
    for name in files(to):
        assert (to / name).samefile(loaded / name)
    put(uid, to, hardlinks=True)
    # Copies are wanted now, so that the cache cannot change with them
    put(uid, to)
    for name in files(to):
        assert not (to / name).samefile(loaded / name)
    assert files(to) == files(loaded)


def test_hard_links_that_are_not_possible(
    uid: str, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(Folder, "link", refuse)
    with pytest.raises(OSError, match="Leave out 'hardlinks' to copy") as info:
        put(uid, to, hardlinks=True)
    assert info.value.errno == errno.EXDEV
    assert os.listdir(to) == []


def test_names_that_are_one_in_the_folder(
    repository: audmodel.Repository,
    model_folder: Path,
    to: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As earlier releases publish them
    (model_folder / "README.TXT").write_bytes(b"other")
    with monkeypatch.context() as patch:
        patch.setattr(names, "find_collisions", lambda names: [])
        uid = publish(model_folder)
    put(uid, to)
    assert files(to) == files(model_folder)
    monkeypatch.setattr(Folder, "distinguishes", lambda *_: False)
    other = to.with_name("other")
    with pytest.raises(FileExistsError, match=r"'README\.TXT' and 'readme\.txt' coll"):
        put(uid, other)
    assert os.listdir(other) == []


@pytest.mark.sample(1)
@pytest.mark.parametrize("workers", [1, 4])
def test_many_files_and_a_large_one(
    repository: audmodel.Repository, tmp_path: Path, to: Path, workers: int
) -> None:
    root = tmp_path / "many"
    pattern = random.Random(0)
    for number in range(50):
        path = root / f"{number % 7}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pattern.randbytes(number))
    (root / "large").write_bytes(pattern.randbytes(3_000_001))
    uid = publish(root)
    put(uid, to, num_workers=workers)
    assert files(to) == files(root)


@pytest.mark.parametrize("copies", [0, 5, None])
def test_copy_goes_on_where_the_kernel_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copies: int | None
) -> None:
    copy_range = os.copy_file_range

    def some(source: int, target: int, count: int, *offsets: int) -> int:
        if copies is None or offsets[0]:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return copy_range(source, target, min(count, copies), *offsets)

    monkeypatch.setattr(os, "copy_file_range", some)
    (tmp_path / "a").write_bytes(b"0123456789")
    with (tmp_path / "a").open("rb") as a, (tmp_path / "b").open("wb") as b:
        disk.copy(a.fileno(), b.fileno())
    assert (tmp_path / "b").read_bytes() == b"0123456789"


def test_full_disk_ends_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", full)
    (tmp_path / "a").write_bytes(b"a")
    with (
        (tmp_path / "a").open("rb") as a,
        (tmp_path / "b").open("wb") as b,
        pytest.raises(OSError, match="No space left"),
    ):
        disk.copy(a.fileno(), b.fileno())


# Others at the same time -----------------------------------------------------


def test_model_that_is_removed_from_the_cache_meanwhile(
    uid: str, to: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = placing._Placing._state

    def removing(self: placing._Placing, name: str) -> str:
        if len(removed) < 2 and audmodel.cached():
            removed.append(audmodel.remove_cached(uid))
        return state(self, name)

    removed: list[object] = []
    monkeypatch.setattr(placing._Placing, "_state", removing)
    to.mkdir()
    (to / "run.sh").write_bytes(b"#!/bin/sh\n")
    put(uid, to)
    assert len(removed) == 2
    assert files(to) == files(model_folder)


def test_what_is_no_file_in_the_cache_does_not_go_on_forever(
    uid: str, to: Path, cache: Path
) -> None:
    loaded = Path(audmodel.load(uid))
    # As in a cache of an earlier release, which has no directory of the archive
    for path in loaded.parent.glob(".*"):
        if path.is_file():
            path.unlink()
    (loaded / "link").symlink_to("model.yaml")
    with pytest.raises(CacheError, match="no regular files"):
        put(uid, to)
    assert os.listdir(to) == []


def test_folder_that_another_process_uses(
    uid: str, to: Path, caplog: pytest.LogCaptureFixture
) -> None:
    to.mkdir()
    code = (
        "import fcntl, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "fcntl.flock(fd, fcntl.LOCK_EX)\n"
        "print(flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, to],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(LockTimeoutError, match="puts a model into"):
            put(uid, to, timeout=0.1)
        assert os.listdir(to) == []
        process.communicate(b"")
    assert "Waiting for another process" in caplog.text
    put(uid, to, timeout=0)


def test_file_system_without_locks(
    uid: str, to: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, how: int) -> None:
        # Those of the cache are files
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(fd, how)

    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", refuse)
    # It may be in use
    other = to / ".audmodel~other"
    other.mkdir(parents=True)
    put(uid, to)
    assert other.exists()
    monkeypatch.undo()
    audmodel.config.CACHE_ROOT = str(to.parent / "cache")
    put(uid, to)
    assert not other.exists()
    assert files(to) == files(model_folder)


@pytest.mark.thorough
def test_several_processes_put_two_versions_into_one_folder(
    uid: str, to: Path, model_folder: Path, python: Interpreter
) -> None:
    first = files(model_folder)
    for name in first:
        (model_folder / name).write_bytes(b"2" * len(first[name]))
    newer = publish(model_folder, version="2.0.0")
    python.run_many(
        """
        barrier("start")
        for number in range(20):
            uid = args["uids"][(number + args["number"]) % 2]
            audmodel.load(uid, to=args["to"], force=True)
        """,
        4,
        uids=[uid, newer],
        to=str(to),
    )
    assert files(to) in (first, files(model_folder))
    assert sorted(os.listdir(to)) == sorted(os.listdir(model_folder))


# Old clients -----------------------------------------------------------------


@pytest.mark.thorough
def test_model_and_cache_of_the_released_version(
    repository: audmodel.Repository,
    model_folder: Path,
    to: Path,
    released: Interpreter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (model_folder / "README.md").write_bytes(b"# Card")
    uid = released.run(
        """
        repository = audmodel.config.REPOSITORIES[0]
        uid = audmodel.publish(
            args["root"], "torch", {}, "1.0.0", repository=repository
        )
        audmodel.load(uid)
        return uid
        """,
        root=str(model_folder),
    )
    monkeypatch.setenv("AUDMODEL_OFFLINE", "1")
    put(uid, to)
    assert files(to) == files(model_folder)
    put(uid, to)
    audmodel.remove_cached(uid)
    monkeypatch.delenv("AUDMODEL_OFFLINE")
    assert audmodel.readme(uid) == "# Card"
    (to / "model.yaml").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"'model\.yaml'"):
        put(uid, to)
    put(uid, to, force=True, files="model.yaml")
    assert files(to) == files(model_folder)


# Dry runs --------------------------------------------------------------------


def test_dry_run_says_what_is_in_the_way(uid: str, to: Path) -> None:
    plan = audmodel.plan_load(uid)
    assert audmodel.plan_load(uid, to=str(to)) == plan
    assert not to.exists()
    to.mkdir()
    (to / "model.yaml").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"'model\.yaml'.* Nothing was changed"):
        audmodel.plan_load(uid, to=str(to))
    assert audmodel.plan_load(uid, to=str(to), force=True) == plan
    assert audmodel.plan_load(uid, to=str(to), files="*.onnx").files == 1
    assert files(to) == {"model.yaml": b"mine"}


@pytest.mark.parametrize("kind", ["folder", "parent"])
def test_dry_run_names_what_is_never_replaced(uid: str, to: Path, kind: str) -> None:
    to.mkdir()
    if kind == "folder":
        (to / "model.yaml").mkdir()
    else:
        (to / "log").write_bytes(b"no folder")
    with pytest.raises(FileExistsError, match="Remove or rename it"):
        audmodel.plan_load(uid, to=str(to), force=True)


def test_dry_run_accepts_what_a_load_has_put_there(uid: str, to: Path) -> None:
    put(uid, to)
    (to / "run.sh").chmod(0o644)
    assert audmodel.plan_load(uid, to=str(to)).bytes == 0


def test_dry_run_checks_its_arguments(uid: str, to: Path, cache: Path) -> None:
    cache.mkdir(exist_ok=True)
    for wrong in ({"to": str(cache)}, {"to": ""}, {"force": True}):
        with pytest.raises(InvalidInputError):
            audmodel.plan_load(uid, **wrong)
    with pytest.raises(InvalidInputError, match="folder of one model"):
        audmodel.plan_load([uid], to=str(to))  # type: ignore[call-overload]  # wrong

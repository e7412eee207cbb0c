"""What is in a cache, and what leaves it."""

from __future__ import annotations

import datetime
import math
import os
from pathlib import Path
import shutil
import signal
import time
from typing import Any

import filelock
import pytest

import audmodel
from audmodel.core.cache import eviction
from audmodel.core.cache.tree import Folder
from audmodel.errors import CacheBusyError
from audmodel.errors import CacheError
from audmodel.errors import InvalidInputError
from audmodel.errors import NotCachedError
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.cache.test_cache import KILL
from tests.cache.test_cache import entry_of
from tests.processes import Interpreter
from tests.threads import only_here


@pytest.fixture
def uids(repository: audmodel.Repository, model_folder: Path) -> list[str]:
    return [publish(model_folder, version=f"{n}.0.0") for n in range(1, 4)]


@pytest.fixture
def size(model_folder: Path) -> int:
    return sum(map(len, files(model_folder).values()))


def used(root: str | Path, hours: float) -> None:
    """Let a model have been used some time ago."""
    then = time.time() - hours * 3600
    os.utime(root, (then, then))


def in_cache(**arguments: Any) -> list[str]:
    return [model.uid for model in audmodel.cached(**arguments)]


# Bad input -----------------------------------------------------------------


@pytest.mark.parametrize("uid", [1, None, b"3e120e8d"])
def test_remove_of_another_type(cache: Path, uid: Any) -> None:
    with pytest.raises(TypeError):
        audmodel.remove_cached(uid)


def test_remove_what_is_not_there(uids: list[str], cache: Path) -> None:
    for uid in (uids[0], uids[0].split("-")[0]):
        with pytest.raises(NotCachedError, match=uid) as info:
            audmodel.remove_cached(uid)
        assert str(cache) in str(info.value)
        assert isinstance(info.value, FileNotFoundError)
    with pytest.raises(audmodel.errors.InvalidIdError):
        audmodel.remove_cached("../..")
    with pytest.raises(audmodel.errors.ModelNotFoundError):
        audmodel.remove_cached("alias")


def test_prune_needs_a_limit(cache: Path) -> None:
    with pytest.raises(InvalidInputError, match="'max_age', 'max_size'"):
        audmodel.prune_cache()


@pytest.mark.parametrize(
    "arguments",
    [{"max_age": "1d"}, {"max_age": True}, {"max_size": 1.5}, {"max_size": False}],
)
def test_prune_with_another_type(cache: Path, arguments: Any) -> None:
    with pytest.raises(TypeError, match=next(iter(arguments))):
        audmodel.prune_cache(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_age": -1},
        {"max_age": datetime.timedelta(days=-1)},
        {"max_age": math.inf},
        {"max_age": math.nan},
        {"max_size": -1},
    ],
)
def test_prune_with_a_wrong_value(cache: Path, arguments: Any) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(arguments))):
        audmodel.prune_cache(**arguments)


def test_cache_that_is_no_folder(tmp_path: Path) -> None:
    assert audmodel.cached(cache_root=str(tmp_path / "nowhere")) == []
    (tmp_path / "file").touch()
    for ask in (audmodel.cached, lambda **kw: audmodel.prune_cache(max_age=0, **kw)):
        with pytest.raises(CacheError, match="file"):
            ask(cache_root=str(tmp_path / "file"))


# List ----------------------------------------------------------------------


def test_list(uids: list[str], size: int) -> None:
    before = datetime.datetime.now().astimezone()
    root = audmodel.load(uids[1])
    part = audmodel.load(uids[0], files="readme.txt")
    after = datetime.datetime.now().astimezone()
    first, second = audmodel.cached()
    assert (first.uid, first.path, first.partial) == (uids[0], part, True)
    assert first.size == len(files(part)["readme.txt"])
    assert (second.uid, second.path, second.partial) == (uids[1], root, False)
    assert second.size == size
    for model in (first, second):
        assert not model.unfinished
        assert before <= model.last_used + datetime.timedelta(seconds=1)
        assert model.last_used <= after


def test_part_and_whole_are_listed_once(uids: list[str], size: int) -> None:
    audmodel.load(uids[0], files="model.onnx")
    root = audmodel.load(uids[0])
    (model,) = audmodel.cached()
    assert (model.path, model.size, model.partial) == (root, size, False)


def test_no_bytes_empty_the_cache(
    repository: audmodel.Repository, tmp_path: Path
) -> None:
    root = tmp_path / "model"
    root.mkdir()
    (root / "empty").touch()
    uid = publish(root)
    audmodel.load(uid)
    assert audmodel.prune_cache(max_size=1) == []
    assert [model.uid for model in audmodel.prune_cache(max_size=0)] == [uid]
    assert audmodel.cached() == []


def test_entry_of_the_released_version(
    uids: list[str], released: Interpreter, size: int
) -> None:
    root = released.run("return audmodel.load(args['uid'])", uid=uids[0])
    (model,) = audmodel.cached()
    assert (model.uid, model.path, model.size) == (uids[0], root, size)
    assert [model.uid for model in audmodel.prune_cache(max_size=0)] == [uids[0]]
    assert released.run("return audmodel.load(args['uid'])", uid=uids[0]) == root


def test_first_generation(cache: Path) -> None:
    short = "56bf9221-fa70-62b6-9e7f-baaf7ae94726"
    (cache / short / "1.0.0").mkdir(parents=True)
    (cache / short / "1.0.0" / "file").write_bytes(b"x" * 10)
    (model,) = audmodel.cached()
    assert (model.uid, model.size) == (f"{short}-1.0.0", 10)
    audmodel.remove_cached(f"{short}-1.0.0")
    assert audmodel.cached() == []


def test_what_is_no_model_is_left_alone(cache: Path, tmp_path: Path) -> None:
    names = [
        "3e120e8d/1.0.0-empty",
        "3e120e8d/other/file",
        "3e120e8d/.hidden/file",
        "3e120e8d/.1.0.0+other/file",
        "3e120e8d/1.0.0~other/file",
        "other/1.0.0/file",
        "alias/1.0.0/file",
    ]
    for name in names:
        path = cache / name
        if path.name == "file":
            path.parent.mkdir(parents=True)
            path.write_bytes(b"x")
        else:
            path.mkdir(parents=True)
    (cache / "file").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (cache / "3e120e8d" / "2.0.0").symlink_to(tmp_path / "elsewhere")
    assert audmodel.cached() == []
    assert audmodel.prune_cache(max_age=0, max_size=0) == []
    assert all((cache / name).exists() for name in names)


def test_use_in_a_read_only_cache(
    uids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = audmodel.load(uids[0])
    used(root, hours=5)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    assert audmodel.load(uids[0]) == root


# Remove --------------------------------------------------------------------


@pytest.mark.parametrize("selection", [None, "*"])
def test_model_whose_last_file_was_deleted_is_pruned(
    uids: list[str], selection: str | None
) -> None:
    root = Path(audmodel.load(uids[0], files=selection))
    shutil.rmtree(root)
    root.mkdir()
    (model,) = audmodel.cached()
    assert (model.path, model.size) == (str(root), 0)
    assert audmodel.prune_cache(max_age=0) == [model]
    assert audmodel.cached() == []
    assert not root.exists()


def test_empty_folder_of_unknown_origin_is_no_model(
    uids: list[str], cache: Path
) -> None:
    folder = cache.joinpath(*uids[0].split("-"))
    folder.mkdir(parents=True)
    assert audmodel.cached() == []
    with pytest.raises(NotCachedError):
        audmodel.verify(uids[0])
    assert len(list(Path(audmodel.load(uids[0])).iterdir())) > 0


@pytest.mark.parametrize("selection", [None, "model.onnx"])
def test_remove(uids: list[str], cache: Path, selection: str | None) -> None:
    for uid in uids[:2]:
        root = Path(audmodel.load(uid, files=selection))
        audmodel.header(uid)
        audmodel.meta(uid)
    with open(root / "model.onnx", "rb") as file:
        (removed,) = audmodel.remove_cached(uids[1])
        # Whoever reads is not disturbed
        assert len(file.read()) == 16384
    assert removed.uid == uids[1]
    assert in_cache() == [uids[0]]
    assert not root.exists()
    # The locks stay, since others may wait for them
    left = [path.name for path in root.parent.iterdir() if "2.0.0" in path.name]
    assert sorted(left) == [
        ".2.0.0+files.lock",
        ".2.0.0.header.yaml.lock",
        ".2.0.0.lock",
        ".2.0.0.meta.yaml.lock",
    ]
    assert audmodel.load(uids[1], files=selection) == str(root)


def test_remove_part_and_whole(uids: list[str]) -> None:
    part = audmodel.load(uids[0], files="model.onnx")
    root = audmodel.load(uids[0])
    audmodel.remove_cached(uids[0])
    assert not os.path.exists(part)
    assert not os.path.exists(root)


def test_remove_all_versions(uids: list[str]) -> None:
    for uid in uids:
        audmodel.load(uid)
    removed = audmodel.remove_cached(uids[0].split("-")[0])
    assert [model.uid for model in removed] == uids
    assert in_cache() == []


def test_remove_all_versions_but_not_of_a_longer_id(uids: list[str]) -> None:
    root = Path(audmodel.load(uids[0]))
    # IDs of the first generation begin as others are
    short = uids[0].split("-")[0]
    legacy = f"{short}-4e29-dcd0-4c8b-7e5a51b3c9d0"
    other = root.parent.parent / legacy / "1.0.0"
    shutil.copytree(root, other)
    assert sorted(in_cache()) == sorted([uids[0], f"{legacy}-1.0.0"])
    assert [model.uid for model in audmodel.remove_cached(short)] == [uids[0]]
    assert in_cache() == [f"{legacy}-1.0.0"]
    [removed] = audmodel.remove_cached(legacy)
    assert removed.uid == f"{legacy}-1.0.0"
    assert not other.exists()


def test_remove_by_alias(uids: list[str]) -> None:
    audmodel.set_alias("best", uids[1])
    for uid in uids:
        audmodel.load(uid)
    audmodel.remove_cached("best")
    assert in_cache() == [uids[0], uids[2]]


LOADING = """
    from audmodel.core.backend.reader import FileReader
    original = FileReader.readinto
    def readinto(self, offset, view):
        open(args["ready"], "w").close()
        while not os.path.exists(args["go"]):
            time.sleep(0.01)
        return original(self, offset, view)
    FileReader.readinto = readinto
    return audmodel.load(args["uid"], files=args["files"])
"""


@pytest.mark.parametrize("selection", [None, "model.onnx"])
def test_what_is_being_loaded_stays(
    uids: list[str],
    python: Interpreter,
    tmp_path: Path,
    model_folder: Path,
    selection: str | None,
) -> None:
    audmodel.load(uids[0])
    ready, go = tmp_path / "ready", tmp_path / "go"
    loading = python.start(
        LOADING, uid=uids[1], files=selection, ready=str(ready), go=str(go)
    )
    while not ready.exists():
        assert loading.process.poll() is None
        time.sleep(0.01)
    unfinished = audmodel.cached()[1]
    assert (unfinished.uid, unfinished.partial, unfinished.unfinished) == (
        uids[1],
        True,
        True,
    )
    with pytest.raises(CacheBusyError, match=uids[1]):
        audmodel.remove_cached(uids[1])
    would = audmodel.prune_cache(max_age=0, max_size=0, dry_run=True)
    assert [model.uid for model in would] == [uids[0]]
    removed = audmodel.prune_cache(max_age=0, max_size=0)
    assert [model.uid for model in removed] == [uids[0]]
    go.touch()
    root = Path(loading.result())
    assert (root / "model.onnx").read_bytes() == (
        model_folder / "model.onnx"
    ).read_bytes()


@pytest.mark.parametrize("name", [".1.0.0.lock", ".1.0.0+files.lock"])
def test_removal_waits_for_no_lock(
    uids: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    root = audmodel.load(uids[0])

    def wait(seconds: float) -> None:
        raise AssertionError(f"It waits for {seconds} s.")

    with filelock.FileLock(Path(root).parent / name):
        monkeypatch.setattr(time, "sleep", only_here(time.sleep, wait))
        with pytest.raises(CacheBusyError):
            audmodel.remove_cached(uids[0])
        assert audmodel.prune_cache(max_size=0) == []


@pytest.mark.parametrize("selection", [None, ["model.onnx"]])
def test_what_a_killed_load_left_goes(
    uids: list[str], python: Interpreter, selection: list[str] | None
) -> None:
    process = python.start(KILL, uid=uids[0], reads=0, files=selection)
    process.errors()
    assert process.process.returncode == -signal.SIGKILL
    (left,) = audmodel.cached()
    assert (left.uid, left.unfinished) == (uids[0], True)
    assert [model.uid for model in audmodel.prune_cache(max_age=0)] == [uids[0]]
    assert audmodel.cached() == []
    assert not os.path.exists(left.path)


@pytest.mark.parametrize("age", [0, 24])
def test_attempt_where_locks_do_nothing(
    uids: list[str], monkeypatch: pytest.MonkeyPatch, age: float
) -> None:
    monkeypatch.setattr("fcntl.flock", lambda fd, operation: None)
    entry = entry_of(uids[0])
    staging = Path(entry.whole.stage().path)
    (staging / "file").write_bytes(b"x")
    used(staging / "file", age)
    used(staging, age)
    assert len(audmodel.prune_cache(max_age=0)) == (1 if age else 0)
    assert staging.exists() == (age == 0)


def test_removal_that_ends_early(
    uids: list[str], monkeypatch: pytest.MonkeyPatch, model_folder: Path
) -> None:
    root = audmodel.load(uids[0])
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "remove", lambda self, name: None)
        audmodel.remove_cached(uids[0])
    assert not os.path.exists(root)
    assert [model.unfinished for model in audmodel.cached()] == [True]
    assert files(audmodel.load(uids[0])) == files(model_folder)
    assert [model.unfinished for model in audmodel.cached()] == [False]


def test_cache_that_cannot_be_changed(
    uids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = audmodel.load(uids[0])

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(CacheError, match="Permission denied"):
        audmodel.remove_cached(uids[0])
    assert os.path.exists(root)


CHURN = """
    barrier("start")
    deadline = time.monotonic() + 5
    done = 0
    while time.monotonic() < deadline:
        if args["number"] == 0:
            audmodel.prune_cache(max_size=0)
            continue
        try:
            root = audmodel.load(args["uid"], files=args["patterns"][args["number"]])
            with open(os.path.join(root, "model.onnx"), "rb") as file:
                assert len(file.read()) == 16384
        except FileNotFoundError:
            continue  # it was removed after it was loaded
        done += 1
    return done
"""


@pytest.mark.thorough
def test_prune_while_others_load(uids: list[str], python: Interpreter) -> None:
    patterns = [None, None, None, "model.onnx"]
    results = python.run_many(CHURN, 4, uid=uids[0], patterns=patterns)
    assert all(done > 0 for done in results[1:])


# Prune ---------------------------------------------------------------------


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"max_age": 3 * 3600 - 60}, [0, 1]),
        ({"max_age": datetime.timedelta(hours=3.5)}, [1]),
        ({"max_age": datetime.timedelta(days=1)}, []),
        ({"max_size": 3}, []),
        ({"max_size": 2.5}, [1]),
        ({"max_size": 1}, [0, 1]),
        ({"max_size": 0}, [0, 1, 2]),
        ({"max_size": 2, "max_age": 3600 * 2.5}, [0, 1]),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_prune(
    uids: list[str], size: int, arguments: Any, expected: list[int], dry_run: bool
) -> None:
    for uid, hours in zip(uids, (3, 4, 2), strict=True):
        used(audmodel.load(uid), hours)
    if "max_size" in arguments:
        arguments = {**arguments, "max_size": int(arguments["max_size"] * size)}
    removed = audmodel.prune_cache(dry_run=dry_run, **arguments)
    # Those first that were not used for longest
    order = sorted(expected, key=[1, 0, 2].index)
    assert [model.uid for model in removed] == [uids[n] for n in order]
    left = [uid for n, uid in enumerate(uids) if dry_run or n not in expected]
    assert in_cache() == left


def test_prune_another_cache(uids: list[str], tmp_path: Path) -> None:
    audmodel.load(uids[0])
    audmodel.load(uids[1], cache_root=str(tmp_path / "other"))
    removed = audmodel.prune_cache(max_size=0, cache_root=str(tmp_path / "other"))
    assert [model.uid for model in removed] == [uids[1]]
    assert in_cache() == [uids[0]]


# Clocks and other processes ------------------------------------------------


@pytest.mark.parametrize("limit", ["age", "size"])
def test_use_since_the_cache_was_listed(
    uids: list[str], size: int, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    roots = [audmodel.load(uid) for uid in uids]
    for hours, root in enumerate(roots):
        used(root, hours=10 - hours)
    find = eviction.find

    def late(root: str) -> list[eviction.Found]:
        found = find(root)
        # Another process loads it just now
        os.utime(roots[0])
        return found

    monkeypatch.setattr(eviction, "find", late)
    removed = audmodel.prune_cache(
        max_age=3600 if limit == "age" else None,
        max_size=size if limit == "size" else None,
    )
    assert [model.uid for model in removed] == uids[1:]
    assert in_cache() == [uids[0]]


@pytest.mark.parametrize("wrong", [-(10**8), 10**8])
def test_clock_of_this_machine_does_not_matter(
    uids: list[str], monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    for uid in uids:
        audmodel.load(uid)
    used(Path(audmodel.load(uids[0])), hours=5)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + wrong)
    removed = audmodel.prune_cache(max_age=3600)
    assert [model.uid for model in removed] == uids[:1]
    # A use is noted, and nothing that a process may be at work on is removed
    root = audmodel.load(uids[1])
    used(root, hours=5)
    assert audmodel.load(uids[1]) == root
    assert abs(os.stat(root).st_mtime - now()) < 60


def test_use_in_the_future_counts_as_now(uids: list[str]) -> None:
    roots = [audmodel.load(uid) for uid in uids[:2]]
    used(roots[0], hours=-1000)
    assert audmodel.prune_cache(max_age=3600) == []
    # From then on it grows old like the others
    assert abs(os.stat(roots[0]).st_mtime - time.time()) < 60


@pytest.mark.parametrize("call", ["load", "stream"])
def test_use_of_files_that_appear_in_folders_below_is_noted(
    repository: audmodel.Repository, tmp_path: Path, call: str
) -> None:
    for name in ("a/1", "a/2"):
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    uid = publish(tmp_path / "folder")
    root = audmodel.load(uid, files="a/1")
    used(root, hours=5)
    if call == "load":
        audmodel.load(uid, files="a/2")
    else:
        list(audmodel.stream(uid, files="a/2"))
    assert audmodel.prune_cache(max_age=3600) == []


# What 1.5.3 leaves ---------------------------------------------------------


@pytest.mark.parametrize("how", ["prune", "remove", "load"])
def test_attempt_of_the_released_version(
    uids: list[str], cache: Path, model_folder: Path, fetched: list[int], how: str
) -> None:
    left = cache / uids[0].split("-")[0] / "1.0.0~"
    shutil.copytree(model_folder, left)
    (model,) = audmodel.cached()
    assert (model.uid, model.path, model.unfinished) == (uids[0], str(left), True)
    if how == "prune":
        assert audmodel.prune_cache(max_size=0) == [model]
    elif how == "remove":
        assert audmodel.remove_cached(uids[0]) == [model]
    else:
        assert files(audmodel.load(uids[0])) == files(model_folder)
    assert not left.exists()


def test_attempt_of_the_released_version_that_runs(
    uids: list[str], cache: Path, model_folder: Path
) -> None:
    left = cache / uids[0].split("-")[0] / "1.0.0~"
    shutil.copytree(model_folder, left)
    with filelock.FileLock(left.parent / ".1.0.0.lock"):
        assert audmodel.prune_cache(max_size=0) == []
        with pytest.raises(CacheBusyError):
            audmodel.remove_cached(uids[0])
    assert left.exists()


@pytest.mark.parametrize(("folder_time", "file_time"), [(1000, 2000), (2000, 1000)])
def test_attempt_was_used_when_its_folder_or_a_file_changed(
    tmp_path: Path, folder_time: int, file_time: int
) -> None:
    folder = tmp_path / "12345678" / ".1.0.0~0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"content")
    os.utime(folder / "file", (file_time, file_time))
    os.utime(folder, (folder_time, folder_time))
    [model] = audmodel.cached(cache_root=str(tmp_path))
    assert model.unfinished
    assert model.last_used.timestamp() == 2000


@pytest.mark.parametrize("name", ["1.0.0", ".1.0.0~0123456789abcdef"])
def test_holes_of_unfinished_files_take_no_room(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "12345678" / name
    folder.mkdir(parents=True)
    with (folder / "file").open("wb") as file:
        file.truncate(10**6)
    [model] = audmodel.cached(cache_root=str(tmp_path))
    assert (model.size == 10**6) == (name == "1.0.0")

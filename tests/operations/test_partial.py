"""Some files of a model: what is fetched, where they appear, who sees them."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import random
import shutil
import signal
import textwrap
from typing import Any

import filelock
import pytest

import audmodel
from audmodel.core.backend.reader import TAIL
from audmodel.core.backend.reader import FileReader
from audmodel.core.cache.tree import Folder
from audmodel.errors import FileNotInModelError
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.cache.test_cache import KILL
from tests.cache.test_cache import entry_of
from tests.processes import Interpreter
from tests.users import NOBODY
from tests.users import needs_root


SIZES = {
    "config/a.yaml": 1000,
    "config/sub/b.yaml": 2000,
    "large.bin": 9_000_000,
    "model.onnx": 1_000_000,
    "other.bin": 6_000_000,
    "readme.txt": 100,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "several"
    pattern = random.Random(3)
    for name, size in SIZES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pattern.randbytes(size))
    (root / "model.onnx").chmod(0o755)
    return root


@pytest.fixture(scope="session")
def published() -> dict[str, tuple[str, Path]]:
    """Models that were published once, and the repository that holds each."""
    return {}


@pytest.fixture(params=["2.0", "1.5.3"])
def uid(
    request: pytest.FixtureRequest,
    repository: audmodel.Repository,
    folder: Path,
    published: dict[str, tuple[str, Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """A model in an archive of either release."""
    release: str = request.param
    if release not in published:
        uid = publish(folder) if release == "2.0" else _publish_released(request)
        copy = tmp_path_factory.mktemp("published") / "host"
        published[release] = uid, shutil.copytree(repository.host, copy)
        return uid
    uid, host = published[release]
    shutil.copytree(host, repository.host, dirs_exist_ok=True)
    return uid


def _publish_released(request: pytest.FixtureRequest) -> str:
    released: Interpreter = request.getfixturevalue("released")
    code = """
        return audmodel.publish(
            args["root"], "torch", {"sampling_rate": 16000}, "1.0.0",
            repository=audmodel.config.REPOSITORIES[0],
        )
    """
    return str(released.run(code, root=str(request.getfixturevalue("folder"))))


# Bad input -----------------------------------------------------------------


def test_bad_patterns(repository: audmodel.Repository) -> None:
    others: list[Any] = [1, b"*", [1], {"a": 1}, [None], [b"*"]]
    for bad in others:
        with pytest.raises(TypeError, match="'files'"):
            audmodel.load("00000000-1.0.0", files=bad)
    for bad in ([], "", ["*", ""]):
        with pytest.raises(audmodel.errors.InvalidInputError, match="'files'"):
            audmodel.load("00000000-1.0.0", files=bad)


@pytest.mark.parametrize("state", ["empty", "partial", "complete"])
def test_no_match(uid: str, cache: Path, fetched: list[int], state: str) -> None:
    if state == "partial":
        audmodel.load(uid, files="readme.txt")
    if state == "complete":
        audmodel.load(uid)
    fetched.clear()
    with pytest.raises(FileNotInModelError) as info:
        audmodel.load(uid, files=["*.onnx", "*.pt", "Readme.txt"])
    message = str(info.value)
    for text in ("'*.pt'", "'Readme.txt'", uid, "'model.onnx'", "'config/a.yaml'"):
        assert text in message
    assert "'*.onnx'" not in message
    assert fetched == []
    assert isinstance(info.value, ValueError)
    assert isinstance(info.value, FileNotFoundError)


def test_names_that_look_like_patterns(
    repository: audmodel.Repository, tmp_path: Path
) -> None:
    root = tmp_path / "odd"
    names = ["a/w1.bin", "a/w[1].bin", "a1/x", "a[1]/x", "a[1]/y"]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    uid = publish(root)
    assert [file.path for file in audmodel.files(uid)] == names
    for patterns, expected in (
        (["a/w[1].bin"], ["a/w[1].bin"]),
        (["a/w[12].bin"], ["a/w1.bin"]),
        (["a[1]/"], ["a[1]/x", "a[1]/y"]),
        (["a[12]/"], ["a1/x"]),
    ):
        loaded = audmodel.load(uid, files=patterns, cache_root=str(tmp_path / "c"))
        assert set(expected) <= set(files(loaded))
        plan = audmodel.plan_load(uid, files=patterns, cache_root=str(tmp_path / "d"))
        assert plan.files == len(expected)


def test_long_list_of_files_is_cut(
    repository: audmodel.Repository, tmp_path: Path
) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(1000):
        (root / f"{number:04}").write_bytes(b"")
    with pytest.raises(FileNotInModelError, match=r"'0009', and 990 more\.$"):
        audmodel.load(publish(root), files="x")


def test_unknown_model(repository: audmodel.Repository) -> None:
    with pytest.raises(audmodel.errors.ModelNotFoundError):
        audmodel.load("00000000-1.0.0", files="*")


# Patterns ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("readme.txt", {"readme.txt"}),
        ("*.yaml", {"config/a.yaml", "config/sub/b.yaml"}),
        (["config/*"], {"config/a.yaml", "config/sub/b.yaml"}),
        (["config/"], {"config/a.yaml", "config/sub/b.yaml"}),
        (["config/sub/"], {"config/sub/b.yaml"}),
        (("config/?.yaml", "[rx]*"), {"config/a.yaml", "readme.txt"}),
        (iter(["[!lco]*"]), {"model.onnx", "readme.txt"}),
        (["*"], set(SIZES)),
    ],
)
def test_patterns(
    repository: audmodel.Repository, folder: Path, patterns: Any, expected: set[str]
) -> None:
    root = audmodel.load(publish(folder), files=patterns)
    assert files(root) == {name: files(folder)[name] for name in expected}


# What is fetched -----------------------------------------------------------


@pytest.mark.parametrize("num_workers", [1, 3])
def test_only_what_is_needed(
    uid: str, folder: Path, fetched: list[int], num_workers: int
) -> None:
    root = audmodel.load(uid, files="model.onnx", num_workers=num_workers)
    assert files(root) == {"model.onnx": (folder / "model.onnx").read_bytes()}
    assert sum(fetched) < 1_200_000
    fetched.clear()
    assert audmodel.load(uid, files="model.onnx") == root
    assert audmodel.load(uid, files="model*") == root
    assert fetched == []
    # Others are added
    assert audmodel.load(uid, files=["model.onnx", "config/"]) == root
    assert sorted(files(root)) == ["config/a.yaml", "config/sub/b.yaml", "model.onnx"]
    assert sum(fetched) < 140_000


def test_loaded_files_need_no_repository(
    uid: str, repository: audmodel.Repository
) -> None:
    root = audmodel.load(uid, files=["*.onnx", "config/*"])
    shutil.rmtree(repository.host)
    assert audmodel.load(uid, files="*.onnx") == root
    with pytest.raises(audmodel.errors.RepositoryError):
        audmodel.load(uid, files="readme.txt")


@pytest.mark.parametrize("num_workers", [1, 3])
def test_full_load_does_not_fetch_again(
    uid: str, folder: Path, fetched: list[int], num_workers: int
) -> None:
    partial = audmodel.load(uid, files=["large.bin", "config/*"])
    fetched.clear()
    root = audmodel.load(uid, num_workers=num_workers)
    assert root != partial
    assert files(root) == files(folder)
    assert os.access(os.path.join(root, "model.onnx"), os.X_OK)
    assert sum(fetched) < sum(SIZES.values()) - SIZES["large.bin"] + 200_000
    # Whoever holds the path of the part finds everything where it was,
    # and it takes no room
    assert sorted(files(partial)) == ["config/a.yaml", "config/sub/b.yaml", "large.bin"]
    for name in ("large.bin", "config/a.yaml"):
        assert os.path.samefile(os.path.join(partial, name), os.path.join(root, name))


@needs_root
def test_file_of_another_user_gets_no_second_name(uid: str, folder: Path) -> None:
    """That user can still change it."""
    partial = audmodel.load(uid, files=["large.bin", "readme.txt"])
    theirs = os.path.join(partial, "large.bin")
    os.chown(theirs, NOBODY, NOBODY)
    root = audmodel.load(uid)
    assert files(root) == files(folder)
    assert not os.path.samefile(os.path.join(root, "large.bin"), theirs)
    assert os.path.samefile(
        os.path.join(root, "readme.txt"), os.path.join(partial, "readme.txt")
    )


def test_whole_model_of_the_released_version_is_used(
    uid: str, released: Interpreter, repository: audmodel.Repository
) -> None:
    root = released.run("return audmodel.load(args['uid'])", uid=uid)
    shutil.rmtree(repository.host)
    assert audmodel.load(uid, files=["*.onnx", "config/"]) == root


def test_part_does_not_look_like_a_whole(
    uid: str, folder: Path, released: Interpreter
) -> None:
    partial = audmodel.load(uid, files="readme.txt")
    assert not entry_of(uid).is_complete
    root = released.run("return audmodel.load(args['uid'])", uid=uid)
    assert root != partial
    assert files(root) == files(folder)


def test_damaged_file_is_not_taken_over(uid: str, folder: Path) -> None:
    partial = Path(audmodel.load(uid, files=["large.bin", "readme.txt", "model.onnx"]))
    with open(partial / "large.bin", "r+b") as file:
        file.seek(5_000_000)
        file.write(b"damaged")
    (partial / "readme.txt").write_bytes(b"x" * SIZES["readme.txt"])
    damaged = files(partial)
    root = audmodel.load(uid)
    assert files(root) == files(folder)
    # Who reads the other one does not see it change
    assert files(partial) == damaged


@pytest.mark.parametrize("kind", ["no links", "of somebody else", "vanishes"])
def test_file_that_cannot_be_shared(
    uid: str,
    folder: Path,
    fetched: list[int],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    partial = Path(audmodel.load(uid, files=["large.bin"]))
    fetched.clear()

    def refuse(*args: Any, **kwargs: Any) -> None:
        if kind == "vanishes":
            (partial / "large.bin").unlink()
        raise OSError(1, "Operation not permitted")

    if kind == "of somebody else":
        (partial / "large.bin").chmod(0o444)
    else:
        monkeypatch.setattr(os, "link", refuse)
    root = audmodel.load(uid)
    assert files(root) == files(folder)
    assert os.stat(os.path.join(root, "large.bin")).st_nlink == 1
    if kind != "vanishes":
        assert sum(fetched) < 8_000_000


@pytest.mark.parametrize("content", [b"", b"x" * 10, b"x" * 1000])
def test_damaged_index_is_fetched_again(uid: str, content: bytes) -> None:
    root = audmodel.load(uid, files="readme.txt")
    index = Path(entry_of(uid).index.path)
    original = index.read_bytes()
    index.write_bytes(content)
    assert audmodel.load(uid, files="readme.*") == root
    assert index.read_bytes() == original


# Deleted and published again --------------------------------------------------


def publish_again(repository: audmodel.Repository, root: Path) -> str:
    """Replace the only model, whose files change but keep their size."""
    for path in root.rglob("*"):
        if path.is_file():
            path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    return replace(repository, root)


def replace(repository: audmodel.Repository, root: Path) -> str:
    """Delete the only model, and publish another one with the same ID."""
    shutil.rmtree(Path(repository.host, repository.name))
    Path(repository.host, repository.name).mkdir()
    return publish(root)


@pytest.fixture
def small(repository: audmodel.Repository, tmp_path: Path) -> Path:
    """Folder of small files."""
    root = tmp_path / "small"
    root.mkdir()
    for name in ("a.bin", "b.bin", "c.txt"):
        (root / name).write_bytes(name.encode() * 1000)
    return root


def load_some(uid: str) -> str:
    return audmodel.load(uid, files="*.bin")


def stream_some(uid: str) -> str:
    return os.path.dirname([*audmodel.stream(uid, files="*.bin")][-1])


def stream_all(uid: str) -> str:
    paths = list(audmodel.stream(uid))
    assert all(os.path.exists(path) for path in paths)
    return os.path.dirname(paths[0])


@pytest.mark.parametrize("load", [load_some, stream_some, stream_all])
@pytest.mark.parametrize("meanwhile", ["nothing", "open", "plan", "verify"])
def test_files_of_two_archives_are_not_mixed(
    repository: audmodel.Repository,
    small: Path,
    load: Callable[[str], str],
    meanwhile: str,
) -> None:
    uid = publish(small)
    old = files(small)
    audmodel.load(uid, files="a.bin")
    publish_again(repository, small)
    new = files(small)
    # What is there is used as it is
    assert files(audmodel.load(uid, files="a.*")) == {"a.bin": old["a.bin"]}
    if meanwhile == "open":
        with audmodel.open(uid, "b.bin") as file:
            assert file.read() == new["b.bin"]
    elif meanwhile == "plan":
        assert audmodel.plan_load(uid, files="*.bin").files == 2
    elif meanwhile == "verify":
        assert audmodel.verify(uid, remote=True).ok
    found = files(load(uid))
    assert found == {name: new[name] for name in found}
    assert {"a.bin", "b.bin"} <= set(found)
    partial = files(entry_of(uid).partial.folder.path)
    assert partial == {name: new[name] for name in partial}
    assert audmodel.verify(uid).ok
    assert files(audmodel.load(uid)) == new


def test_files_of_another_archive_do_not_outlive_the_whole_model(
    repository: audmodel.Repository, small: Path
) -> None:
    uid = publish(small)
    audmodel.load(uid, files="a.bin")
    publish_again(repository, small)
    root = audmodel.load(uid)
    assert files(root) == files(small)
    assert audmodel.verify(uid).ok
    shutil.rmtree(root)
    root = audmodel.load(uid, files="*.bin")
    assert files(root) == {name: files(small)[name] for name in ("a.bin", "b.bin")}


def test_links_in_the_cache_are_not_followed(
    uid: str, tmp_path: Path, folder: Path
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    root = Path(audmodel.load(uid, files="readme.txt"))
    (root / "config").symlink_to(victim)
    audmodel.load(uid, files="config/")
    assert list(victim.iterdir()) == []
    assert (root / "config" / "a.yaml").read_bytes() == files(folder)["config/a.yaml"]


@pytest.mark.parametrize("patterns", [None, ["large.bin", "readme.txt"]])
@pytest.mark.parametrize("function", [audmodel.load, audmodel.stream])
def test_what_was_loaded_ends_no_requests(
    uid: str,
    monkeypatch: pytest.MonkeyPatch,
    function: Callable[..., Iterable[str]],
    patterns: list[str] | None,
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(FileReader, "cancel_reads", lambda self: ended.append(1))
    list(function(uid, files=patterns, num_workers=3))
    assert not ended


# Several processes, and processes that end early ------------------------------


def test_killed_load_is_continued(
    repository: audmodel.Repository,
    folder: Path,
    python: Interpreter,
    fetched: list[int],
) -> None:
    uid = publish(folder)
    audmodel.load(uid, files="readme.txt")
    process = python.start(KILL, uid=uid, reads=2, files=["large.bin"])
    process.errors()
    assert process.process.returncode == -signal.SIGKILL
    partial = Path(entry_of(uid).partial.folder.path)
    assert sorted(files(partial)) == ["readme.txt"]
    assert len(list(partial.parent.glob(".1.0.0+files~*"))) == 1
    fetched.clear()
    assert audmodel.load(uid, files="large.bin") == str(partial)
    assert (partial / "large.bin").read_bytes() == (folder / "large.bin").read_bytes()
    assert 0 < sum(fetched) < 5_500_000
    assert not list(partial.parent.glob(".1.0.0*~*"))


def test_killed_full_load_after_a_partial_one(
    repository: audmodel.Repository,
    folder: Path,
    python: Interpreter,
    fetched: list[int],
) -> None:
    uid = publish(folder)
    partial = audmodel.load(uid, files="large.bin")
    python.start(KILL, uid=uid, reads=2).errors()
    fetched.clear()
    root = audmodel.load(uid)
    assert files(root) == files(folder)
    assert list(files(partial)) == ["large.bin"]
    assert sum(fetched) < 7_000_000
    assert not list(Path(root).parent.glob(".1.0.0*~*"))


def test_killed_full_load_waits_for_the_next_one(
    repository: audmodel.Repository,
    folder: Path,
    python: Interpreter,
    fetched: list[int],
) -> None:
    uid = publish(folder)
    python.start(KILL, uid=uid, reads=4).errors()
    parent = Path(entry_of(uid).whole.folder.path).parent
    (left,) = parent.glob(".1.0.0~*")
    for path in [*left.rglob("*"), left]:
        os.utime(path, (0, 0))
    audmodel.load(uid, files="readme.txt")
    assert list(parent.glob(".1.0.0~*"))
    fetched.clear()
    assert files(audmodel.load(uid)) == files(folder)
    assert 0 < sum(fetched) < 8_000_000


TOGETHER = """
    from audmodel.core.backend.filesystem import FileSystem
    class Counting(FileSystem):
        def open_object(self, path, **kwargs):
            with open(args["log"], "a") as file:
                file.write(path + "\\n")
            return super().open_object(path, **kwargs)
    audmodel.Repository.register("file-system", Counting)
    roots = []
    for uid in args["uids"]:
        barrier(uid)
        patterns = args["patterns"][args["number"] % len(args["patterns"])]
        root = audmodel.load(uid, files=patterns, num_workers=1 + args["number"] % 3)
        roots.append(root)
        for name in patterns or args["names"]:
            path, original = os.path.join(root, name), os.path.join(args["root"], name)
            assert open(path, "rb").read() == open(original, "rb").read(), name
    return roots
"""


@pytest.mark.sample(1)
@pytest.mark.parametrize("locks", ["work", "do nothing"])
def test_many_processes(
    repository: audmodel.Repository,
    python: Interpreter,
    folder: Path,
    tmp_path: Path,
    locks: str,
) -> None:
    uids = [publish(folder, version=f"{n}.0.0") for n in range(3)]
    broken = """
        import fcntl
        def flock(fd, operation):
            pass
        fcntl.flock = flock
    """
    code = textwrap.dedent(broken if locks == "do nothing" else "")
    results = python.run_many(
        code + textwrap.dedent(TOGETHER),
        8,
        uids=uids,
        root=str(folder),
        log=str(tmp_path / "log"),
        names=sorted(SIZES),
        patterns=[["large.bin", "readme.txt"], ["config/a.yaml", "large.bin"], None],
    )
    if locks == "work":
        # Each set of files once
        assert len((tmp_path / "log").read_text().splitlines()) <= 3 * len(uids)
    for number, uid in enumerate(uids):
        entry = entry_of(uid)
        places = {result[number] for result in results}
        assert places <= {entry.whole.folder.path, entry.partial.folder.path}
        assert files(entry.whole.folder.path) == files(folder)
        assert not list(Path(entry.whole.folder.path).parent.glob(".*~*"))


def test_folder_is_taken_away(
    uid: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Folder.rename

    def take(self: Folder, name: str, folder: Folder, new_name: str) -> None:
        monkeypatch.setattr(Folder, "rename", rename)
        shutil.rmtree(self.path)
        rename(self, name, folder, new_name)

    monkeypatch.setattr(Folder, "rename", take)
    root = audmodel.load(uid, files="readme.txt")
    assert files(root) == {"readme.txt": files(folder)["readme.txt"]}


def test_timeout(uid: str) -> None:
    with entry_of(uid).partial.lock(timeout=1):
        with pytest.raises(filelock.Timeout, match=r"\.1\.0\.0\+files\.lock"):
            audmodel.load(uid, files="readme.txt", timeout=0.1)
        # The whole model is another matter
        root = audmodel.load(uid, timeout=0.1)
        assert audmodel.load(uid, files="readme.txt", timeout=0.1) == root


def test_part_is_loaded_while_the_whole_is(uid: str) -> None:
    with entry_of(uid).whole.lock(timeout=1):
        assert audmodel.load(uid, files="readme.txt", timeout=0.1)


def test_no_room(
    uid: str, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audmodel.header(uid)
    usage = shutil.disk_usage(cache)
    free = 50_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))
    with pytest.raises(audmodel.errors.DiskFullError):
        audmodel.load(uid, files="model.onnx")
    assert audmodel.load(uid, files="readme.txt")
    # What is there already needs no more room
    free = SIZES["large.bin"]
    audmodel.load(uid, files=["large.bin"])
    free = sum(SIZES.values()) - SIZES["large.bin"]
    assert files(audmodel.load(uid)) == files(folder)


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[None]:
    for root, _, _ in os.walk(path):
        os.chmod(root, 0o555)
    try:
        yield
    finally:
        for root, _, _ in os.walk(path):
            os.chmod(root, 0o755)


def test_read_only_cache(uid: str, cache: Path) -> None:
    root = audmodel.load(uid, files="readme.txt")
    os.utime(root, (0, 0))
    with read_only(cache):
        assert audmodel.load(uid, files="readme.txt") == root
        if os.geteuid():
            with pytest.raises(audmodel.errors.CacheError):
                audmodel.load(uid, files="model.onnx")


# Plans ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uid", "reads"), [("2.0", 6), ("1.5.3", 25)], indirect=["uid"]
)
def test_plan_of_what_was_interrupted(
    uid: str, reads: int, folder: Path, python: Interpreter, fetched: list[int]
) -> None:
    """Files that are right already, parts of them, and those that were not begun."""
    python.start(KILL, uid=uid, reads=reads).errors()
    planned = audmodel.plan_load(uid)
    assert 0 < planned.bytes < sum(SIZES.values())
    before = len(fetched)
    assert files(audmodel.load(uid)) == files(folder)
    # The end of the archive comes with opening it, and is not read again
    assert 0 <= planned.bytes - sum(fetched[before:]) - TAIL < TAIL


def test_plan_of_the_first_publication(
    home: Path, model_folder: Path, tmp_path: Path
) -> None:
    """The embedded repository is made when something is published, not before."""
    audmodel.config.REPOSITORIES = audmodel.config.REPOSITORIES[:1]
    planned = audmodel.plan_publish(str(model_folder), "torch", {}, "1.0.0")
    assert planned.files == 4
    assert list(home.iterdir()) == []
    audmodel.config.REPOSITORIES = [
        audmodel.Repository("nowhere", str(tmp_path), "file-system")
    ]
    with pytest.raises(audmodel.errors.RepositoryNotFoundError):
        audmodel.plan_publish(str(model_folder), "torch", {}, "1.0.0")

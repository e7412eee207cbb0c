"""Files are opened without loading, and used while the rest is loaded."""

from __future__ import annotations

import array
from collections.abc import Callable
import gc
import hashlib
import io
import os
from pathlib import Path
import random
import tempfile
import threading
import time
from typing import Any
import zipfile

import filelock
import pytest

import audmodel
from audmodel.core import disk
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.uid import ModelId
from audmodel.errors import ArchiveError
from audmodel.errors import ArchiveMismatchError
from audmodel.errors import CacheBusyError
from audmodel.errors import FileNotInModelError
from audmodel.errors import ModelNotFoundError
from tests.archive.tools import MIB
from tests.archive.tools import flip
from tests.archive.tools import replace_archive
from tests.archive.tools import repository_files
from tests.archive.tools import worker_threads
from tests.archive.tools import write_old
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.processes import Interpreter


def contents() -> dict[str, bytes]:
    """Files of a model: small and large ones, some of which shrink."""
    pattern = random.Random(3)
    numbers = array.array("f", range(1_500_000))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as inner:
        inner.writestr("first", pattern.randbytes(5 * MIB))
        inner.writestr("second", b"second")
    return {
        "[1]*.bin": b"a name like a pattern",
        "config/a.yaml": b"a: 1\n",
        "config/sub/b.yaml": b"",
        "large.bin": pattern.randbytes(9 * MIB + 1),
        "numbers.npy": numbers.tobytes(),
        "packed.zip": archive.getvalue(),
        "text.txt": b"some words that repeat themselves " * 200_000,
    }


CONTENTS = contents()


def digest(content: bytes) -> str:
    """What stands for large contents, whose differences take long to show."""
    return hashlib.sha256(content).hexdigest()


def digests(found: dict[str, bytes]) -> dict[str, str]:
    return {name: digest(content) for name, content in found.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "several"
    for name, content in CONTENTS.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


@pytest.fixture
def uid(repository: audmodel.Repository, folder: Path) -> str:
    return publish(folder)


@pytest.fixture(params=["2.0", "1.5.3"])
def any_uid(
    request: pytest.FixtureRequest, repository: audmodel.Repository, uid: str
) -> str:
    """A model in an archive with and without an index."""
    if request.param == "1.5.3":
        replace_archive(repository, write_old(CONTENTS))
    return uid


def damage(repository: audmodel.Repository, content: bytes) -> None:
    """Damage a file that is stored in the only archive."""
    path = repository_files(repository)[".zip"]
    data = path.read_bytes()
    path.write_bytes(flip(data, data.index(content[:100])))


def no_repository(call: Callable[[], Any]) -> Any:
    """Do something that must not need a repository."""
    repositories, audmodel.config.REPOSITORIES = audmodel.config.REPOSITORIES, []
    try:
        return call()
    finally:
        audmodel.config.REPOSITORIES = repositories


# Bad input ------------------------------------------------------------------------


@pytest.mark.sample(5)
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    "file",
    [
        "",
        "missing.bin",
        "config",
        "config/",
        "config/sub",
        "large.bin/x",
        "LARGE.BIN",
        "../2.0.0/model",
        "/etc/passwd",
        "./large.bin",
        "config//a.yaml",
        "config\\a.yaml",
        "nul\0",
        "*.bin",
    ],
)
def test_files_that_a_model_has_not(uid: str, file: str, cached: bool) -> None:
    if cached:
        audmodel.load(uid)
    with pytest.raises(FileNotInModelError, match=f"model '{uid}' has no file"):
        audmodel.open(uid, file)
    with pytest.raises(FileNotFoundError):
        audmodel.open(uid, file)


def test_error_lists_files(uid: str) -> None:
    with pytest.raises(FileNotInModelError, match=r"It has: .*'large\.bin'"):
        audmodel.open(uid, "large")


@pytest.mark.parametrize("file", [None, 1, b"large.bin", ["large.bin"], Path("x")])
def test_files_that_are_no_strings(uid: str, file: Any) -> None:
    with pytest.raises(TypeError, match="'file' has to be a string"):
        audmodel.open(uid, file)


@pytest.mark.parametrize("number", [0, -1, 1.5, "1", True])
def test_bad_numbers(uid: str, number: Any) -> None:
    with pytest.raises(ValueError, match="num_workers"):
        audmodel.open(uid, "large.bin", num_workers=number)
    with pytest.raises(ValueError, match="num_workers"):
        audmodel.stream(uid, num_workers=number)
    with pytest.raises(ValueError, match="'ahead' has to be a positive integer"):
        audmodel.stream(uid, ahead=number)


def test_unknown_models(repository: audmodel.Repository) -> None:
    for name in "00000000-1.0.0", "00000000", "no-such-alias":
        with pytest.raises(ModelNotFoundError):
            audmodel.open(name, "x")
        # Not only when the first file is asked for
        with pytest.raises(ModelNotFoundError):
            audmodel.stream(name)
    for bad in None, 1:
        with pytest.raises(TypeError):
            audmodel.open(bad, "x")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            audmodel.stream(bad)  # type: ignore[arg-type]


def test_bad_patterns(uid: str) -> None:
    for pattern in [], [""], 1, [1]:
        with pytest.raises((TypeError, ValueError)):
            audmodel.stream(uid, files=pattern)  # type: ignore[arg-type]
    with pytest.raises(FileNotInModelError, match=r"matches 'x\.\*'"):
        list(audmodel.stream(uid, files=["*.npy", "x.*"]))


# Open -----------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [1, 4])
def test_all_files_are_what_was_published(any_uid: str, num_workers: int) -> None:
    for name, content in CONTENTS.items():
        with audmodel.open(any_uid, name, num_workers=num_workers) as file:
            assert file.size == len(content)
            assert os.path.basename(name) in str(file.name)
            assert digest(file.read()) == digest(content)
            assert file.read() == b""
            assert file.seek(len(content) // 2) == len(content) // 2
            assert file.read(3) == content[len(content) // 2 :][:3]
    assert worker_threads() == []
    # Nobody takes any of this for the model
    assert not CacheEntry(
        audmodel.default_cache_root(), ModelId(*any_uid.split("-"))
    ).is_complete


def test_libraries_read_from_it(any_uid: str) -> None:
    with audmodel.open(any_uid, "numbers.npy", num_workers=2) as file:
        numbers = array.array("f")
        numbers.fromfile(file, 1_500_000)
        assert numbers[1_400_000] == 1_400_000
    with (
        audmodel.open(any_uid, "packed.zip") as file,
        zipfile.ZipFile(file) as archive,
    ):
        assert archive.read("second") == b"second"
        assert archive.testzip() is None


def test_only_parts_that_are_read_are_fetched(uid: str, fetched: list[int]) -> None:
    with audmodel.open(uid, "large.bin", num_workers=4) as file:
        fetched.clear()
        file.seek(5 * MIB)
        content = CONTENTS["large.bin"][5 * MIB :][:MIB]
        assert digest(file.read(MIB)) == digest(content)
    assert len(fetched) == 1
    assert sum(fetched) <= 4 * MIB


def test_cached_files_are_opened_in_the_cache(uid: str, fetched: list[int]) -> None:
    root = audmodel.load(uid)
    fetched.clear()

    def read() -> None:
        with audmodel.open(uid, "large.bin") as file:
            assert file.name == os.path.join(root, "large.bin")
            assert file.size == len(CONTENTS["large.bin"])
            assert digest(file.read()) == digest(CONTENTS["large.bin"])
            assert file.seek(-1, os.SEEK_END)
            assert file.fileno() > 0

    no_repository(read)
    assert fetched == []


def test_files_of_a_partial_load_are_opened_in_the_cache(uid: str) -> None:
    root = audmodel.load(uid, files="text.txt")

    def read() -> None:
        with audmodel.open(uid, "text.txt") as file:
            assert file.name == os.path.join(root, "text.txt")
            assert digest(file.read()) == digest(CONTENTS["text.txt"])

    no_repository(read)
    with audmodel.open(uid, "config/a.yaml") as file:
        assert file.read() == b"a: 1\n"


def test_large_file_without_index_is_loaded(
    repository: audmodel.Repository, uid: str, fetched: list[int]
) -> None:
    replace_archive(repository, write_old(CONTENTS))
    fetched.clear()
    with audmodel.open(uid, "large.bin") as file:
        assert digest(file.read()) == digest(CONTENTS["large.bin"])
        root = os.path.dirname(file.name)
    assert sum(fetched) < 10 * MIB
    assert digests(files(root)) == digests({"large.bin": CONTENTS["large.bin"]})
    count = len(fetched)
    with audmodel.open(uid, "large.bin") as file:
        assert file.read(10) == CONTENTS["large.bin"][:10]
    assert len(fetched) == count


@pytest.mark.parametrize("num_workers", [1, 4])
def test_damaged_part_names_model_file_and_part(
    repository: audmodel.Repository, uid: str, num_workers: int
) -> None:
    content = CONTENTS["large.bin"]
    damage(repository, content[5 * MIB :])
    with audmodel.open(uid, "large.bin", num_workers=num_workers) as file:
        assert digest(file.read(4 * MIB)) == digest(content[: 4 * MIB])
        match = rf"model '{uid}' at '.*\.zip' cannot be used: part 1 of the file 'large"
        with pytest.raises(ArchiveError, match=match):
            file.read(10)
        file.seek(8 * MIB)
        assert digest(file.read()) == digest(content[8 * MIB :])
    assert worker_threads() == []


def test_damaged_file_without_index(repository: audmodel.Repository, uid: str) -> None:
    content = CONTENTS["large.bin"]
    data = write_old(CONTENTS, zipfile.ZIP_STORED)
    replace_archive(repository, flip(data, data.index(content[:100])))
    with pytest.raises(ArchiveError, match=r"the file 'large\.bin'.*CRC-32"):
        audmodel.open(uid, "large.bin")


def test_archive_that_is_not_the_published_one(
    repository: audmodel.Repository, uid: str
) -> None:
    path = repository_files(repository)[".zip"]
    path.write_bytes(write_old(CONTENTS))
    with pytest.raises(ArchiveMismatchError, match=uid):
        audmodel.open(uid, "config/a.yaml")
    path.unlink()
    with pytest.raises(ArchiveError, match="it does not exist"):
        audmodel.open(uid, "config/a.yaml")


def test_closed_file(uid: str) -> None:
    for _ in range(2):
        file = audmodel.open(uid, "large.bin", num_workers=2)
        file.read(1)
        file.close()
        file.close()
        assert file.closed
        with pytest.raises(ValueError, match="closed"):
            file.read(1)
        audmodel.load(uid)


def test_open_files_survive_that_the_model_is_loaded(uid: str) -> None:
    with audmodel.open(uid, "large.bin") as file:
        assert file.read(10) == CONTENTS["large.bin"][:10]
        audmodel.load(uid)
        assert digest(file.read()) == digest(CONTENTS["large.bin"][10:])


# Stream ---------------------------------------------------------------------------


def entry_of(uid: str) -> CacheEntry:
    return CacheEntry(audmodel.default_cache_root(), ModelId(*uid.split("-")))


def names_of(paths: list[str], uid: str) -> list[str]:
    """Names of files that are there, whatever folder they are in."""
    entry = entry_of(uid)
    found = []
    for path in paths:
        folder = next(
            folder
            for folder in (entry.whole.folder.path, entry.partial.folder.path)
            if path.startswith(folder + "/")
        )
        name = os.path.relpath(path, folder)
        assert digest(Path(path).read_bytes()) == digest(CONTENTS[name])
        found.append(name)
    return found


@pytest.mark.sample(2)
@pytest.mark.parametrize("num_workers", [1, 4])
@pytest.mark.parametrize("ahead", [1, 3, 64])
def test_all_files_come_in_order_and_stay(
    any_uid: str, num_workers: int, ahead: int, fetched: list[int]
) -> None:
    paths = []
    for path in audmodel.stream(any_uid, num_workers=num_workers, ahead=ahead):
        assert names_of([path], any_uid)
        assert not entry_of(any_uid).is_complete
        paths.append(path)
    assert names_of(paths, any_uid) == list(CONTENTS)
    count = len(fetched)
    root = no_repository(lambda: audmodel.load(any_uid))
    assert digests(files(root)) == digests(CONTENTS)
    # No room is taken twice, and nothing was fetched twice
    assert all(os.stat(path).st_nlink == 2 for path in paths)
    assert sum(fetched) < sum(map(len, CONTENTS.values())) + 2 * MIB
    # Paths come at once from now on
    again = no_repository(lambda: list(audmodel.stream(any_uid)))
    assert names_of(again, any_uid) == list(CONTENTS)
    assert len(fetched) == count
    assert worker_threads() == []
    assert list(Path(entry_of(any_uid).whole.folder.path).parent.glob("*~*")) == []


def test_order_of_a_cached_model_without_its_directory(uid: str) -> None:
    audmodel.load(uid)
    os.unlink(entry_of(uid).index.path)
    assert names_of(list(audmodel.stream(uid)), uid) == sorted(CONTENTS)


def test_some_files(any_uid: str, fetched: list[int]) -> None:
    patterns = ["*.yaml", "numbers.npy"]
    expected = ["config/a.yaml", "config/sub/b.yaml", "numbers.npy"]
    for _ in range(2):
        paths = list(audmodel.stream(any_uid, files=patterns, num_workers=2))
        assert names_of(paths, any_uid) == expected
        assert not entry_of(any_uid).is_complete
    assert sum(fetched) < 8 * MIB
    audmodel.load(any_uid)
    assert names_of(list(audmodel.stream(any_uid, files=patterns)), any_uid) == expected


def test_partial_loads_are_taken_over(uid: str, fetched: list[int]) -> None:
    audmodel.load(uid, files="large.bin")
    fetched.clear()
    assert names_of(list(audmodel.stream(uid)), uid) == list(CONTENTS)
    assert sum(fetched) < sum(map(len, CONTENTS.values())) - 8 * MIB
    assert entry_of(uid).is_complete


def test_damage_in_a_partial_load_does_not_get_into_the_model(uid: str) -> None:
    root = audmodel.load(uid, files="large.bin")
    path = Path(root, "large.bin")
    path.write_bytes(flip(path.read_bytes(), 7))
    for _ in audmodel.stream(uid):
        pass
    assert digests(files(audmodel.load(uid))) == digests(CONTENTS)


@pytest.fixture
def many(repository: audmodel.Repository, tmp_path: Path) -> str:
    """A model of 100 small files."""
    root = tmp_path / "many"
    root.mkdir()
    for number in range(100):
        (root / f"{number:03}").write_bytes(random.Random(number).randbytes(20_000))
    return publish(root)


@pytest.mark.sample(2)
@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize("ahead", [1, 5, 12])
def test_no_more_files_are_begun_than_allowed(
    many: str, num_workers: int, ahead: int
) -> None:
    entry = entry_of(many)
    most = 0
    for number, _ in enumerate(
        audmodel.stream(many, num_workers=num_workers, ahead=ahead)
    ):
        if number % 10 == 5:
            time.sleep(0.05)
        begun = [
            path
            for path in Path(entry.whole.folder.path).parent.rglob("*")
            if path.name.isdigit() and "+files~" in str(path)
        ]
        most = max(most, len(begun))
    assert most <= ahead
    assert number == 99


@pytest.mark.parametrize("is_shared", [False, True])
def test_small_files_are_written_at_once_where_that_takes_time(
    many: str, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a network share, while on a local disk threads would only fight."""
    monkeypatch.setattr(disk, "is_shared", lambda path: is_shared)
    open_file, close_file = os.open, os.close
    most, at_once = 0, set()

    def slow_open(path: str, flags: int, mode: int = 0o777, **more: Any) -> int:
        nonlocal most
        if flags & os.O_CREAT and threading.current_thread().name in worker_threads():
            at_once.add(threading.get_ident())
            most = max(most, len(at_once))
            time.sleep(0.001)
        return open_file(path, flags, mode, **more)

    def close(fd: int) -> None:
        at_once.discard(threading.get_ident())
        close_file(fd)

    with monkeypatch.context() as patch:
        patch.setattr("os.open", slow_open)
        patch.setattr("os.close", close)
        # Each request brings 50 files
        paths = list(audmodel.stream(many, num_workers=2, ahead=200))
    assert len(paths) == 100
    assert most == (2 if is_shared else 1)


@pytest.mark.sample(3)
@pytest.mark.parametrize("num_workers", [1, 4])
@pytest.mark.parametrize("stop", ["break", "close", "error", "forget"])
def test_consumers_that_stop_early(
    many: str, num_workers: int, stop: str, fetched: list[int]
) -> None:
    iterator = audmodel.stream(many, num_workers=num_workers, ahead=4)
    seen = [next(iterator) for _ in range(10)]
    if stop == "close":
        iterator.close()
    elif stop == "error":
        with pytest.raises(KeyError):
            iterator.throw(KeyError("x"))
    elif stop == "break":
        for path in iterator:
            seen.append(path)
            break
    del iterator
    gc.collect()
    assert worker_threads() == []
    assert all(os.path.exists(path) for path in seen)
    assert not entry_of(many).is_complete
    count = len(fetched)
    time.sleep(0.05)
    assert len(fetched) == count < 30
    # Nobody is kept waiting, and nothing that is there is fetched again
    fetched.clear()
    assert len(list(audmodel.stream(many, timeout=0))) == 100
    assert sum(fetched) <= 90 * 21_000
    assert entry_of(many).is_complete


def test_iterator_that_is_never_asked(many: str, fetched: list[int]) -> None:
    audmodel.stream(many, num_workers=4)
    assert fetched == []
    assert len(list(audmodel.stream(many, timeout=0))) == 100


def test_iterator_that_another_thread_closes(many: str) -> None:
    iterator = audmodel.stream(many, num_workers=2)
    next(iterator)
    thread = threading.Thread(target=iterator.close)
    thread.start()
    thread.join()
    assert worker_threads() == []
    assert len(list(audmodel.stream(many, timeout=0))) == 100


def test_two_at_the_same_time(many: str) -> None:
    first = audmodel.stream(many)
    next(first)
    # Nobody waits for himself
    assert len(list(audmodel.stream(many, files="00*", timeout=0))) == 10
    # Who wants the whole model does not wait for the consumer
    root = audmodel.load(many, timeout=0)
    assert len(list(first)) == 99
    assert len(files(root)) == 100


def test_who_streams_does_not_wait_for_himself(many: str, python: Interpreter) -> None:
    """Whatever is loaded while a file is used."""
    names = sorted(f"{number:03}" for number in range(100))
    found: list[str] = []

    def elsewhere() -> None:
        root = audmodel.load(many, files=names[60], timeout=30)
        found.append(os.path.join(root, names[60]))

    for index, path in enumerate(audmodel.stream(many, ahead=4, num_workers=2)):
        assert os.path.exists(path)
        if index == 1:
            root = audmodel.load(many, files=names[50], timeout=0)
            found.append(os.path.join(root, names[50]))
            [damaged] = [f for f in audmodel.files(many) if f.path == names[0]]
            Path(root, names[0]).write_bytes(b"x" * damaged.size)
            assert audmodel.verify(many, repair=True, timeout=30).ok
        elif index == 2:
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
        elif index == 3:
            # Others stay away, and nobody removes what is in use
            code = "audmodel.load(args['uid'], files='*', timeout=0)"
            with pytest.raises(AssertionError, match="LockTimeoutError"):
                python.run(code, uid=many)
            with pytest.raises(CacheBusyError):
                audmodel.remove_cached(many)
        elif index == 4:
            assert len(list(audmodel.stream(many, timeout=0))) == 100
        elif index == 5:
            found.append(os.path.join(audmodel.load(many, timeout=30), names[70]))
    assert all(os.path.exists(path) for path in found)
    assert audmodel.verify(many).ok
    assert len(found) == 3
    # No lock can be entered again
    with (
        entry_of(many).partial.lock(timeout=0),
        pytest.raises(filelock.Timeout),
        entry_of(many).partial.lock(timeout=0.1),
    ):
        pass


@pytest.mark.usefixtures("unmeasured")
def test_a_fork_reads_on_in_an_open_file(
    repository: audmodel.Repository, tmp_path: Path, python: Interpreter
) -> None:
    """It does not wait for threads of its parent, which it does not have."""
    root = tmp_path / "large"
    root.mkdir()
    content = random.Random(1).randbytes(40 << 20)
    (root / "weights").write_bytes(content)
    uid = publish(root)
    code = """
    import signal, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    with open(args["path"], "rb") as file:
        content = file.read()
    with audmodel.open(args["uid"], "weights", num_workers=2) as file:
        assert b"".join(file.read(1 << 20) for _ in range(14)) == content[: 14 << 20]
        pid = os.fork()
        if not pid:
            signal.alarm(20)
            is_right = file.read() == content[14 << 20 :]
            file.close()
            os._exit(0 if is_right else 1)
        status = os.waitpid(pid, 0)[1]
        return [status, file.read() == content[14 << 20 :]]
    """
    found = python.run(code, uid=uid, path=str(root / "weights"))
    assert found == [0, True]


@pytest.mark.usefixtures("unmeasured")
def test_a_fork_waits_for_the_stream_of_its_parent(
    many: str, python: Interpreter
) -> None:
    code = """
    import warnings
    paths = audmodel.stream(args["uid"])
    next(paths)
    pid = os.fork()
    if not pid:
        try:
            audmodel.load(args["uid"], files="*", timeout=0.1)
        except audmodel.errors.LockTimeoutError:
            os._exit(7)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    """
    assert python.run(code, uid=many) == 7


@pytest.mark.usefixtures("unmeasured")
def test_a_stream_does_not_go_on_in_a_fork(many: str, python: Interpreter) -> None:
    """It would wait for threads of its parent, which it does not have."""
    code = """
    import signal, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    paths = audmodel.stream(args["uid"], num_workers=2)
    next(paths)
    pid = os.fork()
    if not pid:
        signal.alarm(20)
        try:
            list(paths)
        except RuntimeError as error:
            os._exit(7 if "is a fork" in str(error) else 1)
        os._exit(0)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), len(list(paths))]
    """
    assert python.run(code, uid=many) == [7, 99]


def test_threads_that_stream_the_same(many: str) -> None:
    counts: list[int] = []

    def run() -> None:
        counts.append(len(list(audmodel.stream(many, num_workers=2))))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [100] * 4


def test_damaged_archive(repository: audmodel.Repository, uid: str) -> None:
    damage(repository, CONTENTS["large.bin"][5 * MIB :])
    paths = audmodel.stream(uid, num_workers=4)
    seen = [next(paths) for _ in range(3)]
    match = rf"model '{uid}' at .* part 1 of the file 'large\.bin'"
    with pytest.raises(ArchiveError, match=match):
        next(paths)
    assert names_of(seen, uid) == list(CONTENTS)[:3]
    assert not entry_of(uid).is_complete
    assert not os.path.exists(
        os.path.join(entry_of(uid).partial.folder.path, "large.bin")
    )
    assert worker_threads() == []


def test_file_system_without_links(uid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    paths = list(audmodel.stream(uid, num_workers=2))
    assert names_of(paths, uid) == list(CONTENTS)
    assert digests(files(audmodel.load(uid))) == digests(CONTENTS)


def test_folder_that_is_taken_away(many: str) -> None:
    iterator = audmodel.stream(many, ahead=4, num_workers=2)
    seen = [next(iterator)]
    parent = Path(entry_of(many).whole.folder.path).parent
    [staging] = parent.glob(".*+files~*")
    with tempfile.TemporaryDirectory() as elsewhere:
        staging.rename(Path(elsewhere, "staging"))
        seen += list(iterator)
    assert len(seen) == len(set(seen)) == 100
    assert len(files(audmodel.load(many))) == 100


def test_progress(uid: str, capsys: pytest.CaptureFixture[str]) -> None:
    list(audmodel.stream(uid, verbose=True))
    assert f"Stream {uid}" in capsys.readouterr().err

"""Files of models are files of fsspec."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
import csv
import errno
import importlib.metadata
import json
import multiprocessing
from pathlib import Path
import pickle
import random
import subprocess
import sys
from typing import Any

import fsspec
import pytest

import audmodel
from audmodel.errors import CacheError
from audmodel.errors import FileNotInModelError
from audmodel.errors import InvalidIdError
from audmodel.errors import ModelNotFoundError
from audmodel.fs import ModelFileSystem
from tests.archive.tools import MIB
from tests.archive.tools import worker_threads


LABELS = [["name", "label"], ["a.wav", "happy"], ["ä.wav", "calm"]]
NUMBERS = random.Random(0).randbytes(12 * MIB)


@pytest.fixture
def uid(repository: audmodel.Repository, tmp_path: Path) -> str:
    root = tmp_path / "model"
    (root / "data" / "more").mkdir(parents=True)
    (root / "config.json").write_text('{"layers": 20}')
    with (root / "data" / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(LABELS)
    (root / "data" / "more" / "numbers.bin").write_bytes(NUMBERS)
    uid = audmodel.publish(str(root), "torch", {}, "1.0.0")
    audmodel.set_alias("best", uid)
    return uid


@pytest.fixture
def fs(uid: str) -> ModelFileSystem:
    return ModelFileSystem(num_workers=2)


# Entry point ---------------------------------------------------------------


def test_the_installed_package_names_it() -> None:
    (entry,) = importlib.metadata.entry_points(group="fsspec.specs", name="audmodel")
    assert entry.load() is ModelFileSystem
    assert entry.dist is not None
    assert entry.dist.name == "audmodel"


def test_fsspec_imports_it_when_it_is_needed() -> None:
    code = "import fsspec; print(fsspec.get_filesystem_class('audmodel').__module__)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "audmodel.fs"


# Read ----------------------------------------------------------------------


@pytest.mark.parametrize("given", ["ID", "ID without version", "alias"])
def test_json_and_csv_are_read(uid: str, given: str) -> None:
    short = uid.partition("-")[0]
    model = {"ID": uid, "ID without version": short, "alias": "best"}[given]
    with fsspec.open(f"audmodel://{model}/config.json") as file:
        assert json.load(file) == {"layers": 20}
    path = f"audmodel://{model}/data/labels.csv"
    with fsspec.open(path, "r", encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == LABELS


def test_options_are_those_of_storage(
    uid: str, repository: audmodel.Repository, tmp_path: Path
) -> None:
    audmodel.config.REPOSITORIES = []
    with pytest.raises(ModelNotFoundError):
        fsspec.filesystem("audmodel").cat_file(f"{uid}/config.json")
    path = f"audmodel://{uid}/config.json"
    before = sorted((tmp_path / "cache").rglob("*"))
    options = {
        "repository": repository,
        "cache_root": str(tmp_path / "other"),
        "num_workers": None,
        "timeout": 1,
    }
    with fsspec.open(path, **options) as file:
        assert json.load(file) == {"layers": 20}
    assert list((tmp_path / "other").iterdir()) != []
    assert sorted((tmp_path / "cache").rglob("*")) == before


def test_only_what_is_read_is_fetched(
    fs: ModelFileSystem, uid: str, fetched: list[int]
) -> None:
    with fs.open(f"{uid}/data/more/numbers.bin") as file:
        fetched.clear()
        file.seek(5 * MIB)
        assert file.read(4) == NUMBERS[5 * MIB : 5 * MIB + 4]
        assert len(fetched) == 1
    assert audmodel.cached() == []


def test_files_in_the_cache_are_read_there(
    fs: ModelFileSystem, uid: str, fetched: list[int], tmp_path: Path
) -> None:
    audmodel.load(uid)
    fetched.clear()
    (tmp_path / "host").rename(tmp_path / "away")
    assert fs.cat_file(f"{uid}/data/more/numbers.bin") == NUMBERS
    assert fs.info(f"{uid}/config.json")["size"] == 14
    assert fetched == []


@pytest.mark.parametrize(
    ("start", "end"),
    [(None, None), (3, 7), (-4, None), (None, -5), (7, 3), (9, 10**9), (10**9, None)],
)
def test_positions_are_those_of_slices(
    fs: ModelFileSystem, uid: str, start: int | None, end: int | None
) -> None:
    path = f"audmodel://{uid}/data/more/numbers.bin"
    assert fs.cat_file(path, start, end) == NUMBERS[start:end]
    assert fs.cat_ranges([path], start, end) == [NUMBERS[start:end]]


@pytest.mark.parametrize("num_workers", [1, 3, 16])
def test_ranges_come_in_the_order_they_were_asked_for(
    uid: str, num_workers: int
) -> None:
    fs = ModelFileSystem(num_workers=num_workers)
    numbers, config = f"{uid}/data/more/numbers.bin", f"{uid}/config.json"
    found = fs.cat_ranges(
        [numbers, config, f"{uid}/none", numbers, numbers],
        [9 * MIB, 0, 0, 3, 9 * MIB],
        [9 * MIB + 5, 9, 1, None, 9 * MIB + 5],
    )
    assert found[:2] == [NUMBERS[9 * MIB :][:5], b'{"layers"']
    assert isinstance(found[2], FileNotFoundError)
    assert found[3:] == [NUMBERS[3:], NUMBERS[9 * MIB :][:5]]
    assert fs.cat_ranges([], [], []) == []
    assert worker_threads() == []


def test_first_error_of_ranges_is_raised_if_wanted(
    fs: ModelFileSystem, uid: str
) -> None:
    paths = [f"{uid}/none", *([f"{uid}/config.json"] * 5)]
    with pytest.raises(FileNotInModelError, match="none"):
        fs.cat_ranges(paths, 0, 1, on_error="raise")
    assert worker_threads() == []


def test_lists_of_different_lengths_are_refused(fs: ModelFileSystem, uid: str) -> None:
    with pytest.raises(ValueError, match="shorter"):
        fs.cat_ranges([f"{uid}/config.json"], [], [])
    with pytest.raises(TypeError, match="list"):
        fs.cat_ranges(f"{uid}/config.json", [0], [1])  # type: ignore[arg-type]  # wrong


# List ----------------------------------------------------------------------


def test_folders_are_listed(fs: ModelFileSystem, uid: str) -> None:
    assert fs.ls("", detail=False) == [uid]
    assert fs.ls(f"audmodel://{uid}", detail=False) == [
        f"{uid}/config.json",
        f"{uid}/data",
    ]
    assert fs.ls(f"{uid}/data/", detail=False) == [
        f"{uid}/data/labels.csv",
        f"{uid}/data/more",
    ]
    assert fs.ls("best/config.json") == [
        {"name": "best/config.json", "size": 14, "type": "file", "model": uid}
    ]
    assert fs.info(f"{uid}/data/more")["type"] == "directory"
    assert fs.find("best") == [
        "best/config.json",
        "best/data/labels.csv",
        "best/data/more/numbers.bin",
    ]
    assert fs.glob(f"{uid}/data/*.csv") == [f"{uid}/data/labels.csv"]
    assert fs.glob(f"{uid}/**/*.bin") == [f"{uid}/data/more/numbers.bin"]
    assert fs.glob(f"{uid}/none/*") == []


def test_names_that_do_not_exist(fs: ModelFileSystem, uid: str) -> None:
    assert fs.exists(uid)
    assert fs.isdir(f"{uid}/data")
    assert fs.isfile(f"{uid}/config.json")
    for path in (f"{uid}/none", f"{uid}/dat", "none/config.json", "no alias!/a"):
        assert not fs.exists(path)
        assert not fs.isdir(path)
        assert not fs.isfile(path)


def test_moved_alias_is_another_file_for_caches(
    fs: ModelFileSystem, uid: str, tmp_path: Path
) -> None:
    before = fs.ukey("best/config.json")
    (tmp_path / "model" / "config.json").write_text('{"layers": 21}')
    other = audmodel.publish(str(tmp_path / "model"), "torch", {}, "2.0.0")
    audmodel.set_alias("best", other)
    assert fs.ukey("best/config.json") != before
    assert json.loads(fs.cat_file("best/config.json")) == {"layers": 21}


def test_files_are_downloaded(fs: ModelFileSystem, uid: str, tmp_path: Path) -> None:
    fs.get(f"{uid}/data", str(tmp_path / "copy"), recursive=True)
    assert (tmp_path / "copy" / "more" / "numbers.bin").read_bytes() == NUMBERS
    assert (tmp_path / "copy" / "labels.csv").exists()


# Errors --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none", "data/none", "data", "", "../config.json"])
def test_missing_file_is_the_usual_error(
    fs: ModelFileSystem, uid: str, name: str
) -> None:
    with pytest.raises(FileNotFoundError, match=uid):
        fs.open(f"{uid}/{name}")


def test_missing_folder_is_the_usual_error(fs: ModelFileSystem, uid: str) -> None:
    for look in (fs.info, fs.ls):
        with pytest.raises(FileNotFoundError, match="no file or folder 'none'"):
            look(f"{uid}/none")


def test_missing_model_is_an_error_of_its_own(fs: ModelFileSystem) -> None:
    for look in (fs.open, fs.info, fs.ls, fs.find, fs.cat_file):
        with pytest.raises(ModelNotFoundError, match="unknown"):
            look("unknown/config.json")
        with pytest.raises(InvalidIdError, match="no alias!"):
            look("no alias!/config.json")


def test_cache_that_cannot_be_used_is_not_an_empty_folder(
    fs: ModelFileSystem, uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise CacheError("The disk is broken.")

    monkeypatch.setattr(audmodel, "files", fail)
    for look in (fs.find, fs.exists, fs.isdir, fs.isfile):
        with pytest.raises(CacheError, match="broken"):
            look(uid)
    with pytest.raises(CacheError, match="broken"):
        list(fs.walk(uid))
    with pytest.raises(CacheError, match="broken"):
        fs.glob(f"{uid}/*")


def test_wrong_options_are_refused() -> None:
    with pytest.raises(TypeError, match=r"no option 'num_worker'.*num_workers"):
        ModelFileSystem(num_worker=2)
    with pytest.raises(ValueError, match="num_workers"):
        ModelFileSystem(num_workers=0)
    with pytest.raises(TypeError, match="timeout"):
        ModelFileSystem(timeout="a minute")  # type: ignore[arg-type]  # it is wrong


WRITES: dict[str, Any] = {
    "open": lambda fs, path: fs.open(path, "wb"),
    "append": lambda fs, path: fs.open(path, "ab"),
    "update": lambda fs, path: fs.open(path, "r+b"),
    "text": lambda fs, path: fs.write_text(path, "a"),
    "bytes": lambda fs, path: fs.write_bytes(path, b"a"),
    "pipe": lambda fs, path: fs.pipe({path: b"a"}),
    "create": lambda fs, path: fs.pipe_file(path, b"a", mode="create"),
    "touch": lambda fs, path: fs.touch(path, truncate=False),
    "upload": lambda fs, path: fs.upload(__file__, path),
    "copy": lambda fs, path: fs.copy(path, f"{path}2"),
    "move": lambda fs, path: fs.rename(path, f"{path}2"),
    "delete": lambda fs, path: fs.delete(path),
    "delete file": lambda fs, path: fs.rm_file(path),
    "make folder": lambda fs, path: fs.mkdir(f"{path}2"),
    "make folders": lambda fs, path: fs.makedirs(f"{path}2/a", exist_ok=True),
    "remove folder": lambda fs, path: fs.rmdir(path),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_nothing_is_written(fs: ModelFileSystem, uid: str, write: Any) -> None:
    with pytest.raises(OSError, match=r"can only be read.*audmodel\.publish") as raised:
        write(fs, f"{uid}/config.json")
    assert raised.value.errno == errno.EROFS
    assert len(fs.find(uid)) == 3


# Threads and processes -----------------------------------------------------


def test_repositories_that_trust_others_share_nothing(
    repository: audmodel.Repository, tmp_path: Path
) -> None:
    signers = tmp_path / "signers"
    signers.touch()
    strict = audmodel.Repository(
        repository.name, repository.host, repository.backend, trusted=str(signers)
    )
    assert repr(strict) == repr(repository)
    lax = fsspec.filesystem("audmodel", repository=repository)
    assert fsspec.filesystem("audmodel", repository=strict) is not lax


def test_two_threads_read_the_same_file(fs: ModelFileSystem, uid: str) -> None:
    path = f"{uid}/data/more/numbers.bin"
    starts = [n * MIB for n in range(12)]

    def read(start: int) -> bytes:
        with fs.open(path) as file:
            file.seek(start)
            return bytes(file.read(1000))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, starts)) == [NUMBERS[n:][:1000] for n in starts]


def read_config(fs: ModelFileSystem, path: str) -> bytes:
    return fs.cat_ranges([path, path], [0, 1], [5, 6])[1]  # type: ignore[return-value]


def test_it_is_pickled(uid: str, repository: audmodel.Repository) -> None:
    fs = fsspec.filesystem("audmodel", repository=repository, num_workers=2)
    audmodel.config.REPOSITORIES = []
    copy = pickle.loads(pickle.dumps(fs))
    assert copy.cat_file(f"{uid}/config.json") == b'{"layers": 20}'
    opened = fsspec.open(f"audmodel://{uid}/config.json", repository=repository)
    with pickle.loads(pickle.dumps(opened)) as file:
        assert file.read() == b'{"layers": 20}'


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_it_works_in_other_processes(
    uid: str, repository: audmodel.Repository, tmp_path: Path, method: str
) -> None:
    fs = ModelFileSystem(
        repository=repository, cache_root=str(tmp_path / "cache"), num_workers=2
    )
    path = f"{uid}/config.json"
    assert read_config(fs, path) == b'"laye'
    with multiprocessing.get_context(method).Pool(2) as pool:
        results = pool.starmap(read_config, [(fs, path)] * 4)
        pool.close()
        pool.join()
    assert results == [b'"laye'] * 4

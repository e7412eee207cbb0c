"""Several models in one call."""

from __future__ import annotations

import os
from pathlib import Path
import random
import re
import shutil
import threading
import time
from typing import Any

import filelock
import pytest

import audmodel
from audmodel.core.backend.reader import FileReader
from audmodel.errors import InvalidIdError
from audmodel.errors import ModelNotFoundError
from tests.behaviour.backends import files
from tests.behaviour.backends import publish
from tests.cache.test_cache import entry_of
from tests.processes import Interpreter


@pytest.fixture
def large(tmp_path: Path) -> Path:
    root = tmp_path / "large"
    root.mkdir()
    (root / "weights").write_bytes(random.Random(4).randbytes(20_000_000))
    return root


@pytest.fixture
def uids(repository: audmodel.Repository, model_folder: Path, large: Path) -> list[str]:
    """Four small models with a large one among them."""
    small = [publish(model_folder, version=f"{n}.0.0") for n in range(4)]
    return [*small[:2], publish(large, version="9.0.0"), *small[2:]]


# Bad input -----------------------------------------------------------------


@pytest.mark.parametrize("bad", [None, 1, b"x", {"a"}, {"a": 1}, iter([])])
def test_neither_string_nor_list(repository: audmodel.Repository, bad: Any) -> None:
    with pytest.raises(TypeError):
        audmodel.load(bad)


@pytest.mark.parametrize("bad", [["a"], {"a": 1}, {"a"}, b"x", None])
def test_no_string_in_a_list(repository: audmodel.Repository, bad: Any) -> None:
    kind = type(bad).__name__
    with pytest.raises(TypeError, match=f"has to be a string, not {kind}"):
        audmodel.load(["00000000-1.0.0", bad])


def test_empty_list(repository: audmodel.Repository) -> None:
    assert audmodel.load([]) == []


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (1, TypeError),
        ("a/b", InvalidIdError),
        ("nobody", ModelNotFoundError),
        ("00000000-1.0.0", ModelNotFoundError),
    ],
)
def test_nothing_is_fetched_if_one_is_wrong(
    uids: list[str], fetched: list[int], cache: Path, bad: Any, error: type[Exception]
) -> None:
    for load_first in (False, True):
        if load_first:
            audmodel.load(uids[0])
        before = audmodel.cached()
        with pytest.raises(error):
            audmodel.load([uids[0], uids[1], bad, uids[2]], num_workers=3)
        assert audmodel.cached() == before


def test_nothing_is_hidden_if_one_is_damaged(
    uids: list[str], repository: audmodel.Repository
) -> None:
    (archive,) = Path(repository.host).rglob(f"{uids[1]}.zip")
    archive.unlink()
    with pytest.raises(audmodel.errors.ArchiveError, match=uids[1]):
        audmodel.load(uids, num_workers=2)


# Paths ---------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [1, 2, 8])
def test_paths_come_in_order(
    uids: list[str], model_folder: Path, large: Path, num_workers: int
) -> None:
    audmodel.set_alias("best", uids[3])
    wanted = [uids[4], "best", uids[2], uids[0], uids[3], uids[1], uids[4]]
    roots = audmodel.load(wanted, num_workers=num_workers)
    expected = [uids[n] for n in (4, 3, 2, 0, 3, 1, 4)]
    assert roots == [entry_of(uid).whole.folder.path for uid in expected]
    for uid, root in zip(expected, roots, strict=True):
        assert files(root) == files(large if uid == uids[2] else model_folder)
    assert audmodel.load(tuple(wanted)) == roots


def test_models_in_the_cache_need_no_repository(
    uids: list[str], repository: audmodel.Repository
) -> None:
    roots = audmodel.load(uids)
    shutil.rmtree(repository.host)
    assert audmodel.load(uids, num_workers=3) == roots


def test_some_files_of_each(uids: list[str]) -> None:
    del uids[2]
    roots = audmodel.load(uids, files="*.yaml", num_workers=3)
    for root in roots:
        assert sorted(files(root)) == ["log/eval.yaml", "model.yaml"]
    with pytest.raises(audmodel.errors.FileNotInModelError):
        audmodel.load(uids, files="*.pt", num_workers=3)


def test_models_of_the_released_version(
    repository: audmodel.Repository,
    released: Interpreter,
    model_folder: Path,
    large: Path,
) -> None:
    code = """
        return [
            audmodel.publish(
                root, "torch", {}, f"{n}.0.0",
                repository=audmodel.config.REPOSITORIES[0],
            )
            for n, root in enumerate(args["roots"])
        ]
    """
    folders = [model_folder, large, model_folder]
    uids = released.run(code, roots=[str(folder) for folder in folders])
    roots = audmodel.load(uids, num_workers=3)
    assert [files(root) for root in roots] == [files(folder) for folder in folders]


# Workers -------------------------------------------------------------------


def test_workers_are_shared(uids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models come side by side, a large one in parts, by so many at most."""
    running: set[int] = set()
    most = {"small": 0, "large": 0}
    lock = threading.Lock()
    readinto = FileReader._readinto

    def slow(self: FileReader, offset: int, view: memoryview) -> None:
        kind = "large" if self.size > 1_000_000 else "small"
        with lock:
            running.add(threading.get_ident())
            most[kind] = max(most[kind], len(running))
        time.sleep(0.1)
        readinto(self, offset, view)
        with lock:
            running.remove(threading.get_ident())

    monkeypatch.setattr(FileReader, "_readinto", slow)
    # The end of an archive comes with opening it, which small ones are no more than
    monkeypatch.setattr("audmodel.core.backend.reader.TAIL", 22)
    audmodel.load(uids, num_workers=3)
    assert most == {"small": 3, "large": 3}


def test_progress(uids: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    audmodel.load(uids, num_workers=2, verbose=True)
    text = capsys.readouterr().err
    assert "Load 5 models" in text
    assert re.search(r"Load 5 models: 100 %, (\d+\.\d MB) of \1", text)


def test_total_is_known_from_the_start(
    uids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audmodel.core.progress.views.Function.interval", 0)
    audmodel.load(uids[0])
    states: list[audmodel.Progress] = []
    audmodel.load(uids, num_workers=2, progress=states.append)
    begun = [state for state in states if state.done]
    last = states[-1]
    assert last.done == last.total > 10_000_000
    # Headers and directories are no work
    assert {state.total // 100_000 for state in begun} == {last.total // 100_000}


# Other processes -------------------------------------------------------------


def test_who_is_loaded_elsewhere_comes_last(uids: list[str]) -> None:
    with (
        entry_of(uids[0]).whole.lock(timeout=1),
        entry_of(uids[2]).whole.lock(timeout=1),
    ):
        with pytest.raises(filelock.Timeout):
            audmodel.load(uids, timeout=0.1, num_workers=2)
        loaded = [model.uid for model in audmodel.cached()]
    assert sorted(loaded) == sorted([uids[1], uids[3], uids[4]])


def test_other_orders_in_other_processes(
    uids: list[str], python: Interpreter, tmp_path: Path
) -> None:
    code = """
        import random
        from audmodel.core.backend.filesystem import FileSystem
        class Counting(FileSystem):
            def open_object(self, path, **kwargs):
                with open(args["log"], "a") as file:
                    file.write(path + "\\n")
                time.sleep(0.05)
                return super().open_object(path, **kwargs)
        audmodel.Repository.register("file-system", Counting)
        uids = list(args["uids"])
        random.Random(args["number"]).shuffle(uids)
        barrier("start")
        roots = audmodel.load(uids, num_workers=1 + args["number"] % 3)
        return dict(zip(uids, roots))
    """
    results = python.run_many(code, 6, uids=uids, log=str(tmp_path / "log"))
    expected = {uid: entry_of(uid).whole.folder.path for uid in uids}
    assert all(result == expected for result in results)
    opened = (tmp_path / "log").read_text().splitlines()
    assert len(opened) == len(set(opened)) == len(uids)
    assert all(os.path.isdir(root) for root in expected.values())


def test_paths_when_the_directory_is_not_kept(
    repository: audmodel.Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "model"
    root.mkdir()
    (root / "a.txt").write_text("a")
    (root / "b.txt").write_text("b")
    uid = audmodel.publish(str(root), "torch", {}, "1.0.0")
    monkeypatch.setattr("audmodel.core.operations.index.keep", lambda *_: None)
    (path,) = audmodel.load([uid], files="a.txt")
    assert os.listdir(path) == ["a.txt"]

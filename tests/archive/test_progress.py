"""Progress in bytes of the archive, told to bars, functions and logs."""

from __future__ import annotations

from collections.abc import Callable
import inspect
import io
import os
from pathlib import Path
import re
import subprocess
import sys
import threading
from typing import Any

import pytest
from tqdm import tqdm

import audmodel
from audmodel.core.archive.writer import ArchiveWriter
from audmodel.core.operations.folder import scan
from audmodel.core.progress.counters import Progress
from audmodel.core.progress.report import Reporter
from tests.archive.tools import KIB
from tests.archive.tools import MIB
from tests.archive.tools import MemorySource
from tests.archive.tools import extract
from tests.archive.tools import flip
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import parse
from tests.archive.tools import publish
from tests.archive.tools import replace_archive
from tests.archive.tools import text
from tests.archive.tools import write
from tests.archive.tools import write_old
from tests.conftest import ROOT


FILES = {
    "large": noise(20 * MIB),
    "text": text(5 * MIB),
    "small": b"small",
    "empty": b"",
}
TOTAL = sum(map(len, FILES.values()))


@pytest.fixture
def states() -> list[Progress]:
    return []


@pytest.fixture
def every_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show each change."""
    monkeypatch.setattr("audmodel.core.progress.views.Function.interval", 0)


def archive_of(repository: audmodel.Repository) -> Path:
    [path] = Path(repository.host, repository.name).rglob("*.zip")
    return path


@pytest.mark.usefixtures("every_state")
@pytest.mark.parametrize("num_workers", [1, 4])
@pytest.mark.parametrize("kind", ["new", "old"])
def test_load_counts_bytes_of_the_archive(
    kind: str,
    num_workers: int,
    states: list[Progress],
    tmp_path: Path,
    repository: audmodel.Repository,
) -> None:
    root = make_folder(tmp_path / "model", FILES)
    uid = publish(repository, root)
    if kind == "old":
        replace_archive(repository, write_old(FILES))
    audmodel.load(uid, num_workers=num_workers, progress=states.append)
    size = archive_of(repository).stat().st_size
    assert {state.task for state in states} == {f"Load {uid}"}
    [total] = {state.total for state in states}
    # All but the directory, headers, and what is between files
    assert size - 10 * KIB < total < size < TOTAL
    moves = [state.done for state in states]
    assert moves == sorted(moves)
    assert len(moves) > 4
    assert moves[0] < total / 2
    last = states[-1]
    assert (last.done, last.transferred, last.kept, last.copied) == (total, total, 0, 0)
    assert last.seconds_left == 0


@pytest.mark.usefixtures("every_state")
@pytest.mark.parametrize("num_workers", [1, 4])
def test_publish_counts_bytes_of_the_archive(
    num_workers: int,
    states: list[Progress],
    tmp_path: Path,
    repository: audmodel.Repository,
) -> None:
    root = make_folder(tmp_path / "model", FILES)
    more = {"num_workers": num_workers, "progress": states.append}
    publish(repository, root, **more)
    size = archive_of(repository).stat().st_size
    assert (states[0].done, states[0].total) == (0, TOTAL)
    last = states[-1]
    assert (last.done, last.transferred, last.total) == (size, size, size)
    assert size < TOTAL - MIB
    moves = [state.done for state in states]
    assert moves == sorted(moves)
    assert len(set(moves)) > 4


@pytest.mark.usefixtures("every_state")
def test_interrupted_load_tells_what_was_there(
    states: list[Progress], tmp_path: Path, repository: audmodel.Repository
) -> None:
    root = make_folder(tmp_path / "model", FILES)
    uid = publish(repository, root)

    def interrupt(state: Progress) -> None:
        if state.done > 8 * MIB:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audmodel.load(uid, progress=interrupt)
    audmodel.load(uid, progress=states.append)
    last = states[-1]
    assert last.done == last.total
    assert 8 * MIB < last.kept < 13 * MIB
    assert last.transferred == last.total - last.kept


@pytest.mark.usefixtures("every_state")
def test_load_counts_what_a_partial_load_brought(
    states: list[Progress], tmp_path: Path, repository: audmodel.Repository
) -> None:
    uid = publish(repository, make_folder(tmp_path / "model", FILES))
    audmodel.load(uid, files="large", progress=states.append)
    assert (states[-1].done, states[-1].total) == (20 * MIB, 20 * MIB)
    states.clear()
    # What is there already is no work of this load
    audmodel.load(uid, progress=states.append)
    assert states[-1].kept == 20 * MIB
    assert 0 < states[-1].transferred < 5 * MIB


@pytest.mark.usefixtures("every_state")
def test_repair_counts_what_it_reads_and_fetches(
    states: list[Progress], tmp_path: Path, repository: audmodel.Repository
) -> None:
    uid = publish(repository, make_folder(tmp_path / "model", FILES))
    root = audmodel.load(uid)
    with open(os.path.join(root, "large"), "r+b") as file:
        file.write(b"damaged")
    audmodel.verify(uid, repair=True, progress=states.append)
    # All files are read, and one part of four MiB is fetched
    last = states[-1]
    assert (last.total, last.done) == (TOTAL + 20 * MIB, TOTAL + 20 * MIB)
    assert last.kept == 16 * MIB


@pytest.mark.usefixtures("every_state")
@pytest.mark.parametrize("way", ["load", "stream", "list"])
def test_who_waits_sees_the_progress_of_the_holder(
    way: str,
    tmp_path: Path,
    repository: audmodel.Repository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("audmodel.core.operations.noting._Note.interval", 0)
    monkeypatch.setattr("audmodel.core.cache.locks._LOOK", 0)
    uid = publish(repository, make_folder(tmp_path / "model", FILES))
    is_half, go_on = threading.Event(), threading.Event()
    theirs: list[Progress] = []
    ours: list[Progress] = []

    def hold(state: Progress) -> None:
        theirs.append(state)
        if state.done > 8 * MIB:
            is_half.set()
            assert go_on.wait(20)

    def wait(state: Progress) -> None:
        ours.append(state)
        if state.waiting:
            go_on.set()

    def run(progress: Callable[[Progress], None]) -> None:
        if way == "load":
            audmodel.load(uid, progress=progress)
        elif way == "list":
            audmodel.load([uid], progress=progress)
        else:
            list(audmodel.stream(uid, progress=progress))

    # A stream gives its lock to all threads of its process
    lock = "audmodel.core.cache.locks._ours"
    monkeypatch.setattr(lock, Forgetful())
    holder = threading.Thread(target=run, args=[hold])
    holder.start()
    assert is_half.wait(20)
    run(wait)
    holder.join()
    waits = [state for state in ours if state.waiting]
    assert 13 * MIB > waits[0].done > 3 * MIB
    assert {state.total for state in waits} == {theirs[-1].total}
    # This process has fetched nothing
    last = ours[-1]
    assert last.done == last.total == last.kept


class Forgetful(dict[str, bool]):
    """Does not know the locks of this process."""

    def get(self, key: str, default: Any = None) -> Any:
        return default


def test_wait_is_followed_by_work() -> None:
    """The process that was waited for may have failed."""
    states: list[Progress] = []
    with Reporter(verbose=False, progress=states.append).report("Test") as start:
        start.waiting(500, 1000)
        start(2000)(2000)
    assert states[0].waiting
    last = states[-1]
    assert (last.done, last.total, last.kept, last.waiting) == (2000, 2000, 0, False)


def test_without_being_asked_nothing_is_shown(
    tmp_path: Path,
    repository: audmodel.Repository,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uid = publish(repository, make_folder(tmp_path / "model", {"a": b"a"}))
    audmodel.load(uid)
    assert capsys.readouterr() == ("", "")


def test_empty_files_and_cached_models(
    states: list[Progress], tmp_path: Path, repository: audmodel.Repository
) -> None:
    root = make_folder(tmp_path / "model", {"a": b"", "b": b""})
    uid = publish(repository, root)
    audmodel.load(uid, progress=states.append)
    assert {(state.done, state.total) for state in states} == {(0, 0)}
    states.clear()
    audmodel.load(uid, progress=states.append)
    assert not states


def test_log_has_lines(
    tmp_path: Path,
    repository: audmodel.Repository,
    capfd: pytest.CaptureFixture[str],
) -> None:
    root = make_folder(tmp_path / "model", FILES)
    uid = publish(repository, root, verbose=True, num_workers=2)
    audmodel.load(uid, verbose=True, num_workers=2)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    for line, word in zip(lines, ("Publish", "Load")):
        assert re.fullmatch(
            rf"{word} {uid}: 100 %, (\S+ MB) of \1, \S+ .B/s, in \d+\.\d s", line
        )


def test_long_calls_write_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with Reporter(verbose=True, progress=None).report("Test") as start:
        count = start(60_000)
        for _ in range(60):
            now += 1
            count(1000)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" in ")[0] for line in lines] == [
        "Test: 16 %, 10.0 kB of 60.0 kB, 1.0 kB/s, 50 s left",
        "Test: 66 %, 40.0 kB of 60.0 kB, 1.0 kB/s, 20 s left",
        "Test: 100 %, 60.0 kB of 60.0 kB, 1.0 kB/s,",
    ]


class Bar:
    """The part of tqdm's interface that is needed."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.n = 0

    def update(self, n: int) -> None:
        self.n += n


def test_bar_of_a_program(tmp_path: Path, repository: audmodel.Repository) -> None:
    uid = publish(repository, make_folder(tmp_path / "model", {"a": noise(1000)}))
    bar = Bar()
    audmodel.load(uid, progress=bar)
    assert (bar.n, bar.total) == (1000, 1000)


def test_bar_of_tqdm_stays_open(
    tmp_path: Path, repository: audmodel.Repository
) -> None:
    uid = publish(repository, make_folder(tmp_path / "model", {"a": noise(1000)}))
    with tqdm(unit="B", desc="mine", file=io.StringIO()) as bar:
        audmodel.load(uid, progress=bar)
        assert (bar.n, bar.total, bar.disable) == (1000, 1000, False)
        assert bar.desc == "mine"


def test_class_of_tqdm_gives_a_bar(
    tmp_path: Path, repository: audmodel.Repository
) -> None:
    made: list[Any] = []

    class Mine(tqdm):  # type: ignore[misc]  # it has no types
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs, file=io.StringIO())
            made.append(self)

    uid = publish(repository, make_folder(tmp_path / "model", {"a": noise(1000)}))
    audmodel.load(uid, progress=Mine)
    [bar] = made
    assert (bar.n, bar.total, bar.desc) == (1000, 1000, f"Load {uid}")
    assert bar.disable  # closed


@pytest.mark.parametrize("progress", [3, "bar", object()])
def test_what_cannot_show_progress(
    progress: Any, tmp_path: Path, repository: audmodel.Repository
) -> None:
    calls: list[Callable[[], object]] = [
        lambda: audmodel.load("12345678-1.0.0", progress=progress),
        lambda: audmodel.stream("12345678-1.0.0", progress=progress),
        lambda: audmodel.verify("12345678-1.0.0", progress=progress),
        lambda: audmodel.publish("x", "n", {}, "1.0.0", progress=progress),
        lambda: audmodel.copy("12345678-1.0.0", "a", "b", progress=progress),
        lambda: audmodel.sync("a", "b", progress=progress),
        lambda: audmodel.models(progress=progress),
        lambda: audmodel.audit_repository(repository, progress=progress),
        lambda: audmodel.build_catalog(repository, "site", progress=progress),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="'progress' has to be a function"):
            call()


def test_functions_that_take_long_take_progress() -> None:
    """And no other ones, which accept 'verbose' only for programs of before."""
    long = {
        *("load", "stream", "publish", "verify", "copy", "sync"),
        *("models", "audit_repository", "build_catalog"),
    }
    functions = [(name, getattr(audmodel, name)) for name in audmodel.__all__]
    assert {
        name
        for name, function in functions
        if inspect.isfunction(function)
        and "progress" in inspect.signature(function).parameters
    } == long


def test_error_of_a_function_ends_the_call(
    tmp_path: Path, repository: audmodel.Repository
) -> None:
    uid = publish(repository, make_folder(tmp_path / "model", FILES))

    def fail(state: Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        audmodel.load(uid, num_workers=4, progress=fail)
    assert not audmodel.cached()
    assert audmodel.load(uid)


@pytest.mark.parametrize("num_workers", [1, 3])
def test_reader_counts_every_byte_once(num_workers: int, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "model", FILES)
    for name, data in {
        "parts": write(root, part_size=64 * KIB),
        "old": write_old(FILES),
    }.items():
        counts: list[int] = []
        for resume in (False, True):
            counts.clear()
            extract(
                MemorySource(data),
                tmp_path / name,
                num_workers=num_workers,
                resume=resume,
                progress=counts.append,
                kept=counts.append,
            )
            assert sum(counts) == parse(data).compressed_size


@pytest.mark.parametrize("num_workers", [1, 3])
def test_writer_tells_what_compression_saves(num_workers: int, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "model", FILES)
    counts: list[int] = []
    writer = ArchiveWriter(
        scan(str(root)).files, num_workers=num_workers, enlarge=counts.append
    )
    archive = b"".join(writer)
    assert sum(counts) == len(archive) - TOTAL


@pytest.mark.usefixtures("every_state")
def test_what_is_fetched_again_counts_once(
    states: list[Progress], tmp_path: Path
) -> None:
    files = {f"{n}": noise(1000, n) for n in range(50)}
    data = write(make_folder(tmp_path / "model", files))
    position = len(data) // 2
    damaged = MemorySource(
        data,
        tail=10_000,
        change=lambda number, offset, content: (
            flip(content, position - offset) if number == 0 else content
        ),
    )
    with Reporter(verbose=False, progress=states.append).report("Test") as start:
        extract(damaged, tmp_path / "out", progress=start(50_000))
    assert states[-1].done == 50_000
    assert max(state.done for state in states) == 50_000


def test_many_threads_count(states: list[Progress]) -> None:
    with Reporter(verbose=False, progress=states.append).report("Test") as start:
        count = start(8000)

        def work() -> None:
            for _ in range(1000):
                count(1)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert states[-1].done == 8000


@pytest.mark.parametrize("kind", ["none", "closed", "full", "broken"])
def test_nobody_can_see_the_bar(
    kind: str, repository: audmodel.Repository, model_folder: Path
) -> None:
    """It is no reason to publish or load nothing."""
    code = f"""
import os, sys, audmodel
place = ({repository.name!r}, {repository.host!r}, "file-system")
audmodel.config.REPOSITORIES = [audmodel.Repository(*place)]
kind = {kind!r}
if kind == "none":
    sys.stderr = None
elif kind == "closed":
    sys.stderr.close()
elif kind == "full":
    sys.stderr = open("/dev/full", "w", buffering=1)
else:
    read, write = os.pipe()
    os.close(read)
    sys.stderr = open(write, "w", buffering=1)
uid = audmodel.publish({str(model_folder)!r}, "torch", {{}}, "1.0.0", verbose=True)
root = audmodel.load(uid, num_workers=2, cache_root="cache", verbose=True)
print(len(os.listdir(root)))
os._exit(0)
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        cwd=model_folder.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        text=True,
        check=False,
    )
    assert result.stdout == "4\n"


def test_bar_leaves_no_thread() -> None:
    code = """
import threading
from audmodel.core.progress.counters import Meter
from audmodel.core.progress.views import Bar, own_bar
from tqdm import tqdm

meter = Meter("Test", "B", [Bar(own_bar, is_ours=True)])
meter(10)(10)
print(threading.active_count(), tqdm.monitor_interval > 0)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "1 True\n"

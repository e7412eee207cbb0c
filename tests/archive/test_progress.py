"""One bar in bytes, which moves while parts finish and ends at its end."""

from __future__ import annotations

import os
from pathlib import Path
import re
import subprocess
import sys
import threading
from typing import Any

import pytest

import audmodel
from audmodel.core.archive.writer import ArchiveWriter
from audmodel.core.operations.folder import scan
from audmodel.core.progress import progress_bar
from audmodel.parallel import bars as progress_bars
from tests.archive.tools import KIB
from tests.archive.tools import MIB
from tests.archive.tools import MemorySource
from tests.archive.tools import extract
from tests.archive.tools import flip
from tests.archive.tools import make_folder
from tests.archive.tools import noise
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


class Bars:
    """Bars that were shown, and where they were."""

    def __init__(self) -> None:
        self.bars: list[Any] = []
        self.moves: list[list[int]] = []

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        bar = make_bar(*arguments, **more)
        moves: list[int] = []
        update = bar.update

        def remember(count: int) -> None:
            update(count)
            moves.append(bar.n)

        bar.update = remember
        self.bars.append(bar)
        self.moves.append(moves)
        return bar


make_bar = progress_bars.progress_bar


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> Bars:
    bars = Bars()

    monkeypatch.setattr(progress_bars, "progress_bar", bars)
    return bars


@pytest.mark.parametrize("num_workers", [1, 4])
@pytest.mark.parametrize("kind", ["new", "old"])
def test_one_bar_each_from_nothing_to_all(
    kind: str,
    num_workers: int,
    bars: Bars,
    tmp_path: Path,
    repository: audmodel.Repository,
) -> None:
    root = make_folder(tmp_path / "model", FILES)
    uid = publish(repository, root, num_workers=num_workers, verbose=True)
    if kind == "old":
        replace_archive(repository, write_old(FILES))
    audmodel.load(uid, num_workers=num_workers, verbose=True)
    assert len(bars.bars) == 2
    for bar, moves, word in zip(bars.bars, bars.moves, ("Publish", "Load")):
        assert bar.total == TOTAL
        assert moves[-1] == TOTAL
        assert moves == sorted(moves)
        assert len(moves) > 4
        assert moves[0] < TOTAL / 2
        assert bar.unit == "B"
        assert bar.unit_scale
        assert bar.desc.startswith(f"{word} {uid}")


def test_without_verbose_nothing_is_shown(
    bars: Bars,
    tmp_path: Path,
    repository: audmodel.Repository,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uid = publish(repository, make_folder(tmp_path / "model", {"a": b"a"}))
    audmodel.load(uid)
    assert not bars.bars
    assert capsys.readouterr() == ("", "")


def test_bar_of_empty_files(
    bars: Bars, tmp_path: Path, repository: audmodel.Repository
) -> None:
    root = make_folder(tmp_path / "model", {"a": b"", "b": b""})
    audmodel.load(publish(repository, root, verbose=True), verbose=True)
    assert [bar.n for bar in bars.bars] == [0, 0]


def test_bar_in_a_log_ends_at_all(
    tmp_path: Path,
    repository: audmodel.Repository,
    capfd: pytest.CaptureFixture[str],
) -> None:
    root = make_folder(tmp_path / "model", FILES)
    uid = publish(repository, root, verbose=True, num_workers=2)
    audmodel.load(uid, verbose=True, num_workers=2)
    output = "".join(capfd.readouterr())
    for word in ("Publish", "Load"):
        shown = re.findall(rf"[^\r\n]*%[^\r\n]*{word} {uid}", output)
        assert shown
        assert "100%" in shown[-1]


def test_bar_of_a_cached_model_is_not_shown(
    bars: Bars, tmp_path: Path, repository: audmodel.Repository
) -> None:
    uid = publish(repository, make_folder(tmp_path / "model", {"a": b"a"}))
    audmodel.load(uid)
    audmodel.load(uid, verbose=True)
    assert not bars.bars


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
            )
            assert sum(counts) == TOTAL


@pytest.mark.parametrize("num_workers", [1, 3])
def test_writer_counts_every_byte_once(num_workers: int, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "model", FILES)
    counts: list[int] = []
    writer = ArchiveWriter(
        scan(str(root)).files, num_workers=num_workers, progress=counts.append
    )
    b"".join(writer)
    assert sum(counts) == TOTAL


def test_bar_does_not_run_over(bars: Bars, tmp_path: Path) -> None:
    # A span that is fetched once more is counted once more
    files = {f"{n}": noise(1000, n) for n in range(50)}
    data = write(make_folder(tmp_path / "model", files))
    position = len(data) // 2
    source = MemorySource(data, tail=10_000)
    source.data = data
    damaged = MemorySource(
        data,
        tail=10_000,
        change=lambda number, offset, content: (
            flip(content, position - offset) if number == 0 else content
        ),
    )
    with progress_bar("Test", verbose=True) as start:
        extract(damaged, tmp_path / "out", progress=start(50_000))
    [moves] = bars.moves
    assert moves[-1] == 50_000
    assert max(moves) == 50_000


def test_bar_is_moved_by_many_threads(bars: Bars) -> None:
    with progress_bar("Test", verbose=True) as start:
        move = start(8000)

        def work() -> None:
            for _ in range(1000):
                move(1)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert bars.bars[0].n == 8000


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
from audmodel.core.progress import progress_bar
from tqdm import tqdm

with progress_bar("Test", verbose=True) as start:
    start(10)(10)
    print(threading.active_count(), tqdm.monitor_interval > 0)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "1 True\n"

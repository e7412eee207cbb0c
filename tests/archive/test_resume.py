"""A load that ended early is continued, and nothing left behind is trusted."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
import zlib

import pytest

import audmodel
from audmodel.core.archive import format
from audmodel.core.archive.plan import plan
from audmodel.core.backend.errors import RepositoryError
from tests.archive.tools import KIB
from tests.archive.tools import MIB
from tests.archive.tools import MemorySource
from tests.archive.tools import extract
from tests.archive.tools import listing
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import parse
from tests.archive.tools import publish
from tests.archive.tools import read_folder
from tests.archive.tools import replace_archive
from tests.archive.tools import run_python
from tests.archive.tools import text
from tests.archive.tools import write
from tests.archive.tools import write_old
from tests.conftest import ROOT
from tests.users import let_in
from tests.users import needs_root


PART = 64 * KIB
FILES = {
    "large": noise(20 * PART),
    "sub/text": text(10 * PART),
    "sub/small": noise(1000),
    "empty": b"",
    "run": b"#!/bin/sh",
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(make_folder(tmp_path_factory.mktemp("model"), FILES), part_size=PART)


def fetched_again(archive: bytes, folder: Path, num_workers: int = 2) -> list[int]:
    """Positions of what is fetched of the data to complete a folder."""
    source = MemorySource(archive, tail=format.END_SIZE)
    extract(source, folder, num_workers=num_workers, resume=True)
    assert read_folder(folder) == FILES
    # The first request is for the directory
    return [offset for offset, _ in source.requests[1:]]


# Extraction ----------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [1, 4])
def test_complete_folder_costs_no_request(
    num_workers: int, archive: bytes, tmp_path: Path
) -> None:
    extract(MemorySource(archive), tmp_path)
    before = listing(tmp_path)
    assert not fetched_again(archive, tmp_path, num_workers)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("num_workers", [1, 4])
@pytest.mark.parametrize("after", [1, 5, 12, 30])
def test_nothing_is_fetched_twice(
    num_workers: int, after: int, archive: bytes, tmp_path: Path
) -> None:
    def fail(number: int, offset: int, data: bytes) -> bytes:
        if number >= after:
            raise RepositoryError("The connection is lost.")
        return data

    source = MemorySource(archive, tail=format.END_SIZE, change=fail)
    with pytest.raises(RepositoryError):
        extract(source, tmp_path, num_workers=num_workers)
    first = source.requests[:after]
    again = fetched_again(archive, tmp_path, num_workers)
    # What was verified and written is not needed again
    assert len(first[1:]) + len(again) <= len(source_requests(archive)) + num_workers


def source_requests(archive: bytes) -> list[tuple[int, int]]:
    return [(0, 0)] * len(plan(parse(archive)))


def test_part_that_is_half_written_is_fetched_again(
    archive: bytes, tmp_path: Path
) -> None:
    extract(MemorySource(archive), tmp_path)
    with (tmp_path / "large").open("r+b") as file:
        file.seek(7 * PART + 100)
        file.write(bytes(PART - 100))
    assert len(fetched_again(archive, tmp_path)) == 1


def test_only_what_is_missing_is_fetched(archive: bytes, tmp_path: Path) -> None:
    extract(MemorySource(archive), tmp_path)
    (tmp_path / "sub/small").unlink()
    assert len(fetched_again(archive, tmp_path)) == 1


def change(name: str, content: bytes | None = None) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        path = root / name
        old = path.read_bytes()
        path.write_bytes(bytes(len(old)) if content is None else content)

    return apply


def extend(name: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        with (root / name).open("ab") as file:
            file.write(b"more")

    return apply


def cut(name: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        os.truncate(root / name, (root / name).stat().st_size // 2)

    return apply


WRONG = {
    f"{what.__name__}-{name}": what(name)
    for name in ("large", "sub/text", "sub/small", "run")
    for what in (change, extend, cut)
} | {
    "content-empty": change("empty", b"content"),
    "other-large": change("large", noise(20 * PART, 1)),
    "other-small": change("sub/small", noise(1000, 1)),
}


@pytest.mark.sample(8)
@pytest.mark.parametrize("num_workers", [1, 4])
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_content_is_replaced(
    wrong: Callable[[Path], None], num_workers: int, archive: bytes, tmp_path: Path
) -> None:
    extract(MemorySource(archive), tmp_path)
    wrong(tmp_path)
    fetched_again(archive, tmp_path, num_workers)


@pytest.mark.parametrize("num_workers", [1, 4])
def test_what_cannot_be_read_back_is_fetched_again(
    num_workers: int,
    archive: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extract(MemorySource(archive), tmp_path)
    preadv = os.preadv
    monkeypatch.setattr(
        "os.preadv", lambda fd, views, offset: preadv(fd, [views[0][:-1]], offset)
    )
    assert len(fetched_again(archive, tmp_path, num_workers)) > 10


def test_earlier_archive_keeps_whole_files(tmp_path: Path) -> None:
    files = {"a": noise(5 * MIB), "b": noise(5 * MIB, 1), "c": b"c"}
    data = write_old(files)
    extract(MemorySource(data), tmp_path)
    os.truncate(tmp_path / "b", MIB)
    source = MemorySource(data)
    extract(source, tmp_path, resume=True, num_workers=3)
    assert read_folder(tmp_path) == files
    assert 5 * MIB <= source.fetched < 5.2 * MIB


# Staging -------------------------------------------------------------------


@pytest.fixture
def uid(tmp_path: Path, repository: audmodel.Repository) -> str:
    """A model with parts, published with small ones to be fast."""
    root = make_folder(tmp_path / "model", {"a": b"a"})
    uid = publish(repository, root)
    source = make_folder(tmp_path / "source", FILES)
    replace_archive(repository, write(source, part_size=PART))
    return uid


def staging(cache: Path, uid: str) -> Path:
    path = cache / uid.split("-")[0] / ".1.0.0~left"
    path.mkdir(parents=True)
    return path


def hard_link(root: Path, outside: Path) -> None:
    os.link(outside / "file", root / "large")
    os.link(outside / "file", root / "run")


def soft_link(root: Path, outside: Path) -> None:
    (root / "large").symlink_to(outside / "file")
    (root / "run").symlink_to(outside / "new")
    (root / "empty").symlink_to("empty")


def linked_folder(root: Path, outside: Path) -> None:
    (root / "sub").symlink_to(outside)


def folder_for_file(root: Path, outside: Path) -> None:
    make_folder(root / "large", {"a/b": b"", "c": b""})
    (root / "run").mkdir()


def file_for_folder(root: Path, outside: Path) -> None:
    (root / "sub").write_bytes(b"no folder")


def fifo(root: Path, outside: Path) -> None:
    os.mkfifo(root / "large")
    os.mkfifo(root / "run")


def extra(root: Path, outside: Path) -> None:
    make_folder(root, {"evil": b"evil", "sub/evil": b"evil", "other/evil": b"evil"})
    (root / "link").symlink_to(outside)
    (root / "empty folder").mkdir()
    os.mkfifo(root / "fifo")


# Bytes whose bits are in the opposite order
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def wrong_bytes(root: Path, outside: Path) -> None:
    make_folder(root, {name: bytes(len(FILES[name])) for name in FILES})


def wrong_sizes(root: Path, outside: Path) -> None:
    make_folder(root, {name: FILES[name] + b"more" for name in FILES})


def right_but_for_a_bit(root: Path, outside: Path) -> None:
    make_folder(root, FILES)
    content = bytearray(FILES["large"])
    content[-1] ^= 1
    (root / "large").write_bytes(content)


def right_but_for_what_a_checksum_finds(root: Path, outside: Path) -> None:
    """Files with the sizes and the CRC-32 of others, as an attacker makes them."""
    # Multiples of its polynomial do not change a CRC
    polynomial = (0x104C11DB7 << 7).to_bytes(5, "big").translate(MIRRORED)
    for name, content in FILES.items():
        forged = bytearray(content)
        for position, byte in enumerate(polynomial if len(content) >= 5 else b""):
            forged[position] ^= byte
        assert zlib.crc32(forged) == zlib.crc32(content)
        make_folder(root, {name: bytes(forged)})


def wrong_rights(root: Path, outside: Path) -> None:
    make_folder(root, FILES)
    (root / "large").chmod(0o4777)
    (root / "run").chmod(0o000)


GARBAGE = [
    hard_link,
    soft_link,
    linked_folder,
    folder_for_file,
    file_for_folder,
    fifo,
    extra,
    wrong_bytes,
    wrong_sizes,
    right_but_for_a_bit,
    right_but_for_what_a_checksum_finds,
    wrong_rights,
]


@pytest.mark.sample(6)
@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_in_staging_is_not_trusted_and_does_not_escape(
    garbage: Callable[[Path, Path], None],
    num_workers: int,
    uid: str,
    cache: Path,
    tmp_path: Path,
) -> None:
    outside = make_folder(tmp_path / "outside", {"file": FILES["large"][:-1] + b"x"})
    before = listing(outside)
    garbage(staging(cache, uid), outside)
    root = Path(audmodel.load(uid, num_workers=num_workers))
    assert read_folder(root) == FILES
    assert listing(outside) == before
    for path in root.rglob("*"):
        status = path.lstat()
        assert stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
        assert stat.S_ISDIR(status.st_mode) or status.st_nlink == 1
        assert not status.st_mode & 0o7000
    assert {path.name for path in root.parent.iterdir()} <= {
        "1.0.0",
        "1.0.0.header.yaml",
        "1.0.0.meta.yaml",
        ".1.0.0+index",
        ".1.0.0+origin",
        ".1.0.0.unsynced",
        ".1.0.0.lock",
        ".1.0.0.header.yaml.lock",
    }


def test_link_in_the_place_of_staging_is_not_followed(
    uid: str, cache: Path, tmp_path: Path
) -> None:
    outside = make_folder(tmp_path / "outside", {"large": b"precious"})
    path = staging(cache, uid)
    path.rmdir()
    path.symlink_to(outside)
    assert read_folder(audmodel.load(uid)) == FILES
    assert read_folder(outside) == {"large": b"precious"}


def test_one_of_several_left_is_used_and_all_are_gone(uid: str, cache: Path) -> None:
    for name in ("a", "b", "c"):
        path = staging(cache, uid)
        make_folder(path, {"large": FILES["large"]})
        path.rename(path.with_name(f".1.0.0~{name}"))
    root = Path(audmodel.load(uid))
    assert read_folder(root) == FILES
    assert not [path for path in root.parent.iterdir() if "~" in path.name]


def test_staging_of_another_version_is_left_alone(uid: str, cache: Path) -> None:
    path = staging(cache, uid)
    other = path.rename(path.with_name(".1.0.0-rc~left"))
    audmodel.load(uid)
    assert other.is_dir()


ADOPT = """
import os, sys
import audmodel
from tests.users import become
host, cache, uid, user = sys.argv[1:]
repository = audmodel.Repository("models", host, "file-system")
audmodel.config.REPOSITORIES = [repository]
audmodel.config.CACHE_ROOT = cache
become(int(user), 12345)
os.umask(0o002)
print(audmodel.load(uid, num_workers=2))
"""


@needs_root
def test_staging_of_somebody_else_is_no_obstacle(
    uid: str, cache: Path, tmp_path: Path, repository: audmodel.Repository
) -> None:
    let_in(tmp_path)
    # A shared cache: whoever is in the group may write, but one was not careful
    left = make_folder(staging(cache, uid), {"large": FILES["large"][:PART]})
    for path in (cache, left.parent):
        os.chown(path, 12345, 12345)
        path.chmod(0o2775)
    for path in (left, left / "large"):
        os.chown(path, 12346, 12346)
        path.chmod(0o755 if path.is_dir() else 0o644)
    output = run_python(ADOPT, repository.host, cache, uid, 12347)
    assert read_folder(output.strip()) == FILES


# Killed --------------------------------------------------------------------

SLOW = """
import json, os, sys, threading, time
import audmodel
from audmodel.core.backend import reader

host, cache, log, delay, num_workers, uid = sys.argv[1:]
readinto = reader.FileReader._readinto
lock = threading.Lock()

def slow(self, offset, view):
    time.sleep(float(delay))
    readinto(self, offset, view)
    with lock, open(log, "a") as file:
        print(len(view), file=file)

reader.FileReader._readinto = slow
audmodel.config.REPOSITORIES = [audmodel.Repository("models", host, "file-system")]
audmodel.config.CACHE_ROOT = cache
print(audmodel.load(uid, num_workers=int(num_workers)))
"""


def fetched(log: Path) -> int:
    return sum(map(int, log.read_text().split())) if log.exists() else 0


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", ["one file", "many files", "earlier release"])
@pytest.mark.parametrize("num_workers", [1, 4])
def test_load_killed_at_half_fetches_only_the_rest(
    kind: str,
    num_workers: int,
    tmp_path: Path,
    cache: Path,
    repository: audmodel.Repository,
) -> None:
    files = {f"{n}": noise(3 * MIB, n) for n in range(16)}
    if kind == "one file":
        # The parts that all workers have in hand are few of all
        files = {"large": noise(192 * MIB)}
    uid = publish(repository, make_folder(tmp_path / "model", files))
    if kind == "earlier release":
        replace_archive(repository, write_old(files, zipfile.ZIP_STORED))
    total = sum(map(len, files.values()))
    log = tmp_path / "log"

    def start(delay: float, log: Path) -> subprocess.Popen[str]:
        arguments = (repository.host, cache, log, delay, num_workers, uid)
        return subprocess.Popen(
            [sys.executable, "-c", SLOW, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )

    with start(0.02 * num_workers, log) as process:
        while fetched(log) < total / 2:
            assert process.poll() is None
            time.sleep(0.005)
        # What was fetched last is not written yet
        time.sleep(0.03)
        process.send_signal(signal.SIGKILL)
    assert not audmodel_folder(cache, uid).exists()
    assert fetched(log) < total * 0.9
    again = tmp_path / "again"
    with start(0, again) as process:
        output = process.communicate()[0]
        assert process.returncode == 0
    assert read_folder(output.strip()) == files
    assert fetched(again) <= total * 0.6
    left = [path.name for path in audmodel_folder(cache, uid).parent.iterdir()]
    assert not [name for name in left if "~" in name]


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("num_workers", [1, 4])
def test_interrupted_process_ends_at_once(
    num_workers: int, tmp_path: Path, cache: Path, repository: audmodel.Repository
) -> None:
    files = {"large": noise(64 * MIB)}
    uid = publish(repository, make_folder(tmp_path / "model", files))
    log = tmp_path / "log"
    arguments = (repository.host, cache, log, 0.2, num_workers, uid)
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        while not fetched(log):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        assert "KeyboardInterrupt" in process.communicate()[1]
        assert time.monotonic() - start < 2
    assert not audmodel_folder(cache, uid).exists()
    assert read_folder(audmodel.load(uid, num_workers=4)) == files


def audmodel_folder(cache: Path, uid: str) -> Path:
    return cache / uid.split("-")[0] / "1.0.0"


def test_interrupted_load_is_continued(
    tmp_path: Path, repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audmodel.core.backend.reader import FileReader

    files = {"large": noise(40 * MIB)}
    uid = publish(repository, make_folder(tmp_path / "model", files))
    readinto = FileReader._readinto
    lengths: list[int] = []

    def interrupt(self: FileReader, offset: int, view: memoryview) -> None:
        if len(lengths) == 5:
            raise KeyboardInterrupt
        lengths.append(len(view))
        readinto(self, offset, view)

    monkeypatch.setattr(FileReader, "_readinto", interrupt)
    with pytest.raises(KeyboardInterrupt):
        audmodel.load(uid)
    first = sum(lengths)

    def count(self: FileReader, offset: int, view: memoryview) -> None:
        lengths.append(len(view))
        readinto(self, offset, view)

    monkeypatch.setattr(FileReader, "_readinto", count)
    assert read_folder(audmodel.load(uid)) == files
    assert first > 15 * MIB
    assert sum(lengths) <= 40 * MIB + 1000


def test_staging_is_gone_after_the_load(uid: str, cache: Path) -> None:
    root = Path(audmodel.load(uid))
    assert not [path for path in root.parent.iterdir() if "~" in path.name]
    shutil.rmtree(root)
    assert read_folder(audmodel.load(uid, num_workers=3)) == FILES

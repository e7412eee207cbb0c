"""An archive follows from the folder alone, and from all of it."""

from __future__ import annotations

import array
from collections.abc import Callable
from collections.abc import Iterator
import functools
import os
from pathlib import Path
import random
import shutil
import tempfile
import threading
import time
from typing import Any

from blake3 import blake3
import pytest

import audmodel
from audmodel.core.archive import encoding
from audmodel.core.archive import format
from audmodel.core.archive.input import InputFile
from audmodel.core.archive.writer import ArchiveWriter
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.filesystem import FileSystem
from audmodel.core.operations import folder as folders
from audmodel.errors import FileChangedError
from audmodel.errors import InvalidFolderError
from tests.archive.tools import KIB
from tests.archive.tools import MIB
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import parse
from tests.archive.tools import publish
from tests.archive.tools import text
from tests.archive.tools import worker_threads
from tests.archive.tools import write


FILES = {
    "b/large": noise(300 * KIB) + text(300 * KIB),
    "b/a": text(3000),
    "a": b"a",
    "empty": b"",
    "ü": noise(5000),
}


def floats(count: int) -> bytes:
    """Weights of a network, float32."""
    gauss = random.Random(0).gauss
    return array.array("f", (gauss(0, 0.02) for _ in range(count))).tobytes()


def bfloats(count: int) -> bytes:
    """Weights of a network, bfloat16: the upper halves of those of float32."""
    return array.array("H", array.array("H", floats(count))[1::2]).tobytes()


# Same folder, same bytes ---------------------------------------------------


@pytest.mark.parametrize("compression", [0, 1, 9])
def test_archive_does_not_depend_on_workers(compression: int, tmp_path: Path) -> None:
    root = make_folder(tmp_path, FILES)
    arguments: dict[str, Any] = {"part_size": 50_000, "compression": compression}
    archives = {write(root, num_workers=n, **arguments) for n in (1, 2, 4, 7)}
    assert len(archives) == 1


def test_archive_does_not_depend_on_times_place_order_or_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_folder(tmp_path / "first", FILES)
    second = make_folder(tmp_path / "x/second", dict(reversed(FILES.items())))
    for path in second.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700 if path.is_dir() else 0o600)
    scandir = os.scandir

    class Shuffled:
        def __init__(self, path: str) -> None:
            with scandir(path) as entries:
                self.entries = list(entries)
            random.Random(1).shuffle(self.entries)

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self.entries)

        def __exit__(self, *arguments: object) -> None:
            pass

    data = write(first)
    monkeypatch.setattr("os.scandir", Shuffled)
    assert write(second) == data


def test_archive_can_be_written_once_more(tmp_path: Path) -> None:
    files = folders.scan(str(make_folder(tmp_path, FILES))).files
    assert b"".join(ArchiveWriter(files)) == b"".join(ArchiveWriter(files))


def test_right_to_execute_makes_a_difference(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"run": b"#!/bin/sh"})
    data = write(root)
    (root / "run").chmod(0o755)
    assert write(root) != data


# A stream ------------------------------------------------------------------


def test_chunks_are_the_archive_and_its_identity_is_known_at_the_end(
    tmp_path: Path,
) -> None:
    root = make_folder(tmp_path, FILES)
    writer = ArchiveWriter(
        folders.scan(str(root)).files, part_size=50_000, num_workers=3
    )
    chunks = list(writer)
    data = b"".join(chunks)
    assert max(map(len, chunks)) < 60_000
    assert writer.size == len(data)
    directory = parse(data)
    assert writer.digest == blake3(data[directory.offset :]).digest()


def test_first_bytes_come_before_the_last_file_is_read(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {f"{n:03}": noise(100_000, n) for n in range(100)})
    files = folders.scan(str(root)).files
    chunks = iter(ArchiveWriter(files, num_workers=2, part_size=100_000))
    next(chunks)
    os.unlink(root / "099")
    with pytest.raises(FileChangedError, match="099"):
        list(chunks)


def test_no_more_than_a_few_parts_are_read_ahead(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"a": noise(100 * 10_000)})
    read: list[int] = []

    class Counting(InputFile):
        __slots__ = ()

        def open(self) -> int:
            read.append(1)
            return super().open()

    [file] = folders.scan(str(root)).files
    counting = Counting(file.name, file.path, file.size, file.identity, file.executable)
    chunks = iter(
        ArchiveWriter([counting], num_workers=3, part_size=10_000, compression=0)
    )
    next(chunks)
    time.sleep(0.1)
    assert len(read) <= 2 * 3 + 1
    del chunks


def test_one_worker_is_the_calling_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise AssertionError("A thread was started.")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    write(make_folder(tmp_path, FILES), part_size=50_000)


def test_published_archive_is_what_the_writer_makes(
    tmp_path: Path, repository: audmodel.Repository
) -> None:
    root = make_folder(tmp_path / "model", FILES)
    publish(repository, root, num_workers=2)
    [archive] = Path(repository.host).rglob("*.zip")
    assert archive.read_bytes() == write(root)


# Compression ---------------------------------------------------------------


def contents() -> dict[str, bytes]:
    return {
        "noise": noise(2 * MIB),
        "text": text(MIB),
        "zeros": bytes(3 * MIB),
        "floats": floats(512 * KIB),
        "halves": text(MIB) + noise(MIB),
        "text in front": text(40 * KIB) + noise(6 * MIB),
        "text at the end": noise(6 * MIB) + text(40 * KIB),
        "text at both ends": text(40 * KIB) + noise(6 * MIB) + text(40 * KIB),
        "text in the middle": noise(3 * MIB) + text(MIB) + noise(3 * MIB),
        "small text": text(500),
        "small noise": noise(500),
        "small floats": floats(40 * KIB),
        "one byte": b"a",
        "nothing": b"",
        "a part": noise(MIB),
        "a part and a byte": text(MIB + 1),
        "stripes": b"".join(noise(30 * KIB, n) + bytes(3 * KIB) for n in range(90)),
    }


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", contents())
def test_higher_compression_is_smaller_or_equal(name: str, tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"content": contents()[name]})
    sizes = [len(write(root, compression=level, part_size=MIB)) for level in range(10)]
    assert sizes == sorted(sizes, reverse=True)


def test_header_of_a_large_file_does_not_make_it_grow(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"weights": text(2000) + noise(48 * MIB)})
    sizes = [len(write(root, compression=level)) for level in (0, 1, 2, 3)]
    assert sizes == sorted(sizes, reverse=True)


def test_text_shrinks_and_0_stores(tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"large": text(2 * MIB), "small": text(20_000)})
    stored = write(root, compression=0, part_size=MIB)
    assert all(member.method == format.STORED for member in parse(stored).members)
    assert len(stored) > 2 * MIB
    for level in range(1, 10):
        data = write(root, compression=level, part_size=MIB)
        assert all(member.method == format.DEFLATED for member in parse(data).members)
        assert len(data) < len(stored) * 0.6


@pytest.mark.parametrize(
    ("weights", "share"), [(floats(MIB // 4), 0.92), (bfloats(MIB // 4), 0.78)]
)
def test_default_stores_weights(weights: bytes, share: float, tmp_path: Path) -> None:
    root = make_folder(tmp_path, {"weights": weights, "text": text(600 * KIB)})
    members = parse(write(root, part_size=128 * KIB)).members
    methods = {member.name: member.method for member in members}
    assert methods == {"text": format.DEFLATED, "weights": format.STORED}
    data = write(root, compression=2, part_size=128 * KIB)
    [weights_member] = [m for m in parse(data).members if m.name == "weights"]
    assert weights_member.method == format.DEFLATED
    assert weights_member.compressed_size / len(weights) == pytest.approx(
        share, abs=0.02
    )


@pytest.mark.parametrize("level", range(10))
def test_what_does_not_shrink_costs_next_to_nothing(level: int, tmp_path: Path) -> None:
    content = text(600 * KIB) + noise(4 * MIB) + text(600 * KIB)
    root = make_folder(tmp_path, {"content": content, "small": noise(MIB)})
    data = write(root, compression=level, part_size=MIB)
    raw = sum(path.stat().st_size for path in root.iterdir())
    assert len(data) < raw * 1.0002 + 1000


# Files that change ---------------------------------------------------------


def change_content(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(5)
        file.write(b"changed")
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))


def change_content_and_restore_time(path: Path) -> None:
    before = path.stat()
    # The clock of some file systems ticks slowly
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        with path.open("r+b") as file:
            file.write(os.urandom(8))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replace(path: Path) -> None:
    status = path.stat()
    other = path.with_name(path.name + ".new")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_folder_of_it(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def make_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def remove_parent(path: Path) -> None:
    shutil.rmtree(path.parent)


def replace_parent(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_bytes(b"")


def drain(path: Path) -> None:
    os.truncate(path, 0)


CHANGES = [
    change_content,
    change_content_and_restore_time,
    truncate,
    drain,
    grow,
    replace,
    Path.unlink,
    make_fifo,
    make_folder_of_it,
    make_link,
    make_loop,
    remove_parent,
    replace_parent,
]


@pytest.mark.sample(8)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("when", ["before", "during", "after"])
@pytest.mark.parametrize("size", ["small", "large"])
def test_change_while_publishing_leaves_nothing(
    change: Callable[[Path], None],
    when: str,
    size: str,
    tmp_path: Path,
    repository: audmodel.Repository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = {"a/a": noise(50 * KIB), "x/x": noise(5 * MIB, 1), "z/z": noise(3000, 2)}
    root = make_folder(tmp_path / "model", model)
    path = root / {"small": "z/z", "large": "x/x"}[size]
    fresh = len(list(Path(repository.host).rglob("*")))

    class Changing(ArchiveWriter):
        def __iter__(self) -> Iterator[bytes]:
            if when == "before":
                change(path)
            for number, chunk in enumerate(super().__iter__()):
                if when == "during" and number == 2:
                    change(path)
                yield chunk

    if when == "after":
        original = ArchiveWriter.__iter__

        def changed_at_the_end(self: ArchiveWriter) -> Iterator[bytes]:
            total = sum(file.size for file in self._files)
            for chunk in original(self):
                if self.size >= total and path.is_file():
                    change(path)
                yield chunk

        monkeypatch.setattr(ArchiveWriter, "__iter__", changed_at_the_end)
    else:
        monkeypatch.setattr(
            "audmodel.core.operations.publishing.ArchiveWriter", Changing
        )
    with pytest.raises(FileChangedError, match=r"'.*/(x|z)'.*(changed|shorter)"):
        publish(repository, root, num_workers=2)
    left = [path for path in Path(repository.host).rglob("*") if path.is_file()]
    assert not left
    assert fresh == 1
    monkeypatch.undo()
    # It can be tried again
    other = make_folder(tmp_path / "again", model)
    audmodel.config.REPOSITORIES = [repository]
    audmodel.config.CACHE_ROOT = str(tmp_path / "cache")
    assert audmodel.exists(publish(repository, other))


def test_file_that_cannot_be_read_any_more_is_an_error(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    root = make_folder(tmp_path, {"a": b"a"})
    writer = ArchiveWriter(folders.scan(str(root)).files)
    (root / "a").chmod(0)
    with pytest.raises(FileChangedError):
        list(writer)


def test_short_reads_are_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pread = os.pread
    root = make_folder(tmp_path, FILES)
    data = write(root, part_size=50_000)
    monkeypatch.setattr(
        "os.pread", lambda fd, length, offset: pread(fd, min(length, 7000), offset)
    )
    assert write(root, part_size=50_000) == data


def test_file_that_ends_early_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The size looks right as long as the file is open, as on a network share
    pread = os.pread
    root = make_folder(tmp_path, FILES)
    monkeypatch.setattr(
        "os.pread",
        lambda fd, length, offset: pread(fd, max(0, min(length, 99 - offset)), offset),
    )
    with pytest.raises(FileChangedError, match="shorter"):
        write(root)


# Failures of the repository ------------------------------------------------


class Failing(FileSystem):
    """Repository whose disk is full after the first bytes."""

    def write_object(self, path: str, chunks: Any, **arguments: Any) -> str | None:
        def some() -> Iterator[bytes]:
            for number, chunk in enumerate(chunks):
                if number == 3:
                    raise RepositoryError("The disk is full.")
                yield chunk

        return super().write_object(path, some(), **arguments)


def test_failing_repository_stops_the_workers_and_keeps_nothing(
    tmp_path: Path, repository: audmodel.Repository
) -> None:
    audmodel.Repository.register("failing", Failing)
    repository = audmodel.Repository(repository.name, repository.host, "failing")
    root = make_folder(tmp_path / "model", {"a": noise(50 * MIB)})
    with pytest.raises(RepositoryError, match="full") as info:
        publish(repository, root, num_workers=4)
    # While the error is looked at, its traceback keeps frames alive
    assert info.value.__traceback__ is not None
    assert not worker_threads()
    assert not [p for p in Path(repository.host).rglob("*") if p.is_file()]


def test_interrupt_stops_the_workers_and_keeps_nothing(
    tmp_path: Path, repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(tmp_path / "model", {"a": noise(50 * MIB)})
    original = ArchiveWriter.__iter__

    def interrupted(self: ArchiveWriter) -> Iterator[bytes]:
        for number, chunk in enumerate(original(self)):
            if number == 3:
                raise KeyboardInterrupt
            yield chunk

    monkeypatch.setattr(ArchiveWriter, "__iter__", interrupted)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        publish(repository, root, num_workers=4)
    assert time.monotonic() - start < 2
    assert not [p for p in Path(repository.host).rglob("*") if p.is_file()]


# Temporary files -----------------------------------------------------------


def test_archive_is_written_beside_its_place(
    tmp_path: Path, repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def beside(make: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        # The clock of a storage is that of a file there, which stays empty
        assert str(more.get("dir")).startswith(repository.host)
        return make(*arguments, **more)

    for name in ("mkstemp", "mkdtemp", "TemporaryFile", "TemporaryDirectory"):
        make = functools.partial(beside, getattr(tempfile, name))
        monkeypatch.setattr(tempfile, name, make)
    root = make_folder(tmp_path / "model", FILES)
    publish(repository, root)


# Limits --------------------------------------------------------------------


def test_folder_whose_directory_would_be_refused_is_not_published(
    tmp_path: Path, repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(tmp_path / "model", {f"{n:050}": b"" for n in range(100)})
    length = sum(encoding.record_length(path.name) for path in root.iterdir())
    data = write(root)
    assert len(data) - parse(data).offset <= length + 22 + 8
    monkeypatch.setattr(format, "MAX_DIRECTORY", length - 1)
    with pytest.raises(InvalidFolderError, match="directory"):
        publish(repository, root)
    monkeypatch.setattr(format, "MAX_DIRECTORY", length)
    assert audmodel.exists(publish(repository, root))

"""An archive is read with few requests, each part to its place and verified."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import itertools
from pathlib import Path
import threading
import time
from typing import Any
import zipfile

import pytest

from audmodel.core.archive import encoding
from audmodel.core.archive import end
from audmodel.core.archive import format
from audmodel.core.archive.reader import Extractor
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.cache.tree import Folder
from audmodel.errors import ArchiveError
from tests.archive.tools import KIB
from tests.archive.tools import MIB
from tests.archive.tools import MemorySource
from tests.archive.tools import extract
from tests.archive.tools import flip
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import parse
from tests.archive.tools import read_directory
from tests.archive.tools import read_folder
from tests.archive.tools import text
from tests.archive.tools import worker_threads
from tests.archive.tools import write
from tests.archive.tools import write_old
from tests.archive.zips import DEFLATED
from tests.archive.zips import Item
from tests.archive.zips import build
from tests.archive.zips import deflate


MIXED = {
    "large/noise.bin": noise(900 * KIB),
    "large/text.txt": text(700 * KIB),
    "small/empty": b"",
    "small/a.txt": b"a",
    "small/text.txt": text(20 * KIB),
    "zeros.bin": bytes(300 * KIB),
    "ä ö ü/名.bin": noise(5 * KIB, seed=1),
}
PART = 64 * KIB


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    root = make_folder(tmp_path_factory.mktemp("mixed"), MIXED)
    return write(root, part_size=PART)


# Content -------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [1, 2, 4, 16])
@pytest.mark.parametrize("compression", [0, 1, 6])
def test_files_come_back(num_workers: int, compression: int, tmp_path: Path) -> None:
    root = make_folder(tmp_path / "model", MIXED)
    data = write(root, part_size=PART, compression=compression)
    extract(MemorySource(data), tmp_path / "out", num_workers=num_workers)
    assert read_folder(tmp_path / "out") == MIXED


@pytest.mark.parametrize("num_workers", [1, 4])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_files_of_an_earlier_release_come_back(
    num_workers: int, method: int, tmp_path: Path
) -> None:
    files = MIXED | {"huge.txt": text(9 * MIB), "huge.bin": noise(5 * MIB)}
    source = MemorySource(write_old(files, method))
    extract(source, tmp_path / "out", num_workers=num_workers)
    assert read_folder(tmp_path / "out") == files


def test_folders_of_an_earlier_release_come_back(tmp_path: Path) -> None:
    source = MemorySource(write_old({"empty/": b"", "a/b/": b"", "a/c": b"c"}))
    extract(source, tmp_path / "out")
    assert {p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.rglob("*/*")}
    assert (tmp_path / "out/empty").is_dir()
    assert (tmp_path / "out/a/b").is_dir()
    assert read_folder(tmp_path / "out") == {"a/c": b"c"}


def test_what_can_be_executed_stays_so(tmp_path: Path) -> None:
    root = make_folder(
        tmp_path / "model", {"run": b"#!", "data": b"", "big": bytes(99)}
    )
    (root / "run").chmod(0o755)
    (root / "big").chmod(0o711)
    extract(MemorySource(write(root, part_size=10)), tmp_path / "out")
    modes = {p.name: p.stat().st_mode & 0o100 for p in (tmp_path / "out").iterdir()}
    assert modes == {"run": 0o100, "data": 0, "big": 0o100}


def test_archive_without_members_is_an_empty_folder(tmp_path: Path) -> None:
    extract(MemorySource(build()), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


# Requests ------------------------------------------------------------------


def test_small_archive_needs_no_request_after_opening(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "model", {f"{n}": noise(100, n) for n in range(500)})
    source = MemorySource(write(root))
    extract(source, tmp_path / "out")
    assert source.requests == []


def test_thousand_small_files_cost_a_handful_of_requests(tmp_path: Path) -> None:
    files = {f"{n % 7}/{n:04}": noise(10 * KIB, n) for n in range(1000)}
    source = MemorySource(write(make_folder(tmp_path / "model", files)))
    extract(source, tmp_path / "out", num_workers=4)
    assert read_folder(tmp_path / "out") == files
    assert len(source.requests) <= 5
    assert source.fetched <= source.size


def test_small_files_of_an_earlier_release_are_fetched_together(tmp_path: Path) -> None:
    files = {f"{n:04}": noise(10 * KIB, n) for n in range(1000)}
    source = MemorySource(write_old(files))
    extract(source, tmp_path / "out", num_workers=4)
    assert read_folder(tmp_path / "out") == files
    assert len(source.requests) <= 6
    # Without an index the end of a header is not known
    assert source.fetched <= source.size + 6 * 128 * KIB


def test_nothing_is_fetched_twice(mixed: bytes, tmp_path: Path) -> None:
    source = MemorySource(mixed, tail=1000)
    extract(source, tmp_path / "out", num_workers=4)
    ranges = sorted(source.requests)
    for (start, length), (following, _) in itertools.pairwise(ranges):
        assert start + length <= following


def test_large_directory_takes_one_more_request() -> None:
    items = [Item(f"{n:05}".encode() * 20, b"") for n in range(3000)]
    source = MemorySource(build(*items))
    data = end.read(source)
    assert len(end.parse(data, source.size).members) == 3000
    assert len(source.requests) == 1
    whole = MemorySource(source.data, tail=source.size)
    assert end.read(whole) == data
    assert not whole.requests


def test_parts_have_a_request_each(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "model", {"a": noise(10 * PART + 1)})
    source = MemorySource(write(root, part_size=PART), tail=1000)
    extract(source, tmp_path / "out", num_workers=4)
    # The last one, of a byte, came with the end of the archive
    assert len(source.requests) == 10


def test_requests_are_in_the_order_of_the_archive(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "model", MIXED)
    source = MemorySource(write(root, part_size=PART), tail=1000)
    extract(source, tmp_path / "out")
    offsets = [offset for offset, _ in source.requests[1:]]
    assert offsets == sorted(offsets)


def test_requests_run_at_once(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "model", {"a": noise(16 * PART)})
    source = MemorySource(write(root, part_size=PART), tail=1000, delay=0.02)
    extract(source, tmp_path / "out", num_workers=4)
    assert source.most_at_once == 4


def test_ranges_of_an_earlier_release_run_at_once_and_are_bounded(
    tmp_path: Path,
) -> None:
    data = write_old({"a": noise(60 * MIB)}, zipfile.ZIP_STORED)
    source = MemorySource(data, delay=0.05)
    extract(source, tmp_path / "out", num_workers=4)
    assert source.most_at_once == 4
    assert max(length for _, length in source.requests) <= 8 * MIB
    starts = [offset for offset, _ in source.requests]
    # In order, but for those that are fetched at the same moment
    assert all(abs(starts.index(s) - n) < 8 for n, s in enumerate(sorted(starts)))


def test_several_members_of_an_earlier_release_at_once(tmp_path: Path) -> None:
    files = {f"{n}": noise(6 * MIB, n) for n in range(3)}
    source = MemorySource(write_old(files), delay=0.05)
    extract(source, tmp_path / "out", num_workers=3)
    assert read_folder(tmp_path / "out") == files
    assert source.most_at_once == 3
    first = [offset // (6 * MIB) for offset, _ in source.requests[:3]]
    assert sorted(first) == [0, 1, 2]


def test_one_worker_is_the_calling_thread(
    mixed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise AssertionError("A thread was started.")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for name, data in {"new": mixed, "old": write_old({"a": noise(5 * MIB)})}.items():
        source = MemorySource(data, tail=100)
        extract(source, tmp_path / name)
        assert source.threads == {threading.current_thread().name}


def test_index_saves_looking_for_the_data(tmp_path: Path) -> None:
    # Nothing but headers and data is fetched of members with an index
    root = make_folder(tmp_path / "model", {"a": noise(50 * KIB), "b": noise(50 * KIB)})
    data = write(root)
    source = MemorySource(data, tail=1000)
    extract(source, tmp_path / "out")
    last = parse(data).members[-1]
    end = last.header_offset + 31 + last.compressed_size
    assert source.requests == [(0, end)]


# Damage on the way ---------------------------------------------------------


class Flip:
    """Damage requests of the data on their way.

    Args:
        times: how often the byte at a position is damaged
        position: position in the archive

    """

    def __init__(self, position: int, times: int) -> None:
        self.position = position
        self.times = times
        self._lock = threading.Lock()

    def __call__(self, number: int, offset: int, data: bytes) -> bytes:
        with self._lock:
            if self.times and offset <= self.position < offset + len(data):
                self.times -= 1
                return flip(data, self.position - offset)
        return data


def middle(member: format.Member) -> int:
    """Position of a byte in the data of a member."""
    header = 30 + len(member.name.encode())
    return member.header_offset + header + member.compressed_size // 2


def sources(mixed: bytes) -> Iterator[tuple[bytes, str]]:
    old = write_old({"big": noise(5 * MIB), "small": noise(5 * KIB)})
    for data in (mixed, old):
        for member in parse(data).members:
            # A bit of the little that is left of zeros may not mean anything
            if member.size and member.name != "zeros.bin":
                yield data, member.name


@pytest.mark.parametrize("num_workers", [1, 4])
def test_damage_on_the_way_is_healed_by_fetching_once_more(
    num_workers: int, mixed: bytes, tmp_path: Path
) -> None:
    for case, (data, name) in enumerate(sources(mixed)):
        [member] = [member for member in parse(data).members if member.name == name]
        position = middle(member)
        change = Flip(position, times=1)
        source = MemorySource(data, tail=100, change=change)
        untouched = MemorySource(data, tail=100)
        out = tmp_path / f"{case}"
        extract(source, out, num_workers=num_workers)
        extract(untouched, tmp_path / f"{case} untouched", num_workers=num_workers)
        assert read_folder(out) == read_folder(tmp_path / f"{case} untouched")
        assert change.times == 0
        again = sum(offset <= position < offset + n for offset, n in source.requests)
        assert again == 2
        if member.index is not None:
            # The part, and the end of the archive
            assert len(source.requests) <= len(untouched.requests) + 2


@pytest.mark.parametrize("num_workers", [1, 4])
def test_damage_that_lasts_is_an_error_that_says_where(
    num_workers: int, mixed: bytes, tmp_path: Path
) -> None:
    for case, (data, name) in enumerate(sources(mixed)):
        [member] = [member for member in parse(data).members if member.name == name]
        position = middle(member)
        change = Flip(position, times=1000)
        source = MemorySource(
            data, tail=len(data) - parse(data).offset + 8, change=change
        )
        with pytest.raises(ArchiveError) as info:
            extract(source, tmp_path / f"{case}", num_workers=num_workers)
        message = str(info.value)
        assert repr(name) in message
        if member.is_divided:
            parts = member.parts()
            start = member.compressed_size // 2
            [number] = [
                n
                for n, part in enumerate(parts)
                if part.offset <= start < part.offset + part.length
            ]
            assert f"part {number} of" in message
        # Damaged twice, and not asked for again
        assert change.times == 995


def test_damaged_header_is_fetched_once_more(mixed: bytes, tmp_path: Path) -> None:
    for member in parse(mixed).members:
        source = MemorySource(mixed, tail=100, change=Flip(member.header_offset, 1))
        extract(source, tmp_path / str(member.header_offset))


@pytest.mark.parametrize("tail", [300, 256 * KIB])
def test_tail_damaged_on_its_way_is_fetched_once_more(
    tail: int, tmp_path: Path
) -> None:
    files = {"a": noise(1000), "b": noise(1000)}
    data = write(make_folder(tmp_path / "model", files))
    source = MemorySource(data, tail=tail)
    source.tail = flip(source.tail, -20)
    with pytest.raises(ArchiveError):
        read_directory(source)
    source.forget_tail()
    read_directory(source)
    source = MemorySource(data)
    source.tail = flip(source.tail, 100)
    extract(source, tmp_path / "out", num_workers=2)
    assert read_folder(tmp_path / "out") == files


def test_member_whose_parts_are_right_and_checksum_is_not(tmp_path: Path) -> None:
    data = write(make_folder(tmp_path / "model", {"a": noise(1000)}), part_size=300)
    directory = parse(data)
    member = directory.members[0]
    member.crc ^= 1
    rest = encoding.tail(directory.members, directory.offset)
    with pytest.raises(ArchiveError, match=r"'a'.*CRC-32"):
        extract(MemorySource(data[: directory.offset] + rest), tmp_path / "out")


# Failures ------------------------------------------------------------------


@pytest.mark.sample(3)
@pytest.mark.parametrize("kind", ["new", "old"])
@pytest.mark.parametrize(
    "error", [RepositoryError, KeyboardInterrupt, ZeroDivisionError]
)
@pytest.mark.parametrize("failing", [0, 1, 6])
def test_failing_request_stops_all_workers(
    kind: str, error: type[BaseException], failing: int, tmp_path: Path
) -> None:
    files = {"a": noise(40 * MIB), "b": noise(40 * MIB, 1)}
    data = write_old(files, zipfile.ZIP_STORED)
    if kind == "new":
        data = write(make_folder(tmp_path / "model", files), part_size=MIB)

    def change(number: int, offset: int, content: bytes) -> bytes:
        if number == failing:
            raise error("broken")
        return content

    source = MemorySource(data, tail=1000, delay=0.03, change=change)
    with pytest.raises(error, match="broken"):
        extract(source, tmp_path / "out", num_workers=4)
    assert not worker_threads()
    assert len(source.requests) <= failing + 4 * 4


def test_failure_does_not_wait_for_a_small_member_that_grows(
    tmp_path: Path, monkeypatch: Any
) -> None:
    data = write_old({"zeros": bytes(64 * MIB), "noise": noise(5 * MIB)})
    begun, failed = threading.Event(), threading.Event()
    written = 0

    def change(number: int, offset: int, content: bytes) -> bytes:
        if len(content) > MIB:
            assert begun.wait(20)
            failed.set()
            raise RepositoryError("broken")
        return content

    def pwrite(fd: int, content: bytes, offset: int) -> int:
        nonlocal written
        begun.set()
        assert failed.wait(20)
        time.sleep(0.02)
        written += len(content)
        return len(content)

    monkeypatch.setattr("os.pwrite", pwrite)
    source = MemorySource(data, tail=1000, change=change)
    with pytest.raises(RepositoryError, match="broken"):
        extract(source, tmp_path / "out", num_workers=2)
    assert 0 < written < 48 * MIB


@pytest.mark.parametrize("kind", ["new", "old"])
def test_first_failure_is_told_if_several_jobs_end(kind: str, tmp_path: Path) -> None:
    files = {f"{n}": noise(5 * MIB, n) for n in range(4)}
    data = write_old(files, zipfile.ZIP_STORED)
    if kind == "new":
        data = write(make_folder(tmp_path / "model", files), part_size=MIB)
    last = parse(data).members[-1]

    def change(number: int, offset: int, content: bytes) -> bytes:
        if offset >= last.header_offset:
            raise RepositoryError("broken")
        time.sleep(0.05)
        return content

    for _ in range(3):
        source = MemorySource(data, tail=1000, change=change)
        with pytest.raises(RepositoryError, match="broken"):
            extract(source, tmp_path / "out", num_workers=4)


def test_failing_disk_is_an_error(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(28, "No space left on device")

    data = write(make_folder(tmp_path / "model", MIXED), part_size=PART)
    monkeypatch.setattr("os.pwrite", refuse)
    for num_workers in (1, 4):
        with pytest.raises(OSError, match="No space"):
            extract(MemorySource(data), tmp_path / "out", num_workers=num_workers)


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: Any) -> None:
    import os

    pwrite = os.pwrite
    monkeypatch.setattr(
        "os.pwrite", lambda fd, data, offset: pwrite(fd, data[:5000], offset)
    )
    data = write(make_folder(tmp_path / "model", MIXED), part_size=PART)
    extract(MemorySource(data), tmp_path / "out", num_workers=2)
    assert read_folder(tmp_path / "out") == MIXED


# Extraction of hostile streams takes no memory -----------------------------


def test_junk_behind_a_stream_is_not_collected(tmp_path: Path) -> None:
    import tracemalloc

    item = Item(b"a", bytes(1000), DEFLATED)
    item.data = item.compressed() + bytes(60 * MIB)
    source = MemorySource(build(item))
    tracemalloc.start()
    with pytest.raises(ArchiveError, match="continues after its end"):
        extract(source, tmp_path / "out")
    assert tracemalloc.get_traced_memory()[1] < 20 * MIB
    tracemalloc.stop()


# Guards --------------------------------------------------------------------


def test_data_left_over_after_a_large_file_without_index(tmp_path: Path) -> None:
    content = noise(5 * MIB)
    junk = Item(content=content, method=DEFLATED, data=deflate(content) + b"junk")
    for num_workers in (1, 3):
        with pytest.raises(ArchiveError, match="file"):
            extract(MemorySource(build(junk)), tmp_path, num_workers=num_workers)


def test_large_file_without_index_that_ends_early(tmp_path: Path) -> None:
    """With the checksum of what there is."""
    content = noise(5 * MIB)
    sizes = {"size": len(content) + 1}
    short = Item(content=content, method=DEFLATED, both=sizes)
    for num_workers in (1, 3):
        with pytest.raises(ArchiveError, match="less than declared"):
            extract(MemorySource(build(short)), tmp_path, num_workers=num_workers)


@pytest.mark.parametrize("length", [2025, 2026])
def test_deflated_part_that_is_far_too_long(length: int) -> None:
    item = Item(b"a", bytes(1000), DEFLATED, bytes(length), indexed=True)
    if length > 2025:
        with pytest.raises(ArchiveError, match="does not add up"):
            parse(build(item))
    else:
        [member] = parse(build(item)).members
        assert [part.length for part in member.parts()] == [length]


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("num_workers", [1, 3])
def test_digest_of_a_part_that_is_not_that_of_its_content(
    mixed: bytes, name: str, num_workers: int, tmp_path: Path
) -> None:
    [member] = [member for member in parse(mixed).members if member.name == name]
    for part in member.parts():
        archive = mixed.replace(part.digest, flip(part.digest, 0))
        assert archive != mixed
        with pytest.raises(ArchiveError, match="digest"):
            extract(MemorySource(archive), tmp_path, num_workers=num_workers)


def test_only_folders_of_the_chosen_files_are_made(
    mixed: bytes, tmp_path: Path
) -> None:
    extract(MemorySource(mixed), tmp_path, only={"small/a.txt"})
    found = sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")
    )
    assert found == ["small", "small/a.txt"]


def test_files_that_are_not_asked_for_are_not_begun(tmp_path: Path) -> None:
    small = {f"{n:03}": noise(100, n) for n in range(400)}
    source = MemorySource(write(make_folder(tmp_path / "model", small)))
    root = tmp_path / "extracted"
    root.mkdir()
    extractor = Extractor(
        source, read_directory(source), Folder(str(root)), num_workers=2, ahead=8
    )
    with contextlib.closing(extractor.files()) as files:
        assert next(files) == "000"
        before, begun = -1, 0
        while before != begun:
            time.sleep(0.1)
            before, begun = begun, len(list(root.iterdir()))
    assert begun <= 20


def test_reads_end_when_files_are_not_asked_for_any_more(tmp_path: Path) -> None:
    class Blocked(MemorySource):
        ended = threading.Event()
        started = threading.Event()

        def _readinto(self, offset: int, view: memoryview) -> None:
            if offset > 9 * MIB:
                self.started.set()
                assert self.ended.wait(20)
            super()._readinto(offset, view)

        def cancel_reads(self) -> None:
            self.ended.set()
            super().cancel_reads()

    content = {f"{n}": noise(9 * MIB, n) for n in range(2)}
    source = Blocked(write(make_folder(tmp_path / "model", content)))
    root = tmp_path / "extracted"
    root.mkdir()
    extractor = Extractor(
        source, read_directory(source), Folder(str(root)), num_workers=4
    )
    start = time.monotonic()
    with contextlib.closing(extractor.files()) as files:
        next(files)
        assert source.started.wait(20)
    assert source.ended.is_set()
    assert time.monotonic() - start < 15

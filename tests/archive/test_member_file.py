"""A member is a file of which only what is read is fetched, and nothing unverified."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import errno
import gc
import io
import os
from pathlib import Path
import tempfile
import threading
import time
from typing import Any
import zipfile
import zlib

from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from audmodel.core.archive import member_file
from audmodel.core.archive.member_file import MemberFile
from audmodel.core.archive.parts import MemberParts
from audmodel.core.archive.parts import find_member
from audmodel.core.archive.parts import has_parts
from audmodel.errors import ArchiveError
from tests.archive.tools import KIB
from tests.archive.tools import MIB
from tests.archive.tools import MemorySource
from tests.archive.tools import flip
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import parse
from tests.archive.tools import read_directory
from tests.archive.tools import run_python
from tests.archive.tools import text
from tests.archive.tools import worker_threads
from tests.archive.tools import write
from tests.archive.tools import write_old
from tests.archive.zips import DEFLATED
from tests.archive.zips import Item
from tests.archive.zips import build


PART = 100 * KIB


def opened(
    source: MemorySource, name: str = "file", *, num_workers: int = 1
) -> io.BufferedReader:
    """Open a member as users get it."""
    directory = read_directory(source)
    entry = find_member(directory, name)
    assert entry is not None
    assert has_parts(entry.member)
    raw = MemberFile(
        MemberParts(source, entry),
        name,
        num_workers=num_workers,
        naming=contextlib.nullcontext,
        release=lambda: None,
    )
    return io.BufferedReader(raw, member_file.BUFFER)


def archive(root: Path, content: bytes, **arguments: int) -> bytes:
    """Archive of a file between others."""
    files = {"a": b"before", "file": content, "z": b"behind"}
    return write(make_folder(root, files), **({"part_size": PART} | arguments))


def source_of(root: Path, content: bytes, **arguments: int) -> MemorySource:
    """Archive whose tail holds nothing but the directory."""
    return MemorySource(archive(root, content, **arguments), tail=1 * KIB)


# What is read -------------------------------------------------------------------

contents: dict[str, Callable[[int], bytes]] = {"stored": noise, "deflated": text}
steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 400 * KIB)),
        st.tuples(st.just("read"), st.integers(0, 100)),
        st.tuples(st.just("read1"), st.integers(0, 200 * KIB)),
        st.tuples(st.just("readinto"), st.integers(0, 300 * KIB)),
        st.tuples(st.just("seek"), st.integers(0, 600 * KIB)),
        st.tuples(st.just("back"), st.integers(0, 600 * KIB)),
        st.tuples(st.just("forth"), st.integers(-1000, 1000)),
    ),
    max_size=20,
)


def step(file: io.BufferedReader | io.BytesIO, kind: str, count: int) -> object:
    """Do the same to any file."""
    if kind == "read":
        return file.read(count)
    if kind == "readinto":
        buffer = bytearray(count)
        number = file.readinto(buffer)
        return number, bytes(buffer)
    if kind == "seek":
        return file.seek(count)
    if kind == "back":
        return file.seek(max(0, file.seek(0, os.SEEK_END) - count))
    return file.seek(max(0, file.tell() + count))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(sorted(contents)),
    size=st.one_of(st.integers(0, 500 * KIB), st.sampled_from([0, PART, 4 * PART])),
    index=st.booleans(),
    num_workers=st.integers(1, 4),
    kept=st.sampled_from([0, 2 * PART, member_file.KEPT]),
    steps=steps,
)
def test_it_reads_like_any_file(
    kind: str,
    size: int,
    index: bool,
    num_workers: int,
    kept: int,
    steps: list[tuple[str, int]],
) -> None:
    content = contents[kind](size)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(member_file, "KEPT", kept)
        if index:
            data = archive(Path(folder), content, compression=9)
        else:
            method = zipfile.ZIP_STORED if kind == "stored" else zipfile.ZIP_DEFLATED
            data = write_old({"a": b"a", "file": content, "z": b"z"}, method)
        source = MemorySource(data, tail=1 * KIB)
        with opened(source, num_workers=num_workers) as file:
            expected = io.BytesIO(content)
            for name, count in steps:
                if name == "read1":
                    # As much as it likes, but something unless it is at the end
                    piece = file.read1(count)
                    assert piece == expected.read(len(piece))
                    assert piece or not count or not expected.read(1)
                else:
                    assert step(file, name, count) == step(expected, name, count)
                assert file.tell() == expected.tell()
    assert worker_threads() == []


def test_lines_and_text(tmp_path: Path) -> None:
    content = b"".join(b"line %d\n" % n for n in range(20_000))
    with opened(source_of(tmp_path, content), num_workers=2) as file:
        assert b"".join(file) == content
        file.seek(0)
        assert file.readline() == b"line 0\n"
        assert io.TextIOWrapper(file).read() == content.decode()[len("line 0\n") :]


# What is fetched ------------------------------------------------------------------


def fetched_parts(source: MemorySource) -> list[int]:
    """About how many parts each request was of."""
    return [round(length / PART) for _, length in source.requests]


def test_only_what_is_read_is_fetched(tmp_path: Path) -> None:
    content = noise(50 * PART)
    source = source_of(tmp_path, content)
    with opened(source, num_workers=4) as file:
        before = len(source.requests)
        assert file.read(8) == content[:8]
        file.seek(20 * PART + 10)
        assert file.read(50 * KIB) == content[20 * PART + 10 :][: 50 * KIB]
        file.seek(8)
        assert file.read(100) == content[8:108]
        file.seek(-5, os.SEEK_END)
        assert file.read() == content[-5:]
        file.seek(60 * PART)
        assert file.read(1) == b""
        assert len(source.requests) - before == 3
    assert source.fetched < 3.1 * PART
    assert worker_threads() == []


def test_parts_of_one_read_are_fetched_side_by_side_and_no_others(
    tmp_path: Path,
) -> None:
    content = noise(40 * PART)
    source = source_of(tmp_path, content)
    with opened(source, num_workers=4) as file:
        before = len(source.requests)
        source._delay = 0.05
        file.seek(10 * PART + 1)
        length = 8 * PART
        assert file.read(length) == content[10 * PART + 1 :][:length]
        assert len(source.requests) - before == 9
    assert 2 <= source.most_at_once <= 4


def test_reading_on_fetches_ahead_within_a_bound(tmp_path: Path) -> None:
    content = noise(40 * PART)
    source = source_of(tmp_path, content)
    with opened(source, num_workers=3) as file:
        source.requests.clear()
        file.seek(10 * PART)
        for _ in range(2 * PART // KIB + 1):
            file.read(KIB)
        # Whoever reads on gets the next parts sooner
        deadline = time.monotonic() + 20
        while len(source.requests) < 2 + 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(source.requests) == 2 + 4
        assert len(source.threads - {"MainThread"}) >= 1
        # Elsewhere nothing is fetched ahead
        count = len(source.requests)
        file.seek(30 * PART)
        file.read(1)
        assert len(source.requests) == count + 1
        assert file.seek(0) == 0
        assert file.read() == content
    assert worker_threads() == []


def test_one_worker_fetches_in_the_calling_thread(tmp_path: Path) -> None:
    content = text(5 * PART)
    source = source_of(tmp_path, content, compression=9)
    with opened(source) as file:
        assert file.read() == content
    assert source.threads == {threading.current_thread().name}


def test_parts_that_were_read_are_kept_within_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_file, "KEPT", 3 * PART)
    source = source_of(tmp_path, noise(10 * PART))
    with opened(source) as file:
        source.requests.clear()
        for number in (0, 1, 2, 0, 1, 2):
            file.seek(number * PART + 50 * KIB)
            file.read(1)
        assert len(source.requests) == 3
        # The one that was not used for longest makes room
        counts = []
        for number in (0, 3, 0, 2, 1):
            file.seek(number * PART + 50 * KIB)
            file.read(1)
            counts.append(len(source.requests))
        assert counts == [3, 4, 4, 4, 5]


def test_reading_to_the_end_ends_no_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = noise(5 * PART)
    source = source_of(tmp_path, content)
    ended: list[int] = []
    monkeypatch.setattr(source, "cancel_reads", lambda: ended.append(1))
    with opened(source, num_workers=3) as file:
        assert file.read() == content
        assert not ended
    assert not ended


@pytest.mark.thorough
def test_memory(tmp_path: Path) -> None:
    code = """
import contextlib, os, sys, io
from audmodel.core.archive import end, member_file, parts
class Source:
    tail = b""
    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self.fd).st_size
    def readinto(self, offset, view):
        assert os.preadv(self.fd, [view], offset) == len(view)
    def read(self, offset, length):
        data = bytearray(length)
        self.readinto(offset, memoryview(data))
        return data
    def cancel_reads(self):
        pass
    def forget_tail(self):
        pass
source = Source(sys.argv[1])
directory = end.parse(end.read(source), source.size)
raw = member_file.MemberFile(
    parts.MemberParts(source, parts.find_member(directory, "file")), "file",
    num_workers=2, naming=contextlib.nullcontext, release=lambda: None,
)
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if "VmHWM" in line)
before = peak()
count = 0
with io.BufferedReader(raw, member_file.BUFFER) as file:
    while data := file.read(1024 * 1024):
        count += len(data)
assert count == file_size if (file_size := int(sys.argv[2])) else False
print((peak() - before) // 1024)
"""
    content = text(1 * MIB) * 200
    root = make_folder(tmp_path / "model", {"file": content})
    path = tmp_path / "archive.zip"
    path.write_bytes(write(root, compression=2, num_workers=2))
    assert path.stat().st_size < 0.6 * len(content)
    # 4 parts that were read, 3 ahead, 2 of them with their compressed form,
    # what is copied for the user, and what the allocator does not return
    assert int(run_python(code, path, len(content))) < 64


# What goes wrong ------------------------------------------------------------------


def position_in_part(data: bytes, number: int) -> int:
    """Position of a byte in the middle of a part of a stored file."""
    directory = parse(data)
    entry = find_member(directory, "file")
    assert entry is not None
    assert entry.member.index is not None
    lengths = [length for length, _, _ in entry.member.index.parts]
    start = entry.member.header_offset + entry.member.index.header_length
    return start + sum(lengths[:number]) + lengths[number] // 2


@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize("make", [noise, text])
def test_damaged_part(
    tmp_path: Path, make: Callable[[int], bytes], num_workers: int
) -> None:
    content = make(6 * PART)
    data = archive(tmp_path, content, compression=2)
    data = flip(data, position_in_part(data, 3))
    source = MemorySource(data, tail=1 * KIB)
    with opened(source, num_workers=num_workers) as file:
        # What is right can be read
        assert file.read(3 * PART) == content[: 3 * PART]
        for _ in range(2):
            assert file.seek(3 * PART) == 3 * PART
            requests = len(source.requests)
            with pytest.raises(ArchiveError, match=r"part 3 of the file 'file', bytes"):
                file.read(10)
            # The tail of the archive is fetched again as well
            assert len(source.requests) - requests <= 3 * (num_workers + 2)
        file.seek(4 * PART)
        assert file.read() == content[4 * PART :]
        file.seek(0)
        with pytest.raises(ArchiveError, match="part 3 of the file 'file'"):
            file.read()
    assert worker_threads() == []


calls: dict[str, Callable[[io.BufferedReader], object]] = {
    "read": lambda file: file.read(2 * PART),
    "read less": lambda file: file.read(10 * KIB),
    "read all": lambda file: file.read(),
    "readinto": lambda file: file.readinto(bytearray(2 * PART)),
    "readline": lambda file: file.readline(),
    "readlines": lambda file: file.readlines(),
    "next": lambda file: next(file),
}


@pytest.mark.sample(6)
@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize("error", [ConnectionError, KeyboardInterrupt])
@pytest.mark.parametrize("call", sorted(calls))
def test_nothing_is_skipped_after_a_failure(
    tmp_path: Path, call: str, error: type[BaseException], num_workers: int
) -> None:
    """What lay in the buffer is thrown away, and must not be missing later."""
    content = noise(PART - 5 * KIB).replace(b"\n", b" ") + b"\n"
    content = (content + noise(PART, 1).replace(b"\n", b" ") + b"\n") * 2
    is_down = False

    def change(_: int, offset: int, data: bytes) -> bytes:
        if is_down:
            raise error
        return data

    source = MemorySource(archive(tmp_path, content), change=change, tail=1 * KIB)
    with opened(source, num_workers=num_workers) as file:
        position = PART - 5 * KIB - 10
        file.seek(position)
        assert file.read(11) == content[position : position + 11]
        position += 11
        is_down = True
        with pytest.raises(error):
            calls[call](file)
        is_down = False
        retries: list[Callable[[], object]] = [
            file.readline,
            file.read,
            file.read1,
            file.peek,
            file.tell,
            lambda: file.seek(1, os.SEEK_CUR),
            lambda: file.read(1),
        ]
        for retry in retries:
            with pytest.raises(OSError, match="reading failed before"):
                retry()
        file.seek(position)
        assert file.tell() == position
        assert file.readline() == content[position : 2 * PART - 5 * KIB + 2]
        file.seek(-1, os.SEEK_END)
        assert file.read() == b"\n"
    assert worker_threads() == []


@pytest.mark.parametrize("num_workers", [1, 3])
def test_part_that_is_damaged_on_its_way_is_fetched_once_more(
    tmp_path: Path, num_workers: int
) -> None:
    content = noise(6 * PART)
    data = archive(tmp_path, content)
    position = position_in_part(data, 3)
    damaged = [True]

    def change(_: int, offset: int, arrived: bytes) -> bytes:
        if offset <= position < offset + len(arrived) and damaged.pop(0):
            damaged.append(False)
            return flip(arrived, position - offset)
        damaged[:] = damaged or [False]
        return arrived

    source = MemorySource(data, change=change, tail=1 * KIB)
    with opened(source, num_workers=num_workers) as file:
        file.seek(1)
        assert file.read() == content[1:]
    assert damaged == [False]


def test_small_files_are_verified_as_a_whole(tmp_path: Path) -> None:
    data = archive(tmp_path, noise(10 * KIB))
    for position in (position_in_part(data, 0), data.index(b"before")):
        source = MemorySource(flip(data, position), tail=1 * KIB)
        name = "a" if data[position:].startswith(b"before") else "file"
        match = rf"the file '{name}', bytes .*: its"
        with opened(source, name) as file, pytest.raises(ArchiveError, match=match):
            file.read(1)


def test_small_files_without_index_are_verified_as_a_whole() -> None:
    data = write_old({"file": b"content"}, zipfile.ZIP_STORED)
    source = MemorySource(flip(data, data.index(b"content")), tail=1 * KIB)
    match = r"the file 'file', .*: its CRC-32 is"
    with opened(source) as file, pytest.raises(ArchiveError, match=match):
        file.read(1)


def test_part_that_inflates_to_less_than_declared(tmp_path: Path) -> None:
    content = text(3 * PART)
    data = archive(tmp_path, content, compression=9)
    directory = parse(data)
    entry = find_member(directory, "file")
    assert entry is not None
    assert entry.member.index is not None
    start = entry.member.header_offset + entry.member.index.header_length
    length = entry.member.index.parts[0][0]
    # An empty final block where the part begins
    broken = data[:start] + b"\x03\x00" + bytes(length - 2) + data[start + length :]
    source = MemorySource(broken, tail=1 * KIB)
    match = "part 0 of the file 'file'"
    with opened(source) as file, pytest.raises(ArchiveError, match=match):
        file.read(1)


def test_small_file_that_inflates_to_less_than_declared() -> None:
    content = text(1000)
    fields = {"size": len(content) + 1, "crc": zlib.crc32(content + b"\0")}
    source = MemorySource(build(Item(b"file", content, DEFLATED, both=fields)))
    with opened(source) as file, pytest.raises(ArchiveError, match="less than"):
        file.read(1)


def test_large_members_without_index_have_no_parts() -> None:
    size = 4 * MIB
    files = {"small": bytes(size), "large": bytes(size + 1), "folder/x": b""}
    directory = parse(write_old(files))
    for name, expected in ("small", True), ("large", False), ("folder/x", True):
        entry = find_member(directory, name)
        assert entry is not None
        assert has_parts(entry.member) == expected


@pytest.mark.parametrize("name", ["", "folder", "folder/", "FILE", "other", "file/"])
def test_names_that_are_no_files(name: str) -> None:
    data = write_old({"folder/": b"", "folder/x": b"x", "file": b"y"})
    assert find_member(parse(data), name) is None


def test_what_cannot_be_done_with_it(tmp_path: Path) -> None:
    with opened(source_of(tmp_path, noise(3 * PART))) as file:
        assert file.name == "file"
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        assert not file.isatty()
        for offset, whence in (-1, 0), (-1, 1), (-4 * PART, 2):
            with pytest.raises(OSError, match="position is negative"):
                file.seek(offset, whence)
        assert file.tell() == 0
        with pytest.raises(ValueError, match="whence"):
            file.seek(0, 7)
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
        with pytest.raises(io.UnsupportedOperation):
            file.truncate(0)
        with pytest.raises(io.UnsupportedOperation):
            file.fileno()
        with pytest.raises(TypeError):
            file.seek("1")  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            file.read("1")  # type: ignore[arg-type]
    file.close()
    calls: list[Callable[[], object]] = [
        file.read,
        file.tell,
        file.readable,
        file.seekable,
        file.readline,
        lambda: file.raw.read(1),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="closed"):
            call()


@pytest.mark.parametrize("whence", [0, 1, 2, os.SEEK_DATA, os.SEEK_HOLE, 7, -1])
@pytest.mark.parametrize("buffered", [True, False])
def test_positions_are_those_of_a_file_without_holes(
    tmp_path: Path, whence: int, buffered: bool
) -> None:
    content = noise(3 * PART)
    path = tmp_path / "file"
    path.write_bytes(content)

    def seek(reader: io.BufferedReader, offset: int) -> object:
        file: Any = reader if buffered else reader.raw
        file.seek(PART)
        try:
            found = file.seek(offset, whence)
        except OSError as error:
            found = error.errno
        except ValueError:
            # The operating system is asked by an ordinary raw file only
            found = errno.EINVAL
        return found, file.tell(), file.read(1)

    with opened(source_of(tmp_path, content)) as ours, path.open("rb") as other:
        for offset in (0, 5, 3 * PART - 1, 3 * PART, 3 * PART + 1, -1, -4 * PART):
            assert seek(ours, offset) == seek(other, offset)


def test_closing_stops_fetching(tmp_path: Path) -> None:
    source = source_of(tmp_path, noise(40 * PART))
    with opened(source, num_workers=4) as file:
        source._delay = 0.02
        for _ in range(30):
            file.read(10 * KIB)
    count = len(source.requests)
    assert worker_threads() == []
    assert count < 12
    time.sleep(0.1)
    assert len(source.requests) == count


def test_forgotten_files_leave_nothing(tmp_path: Path) -> None:
    source = source_of(tmp_path, noise(40 * PART))
    file = opened(source, num_workers=4)
    for _ in range(30):
        file.read(10 * KIB)
    assert worker_threads()
    del file
    gc.collect()
    assert worker_threads() == []


def test_several_threads_may_read(tmp_path: Path) -> None:
    content = noise(20 * PART)
    source = source_of(tmp_path, content)
    pieces: list[bytes] = []
    with opened(source, num_workers=2) as file:

        def read() -> None:
            while piece := file.read(10 * KIB):
                pieces.append(piece)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    # Each byte was read by one of them
    assert sorted(pieces) == sorted(
        content[n : n + 10 * KIB] for n in range(0, len(content), 10 * KIB)
    )


@pytest.mark.parametrize("position", [0, 1, PART - 1, PART, 3 * PART])
def test_nothing_is_fetched_if_nothing_is_read(tmp_path: Path, position: int) -> None:
    source = source_of(tmp_path, noise(4 * PART))
    with opened(source) as file:
        before = source.fetched
        file.seek(position)
        assert file.read(0) == b""
        file.seek(4 * PART + position)
        assert file.read(10) == file.read() == b""
        assert source.fetched == before


def test_parts_that_are_fetched_ahead_may_be_skipped(tmp_path: Path) -> None:
    content = noise(12 * PART)
    for skipped in (1, 2, 3):
        with opened(source_of(tmp_path, content), num_workers=4) as file:
            # Who crosses the ends of parts gets further ones ahead
            for number in range(4):
                assert file.read(PART) == content[number * PART : (number + 1) * PART]
            file.seek(skipped * PART, os.SEEK_CUR)
            start = file.tell()
            assert file.read(PART) == content[start : start + PART]

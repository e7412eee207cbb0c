"""Damage archives at random, and see that no wrong file comes out.

Each archive is either refused with ArchiveError,
or gives the files that were put in.

python benchmarks/mutate.py [count] [seed]

"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import io
import os
from pathlib import Path
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import zipfile

from audmodel.core.archive import end
from audmodel.core.archive import format
from audmodel.core.archive.reader import Extractor
from audmodel.core.archive.writer import ArchiveWriter
from audmodel.core.cache.tree import Folder
from audmodel.core.operations import folder
from audmodel.errors import ArchiveError


# What a disk with this much space would refuse is not tried
DISK = 64 * 1024 * 1024
INTERESTING = [0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0xFFFF, 0xFFFFFFFE, 0xFFFFFFFF]
MAGICS = [b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\7\x08", b"AM"]


class Bytes:
    """Archive in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.tail = data

    def readinto(self, offset: int, view: memoryview) -> None:
        view[:] = self.data[offset : offset + len(view)]

    def read(self, offset: int, length: int) -> bytearray:
        return bytearray(self.data[offset : offset + length])

    @contextlib.contextmanager
    def in_order(self, start: int, stop: int) -> Iterator[Bytes]:
        yield self

    def cancel_reads(self) -> None:
        pass

    def forget_tail(self) -> None:
        pass


def seeds() -> list[tuple[bytes, dict[str, bytes]]]:
    """Small archives of every kind, and what is in them."""
    noise = random.Random(0).randbytes
    text = b"".join(b"line %d\n" % (n * n) for n in range(400))
    files = {
        "a": noise(3000),
        "b/c": text,
        "b/d": b"",
        "ä": b"short",
        "mixed": text[:1500] + noise(1500),
    }
    archives = []
    with tempfile.TemporaryDirectory() as root:
        for name, content in files.items():
            path = Path(root, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        scanned = folder.scan(root).files
        for part_size in (700, 10_000):
            for compression in (0, 1, 9):
                writer = ArchiveWriter(
                    scanned, part_size=part_size, compression=compression
                )
                archives.append((b"".join(writer), files))
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        archives.append((stream.getvalue(), files))
    return archives


def mutate(data: bytes, choose: random.Random) -> bytes:
    """Damage an archive in a few places."""
    result = bytearray(data)
    where = data.find(b"PK\1\2")
    for _ in range(choose.choice([1, 1, 1, 2, 3, 8])):
        if not result:
            break
        # Most of the meaning is in the directory
        low = min(where, len(result) - 1) if choose.random() < 0.6 else 0
        start = choose.randrange(low, len(result))
        length = min(choose.choice([1, 1, 2, 4, 8, 40, 300]), len(result) - start)
        choose.choice(OPERATIONS)(result, start, length, choose)
    return bytes(result)


def _flip(data: bytearray, start: int, _length: int, choose: random.Random) -> None:
    data[start] ^= 1 << choose.randrange(8)


def _noise(data: bytearray, start: int, length: int, choose: random.Random) -> None:
    data[start : start + length] = choose.randbytes(length)


def _number(data: bytearray, start: int, _length: int, choose: random.Random) -> None:
    code = choose.choice("BHLQ")
    size = struct.calcsize(f"<{code}")
    if start + size <= len(data):
        (value,) = struct.unpack_from(f"<{code}", data, start)
        change = choose.choice([1, -1, 256, -256, 0])
        value = value + change if change else choose.choice(INTERESTING)
        struct.pack_into(f"<{code}", data, start, value % 256**size)


def _delete(data: bytearray, start: int, length: int, _choose: random.Random) -> None:
    del data[start : start + length]


def _insert(data: bytearray, start: int, length: int, choose: random.Random) -> None:
    data[start:start] = choose.randbytes(length)


def _copy(data: bytearray, start: int, length: int, choose: random.Random) -> None:
    target = choose.randrange(len(data))
    data[target : target + length] = data[start : start + length]


def _repeat(data: bytearray, start: int, length: int, _choose: random.Random) -> None:
    data[start:start] = data[start : start + length]


def _magic(data: bytearray, start: int, _length: int, choose: random.Random) -> None:
    magic = choose.choice(MAGICS)
    data[start : start + len(magic)] = magic


def _cut(data: bytearray, start: int, _length: int, _choose: random.Random) -> None:
    del data[start:]


OPERATIONS: list[Callable[[bytearray, int, int, random.Random], None]] = [
    *[_flip] * 5,
    *[_number] * 5,
    *[_noise] * 2,
    _delete,
    _insert,
    _copy,
    _repeat,
    _magic,
    _cut,
]


def outcome(data: bytes, files: dict[str, bytes], root: str, num_workers: int) -> str:
    """What becomes of an archive.

    Args:
        data: the archive
        files: right content
        root: empty folder
        num_workers: number of threads

    Returns:
        ``'refused'`` or ``'right'``

    Raises:
        AssertionError: if something wrong came out

    """
    source = Bytes(data)
    try:
        directory = end.parse(end.read(source), source.size)
        if directory.size > DISK:
            return "refused"
        Extractor(source, directory, Folder(root), num_workers=num_workers).run()
    except ArchiveError:
        return "refused"
    found = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in Path(root).rglob("*")
        if not path.is_dir()
    }
    assert found == files, f"{sorted(found)} came out"
    return "right"


def main(count: int, seed: int) -> None:
    archives = seeds()
    counts: Counter[str] = Counter()
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=base) as parent:
        for number in range(count):
            choose = random.Random(f"{seed} {number}")
            data, files = choose.choice(archives)
            changed = mutate(data, choose)
            root = os.path.join(parent, "out")
            os.mkdir(root)
            num_workers = 3 if number % 20 == 0 else 1
            try:
                counts[outcome(changed, files, root, num_workers)] += 1
            except BaseException:
                print(f"Mutation {number} of seed {seed} is not handled.")
                raise
            shutil.rmtree(root)
            assert os.listdir(parent) == []
    seconds = time.monotonic() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    limit = format.MAX_DIRECTORY
    print(
        f"{count} mutations in {seconds:.0f} s: {counts['refused']} refused, "
        f"{counts['right']} without effect, 0 wrong, peak memory {memory} MB "
        f"(directories up to {limit >> 20} MiB are allowed)"
    )


if __name__ == "__main__":
    main(*map(int, [*sys.argv[1:], *("2000", "1")[len(sys.argv) - 1 :]]))

"""Parts are copied from files on the disk, if they are right there."""

from __future__ import annotations

from collections.abc import Callable
import errno
import os
from pathlib import Path

import pytest

from audmodel.core.archive import end
from audmodel.core.archive import seeds
from audmodel.core.archive.dry_run import dry_run
from audmodel.core.archive.plan import batches
from audmodel.core.archive.plan import plan
from audmodel.core.archive.reader import Extractor
from audmodel.core.archive.seeds import Seed
from audmodel.core.cache.tree import Folder
from audmodel.core.errors import ArchiveError
from tests.archive.tools import MIB
from tests.archive.tools import MemorySource
from tests.archive.tools import flip
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import parse
from tests.archive.tools import read_folder
from tests.archive.tools import write
from tests.archive.tools import write_old


PART = 4 * MIB
FILES = {
    "a.bin": noise(9 * MIB),
    "empty": b"",
    "run.sh": noise(200_000, 1),
    "sub/b.bin": noise(300_000, 2),
}


class Case:
    """An archive, and a folder that has its files under other names."""

    def __init__(self, root: Path) -> None:
        make_folder(root / "published", FILES)
        (root / "published" / "run.sh").chmod(0o755)
        self.archive = write(root / "published")
        self.directory = parse(self.archive)
        self.names = {member.name for member in self.directory.members}
        self.stop = len(self.archive)
        # Something else in front of each
        self.disk = root / "disk"
        make_folder(self.disk, {f"other/{n}": b"x" + c for n, c in FILES.items()})
        self.target = root / "target"
        self.target.mkdir()

    @property
    def seeds(self) -> dict[bytes, Seed]:
        wanted = seeds.wanted(self.directory, self.names, self.stop)
        return {
            digest: Seed(Folder(str(self.disk)), f"other/{member.name}", offset + 1)
            for digest, member, offset in seeds.offered(self.directory, wanted)
        }

    def extract(self, num_workers: int = 1) -> MemorySource:
        """Extract the archive, and check files and a dry run."""
        source = MemorySource(self.archive, tail=0)
        planned = dry_run(self.directory, self.names, None, self.seeds, num_workers)
        copied: list[int] = []
        Extractor(
            source,
            self.directory,
            Folder(str(self.target)),
            num_workers=num_workers,
            seeds=self.seeds,
            copied=lambda _, size: copied.append(size),
        ).run()
        assert read_folder(self.target) == FILES
        assert os.access(self.target / "run.sh", os.X_OK)
        assert sorted(planned.ranges) == sorted(
            (start, start + length) for start, length in source.requests
        )
        assert planned.copied == sum(copied)
        return source


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


@pytest.mark.parametrize("num_workers", [1, 4])
def test_everything_is_there(case: Case, num_workers: int) -> None:
    assert case.extract(num_workers).requests == []


def test_nothing_is_there(case: Case) -> None:
    for path in (case.disk / "other").rglob("*.*"):
        path.unlink()
    assert case.extract().fetched >= sum(map(len, FILES.values()))


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"damaged")


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def link(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def gone(path: Path) -> None:
    path.parent.rename(path.parent.with_name("renamed"))


@pytest.mark.parametrize("fault", [damage, cut_short, link, pipe, folder, gone])
@pytest.mark.parametrize("name", ["a.bin", "sub/b.bin"])
def test_seed_that_is_not_what_it_was(
    case: Case, name: str, fault: Callable[[Path], None]
) -> None:
    fault(case.disk / "other" / name)
    source = case.extract()
    assert 0 < source.fetched < len(case.archive)


@pytest.mark.parametrize("name", ["open", "preadv"])
def test_seed_that_cannot_be_read(
    case: Case, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(os, name)

    def fail(file: object, *arguments: object, **more: object) -> object:
        if file == "other" or name == "preadv":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(file, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        source = MemorySource(case.archive, tail=0)
        Extractor(
            source, case.directory, Folder(str(case.target)), seeds=case.seeds
        ).run()
    assert read_folder(case.target) == FILES
    assert source.fetched >= sum(map(len, FILES.values()))


def test_only_bytes_that_were_verified_are_written(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seed changes between any two calls that read it."""
    read = os.preadv

    def change(fd: int, buffers: list[memoryview], offset: int) -> int:
        count = read(fd, buffers, offset)
        for path in (case.disk / "other").rglob("*.*"):
            damage(path)
        return count

    monkeypatch.setattr(os, "preadv", change)
    source = MemorySource(case.archive, tail=0)
    Extractor(source, case.directory, Folder(str(case.target)), seeds=case.seeds).run()
    assert read_folder(case.target) == FILES


def test_damaged_bytes_beside_seeds_are_fetched_again(case: Case) -> None:
    places = case.seeds
    [small] = [d for d, seed in places.items() if seed.name == "other/run.sh"]
    [large] = [d for d, seed in places.items() if seed[1:] == ("other/a.bin", PART + 1)]
    del places[small], places[large]
    source = MemorySource(
        case.archive,
        tail=0,
        change=lambda number, _, data: flip(data, 1000) if number in (0, 3) else data,
    )
    copied: list[int] = []
    target = Folder(str(case.target))
    Extractor(
        source,
        case.directory,
        target,
        seeds=places,
        copied=lambda _, size: copied.append(size),
    ).run()
    assert read_folder(case.target) == FILES
    # Both were fetched twice, with the tail, which is empty, in between
    assert len([length for _, length in source.requests if length]) == 4
    # Each is copied, and counted, once
    assert sum(copied) == sum(map(len, FILES.values())) - PART - len(FILES["run.sh"])


@pytest.mark.parametrize("name", ["a.bin", "run.sh"])
def test_checksum_of_a_file_that_contradicts_its_digests(case: Case, name: str) -> None:
    for member in case.directory.members:
        if member.name == name:
            member.crc ^= 1
    source = MemorySource(case.archive, tail=0)
    target = Folder(str(case.target))
    with pytest.raises(ArchiveError, match=name):
        Extractor(source, case.directory, target, seeds=case.seeds).run()


def test_what_follows_a_gap_is_fetched_alone(tmp_path: Path) -> None:
    files = {f"{n:02}": noise(100_000, n) for n in range(30)}
    archive = write(make_folder(tmp_path / "published", files))
    directory = parse(archive)
    (tmp_path / "target").mkdir()
    wanted = seeds.wanted(directory, files, len(archive))
    places = {
        digest: Seed(Folder(str(tmp_path / "published")), member.name, offset)
        for digest, member, offset in seeds.offered(directory, wanted)
        if member.name not in ("03", "04", "20")
    }
    source = MemorySource(archive, tail=0)
    target = Folder(str(tmp_path / "target"))
    Extractor(source, directory, target, seeds=places).run()
    assert read_folder(tmp_path / "target") == files
    assert [length // 100_000 for _, length in source.requests] == [2, 1]


def test_requests_between_seeds(tmp_path: Path) -> None:
    files = {"a": noise(20 * PART)}
    directory = parse(write(make_folder(tmp_path, files)))
    digests = [digest for _, _, digest in directory.members[0].index.parts]  # type: ignore[union-attr]
    seeded = {digests[3], digests[4], digests[10]}
    groups = list(batches(plan(directory), 1, seeded))
    assert [len(group) for group in groups] == [3, 1, 1, 5, 1, 9]


def test_parts_that_are_known_are_not_wanted(case: Case) -> None:
    everything = seeds.wanted(case.directory, case.names, case.stop)
    assert sum(everything.values()) == sum(map(len, FILES.values()))
    assert seeds.wanted(case.directory, case.names, 0) == {}
    assert seeds.wanted(case.directory, {"empty"}, case.stop) == {}
    last = seeds.wanted(case.directory, case.names, case.stop - 400_000)
    assert len(last) == len(everything) - 1
    old = parse(write_old(FILES))
    assert seeds.wanted(old, FILES, case.stop) == {}


def test_digests_of_an_archive(case: Case) -> None:
    data = end.read(MemorySource(case.archive))
    size = len(case.archive)
    assert set(end.part_digests(data, size)) == set(
        seeds.wanted(case.directory, case.names, case.stop)
    )
    old = write_old(FILES)
    assert list(end.part_digests(end.read(MemorySource(old)), len(old))) == []

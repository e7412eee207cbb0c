"""Archives made in bad faith are refused, and nothing is written elsewhere."""

from __future__ import annotations

import io
from pathlib import Path
import shutil
import stat
import subprocess
import zipfile

import pytest

import audmodel
from audmodel.errors import ArchiveError
from audmodel.errors import DiskFullError
from tests.archive import hostile
from tests.archive.tools import MemorySource
from tests.archive.tools import extract
from tests.archive.tools import listing
from tests.archive.tools import make_folder
from tests.archive.tools import read_folder
from tests.archive.tools import replace_archive
from tests.archive.tools import store
from tests.archive.zips import DEFLATED
from tests.archive.zips import Item
from tests.archive.zips import build
from tests.archive.zips import deflate
from tests.archive.zips import zip64
from tests.parts import skip_without


CASES = list(hostile.cases())


def test_there_are_many() -> None:
    names = [name for name, _, _ in CASES]
    assert len(set(names)) == len(names)
    assert sum(files is None for _, _, files in CASES) >= 150


@pytest.mark.sample(20)
@pytest.mark.parametrize(
    ("archive", "files"),
    [case[1:] for case in CASES],
    ids=[case[0].replace(" ", "-") for case in CASES],
)
def test_archive(
    archive: bytes,
    files: dict[str, bytes] | None,
    tmp_path: Path,
    cache: Path,
    repository: audmodel.Repository,
) -> None:
    uid = store(repository, tmp_path / "model", archive)
    before = listing(tmp_path)
    if files is None:
        for num_workers in (1, 3):
            root = str(cache / str(num_workers))
            with pytest.raises(ArchiveError) as info:
                audmodel.load(uid, num_workers=num_workers, cache_root=root)
            assert uid in str(info.value)
    else:
        root = audmodel.load(uid, num_workers=3, cache_root=str(cache / "3"))
        assert read_folder(root) == files
        for path in Path(root).rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o7022 == 0
    # Nothing was written but in the cache, where only whole models are visible
    after = listing(tmp_path)
    written = {name for name in after if after[name] != before.get(name)}
    assert before.keys() <= after.keys()
    assert all(name.split("/")[0] == "cache" for name in written)
    short = uid.split("-")[0]
    visible = {path.name for path in cache.glob(f"*/{short}/[!.]*")}
    assert visible <= {"1.0.0", "1.0.0.header.yaml", "1.0.0.meta.yaml"}
    assert ("1.0.0" in visible) == (files is not None)


@pytest.mark.parametrize(
    ("archive", "files"),
    [case[1:] for case in CASES],
    ids=[case[0].replace(" ", "-") for case in CASES],
)
def test_archive_is_extracted_or_refused(
    archive: bytes, files: dict[str, bytes] | None, tmp_path: Path
) -> None:
    if files is None:
        with pytest.raises(ArchiveError):
            extract(MemorySource(archive), tmp_path)
    else:
        extract(MemorySource(archive), tmp_path)
        assert read_folder(tmp_path) == files


HARMLESS = [(name, data, files) for name, data, files in CASES if files is not None]


@pytest.mark.sample(12)
@pytest.mark.parametrize(
    ("archive", "files"),
    [case[1:] for case in HARMLESS],
    ids=[case[0].replace(" ", "-") for case in HARMLESS],
)
def test_others_see_the_same_in_what_is_not_refused(
    archive: bytes, files: dict[str, bytes]
) -> None:
    found = {}
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            for info in opened.infolist():
                # The name of the header is not looked at
                found[info.filename] = opened.read(info)
    except (zipfile.BadZipFile, OSError):
        # It may be more strict, but may not see something else
        return
    assert found == files


TOOLS = {
    "unzip": ["unzip", "-qq", "-o", "{archive}", "-d", "{folder}"],
    "bsdtar": ["bsdtar", "-x", "-f", "{archive}", "-C", "{folder}"],
}


@pytest.mark.parametrize("tool", TOOLS)
def test_other_programs_see_the_same_in_what_is_not_refused(
    tmp_path: Path, tool: str
) -> None:
    if shutil.which(tool) is None:
        skip_without(tool)
    agreed = 0
    others = {}
    for number, (name, data, files) in enumerate(HARMLESS):
        archive, folder = tmp_path / f"{number}.zip", tmp_path / str(number)
        archive.write_bytes(data)
        folder.mkdir()
        command = [part.format(archive=archive, folder=folder) for part in TOOLS[tool]]
        result = subprocess.run(
            command, capture_output=True, check=False, stdin=subprocess.DEVNULL
        )
        if result.returncode:
            # It may be more strict
            continue
        for path in folder.rglob("*"):
            # Rights that an archive gives may keep its owner from reading
            if not path.is_symlink():
                path.chmod(0o700)
        found = read_folder(folder)
        # Programs turn names of other systems into names of this one
        if sorted(found.values()) == sorted(files.values()):
            agreed += 1
        else:
            others[name] = sorted(found)
    assert others == {}
    assert agreed > len(HARMLESS) / 2


@pytest.mark.parametrize("method", [0, DEFLATED])
@pytest.mark.parametrize("size", [2**50, 2**63 - 1, 2**64 - 1])
def test_size_beyond_the_disk_is_refused_before_the_first_byte(
    method: int,
    size: int,
    tmp_path: Path,
    cache: Path,
    repository: audmodel.Repository,
) -> None:
    data = deflate(bytes(1000)) if method else bytes(1000)
    fields = {"size": 2**32 - 1, "extra": zip64(size)}
    item = Item(b"a", bytes(1000), method, data, central=fields)
    uid = store(repository, tmp_path / "model", build(item))
    expected = DiskFullError if method else ArchiveError
    with pytest.raises(expected):
        audmodel.load(uid)
    assert not [path for path in cache.rglob("*") if path.name == "a"]


def test_archive_is_the_one_the_header_names(
    tmp_path: Path, repository: audmodel.Repository
) -> None:
    root = make_folder(tmp_path / "model", {"a": b"right"})
    uid = audmodel.publish(str(root), "torch", {}, "1.0.0", repository=repository)
    [archive] = Path(repository.host).rglob("*.zip")
    archive.write_bytes(build(Item(b"a", b"other")))
    with pytest.raises(audmodel.errors.ArchiveMismatchError, match=uid):
        audmodel.load(uid)
    # Without the identity nothing is wrong with it
    replace_archive(repository, archive.read_bytes())
    assert read_folder(audmodel.load(uid)) == {"a": b"other"}

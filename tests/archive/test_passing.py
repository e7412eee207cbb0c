"""The bytes of an archive are passed on, each after it was checked."""

from __future__ import annotations

from pathlib import Path
import zipfile

import pytest

import audmodel
from audmodel.core.archive.passing import Passer
from tests.archive.tools import MIB
from tests.archive.tools import MemorySource
from tests.archive.tools import flip
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import parse
from tests.archive.tools import text
from tests.archive.tools import write
from tests.archive.tools import write_old


FILES = {
    "a": noise(5000),
    "empty": b"",
    "large": noise(5 * MIB),
    "log/b": b"b",
    "text": text(9 * MIB),
    "z": b"z",
}


@pytest.fixture(scope="module", params=["new", "deflated", "stored"])
def archive(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> bytes:
    if request.param == "new":
        return write(make_folder(tmp_path_factory.mktemp("model"), FILES))
    method = {"deflated": zipfile.ZIP_DEFLATED, "stored": zipfile.ZIP_STORED}
    return write_old(FILES, method[request.param])


def passed(archive: bytes, directory: bytes, num_workers: int) -> bytes:
    passer = Passer(
        MemorySource(archive),
        parse(directory),
        num_workers=num_workers,
    )
    return b"".join(passer.chunks())


@pytest.mark.parametrize("num_workers", [1, 3])
def test_bytes_stay_the_same(archive: bytes, num_workers: int) -> None:
    assert passed(archive, archive, num_workers) == archive


@pytest.mark.sample(6)
@pytest.mark.parametrize("name", ["a", "large", "text", "z"])
def test_damaged_member(archive: bytes, name: str) -> None:
    [member] = [each for each in parse(archive).members if each.name == name]
    start = member.header_offset + 30 + len(name)
    place = start + member.compressed_size // 2
    broken = flip(archive, place)
    with pytest.raises(audmodel.errors.ArchiveError, match=f"'{name}'"):
        passed(broken, archive, 2)


@pytest.mark.thorough
def test_large_member_is_passed_on_piece_by_piece(tmp_path: Path) -> None:
    archive = write_old({"large": noise(40 * MIB)}, zipfile.ZIP_STORED)
    passer = Passer(MemorySource(archive), parse(archive), num_workers=2)
    assert max(map(len, passer.chunks())) <= 8 * MIB

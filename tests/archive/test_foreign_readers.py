"""What we write is a ZIP file to everybody else."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace
import os
from pathlib import Path
import shutil
import subprocess
from typing import Any
import unicodedata
import zipfile

import pytest

import audmodel
from audmodel.core.archive import format
from audmodel.core.archive.writer import ArchiveWriter
from audmodel.core.backend.reader import FileReader
from audmodel.core.operations.folder import scan
from tests.archive.tools import KIB
from tests.archive.tools import MIB
from tests.archive.tools import MemorySource
from tests.archive.tools import extract
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import parse
from tests.archive.tools import publish
from tests.archive.tools import read_folder
from tests.archive.tools import text
from tests.parts import skip_without


UNICODE = {
    "ä ö ü/ß.txt": b"umlauts",
    "名前/モデル.bin": noise(100 * KIB),
    "🦉.txt": text(5000),
    "cafe\u0301": b"decomposed",
    "plain": b"",
}
KINDS: dict[str, tuple[dict[str, bytes], dict[str, Any]]] = {
    "stored": (
        {"a": noise(700 * KIB), "b/c": text(300 * KIB), "d": b"", "e": b"e"},
        {"compression": 0, "part_size": 64 * KIB},
    ),
    "deflated": (
        {"a": text(700 * KIB), "b/c": text(300 * KIB), "d": b"", "e": text(900)},
        {"part_size": 64 * KIB},
    ),
    "hardly deflated": (
        {"a": text(200 * KIB) + noise(400 * KIB) + text(200 * KIB)},
        {"compression": 9, "part_size": 50_000},
    ),
    "one file": ({"a": b"content"}, {}),
    "one empty file": ({"a": b""}, {}),
    "many small": ({f"{n % 20}/{n}": text(500, n) for n in range(1500)}, {}),
    "names": (UNICODE, {"part_size": 10 * KIB}),
    "many parts": (
        {"a" * 250 + "/" + "b" * 250: text(5000 * KIB), "c": noise(3000 * KIB)},
        {"part_size": KIB},
    ),
    "zeros": ({"zeros": bytes(5 * MIB)}, {"part_size": MIB}),
}


# Readers -------------------------------------------------------------------


def run(command: Sequence[str | Path], **arguments: object) -> str:
    if shutil.which(str(command[0])) is None:
        skip_without(str(command[0]))
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    result = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    # None of them warns either
    assert "arning" not in result.stdout + result.stderr
    return result.stdout


def unzip(path: Path, out: Path) -> None:
    assert "No errors detected" in run(["unzip", "-t", path])
    run(["unzip", "-q", path, "-d", out])


def seven_zip(path: Path, out: Path) -> None:
    assert "Everything is Ok" in run(["7z", "t", path])
    run(["7z", "x", path, f"-o{out}"])


def bsdtar(path: Path, out: Path) -> None:
    run(["bsdtar", "-tf", path])
    out.mkdir()
    run(["bsdtar", "-xf", path, "-C", out])


def zip_file(path: Path, out: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        archive.extractall(out)


def composed(files: dict[str, bytes]) -> dict[str, bytes]:
    return {unicodedata.normalize("NFC", name): files[name] for name in files}


READERS: list[Callable[[Path, Path], None]] = [unzip, seven_zip, bsdtar, zip_file]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("kinds")
    paths = {}
    for name, (files, arguments) in KINDS.items():
        root = make_folder(folder / name, files)
        paths[name] = folder / f"{name}.zip"
        chunks = ArchiveWriter(scan(str(root)).files, num_workers=2, **arguments)
        paths[name].write_bytes(b"".join(chunks))
    return paths


@pytest.mark.sample(8)
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", KINDS)
def test_reader_extracts(
    kind: str,
    reader: Callable[[Path, Path], None],
    archives: dict[str, Path],
    tmp_path: Path,
) -> None:
    reader(archives[kind], tmp_path / "out")
    # libarchive composes characters
    assert composed(read_folder(tmp_path / "out")) == composed(KINDS[kind][0])


@pytest.mark.parametrize("kind", KINDS)
def test_we_extract(kind: str, archives: dict[str, Path], tmp_path: Path) -> None:
    source = MemorySource(archives[kind].read_bytes())
    extract(source, tmp_path / "out", num_workers=2)
    assert read_folder(tmp_path / "out") == KINDS[kind][0]


def test_table_can_be_larger_than_an_extra_field(archives: dict[str, Path]) -> None:
    members = parse(archives["many parts"].read_bytes()).members
    assert [len(list(member.parts())) for member in members] == [5000, 3000]
    assert 8000 * format.PART.size > format.MASK16


# zipfile does not set rights
@pytest.mark.parametrize("reader", [unzip, seven_zip, bsdtar])
def test_rights_to_execute(
    reader: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    root = make_folder(tmp_path / "model", {"run": b"#!/bin/sh", "data": b"1"})
    (root / "run").chmod(0o755)
    path = tmp_path / "model.zip"
    path.write_bytes(b"".join(ArchiveWriter(scan(str(root)).files)))
    reader(path, tmp_path / "out")
    modes = {p.name: p.stat().st_mode & 0o100 for p in (tmp_path / "out").iterdir()}
    assert modes == {"run": 0o100, "data": 0}


# Large ---------------------------------------------------------------------


COUNT = 65_535 + 10
HUGE = 2**32 + 5 * MIB


@pytest.mark.thorough
def test_readers_accept_more_members_than_fit_into_16_bits(tmp_path: Path) -> None:
    # As many names for the same two files
    make_folder(tmp_path / "model", {"a": b"", "b": b"b"})
    empty, other = scan(str(tmp_path / "model")).files
    files = [replace(empty, name=f"{n // 1000}/{n:05}") for n in range(COUNT)]
    path = tmp_path / "many.zip"
    path.write_bytes(b"".join(ArchiveWriter([*files, replace(other, name="last")])))
    assert len(parse(path.read_bytes()).members) == COUNT + 1
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == COUNT + 1
        assert archive.read("last") == b"b"
    for command in ("unzip -tqq", "7z t", "bsdtar -tf"):
        run([*command.split(), path])


@pytest.mark.thorough
def test_readers_accept_more_than_4_gib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A member over 4 GiB, and one that starts behind 4 GiB
    root = make_folder(tmp_path / "model", {"b": b"behind", "a": b""})
    os.truncate(root / "a", HUGE)
    path = tmp_path / "huge.zip"
    files = scan(str(root)).files
    zeros = bytes(format.PART_SIZE)
    with path.open("wb") as file:
        for chunk in ArchiveWriter(files, compression=0, num_workers=2):
            # Holes take neither time nor space
            if chunk == zeros[: len(chunk)]:
                file.seek(len(chunk), os.SEEK_CUR)
            else:
                file.write(chunk)
    assert path.stat().st_size > HUGE
    with zipfile.ZipFile(path) as archive:
        assert archive.getinfo("a").file_size == HUGE
        assert archive.read("b") == b"behind"
    # Everything is read and verified, only writing is left out
    monkeypatch.setattr("os.pwrite", lambda fd, data, offset: len(data))
    with path.open("rb") as file:
        extract(FileReader(file, str(path)), tmp_path / "out", num_workers=2)
    assert (tmp_path / "out/a").stat().st_size == HUGE
    monkeypatch.undo()
    run(["7z", "t", path])
    run(["bsdtar", "-tf", path])
    # It takes 20 s for the other one
    run(["unzip", "-tqq", path, "b"])


# The released audmodel -----------------------------------------------------


OLD_LOAD = """
import sys, audmodel
host, cache, uid = sys.argv[1:]
repository = audmodel.Repository("models", host, "file-system")
audmodel.config.REPOSITORIES = [repository]
audmodel.config.CACHE_ROOT = cache
print(audmodel.load(uid))
"""
OLD_PUBLISH = """
import sys, audmodel
host, cache, root = sys.argv[1:]
repository = audmodel.Repository("models", host, "file-system")
audmodel.config.REPOSITORIES = [repository]
audmodel.config.CACHE_ROOT = cache
print(audmodel.publish(root, "torch", {}, "1.0.0", repository=repository))
"""


def run_old(python: Path, code: str, *arguments: object) -> str:
    result = subprocess.run(
        [python, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        # Not where this version is
        cwd=Path(str(arguments[1])).parent,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()[-1]


OLD_FILES = UNICODE | {
    "large": noise(5 * MIB),
    "text": text(5 * MIB),
    "many/a": b"a",
    "many/b": b"b",
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("compression", [0, 1, 9])
def test_released_audmodel_loads_what_we_publish(
    compression: int,
    released_python: Path,
    tmp_path: Path,
    repository: audmodel.Repository,
) -> None:
    root = make_folder(tmp_path / "model", OLD_FILES)
    uid = publish(repository, root, compression=compression, num_workers=2)
    loaded = run_old(released_python, OLD_LOAD, repository.host, tmp_path / "old", uid)
    assert read_folder(loaded) == OLD_FILES


@pytest.mark.parametrize("num_workers", [1, 4])
def test_we_load_what_the_released_audmodel_publishes(
    num_workers: int,
    released_python: Path,
    tmp_path: Path,
    repository: audmodel.Repository,
) -> None:
    root = make_folder(tmp_path / "model", OLD_FILES)
    uid = run_old(released_python, OLD_PUBLISH, repository.host, tmp_path / "old", root)
    loaded = audmodel.load(uid, num_workers=num_workers)
    assert read_folder(loaded) == OLD_FILES


def test_earlier_archive_over_2_gib_is_read(tmp_path: Path) -> None:
    # 'zipfile' switches to ZIP64 at 2 GiB, where the older fields still suffice
    path = tmp_path / "old.zip"
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", b"first")
        archive.start_dir = 2**31 + 10
        archive.writestr("b", b"second")
    assert path.stat().st_size > 2**31
    with path.open("rb") as stream:
        extract(FileReader(stream, str(path)), tmp_path / "out")
    assert read_folder(tmp_path / "out") == {"a": b"first", "b": b"second"}

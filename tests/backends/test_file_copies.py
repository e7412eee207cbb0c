"""New versions of which the file system copies what it has."""

from __future__ import annotations

from collections.abc import Callable
import errno
import os
from pathlib import Path
from typing import Any

import pytest

import audmodel
from audmodel.core import disk
from audmodel.core.archive.writer import ArchiveWriter
from audmodel.core.backend import file_copies
from audmodel.core.operations import base as bases
from audmodel.core.operations import folder as folders
from tests.archive.tools import KIB
from tests.archive.tools import MIB
from tests.archive.tools import make_folder
from tests.archive.tools import noise
from tests.archive.tools import text


FILES = {
    "a": noise(5 * MIB, 1),
    "b": noise(100 * KIB, 2),
    "c": text(70 * KIB, 3),
    "d": noise(6 * MIB, 4),
}
COPY = os.copy_file_range
CLONES = file_copies._clones


@pytest.fixture(autouse=True)
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system whose files share blocks, and no small models."""
    monkeypatch.setattr(bases, "_LARGE", 1000)
    monkeypatch.setattr(file_copies, "_clones", lambda source, folder: True)
    (tmp_path / "host" / "models").mkdir(parents=True)
    place = audmodel.Repository("models", tmp_path / "host", "file-system")
    audmodel.config.REPOSITORIES = [place]
    audmodel.config.CACHE_ROOT = str(tmp_path / "cache")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "model", FILES)


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Positions in both files, and number of bytes, of each copy."""
    seen = []

    def copy(source: int, target: int, count: int, offset: int) -> int:
        place = os.lseek(target, 0, os.SEEK_CUR)
        done = COPY(source, target, count, offset)
        seen.append((offset, place, done))
        return done

    monkeypatch.setattr(os, "copy_file_range", copy)
    return seen


def publish(root: Path, version: str = "1.0.0", **arguments: Any) -> str:
    return audmodel.publish(str(root), "torch", {}, version, **arguments)


def archive(tmp_path: Path, version: str) -> Path:
    (path,) = (tmp_path / "host" / "models" / "torch").rglob(f"*-{version}.zip")
    return path


def whole(root: Path) -> bytes:
    return b"".join(ArchiveWriter(folders.scan(str(root)).files))


def test_stored_parts_are_copied(
    root: Path, tmp_path: Path, copied: list[tuple[int, int, int]]
) -> None:
    publish(root)
    assert not copied
    (root / "c").write_bytes(text(70 * KIB, 9))
    # As long as before, in the archive as well
    (root / "d").write_bytes(FILES["d"][: 5 * MIB] + noise(MIB, 8))
    publish(root, "2.0.0", num_workers=2)
    assert archive(tmp_path, "2.0.0").read_bytes() == whole(root)
    total = sum(count for _, _, count in copied)
    assert total > 5 * MIB - 8 * KIB
    # Blocks are shared as a whole, from their beginning on
    assert all(offset % 4096 == place % 4096 == 0 for offset, place, _ in copied)


def test_what_moves_by_less_than_a_block_is_copied_by_servers_only(
    root: Path,
    tmp_path: Path,
    copied: list[tuple[int, int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uid = publish(root)
    (root / "0").write_bytes(b"moves everything")
    publish(root, "2.0.0")
    assert not copied
    monkeypatch.setattr(disk, "has_server_copies", lambda path: True)
    publish(root, "3.0.0", base=uid)
    assert sum(count for _, _, count in copied) > 11 * MIB
    assert archive(tmp_path, "3.0.0").read_bytes() == whole(root)


def test_a_file_system_that_has_nothing_better_is_left_alone(
    root: Path,
    tmp_path: Path,
    copied: list[tuple[int, int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(file_copies, "_clones", lambda source, folder: False)
    publish(root)
    publish(root, "2.0.0")
    assert not copied
    assert archive(tmp_path, "2.0.0").read_bytes() == whole(root)


def fails(number: int) -> Callable[..., int]:
    def copy(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    return copy


@pytest.mark.parametrize(
    "copy",
    [
        fails(errno.EXDEV),
        fails(errno.EIO),
        fails(errno.EOPNOTSUPP),
        lambda *_: 0,
        lambda source, target, count, offset: COPY(
            source, target, min(count, 5000), offset
        ),
    ],
    ids=["device", "damaged", "unsupported", "nothing", "few"],
)
@pytest.mark.parametrize("after", [0, 1])
def test_what_cannot_be_copied_is_written(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    copy: Callable[..., int],
    after: int,
) -> None:
    publish(root)
    calls = []

    def some(*arguments: int) -> int:
        calls.append(arguments)
        return COPY(*arguments) if len(calls) <= after else copy(*arguments)

    monkeypatch.setattr(os, "copy_file_range", some)
    publish(root, "2.0.0")
    assert calls
    assert archive(tmp_path, "2.0.0").read_bytes() == whole(root)


def test_a_full_disk_is_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(root)
    monkeypatch.setattr(os, "copy_file_range", fails(errno.ENOSPC))
    with pytest.raises(audmodel.errors.RepositoryError, match="No space left"):
        publish(root, "2.0.0")
    assert len(list((tmp_path / "host").rglob("*.zip*"))) == 1


@pytest.mark.parametrize("how", ["replace", "delete", "shorten"])
def test_a_base_that_changes_meanwhile(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    publish(root)
    base = archive(tmp_path, "1.0.0")

    def pays(*_: Any) -> bool:
        # It was found, and is opened once more to be copied
        data = base.read_bytes()
        if how == "shorten":
            os.truncate(base, len(data) // 2)
        else:
            base.unlink()
        if how == "replace":
            base.write_bytes(noise(len(data), 7))
        return True

    monkeypatch.setattr(file_copies, "pays", pays)
    publish(root, "2.0.0")
    assert archive(tmp_path, "2.0.0").read_bytes() == whole(root)


def test_other_file_systems_share_no_blocks(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        file.write(noise(8192))
        file.flush()
        assert not CLONES(file.fileno(), "/dev/shm")
    with open("/proc/self/status", "rb") as file:
        assert not CLONES(file.fileno(), str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["file", "host"]


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("nfs4", "rw,vers=4.2,rsize=1048576", True),
        ("nfs4", "rw,vers=4.1", False),
        ("nfs", "rw,vers=3", False),
        ("cifs", "rw,vers=3.1.1", True),
        ("ext4", "rw", False),
    ],
)
def test_servers_that_copy(
    tmp_path: Path, kind: str, options: str, expected: bool
) -> None:
    device = os.stat(tmp_path).st_dev
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "1 0 0:0 / /other rw - nfs4 host:/other rw,vers=4.2\n"
        f"2 0 {os.major(device)}:{os.minor(device)} / / rw - {kind} place {options}\n"
    )
    assert disk.has_server_copies(str(tmp_path), str(mounts)) is expected

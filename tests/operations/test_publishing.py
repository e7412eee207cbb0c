"""What is stored, and what if another program does it at the same moment."""

from __future__ import annotations

from collections.abc import Callable
import errno
import logging
import os
from pathlib import Path
import random
import shutil
from typing import Any

import pytest

import audmodel
from audmodel.core.archive import comparing
from audmodel.core.backend.errors import HiddenError
from audmodel.core.backend.filesystem import FileSystem
from audmodel.core.operations import publishing
from audmodel.core.repository import claims
from audmodel.core.repository.registry import Registry
from audmodel.errors import FileChangedError
from audmodel.errors import InvalidFolderError
from audmodel.errors import ModelExistsError
from audmodel.errors import PublishConflictError
from tests.behaviour.backends import content
from tests.behaviour.backends import files
from tests.behaviour.backends import publish


Replace = Callable[[Callable[[Path], object]], None]


def test_compression_is_that_of_the_archive(
    repository: audmodel.Repository, model_folder: Path
) -> None:
    (model_folder / "text").write_bytes(b"0123456789" * 10_000)
    sizes = []
    for level in (0, 1, 9):
        publish(model_folder, version=f"{level}.0.0", compression=level)
        [archive] = Path(repository.host).rglob(f"*-{level}.0.0.zip")
        sizes.append(archive.stat().st_size)
    assert sizes[0] > 100_000 > sizes[1] > sizes[2]


@pytest.fixture
def once_committed(
    repository: audmodel.Repository, monkeypatch: pytest.MonkeyPatch
) -> Replace:
    """Let another program change the archive right after the header was stored."""
    create = FileSystem.create_object

    def change(function: Callable[[Path], object]) -> None:
        def create_object(self: FileSystem, path: str, data: bytes) -> bool:
            created = create(self, path, data)
            if ".header." in path:
                [archive] = Path(repository.host).rglob("*.zip")
                function(archive)
            return created

        monkeypatch.setattr(FileSystem, "create_object", create_object)

    return change


def replace(archive: Path, data: bytes) -> None:
    other = archive.with_name("other")
    other.write_bytes(data)
    other.replace(archive)


def another_digest(archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[-1] ^= 1
    replace(archive, bytes(data))


@pytest.mark.parametrize(
    "change",
    [
        Path.unlink,
        another_digest,
        lambda archive: replace(archive, archive.read_bytes()[1:]),
        lambda archive: replace(archive, b"x" + archive.read_bytes()),
        lambda archive: replace(archive, bytes(archive.stat().st_size)),
    ],
    ids=["removed", "digest", "shorter", "longer", "no archive"],
)
def test_archive_of_another_program(
    repository: audmodel.Repository,
    model_folder: Path,
    once_committed: Replace,
    change: Callable[[Path], object],
) -> None:
    once_committed(change)
    with pytest.raises(PublishConflictError, match="stored an archive"):
        publish(model_folder)
    assert [path for path in content(repository) if ".header." in path] == []


def test_archive_that_has_another_etag_and_is_the_same(
    repository: audmodel.Repository, model_folder: Path, once_committed: Replace
) -> None:
    def touch(archive: Path) -> None:
        replace(archive, archive.read_bytes())
        os.utime(archive, (1, 1))

    once_committed(touch)
    uid = publish(model_folder)
    assert files(audmodel.load(uid)) == files(model_folder)


def test_archive_that_is_removed_while_it_is_looked_at(
    repository: audmodel.Repository,
    model_folder: Path,
    once_committed: Replace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_object = FileSystem.open_object

    def vanish(archive: Path) -> None:
        def open_no_object(self: FileSystem, path: str) -> Any:
            archive.unlink()
            return open_object(self, path)

        another_digest(archive)
        monkeypatch.setattr(FileSystem, "open_object", open_no_object)

    once_committed(vanish)
    with pytest.raises(PublishConflictError, match="stored an archive"):
        publish(model_folder)


def test_archive_that_the_repository_hides(
    repository: audmodel.Repository,
    model_folder: Path,
    once_committed: Replace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stat_object = FileSystem.stat_object

    def hide(archive: Path) -> None:
        def hidden(self: FileSystem, path: str) -> Any:
            if path.endswith(".zip"):
                raise HiddenError("Access was denied.", None)
            return stat_object(self, path)

        archive.unlink()
        monkeypatch.setattr(FileSystem, "stat_object", hidden)

    once_committed(hide)
    with pytest.raises(PublishConflictError, match="stored an archive"):
        publish(model_folder)
    assert [path for path in content(repository) if ".header." in path] == []


def test_repair_is_logged(
    repository: audmodel.Repository,
    model_folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    uid = publish(model_folder)
    [archive] = Path(repository.host).rglob("*.zip")
    archive.unlink()
    caplog.set_level(logging.INFO, "audmodel")
    publish(model_folder, repair=True)
    [message] = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"Repaired '{uid}' in {repository!r}")


# What exists already ---------------------------------------------------------


def faster(monkeypatch: pytest.MonkeyPatch, root: Path, **arguments: Any) -> None:
    """Let another program publish a model right before this one claims its ID."""
    claimed = claims.claimed

    def claimed_later(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(publishing, "claimed", claimed)
        publish(root, **arguments)
        return claimed(*args, **kwargs)

    monkeypatch.setattr(publishing, "claimed", claimed_later)


def test_publisher_that_is_faster_has_the_same_files(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faster(monkeypatch, model_folder, author="faster")
    uid = publish(model_folder, exist_ok=True, alias="best", author="slower")
    assert audmodel.author("best") == "faster"
    assert audmodel.aliases(uid) == ["best"]


def test_publisher_that_is_faster_has_other_files(
    repository: audmodel.Repository,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    (other / "model.yaml").write_bytes(b"other")
    faster(monkeypatch, other)
    with pytest.raises(ModelExistsError, match="changed: 'model"):
        publish(model_folder, exist_ok=True, alias="best")
    assert audmodel.all_aliases() == {}


def test_file_that_changes_while_it_is_compared(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(model_folder)
    differences = comparing.differences

    def change(*args: Any) -> Any:
        found = differences(*args)
        (model_folder / "readme.txt").write_bytes(b"A model for another test.\n")
        return found

    monkeypatch.setattr(comparing, "differences", change)
    with pytest.raises(FileChangedError, match=r"readme\.txt"):
        publish(model_folder, exist_ok=True)


def test_each_file_is_read_once_and_nothing_of_the_archive_but_its_end(
    repository: audmodel.Repository,
    tmp_path: Path,
    fetched: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "large"
    root.mkdir()
    (root / "large").write_bytes(random.Random(0).randbytes(9 << 20))
    (root / "small").write_bytes(b"small")
    publish(root)
    fetched.clear()
    read: list[int] = []
    preadv = os.preadv

    def count(fd: int, buffers: Any, offset: int) -> int:
        read.append(preadv(fd, buffers, offset))
        return read[-1]

    monkeypatch.setattr(os, "preadv", count)
    publish(root, exist_ok=True, num_workers=3)
    assert sum(read) == (9 << 20) + 5
    assert sum(fetched) <= 1 << 18


def test_file_that_cannot_be_read_is_not_a_changed_one(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(model_folder)

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(InvalidFolderError, match="cannot be read"):
        publish(model_folder, exist_ok=True)


def test_repository_that_does_not_say_whether_a_model_exists(
    repository: audmodel.Repository,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As S3 does with credentials that may not list the bucket
    def hide(*_: object) -> None:
        raise HiddenError("Access was denied.", None)

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "header", hide)
        uid = publish(model_folder, exist_ok=True)
    assert files(audmodel.load(uid)) == files(model_folder)

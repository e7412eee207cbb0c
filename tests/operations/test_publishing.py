"""What is stored, and what if another program does it at the same moment."""

from __future__ import annotations

from collections.abc import Callable
import logging
import os
from pathlib import Path
from typing import Any

import pytest

import audmodel
from audmodel.core.backend.errors import HiddenError
from audmodel.core.backend.filesystem import FileSystem
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

"""Files are put together in a folder of their own before they become visible."""

from __future__ import annotations

from collections.abc import Iterable
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from audmodel.core.cache.marker import Marker
from audmodel.core.cache.staging import Expected
from audmodel.core.cache.staging import Staging
from audmodel.core.cache.tree import Folder
from audmodel.errors import DiskFullError


SIZE = 100_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def make(path: Path, content: bytes = b"content") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def staging(
    root: Path,
    *,
    is_whole: bool = False,
    left: Iterable[str] = (),
    borrowed: Iterable[str] = (),
) -> Staging:
    parent = Folder(str(root))
    parent.make("staging")
    return Staging(
        parent,
        "staging",
        parent.folder("target"),
        Marker(parent, ".unsynced", "target") if is_whole else None,
        [parent.folder(name) for name in left],
        [parent.folder(name) for name in borrowed],
    )


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Room on the disk in bytes."""
    room = [10**9]
    monkeypatch.setattr(Folder, "free", lambda _: room[0])
    return room


# Files of earlier attempts ----------------------------------------------------


def test_file_that_is_left_takes_no_more_room(root: Path, free: list[int]) -> None:
    make(root / "left" / "a" / "file", bytes(os.urandom(SIZE)))
    allocated = (root / "left" / "a" / "file").stat().st_blocks * 512
    assert allocated >= SIZE
    files = {"a/file": Expected(SIZE, False), "b": Expected(1000, False)}
    free[0] = 999
    with pytest.raises(DiskFullError):
        staging(root, left=["left"]).prepare(files)
    # What was taken over is kept for the next attempt
    assert (root / "staging" / "a" / "file").stat().st_size == SIZE
    free[0] = 1000
    os.rename(root / "staging", root / "left")
    again = staging(root, left=["left"])
    again.prepare(files)
    assert again.resumed
    assert not (root / "left").exists()


def test_sparse_file_needs_room(root: Path, free: list[int]) -> None:
    path = make(root / "left" / "file")
    os.truncate(path, SIZE)
    free[0] = SIZE - 50_000
    with pytest.raises(DiskFullError):
        staging(root, left=["left"]).prepare({"file": Expected(SIZE, False)})


def test_file_of_another_size_is_given_the_right_one(root: Path) -> None:
    make(root / "left" / "file", b"123")
    attempt = staging(root, left=["left"])
    attempt.prepare({"file": Expected(10, True)})
    path = root / "staging" / "file"
    assert path.read_bytes() == b"123" + bytes(7)
    assert path.stat().st_mode & 0o100


def test_attempt_that_another_process_removed_is_left_out(root: Path) -> None:
    attempt = staging(root, left=["gone"], borrowed=["gone"])
    attempt.prepare({"file": Expected(SIZE, False)})
    assert not attempt.resumed


def test_most_of_several_attempts_is_taken(root: Path) -> None:
    make(root / "one" / "file", b"1" * 10_000)
    make(root / "two" / "file", b"2" * SIZE)
    make(root / "three" / "file", b"3" * 10_000)
    attempt = staging(root, left=["one", "two", "three"])
    attempt.prepare({"file": Expected(SIZE, False)})
    assert (root / "staging" / "file").read_bytes() == b"2" * SIZE
    assert sorted(path.name for path in root.iterdir()) == ["staging"]


@pytest.mark.parametrize("is_whole", [False, True])
def test_files_that_others_need_stay(root: Path, is_whole: bool) -> None:
    for name in ("left", "borrowed"):
        make(root / name / "needed" if name == "left" else root / name / "other")
        make(root / name / "more")
    attempt = staging(root, is_whole=is_whole, left=["left"], borrowed=["borrowed"])
    attempt.prepare({"needed": Expected(7, False)})
    names = {"staging", "borrowed"} | (set() if is_whole else {"left"})
    assert {path.name for path in root.iterdir()} == names
    # Until they are in their place
    make(root / "target" / "more")
    make(root / "target" / "other")
    staging(root, is_whole=is_whole, borrowed=["borrowed"]).prepare({})
    assert not (root / "borrowed").exists()


# Files that are right --------------------------------------------------------


def test_file_that_cannot_have_a_second_name_is_copied(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root / "other" / "a" / "file")
    attempt = staging(root)
    assert attempt.reuse(Folder(str(root), "other"), "a/file", executable=False)
    path = root / "staging" / "a" / "file"
    assert path.samefile(root / "other" / "a" / "file")
    path.unlink()

    def refuse(*args: Any, **options: Any) -> None:
        raise OSError(errno.EMLINK, "Too many links")

    monkeypatch.setattr(os, "link", refuse)
    assert not attempt.reuse(Folder(str(root), "other"), "a/file", executable=False)
    assert path.read_bytes() == b"content"
    assert not path.samefile(root / "other" / "a" / "file")


@pytest.mark.parametrize("in_the_way", ["file", "folder", "link", None])
def test_file_becomes_visible(
    root: Path, in_the_way: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = root / "target"
    target.mkdir()
    if in_the_way == "file":
        make(target / "a")
    elif in_the_way == "folder":
        make(target / "a" / "file" / "below")
    elif in_the_way == "link":
        (target / "a").symlink_to(root)
    attempt = staging(root)
    make(root / "staging" / "a" / "file")
    steps = []
    sync, rename = Folder.sync, Folder.rename

    def noted(self: Folder, name: str = "") -> None:
        steps.append(("sync", name))
        sync(self, name)

    def renamed(self: Folder, name: str, *args: Any) -> None:
        steps.append(("rename", name))
        rename(self, name, *args)

    monkeypatch.setattr(Folder, "sync", noted)
    monkeypatch.setattr(Folder, "rename", renamed)
    assert attempt.publish("a/file") == str(target / "a" / "file")
    assert (target / "a" / "file").read_bytes() == b"content"
    assert not (target / "a").is_symlink()
    # It is on the disk before it is seen
    assert steps[0] == ("sync", "a/file")
    assert steps[1] == ("rename", "a/file")

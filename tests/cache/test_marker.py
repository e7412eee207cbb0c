"""The marker of a model is removed by the load that wrote it, or by none."""

from __future__ import annotations

from pathlib import Path

import pytest

from audmodel.core import disk
from audmodel.core.cache.marker import Marker
from audmodel.core.cache.tree import Folder


@pytest.mark.parametrize(
    ("head", "is_removed"),
    [(None, True), (b"head", True), (b"other", False), (b"", False), (b"hea", False)],
)
def test_marker_of_another_load_stays(
    tmp_path: Path, head: bytes | None, is_removed: bool
) -> None:
    path = tmp_path / ".unsynced"
    path.write_bytes(b"head\nlisting of files\n")
    Marker(Folder(str(tmp_path)), ".unsynced", "1.0.0").remove(head)
    assert path.exists() != is_removed


def test_marker_that_is_missing(tmp_path: Path) -> None:
    marker = Marker(Folder(str(tmp_path)), ".unsynced", "1.0.0")
    marker.remove(b"head")
    marker.remove()
    assert list(tmp_path.iterdir()) == []


def test_files_that_were_right_are_not_checked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Folder(str(tmp_path))
    root.make("new")
    marker = Marker(root, ".unsynced", "new")
    monkeypatch.setattr(disk, "boot_id", lambda: "before")
    marker.write(root.folder("new"), [("missing", 1, 1)])
    monkeypatch.setattr(disk, "boot_id", lambda: "after")
    head = marker.unverified_head()
    assert head is not None
    assert not marker.is_right(head)
    assert marker.unverified_head() == head
    (tmp_path / "new" / "missing").write_bytes(b"")
    marker.write(root.folder("new"), [("missing", 0, 0)])
    monkeypatch.setattr(disk, "boot_id", lambda: "later")
    head = marker.unverified_head()
    assert head is not None
    assert marker.is_right(head)
    assert marker.unverified_head() is None

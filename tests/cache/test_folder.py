"""What a folder of the cache does with links, failures and descriptors."""

from __future__ import annotations

import os
from pathlib import Path
import stat
import time
from typing import Any

import pytest

from audmodel.core.cache.tree import Folder


def test_status_is_that_of_a_link_itself(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("missing")
    status = Folder(str(tmp_path)).status("link")
    assert stat.S_ISLNK(status.st_mode)


def test_what_cannot_be_removed_keeps_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    for name in ("a", "b/a", "b/c", "c"):
        path = root / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    unlink = os.unlink

    def refuse(path: Any, **options: Any) -> None:
        if os.path.basename(path) == "a":
            raise PermissionError
        unlink(path, **options)

    monkeypatch.setattr(os, "unlink", refuse)
    Folder(str(root)).remove("model")
    left = {path.relative_to(root).as_posix() for path in root.rglob("*")}
    assert left == {"model", "model/a", "model/b", "model/b/a"}


def test_time_of_a_folder_that_is_missing(tmp_path: Path) -> None:
    before = time.time()
    assert before <= Folder(str(tmp_path / "missing")).now() <= time.time()
    # That of the file system is asked for with a file that goes again
    assert abs(Folder(str(tmp_path)).now() - before) < 60
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["missing", "file", "link"])
def test_failures_leave_no_descriptor_open(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path)
    before = os.listdir("/proc/self/fd")
    for path in (name, f"{name}/below"):
        with pytest.raises(OSError, match=name):
            Folder(str(tmp_path), path).status()
    assert os.listdir("/proc/self/fd") == before

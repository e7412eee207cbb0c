"""The methods that audbackend gives to every backend."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path
from typing import Any

import audbackend
import pytest


def check_interface(backend_class: Any, host: str, name: str, folder: Path) -> None:
    """Use a new repository through the methods of audbackend."""
    backend_class.create(host, name)
    with pytest.raises(audbackend.BackendError):
        backend_class.create(host, name)
    with backend_class(host, name) as backend:
        _check(backend, folder)
    backend_class.delete(host, name)
    with pytest.raises(audbackend.BackendError):
        backend_class.delete(host, name)


def _check(backend: Any, folder: Path) -> None:
    content = hashlib.shake_128(b"file").digest(9 * 1024 * 1024)
    file = folder / "file.bin"
    file.write_bytes(content)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()

    for call in (
        backend.checksum,
        backend.date,
        backend.owner,
        backend.remove_file,
        lambda path: backend.get_file(path, str(folder / "none")),
        lambda path: backend.copy_file(path, "/other"),
    ):
        with pytest.raises(audbackend.BackendError):
            call("/a/file.bin")
    with pytest.raises(audbackend.BackendError):
        backend.ls("/a/")
    with pytest.raises(audbackend.BackendError):
        backend.ls_dirs("/a/")
    assert backend.ls_dirs("/") == []
    assert not backend.exists("/a/file.bin")

    backend.put_file(str(file), "/a/file.bin", validate=True)
    backend.put_file(str(file), "/a/b/empty.txt")
    assert backend.exists("/a/file.bin")
    assert backend.checksum("/a/file.bin") == md5
    today = datetime.datetime.now(datetime.UTC).date()
    assert backend.date("/a/file.bin") in {
        str(today),
        str(today - datetime.timedelta(days=1)),
    }
    assert backend.owner("/a/file.bin")
    assert backend.ls("/") == ["/a/b/empty.txt", "/a/file.bin"]
    assert backend.ls("/a/b/") == ["/a/b/empty.txt"]
    assert backend.ls_dirs("/") == ["a"]
    assert backend.ls_dirs("/a/") == ["b"]
    for workers in (1, 3):
        copy = folder / f"copy{workers}"
        backend.get_file("/a/file.bin", str(copy), num_workers=workers, validate=True)
        assert copy.read_bytes() == content
    backend.copy_file("/a/file.bin", "/c", validate=True)
    backend.move_file("/c", "/d")
    assert backend.ls("/") == ["/a/b/empty.txt", "/a/file.bin", "/d"]
    backend.put_archive(str(folder), "/e.zip", files=["file.bin"])
    backend.get_archive("/e.zip", str(folder / "extracted"))
    assert (folder / "extracted" / "file.bin").read_bytes() == content
    for path in backend.ls("/"):
        backend.remove_file(path)
    assert backend.ls("/") == []

"""Models of a cache that may have parts of another model, in order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from audmodel.core.cache.entry import CacheEntry
from audmodel.core.cache.neighbours import others
from audmodel.core.cache.neighbours import versions
from audmodel.core.uid import ModelId


def add(root: Path, short: str, version: str, name: str, time: int = 0) -> None:
    folder = root / short
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f".{version}+index").write_bytes(b"")
    (folder / f"{version}.header.yaml").write_text(f"author: me\nname: {name}\n")
    os.utime(folder, (time, time))


def order(root: Path, most: int = 100) -> list[str]:
    entry = CacheEntry(str(root), ModelId("00000000", "2.0.0"))
    found = [*versions(entry), *others(entry, most)]
    return [str(other.model) for other in found]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add(tmp_path, "11111111", "1.0.0", "another", time=500)
    add(tmp_path, "22222222", "1.0.0", "torch", time=100)
    add(tmp_path, "33333333", "1.0.0", "torch", time=300)
    add(tmp_path, "44444444", "1.0.0", "another", time=400)
    for version in ("1.0.0", "10.0.0", "2.0.0", "3.0.0"):
        add(tmp_path, "00000000", version, "torch")
    return tmp_path


def test_order(root: Path) -> None:
    assert order(root) == [
        "00000000-10.0.0",
        "00000000-3.0.0",
        "00000000-1.0.0",
        "33333333-1.0.0",
        "22222222-1.0.0",
        "11111111-1.0.0",
        "44444444-1.0.0",
    ]
    assert order(root, 2)[3:] == ["11111111-1.0.0", "44444444-1.0.0"]
    assert len(order(root, 0)) == 3


def test_what_else_is_in_a_cache(root: Path) -> None:
    expected = order(root)
    (root / "folder").mkdir()
    (root / "55555555").write_bytes(b"a file")
    (root / "66666666").symlink_to(root / "11111111")
    (root / "77777777").mkdir()
    (root / "77777777" / ".no-version+index").write_bytes(b"")
    (root / "00000000" / "4.0.0").mkdir()
    (root / "00000000" / ".5.0.0.lock").write_bytes(b"")
    assert order(root) == expected


def test_headers_that_cannot_be_read(root: Path) -> None:
    (root / "22222222" / "1.0.0.header.yaml").write_bytes(b"")
    (root / "33333333" / "1.0.0.header.yaml").write_bytes(b"\xff" * 100_000)
    assert order(root)[3:] == [
        "11111111-1.0.0",
        "44444444-1.0.0",
        "33333333-1.0.0",
        "22222222-1.0.0",
    ]
    (root / "00000000" / "2.0.0.header.yaml").unlink()
    assert len(order(root)) == 7


def test_no_cache(tmp_path: Path) -> None:
    assert order(tmp_path / "absent") == []

"""What is kept of the directory of an archive, and how long it is remembered."""

from __future__ import annotations

import os
from pathlib import Path

import blake3
import pytest

import audmodel
from audmodel.core.archive import end
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.operations import index
from audmodel.core.uid import ModelId
from tests.behaviour.backends import publish


@pytest.fixture(autouse=True)
def nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_parsed", {})


@pytest.fixture
def entry(
    repository: audmodel.Repository, cache: Path, model_folder: Path
) -> CacheEntry:
    """A model of which one file is in the cache, and with it the directory."""
    return loaded(model_folder, cache, "1.0.0")


def loaded(model_folder: Path, cache: Path, version: str) -> CacheEntry:
    uid = publish(model_folder, version=version)
    audmodel.load(uid, files="readme.txt")
    entry = CacheEntry(str(cache), ModelId(*uid.split("-")))
    assert index.content(entry) is not None
    return entry


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of archives whose directory was parsed."""
    sizes = []
    parse = end.parse

    def count(data: bytes, size: int) -> object:
        sizes.append(size)
        return parse(data, size)

    monkeypatch.setattr(end, "parse", count)
    return sizes


def test_directory_of_another_archive(entry: CacheEntry) -> None:
    path = Path(entry.index.path)
    packed = path.read_bytes()
    assert not index.is_other(entry, packed)
    assert index.is_other(entry, index.pack(b"another", 7))
    # One that is damaged says nothing
    path.write_bytes(packed[:-1] + bytes([packed[-1] ^ 1]))
    assert not index.is_other(entry, packed)
    path.unlink()
    assert not index.is_other(entry, packed)


def test_directory_is_parsed_once(entry: CacheEntry, parsed: list[int]) -> None:
    first = index.read(entry)
    assert first is not None
    assert index.read(entry) is first
    assert len(parsed) == 1


def test_directory_that_was_replaced_is_parsed_again(
    entry: CacheEntry, parsed: list[int]
) -> None:
    first = index.read(entry)
    os.utime(entry.index.path, (1, 1))
    assert index.read(entry) == first
    assert len(parsed) == 2


def test_damaged_directory(entry: CacheEntry) -> None:
    path = Path(entry.index.path)
    # The digest is right, and there is not even a size
    path.write_bytes(blake3.blake3(b"short").digest() + b"short")
    assert index.content(entry) is None
    assert index.read(entry) is None
    # What follows is no directory
    path.write_bytes(index.pack(b"x" * 100, 100))
    assert index.content(entry) == (b"x" * 100, 100)
    assert index.read(entry) is None
    path.unlink()
    assert index.read(entry) is None


def test_directories_that_were_used_last_are_remembered(
    entry: CacheEntry,
    cache: Path,
    model_folder: Path,
    parsed: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = [entry] + [loaded(model_folder, cache, f"{n}.0.0") for n in (2, 3)]
    directory = index.read(entry)
    assert directory is not None
    # Room for two of them
    monkeypatch.setattr(index, "_MAX_MEMBERS", 2 * len(directory.members))
    index._parsed.clear()
    for number in (0, 1, 0, 2):
        index.read(entries[number])
    parsed.clear()
    index.read(entries[0])
    index.read(entries[2])
    assert parsed == []
    index.read(entries[1])
    assert len(parsed) == 1


def test_directory_that_is_larger_than_all_that_is_remembered(
    entry: CacheEntry, parsed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_MAX_MEMBERS", 1)
    assert index.read(entry) is index.read(entry)
    assert len(parsed) == 1

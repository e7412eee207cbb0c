r"""Other models in a cache, those first that are most like a model."""

from __future__ import annotations

from collections.abc import Iterator
import re

from audmodel.core import uid as ids
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.cache.tree import Folder
from audmodel.core.uid import ModelId


_INDEX = re.compile(r"\.(.+)\+index")
_NAME = b"name:"
_MAX_HEADER = 64 * 1024


def versions(entry: CacheEntry) -> Iterator[CacheEntry]:
    r"""Other versions of a model of which the cache keeps the directory.

    Yields:
        places, that of the latest version first.
        Files may be missing

    """
    for other in _versions(entry.root, entry.model.short):
        if other.model != entry.model:
            yield other


def others(entry: CacheEntry, most: int) -> Iterator[CacheEntry]:
    r"""Models with other short IDs of which the cache keeps the directory.

    Args:
        entry: place of a model
        most: number of short IDs that are looked at,
            those first whose folders changed last

    Yields:
        places, those of models with the same name first.
        Files may be missing

    """
    rest = []
    name = _name(entry)
    for short in _others(entry.root, entry.model.short)[:most]:
        for other in _versions(entry.root, short):
            if name is not None and _name(other) == name:
                yield other
            else:
                rest.append(other)
    yield from rest


def _versions(root: str, short: str) -> Iterator[CacheEntry]:
    r"""Versions of a model, the latest first."""
    try:
        names = Folder(root, short).names()
    except OSError:
        return
    matches = map(_INDEX.fullmatch, names)
    found = {match[1] for match in matches if match and ids.is_version(match[1])}
    for version in reversed(ids.sort_versions(found)):
        yield CacheEntry(root, ModelId(short, version))


def _others(root: str, own: str) -> list[str]:
    r"""Other short IDs, those first whose folders changed last."""
    folders = [
        (item.status.st_mtime, item.name)
        for item in Folder(root).items()
        if item.is_folder and ids.is_short(item.name) and item.name != own
    ]
    return [name for _, name in sorted(folders, reverse=True)]


def _name(entry: CacheEntry) -> bytes | None:
    r"""Line of a header that holds the name of a model.

    It only decides which model is looked at first, so no header is parsed.
    """
    lines = (entry.header.read(_MAX_HEADER) or b"").splitlines()
    return next((line for line in lines if line.startswith(_NAME)), None)

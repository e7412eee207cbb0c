r"""Which files a model has, and which of them are in the cache."""

from __future__ import annotations

from collections.abc import Sequence
import os
import stat

from audmodel.core import index
from audmodel.core.archive import format
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.cache.tree import Folder
from audmodel.core.selection import select
from audmodel.core.uid import ModelId


def cached_path(entry: CacheEntry, patterns: Sequence[str] | None) -> str | None:
    r"""Folder of what is asked for, if all of it is in the cache.

    Args:
        entry: place in the cache
        patterns: which files, all of them if it is ``None``

    Returns:
        path of the folder,
        or ``None`` if something has to be fetched

    Raises:
        FileNotInModelError: if a pattern matches no file

    """
    if entry.verify():
        if patterns is not None:
            names = entry.whole.folder.files()
            select(names, patterns, f"the model '{entry.model}'")
        entry.whole.touch()
        return entry.whole.folder.path
    directory = index.read(entry) if patterns is not None else None
    if patterns is None or directory is None:
        return None
    members = selected(directory, patterns, entry.model)
    if absent(entry.partial.folder, members):
        return None
    entry.partial.touch()
    return entry.partial.folder.path


def cached_files(entry: CacheEntry, patterns: Sequence[str] | None) -> list[str] | None:
    r"""Paths of what is asked for, if all of it is in the cache.

    Args:
        entry: place in the cache
        patterns: which files, all of them if it is ``None``

    Returns:
        paths, in the order of the archive if its directory is there,
        or ``None`` if something has to be fetched

    Raises:
        FileNotInModelError: if a pattern matches no file

    """
    path = cached_path(entry, patterns)
    if path is None:
        return None
    directory = index.read(entry)
    if directory is None:
        names = sorted(entry.whole.folder.files())
    else:
        names = [member.name for member in directory.files()]
    if patterns is not None:
        wanted = select(names, patterns, f"the model '{entry.model}'")
        names = [name for name in names if name in wanted]
    return [os.path.join(path, name) for name in names]


def selected(
    directory: format.Directory, patterns: Sequence[str], model: ModelId
) -> list[format.Member]:
    r"""Files that match patterns, in the order of the archive.

    Args:
        directory: directory of the archive
        patterns: which files
        model: ID of the model

    Returns:
        files

    Raises:
        FileNotInModelError: if a pattern matches no file

    """
    names = [member.name for member in directory.files()]
    wanted = select(names, patterns, f"the model '{model}'")
    return [member for member in directory.files() if member.name in wanted]


def absent(folder: Folder, members: Sequence[format.Member]) -> list[format.Member]:
    r"""Files that are not in a folder in which only right files appear.

    Args:
        folder: the folder
        members: what should be there

    Returns:
        those of ``members`` that are not

    """

    def is_there(member: format.Member) -> bool:
        try:
            status = folder.status(member.name)
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == member.size

    return [member for member in members if not is_there(member)]

r"""Which files of a model are in the cache.

All functions decide by this module.
The directory of the archive, of which the cache keeps a copy,
lists the files of a model.
A file is in the cache if a regular file of its size is in the folder of the model,
or in that of files that were loaded alone.
Without a copy, as after a load by an earlier release,
the folder of the model says which files there are.

"""

from __future__ import annotations

from collections.abc import Sequence
import os

from audmodel.core.archive import end
from audmodel.core.archive import format
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.cache.slot import Slot
from audmodel.core.cache.tree import Folder
from audmodel.core.errors import FileNotInModelError
from audmodel.core.operations import index
from audmodel.core.process.lazy import lazy
from audmodel.core.selection import select
from audmodel.core.uid import ModelId


TYPE_CHECKING = False
if TYPE_CHECKING:
    from audmodel.core.repository.header import ArchiveIdentity


# From so many files on it takes less time to list a folder
_MANY = 4


class Local:
    r"""State of a model in the cache, each property as of its first use.

    Args:
        entry: place in the cache

    """

    def __init__(self, entry: CacheEntry) -> None:
        self.entry = entry

    @lazy
    def is_finished(self) -> bool:
        r"""Whether the folder of the model is there, and was loaded as a whole."""
        return self.entry.verify()

    @lazy
    def directory(self) -> format.Directory | None:
        r"""Directory of the archive, if the cache has a copy."""
        return index.read(self.entry)

    @lazy
    def missing(self) -> list[format.Member]:
        r"""Files that were removed from the folder of the model, or have another size.

        None is known to be without the directory.
        """
        if self.directory is None:
            return []
        return absent(self.entry.whole.folder, self.directory.files())

    @property
    def is_whole(self) -> bool:
        r"""Whether the folder of the model has all of its files."""
        return self.is_finished and not self.missing

    def names(self) -> list[str] | None:
        r"""Names of all files, in the order of the archive if known, or ``None``."""
        if self.directory is not None:
            return [member.name for member in self.directory.files()]
        return sorted(self.entry.whole.folder.files()) if self.is_finished else None

    def select(self, patterns: Sequence[str] | None) -> list[str] | None:
        r"""Names of files that are asked for.

        Args:
            patterns: which files, all of them if it is ``None``

        Returns:
            names in the order of the archive,
            or ``None`` if the repository has to be asked,
            which may have another archive by now

        Raises:
            FileNotInModelError: if a pattern matches no file

        """
        names = self.names()
        if names is None or patterns is None:
            return names
        try:
            wanted = select(names, patterns, f"the model '{self.entry.model}'")
        except FileNotInModelError:
            if self.is_finished:
                raise
            return None
        return [name for name in names if name in wanted]

    def slot(self, patterns: Sequence[str] | None) -> Slot | None:
        r"""Place of what is asked for.

        Returns:
            place that has all of it,
            or ``None`` if something has to be fetched

        Raises:
            FileNotInModelError: if a pattern matches no file

        """
        names = self.select(patterns)
        if names is None:
            return None
        if self.is_finished and not self._lacks(self.entry.whole, names):
            return self.entry.whole
        if patterns is None or self._lacks(self.entry.partial, names):
            return None
        return self.entry.partial

    def paths(self, patterns: Sequence[str] | None) -> list[str] | None:
        r"""Paths of what is asked for, and note that it is used.

        Returns:
            paths, in the order of the archive if its directory is there,
            or ``None`` if something has to be fetched

        Raises:
            FileNotInModelError: if a pattern matches no file

        """
        slot = self.slot(patterns)
        if slot is None:
            return None
        slot.touch()
        names = self.select(patterns) or []
        return [os.path.join(slot.folder.path, name) for name in names]

    def path(self, patterns: Sequence[str] | None) -> str | None:
        r"""Path of the folder of what is asked for, and note that it is used.

        Returns:
            path, or ``None`` if something has to be fetched

        Raises:
            FileNotInModelError: if a pattern matches no file

        """
        slot = self.slot(patterns)
        if slot is None:
            return None
        slot.touch()
        return slot.folder.path

    def slot_of(self, name: str) -> Slot | None:
        r"""Place of a file, ``None`` if it is not in the cache."""
        if name not in (self.names() or ()):
            return None
        if self.is_finished and not self._lacks(self.entry.whole, [name]):
            return self.entry.whole
        if not self._lacks(self.entry.partial, [name]):
            return self.entry.partial
        return None

    def is_of(self, identity: ArchiveIdentity | None) -> bool:
        r"""Whether the model in the cache may be that of an archive.

        Args:
            identity: the archive, if it is known

        """
        kept = index.content(self.entry)
        if identity is None or kept is None:
            return True
        data, size = kept
        return (size, end.digest(data)) == (identity.size, identity.digest)

    def is_proven(self, identity: ArchiveIdentity | None) -> bool:
        r"""Whether the directory that the cache keeps is that of an archive.

        Args:
            identity: the archive

        """
        return self.entry.index.exists() and self.is_of(identity)

    def _lacks(self, slot: Slot, names: Sequence[str]) -> bool:
        r"""Whether one of some files is not in a folder."""
        if self.directory is None:
            # The names are those in the folder of the model
            return slot is not self.entry.whole or not set(names) <= set(
                slot.folder.files()
            )
        if slot is self.entry.whole:
            return not {member.name for member in self.missing}.isdisjoint(names)
        wanted = set(names)
        members = [m for m in self.directory.files() if m.name in wanted]
        return len(members) < len(wanted) or bool(absent(slot.folder, members))


def selected(
    directory: format.Directory, patterns: Sequence[str], model: ModelId
) -> list[format.Member]:
    r"""Files that match patterns, in the order of the archive.

    Raises:
        FileNotInModelError: if a pattern matches no file

    """
    names = [member.name for member in directory.files()]
    wanted = select(names, patterns, f"the model '{model}'")
    return [member for member in directory.files() if member.name in wanted]


def absent(folder: Folder, members: Sequence[format.Member]) -> list[format.Member]:
    r"""Those of some files that are not in a folder, or have another size there."""
    sizes = _sizes(folder, members)
    return [member for member in members if sizes.get(member.name) != member.size]


def remains(
    folders: Sequence[Folder], members: Sequence[format.Member]
) -> dict[str, Folder]:
    r"""Where something is that may be right of files that are wrong or cut short.

    Of a large file each part can be.
    A small one is right as a whole, and may lack permissions.

    Returns:
        first folder that has something of a file, by name

    """
    found: dict[str, Folder] = {}
    for folder in folders:
        sizes = _sizes(folder, members)
        for member in members:
            size = sizes.get(member.name)
            if size is not None and (member.is_divided or size == member.size):
                found.setdefault(member.name, folder)
    return found


def _sizes(folder: Folder, members: Sequence[format.Member]) -> dict[str, int]:
    r"""Sizes of files in a folder: of all members that it has, maybe of more."""
    if len(members) >= _MANY:
        return {
            item.name: item.status.st_size for item in folder.walk() if item.is_file
        }
    sizes = ((member.name, folder.size(member.name)) for member in members)
    return {name: size for name, size in sizes if size is not None}

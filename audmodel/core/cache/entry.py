r"""Layout of the cache on disk.

::

    <root>/<short id>/
        <version>/               finished model, never changed again
        <version>.header.yaml    copy of the header
        <version>.meta.yaml      copy of the metadata
        .<version>.lock          held while the model is loaded
        .<version>.unsynced      checksum of a model that may not be on the disk
        .<version>~<random>/     model that is being loaded
        .<version>~~<random>/    same, where locks are broken
        .<version>+files/        some files of the model
        .<version>+files.lock    held while files are added to it
        .<version>+files~<random>/   files that are being loaded
        .<version>+origin        where the header was read
        .<version>+index         copy of the directory of the archive
        .<version>+signatures    copy of a trusted signature of the header

The cache stays correct without locks.
A model becomes visible by renaming a folder
that its process has verified as a whole,
and the name of that folder is known to no other process.
In the same way single files appear in the folder that holds some of them,
which earlier releases do not look at.
The lock saves the work of loading a model twice.

"""

from __future__ import annotations

import contextlib

from audmodel.core.cache.copies import Copy
from audmodel.core.cache.marker import Marker
from audmodel.core.cache.slot import Slot
from audmodel.core.cache.tree import Folder
from audmodel.core.uid import ModelId


class CacheEntry:
    r"""Place of a model in the cache.

    Args:
        root: absolute path of the root folder of the cache
        model: ID of the model

    """

    def __init__(self, root: str, model: ModelId) -> None:
        self.root = root
        self.model = model
        r"""ID of the model."""
        folder = Folder(self.root, model.short)
        version = model.version
        self.header = Copy(folder, f"{version}.header.yaml", has_lock=True)
        r"""Copy of the header."""
        self.origin = Copy(folder, f".{version}+origin", has_lock=False)
        r"""Where the header was read."""
        self.meta = Copy(folder, f"{version}.meta.yaml", has_lock=True)
        r"""Copy of the metadata."""
        self.index = Copy(folder, f".{version}+index", has_lock=False)
        r"""Copy of the directory of the archive."""
        self.signatures = Copy(folder, f".{version}+signatures", has_lock=False)
        r"""Copy of a trusted signature of the header."""
        self._marker = Marker(folder, f".{version}.unsynced", version)
        self.whole = Slot(folder, version, version, self._marker)
        r"""The model."""
        self.partial = Slot(folder, f"{version}+files", f".{version}+files", None)
        r"""Some files of the model.

        A load of the whole model does not wait for its lock, nor it for that.
        """

    @property
    def slot(self) -> Slot | None:
        r"""Place of the whole model, else of some files, ``None`` if both are missing.

        Files may be missing or wrong.
        """
        if self._has_whole():
            return self.whole
        return self.partial if self.partial.folder.exists() else None

    @property
    def is_complete(self) -> bool:
        r"""Whether the model is in the cache, and needs no check."""
        return self._has_whole() and self._marker.unverified_head() is None

    def _has_whole(self) -> bool:
        r"""Whether there is the folder of the model.

        An empty one may be left from elsewhere.
        Only with the directory of the archive it is known what is missing.
        """
        try:
            return not self.whole.folder.is_empty() or self.index.exists()
        except OSError:
            return False

    @property
    def needs_check(self) -> bool:
        r"""Whether all files have to be checked before the model is used."""
        return self._marker.unverified_head() is not None

    def verify(self) -> bool:
        r"""Check a model that was loaded before the last reboot.

        If it is right, its marker is removed. Nothing else is written.

        Returns:
            whether the model is in the cache as it was loaded

        """
        head = self._marker.unverified_head()
        if head is None:
            return self.is_complete
        if not self._marker.is_right(head):
            return False
        with contextlib.suppress(OSError), self.whole.lock(timeout=0):
            self._marker.remove(head)
        return True

    def forget(self) -> None:
        r"""Remove everything but the folders, and the locks, which stay."""
        for copy in (self.header, self.origin, self.meta, self.index, self.signatures):
            copy.remove()
        self._marker.remove()

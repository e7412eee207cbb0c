r"""The cache on disk: layout, and what is finished.

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
        .<version>+index         copy of the directory of the archive

Nothing here relies on a lock to be right.
A model becomes visible by renaming a folder
that its process has verified as a whole,
and the name of that folder is known to no other process.
In the same way single files appear in the folder that holds some of them,
which earlier releases do not look at.
The lock saves the work of loading a model twice.

"""

from __future__ import annotations

import contextlib
import os

from audmodel.core import disk
from audmodel.core.cache import locks
from audmodel.core.cache.marker import Marker
from audmodel.core.cache.root import absolute_root
from audmodel.core.cache.slot import Slot
from audmodel.core.uid import ModelId


# Seconds to wait for a lock of a small file
_PATIENCE = 10


class CacheEntry:
    r"""Place of a model in the cache.

    Args:
        root: root folder of the cache,
            the default one if it is ``None``
        model: ID of the model

    """

    def __init__(self, root: str | None, model: ModelId) -> None:
        self.root = absolute_root(root)
        self.model = model
        r"""ID of the model."""
        parent = os.path.join(self.root, model.short)
        folder = os.path.join(parent, model.version)
        hidden = os.path.join(parent, f".{model.version}")
        self.header_file = f"{folder}.header.yaml"
        r"""Copy of the header."""
        self.meta_file = f"{folder}.meta.yaml"
        r"""Copy of the metadata."""
        self.index_file = f"{hidden}+index"
        r"""Copy of the directory of the archive."""
        self._marker = Marker(f"{hidden}.unsynced", folder)
        self.whole = Slot(self.root, parent, model.version, folder, self._marker)
        r"""The model."""
        name = f"{model.version}+files"
        self.partial = Slot(self.root, parent, name, f"{hidden}+files", None)
        r"""Some files of the model.

        A load of the whole model does not wait for its lock, nor it for that.
        """

    @property
    def is_complete(self) -> bool:
        r"""Whether the model is in the cache.

        An empty folder may be left from elsewhere, models have files.
        """
        try:
            with os.scandir(self.whole.folder) as entries:
                if next(entries, None) is None:
                    return False
        except OSError:
            return False
        return self._marker.doubt() is None

    @property
    def is_doubtful(self) -> bool:
        r"""Whether all of it has to be looked at before it is used."""
        return self._marker.doubt() is not None

    def verify(self) -> bool:
        r"""Compare a model from before the machine was started with what it has to be.

        Nothing is written but that there is no doubt any more.

        Returns:
            whether the model is in the cache as it was loaded

        """
        head = self._marker.doubt()
        if head is None:
            return self.is_complete
        if not self._marker.is_right(head):
            return False
        with contextlib.suppress(OSError), self.whole.lock(timeout=0):
            self._marker.remove(head)
        return True

    def keep(self, path: str, content: bytes) -> None:
        r"""Replace the copy of header or metadata, as one step, if it differs.

        It saves requests, so a cache that cannot be written to is no error.

        Args:
            path: :attr:`header_file` or :attr:`meta_file`
            content: new content

        """
        if disk.read_small(path, len(content)) == content:
            return
        with contextlib.suppress(OSError), self._hold(path):
            disk.replace_file(path, content)

    def forget(self) -> None:
        r"""Remove everything but the folders, and the locks, which stay."""
        for path in (self.header_file, self.meta_file):
            with contextlib.suppress(OSError), self._hold(path):
                os.unlink(path)
        disk.remove(self.index_file)
        self._marker.remove()

    def _hold(self, path: str) -> contextlib.AbstractContextManager[object]:
        r"""Hold the lock under which earlier releases read and write a file."""
        folder, name = os.path.split(path)
        lock = os.path.join(folder, f".{name}.lock")
        return locks.hold(self.root, lock, timeout=_PATIENCE)

r"""Staging folders, where files are put together before they become visible."""

from __future__ import annotations

from collections.abc import Container
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import errno
import os
import stat
from typing import NamedTuple

from audmodel.core.cache.descriptors import is_own
from audmodel.core.cache.marker import Marker
from audmodel.core.cache.tree import Folder
from audmodel.core.cache.tree import Item
from audmodel.core.errors import DiskFullError


class Expected(NamedTuple):
    r"""Size and permissions that a file of a model has to have."""

    size: int
    executable: bool


class Staging:
    r"""Staging folder of a model, which no other user can enter.

    Names of files have ``'/'`` between folders.

    Args:
        parent: folder that it is in
        name: its name
        target: folder that it, or its files, become
        marker: marker of the model, if it is a whole one
        left: folders of attempts that ended early
        borrowed: folders of attempts to fill another place.
            Files in them that are not needed yet stay there,
            and so do those of attempts to load some files

    """

    def __init__(
        self,
        parent: Folder,
        name: str,
        target: Folder,
        marker: Marker | None,
        left: Sequence[Folder],
        borrowed: Sequence[Folder] = (),
    ) -> None:
        self.folder = parent.folder(name).pinned()
        r"""Folder that files are written to."""
        self.resumed = False
        r"""Whether it holds files that may be right."""
        self._parent = parent
        self._target = target
        self._marker = marker
        self._left = left
        self._borrowed = borrowed
        self._made: set[str] = set()

    @property
    def path(self) -> str:
        r"""Path of the folder, for messages."""
        return self.folder.path

    def prepare(self, files: Mapping[str, Expected]) -> None:
        r"""Take over files that earlier attempts left, and check the free space.

        Args:
            files: expected files, by name, with ``'/'`` between folders

        Raises:
            DiskFullError: if the disk has less room than needed

        """
        used = 0
        all_left = [*self._left, *self._borrowed]
        for item, folder in resumable_files(all_left, files).values():
            with contextlib.suppress(OSError):
                self._make_above(self.folder, item.name)
                folder.rename(item.name, self.folder, item.name)
                if item.status.st_size != files[item.name].size:
                    self.folder.truncate(item.name, files[item.name].size)
                if files[item.name].executable:
                    self.folder.make_executable(item.name)
                used += min(item.status.st_blocks * 512, files[item.name].size)
                self.resumed = True
        is_whole = self._marker is not None
        for folder in all_left:
            if (is_whole and folder in self._left) or not self._has_more(folder, files):
                self._parent.remove(folder.name)
        self._check_room(sum(file.size for file in files.values()) - used)

    def _has_more(self, left: Folder, files: Container[str]) -> bool:
        r"""Whether an attempt has files that are neither here nor expected."""
        return any(
            item.name not in files
            and self._target.size(item.name) != item.status.st_size
            for item in left.walk()
            if item.is_file
        )

    def _check_room(self, needed: int) -> None:
        free = self.folder.free()
        if needed > free:
            if not self.resumed:
                self.remove()
            raise DiskFullError(
                errno.ENOSPC,
                f"The model needs {needed} bytes in '{self._parent.path}', "
                f"but only {free} are free. "
                "Free some space, or choose another 'cache_root'.",
            )

    def commit(self, files: Iterable[tuple[str, int, int]]) -> None:
        r"""Make the model visible, unless another process was faster.

        Args:
            files: name, size and CRC-32 of all files

        Raises:
            FileNotFoundError: if the folder was taken away

        """
        assert self._marker is not None
        self._marker.write(self.folder, files)
        self.folder.set_mode(self._usual_mode())
        try:
            name = self._target.name
            _rename(self._parent, self.folder.name, self._parent, name)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            self.remove()

    def _usual_mode(self) -> int:
        r"""Permissions of a folder that others may look into."""
        name = ".mode~"
        self.folder.make(name)
        mode = self.folder.status(name).st_mode
        self.folder.remove(name)
        return stat.S_IMODE(mode)

    def reuse(self, folder: Folder, name: str, *, executable: bool) -> bool:
        r"""Take over a file that was found to be right.

        A file of ours gets a second name, which takes no room.
        Any other is copied,
        and so is one that has to become executable,
        since a name of it may be outside of the cache.

        Returns:
            whether it is there and right,
            and need not be looked at again

        """
        with contextlib.suppress(OSError):
            self._make_above(self.folder, name)
            if is_reused(folder, name, executable=executable):
                with contextlib.suppress(OSError):
                    folder.link(name, self.folder, name)
                    return True
            self.copy(folder, name, executable=executable)
        return False

    def copy(self, folder: Folder, name: str, *, executable: bool) -> None:
        r"""Copy a file of which something may be right.

        Raises:
            OSError: if the file cannot be read or written

        """
        self._make_above(self.folder, name)
        self.resumed = True
        folder.copy(name, self.folder, name, 0o777 if executable else 0o666)

    def publish(self, name: str) -> str:
        r"""Make a file visible, as one step, beside those that are there.

        Raises:
            FileNotFoundError: if the folder was taken away

        """
        # Single files have no marker, so they have to be on the disk
        self.folder.sync(name)
        self._make_above(self._target, name)
        _rename(self.folder, name, self._target, name)
        return os.path.join(self._target.path, name)

    def remove(self) -> None:
        r"""Remove the folder and all that is left in it."""
        self._parent.remove(self.folder.name)

    def _make_above(self, folder: Folder, name: str) -> None:
        r"""Make the folders that a file is in."""
        above = os.path.dirname(name)
        path = os.path.join(folder.path, above)
        if path not in self._made:
            folder.make(above, replace=True)
            self._made.add(path)


def _rename(source: Folder, name: str, target: Folder, new_name: str) -> None:
    r"""Rename a file or a folder, and remove what is there of another kind."""
    try:
        source.rename(name, target, new_name)
    except (IsADirectoryError, NotADirectoryError):
        target.remove(new_name)
        source.rename(name, target, new_name)


def resumable_files(
    left: Iterable[Folder], expected: Container[str]
) -> dict[str, tuple[Item, Folder]]:
    r"""Files of attempts that ended early, from which a load continues.

    Returns:
        file that has most, and its folder, by name

    """
    found: dict[str, tuple[Item, Folder]] = {}
    for item, folder in _own_files(left):
        best = found.get(item.name)
        if item.name in expected and (
            best is None or best[0].status.st_blocks < item.status.st_blocks
        ):
            found[item.name] = item, folder
    return found


def _own_files(left: Iterable[Folder]) -> Iterator[tuple[Item, Folder]]:
    r"""Files that the owner of a folder wrote, as far as folders can be read."""
    for folder in left:
        with contextlib.suppress(OSError):
            owner = folder.status().st_uid
            for item in folder.walk():
                if is_own(item.status, owner):
                    yield item, folder


def is_reused(folder: Folder, name: str, *, executable: bool) -> bool:
    r"""Whether a load gives a right file a second name, without another look."""
    status = folder.status(name)
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_mode & 0o7600 == 0o600
        and status.st_uid == os.geteuid()
        and (not executable or bool(status.st_mode & stat.S_IXUSR))
    )

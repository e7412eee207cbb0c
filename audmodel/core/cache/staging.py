r"""Where files are put together before they appear in the cache."""

from __future__ import annotations

from collections.abc import Iterable
import contextlib
import errno
import os
import shutil
import stat
import tempfile

from audmodel.core import disk
from audmodel.core.cache.marker import Marker
from audmodel.errors import DiskFullError


class Staging:
    r"""Folder of a model that is being loaded.

    Args:
        path: path of the folder
        target: where it goes when it is complete
        marker: where it is noted what it is made of, if it is a whole model
        resumed: whether it holds files of an earlier attempt

    """

    def __init__(
        self, path: str, target: str, marker: Marker | None, resumed: bool
    ) -> None:
        self.path = path
        self.resumed = resumed
        self._target = target
        self._marker = marker
        self._made: set[str] = set()

    def prepare(self, sizes: dict[str, int]) -> None:
        r"""Make sure that only expected files are there, and room for the rest.

        Args:
            sizes: size in bytes of each expected file by its name,
                with ``'/'`` between folders

        Raises:
            DiskFullError: if the disk has less room than needed

        """
        used = self._tidy(sizes) if self.resumed else 0
        self._check_room(sum(sizes.values()) - used)

    def distinguishes(self, first: str, second: str) -> bool:
        r"""Whether two names are names of two files here.

        Args:
            first: name of a file, with ``'/'`` between folders
            second: name of another file

        """
        with tempfile.TemporaryDirectory(dir=self.path) as folder:
            os.makedirs(os.path.join(folder, first))
            return not os.path.lexists(os.path.join(folder, second))

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.path).free
        if needed > free:
            if not self.resumed:
                os.rmdir(self.path)
            raise DiskFullError(
                errno.ENOSPC,
                f"The model needs {needed} bytes in '{os.path.dirname(self.path)}', "
                f"but only {free} are free. "
                "Free some space, or choose another 'cache_root'.",
            )

    def _tidy(self, sizes: dict[str, int]) -> int:
        r"""Remove what does not belong here, return bytes of what does."""
        used = 0
        for root, folders, names in os.walk(self.path, topdown=False):
            for name in names + folders:
                path = os.path.join(root, name)
                status = os.lstat(path)
                key = os.path.relpath(path, self.path).replace(os.sep, "/")
                if stat.S_ISDIR(status.st_mode):
                    with contextlib.suppress(OSError):
                        os.rmdir(path)  # if it is empty
                elif key in sizes and _is_ours(status):
                    used += min(status.st_blocks * 512, sizes[key])
                else:
                    os.unlink(path)
        return used

    def commit(self, files: Iterable[tuple[str, int, int]]) -> None:
        r"""Make the model visible, unless somebody else was faster.

        Args:
            files: name, size and CRC-32 of all files

        Raises:
            FileNotFoundError: if the folder was taken away

        """
        assert self._marker is not None
        self._marker.write(self.path, files)
        try:
            os.rename(self.path, self._target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            self.remove()

    def reuse(self, folder: str, name: str) -> bool:
        r"""Take over a file that was found to be right.

        A file of ours gets a second name, which takes no room.
        Any other is copied.

        Args:
            folder: folder that the file is in
            name: name of the file, with ``'/'`` between folders

        Returns:
            whether it is there and right,
            and need not be looked at again

        """
        source, path = os.path.join(folder, name), os.path.join(self.path, name)
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if is_reused(source):
                with contextlib.suppress(OSError):
                    os.link(source, path, follow_symlinks=False)
                    return True
            self.copy(folder, name)
        return False

    def copy(self, folder: str, name: str) -> None:
        r"""Copy a file of which something may be right.

        Args:
            folder: folder that the file is in
            name: name of the file, with ``'/'`` between folders

        Raises:
            OSError: if the file cannot be read or written

        """
        source, path = os.path.join(folder, name), os.path.join(self.path, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.resumed = True
        shutil.copyfile(source, path, follow_symlinks=False)
        if os.lstat(source).st_mode & stat.S_IXUSR:
            # Who may read it may run it, as where it is not copied
            mode = stat.S_IMODE(os.lstat(path).st_mode)
            os.chmod(path, mode | (mode & 0o444) >> 2)

    def reveal(self, name: str) -> str:
        r"""Make a file visible, as one step, beside those that are there.

        Args:
            name: name of the file, with ``'/'`` between folders

        Returns:
            path of the file

        Raises:
            FileNotFoundError: if the folder was taken away

        """
        parts = name.split("/")
        for depth in range(len(parts)):
            folder = os.path.join(self._target, *parts[:depth])
            if folder not in self._made:
                _make_folder(folder)
                self._made.add(folder)
        source, path = os.path.join(self.path, name), os.path.join(self._target, name)
        # Nothing notes what a single file has to be
        disk.sync(source)
        try:
            os.rename(source, path)
        except IsADirectoryError:
            shutil.rmtree(path)
            os.rename(source, path)
        return path

    def remove(self) -> None:
        r"""Remove what is left of the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def _make_folder(path: str) -> None:
    r"""Make sure that there is a folder, and no link to elsewhere."""
    try:
        os.mkdir(path)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            os.mkdir(path)


def is_kept(path: str) -> bool:
    r"""Whether a load goes on with a file that an earlier attempt left.

    Args:
        path: path of the file

    Returns:
        whether it may be right

    """
    try:
        return _is_ours(os.lstat(path))
    except OSError:
        return False


def is_reused(path: str) -> bool:
    r"""Whether a load takes over a file that is right without another look.

    Args:
        path: path of the file, which exists

    Returns:
        whether it gets a second name

    """
    return _is_ours(os.lstat(path), links=None)


def _is_ours(status: os.stat_result, links: int | None = 1) -> bool:
    r"""Whether a file is like one that is written here, with no other name."""
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_mode & 0o7600 == 0o600
        and links in (status.st_nlink, None)
        and status.st_uid == os.geteuid()
    )

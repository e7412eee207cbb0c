r"""The only way to open, change and remove files in a cache.

What is done in a folder is done to the one that its :class:`Location` leads to,
and only regular files are opened.

"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
import errno
import os
import secrets
import shutil
import stat
import time
from typing import NamedTuple

from audmodel.core import disk
from audmodel.core.cache import descriptors
from audmodel.core.cache.descriptors import ATTEMPTS
from audmodel.core.cache.descriptors import FILE
from audmodel.core.cache.location import ON_THE_WAY
from audmodel.core.cache.location import Location


# Bytes that are copied at once
_PIECE = 1 << 20
# Errors of opening what is no regular file
_NOT_REGULAR = {errno.EINVAL, errno.ELOOP, errno.EMLINK, errno.ENXIO}


class Item(NamedTuple):
    r"""What is below a folder."""

    name: str
    status: os.stat_result

    @property
    def is_folder(self) -> bool:
        r"""Whether it is a folder, and no link to one."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        r"""Whether it is a regular file."""
        return stat.S_ISREG(self.status.st_mode)


class Folder(Location):
    r"""Folder in a cache, which need not exist.

    Names are those of files and folders below it, with ``'/'`` between folders.
    All methods raise an :class:`OSError`
    if a folder on the way is missing, or is a link,
    and the operating system refuses what is asked for.

    """

    @property
    def root(self) -> Folder:
        r"""Root folder of the cache."""
        return Folder(self._root)

    @property
    def parent(self) -> Folder:
        r"""Folder that it is in."""
        return Folder(self._root, "/".join(self._parts[:-1]))

    @property
    def name(self) -> str:
        r"""Last part of the name."""
        return self._parts[-1]

    def folder(self, name: str) -> Folder:
        r"""Folder below this one."""
        return Folder(self._root, "/".join((*self._parts, name)), self._pin)

    def pinned(self) -> Folder:
        r"""The same folder, which is missing as soon as another one is there."""
        status = self.status()
        pin = (len(self._parts), status.st_dev, status.st_ino)
        return Folder(self._root, "/".join(self._parts), pin)

    # ------------------------------------------------------------ look

    def status(self, name: str = "") -> os.stat_result:
        r"""Status of a file or folder, or of this folder.

        Args:
            name: name of it, which may be that of a link

        """
        if not name:
            with self._opened() as fd:
                return os.fstat(fd)
        with self._above(name) as (fd, last):
            return os.stat(last, dir_fd=fd, follow_symlinks=False)

    def size(self, name: str) -> int | None:
        r"""Bytes of a regular file, ``None`` if there is none."""
        try:
            status = self.status(name)
        except OSError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def has(self, name: str) -> bool:
        r"""Whether there is a file, a folder or anything else."""
        try:
            self.status(name)
        except OSError:
            return False
        return True

    def exists(self) -> bool:
        r"""Whether the folder exists, and can be read."""
        try:
            with self._opened():
                return True
        except OSError:
            return False

    def is_empty(self) -> bool:
        r"""Whether nothing is in the folder."""
        with self._opened() as fd, os.scandir(fd) as entries:
            return next(entries, None) is None

    def names(self) -> list[str]:
        r"""Names of all that is in the folder."""
        with self._opened() as fd:
            return os.listdir(fd)

    def folders(self) -> list[str]:
        r"""Names of the folders in the folder."""
        with self._opened() as fd, os.scandir(fd) as entries:
            return [e.name for e in entries if e.is_dir(follow_symlinks=False)]

    def items(self) -> list[Item]:
        r"""All that is in the folder, nothing if it cannot be read."""
        items = []
        with contextlib.suppress(OSError), self._opened() as fd:
            for name in os.listdir(fd):
                with contextlib.suppress(OSError):
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    items.append(Item(name, status))
        return items

    def walk(self) -> Iterator[Item]:
        r"""All that is below the folder, a folder before what is in it.

        Files and folders that vanish in the meantime are skipped.

        """
        left = [""]
        while left:
            name = left.pop()
            for item in self.folder(name).items() if name else self.items():
                below = f"{name}/{item.name}" if name else item.name
                yield Item(below, item.status)
                if item.is_folder:
                    left.append(below)

    def files(self) -> list[str]:
        r"""Names of all that is below the folder and no folder."""
        return [item.name for item in self.walk() if not item.is_folder]

    def free(self) -> int:
        r"""Bytes that can be written to the disk that holds the folder."""
        with self._opened() as fd:
            return shutil.disk_usage(fd).free

    # ------------------------------------------------------------ files

    def open(self, name: str) -> int:
        r"""Open a regular file for reading.

        Raises:
            FileNotFoundError: if there is none, or something else

        """
        with self._above(name) as (fd, last):
            try:
                return descriptors.regular(os.open(last, os.O_RDONLY | FILE, dir_fd=fd))
            except OSError as error:
                if error.errno not in _NOT_REGULAR:
                    raise
                raise FileNotFoundError(
                    errno.ENOENT, "It is no regular file"
                ) from error

    def open_own(self, name: str, mode: int = 0o666) -> int:
        r"""Open a file for writing that this user has made, or make it.

        Any other file or folder with that name is removed.

        Args:
            name: name of the file
            mode: permissions of a new file, of which the umask takes some

        """
        with self._above(name) as (fd, last):
            return descriptors.open_own(fd, last, mode, os.fstat(fd).st_uid)

    @contextmanager
    def opened(self, name: str) -> Iterator[Callable[[str, int], int]]:
        r"""Open several files of one folder for writing, which takes less time.

        Args:
            name: name of the folder, this one if it is empty

        Yields:
            function that does what :meth:`open_own` does
            with the name that a file has in the folder

        """
        parts = [*self._parts, *(name.split("/") if name else ())]
        with self._opened(parts, ON_THE_WAY) as fd:
            owner = os.fstat(fd).st_uid
            yield lambda last, mode: descriptors.open_own(fd, last, mode, owner)

    def open_shared(self, name: str, mode: int) -> int:
        r"""Open a regular file for reading and writing, or make it.

        Args:
            name: name of the file
            mode: permissions of a new file, regardless of the umask

        """
        with self._above(name) as (fd, last):
            for _ in range(ATTEMPTS):
                with contextlib.suppress(FileNotFoundError):
                    return descriptors.regular(
                        os.open(last, os.O_RDWR | FILE, dir_fd=fd)
                    )
                with contextlib.suppress(FileExistsError):
                    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | FILE
                    file = os.open(last, flags, mode, dir_fd=fd)
                    with contextlib.suppress(PermissionError):
                        os.fchmod(file, mode)
                    return file
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    def read(self, name: str, limit: int) -> bytes | None:
        r"""Content of a small file, ``None`` if there is none that can be read."""
        content = self.read_start(name, limit + 1)
        return None if content is None or len(content) > limit else content

    def read_start(self, name: str, limit: int) -> bytes | None:
        r"""First bytes of a file, ``None`` if there is none that can be read."""
        try:
            with open(self.open(name), "rb", buffering=0) as file:
                return file.read(limit) or b""
        except OSError:
            return None

    def write(self, name: str, content: bytes) -> None:
        r"""Write a small new file to the disk.

        Args:
            name: name of the file, which must not exist
            content: its content

        """
        with self._above(name) as (fd, last):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | FILE
            with open(os.open(last, flags, 0o666, dir_fd=fd), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

    def replace(self, name: str, content: bytes) -> None:
        r"""Replace a small file as one step."""
        temporary = f"{name}~{secrets.token_hex(8)}"
        self.make()
        # A process that was killed may have left one
        for left in self.names():
            if left.startswith(f"{name}~"):
                self.remove(left)
        try:
            self.write(temporary, content)
            self.rename(temporary, self, name)
        except OSError:
            self.remove(temporary)
            raise

    # ------------------------------------------------------------ changes

    def make(self, name: str = "", *, replace: bool = False) -> None:
        r"""Make a folder, and those above it, unless they exist.

        Args:
            name: name of a folder below this one, this one if it is empty
            replace: whether to remove a file that is in the way

        """
        parts = [*self._parts, *(name.split("/") if name else ())]
        try:
            with self._opened(parts):
                return
        except FileNotFoundError:
            os.makedirs(self._root, exist_ok=True)
        except NotADirectoryError:
            if not replace:
                raise
        for depth, part in enumerate(parts):
            with self._opened(parts[:depth]) as fd:
                descriptors.make(fd, part, replace=replace)

    def make_new(self, name: str, mode: int = 0o777) -> None:
        r"""Make a folder that must not exist."""
        with self._above(name) as (fd, last):
            os.mkdir(last, mode, dir_fd=fd)

    def rename(self, name: str, folder: Folder, new_name: str) -> None:
        r"""Give a file or folder another name, as one step."""
        with (
            self._above(name) as (source, old),
            folder._above(new_name) as (target, new),
        ):
            os.rename(old, new, src_dir_fd=source, dst_dir_fd=target)

    def link(self, name: str, folder: Folder, new_name: str) -> None:
        r"""Give a file one more name."""
        with (
            self._above(name) as (source, old),
            folder._above(new_name) as (target, new),
        ):
            os.link(
                old,
                new,
                src_dir_fd=source,
                dst_dir_fd=target,
                follow_symlinks=False,
            )

    def copy(self, name: str, folder: Folder, new_name: str, mode: int) -> None:
        r"""Copy the content of a file."""
        with (
            open(self.open(name), "rb", buffering=0) as source,
            open(folder.open_own(new_name, mode), "wb", buffering=0) as target,
        ):
            target.truncate(0)
            shutil.copyfileobj(source, target, _PIECE)

    def truncate(self, name: str, size: int) -> None:
        r"""Give a file that this user has made another size."""
        with open(self.open_own(name), "wb", buffering=0) as file:
            file.truncate(size)

    def remove(self, name: str) -> None:
        r"""Remove a file, or a folder and all that is in it, as far as that can be.

        Args:
            name: name of it, which need not exist

        """
        # Another user may have made more folders in each other than can be open
        with (
            contextlib.suppress(OSError, RecursionError),
            self._above(name) as (fd, last),
        ):
            descriptors.remove(fd, last, ignore_errors=True)

    def distinguishes(self, first: str, second: str) -> bool:
        r"""Whether two names in the folder stand for two files.

        Some file systems take names for one that differ in case or composition.

        Args:
            first: name of a file, with ``'/'`` between folders
            second: name of another file

        """
        folder = self.folder(".names~")
        folder.make(first)
        try:
            folder.status(second)
        except OSError:
            return True
        else:
            return False
        finally:
            self.remove(folder.name)

    def set_mode(self, mode: int) -> None:
        r"""Change the permissions of the folder."""
        with self._opened() as fd:
            os.fchmod(fd, mode)

    def touch(self) -> None:
        r"""Set the time at which the folder was changed to now."""
        with self._opened() as fd:
            os.utime(fd)

    def make_executable(self, name: str) -> None:
        r"""Let all users that may read a file run it.

        Args:
            name: name of the file, which this user has made

        Raises:
            PermissionError: if it has another name, which may be outside of the cache

        """
        above, _, _ = name.rpartition("/")
        owner = (self.folder(above) if above else self).status().st_uid
        fd = self.open(name)
        try:
            status = os.fstat(fd)
            if not descriptors.is_own(status, owner):
                raise PermissionError(errno.EPERM, "It may be in use elsewhere")
            mode = stat.S_IMODE(status.st_mode)
            os.fchmod(fd, mode | (mode & 0o444) >> 2)
        finally:
            os.close(fd)

    def now(self) -> float:
        r"""Time by the clock of the file system, which sets the times of files.

        If the folder cannot be written to, it is the clock of this machine.
        """
        name = f".now~{secrets.token_hex(8)}"
        try:
            with self._above(name) as (fd, last):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | FILE
                file = os.open(last, flags, 0o600, dir_fd=fd)
                try:
                    return os.fstat(file).st_mtime
                finally:
                    os.close(file)
                    os.unlink(last, dir_fd=fd)
        except OSError:
            return time.time()

    def sync(self, name: str = "") -> None:
        r"""Sync a file, or the names in this folder, to the disk."""
        if name:
            fd = self.open(name)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            return
        with self._opened() as fd:
            disk.sync_open_folder(fd)

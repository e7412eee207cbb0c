r"""The cache on disk: layout, locks, staging, finished entries.

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

To wait until a model is on the disk would double the time of a load.
Instead a small file is, before the model becomes visible,
which names the start of the machine and the checksum of the model.
As long as the machine runs, what was written is what is read.
After another start the model is compared with its checksum once.
If it is not what it was, since the power failed,
then it is taken back and continued like a load that ended early.

"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
from contextlib import AbstractContextManager
from contextlib import contextmanager
import errno
import fcntl
import glob
import logging
import os
import secrets
import shutil
import stat
import tempfile
import time

from audmodel.core import disk
from audmodel.core.config import default_cache_root
from audmodel.core.uid import ModelId
from audmodel.errors import CacheError
from audmodel.errors import DiskFullError


logger = logging.getLogger("audmodel")

# Group members have to be able to take a lock in a shared cache
_LOCK_MODE = 0o664
# Seconds after which a wait for a lock is announced, and between reminders
_FIRST_NOTICE = 2.0
_NEXT_NOTICE = 30.0
# Seconds after which a folder that nobody writes to was left behind
_ABANDONED = 600.0
# Longest content of a marker
_MARKER_LIMIT = 1000
# Bytes that are read at once
_PIECE = 1 << 20
# Models that were found to be right by this process, for caches that are read only
_verified: set[tuple[str, bytes]] = set()
# Seconds after which a use is worth a note
_USED = 60.0
# Errors that say a file system has no locks
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP}


def absolute_root(root: str | None) -> str:
    r"""Path of the root folder of a cache.

    Args:
        root: what a user gave, the default one if it is ``None``

    Returns:
        absolute path

    """
    return os.path.abspath(os.path.expanduser(root or default_cache_root()))


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
        self._parent = os.path.join(self.root, model.short)
        self._version = model.version
        self.folder = os.path.join(self._parent, model.version)
        r"""Folder of the finished model."""
        self.header_file = f"{self.folder}.header.yaml"
        r"""Copy of the header."""
        self.meta_file = f"{self.folder}.meta.yaml"
        r"""Copy of the metadata."""
        self._hidden = os.path.join(self._parent, f".{model.version}")
        self.partial_folder = f"{self._hidden}+files"
        r"""Folder of some files of the model."""
        self.index_file = f"{self._hidden}+index"
        r"""Copy of the directory of the archive."""
        self._marker = f"{self._hidden}.unsynced"
        self._alone: set[str] = set()

    @property
    def is_complete(self) -> bool:
        r"""Whether the model is in the cache.

        An empty folder may be left from elsewhere, models have files.
        """
        try:
            with os.scandir(self.folder) as entries:
                if next(entries, None) is None:
                    return False
        except OSError:
            return False
        return self._doubt() is None

    def _doubt(self) -> bytes | None:
        r"""Content of the marker if the power may have failed since the load."""
        content = self.read(self._marker, _MARKER_LIMIT)
        if (
            content is None
            or content.startswith(disk.boot_id().encode() + b":")
            or (self.folder, content) in _verified
        ):
            return None
        return content

    def verify(self) -> bool:
        r"""Compare a model from before the machine was started with its checksum.

        Nothing is written but that there is no doubt any more.

        Returns:
            whether the model is in the cache as it was loaded

        """
        content = self._doubt()
        if content is None:
            return self.is_complete
        try:
            actual = checksum(_read_tree(self.folder))
        except OSError:
            return False
        if content.partition(b":")[2] != actual.encode():
            return False
        _verified.add((self.folder, content))
        with contextlib.suppress(OSError), self.lock(timeout=0):
            if self.read(self._marker, _MARKER_LIMIT) == content:
                os.unlink(self._marker)
        return True

    def touch(self, folder: str) -> None:
        r"""Remember that the model is used.

        The time is the one at which its folder was changed.
        It needs no lock,
        and in a cache that cannot be written to nobody has to know it.

        Args:
            folder: :attr:`folder` or :attr:`partial_folder`

        """
        with contextlib.suppress(OSError):
            if time.time() - os.stat(folder).st_mtime > _USED:
                os.utime(folder)

    def read(self, path: str, limit: int) -> bytes | None:
        r"""Content of one of the small files.

        Args:
            path: :attr:`header_file`, :attr:`meta_file` or :attr:`index_file`
            limit: largest size in bytes

        Returns:
            content, or ``None`` if there is no file that can be read

        """
        try:
            with open(path, "rb", opener=disk.open_file) as file:
                content = file.read(limit + 1)
        except OSError:
            return None
        return content if len(content) <= limit else None

    def keep(self, path: str, content: bytes) -> None:
        r"""Replace one of the small files, as one step, if it differs.

        It is a copy that saves requests,
        so a cache that cannot be written to is no error.

        Args:
            path: :attr:`header_file` or :attr:`meta_file`
            content: new content

        """
        if self.read(path, len(content)) == content:
            return
        # Clients of earlier releases read and write under a lock
        lock = self.lock(os.path.basename(path), timeout=10)
        with contextlib.suppress(OSError), lock:
            replace_file(path, content)

    def keep_index(self, content: bytes) -> None:
        r"""Replace the copy of the directory of the archive, if it differs.

        Args:
            content: new content

        """
        if self.read(self.index_file, len(content)) != content:
            with contextlib.suppress(OSError):
                replace_file(self.index_file, content)

    @contextmanager
    def lock(self, name: str | None = None, *, timeout: float) -> Iterator[None]:
        r"""Keep other processes from loading the same model.

        A wait is announced with the path of the lock and the time waited.

        Args:
            name: name of the file to lock, the model if it is ``None``
            timeout: seconds to wait, forever if negative

        Raises:
            filelock.Timeout: if the lock was not free in time
            CacheError: if the lock file cannot be made

        """
        import filelock

        name = name or self._version
        path = os.path.join(self._parent, f".{name}.lock")
        try:
            os.makedirs(self._parent, exist_ok=True)
            lock = filelock.FileLock(path, mode=_LOCK_MODE, thread_local=False)
            _acquire(lock, path, timeout)
        except filelock.Timeout:
            raise
        except (OSError, NotImplementedError) as error:
            if getattr(error, "errno", errno.ENOSYS) not in _NO_LOCKS:
                raise self.error(error) from error
            logger.warning("The file system of '%s' has no file locks.", self.root)
            yield
            return
        try:
            if _keeps_others_away(path):
                self._alone.add(name)
            yield
        finally:
            self._alone.discard(name)
            lock.release()

    def error(self, cause: Exception) -> CacheError:
        r"""Error that says that the cache cannot be written to.

        Args:
            cause: what the operating system said

        Returns:
            error to raise

        """
        number = getattr(cause, "errno", None)
        kind = DiskFullError if number in (errno.ENOSPC, errno.EDQUOT) else CacheError
        return kind(
            number,
            f"The model cache '{self.root}' cannot be written to: {cause}. "
            "What is there already is kept for the next attempt. "
            "Choose another folder with 'cache_root' or AUDMODEL_CACHE_ROOT, "
            "or make room and try again.",
        )

    def lock_partial(self, *, timeout: float) -> AbstractContextManager[None]:
        r"""Keep other processes from loading files of the same model.

        A load of the whole model does not wait for it, nor it for that.

        Args:
            timeout: seconds to wait, forever if negative

        Raises:
            filelock.Timeout: if the lock was not free in time
            CacheError: if the lock file cannot be made

        """
        return self.lock(f"{self._version}+files", timeout=timeout)

    def set_aside(self, folder: str) -> str | None:
        r"""Take a folder out of sight, as one step, so that it can be deleted.

        Should that end early,
        it is like the folder of an attempt to load the model.

        Args:
            folder: :attr:`folder` or :attr:`partial_folder`, whose lock is held

        Returns:
            new path, or ``None`` if there is no such folder

        Raises:
            CacheError: if the cache cannot be changed

        """
        name = self._version + ("+files" if folder == self.partial_folder else "")
        path = self._staging_path(name)
        try:
            os.rename(folder, path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.error(error) from error
        return path

    def unfinished(self, *, partial: bool = False) -> list[str]:
        r"""Folders of attempts to load the model, running or not.

        Args:
            partial: whether for some files of the model

        Returns:
            paths

        """
        prefix = f".{self._version}{'+files' if partial else ''}~"
        with os.scandir(self._parent) as entries:
            return sorted(
                entry.path
                for entry in entries
                if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False)
            )

    def is_left(self, folder: str) -> bool:
        r"""Whether nobody is at work in a folder.

        Args:
            folder: one of :meth:`unfinished`, whose lock is held

        Returns:
            whether the lock keeps others away,
            or nobody has written to the folder for a while

        """
        name, _, rest = os.path.basename(folder).removeprefix(".").partition("~")
        is_private = rest.startswith("~")
        return (name in self._alone and not is_private) or _is_abandoned(folder)

    def forget(self) -> None:
        r"""Remove the small files, whose locks stay."""
        for path in (self.header_file, self.meta_file):
            with (
                contextlib.suppress(OSError),
                self.lock(os.path.basename(path), timeout=10),
            ):
                os.unlink(path)
        disk.remove(self.index_file)
        disk.remove(self._marker)

    def stage(self, *, partial: bool = False, private: bool = False) -> Staging:
        r"""Folder to prepare the model in.

        It stays if the attempt ends early,
        so that the next one can go on from there.

        Args:
            partial: whether it is for some files of the model
            private: whether to keep away from the folders of others,
                and others from this one,
                whatever the lock says

        Returns:
            folder that nobody else works in,
            with what an earlier attempt left, if there is something

        """
        os.makedirs(self._parent, exist_ok=True)
        if not partial and self._doubt() is not None:
            # All of it that is right need not be fetched again
            self.set_aside(self.folder)
        name = self._version + ("+files" if partial else "")
        path = self._staging_path(name, private=private)
        resumed = not private and self._adopt(name, path)
        if not resumed:
            os.mkdir(path)
        target = self.partial_folder if partial else self.folder
        return Staging(path, target, self._marker, resumed)

    def tidy(self) -> None:
        r"""Remove what earlier attempts left beside the finished model."""
        for folder in self.unfinished():
            if self.is_left(folder):
                shutil.rmtree(folder, ignore_errors=True)

    def _staging_path(self, name: str, *, private: bool = False) -> str:
        name = f".{name}~{'~' if private else ''}{secrets.token_hex(8)}"
        return os.path.join(self._parent, name)

    def _adopt(self, name: str, path: str) -> bool:
        r"""Take over the folder of an attempt that ended early.

        As long as the lock is ours, nobody else is at work in it.
        Should the lock be broken, whoever is will notice that it is gone,
        and keep out of the way.
        """
        partial = name != self._version
        best = self.resumable(partial=partial)
        adopted = False
        for old in self.unfinished(partial=partial):
            if old == best:
                with contextlib.suppress(OSError):
                    os.rename(old, path)
                    adopted = True
            elif self.is_left(old):
                shutil.rmtree(old, ignore_errors=True)
        return adopted

    def resumable(self, *, partial: bool = False) -> str | None:
        r"""Folder of an attempt that ended early, to go on from.

        Args:
            partial: whether it is for some files of the model

        Returns:
            path, or ``None`` if there is none

        """
        for folder in self.unfinished(partial=partial):
            with contextlib.suppress(OSError):
                # Who made it may have kept others from writing to it
                is_ours = os.lstat(folder).st_uid == os.geteuid()
                if is_ours and self.is_left(folder):
                    return folder
        return None


class Staging:
    r"""Folder of a model that is being loaded.

    Args:
        path: path of the folder
        target: where it goes when it is complete
        marker: where it is noted what it is made of
        resumed: whether it holds files of an earlier attempt

    """

    def __init__(self, path: str, target: str, marker: str, resumed: bool) -> None:
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
        self._mark(f"{disk.boot_id()}:{checksum(files)}")
        try:
            os.rename(self.path, self._target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            self.remove()

    def _mark(self, content: str) -> None:
        r"""Note what to compare the model with should the power fail."""
        # Should this process be killed, it goes with what else does not belong there
        temporary = os.path.join(self.path, f".unsynced~{secrets.token_hex(8)}")
        with open(temporary, "xb") as file:
            file.write(content.encode())
        if disk.boot_id():
            disk.sync(temporary)
        else:
            # Nobody could tell later whether the power has failed
            disk.sync_tree(self.path)
        os.replace(temporary, self._marker)
        disk.sync_folder(os.path.dirname(self._marker))

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
            if _is_ours(os.lstat(source), links=None):
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


def replace_file(path: str, content: bytes) -> None:
    r"""Replace a small file as one step.

    Args:
        path: path of the file
        content: new content

    Raises:
        OSError: if it cannot be written

    """
    temporary = f"{path}~{secrets.token_hex(8)}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        # Whoever was killed left one
        for left in glob.glob(f"{glob.escape(path)}~*"):
            os.unlink(left)
        with open(temporary, "xb") as file:
            file.write(content)
        disk.sync(temporary)
        os.replace(temporary, path)
    except OSError:
        disk.remove(temporary)
        raise


def _make_folder(path: str) -> None:
    r"""Make sure that there is a folder, and no link to elsewhere."""
    try:
        os.mkdir(path)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            os.mkdir(path)


def checksum(files: Iterable[tuple[str, int, int]]) -> str:
    r"""Checksum of a model.

    Args:
        files: name, size and CRC-32 of each file, in any order

    Returns:
        checksum

    """
    from blake3 import blake3

    digest = blake3()
    for name, size, crc in sorted(files):
        digest.update(f"{crc} {size} {name}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _read_tree(root: str) -> Iterator[tuple[str, int, int]]:
    r"""Name, size and CRC-32 of all files in a folder."""
    from isal import isal_zlib

    buffer = memoryview(bytearray(_PIECE))
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            fd = disk.open_file(path, os.O_RDONLY | os.O_NOFOLLOW)
            with open(fd, "rb", buffering=0) as file:
                size = crc = 0
                while count := file.readinto(buffer):
                    size += count
                    crc = isal_zlib.crc32(buffer[:count], crc)
            yield os.path.relpath(path, root).replace(os.sep, "/"), size, crc


def _acquire(lock: object, path: str, timeout: float) -> None:
    import filelock

    assert isinstance(lock, filelock.BaseFileLock)
    start = time.monotonic()
    notice = _FIRST_NOTICE
    while True:
        waited = time.monotonic() - start
        left = timeout - waited if timeout >= 0 else float("inf")
        try:
            lock.acquire(timeout=max(0, min(notice - waited, left)))
            return
        except filelock.Timeout:
            waited = time.monotonic() - start
            if timeout >= 0 and waited >= timeout:
                raise
        logger.warning(
            "Waiting since %.0f s for '%s', "
            "which another process holds that is at work on the same model.",
            waited,
            path,
        )
        notice = waited + _NEXT_NOTICE


def _keeps_others_away(path: str) -> bool:
    r"""Whether a lock that is held does what it should."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def _is_ours(status: os.stat_result, links: int | None = 1) -> bool:
    r"""Whether a file is like one that is written here, with no other name."""
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_mode & 0o7600 == 0o600
        and links in (status.st_nlink, None)
        and status.st_uid == os.geteuid()
    )


def _is_abandoned(folder: str) -> bool:
    r"""Whether nobody has written to a folder for a while."""
    newest = 0.0
    with contextlib.suppress(OSError):
        newest = os.lstat(folder).st_mtime
        for root, folders, names in os.walk(folder):
            for name in folders + names:
                status = os.lstat(os.path.join(root, name))
                newest = max(newest, status.st_mtime)
        return time.time() - newest > _ABANDONED
    return False  # it has just been taken away

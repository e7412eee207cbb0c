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

Nothing here relies on a lock to be right.
A model becomes visible by renaming a folder
that its process has verified as a whole,
and the name of that folder is known to no other process.
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
from contextlib import contextmanager
import errno
import fcntl
import glob
import logging
import os
import secrets
import shutil
import stat
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
# Errors that say a file system has no locks
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP}


class CacheEntry:
    r"""Place of a model in the cache.

    Args:
        root: root folder of the cache,
            the default one if it is ``None``
        model: ID of the model

    """

    def __init__(self, root: str | None, model: ModelId) -> None:
        root = root or default_cache_root()
        self.root = os.path.abspath(os.path.expanduser(root))
        self._parent = os.path.join(self.root, model.short)
        self._version = model.version
        self.folder = os.path.join(self._parent, model.version)
        r"""Folder of the finished model."""
        self.header_file = f"{self.folder}.header.yaml"
        r"""Copy of the header."""
        self.meta_file = f"{self.folder}.meta.yaml"
        r"""Copy of the metadata."""
        self._marker = os.path.join(self._parent, f".{model.version}.unsynced")
        self._is_alone = False

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

    def read(self, path: str, limit: int) -> bytes | None:
        r"""Content of one of the small files.

        Args:
            path: :attr:`header_file` or :attr:`meta_file`
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
        temporary = f"{path}~{secrets.token_hex(8)}"
        try:
            os.makedirs(self._parent, exist_ok=True)
            # Clients of earlier releases read and write under a lock
            with self.lock(os.path.basename(path), timeout=10):
                # Whoever was killed left one
                for left in glob.glob(f"{glob.escape(path)}~*"):
                    os.unlink(left)
                with open(temporary, "xb") as file:
                    file.write(content)
                disk.sync(temporary)
                os.replace(temporary, path)
        except OSError:
            disk.remove(temporary)

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

        path = os.path.join(self._parent, f".{name or self._version}.lock")
        try:
            os.makedirs(self._parent, exist_ok=True)
            lock = filelock.FileLock(path, mode=_LOCK_MODE)
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
            if name is None:
                self._is_alone = _keeps_others_away(path)
            yield
        finally:
            self._is_alone = False
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

    def stage(self, *, private: bool = False) -> Staging:
        r"""Folder to prepare the model in.

        It stays if the attempt ends early,
        so that the next one can go on from there.

        Args:
            private: whether to keep away from the folders of others,
                and others from this one,
                whatever the lock says

        Returns:
            folder that nobody else works in,
            with what an earlier attempt left, if there is something

        """
        os.makedirs(self._parent, exist_ok=True)
        prefix = f".{self._version}~"
        name = f"{prefix}{'~' if private else ''}{secrets.token_hex(8)}"
        path = os.path.join(self._parent, name)
        if self._doubt() is not None:
            # All of it that is right need not be fetched again
            with contextlib.suppress(FileNotFoundError):
                os.rename(self.folder, f"{path}-doubtful")
        resumed = not private and self._adopt(prefix, path)
        if not resumed:
            os.mkdir(path)
        return Staging(path, self.folder, self._marker, resumed)

    def tidy(self) -> None:
        r"""Remove what earlier attempts left beside the finished model."""
        self._adopt(f".{self._version}~", None)

    def _adopt(self, prefix: str, path: str | None) -> bool:
        r"""Take over the folder of an attempt that ended early, remove others.

        As long as the lock is ours, nobody else is at work in it.
        Should the lock be broken, whoever is will notice that it is gone,
        and keep out of the way.
        """
        with os.scandir(self._parent) as entries:
            left = sorted(
                entry.path
                for entry in entries
                if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False)
            )
        adopted = False
        for old in left:
            is_private = os.path.basename(old).startswith(prefix + "~")
            if (not self._is_alone or is_private) and not _is_abandoned(old):
                continue
            with contextlib.suppress(OSError):
                # Who made it may have kept others from writing to it
                if path is None or adopted or os.lstat(old).st_uid != os.geteuid():
                    shutil.rmtree(old, ignore_errors=True)
                else:
                    os.rename(old, path)
                    adopted = True
        return adopted


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
            shutil.rmtree(self.path, ignore_errors=True)

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


def _is_ours(status: os.stat_result) -> bool:
    r"""Whether a file is like one that is written here, with no other name."""
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_mode & 0o7600 == 0o600
        and status.st_nlink == 1
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

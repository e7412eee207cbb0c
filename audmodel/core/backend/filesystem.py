r"""Repository in a folder."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
from contextlib import contextmanager
import datetime
import errno
import fcntl
import functools
import hashlib
import logging
import os
import random
import re
import secrets
import tempfile
import time
from typing import IO
from typing import TypeVar

import audbackend

from audmodel.core import disk
from audmodel.core.backend import file_copies
from audmodel.core.backend.base import ANY
from audmodel.core.backend.base import TAIL
from audmodel.core.backend.base import Buffer
from audmodel.core.backend.base import Chunk
from audmodel.core.backend.base import Copying
from audmodel.core.backend.base import CopySource
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.base import ObjectReader
from audmodel.core.backend.base import ObjectState
from audmodel.core.backend.base import StoredObject
from audmodel.core.backend.base import Upload
from audmodel.core.backend.errors import CopyError
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import RepositoryNotFoundError
from audmodel.core.backend.errors import WriteUncertainError


logger = logging.getLogger("audmodel")

# File that becomes an object when it is complete
_TEMPORARY = re.compile(r"\.(?P<name>.+)~[0-9a-f]{16}")
# Seconds to wait for a process that replaces an object, which takes milliseconds
_LOCK_TIMEOUT = 30.0
# Longest pause between two looks at a lock
_LOCK_PAUSE = 0.02
_LOCK_MODE = 0o664
Item = TypeVar("Item")

# Prefix of etags that are made of the inode and not of the content
_INODE = "inode-"


class FileReader(ObjectReader):
    r"""Byte ranges of a file.

    The file stays open,
    so that all ranges are of the same file
    even if another one takes its place.

    """

    def __init__(self, file: IO[bytes], path: str) -> None:
        self._fd = file.fileno()
        self._path = path
        status = os.fstat(self._fd)
        size, length = status.st_size, min(TAIL, status.st_size)
        tail = os.pread(self._fd, length, size - length)
        super().__init__(size, tail, _identity(status))

    def _readinto(self, offset: int, view: memoryview) -> None:
        while len(view):
            try:
                count = os.preadv(self._fd, [view], offset)
            except OSError as error:
                raise RepositoryError(
                    f"Could not read '{self._path}': {error.strerror}.", error
                ) from error
            if count == 0:
                raise RepositoryError(
                    f"{self._path!r} ends at {offset} bytes "
                    f"instead of {self.size}, it was changed while it was read."
                )
            self.arrived(count)
            view = view[count:]
            offset += count


class FileSystem(ObjectBackend, audbackend.backend.FileSystem):  # type: ignore[misc]
    r"""Backend for a folder.

    Args:
        host: host folder
        repository: name of the folder of the repository

    """

    # Writes are done when the call to the operating system returns
    has_late_writes = False
    has_copies = True

    def __init__(self, host: str, repository: str) -> None:
        super().__init__(os.path.expanduser(host), repository)
        # Folders whose names are on the disk
        self._durable: set[str] = set()

    def read_object(self, path: str, limit: int) -> StoredObject | None:  # noqa: D102
        with self._translate_errors("read", path):
            try:
                with open(self._expand(path), "rb", opener=disk.open_file) as file:
                    data = file.read(limit + 1)
            except (FileNotFoundError, NotADirectoryError):
                return None
        if len(data) > limit:
            raise RepositoryError(
                f"'{self._expand(path)}' is larger than the {limit} bytes allowed."
            )
        return StoredObject(data, _tag(data))

    def create_object(self, path: str, data: bytes) -> bool:  # noqa: D102
        with self._translate_errors("create", path):
            target = self._expand(path)
            # Not checked before: what dead writers left is removed even if it exists
            with self._temporary(target, [data], file_copies.write) as (temporary, _):
                try:
                    if not disk.link(temporary, target):
                        self._move(temporary, target, None)
                except FileExistsError:
                    _check_link(target)
                    return False
            self._sync_name(target)
        return True

    def replace_object(self, path: str, data: bytes, tag: str) -> bool:  # noqa: D102
        with self._translate_errors("replace", path):
            target = self._expand(path)
            # Checked without lock first: most late writers stop here
            if not _has_tag(target, tag):
                return False
            with (
                self._temporary(target, [data], file_copies.write) as (temporary, _),
                self._exclusive(os.path.dirname(target)),
            ):
                if not _has_tag(target, tag):
                    return False
                os.replace(temporary, target)
            self._sync_name(target)
        return True

    def stat_object(self, path: str) -> ObjectState | None:  # noqa: D102
        with self._translate_errors("look at", path):
            try:
                status = os.stat(self._expand(path))
            except (FileNotFoundError, NotADirectoryError):
                return None
        return ObjectState(_identity(status), _time(status))

    def delete_object(self, path: str, tag: str) -> bool:  # noqa: D102
        with (
            self._translate_errors("delete", path),
            contextlib.suppress(FileNotFoundError),
        ):
            target = self._expand(path)
            # A process that replaces an object waits for this lock
            with self._exclusive(os.path.dirname(target)):
                if not _has_tag(target, tag):
                    return not os.path.exists(target)
                os.unlink(target)
        return True

    def may_be_same(self, tag: str, other: str) -> bool:  # noqa: D102
        # Numbers of devices and inodes differ from machine to machine
        return tag.split("-")[3:] == other.split("-")[3:]

    def now(self) -> datetime.datetime:  # noqa: D102
        # The server of a network share has a clock of its own
        with (
            self._translate_errors("create a file in", "/"),
            tempfile.TemporaryFile(dir=self._root) as file,
        ):
            return _time(os.fstat(file.fileno()))

    def list_objects(self, folder: str) -> list[str]:  # noqa: D102
        paths: list[str] = []

        def refuse(error: OSError) -> None:
            # Made by the file system at the top of a disk, for root only
            is_reserved = error.filename == os.path.join(self._root, "lost+found")
            if is_reserved and isinstance(error, PermissionError):
                return
            if not isinstance(error, FileNotFoundError):
                raise RepositoryError(
                    f"Could not list '{folder}' of the repository, since its folder "
                    f"'{error.filename}' cannot be read: {error.strerror}.",
                    error,
                ) from error

        with self._translate_errors("list", folder):
            for root, _, names in os.walk(self._expand(folder), onerror=refuse):
                paths += [self._collapse(os.path.join(root, name)) for name in names]
        return paths

    def object_sizes(self, folder: str) -> Mapping[str, int | None]:  # noqa: D102
        return {path: self._size_of(path) for path in self.list_objects(folder)}

    def _size_of(self, path: str) -> int | None:
        try:
            return os.stat(self._expand(path)).st_size
        except OSError:
            return None

    @contextmanager
    def open_object(  # noqa: D102
        self, path: str, *, tmp_root: str | None = None
    ) -> Iterator[ObjectReader | None]:
        with self._translate_errors("open", path):
            try:
                file = open(  # noqa: SIM115
                    self._expand(path), "rb", opener=disk.open_file
                )
            except (FileNotFoundError, NotADirectoryError):
                file = None
        if file is None:
            yield None
            return
        with file:
            with self._translate_errors("read", path):
                reader = FileReader(file, self._expand(path))
            yield reader

    def write_object(  # noqa: D102
        self,
        path: str,
        chunks: Iterable[Buffer],
        *,
        tmp_root: str | None = None,
        num_workers: int = 1,
        before_commit: Callable[[], None] = lambda: None,
        replaces: str | None = ANY,
        new_tag: bool = False,
    ) -> str | None:
        return self._store(path, chunks, file_copies.write, before_commit, replaces)

    def _store(
        self,
        path: str,
        chunks: Iterable[Item],
        write: Callable[[int, Item], None],
        before_commit: Callable[[], None],
        replaces: str | None,
    ) -> str | None:
        failures: list[OSError] = []

        def content() -> Iterator[Item]:
            try:
                yield from chunks
            except OSError as error:
                failures.append(error)
                raise

        target = self._expand(path)
        try:
            tag = self._put(target, content(), before_commit, replaces, write)
        except OSError as error:
            # An error of reading the model is no error of the repository
            if error in failures:
                raise
            with self._translate_errors("write", path):
                raise
        if tag is not None:
            self._sync_name(target)
        return tag

    def copying(  # noqa: D102
        self, source: CopySource, *, is_dry: bool = False
    ) -> Copying:
        target = self._expand(source.path)
        with contextlib.suppress(OSError), self._source(source) as fd:
            if fd is not None and file_copies.pays(fd, os.path.dirname(target)):
                return Copying.CERTAIN
        return Copying.NOTHING

    def compose_object(  # noqa: D102
        self,
        path: str,
        chunks: Iterable[Chunk],
        source: CopySource,
        *,
        num_workers: int = 1,
        before_commit: Callable[[], None] = lambda: None,
        replaces: str | None = ANY,
    ) -> str | None:
        with self._source(source) as fd:
            if fd is None:
                raise CopyError(f"'{self._expand(source.path)}' was replaced.")
            copies = file_copies.FileCopies(fd, self._root)
            return self._store(path, chunks, copies.write, before_commit, replaces)

    @contextmanager
    def _source(self, source: CopySource) -> Iterator[int | None]:
        r"""File that bytes are copied from, ``None`` if it is another one by now."""
        try:
            file = open(  # noqa: SIM115
                self._expand(source.path), "rb", opener=disk.open_file
            )
        except OSError:
            yield None
            return
        with file:
            is_same = _identity(os.fstat(file.fileno())) == source.tag
            yield file.fileno() if is_same else None

    def list_uploads(self, prefix: str) -> list[Upload]:  # noqa: D102
        uploads = []
        for path in self.list_objects(f"{os.path.dirname(prefix).rstrip('/')}/"):
            folder, name = os.path.split(path)
            match = _TEMPORARY.fullmatch(name)
            target = f"{folder.rstrip('/')}/{match['name']}" if match else ""
            if not target.startswith(prefix):
                continue
            # A file that is locked, or that cannot be locked, may be in use
            with contextlib.suppress(OSError), _locked(self._expand(path)) as fd:
                time = _time(os.fstat(fd))
                uploads.append(Upload(target, path, time, is_dead=True))
        return uploads

    def abort_upload(self, upload: Upload) -> None:  # noqa: D102
        path = self._expand(upload.id)
        with (
            self._translate_errors("remove", upload.id),
            contextlib.suppress(FileNotFoundError, BlockingIOError),
            _locked(path),
        ):
            os.unlink(path)

    def object_url(self, path: str) -> str:  # noqa: D102
        return str(os.path.normpath(self._expand(path)))

    def _put(
        self,
        target: str,
        chunks: Iterable[Item],
        before_commit: Callable[[], None],
        replaces: str | None,
        write: Callable[[int, Item], None],
    ) -> str | None:
        r"""Write a file beside its place and move it in.

        Returns:
            its etag, or ``None`` if it may not replace the file that is there

        """
        with self._temporary(target, chunks, write) as (temporary, fd):
            before_commit()
            tag = _identity(os.fstat(fd))
            try:
                self._move(temporary, target, replaces)
            except FileExistsError:
                return None
        return tag

    def _move(self, temporary: str, target: str, replaces: str | None) -> None:
        r"""Move a file in.

        Raises:
            FileExistsError: if it may not replace the file that is there

        """
        with self._exclusive(os.path.dirname(target)):
            if os.path.lexists(target) and not _has_tag(target, replaces):
                raise FileExistsError(errno.EEXIST, "File exists", target)
            os.replace(temporary, target)

    def _sync_name(self, path: str) -> None:
        r"""Make the name of a file durable, which is visible already."""
        try:
            disk.sync_folder(os.path.dirname(path))
        except OSError as error:
            raise WriteUncertainError(
                f"'{path}' was written, but may be lost if the power fails: "
                f"{error.strerror}. Read it before you try again.",
                error,
            ) from error

    @contextmanager
    def _temporary(
        self,
        target: str,
        chunks: Iterable[Item],
        write: Callable[[int, Item], None],
    ) -> Iterator[tuple[str, int]]:
        r"""Complete, durable file in the folder of the target, removed at the end."""
        folder, name = os.path.split(target)
        self._make_folders(folder)
        prefix = f".{name}~"
        _remove_abandoned(folder, prefix)
        path, fd = _create_locked(folder, prefix)
        try:
            for chunk in chunks:
                write(fd, chunk)
            os.fsync(fd)
            # Some file systems say only when a file is closed
            # that they cannot store it
            os.close(os.dup(fd))
            yield path, fd
        finally:
            disk.remove(path)
            with contextlib.suppress(OSError):
                os.close(fd)

    def _make_folders(self, folder: str) -> None:
        r"""Make folders, and their names durable.

        A process that made them may have ended before their names were durable.
        """
        os.makedirs(folder, exist_ok=True)
        if folder not in self._durable:
            disk.sync_names(folder, self._root)
            self._durable.add(folder)

    @contextmanager
    def _exclusive(self, folder: str) -> Iterator[None]:
        r"""Let one process at a time compare and replace.

        Locking the folder itself leaves no lock file behind.
        On network file systems this lock does not exclude other machines:
        they need a lock on a file that is open for writing,
        and some have no locks at all.
        """
        with contextlib.ExitStack() as stack:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(_unlock, fd)
            if _lock(fd, "its folder") is not None or disk.is_shared(folder):
                path = os.path.join(self._root, ".lock")
                fd = _open_lock(path)
                stack.callback(_unlock, fd)
                error = _lock(fd, path)
                if error is not None:
                    if error.errno not in disk.NO_LOCKS:
                        raise error
                    _announce_no_locks(self._root)
            yield

    @contextmanager
    def _translate_errors(self, action: str, path: str) -> Iterator[None]:
        r"""Raise errors of the operating system as errors of a repository."""
        try:
            yield
        except OSError as error:
            raise RepositoryError(
                f"Could not {action} '{self._expand(path)}': {error.strerror}."
                f"{disk.advice(error)}",
                error,
            ) from error

    def _open(self) -> None:
        if self.host.startswith("~"):
            raise RepositoryNotFoundError(
                f"The repository folder '{self._root}' does not exist, "
                "since the home folder is not known. "
                "Set HOME, or configure a repository by an absolute path."
            )
        if not os.path.isdir(self._root):
            raise RepositoryNotFoundError(
                f"The repository folder '{self._root}' does not exist. "
                "Create it, or correct the repository's host and name.",
                FileNotFoundError(errno.ENOENT, "No such folder", self._root),
            )


@functools.cache
def _announce_no_locks(root: str) -> None:
    r"""Warn once."""
    logger.warning(
        "The file system of '%s' has no file locks. "
        "Let only one process at a time publish, and change aliases and metadata.",
        root,
    )


def _open_lock(path: str) -> int:
    r"""Open a lock file, which all users that may change the repository may lock."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, _LOCK_MODE)
    with contextlib.suppress(OSError):  # it may belong to another user
        os.fchmod(fd, _LOCK_MODE)
    return fd


def _lock(fd: int, what: str) -> OSError | None:
    r"""Wait for a lock, return why there is none.

    Raises:
        TimeoutError: if another process has it

    """
    deadline = time.monotonic() + _LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    errno.ETIMEDOUT,
                    f"another process has locked {what} for {_LOCK_TIMEOUT:g} s, "
                    "stop it or try again later",
                ) from None
            time.sleep(random.uniform(0, _LOCK_PAUSE))  # noqa: S311
        except OSError as error:
            return error
        else:
            return None


def _create_locked(folder: str, prefix: str) -> tuple[str, int]:
    r"""New file that is locked as long as its writer lives."""
    while True:
        path = os.path.join(folder, prefix + secrets.token_hex(8))
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            with contextlib.suppress(OSError):  # not every file system has locks
                fcntl.flock(fd, fcntl.LOCK_EX)
        except BaseException:
            # A signal may come while the file is made
            disk.remove(path)
            raise
        # Another process may have removed the file before it was locked
        if os.fstat(fd).st_nlink:
            return path, fd
        os.close(fd)


def _remove_abandoned(folder: str, prefix: str) -> None:
    r"""Remove temporary files that dead writers of an object left."""
    with os.scandir(folder) as entries:
        paths = [entry.path for entry in entries if entry.name.startswith(prefix)]
    for path in paths:
        # A file that is locked, or that cannot be locked, may be in use
        with contextlib.suppress(OSError), _locked(path):
            os.unlink(path)


@contextmanager
def _locked(path: str) -> Iterator[int]:
    r"""Lock a file that no other process has locked.

    Raises:
        OSError: if another process has locked it, or it cannot be locked

    """
    fd = disk.open_file(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fd
    finally:
        _unlock(fd)


def _unlock(fd: int) -> None:
    r"""Close a file that was locked, if it was."""
    # A child that was forked in the meantime keeps the file open
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _check_link(path: str) -> None:
    r"""Raise an error for a broken link.

    It can be neither read nor created.
    """
    if os.path.islink(path) and not os.path.exists(path):
        raise RepositoryError(
            f"Could not create '{path}': it is a link to "
            f"'{os.readlink(path)}', which does not exist. "
            "Restore the target of the link, or remove the link."
        )


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _identity(status: os.stat_result) -> str:
    r"""Etag of a file of any size, which differs for a new file."""
    return (
        f"{_INODE}{status.st_dev}-{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"
    )


def _has_tag(path: str, tag: str | None) -> bool:
    r"""Whether a file has an etag, or is absent if that is ``None``."""
    if tag == ANY:
        return True
    if tag is None:
        return not os.path.lexists(path)
    try:
        if tag.startswith(_INODE):
            return _identity(os.stat(path)) == tag
        with open(path, "rb", opener=disk.open_file) as file:
            return _tag(file.read()) == tag
    except FileNotFoundError:
        return False


def _time(status: os.stat_result) -> datetime.datetime:
    r"""When a file was written, moved or restored from a backup."""
    seconds = max(status.st_mtime, status.st_ctime)
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (OverflowError, ValueError):
        return datetime.datetime.max.replace(tzinfo=datetime.UTC)

r"""Repository in a folder."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
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
import time
from typing import IO

import audbackend

from audmodel.core import disk
from audmodel.core.backend.base import TAIL
from audmodel.core.backend.base import Buffer
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.base import ObjectReader
from audmodel.core.backend.base import StoredObject
from audmodel.core.backend.base import Upload
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import RepositoryNotFoundError
from audmodel.core.backend.errors import WriteUncertainError


logger = logging.getLogger("audmodel")

# File that becomes an object when it is complete
_TEMPORARY = re.compile(r"\.(?P<name>.+)~[0-9a-f]{16}")
# Seconds to wait for who compares and replaces an object, which takes milliseconds
_LOCK_TIMEOUT = 30.0
# Longest pause between two looks at a lock
_LOCK_PAUSE = 0.02
_LOCK_MODE = 0o664


class FileReader(ObjectReader):
    r"""Byte ranges of a file.

    The file stays open,
    so that all ranges are of the same file
    even if another one takes its place.

    """

    def __init__(self, file: IO[bytes], path: str) -> None:
        self._fd = file.fileno()
        self._path = path
        size = os.fstat(self._fd).st_size
        length = min(TAIL, size)
        super().__init__(size, os.pread(self._fd, length, size - length))

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
            view = view[count:]
            offset += count


class FileSystem(ObjectBackend, audbackend.backend.FileSystem):  # type: ignore[misc]
    r"""Backend for a folder.

    Args:
        host: host folder
        repository: name of the folder of the repository

    """

    def __init__(self, host: str, repository: str) -> None:
        super().__init__(os.path.expanduser(host), repository)

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
            with _temporary(target, [data]) as temporary:
                try:
                    if not disk.link(temporary, target):
                        self._move(temporary, target)
                except FileExistsError:
                    return False
                finally:
                    # The next one to write this object tries again
                    disk.remove(temporary)
            self._sync_name(target)
        return True

    def replace_object(self, path: str, data: bytes, tag: str) -> bool:  # noqa: D102
        with self._translate_errors("replace", path):
            target = self._expand(path)
            try:
                with self._exclusive(os.path.dirname(target)):
                    with open(target, "rb", opener=disk.open_file) as file:
                        current = file.read()
                    if _tag(current) != tag:
                        return False
                    self._put(target, [data])
            except FileNotFoundError:
                return False
        return True

    def delete_object(  # noqa: D102
        self, path: str, *, before_repeat: Callable[[], None] = lambda: None
    ) -> None:
        with (
            self._translate_errors("delete", path),
            contextlib.suppress(FileNotFoundError),
        ):
            os.unlink(self._expand(path))

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
    ) -> None:
        failures: list[OSError] = []

        def content() -> Iterator[Buffer]:
            try:
                yield from chunks
            except OSError as error:
                failures.append(error)
                raise

        try:
            self._put(self._expand(path), content(), before_commit)
        except OSError as error:
            # What cannot be read is no problem of the repository
            if error in failures:
                raise
            with self._translate_errors("write", path):
                raise

    def list_uploads(self, prefix: str) -> list[Upload]:  # noqa: D102
        uploads = []
        for path in self.list_objects(prefix):
            folder, name = os.path.split(path)
            match = _TEMPORARY.fullmatch(name)
            if match is None:
                continue
            # A file that is locked, or that cannot be locked, may be in use
            with contextlib.suppress(OSError), _locked(self._expand(path)) as fd:
                changed = os.fstat(fd).st_mtime
                date = datetime.datetime.fromtimestamp(changed, datetime.UTC).date()
                target = f"{folder.rstrip('/')}/{match['name']}"
                uploads.append(Upload(target, path, date.isoformat(), is_dead=True))
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

    def _move(self, temporary: str, target: str) -> None:
        r"""Move a file in unless there is one, where there are no hard links."""
        with self._exclusive(os.path.dirname(target)):
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, "File exists", target)
            os.replace(temporary, target)

    def _put(
        self,
        target: str,
        chunks: Iterable[Buffer],
        before_commit: Callable[[], None] = lambda: None,
    ) -> None:
        r"""Write a file beside its place and move it in."""
        with _temporary(target, chunks) as temporary:
            before_commit()
            os.replace(temporary, target)
        self._sync_name(target)

    def _sync_name(self, path: str) -> None:
        r"""Make the name of a file durable that everybody sees already."""
        try:
            disk.sync_folder(os.path.dirname(path))
        except OSError as error:
            raise WriteUncertainError(
                f"'{path}' was written, but may be lost should the power fail: "
                f"{error.strerror}. Read it before you try again.",
                error,
            ) from error

    @contextmanager
    def _exclusive(self, folder: str) -> Iterator[None]:
        r"""Let one process at a time compare and replace.

        Locking the folder itself leaves no lock file behind.
        On network file systems that keeps nobody away on other machines:
        they want a file that is open for writing,
        and some have no locks at all.
        """
        with contextlib.ExitStack() as stack:
            fd = os.open(folder, os.O_RDONLY)
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
        r"""Errors of the operating system as errors of a repository."""
        try:
            yield
        except OSError as error:
            raise RepositoryError(
                f"Could not {action} '{self._expand(path)}': {error.strerror}.", error
            ) from error

    def _open(self) -> None:
        if not os.path.isdir(self._root):
            raise RepositoryNotFoundError(
                f"The repository folder '{self._root}' does not exist. "
                "Create it, or correct the repository's host and name."
            )


@contextmanager
def _temporary(target: str, chunks: Iterable[Buffer]) -> Iterator[str]:
    r"""Complete, durable file beside its later place."""
    folder, name = os.path.split(target)
    disk.make_folders(folder)
    prefix = f".{name}~"
    _remove_abandoned(folder, prefix)
    path, fd = _create_locked(folder, prefix)
    try:
        try:
            for chunk in chunks:
                _write(fd, memoryview(chunk))
            os.fsync(fd)
            yield path
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            raise
    finally:
        os.close(fd)


@functools.cache
def _announce_no_locks(root: str) -> None:
    r"""Say once what to mind."""
    logger.warning(
        "The file system of '%s' has no file locks. "
        "Let only one process at a time publish, and change aliases and metadata.",
        root,
    )


def _open_lock(path: str) -> int:
    r"""Open a lock file, which everybody may lock who may change the repository."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, _LOCK_MODE)
    with contextlib.suppress(OSError):  # it may belong to somebody else
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
                    "end it or try again later",
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
        # Somebody may have tidied up before the file was locked
        if os.fstat(fd).st_nlink:
            return path, fd
        os.close(fd)


def _remove_abandoned(folder: str, prefix: str) -> None:
    r"""Remove what dead writers of the same object left."""
    with os.scandir(folder) as entries:
        paths = [entry.path for entry in entries if entry.name.startswith(prefix)]
    for path in paths:
        # A file that is locked, or that cannot be locked, may be in use
        with contextlib.suppress(OSError), _locked(path):
            os.unlink(path)


@contextmanager
def _locked(path: str) -> Iterator[int]:
    r"""Lock a file that nobody else has locked.

    Raises:
        OSError: if somebody has, or it cannot be locked

    """
    fd = disk.open_file(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield fd
    finally:
        _unlock(fd)


def _unlock(fd: int) -> None:
    r"""Close a file that was locked, if it was."""
    # A child that was forked in the meantime has it open for as long as it lives
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _write(fd: int, view: memoryview) -> None:
    while len(view):
        view = view[os.write(fd, view) :]


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

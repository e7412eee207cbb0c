r"""Repository in a folder."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
from contextlib import contextmanager
import datetime
import errno
import hashlib
import itertools
import logging
import os
import re
import tempfile
from typing import TypeVar

import audbackend

from audmodel.core import disk
from audmodel.core.backend import file_copies
from audmodel.core.backend import file_locks
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.copies import Chunk
from audmodel.core.backend.copies import CopyableChunk
from audmodel.core.backend.copies import Copying
from audmodel.core.backend.copies import CopySource
from audmodel.core.backend.errors import CopyError
from audmodel.core.backend.errors import CopyRefusedError
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import RepositoryNotFoundError
from audmodel.core.backend.errors import WriteUncertainError
from audmodel.core.backend.native import NativeBackend
from audmodel.core.backend.objects import ANY
from audmodel.core.backend.objects import ObjectState
from audmodel.core.backend.objects import StoredObject
from audmodel.core.backend.objects import Upload
from audmodel.core.backend.objects import Write
from audmodel.core.backend.reader import FileReader
from audmodel.core.backend.reader import ObjectReader
from audmodel.core.ranges import Buffer


logger = logging.getLogger("audmodel")

Item = TypeVar("Item")

# File that becomes an object when it is complete
_TEMPORARY = re.compile(r"\.(?P<name>.+)~[0-9a-f]{16}")
# Prefix of etags that are made of the inode and not of the content
_INODE = "inode-"


class FileSystem(NativeBackend, audbackend.backend.FileSystem):  # type: ignore[misc]
    r"""Backend for a folder."""

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
        return StoredObject(data, _etag(data))

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

    def replace_object(self, path: str, data: bytes, etag: str) -> bool:  # noqa: D102
        with self._translate_errors("replace", path):
            target = self._expand(path)
            # Checked without lock first: most late writers stop here
            if not _has_etag(target, etag):
                return False
            with (
                self._temporary(target, [data], file_copies.write) as (temporary, _),
                file_locks.exclusive(os.path.dirname(target), self._root),
            ):
                if not _has_etag(target, etag):
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
        return ObjectState(_identity(status), _time(status), status.st_size)

    def delete_object(self, path: str, etag: str) -> bool:  # noqa: D102
        with (
            self._translate_errors("delete", path),
            contextlib.suppress(FileNotFoundError),
        ):
            target = self._expand(path)
            # A process that replaces an object waits for this lock
            with file_locks.exclusive(os.path.dirname(target), self._root):
                if not _has_etag(target, etag):
                    return not os.path.exists(target)
                os.unlink(target)
        return True

    def may_be_same(self, etag: str, other: str) -> bool:  # noqa: D102
        # Numbers of devices and inodes differ from machine to machine
        return etag.split("-")[3:] == other.split("-")[3:]

    def now(self) -> datetime.datetime:  # noqa: D102
        # The server of a network share has a clock of its own
        with (
            self._translate_errors("create a file in", "/"),
            tempfile.TemporaryFile(dir=self._root) as file,
        ):
            return _time(os.fstat(file.fileno()))

    @property
    def clock_ahead(self) -> float | None:  # noqa: D102
        return None if self._is_shared else 0.0

    def known_conditions(self) -> str | None:  # noqa: D102
        # The locks of a local disk work
        return None if self._is_shared else ""

    @property
    def _is_shared(self) -> bool:
        try:
            return disk.is_shared(self._root)
        except OSError:
            return True  # nothing is known of it

    def list_objects(self, folder: str) -> list[str]:  # noqa: D102
        return list(self._files(folder))

    def some_objects(self, folder: str, most: int) -> list[str]:  # noqa: D102
        with contextlib.closing(self._files(folder)) as paths:
            return list(itertools.islice(paths, most))

    def _files(self, folder: str) -> Generator[str, None, None]:

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
                for name in names:
                    yield self._collapse(os.path.join(root, name))

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
                etag = _identity(os.fstat(file.fileno()))
                reader = FileReader(file, self._expand(path), etag)
            yield reader

    def _write_object(
        self, path: str, chunks: Iterable[Buffer], how: Write
    ) -> str | None:

        def write(fd: int, chunk: Buffer) -> None:
            file_copies.write(fd, chunk)
            how.sent(len(chunk))

        return self._store(path, chunks, write, how)

    def _store(
        self,
        path: str,
        chunks: Iterable[Item],
        write: Callable[[int, Item], None],
        how: Write,
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
            with self._temporary(target, content(), write) as (temporary, fd):
                how.before_commit()
                etag = _identity(os.fstat(fd))
                try:
                    self._move(temporary, target, how.replaces)
                except FileExistsError:
                    return None
        except OSError as error:
            # An error of reading the model is no error of the repository
            if error in failures:
                raise
            with self._translate_errors("write", path):
                raise
        self._sync_name(target)
        return etag

    def copying(  # noqa: D102
        self, source: CopySource, *, is_dry: bool = False
    ) -> Copying:
        target = self._expand(source.path)
        with contextlib.suppress(OSError), self.source(source) as fd:
            if fd is not None and file_copies.pays(fd, os.path.dirname(target)):
                return Copying.CERTAIN
        return Copying.NOTHING

    def _compose_object(
        self, path: str, chunks: Iterable[Chunk], source: CopySource, how: Write
    ) -> str | None:
        with self.source(source) as fd:
            if fd is None:
                raise CopyError(f"'{self._expand(source.path)}' was replaced.")
            copies = file_copies.FileCopies(fd, self._root)

            def write(fd: int, chunk: Chunk) -> None:
                before = copies.copied
                copies.write(fd, chunk)
                copied = copies.copied - before
                how.copied(copied)
                data = chunk.data if isinstance(chunk, CopyableChunk) else chunk
                how.sent(len(data) - copied)

            return self._store(path, chunks, write, how)

    def _copy_object(
        self, path: str, source: CopySource, origin: ObjectBackend, how: Write
    ) -> str | None:
        if not isinstance(origin, FileSystem):
            raise CopyRefusedError("The other repository is in no folder.")
        with origin.source(source) as fd:
            if fd is None:
                raise CopyError(f"'{origin.object_url(source.path)}' was replaced.")
            if not file_copies.pays(fd, self._root):
                raise CopyRefusedError(
                    f"'{self._root}' shares no blocks with the other repository."
                )
            content = [(fd, source.size)]
            etag = self._store(path, content, file_copies.write_file, how)
            how.copied(source.size)
            return etag

    @contextmanager
    def source(self, source: CopySource) -> Iterator[int | None]:
        r"""File that bytes are copied from, ``None`` if it is another one by now.

        Args:
            source: object in this folder

        Yields:
            file descriptor

        """
        try:
            file = open(  # noqa: SIM115
                self._expand(source.path), "rb", opener=disk.open_file
            )
        except OSError:
            yield None
            return
        with file:
            is_same = _identity(os.fstat(file.fileno())) == source.etag
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
            with (
                contextlib.suppress(OSError),
                file_locks.locked(self._expand(path)) as fd,
            ):
                time = _time(os.fstat(fd))
                uploads.append(Upload(target, path, time, is_dead=True))
        return uploads

    def abort_upload(self, upload: Upload) -> None:  # noqa: D102
        path = self._expand(upload.id)
        with (
            self._translate_errors("remove", upload.id),
            contextlib.suppress(FileNotFoundError, BlockingIOError),
            file_locks.locked(path),
        ):
            os.unlink(path)

    def object_url(self, path: str) -> str:  # noqa: D102
        return str(os.path.normpath(self._expand(path)))

    def _move(self, temporary: str, target: str, replaces: str | None) -> None:
        r"""Move a file in.

        Raises:
            FileExistsError: if it may not replace the file that is there

        """
        with file_locks.exclusive(os.path.dirname(target), self._root):
            if os.path.lexists(target) and not _has_etag(target, replaces):
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
        file_locks.remove_abandoned(folder, prefix)
        path, fd = file_locks.create_locked(folder, prefix)
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


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _identity(status: os.stat_result) -> str:
    r"""Etag of a file of any size, which differs for a new file."""
    return (
        f"{_INODE}{status.st_dev}-{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"
    )


def _has_etag(path: str, etag: str | None) -> bool:
    r"""Whether a file has an etag, or is absent if that is ``None``."""
    if etag == ANY:
        return True
    if etag is None:
        return not os.path.lexists(path)
    try:
        if etag.startswith(_INODE):
            return _identity(os.stat(path)) == etag
        with open(path, "rb", opener=disk.open_file) as file:
            return _etag(file.read()) == etag
    except FileNotFoundError:
        return False


def _time(status: os.stat_result) -> datetime.datetime:
    r"""When a file was written, moved or restored from a backup."""
    seconds = max(status.st_mtime, status.st_ctime)
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (OverflowError, ValueError):
        return datetime.datetime.max.replace(tzinfo=datetime.UTC)

r"""Adapter for backends that have only the methods of audbackend."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
import datetime
import hashlib
import os
import tempfile

import audbackend

from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.objects import ANY
from audmodel.core.backend.objects import ObjectState
from audmodel.core.backend.objects import StoredObject
from audmodel.core.backend.objects import Write
from audmodel.core.backend.reader import FileReader
from audmodel.core.backend.reader import ObjectReader
from audmodel.core.ranges import Buffer


@contextmanager
def adapt(backend: audbackend.backend.Base) -> Iterator[ObjectBackend]:
    r"""Open a backend, and add the methods that it lacks.

    Args:
        backend: any backend, not opened yet

    Yields:
        ``backend`` itself, if it has all methods,
        otherwise an adapter around it

    Raises:
        RepositoryError: if the backend cannot be opened or closed

    """
    with _translate_errors("open", repr(backend)):
        backend.open()
    try:
        if isinstance(backend, ObjectBackend):
            yield backend
        else:
            yield _Adapter(backend)
    finally:
        with _translate_errors("close", repr(backend)):
            backend.close()


def object_url(backend: audbackend.backend.Base, path: str) -> str:
    r"""Location of an object.

    Args:
        backend: any backend, opened or not
        path: path of the object

    Returns:
        URL, or path on the file system

    """
    if isinstance(backend, ObjectBackend):
        return backend.object_url(path)
    return _Adapter(backend).object_url(path)


class _Copy(FileReader):
    r"""Byte ranges of a file that was fetched as a whole."""

    @property
    def received(self) -> int:
        r"""Bytes that came from the storage."""
        return self.size


class _Adapter(ObjectBackend):
    r"""Methods of :class:`ObjectBackend` on top of whole files.

    Reading fetches the whole file.
    Creating and replacing check first and write then,
    which is not atomic:
    of several concurrent publishers, the last one wins.
    """

    no_conditional_writes = (
        "The backend class can store and fetch files, but not create one only if it "
        "is absent, or replace it only if it is unchanged. "
        "Let only one process at a time publish, and change aliases and metadata."
    )
    deletes_blindly = True
    has_ranges = False

    def __init__(self, backend: audbackend.backend.Base) -> None:
        self._backend = backend

    def read_object(self, path: str, limit: int) -> StoredObject | None:
        if not self._exists(path):
            return None
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "object")
            with _translate_errors("read", path):
                self._backend.get_file(path, file)
            size = os.path.getsize(file)
            if size > limit:
                raise RepositoryError(
                    f"'{path}' has {size} bytes, allowed are {limit}."
                )
            with open(file, "rb") as stream:
                data = stream.read()
        return StoredObject(data, hashlib.sha256(data).hexdigest())

    def create_object(self, path: str, data: bytes) -> bool:
        if self._exists(path):
            return False
        self.write_object(path, [data])
        return True

    def replace_object(self, path: str, data: bytes, etag: str) -> bool:
        if not self._has_etag(path, etag):
            return False
        self.write_object(path, [data])
        return True

    def stat_object(self, path: str) -> ObjectState | None:
        if not self._exists(path):
            return None
        with _translate_errors("look up", path):
            etag = f"md5-{self._backend.checksum(path)}"
            return ObjectState(etag, _latest(str(self._backend.date(path))))

    def delete_object(self, path: str, etag: str) -> bool:
        if not self._exists(path):
            return True
        if not self._has_etag(path, etag):
            return False
        with _translate_errors("delete", path):
            self._backend.remove_file(path)
        return True

    def now(self) -> datetime.datetime:
        # The class has dates of files, but no clock
        return datetime.datetime.now(datetime.UTC)

    def list_objects(self, folder: str) -> list[str]:
        with _translate_errors("list", folder):
            try:
                return list(self._backend.ls(folder))
            except audbackend.BackendError as error:
                if isinstance(error.exception, FileNotFoundError):
                    return []
                raise

    def object_sizes(self, folder: str) -> dict[str, int | None]:
        # A list of audbackend has none
        return dict.fromkeys(self.list_objects(folder))

    @contextmanager
    def open_object(
        self, path: str, *, tmp_root: str | None = None
    ) -> Iterator[ObjectReader | None]:
        if not self._exists(path):
            yield None
            return
        with tempfile.TemporaryDirectory(dir=tmp_root) as folder:
            file = os.path.join(folder, "object")
            with _translate_errors("read", path):
                self._backend.get_file(path, file)
            with open(file, "rb") as stream:
                yield _Copy(stream, file)

    def _write_object(
        self, path: str, chunks: Iterable[Buffer], how: Write
    ) -> str | None:
        digest = hashlib.md5(usedforsecurity=False)
        with tempfile.TemporaryDirectory(dir=how.tmp_root) as folder:
            file = os.path.join(folder, "object")
            with open(file, "wb") as stream:
                for chunk in chunks:
                    digest.update(chunk)
                    stream.write(chunk)
            how.before_commit()
            if not self._may_write(path, how.replaces):
                return None
            with _translate_errors("write", path):
                self._backend.put_file(file, path)
            how.sent(os.path.getsize(file))
        return f"md5-{digest.hexdigest()}"

    def object_url(self, path: str) -> str:
        host = str(self._backend.host).rstrip("/")
        return f"{host}/{self._backend.repository}{path}"

    def _has_etag(self, path: str, etag: str | None) -> bool:
        if etag is None or etag == ANY or etag.startswith("md5-"):
            return super()._has_etag(path, etag)
        # Etag of a small object that was read
        stored = self.read_object(path, limit=2**62)
        return stored is not None and stored.etag == etag

    def _exists(self, path: str) -> bool:
        with _translate_errors("look up", path):
            return bool(self._backend.exists(path))


def _latest(date: str) -> datetime.datetime:
    r"""Latest time at which a day may have ended, in any time zone."""
    try:
        day = datetime.datetime.fromisoformat(date[:10]).replace(tzinfo=datetime.UTC)
        return day + datetime.timedelta(hours=24 + 12)
    except (OverflowError, ValueError):
        return datetime.datetime.max.replace(tzinfo=datetime.UTC)


@contextmanager
def _translate_errors(action: str, path: str) -> Iterator[None]:
    r"""Raise errors of audbackend as errors of a repository."""
    try:
        yield
    except RepositoryError:
        raise
    except audbackend.BackendError as error:
        cause = error.exception
        # The errors of our own backends come back wrapped
        if isinstance(cause, RepositoryError):
            raise cause from error
        reason = str(cause).rstrip(".")
        raise RepositoryError(
            f"Could not {action} '{path}': {reason}.", cause
        ) from error

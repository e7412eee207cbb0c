r"""Backends that have nothing but the methods of audbackend."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
import hashlib
import os
import tempfile
from typing import cast

import audbackend

from audmodel.core.backend.base import Buffer
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.base import ObjectReader
from audmodel.core.backend.base import StoredObject
from audmodel.core.backend.base import Upload
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.filesystem import FileReader


@contextmanager
def adapt(backend: audbackend.backend.Base) -> Iterator[ObjectBackend]:
    r"""Open a backend and give it the abilities that it lacks.

    Args:
        backend: any backend, not opened yet

    Yields:
        ``backend`` itself, if it has all abilities,
        otherwise a stand-in that makes do with what it has

    Raises:
        RepositoryError: if the backend cannot be opened or closed

    """
    with _translate_errors("open", repr(backend)):
        backend.open()
    try:
        if isinstance(backend, ObjectBackend):
            yield backend
        else:
            yield cast(ObjectBackend, _Adapter(backend))
    finally:
        with _translate_errors("close", repr(backend)):
            backend.close()


class _Adapter:
    r"""Abilities of :class:`ObjectBackend` on top of whole files.

    Reading fetches the whole file.
    Creating and replacing look first and write then,
    which is not one step:
    of several publishers at the same moment, the last one wins.

    Args:
        backend: backend that was opened

    """

    weakness = (
        "The backend class can store and fetch files, but not create one only if it "
        "is absent, or replace it only if it is unchanged. "
        "Let only one process at a time publish, and change aliases and metadata."
    )
    unprotected = False

    def __init__(self, backend: audbackend.backend.Base) -> None:
        self._backend = backend

    @property
    def conditional(self) -> _Adapter:
        return self

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

    def read_damaged(self, path: str, limit: int) -> StoredObject | None:
        # Nothing but what audbackend checks is known of the content
        return self.read_object(path, limit)

    def create_object(self, path: str, data: bytes) -> bool:
        if self._exists(path):
            return False
        self.write_object(path, [data])
        return True

    def replace_object(self, path: str, data: bytes, tag: str) -> bool:
        current = self.read_object(path, limit=2**62)
        if current is None or current.tag != tag:
            return False
        self.write_object(path, [data])
        return True

    def delete_object(
        self, path: str, *, before_repeat: Callable[[], None] = lambda: None
    ) -> None:
        if self._exists(path):
            with _translate_errors("delete", path):
                self._backend.remove_file(path)

    def list_objects(self, folder: str) -> list[str]:
        with _translate_errors("list", folder):
            try:
                return list(self._backend.ls(folder))
            except audbackend.BackendError as error:
                if isinstance(error.exception, FileNotFoundError):
                    return []
                raise

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
                yield FileReader(stream, file)

    def write_object(
        self,
        path: str,
        chunks: Iterable[Buffer],
        *,
        tmp_root: str | None = None,
        num_workers: int = 1,
        before_commit: Callable[[], None] = lambda: None,
    ) -> None:
        with tempfile.TemporaryDirectory(dir=tmp_root) as folder:
            file = os.path.join(folder, "object")
            with open(file, "wb") as stream:
                stream.writelines(chunks)
            before_commit()
            with _translate_errors("write", path):
                self._backend.put_file(file, path)

    def write_requests(self, size: int) -> int:
        return 1  # the class stores files

    def date(self, path: str) -> str:
        with _translate_errors("look up", path):
            return str(self._backend.date(path))

    def list_uploads(self, prefix: str) -> list[Upload]:
        return []  # the class knows of none

    def object_url(self, path: str) -> str:
        host = str(self._backend.host).rstrip("/")
        return f"{host}/{self._backend.repository}{path}"

    def _exists(self, path: str) -> bool:
        with _translate_errors("look up", path):
            return bool(self._backend.exists(path))


@contextmanager
def _translate_errors(action: str, path: str) -> Iterator[None]:
    r"""Errors of audbackend as errors of a repository."""
    try:
        yield
    except RepositoryError:
        raise
    except audbackend.BackendError as error:
        cause = error.exception
        # The errors of our own backends come back wrapped
        if isinstance(cause, RepositoryError):
            raise cause from error
        raise RepositoryError(f"Could not {action} '{path}': {cause}", cause) from error

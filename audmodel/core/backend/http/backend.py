r"""What the backends of all storages behind HTTP share."""

from __future__ import annotations

import abc
from collections.abc import Iterator
import contextlib
from contextlib import contextmanager

from audmodel.core.backend.errors import DamagedObjectError
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.http.ranges import RemoteReader
from audmodel.core.backend.http.ranges import open_reader
from audmodel.core.backend.http.store import NO_LENGTH
from audmodel.core.backend.http.store import ObjectResponse
from audmodel.core.backend.http.store import Store
from audmodel.core.backend.http.transfer import RequestError
from audmodel.core.backend.native import NativeBackend
from audmodel.core.backend.objects import StoredObject
from audmodel.core.backend.reader import ObjectReader
from audmodel.core.damage import Damage
from audmodel.core.process.requests import prefetch_requests


CHUNK = 4 * 1024 * 1024


class RemoteBackend(NativeBackend):
    r"""Backend for a storage behind HTTP."""

    _store: Store

    def read_object(self, path: str, limit: int) -> StoredObject | None:  # noqa: D102
        what = f"Could not read '{self.object_url(path)}'"
        damage = Damage()
        while True:
            stored = self._read_once(what, path, limit)
            if stored is None or not stored.is_damaged:
                return stored
            damage.add(stored.data)
            if damage.is_final:
                break
            self._store.distrust()
        other = ", or another tool changed it" if damage.is_same else ""
        raise DamagedObjectError(
            f"{what}: its content does not have the checksum it was stored with. "
            f"{damage}{other}.",
            stored,
        )

    def _read_once(self, what: str, path: str, limit: int) -> StoredObject | None:
        whole = self._store.read("read", path, limit)
        if whole is None:
            return None
        if whole.data is None:
            size = f"more than {limit}" if whole.length is None else whole.length
            raise RepositoryError(f"{what}: it has {size} bytes, allowed are {limit}.")
        if not whole.response.has_end and not self._has_checksum(whole.response):
            raise RepositoryError(f"{what}: {NO_LENGTH}")
        return self._checked(whole.response, whole.data)

    def list_objects(self, folder: str) -> list[str]:  # noqa: D102
        return list(self.object_sizes(folder))

    @abc.abstractmethod
    def _has_checksum(self, response: ObjectResponse) -> bool:
        r"""Whether a checksum would show that a response was truncated."""

    @abc.abstractmethod
    def _checked(self, response: ObjectResponse, data: bytes) -> StoredObject:
        r"""Object that was read, compared with its checksum."""

    @contextmanager
    def open_object(  # noqa: D102
        self, path: str, *, tmp_root: str | None = None
    ) -> Iterator[ObjectReader | None]:
        yield open_reader(self._store, path)

    @property
    def clock_ahead(self) -> float | None:  # noqa: D102
        return self._store.clock_ahead

    def object_url(self, path: str) -> str:  # noqa: D102
        return self._store.url(path)

    # ------------------------------------------------------------ audbackend

    def _existing(self, path: str) -> RemoteReader:
        reader = open_reader(self._store, path)
        if reader is None:
            raise self._missing(path)
        return reader

    def _missing(self, path: str) -> FileNotFoundError:
        return FileNotFoundError(f"There is no object '{self.object_url(path)}'.")

    def _exists(self, path: str) -> bool:
        # Unlike HEAD, it tells a missing object from a missing repository
        try:
            return self._store.read("look up", path, 1, "bytes=0-0") is not None
        except RequestError:
            return True  # it is empty

    def _get_file(
        self, src_path: str, dst_path: str, num_workers: int, verbose: bool
    ) -> None:
        reader = self._existing(src_path)

        def read(start: int) -> bytearray:
            return reader.read(start, min(CHUNK, reader.size - start))

        chunks = prefetch_requests(
            read, range(0, reader.size, CHUNK), num_workers=max(1, num_workers)
        )
        with contextlib.closing(chunks), open(dst_path, "wb") as file:
            file.writelines(chunks)

    def _get_file_stream(self, src_path: str) -> Iterator[bytes]:
        reader = self._existing(src_path)
        with reader.in_order(0, reader.size) as ranges:
            for start in range(0, reader.size, CHUNK):
                data = bytearray(min(CHUNK, reader.size - start))
                ranges.readinto(start, memoryview(data))
                yield bytes(data)

    def _remove_file(self, path: str) -> None:
        state = self.stat_object(path)
        if state is None:
            raise self._missing(path)
        self.delete_object(path, state.etag)

    def _ls(self, path: str) -> list[str]:
        return self.list_objects(path)

r"""Build the catalogue of a repository: static pages, and a list for programs.

Everything is derived from the records of the repository, and can be built again.
Pages whose records did not change are left alone.
The list is written last, if no other process has written it in the meantime.
Otherwise the build starts again, and also makes the pages anew that it has written,
since they may be older than those of the other process.

"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
import hashlib
import logging
import os
import time
from typing import TYPE_CHECKING

from audmodel.core.errors import InvalidInputError
from audmodel.core.home import expand_home
from audmodel.core.operations import site_list
from audmodel.core.operations import site_records
from audmodel.core.operations.options import LoadOptions
from audmodel.core.operations.results import Catalog
from audmodel.core.operations.site_records import Records
from audmodel.core.process.requests import prefetch_requests
from audmodel.core.repository.changes import changed_by_others
from audmodel.core.repository.changes import pause
from audmodel.core.repository.registry import Registry
from audmodel.core.repository.repository import Repository
from audmodel.core.site import pages
from audmodel.core.site import search


if TYPE_CHECKING:
    from audmodel.core.backend.base import ObjectBackend
    from audmodel.core.backend.objects import StoredObject


logger = logging.getLogger("audmodel")

_ATTEMPTS = 20


@dataclass(frozen=True)
class Place:
    r"""Where a catalogue is stored.

    Args:
        backend: storage
        folder: folder in it, with a slash at its end

    """

    backend: ObjectBackend
    folder: str

    def path(self, name: str) -> str:
        r"""Path of an object of the catalogue."""
        return f"{self.folder}{name}"

    def url(self, name: str) -> str:
        r"""Location of an object of the catalogue."""
        return self.backend.object_url(self.path(name))

    def read(self) -> StoredObject | None:
        r"""Read the list, damaged or not."""
        path = self.path(site_list.NAME)
        return self.backend.read_damaged(path, site_list.MAX_BYTES)

    def write(self, name: str, data: bytes) -> None:
        r"""Write an object, in place of an earlier one."""
        self.backend.write_object(self.path(name), [data])

    def remove(self, name: str) -> None:
        r"""Delete an object, if it is there."""
        state = self.backend.stat_object(self.path(name))
        if state is not None:
            self.backend.delete_object(self.path(name), state.etag)

    def commit(self, data: bytes, etag: str | None) -> bool:
        r"""Replace the list, unless another process has done so."""
        if etag is None:
            return self.backend.create_object(self.path(site_list.NAME), data)
        return self.backend.replace_object(self.path(site_list.NAME), data, etag)

    def begin(self) -> StoredObject | None:
        r"""Read the list, and store an empty one first if there is none.

        It marks the place as that of a catalogue,
        and shows before anything else is written whether this is possible.

        Raises:
            RepositoryError: if it cannot be read or written

        """
        stored = self.read()
        if stored is None:
            self.commit(site_list.dump([], {}), None)
            stored = self.read()
        return stored

    def check(self) -> None:
        r"""Raise an error if it is the place of something else.

        Raises:
            InvalidInputError: if it is
            RepositoryError: if it cannot be read

        """
        stored = self.read()
        if stored is not None and site_list.parse(stored.data) is not None:
            return
        names = self.backend.list_objects(self.folder)
        if names:
            raise InvalidInputError(
                f"'{self.url('')}' holds other files than a catalogue, "
                f"such as '{min(names)}'. Choose an empty folder."
            )


@contextmanager
def open_folder(path: str) -> Iterator[Place]:
    r"""Place for a catalogue in a folder, which is made if it is missing.

    Args:
        path: path of the folder

    Raises:
        ConfigurationError: if the path begins with a home folder that is not known
        InvalidInputError: if the folder holds something else
        RepositoryError: if it cannot be made, read or written

    """
    from audmodel.core.backend.errors import RepositoryError

    path = os.path.abspath(expand_home(path))
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        message = f"The folder '{path}' cannot be made: {error.strerror}."
        raise RepositoryError(message, error) from error
    host, name = os.path.split(path)
    with Repository(name, host, "file-system").connect() as backend:
        place = Place(backend, "/")
        place.check()
        yield place


def build(
    registry: Registry,
    place: Place,
    title: str,
    cache_root: str,
    options: LoadOptions,
    *,
    rebuild: bool,
) -> tuple[Catalog, list[str]]:
    r"""Bring a catalogue up to date.

    Args:
        registry: repository that it shows
        place: where it is stored
        title: its name
        cache_root: cache folder, whose headers are not read again
        options: number of workers and progress
        rebuild: whether to make all pages anew

    Returns:
        what was done, and what could not be read

    Raises:
        RepositoryError: if the repository cannot be read,
            or the catalogue cannot be written

    """
    builder = _Builder(registry, place, title, options, is_new=rebuild)
    for attempt in range(_ATTEMPTS):
        start = time.monotonic()
        # Read first: what is read afterwards is not older than the list
        stored = place.begin()
        records, problems = site_records.read(registry, cache_root, options)
        if builder.build(records, stored):
            result = builder.result(records)
            logger.info(
                "Catalogue of %s: %d files written, %d removed in '%s'.",
                registry.repository,
                result.written,
                result.removed,
                place.url(""),
            )
            return result, problems
        pause(attempt, time.monotonic() - start)
    raise changed_by_others("The catalogue", _ATTEMPTS)


class _Builder:
    r"""Writes what changed.

    Args:
        registry: repository that the catalogue shows
        place: where it is stored
        title: its name
        options: number of workers and progress
        is_new: whether to make all pages anew

    """

    def __init__(
        self,
        registry: Registry,
        place: Place,
        title: str,
        options: LoadOptions,
        *,
        is_new: bool,
    ) -> None:
        self._registry = registry
        self._place = place
        self._title = title
        self._pages = pages.Pages(title)
        self._options = options
        self._is_new = is_new
        # What this process has written, and removed
        self._written: set[str] = set()
        self._removed: set[str] = set()

    def build(self, records: list[Records], stored: StoredObject | None) -> bool:
        r"""Write what changed.

        Args:
            records: all models
            stored: list before

        Returns:
            ``False`` if another process changed the catalogue in the meantime

        """
        known = site_list.read(stored)
        before = known.pages if known else {}
        # Another process may have replaced what this one has written
        right = {
            path: digest
            for path, digest in before.items()
            if path not in self._written and not self._is_new
        }
        made = self._files(pages.assets(), right)
        made |= self._models(records, right)
        made |= self._files(self._index(records), right)
        for path in sorted({*before, *self._written} - set(made)):
            self._place.remove(path)
            self._removed.add(path)
        data = site_list.dump(records, made)
        if stored and stored.data == data and not self._written:
            return True
        return self._place.commit(data, stored.etag if stored else None)

    def result(self, records: list[Records]) -> Catalog:
        r"""What was done."""
        return Catalog(
            self._place.url(pages.INDEX),
            sum(len(item.models) for item in records),
            len(records),
            len(self._written),
            len(self._removed),
        )

    def _files(
        self, files: Mapping[str, bytes], known: Mapping[str, str]
    ) -> dict[str, str]:
        made = {}
        for path, data in files.items():
            made[path] = hashlib.sha256(data).hexdigest()
            if self._must_write(path, made[path], known):
                self._place.write(path, data)
        return made

    def _models(
        self, records: list[Records], known: Mapping[str, str]
    ) -> dict[str, str]:
        progress = self._options.start_progress(len(records))

        def make(item: Records) -> tuple[str, str]:
            path = pages.model_path(item.summary.short)
            digest = self._digest(item.digest)
            is_final = True
            if self._must_write(path, digest, known):
                content = site_records.content(self._registry, item)
                self._place.write(path, self._pages.model(content.model))
                is_final = content.is_final
            progress(1)
            # A page that lacks something is made again the next time
            return path, digest if is_final else ""

        workers = self._options.num_workers
        return dict(prefetch_requests(make, records, num_workers=workers))

    def _index(self, records: list[Records]) -> dict[str, bytes]:
        summaries = [item.summary for item in records]
        script = search.script(summaries)
        index = self._pages.index(summaries, script)
        return {pages.SEARCH: script, pages.INDEX: index}

    def _digest(self, records: str) -> str:
        r"""Digest of all that a page is made from."""
        values = (pages.generator(), self._title, records)
        return hashlib.sha256("\0".join(values).encode()).hexdigest()

    def _must_write(self, path: str, digest: str, known: Mapping[str, str]) -> bool:
        r"""Whether a file is new or changes, which is noted before it is written."""
        if known.get(path) == digest:
            return False
        self._written.add(path)
        return True

r"""Archives of models in repositories, of whose directories the cache has copies."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field

from blake3 import blake3

from audmodel.core.archive import end
from audmodel.core.archive import format
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import RepositoryUnreachableError
from audmodel.core.backend.reader import ObjectReader
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.cache.root import write_error
from audmodel.core.damage import until_intact
from audmodel.core.errors import ArchiveError
from audmodel.core.errors import ArchiveMismatchError
from audmodel.core.errors import AudmodelError
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.errors import ModelNotFoundError
from audmodel.core.operations import index
from audmodel.core.operations.find import Found
from audmodel.core.operations.find import Wanted
from audmodel.core.operations.find import find
from audmodel.core.operations.find import is_kept
from audmodel.core.repository import layout
from audmodel.core.repository.header import Header
from audmodel.core.repository.lookup import open_registry
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId


@dataclass(frozen=True)
class Archive:
    r"""Archive that is open.

    Args:
        entry: place of the model in the cache
        reader: bytes of the archive
        directory: what is in it
        index: what the cache keeps of it
        backend: storage that it is in
        url: its location
        copied: bytes of files that came from other models in the cache

    """

    entry: CacheEntry
    reader: ObjectReader
    directory: format.Directory
    index: bytes
    backend: ObjectBackend
    url: str
    copied: list[int] = field(default_factory=list)

    def naming(self) -> contextlib.AbstractContextManager[None]:
        r"""Name the archive in errors of the block."""
        return naming(self.entry.model, self.url)

    @property
    def is_other(self) -> bool:
        r"""Whether files of the model in the cache are from another archive."""
        return index.is_other(self.entry, self.index)


@contextmanager
def open_archive(found: Found) -> Iterator[Archive]:
    r"""Open the archive of a model, and keep a copy of its directory.

    The copy for another archive stays, since files in the cache may belong to it.
    Errors inside the block name the archive.

    Raises:
        ArchiveError: if the archive is missing, damaged,
            or not the one that was published
        CacheError: if something cannot be written
        ModelNotFoundError: if the model was deleted since it was found
        RepositoryError: if the archive cannot be read

    """
    entry, header = found.entry, found.header
    with open_registry(found.repository) as registry:
        backend = registry.backend
        url = backend.object_url(layout.archive_path(entry.model, header.location))
        try:
            with (
                registry.open_archive(entry.model, header, entry.root) as reader,
                naming(entry.model, url),
            ):
                if reader is None:
                    _check_not_deleted(registry, found)
                    raise ArchiveError("it does not exist")
                directory, data = read_directory(reader, header)
                content = index.pack(data, reader.size)
                archive = Archive(entry, reader, directory, content, backend, url)
                if not archive.is_other:
                    index.keep(entry, content)
                yield archive
        except RepositoryUnreachableError:
            raise
        except RepositoryError as error:
            _check_not_deleted(registry, found, error)
            raise
        except AudmodelError:
            raise
        except OSError as error:
            raise write_error(entry.root, error) from error


def _check_not_deleted(
    registry: Registry, found: Found, cause: RepositoryError | None = None
) -> None:
    r"""Raise another error if an archive cannot be read since its model was deleted."""
    with contextlib.suppress(RepositoryError, InvalidDocumentError):
        if registry.header(found.model) is None:
            raise ModelNotFoundError(
                f"The model '{found.model}' was deleted from {found.repository} "
                "while it was being read."
            ) from cause


def find_directory(wanted: Wanted) -> format.Directory:
    r"""Directory of the archive of a model, from the cache if it is there.

    Args:
        wanted: the model

    Raises:
        ArchiveError: if the archive is missing, damaged,
            or not the one that was published
        CacheError: if something cannot be written
        InvalidDocumentError: if the header of the model is not valid
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    """
    directory = index.read(wanted.entry) if is_kept(wanted) else None
    if directory is not None:
        return directory
    found = find(wanted, any_archive=wanted.repositories is not None)
    with open_archive(found) as archive:
        return archive.directory


@contextmanager
def naming(model: ModelId, url: str) -> Iterator[None]:
    r"""Name an archive in errors of the block.

    Args:
        model: ID of its model
        url: its location

    """
    try:
        yield
    except ArchiveError as error:
        raise type(error)(
            f"The archive of model '{model}' at '{url}' cannot be used: {error}."
        ) from error


def read_directory(
    reader: ObjectReader, header: Header
) -> tuple[format.Directory, bytearray]:
    r"""Directory of the archive that was published with a header.

    Args:
        reader: bytes of the archive
        header: header of the model

    Returns:
        directory, and everything after the members of the archive

    Raises:
        ArchiveError: if the archive is damaged, or another one
        RepositoryError: if it cannot be read

    """
    return until_intact(
        lambda: _checked_directory(reader, header),
        reader.forget_tail,
        lambda: blake3(reader.tail).digest(),
    )


def _checked_directory(
    reader: ObjectReader, header: Header
) -> tuple[format.Directory, bytearray]:
    data = end.read(reader)
    directory = end.parse(data, reader.size)
    identity = header.archive
    if identity is not None and (identity.size, identity.digest) != (
        reader.size,
        end.digest(data),
    ):
        raise ArchiveMismatchError(
            "it is not the one that was published with the header"
        )
    return directory, data

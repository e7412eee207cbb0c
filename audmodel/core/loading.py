r"""Load a model from a repository into the cache."""

from __future__ import annotations

from collections.abc import Callable

from audmodel.core.archive import format
from audmodel.core.archive import reader
from audmodel.core.backend.base import ObjectReader
from audmodel.core.cache import CacheEntry
from audmodel.core.cache import Staging
from audmodel.core.header import Header
from audmodel.core.registry import Registry
from audmodel.core.uid import ModelId
from audmodel.errors import ArchiveError
from audmodel.errors import ArchiveMismatchError
from audmodel.errors import AudmodelError


def load(
    registry: Registry,
    model: ModelId,
    header: Header,
    entry: CacheEntry,
    *,
    num_workers: int,
    start_progress: Callable[[int], Callable[[int], None]],
) -> None:
    r"""Load a model into its place in the cache.

    Args:
        registry: where the model is
        model: ID of the model
        header: header of the model
        entry: place in the cache, locked
        num_workers: number of threads
        start_progress: called with the number of bytes of all files,
            gives a function that is called with the bytes that are done

    Raises:
        ArchiveError: if the archive is missing, damaged,
            or not the one that was published
        DiskFullError: if the disk has less room than needed
        RepositoryError: if the archive cannot be read

    """
    with registry.open_archive(model, header, entry.root) as archive:
        try:
            if archive is None:
                raise ArchiveError("it does not exist")
            directory = _directory(archive, header)
            progress = start_progress(directory.size)
            try:
                _extract(archive, directory, entry.stage(), num_workers, progress)
            except FileNotFoundError:
                # Somebody took the folder away,
                # which happens only if the locks of the file system are broken
                if not entry.is_complete:
                    staging = entry.stage(private=True)
                    _extract(archive, directory, staging, num_workers, progress)
        except ArchiveError as error:
            url = registry.backend.object_url(
                registry.archive_path(model, header.location)
            )
            raise type(error)(
                f"The archive of model '{model}' at '{url}' cannot be used: {error}."
            ) from error
        except AudmodelError:
            raise
        except OSError as error:
            raise entry.error(error) from error


def _directory(archive: ObjectReader, header: Header) -> format.Directory:
    r"""Directory of the archive that was published with the header."""
    try:
        return _checked_directory(archive, header)
    except ArchiveError:
        # The bytes may have been damaged on their way
        archive.forget_tail()
        return _checked_directory(archive, header)


def _checked_directory(archive: ObjectReader, header: Header) -> format.Directory:
    directory, digest = reader.read_directory(archive)
    identity = header.archive
    if identity is not None and (identity.size, identity.digest) != (
        archive.size,
        digest,
    ):
        raise ArchiveMismatchError(
            "it is not the one that was published with the header"
        )
    return directory


def _extract(
    archive: ObjectReader,
    directory: format.Directory,
    staging: Staging,
    num_workers: int,
    progress: Callable[[int], None],
) -> None:
    files = [member for member in directory.members if not member.is_folder]
    staging.prepare({member.name: member.size for member in files})
    reader.Extractor(
        archive,
        directory,
        staging.path,
        num_workers=num_workers,
        resume=staging.resumed,
        progress=progress,
    ).run()
    staging.commit((file.name, file.size, file.crc) for file in files)

r"""Find a model of a repository by few requests, to find out how it is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from audmodel.core.backend.reader import ObjectReader
from audmodel.core.errors import ArchiveError
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.operations.archives import naming
from audmodel.core.operations.archives import read_directory
from audmodel.core.repository import layout
from audmodel.core.repository.header import Header
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId


# Records that are listed, and headers of them that are read
_LISTED = 1000
_READ = 8


@dataclass(frozen=True)
class Sample:
    r"""Archive of a model, which was found to be right as far as it was read.

    Args:
        model: ID of the model
        reader: bytes of its archive

    """

    model: ModelId
    reader: ObjectReader


@contextmanager
def open_sample(registry: Registry) -> Iterator[Sample | None]:
    r"""Open a large archive of a repository, and read its directory by ranges.

    Args:
        registry: the repository

    Yields:
        archive, ``None`` if the repository holds no model that can be read

    Raises:
        ArchiveError: if the archive is missing, damaged,
            or not the one that was published
        RepositoryError: if it cannot be read

    """
    found = _largest(registry)
    if found is None:
        yield None
        return
    model, header = found
    path = layout.archive_path(model, header.location)
    with (
        registry.backend.open_object(path) as reader,
        naming(model, registry.backend.object_url(path)),
    ):
        if reader is None:
            raise ArchiveError("it does not exist")
        # By a range with both its ends, like those of a load
        reader.forget_tail()
        read_directory(reader, header)
        yield Sample(model, reader)


def _largest(registry: Registry) -> tuple[ModelId, Header] | None:
    r"""Model with the largest archive of some."""
    paths = registry.backend.some_objects(layout.RECORDS, _LISTED)
    parsed = (layout.model_of_record(path, "header") for path in paths)
    models = [model for model in parsed if model is not None]
    found = []
    for model in models[:: max(1, len(models) // _READ)][:_READ]:
        header = _header(registry, model)
        if header is not None:
            # Headers of earlier releases do not say it
            size = 0 if header.archive is None else header.archive.size
            found.append((size, model, header))
    if not found:
        return None
    _, model, header = max(found, key=lambda item: item[0])
    return model, header


def _header(registry: Registry, model: ModelId) -> Header | None:
    try:
        found = registry.header(model)
    except InvalidDocumentError:
        return None
    return None if found is None else found[0]

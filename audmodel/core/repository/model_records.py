r"""Records of the models of a repository: header, metadata, and the archive.

A model exists if its header does.

"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import copy
import datetime
import logging
from typing import TYPE_CHECKING
from typing import Any

from audmodel.core.errors import ModelNotFoundError
from audmodel.core.repository import header as header_module
from audmodel.core.repository import layout
from audmodel.core.repository.changes import change_document
from audmodel.core.repository.changes import merge
from audmodel.core.repository.header import Header
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document


if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from audmodel.core.backend.base import ObjectBackend
    from audmodel.core.backend.reader import ObjectReader


logger = logging.getLogger("audmodel")


class ModelRecords:
    r"""Records of the models of one repository.

    Args:
        backend: connection to the repository
        repository: the repository, as text for messages

    """

    def __init__(self, backend: ObjectBackend, repository: str = "") -> None:
        self.backend = backend
        self.repository = repository

    def now(self) -> datetime.datetime:
        r"""Time by the clock of the storage, else by that of this machine."""
        from audmodel.core.backend.errors import RepositoryError

        try:
            return self.backend.now().astimezone(datetime.UTC)
        except RepositoryError:
            # Credentials may not allow the question
            return datetime.datetime.now(datetime.UTC)

    def _read(self, path: str) -> bytes | None:
        stored = self.backend.read_object(path, document.MAX_BYTES)
        return None if stored is None else stored.data

    def header(self, model: ModelId) -> tuple[Header, bytes] | None:
        r"""Header of a model.

        Returns:
            header and its stored form,
            or ``None`` if the model does not exist

        Raises:
            InvalidDocumentError: if the header is not valid
            RepositoryError: if it cannot be read

        """
        data = self._read(layout.record_path(model, "header"))
        if data is None:
            return None
        return header_module.parse(data, model, f"The header of model {model}"), data

    def header_url(self, model: ModelId) -> str:
        r"""Where the header of a model is, which no other repository has as well."""
        return self.backend.object_url(layout.record_path(model, "header"))

    def versions(self, short: str) -> set[str]:
        r"""Versions of a model.

        Returns:
            versions, empty if there is no such model

        Raises:
            RepositoryError: if the repository cannot be read

        """
        folder = layout.records_folder(short)
        return {model.version for model in self._published(folder)}

    def models(self) -> list[ModelId]:
        r"""All models.

        Returns:
            IDs, in any order

        Raises:
            RepositoryError: if the repository cannot be read

        """
        return list(self._published(layout.RECORDS))

    def _published(self, folder: str) -> Iterator[ModelId]:
        r"""Models whose headers are in a folder, which may hold other files as well."""
        for path in self.backend.list_objects(folder):
            if model := layout.model_of_record(path, "header"):
                yield model

    def open_archive(
        self, model: ModelId, header: Header, tmp_root: str
    ) -> AbstractContextManager[ObjectReader | None]:
        r"""Open the archive of a model.

        Returns:
            context manager that gives a reader,
            or ``None`` if there is no archive

        Raises:
            RepositoryError: if it cannot be opened

        """
        path = layout.archive_path(model, header.location)
        return self.backend.open_object(path, tmp_root=tmp_root)

    def archive_size(self, model: ModelId, header: Header) -> int | None:
        r"""Size of the archive of a model, with a request if its header lacks it.

        Returns:
            bytes, ``None`` if there is no archive, or the storage does not tell

        Raises:
            RepositoryError: if the storage cannot be asked

        """
        if header.archive is not None:
            return header.archive.size
        if not self.backend.has_ranges:
            return None  # it would read the whole archive
        state = self.backend.stat_object(layout.archive_path(model, header.location))
        return None if state is None else state.size

    # ------------------------------------------------------------ metadata

    def meta(self, model: ModelId) -> tuple[dict[str, Any], bytes] | None:
        r"""Metadata of a model.

        Returns:
            metadata and its stored form,
            or ``None`` if there is none

        Raises:
            InvalidDocumentError: if the metadata is not valid
            RepositoryError: if it cannot be read

        """
        data = self._read(layout.record_path(model, "meta"))
        if data is None:
            return None
        return document.load(data, f"The metadata of model {model}"), data

    def change_meta(
        self, model: ModelId, meta: Mapping[str, Any], *, replace: bool
    ) -> tuple[dict[str, Any], bytes]:
        r"""Change the metadata of a model.

        Args:
            model: ID of the model
            meta: new or changed fields
            replace: whether ``meta`` replaces everything

        Raises:
            InvalidDocumentError: if the stored metadata is not valid,
                and is not replaced
            InvalidDataError: if ``meta`` cannot be stored
            ModelNotFoundError: if the model is deleted meanwhile
            RepositoryError: if it cannot be changed

        """
        was_empty = False

        def change(current: dict[str, Any]) -> dict[str, Any]:
            nonlocal was_empty
            was_empty = not current
            return copy.deepcopy(dict(meta)) if replace else merge(current, meta)

        path = layout.record_path(model, "meta")
        source = f"The metadata of model {model}"
        rebuild = dict if replace else None
        result = change_document(
            self.backend, path, change, "meta", source, rebuild=rebuild
        )
        if was_empty:
            self._check_not_deleted(model, path, result[1])
        logger.info(
            "Metadata of '%s' in %s %s: %s.",
            model,
            self.repository,
            "replaced" if replace else "changed",
            ", ".join(map(repr, meta)) or "no fields",
        )
        return result

    def _check_not_deleted(self, model: ModelId, path: str, data: bytes) -> None:
        r"""Take back a record that was stored after its model had been deleted."""
        if self._read(layout.record_path(model, "header")) is not None:
            return
        stored = self.backend.read_object(path, document.MAX_BYTES)
        if stored is not None and stored.data == data:
            self.backend.delete_object(path, stored.etag)
        raise ModelNotFoundError(f"The model '{model}' was deleted in the meantime.")

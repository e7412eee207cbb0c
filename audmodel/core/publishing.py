r"""Publish a model: claim its ID, store what it is made of, commit.

The header is stored last and only if there is none,
so that a model appears as a whole or not at all.
The claim keeps publishers of the same ID apart before that,
since the archive has a place that follows from the ID.

"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
import dataclasses
from dataclasses import dataclass
import logging

from audmodel.core import document
from audmodel.core.archive.input import InputFile
from audmodel.core.archive.writer import ArchiveWriter
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.termination import terminable
from audmodel.core.claims import claimed
from audmodel.core.conflicts import check_free
from audmodel.core.conflicts import exists_message
from audmodel.core.header import ArchiveIdentity
from audmodel.core.header import Header
from audmodel.core.registry import Registry
from audmodel.core.uid import ModelId
from audmodel.errors import InvalidDocumentError
from audmodel.errors import ModelExistsError
from audmodel.errors import PublishConflictError


logger = logging.getLogger("audmodel")


@dataclass(frozen=True)
class Publication:
    r"""What is to be published.

    Args:
        model: ID of the model
        header: header, without the identity of the archive
        meta: metadata in its stored form
        files: files of the model folder
        alias: alias of the model, if it gets one
        compression: compression level
        tmp_root: folder for temporary files

    """

    model: ModelId
    header: Header
    meta: bytes
    files: Sequence[InputFile]
    alias: str | None
    compression: int
    tmp_root: str | None


def publish(
    registry: Registry,
    publication: Publication,
    *,
    num_workers: int,
    progress: Callable[[int], None],
) -> None:
    r"""Publish a model.

    Args:
        registry: where to publish
        publication: what to publish
        num_workers: number of threads
        progress: called with the number of bytes read from files

    Raises:
        ModelExistsError: if the model was published before
        PublishConflictError: if somebody else publishes it at the moment
        FileChangedError: if a file changes in the meantime
        RepositoryError: if something cannot be stored

    """
    model = publication.model
    check_free(registry, model, publication.header)
    with terminable(), claimed(registry, model) as claim:
        # It may have been published just before the claim was ours
        check_absent(registry, model)
        writer = ArchiveWriter(
            publication.files,
            compression=publication.compression,
            num_workers=num_workers,
            progress=progress,
        )
        archive = registry.archive_path(model, publication.header.location)
        meta = registry.record_path(model, "meta")
        if claim.is_taken_over:
            _abort_uploads(registry, archive)
        with contextlib.ExitStack() as cleanup:
            # An error does not say that nothing was stored
            cleanup.callback(claim.discard, archive)
            # Workers end with the upload, whatever holds on to its error
            with contextlib.closing(claim.renewing(writer)) as chunks:
                try:
                    registry.backend.write_object(
                        archive,
                        chunks,
                        tmp_root=publication.tmp_root,
                        num_workers=num_workers,
                        before_commit=claim.fence,
                    )
                except RepositoryError:
                    # Who took the claim over has removed what was uploaded
                    claim.fence()
                    raise
            try:
                claim.replace(meta, publication.meta)
            except PublishConflictError:
                raise
            except BaseException:
                # Here as well
                claim.discard(meta)
                raise
            cleanup.callback(claim.discard, meta)
            claim.fence()
            # From here on the outcome is up to the header
            cleanup.pop_all()
        identity = ArchiveIdentity(writer.size, writer.digest)
        header = dataclasses.replace(publication.header, archive=identity)
        path = registry.record_path(model, "header")
        if not registry.backend.create_object(path, header.dump()):
            raise ModelExistsError(exists_message(model))
        if publication.alias:
            _set_alias(registry, publication.alias, model)


def _abort_uploads(registry: Registry, path: str) -> None:
    r"""Remove what a dead publisher uploaded of an object that it did not finish."""
    backend = registry.backend
    try:
        for upload in backend.list_uploads(path):
            if upload.path == path:
                backend.abort_upload(upload)
    except RepositoryError as error:
        logger.warning("Parts of '%s' may be left over: %s", path, error)


def _set_alias(registry: Registry, alias: str, model: ModelId) -> None:
    try:
        registry.set_alias(alias, model, is_new=True)
    except (RepositoryError, InvalidDocumentError) as error:
        error.add_note(
            f"The model '{model}' was published, only its alias '{alias}' was not set. "
            "Set it with audmodel.set_alias()."
        )
        raise


def check_absent(registry: Registry, model: ModelId) -> None:
    r"""Raise an error if a model was published before.

    Args:
        registry: where to look
        model: ID of the model

    Raises:
        ModelExistsError: if it was
        RepositoryError: if the repository cannot be read

    """
    path = registry.record_path(model, "header")
    if registry.backend.read_object(path, document.MAX_BYTES) is not None:
        raise ModelExistsError(exists_message(model))

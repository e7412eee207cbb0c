r"""Delete a model: its header first, then everything else that it consisted of.

A model exists while its header does,
so readers see the whole model, or none.
The claim keeps other processes away.
It names the archive, which only the header says otherwise,
so that another process can finish a deletion whose process has died.

"""

from __future__ import annotations

from collections.abc import Iterable
import contextlib
from dataclasses import dataclass
import logging

from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.errors import HiddenError
from audmodel.core.backend.errors import RepositoryUnreachableError
from audmodel.core.backend.errors import WriteUncertainError
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.errors import ModelInUseError
from audmodel.core.errors import ModelNotFoundError
from audmodel.core.errors import PublishConflictError
from audmodel.core.process.termination import terminable
from audmodel.core.repository import claim_record
from audmodel.core.repository import header as header_module
from audmodel.core.repository import layout
from audmodel.core.repository import signatures
from audmodel.core.repository.changes import changed_by_others
from audmodel.core.repository.claims import Claim
from audmodel.core.repository.claims import claimed
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document


logger = logging.getLogger("audmodel")

# Attempts to delete a record that other processes change
_ATTEMPTS = 100


@dataclass(frozen=True)
class Target:
    r"""Model to delete.

    Args:
        model: ID of the model
        archive: path of its archive
        header: stored header,
            ``None`` if a process deleted it that died before it was done

    """

    model: ModelId
    archive: str
    header: bytes | None


def find(registry: Registry, model: ModelId) -> Target | None:
    r"""Find a model, or what a deletion left of it that was not finished.

    Args:
        registry: where to look
        model: ID of the model

    Returns:
        the model, ``None`` if there is none

    Raises:
        RepositoryError: if the repository cannot be read

    """
    header = _stored(registry.backend, model, "header")
    if header is not None:
        return Target(model, _archive(registry, model, header), header)
    with contextlib.suppress(HiddenError):
        claim = _stored(registry.backend, model, "claim")
        if claim is not None and claim_record.is_deleted_by(claim):
            archive = claim_record.archive_of(claim)
            # Claims are not trusted
            if archive is not None and layout.model_of_archive(archive) == model:
                return Target(model, archive, None)
    return None


def _stored(backend: ObjectBackend, model: ModelId, kind: str) -> bytes | None:
    r"""Content of a record, damaged or not."""
    path = layout.record_path(model, kind)
    stored = backend.read_damaged(path, document.MAX_BYTES)
    return None if stored is None else stored.data


def _archive(registry: Registry, model: ModelId, header: bytes) -> str:
    r"""Path of the archive of a model."""
    try:
        found = header_module.parse(header, model, "The header")
    except InvalidDocumentError:
        # The folder of the archive has to be looked for
        paths = layout.own_paths(registry.backend.list_objects("/"))
        archives = (path for path in paths if layout.model_of_archive(path) == model)
        return next(archives, layout.archive_path(model, "unknown"))
    return layout.archive_path(model, found.location)


def delete(
    registry: Registry,
    target: Target,
    names: Iterable[str],
    repository: str,
    *,
    aliases: bool,
) -> list[str]:
    r"""Delete a model.

    Args:
        registry: where it is
        target: the model
        names: aliases that pointed to it a moment ago
        repository: name of the repository, for errors
        aliases: whether to delete aliases that point to it.
            Those of a model without header are deleted in any case

    Returns:
        aliases that were deleted

    Raises:
        ModelInUseError: if aliases point to it, and ``aliases`` is not given
        ModelNotFoundError: if another process deleted it in the meantime
        PublishConflictError: if another process publishes or deletes it,
            or it was published anew in the meantime
        RepositoryError: if something cannot be deleted
        WriteUncertainError: if something may be deleted later

    """
    model, backend = target.model, registry.backend
    with (
        terminable(),
        claimed(registry, model, target.archive, may_be_published=True) as claim,
    ):
        header = _check_unchanged(registry, target, claim)
        archive = _etag(backend, target.archive)
        claim.begin_delete()
        # An alias that is set from now on notices the claim
        pointing = _pointing(registry, model, names)
        if header is not None:
            if pointing and not aliases:
                raise in_use(model, pointing, repository)
            claim.fence()
            if not _delete(backend, layout.record_path(model, "header"), header):
                raise _replaced(model)
        for name in pointing:
            # The list of the model is deleted next
            registry.delete_alias(name, model, keep_list=True)
        claim.fence()
        if archive is not None and not _delete(backend, target.archive, archive):
            logger.warning("'%s' was stored anew, and is kept.", target.archive)
        for path in (
            layout.record_path(model, "meta"),
            layout.list_path(model),
            *signatures.paths(backend, model),
        ):
            claim.fence()
            _delete_record(backend, path)
    logger.info("Deleted '%s' from %s.", model, registry.repository)
    return pointing


def _check_unchanged(registry: Registry, target: Target, claim: Claim) -> str | None:
    r"""Make sure that the model is the one that was found.

    Returns:
        etag of its header, ``None`` if only the rest is left

    Raises:
        ModelNotFoundError: if another process deleted it in the meantime
        PublishConflictError: if it was published anew in the meantime

    """
    model = target.model
    path = layout.record_path(model, "header")
    state = registry.backend.stat_object(path)
    header = _stored(registry.backend, model, "header")
    if header is None or state is None:
        if claim.is_deleted:
            return None
        raise ModelNotFoundError(
            f"Another process deleted the model '{model}' in the meantime."
        )
    if header != target.header:
        raise _replaced(model)
    return state.etag


def _etag(backend: ObjectBackend, path: str) -> str | None:
    r"""Etag of an object, ``None`` if there is none, or it cannot be seen."""
    with contextlib.suppress(HiddenError):
        state = backend.stat_object(path)
        return None if state is None else state.etag
    return None


def _pointing(registry: Registry, model: ModelId, names: Iterable[str]) -> list[str]:
    r"""Aliases that point to a model.

    Earlier releases may have lost some from its list,
    so the ones that are known otherwise are looked at as well.
    """
    listed: list[str] = []
    with contextlib.suppress(InvalidDocumentError):
        listed = registry.listed_aliases(model)
    pointing = []
    for name in sorted({*listed, *names}):
        with contextlib.suppress(InvalidDocumentError):
            if registry.alias(name) == model:
                pointing.append(name)
    return pointing


def _delete_record(backend: ObjectBackend, path: str) -> None:
    r"""Delete a record that other processes may change without a claim."""
    for _ in range(_ATTEMPTS):
        etag = _etag(backend, path)
        if etag is None or _delete(backend, path, etag):
            return
    raise changed_by_others(f"'{backend.object_url(path)}'", _ATTEMPTS)


def _delete(backend: ObjectBackend, path: str, etag: str) -> bool:
    r"""Delete an object if it is unchanged.

    Raises:
        WriteUncertainError: if it may be deleted later

    """
    try:
        return backend.delete_object(path, etag)
    except RepositoryUnreachableError as error:
        raise WriteUncertainError(
            f"{error} It may be deleted later. "
            "Delete the model again in a minute, to be sure.",
            error.exception,
        ) from error


def in_use(model: ModelId, names: Iterable[str], repository: str) -> ModelInUseError:
    r"""Error for a model that aliases point to.

    Args:
        model: ID of the model
        names: names of the aliases
        repository: name of the repository

    """
    shown = ", ".join(f"'{name}'" for name in sorted(names))
    return ModelInUseError(
        f"The model '{model}' in '{repository}' cannot be deleted "
        f"while aliases point to it: {shown}. "
        "Let them point to another model, or delete them as well "
        "with 'aliases=True' or '--aliases'. Nothing was deleted."
    )


def _replaced(model: ModelId) -> PublishConflictError:
    return PublishConflictError(
        f"The model '{model}' was published anew in the meantime, and was not deleted."
    )


def check_not_deleted(registry: Registry, model: ModelId) -> None:
    r"""Make sure that no deletion missed a record that was just stored.

    A process that deletes the model looks for such records
    after it has marked its claim.

    Args:
        registry: where the model is
        model: ID of the model

    Raises:
        ModelNotFoundError: if the model was deleted
        PublishConflictError: if it is being deleted
        RepositoryError: if the repository cannot be read

    """
    claim = None
    with contextlib.suppress(HiddenError):
        claim = _stored(registry.backend, model, "claim")
    if claim is None or not claim_record.is_deleted_by(claim):
        _check_exists(registry, model)
        return
    archive = claim_record.archive_of(claim) or ""
    # Wait until the deletion is done, or its process is known to be dead
    with claimed(registry, model, archive, may_be_published=True):
        _check_exists(registry, model)


def _check_exists(registry: Registry, model: ModelId) -> None:
    if _stored(registry.backend, model, "header") is None:
        raise ModelNotFoundError(f"The model '{model}' was deleted in the meantime.")

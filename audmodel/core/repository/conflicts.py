r"""Conflicts of a model to publish with published ones.

A model ID has to lead to one model.
Its first part has 32 bits, which two models can share by chance,
and several repositories are searched in their order.

"""

from __future__ import annotations

import contextlib
import logging
import warnings

from audmodel.core import uid as ids
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.errors import InvalidInputError
from audmodel.core.errors import ModelExistsError
from audmodel.core.repository import layout
from audmodel.core.repository.config import config
from audmodel.core.repository.header import Header
from audmodel.core.repository.registry import Registry
from audmodel.core.repository.repository import Repository
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document


_SHOWN = 200
logger = logging.getLogger("audmodel")


def check_free(registry: Registry, model: ModelId, header: Header) -> None:
    r"""Raise an error if a repository has the model, or another one of its short ID.

    Args:
        registry: where the model is to be published
        model: ID of the model
        header: its header

    Raises:
        ModelExistsError: if it has
        RepositoryError: if the repository cannot be read

    """
    from audmodel.core.backend.errors import HiddenError

    try:
        _check(registry, model, header, exists_message(model))
    except HiddenError as error:
        _log_unknown(model, error)


def check_found(model: ModelId, header: Header, repository: Repository) -> None:
    r"""Raise an error if a model would not be found by its ID where it is published.

    Repositories that are searched later are not asked:
    a model is often published first where few see it.

    Raises:
        ModelExistsError: if a repository that is searched before has the model,
            or another one of its short ID
        RepositoryError: if such a repository cannot be used

    """
    from audmodel.core.backend.errors import HiddenError
    from audmodel.core.backend.errors import OfflineError
    from audmodel.core.backend.errors import RepositoryUnreachableError
    from audmodel.core.repository.lookup import first

    def check(registry: Registry) -> None:
        exists = (
            f"The model '{model}' exists in {registry.repository}, "
            f"which is searched before {repository}, "
            "so that the new one would never be found. "
            "Publish it under another version, or change the order of repositories. "
            "To make a mirror, copy the model with audmodel.copy()."
        )
        _check(registry, model, header, exists)

    try:
        first(check, before(repository))
    except OfflineError:
        return
    except (RepositoryUnreachableError, HiddenError) as error:
        warnings.warn(
            f"{error} It is not known whether it holds the model '{model}'.",
            stacklevel=3,
        )


def _check(registry: Registry, model: ModelId, header: Header, exists: str) -> None:
    r"""Raise an error if a repository has the model, or another one of its short ID.

    One listing tells both, unless there are other versions.

    Args:
        registry: where to look
        model: ID of the model
        header: its header
        exists: message of the error if the repository has the model

    Raises:
        HiddenError: if the repository does not say whether it has the model
        ModelExistsError: if it has
        RepositoryError: if the repository cannot be read

    """
    from audmodel.core.backend.errors import HiddenError

    try:
        versions = registry.versions(model.short)
    except HiddenError as error:
        if _has(registry, model):
            raise ModelExistsError(exists) from error
        _log_unknown(model, error)
        return
    if model.version in versions:
        raise ModelExistsError(exists)
    for version in reversed(ids.sort_versions(versions)):
        # One header is enough, as all were compared when they were published
        with contextlib.suppress(InvalidDocumentError):
            found = registry.header(ModelId(model.short, version))
            if found is not None:
                check_same_model(model, header, found[0], registry.repository)
                return


def _log_unknown(model: ModelId, error: Exception) -> None:
    logger.warning(
        "Whether another model has the short ID '%s' is not known. %s",
        model.short,
        error,
    )


def check_alias_found(alias: str, repository: Repository) -> None:
    r"""Raise an error if an alias would never be found where it is set.

    Raises:
        InvalidInputError: if a repository that is searched before has such an alias
        RepositoryError: if such a repository cannot be used

    """
    from audmodel.core.backend.errors import HiddenError
    from audmodel.core.repository.lookup import first

    try:
        found = first(lambda registry: registry.alias(alias), before(repository))
    except HiddenError as error:
        warnings.warn(
            f"{error} Whether it holds the alias '{alias}' is not known.", stacklevel=3
        )
        return
    if found is not None:
        raise InvalidInputError(
            f"The alias '{alias}' exists in {found[0]}, "
            f"which comes before {repository}. "
            "Choose another name, or change the order of the repositories."
        )


def before(repository: Repository) -> list[Repository]:
    r"""Repositories that are searched before one, none if it is not configured."""
    repositories = config.REPOSITORIES
    position = repositories.index(repository) if repository in repositories else 0
    return repositories[:position]


def check_absent(registry: Registry, model: ModelId) -> None:
    r"""Raise an error if a model was published before.

    A repository that does not say so refuses to store its header.

    Args:
        registry: where to look
        model: ID of the model

    Raises:
        ModelExistsError: if it was
        RepositoryError: if the repository cannot be read

    """
    from audmodel.core.backend.errors import HiddenError

    with contextlib.suppress(HiddenError):
        if _has(registry, model):
            raise ModelExistsError(exists_message(model))


def _has(registry: Registry, model: ModelId) -> bool:
    path = layout.record_path(model, "header")
    return registry.backend.read_object(path, document.MAX_BYTES) is not None


def exists_message(model: ModelId) -> str:
    r"""Message of an error for a model that was published before."""
    return (
        f"A model with ID '{model}' exists already. "
        "Publish under another version, or change the parameters."
    )


def check_same_model(
    model: ModelId, header: Header, other: Header, repository: str
) -> None:
    r"""Raise an error if two headers of one short ID are of different models.

    Args:
        model: ID of the model to publish
        header: its header
        other: header of the published model
        repository: where that one is

    Raises:
        ModelExistsError: if name, subgroup or parameters differ

    """
    names = (header.name, header.subgroup)
    # Parameters of earlier releases may be unreadable
    if names == (other.name, other.subgroup) and (
        isinstance(other.params, document.Unreadable)
        or ids.comparable(document.stored_form(header.parameters, "params"))
        == ids.comparable(other.parameters)
    ):
        return
    raise ModelExistsError(
        f"The ID '{model}' cannot be used for {_description(header)}, "
        f"since by chance another model has the short ID '{model.short}' already: "
        f"{_description(other)} of version {other.version} in {repository}. "
        "Add a parameter, or choose another name."
    )


def _description(header: Header) -> str:
    if isinstance(header.params, document.Unreadable):
        params = "parameters that cannot be read"
    else:
        params = repr(dict(header.params))
    if len(params) > _SHOWN:
        params = f"{params[:_SHOWN]}…"
    name = f"{header.subgroup}.{header.name}" if header.subgroup else header.name
    return f"'{name}' with {params}"

r"""IDs and versions of models."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses

from audmodel.core import uid as ids
from audmodel.core.api.arguments import chosen
from audmodel.core.api.arguments import wanted_model
from audmodel.core.errors import InvalidIdError
from audmodel.core.errors import ModelNotFoundError
from audmodel.core.operations.find import alias_target
from audmodel.core.operations.find import find_versions
from audmodel.core.operations.find import is_kept
from audmodel.core.operations.find import missing_message
from audmodel.core.repository.repository import Repository
from audmodel.core.uid import Alias


def exists(
    uid: str,
    *,
    repository: Repository | str | None = None,
) -> bool:
    r"""Whether a model exists.

    Args:
        uid: model ID or alias
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``

    Returns:
        ``True`` if a repository holds the model,
        ``False`` if none does, or ``uid`` cannot be a model ID or an alias

    Raises:
        TypeError: if an argument is of the wrong type
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if the header of the model is not valid
        InvalidInputError: if no configured repository has the name
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.exists("3e120e8d-1.0.0")
        True
        >>> audmodel.exists("3e120e8d-9.0.0")
        False

    """
    from audmodel.core.backend.errors import OfflineError
    from audmodel.core.repository.lookup import first

    try:
        wanted = wanted_model(uid, None, repository)
    except (InvalidIdError, ModelNotFoundError):
        return False
    try:
        found = first(
            lambda registry: registry.header(wanted.model), wanted.repositories
        )
        return found is not None
    except OfflineError:
        entry = wanted.entry
        if (entry.is_complete or entry.header.exists()) and is_kept(wanted):
            return True  # it existed when a repository was asked
        raise


def full_id(
    uid: str, cache_root: str | None, repository: Repository | str | None
) -> str:
    r"""Model ID that an ID without version, or an alias, leads to.

    Args:
        uid: model ID, with or without version, or alias
        cache_root: cache folder, the default one if it is ``None``
        repository: the only repository to search, if any

    Returns:
        model ID with version

    Raises:
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    """
    return str(wanted_model(uid, cache_root, repository).model)


def latest_version(
    uid: str,
    *,
    repository: Repository | str | None = None,
) -> str:
    r"""Latest version of a model.

    Args:
        uid: model ID, with or without version, or alias
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``

    Returns:
        version

    Raises:
        TypeError: if an argument is of the wrong type
        ConfigurationError: if the configuration cannot be used
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if no configured repository has the name
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.latest_version("3e120e8d")
        '2.0.0'

    """
    parsed, repositories = ids.parse(uid), chosen(repository)
    if isinstance(parsed, Alias):
        model = alias_target(parsed.name, repositories)
        if model is None:
            raise ModelNotFoundError(missing_message(parsed, repositories))
        parsed = dataclasses.replace(model, found_by=parsed)
    found = find_versions(parsed.short, repositories)
    if not found:
        raise ModelNotFoundError(missing_message(parsed, repositories))
    return found[-1]


def legacy_uid(
    name: str,
    params: Mapping[str, object],
    version: str,
    *,
    subgroup: str | None = None,
    private: bool = False,
) -> str:
    r"""Model ID of the first generation.

    Args:
        name: name of the model
        params: parameters of the model, in their original order
        version: version of the model
        subgroup: subgroup of the model
        private: whether the model was in the private repository

    Returns:
        model ID with 36 characters

    Examples:
        >>> audmodel.legacy_uid("test", {"sampling_rate": 16000}, "1.0.0")
        '56bf9221-fa70-62b6-9e7f-baaf7ae94726'

    """
    return ids.legacy_id(name, params, version, subgroup, private)


def uid(
    name: str,
    params: Mapping[str, object],
    version: str | None = None,
    *,
    subgroup: str | None = None,
) -> str:
    r"""Model ID for given arguments.

    The order of the parameters does not matter.
    Numbers of other libraries count as numbers of Python,
    and all kinds of dictionaries as plain ones,
    since they are stored in this way:
    the ID of a model can be computed from the results of
    :func:`audmodel.name`, :func:`audmodel.parameters`,
    and :func:`audmodel.subgroup`.

    Args:
        name: name of the model
        params: parameters of the model
        version: version of the model
        subgroup: subgroup of the model

    Returns:
        model ID,
        without version if ``version`` is ``None``

    Raises:
        InvalidInputError: if the names of ``params`` cannot be sorted

    Examples:
        >>> audmodel.uid("onnx", {"sampling_rate": 16000}, "1.0.0")
        '7a704d69-1.0.0'

    """
    short = ids.short_id(name, params, subgroup)
    return short if version is None else f"{short}-{version}"


def versions(
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
) -> list[str]:
    r"""Versions of a model.

    Args:
        uid: model ID, with or without version, or alias
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: accepted for compatibility,
            versions are never taken from the cache

    Returns:
        versions from oldest to newest,
        empty if the model does not exist,
        or ``uid`` cannot be a model ID or an alias

    Raises:
        TypeError: if an argument is of the wrong type
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if an alias does not name a model ID
        InvalidInputError: if no configured repository has the name
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.versions("3e120e8d")
        ['1.0.0', '2.0.0']

    """
    repositories = chosen(repository)
    try:
        model = ids.parse(uid)
    except InvalidIdError:
        return []
    target = (
        alias_target(model.name, repositories) if isinstance(model, Alias) else model
    )
    return [] if target is None else find_versions(target.short, repositories)

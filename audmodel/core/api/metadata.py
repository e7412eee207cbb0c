r"""Metadata of models."""

from __future__ import annotations

from collections.abc import Mapping
import logging
from typing import Any

from audmodel.core.api.arguments import wanted_model
from audmodel.core.operations.find import Wanted
from audmodel.core.operations.find import find
from audmodel.core.operations.find import is_kept
from audmodel.core.repository.repository import Repository


logger = logging.getLogger("audmodel")


def meta(
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    verbose: bool = False,
) -> dict[str, Any]:
    r"""Metadata of a model.

    Args:
        uid: model ID or alias
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        metadata in the repository,
        or, while ``AUDMODEL_OFFLINE`` is set, the last known metadata

    Raises:
        TypeError: if an argument is of the wrong type
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if the stored metadata is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if no configured repository has the name
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used
        UntrustedModelError: if a signature is needed that the model lacks

    Examples:
        >>> audmodel.meta("3e120e8d-1.0.0")
        {'model': {'cnn10': {'learning-rate': 0.01}}}

    """
    from audmodel.core.backend.errors import OfflineError
    from audmodel.core.repository.lookup import open_registry

    wanted = wanted_model(uid, cache_root, repository)
    try:
        found = find(wanted)
    except OfflineError:
        known = _known_meta(wanted)
        if known is None:
            raise
        return known
    with open_registry(found.repository) as registry:
        stored = registry.meta(found.model)
    data, content = stored if stored is not None else ({}, b"{}\n")
    found.entry.meta.keep(content)
    return data


def _known_meta(wanted: Wanted) -> dict[str, Any] | None:
    r"""Metadata in the cache."""
    from audmodel.core.yaml import document

    entry = wanted.entry
    content = entry.meta.read(document.MAX_BYTES)
    if content is None or not is_kept(wanted):
        return None
    logger.warning(
        "AUDMODEL_OFFLINE is set. The metadata of '%s' is the last known one.",
        entry.model,
    )
    return document.load(content, f"'{entry.meta.path}'")


def update_meta(
    uid: str,
    meta: Mapping[str, object],
    *,
    replace: bool = False,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    verbose: bool = False,
) -> dict[str, Any]:
    r"""Change the metadata of a model.

    If several processes change different fields at the same time,
    all changes are kept.

    Args:
        uid: model ID or alias
        meta: fields that are added or changed,
            nested dictionaries are merged level by level
        replace: whether ``meta`` replaces all fields
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        metadata after the change

    Raises:
        TypeError: if an argument is of the wrong type
        ConfigurationError: if the configuration cannot be used
        InvalidDataError: if ``meta`` cannot be stored
        InvalidDocumentError: if the stored metadata is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if no configured repository has the name
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.update_meta("3e120e8d-1.0.0", {"loss": 0.2})
        {'model': {'cnn10': {'learning-rate': 0.01}}, 'loss': 0.2}

    """
    from audmodel.core.repository.lookup import open_registry
    from audmodel.core.yaml import document

    document.dump(meta, "meta")
    found = find(wanted_model(uid, cache_root, repository))
    with open_registry(found.repository) as registry:
        data, content = registry.change_meta(found.model, meta, replace=replace)
    found.entry.meta.keep(content)
    return data

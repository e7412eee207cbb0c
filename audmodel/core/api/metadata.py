r"""Metadata of models."""

from __future__ import annotations

from collections.abc import Mapping
import logging
from typing import Any

from audmodel.core.api.arguments import cache_entry
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.operations.find import find


logger = logging.getLogger("audmodel")


def meta(
    uid: str,
    *,
    cache_root: str | None = None,
    verbose: bool = False,
) -> dict[str, Any]:
    r"""Metadata of a model.

    Args:
        uid: model ID or alias
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        metadata in the repository,
        or, while ``AUDMODEL_OFFLINE`` is set, the last known metadata

    Raises:
        TypeError: if ``uid`` is not a string
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if the stored metadata is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.meta("3e120e8d-1.0.0")
        {'model': {'cnn10': {'learning-rate': 0.01}}}

    """
    from audmodel.core.backend.errors import OfflineError
    from audmodel.core.repository.lookup import open_registry

    entry = cache_entry(uid, cache_root)
    try:
        found = find(entry)
    except OfflineError:
        known = _known_meta(entry)
        if known is None:
            raise
        return known
    with open_registry(found.repository) as registry:
        stored = registry.meta(found.model)
    data, content = stored if stored is not None else ({}, b"{}\n")
    found.entry.meta.keep(content)
    return data


def _known_meta(entry: CacheEntry) -> dict[str, Any] | None:
    r"""Metadata in the cache."""
    from audmodel.core.yaml import document

    content = entry.meta.read(document.MAX_BYTES)
    if content is None:
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
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        metadata after the change

    Raises:
        TypeError: if ``uid`` is not a string
        ConfigurationError: if the configuration cannot be used
        InvalidDataError: if ``meta`` cannot be stored
        InvalidDocumentError: if the stored metadata is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.update_meta("3e120e8d-1.0.0", {"loss": 0.2})
        {'model': {'cnn10': {'learning-rate': 0.01}}, 'loss': 0.2}

    """
    from audmodel.core.repository.lookup import open_registry
    from audmodel.core.yaml import document

    document.dump(meta, "meta")
    found = find(cache_entry(uid, cache_root))
    with open_registry(found.repository) as registry:
        data, content = registry.change_meta(found.model, meta, replace=replace)
    found.entry.meta.keep(content)
    return data

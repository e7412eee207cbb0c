r"""Models in the cache, and their removal."""

from __future__ import annotations

import datetime

from audmodel.core import uid as ids
from audmodel.core.api.arguments import age
from audmodel.core.api.arguments import chosen
from audmodel.core.cache.results import CachedModel
from audmodel.core.errors import InvalidInputError
from audmodel.core.errors import NotCachedError
from audmodel.core.operations.find import resolve
from audmodel.core.repository.config import cache_folder
from audmodel.core.repository.repository import Repository
from audmodel.core.uid import ShortId


def cached(*, cache_root: str | None = None) -> list[CachedModel]:
    r"""Models in the cache.

    Models of which only some files were loaded are included,
    and models whose load was interrupted;
    the next load of such a model continues it.

    Args:
        cache_root: cache folder, the default one if it is ``None``

    Returns:
        models, in the order of their IDs and versions

    Raises:
        CacheError: if the cache cannot be read
        ConfigurationError: if the configuration cannot be used

    Examples:
        >>> root = audmodel.load("3e120e8d-1.0.0")
        >>> [(model.uid, model.size) for model in audmodel.cached()]
        [('3e120e8d-1.0.0', 16454)]

    """
    from audmodel.core.cache import eviction

    return [found.model for found in eviction.find(cache_folder(cache_root))]


def remove_cached(
    uid: str | list[str] | tuple[str, ...],
    *,
    dry_run: bool = False,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
) -> list[CachedModel]:
    r"""Remove models from the cache.

    Processes that have opened a file of the model can still read it.

    Args:
        uid: model ID or alias, or several.
            Without version all versions are removed.
            If one of the models is not in the cache, none is removed
        dry_run: whether to return the models that would be removed,
            and remove nothing
        repository: the only repository in which an alias is looked up,
            or its label or name in the configuration.
            All that are configured are searched if it is ``None``.
            Models of any repository are removed
        cache_root: cache folder, the default one if it is ``None``

    Returns:
        models that were removed, in the order of ``uid``, each of them once

    Raises:
        TypeError: if an argument is of the wrong type
        CacheBusyError: if a process is loading one of the models.
            Those that were removed before are named in a note of the error
        CacheError: if the cache cannot be changed
        ConfigurationError: if the configuration cannot be used
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if no configured repository has the name
        ModelNotFoundError: if an alias does not exist
        NotCachedError: if the model is not in the cache
        RepositoryError: if an alias cannot be resolved

    Examples:
        >>> root = audmodel.load("3e120e8d-1.0.0")
        >>> [model.uid for model in audmodel.remove_cached("3e120e8d-1.0.0")]
        ['3e120e8d-1.0.0']
        >>> audmodel.cached()
        []

    """
    from audmodel.core.cache import eviction

    parsed = list(map(ids.parse, uid if isinstance(uid, list | tuple) else [uid]))
    repositories, root = chosen(repository), cache_folder(cache_root)
    wanted = [
        each if isinstance(each, ShortId) else resolve(each, root, repositories)
        for each in parsed
    ]
    known = eviction.find(root)
    items: dict[str, eviction.Found] = {}
    for given, model in zip(parsed, wanted, strict=True):
        found = {
            item.folder.path: item
            for item in known
            if model in (item.entry.model, ShortId(item.entry.model.short))
        }
        if not found:
            raise NotCachedError(f"The model '{given}' is not in the cache '{root}'.")
        items |= found
    eviction.remove(list(items.values()), dry_run=dry_run)
    return [item.model for item in items.values()]


def prune_cache(
    *,
    max_age: datetime.timedelta | float | None = None,
    max_size: int | None = None,
    dry_run: bool = False,
    cache_root: str | None = None,
) -> list[CachedModel]:
    r"""Remove the least recently used models from the cache.

    Models that a process is loading are kept.

    Args:
        max_age: time that a model may be unused,
            as seconds if it is a number
        max_size: bytes that all models may have together,
            0 empties the cache
        dry_run: whether to return the models that would be removed,
            and remove nothing
        cache_root: cache folder, the default one if it is ``None``

    Returns:
        models that were removed

    Raises:
        TypeError: if an argument is of the wrong type
        CacheError: if the cache cannot be read or changed
        ConfigurationError: if the configuration cannot be used
        InvalidInputError: if there is neither ``max_age`` nor ``max_size``,
            or one of them is negative

    Examples:
        >>> root = audmodel.load("3e120e8d-1.0.0")
        >>> audmodel.prune_cache(max_size=1_000_000)
        []
        >>> [model.uid for model in audmodel.prune_cache(max_size=0)]
        ['3e120e8d-1.0.0']

    """
    from audmodel.core.cache import eviction

    if isinstance(max_size, bool) or not isinstance(max_size, int | None):
        raise TypeError(f"'max_size' has to be an integer, not {max_size!r}.")
    if max_age is None and max_size is None:
        raise InvalidInputError(
            "Give 'max_age', 'max_size', or both, "
            "to say which models to remove from the cache."
        )
    if max_size is not None and max_size < 0:
        raise InvalidInputError(f"'max_size' must not be negative, but is {max_size}.")
    return eviction.prune(
        cache_folder(cache_root),
        None if max_age is None else age(max_age, "max_age"),
        max_size,
        dry_run=dry_run,
    )

r"""IDs and aliases that are known within a moment, to complete what a user types."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from functools import partial

from audmodel.core import uid as ids
from audmodel.core.cache import eviction
from audmodel.core.errors import AudmodelError
from audmodel.core.process.limited import Limited
from audmodel.core.repository.lookup import open_registry
from audmodel.core.repository.registry import Registry
from audmodel.core.repository.repository import Repository


Search = Callable[[], Iterable[str]]


def known_names(
    prefix: str,
    repositories: Sequence[Repository],
    *,
    cache_root: str | None,
    seconds: float,
) -> list[str]:
    r"""Names of aliases, and IDs of models.

    Args:
        prefix: how they begin
        repositories: where they may be
        cache_root: cache folder, whose models count as well,
            ``None`` for aliases alone
        seconds: how long to wait for all places together

    Returns:
        names from the cache, and from those repositories that respond in time

    """
    kinds: list[Callable[[Registry], Iterable[str]]] = [Registry.alias_names]
    searches: list[Search] = []
    if cache_root is not None:
        kinds.append(partial(_stored, prefix))
        searches.append(partial(_cached, cache_root))
    searches += [
        partial(_search, repository, kind)
        for repository in repositories
        for kind in kinds
    ]
    return _matching(prefix, searches, seconds)


def _cached(cache_root: str) -> Iterable[str]:
    r"""IDs of models in the cache."""
    return (str(entry.model) for entry in eviction.entries(cache_root))


def _stored(prefix: str, registry: Registry) -> Iterable[str]:
    r"""IDs of models in a repository, of one model if the prefix says which."""
    short, _, _ = prefix.partition("-")
    if ids.is_short(short):
        return (f"{short}-{version}" for version in registry.versions(short))
    return map(str, registry.models())


def _search(
    repository: Repository, names: Callable[[Registry], Iterable[str]]
) -> Iterable[str]:
    with open_registry(repository) as registry:
        return list(names(registry))


def _matching(prefix: str, searches: Sequence[Search], seconds: float) -> list[str]:
    r"""Names that are found in time, each place is searched in a thread."""

    def found(search: Search) -> Iterable[str]:
        try:
            return list(search())
        except (AudmodelError, OSError):
            return ()

    running = [Limited(partial(found, search), seconds) for search in searches]
    names = {name for each in running for name in each.result()[0]}
    return sorted(name for name in names if name.startswith(prefix))

r"""What a user may be about to type."""

from __future__ import annotations

from audmodel.core.api.arguments import chosen
from audmodel.core.errors import AudmodelError
from audmodel.core.repository.config import cache_folder
from audmodel.core.repository.config import config


# Seconds that a user may wait after a key
_PATIENCE = 1.5


def known_names(
    prefix: str,
    *,
    models: bool,
    repository: str | None = None,
    cache_root: str | None = None,
) -> list[str]:
    r"""Names of aliases, and IDs of models, as far as they are found at once.

    Args:
        prefix: how they begin
        models: whether IDs of models are wanted as well
        repository: the only repository to search, if any
        cache_root: cache folder

    Returns:
        names from the cache, and from repositories that respond in time

    """
    from audmodel.core.operations import names
    from audmodel.core.repository.lookup import configured

    try:
        found = chosen(repository)
        return names.known_names(
            prefix,
            configured() if found is None else found,
            cache_root=cache_folder(cache_root) if models else None,
            seconds=_PATIENCE,
        )
    except AudmodelError:
        return []


def known_repositories() -> list[str]:
    r"""Labels of configured repositories, names of those without."""
    try:
        return [known.label or known.name for known in config.REPOSITORIES]
    except AudmodelError:
        return []

r"""Aliases of models."""

from __future__ import annotations

import contextlib
import warnings

from audmodel.core import uid as ids
from audmodel.core.api.arguments import chosen
from audmodel.core.api.arguments import wanted_model
from audmodel.core.errors import AliasNotFoundError
from audmodel.core.errors import ModelNotFoundError
from audmodel.core.operations.find import alias_target
from audmodel.core.operations.find import find
from audmodel.core.operations.find import resolve
from audmodel.core.operations.find import searched
from audmodel.core.process.workers import check_num_workers
from audmodel.core.repository.config import cache_folder
from audmodel.core.repository.repository import Repository
from audmodel.core.uid import Alias


def aliases(
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    verbose: bool = False,
) -> list[str]:
    r"""Aliases that point to a model.

    Args:
        uid: model ID or alias
        repository: the only repository to search,
            or its label or name in the configuration.
            All that are configured are searched if it is ``None``
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        names of aliases in alphabetical order

    Raises:
        TypeError: if an argument is of the wrong type
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if a stored record is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if no configured repository has the name
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.aliases("3e120e8d-1.0.0")
        ['emotion-small']

    """
    from audmodel.core.repository.lookup import open_registry

    wanted = wanted_model(uid, cache_root, repository)
    found = find(wanted, any_archive=True)
    with open_registry(found.repository) as registry:
        names = registry.listed_aliases(found.model)
    return sorted(
        name for name in names if alias_target(name, wanted.repositories) == found.model
    )


def all_aliases(
    *, repository: Repository | str | None = None, num_workers: int | None = 1
) -> dict[str, str]:
    r"""All aliases, and the models that they point to.

    Aliases that point to missing models are included.

    Args:
        repository: the only repository to list,
            or its label or name in the configuration.
            All that are configured are listed if it is ``None``
        num_workers: number of records that are read at the same time,
            ``None`` chooses a number for the machine

    Returns:
        model ID of each alias, in alphabetical order.
        If several repositories have an alias,
        it is that of the first of them

    Raises:
        TypeError: if ``repository`` is neither a repository nor a name
        ValueError: if ``num_workers`` is not a positive integer
        ConfigurationError: if the configuration cannot be used
        InvalidInputError: if no configured repository has the name
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.all_aliases()
        {'emotion-small': '3e120e8d-1.0.0'}

    """
    from audmodel.core.operations import catalogue
    from audmodel.core.repository.lookup import each

    workers = check_num_workers(num_workers)
    problems: list[str] = []
    found = each(
        lambda registry: catalogue.read_aliases(
            registry, problems, num_workers=workers
        ),
        chosen(repository),
    )
    for problem in problems:
        warnings.warn(f"{problem} It is left out.", stacklevel=2)
    targets: dict[str, str] = {}
    for _, models in found:
        for name, model in models.items():
            targets.setdefault(name, str(model))
    return dict(sorted(targets.items()))


def resolve_alias(
    alias: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    verbose: bool = False,
) -> str:
    r"""Model ID that an alias points to.

    Args:
        alias: name of the alias
        repository: the only repository to search,
            or its label or name in the configuration.
            All that are configured are searched if it is ``None``
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``.
            It keeps the model ID of the alias,
            which is used only while ``AUDMODEL_OFFLINE`` is set
        verbose: accepted for compatibility, nothing is shown

    Returns:
        model ID

    Raises:
        TypeError: if an argument is of the wrong type
        AliasNotFoundError: if there is no such alias
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if the alias does not name a model ID
        InvalidInputError: if no configured repository has the name
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.resolve_alias("emotion-small")
        '3e120e8d-1.0.0'

    """
    _check_text(alias)
    repositories = chosen(repository)
    if ids.is_alias(alias):
        with contextlib.suppress(ModelNotFoundError):
            return str(resolve(Alias(alias), cache_folder(cache_root), repositories))
    raise AliasNotFoundError(
        f"An alias with name {alias[:150]!r} "
        f"does not exist in {searched(repositories)}."
    )


def set_alias(
    alias: str,
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    verbose: bool = False,
) -> None:
    r"""Let an alias point to a model.

    An alias that points to another model is moved.
    It is set in the repository that holds the model.

    Args:
        alias: name of the alias:
            up to 128 letters, digits, ``'.'``, ``'_'``, or ``'-'``
            that do not look like a model ID
        uid: model ID or other alias.
            Without version it is the latest version
        repository: the only repository to search,
            or its label or name in the configuration.
            All that are configured are searched if it is ``None``
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Raises:
        TypeError: if an argument is of the wrong type
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if a stored record is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if ``alias`` is not a valid name,
            or a repository that comes before the one of the model
            holds an alias of this name and ``repository`` is not given,
            or no configured repository has the name
        ModelNotFoundError: if the model does not exist,
            or is deleted meanwhile
        PublishConflictError: if another process deletes the model
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.set_alias("emotion-small", "3e120e8d-1.0.0")
        >>> audmodel.resolve_alias("emotion-small")
        '3e120e8d-1.0.0'

    """
    from audmodel.core.repository import pointing
    from audmodel.core.repository.conflicts import check_alias_found
    from audmodel.core.repository.lookup import open_registry

    ids.check_alias(alias)
    wanted = wanted_model(uid, cache_root, repository)
    found = find(wanted, any_archive=True)
    if wanted.repositories is None:
        check_alias_found(alias, found.repository)
    with open_registry(found.repository) as registry:
        pointing.set_alias(registry, alias, found.model)


def delete_alias(alias: str, *, repository: Repository | str | None = None) -> str:
    r"""Delete an alias.

    The model that it points to stays.
    The model need not exist.

    Args:
        alias: name of the alias
        repository: repository that holds the alias,
            or its label or name in the configuration,
            the first configured one that does if it is ``None``

    Returns:
        ID of the model that the alias pointed to,
        empty if the alias was damaged and named none

    Raises:
        TypeError: if an argument is of the wrong type
        AliasNotFoundError: if there is no such alias
        ConfigurationError: if the configuration cannot be used
        InvalidInputError: if no configured repository has the name
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.delete_alias("emotion-small")
        '3e120e8d-1.0.0'
        >>> audmodel.aliases("3e120e8d-1.0.0")
        []

    """
    from audmodel.core.operations import deleting

    _check_text(alias)
    repositories = chosen(repository)
    if not ids.is_alias(alias):
        raise AliasNotFoundError(
            f"An alias with name {alias[:150]!r} does not exist, "
            "since this is not an allowed name."
        )
    return deleting.delete_alias(alias, repositories)


def _check_text(alias: object) -> None:
    if not isinstance(alias, str):
        raise TypeError(f"An alias has to be a string, not {type(alias).__name__}.")

r"""Aliases of models."""

from __future__ import annotations

import contextlib
import datetime
from typing import overload
import warnings

from audmodel.core import uid as ids
from audmodel.core.api.arguments import chosen
from audmodel.core.api.arguments import moment
from audmodel.core.api.arguments import wanted_model
from audmodel.core.errors import AliasNotFoundError
from audmodel.core.errors import ModelNotFoundError
from audmodel.core.operations.find import alias_target
from audmodel.core.operations.find import find
from audmodel.core.operations.find import missing_alias
from audmodel.core.operations.find import resolve
from audmodel.core.process.workers import check_num_workers
from audmodel.core.repository.config import cache_folder
from audmodel.core.repository.repository import Repository
from audmodel.core.uid import Alias


TYPE_CHECKING = False
if TYPE_CHECKING:
    from audmodel.core.repository.alias_record import AliasMove


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
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``
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


def alias_history(
    alias: str, *, repository: Repository | str | None = None
) -> list[AliasMove]:
    r"""Moves of an alias: who let it point to which model, and when.

    The record of an alias holds its last 30 moves.
    audmodel 1.x removes them when it moves an alias:
    then there is one move, of which only the model is known.

    Args:
        alias: name of the alias
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``

    Returns:
        moves from first to last

    Raises:
        TypeError: if an argument is of the wrong type
        AliasNotFoundError: if there is no such alias
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if the record of the alias is not valid
        InvalidInputError: if no configured repository has the name
        RepositoryError: if a repository cannot be used

    Examples:
        >>> for move in audmodel.alias_history("emotion-small"):
        ...     print(move.previous, move.uid, move.author)
        None 3e120e8d-1.0.0 sphinx

    """
    from audmodel.core.operations import moving

    repositories = chosen(repository)
    return moving.history(_possible(alias), repositories)[1]


def resolve_alias(
    alias: str,
    *,
    at: datetime.datetime | str | None = None,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    verbose: bool = False,
) -> str:
    r"""Model ID that an alias points to.

    Args:
        alias: name of the alias
        at: time for which the history of the alias is asked,
            with time zone, e.g. ``'2026-01-31T12:00:00Z'``,
            now if it is ``None``
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``.
            It keeps the model ID of the alias,
            which is used only while ``AUDMODEL_OFFLINE`` is set
        verbose: accepted for compatibility, nothing is shown

    Returns:
        model ID

    Raises:
        TypeError: if an argument is of the wrong type
        AliasNotFoundError: if there is no such alias,
            or it is not known what it pointed to at that time
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if the alias does not name a model ID
        InvalidInputError: if ``at`` is not a time with time zone,
            or no configured repository has the name
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.resolve_alias("emotion-small")
        '3e120e8d-1.0.0'

    """
    repositories = chosen(repository)
    name = _possible(alias)
    if at is not None:
        from audmodel.core.operations import moving

        time = moment(at, "at")
        return moving.target_at(name, moving.history(name, repositories)[1], time)
    with contextlib.suppress(ModelNotFoundError):
        return str(resolve(Alias(name), cache_folder(cache_root), repositories))
    raise AliasNotFoundError(missing_alias(name, repositories))


def rollback(
    alias: str,
    *,
    author: str | None = None,
    repository: Repository | str | None = None,
) -> str:
    r"""Undo the last move of an alias.

    The alias points to the model again that it pointed to before,
    and its history gets one more move.
    A rollback that follows a rollback goes one move further back.

    If another process moves the alias at the same moment,
    its move is not undone.

    Args:
        alias: name of the alias
        author: who rolls it back, the user's name if it is ``None``
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``

    Returns:
        ID of the model that the alias points to again

    Raises:
        TypeError: if an argument is of the wrong type
        AliasNotFoundError: if there is no such alias
        ConfigurationError: if the configuration cannot be used
        InvalidDataError: if ``author`` cannot be stored
        InvalidDocumentError: if the record of the alias is not valid
        InvalidInputError: if it is not known where the alias pointed to before,
            or no configured repository has the name
        ModelNotFoundError: if that model does not exist any more
        PublishConflictError: if another process moves the alias, or deletes the model
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.set_alias("emotion-small", "3e120e8d-2.0.0")
        >>> audmodel.rollback("emotion-small")
        '3e120e8d-1.0.0'
        >>> audmodel.alias_history("emotion-small")[-1].rollback
        True

    """
    from audmodel.core.operations import moving

    repositories = chosen(repository)
    by = moving.mover(author)
    return str(moving.rollback(_possible(alias), repositories, by))


def set_alias(
    alias: str,
    uid: str,
    *,
    author: str | None = None,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    verbose: bool = False,
) -> None:
    r"""Let an alias point to a model.

    An alias that points to another model is moved,
    and its history says so, see :func:`audmodel.alias_history`.
    It is set in the repository that holds the model.

    Args:
        alias: name of the alias:
            up to 128 letters, digits, ``'.'``, ``'_'``, or ``'-'``
            that do not look like a model ID
        uid: model ID or other alias.
            Without version it is the latest version
        author: who moves it, for the history of the alias,
            the user's name if it is ``None``
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Raises:
        TypeError: if an argument is of the wrong type
        ConfigurationError: if the configuration cannot be used
        InvalidDataError: if ``author`` cannot be stored
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
    from audmodel.core.operations import moving

    ids.check_alias(alias)
    by = moving.mover(author)
    moving.set_alias(alias, wanted_model(uid, cache_root, repository), by)


@overload
def delete_alias(alias: str, *, repository: Repository | str | None = None) -> str: ...


@overload
def delete_alias(
    alias: list[str] | tuple[str, ...], *, repository: Repository | str | None = None
) -> list[str]: ...


def delete_alias(
    alias: str | list[str] | tuple[str, ...],
    *,
    repository: Repository | str | None = None,
) -> str | list[str]:
    r"""Delete an alias, or several.

    The model that it points to stays.
    The model need not exist.

    Args:
        alias: name of the alias.
            If one of the aliases of a list does not exist, none is deleted
        repository: repository that holds the alias,
            or its label or name in the configuration,
            the first configured one if it is ``None``

    Returns:
        ID of the model that the alias pointed to,
        empty if the alias was damaged and named none.
        A list of IDs, in the same order, if ``alias`` is a list

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

    repositories = chosen(repository)
    names = list(map(_possible, alias if isinstance(alias, list | tuple) else [alias]))
    targets = deleting.delete_aliases(names, repositories)
    found = [targets[name] for name in names]
    return found if isinstance(alias, list | tuple) else found[0]


def _possible(alias: object) -> str:
    r"""Name of an alias that may exist."""
    if not isinstance(alias, str):
        raise TypeError(f"An alias has to be a string, not {type(alias).__name__}.")
    if not ids.is_alias(alias):
        raise AliasNotFoundError(
            f"An alias with name {alias[:150]!r} does not exist, "
            "since this is not an allowed name."
        )
    return alias

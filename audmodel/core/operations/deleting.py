r"""Delete models and aliases from repositories."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import contextlib
from dataclasses import dataclass
import logging

from audmodel.core.backend.errors import RepositoryError
from audmodel.core.errors import AliasNotFoundError
from audmodel.core.errors import ModelNotFoundError
from audmodel.core.errors import noting
from audmodel.core.operations import catalogue
from audmodel.core.operations.find import existing_versions
from audmodel.core.operations.find import missing_alias
from audmodel.core.operations.find import missing_message
from audmodel.core.operations.results import DeletedModel
from audmodel.core.process.workers import check_num_workers
from audmodel.core.repository import deletion
from audmodel.core.repository.lookup import configured
from audmodel.core.repository.lookup import first
from audmodel.core.repository.lookup import open_registry
from audmodel.core.repository.registry import Registry
from audmodel.core.repository.repository import Repository
from audmodel.core.uid import ModelId


logger = logging.getLogger("audmodel")


@dataclass(frozen=True)
class _Found:
    r"""Model to delete.

    Args:
        repository: where it is
        target: the model
        names: aliases that point to it

    """

    repository: Repository
    target: deletion.Target
    names: list[str]


def delete(
    models: Iterable[ModelId],
    repositories: Sequence[Repository] | None,
    *,
    aliases: bool,
    dry_run: bool,
) -> list[DeletedModel]:
    r"""Delete models, or none if one of them cannot be deleted.

    Args:
        models: IDs of the models
        repositories: where they may be,
            ``None`` for the first configured one
        aliases: whether to delete aliases that point to them
        dry_run: whether to delete nothing

    Returns:
        models that were, or would be, deleted

    Raises:
        ModelInUseError: if aliases point to one, and ``aliases`` is not given
        ModelNotFoundError: if one does not exist
        PublishConflictError: if another process publishes or deletes one
        RepositoryError: if a repository cannot be used
        WriteUncertainError: if something may be deleted later

    """
    found = _find_all(list(dict.fromkeys(models)), repositories)
    for item in found:
        if item.names and not aliases and item.target.header is not None:
            raise deletion.in_use(item.target.model, item.names, item.repository.name)
    deleted: list[DeletedModel] = []
    for item in found:
        names = item.names
        if not dry_run:
            with (
                noting("Deleted", [model.uid for model in deleted]),
                open_registry(item.repository) as registry,
            ):
                names = deletion.delete(
                    registry,
                    item.target,
                    names,
                    item.repository.name,
                    aliases=aliases,
                )
        deleted.append(DeletedModel(str(item.target.model), item.repository, names))
    return deleted


def _find_all(
    models: Sequence[ModelId], repositories: Sequence[Repository] | None
) -> list[_Found]:
    r"""Models to delete, with the aliases that point to them."""
    places = [_find(model, repositories) for model in models]
    pointing: dict[tuple[Repository, ModelId], list[str]] = {}
    for place in dict.fromkeys(place for place, _ in places):
        with open_registry(place) as registry:
            for name, model in _read_aliases(registry).items():
                pointing.setdefault((place, model), []).append(name)
    return [
        _Found(place, target, sorted(pointing.get((place, target.model), [])))
        for place, target in places
    ]


def _find(
    model: ModelId, repositories: Sequence[Repository] | None
) -> tuple[Repository, deletion.Target]:
    def query(registry: Registry) -> deletion.Target | None:
        return deletion.find(registry, model)

    searched = _searched(repositories)
    found = first(query, searched)
    if found is not None:
        return found
    raise ModelNotFoundError(
        f"{missing_message(model, searched)}"
        f"{_elsewhere(query, repositories) or existing_versions(model, searched)}"
    )


def _searched(repositories: Sequence[Repository] | None) -> Sequence[Repository]:
    r"""Repositories to delete from.

    Without a choice this is the first one, to which models are published.
    If it were the first one that has the model,
    a call that is repeated would delete the copy in the next repository.
    """
    return configured()[:1] if repositories is None else repositories


def _elsewhere(
    query: Callable[[Registry], object], repositories: Sequence[Repository] | None
) -> str:
    r"""Where the user, who chose no repository, can delete it."""
    others = configured()[1:] if repositories is None else ()
    with contextlib.suppress(RepositoryError):
        found = first(query, others) if others else None
        if found is not None:
            return (
                f" The repository '{found[0].name}' has it. "
                "To delete it there, choose that repository with 'repository'."
            )
    return ""


def _read_aliases(registry: Registry) -> dict[str, ModelId]:
    r"""All aliases of a repository, and the models that they point to."""
    problems: list[str] = []
    found = catalogue.read_aliases(
        registry, problems, num_workers=check_num_workers(None)
    )
    for problem in problems:
        logger.info("%s It points to no model.", problem)
    return found


def delete_aliases(
    names: Iterable[str], repositories: Sequence[Repository] | None
) -> dict[str, str]:
    r"""Delete aliases, or none if one of them does not exist.

    Args:
        names: names of the aliases
        repositories: where they may be,
            ``None`` for the first configured one

    Returns:
        ID of the model that each of them pointed to, empty if it named none

    Raises:
        AliasNotFoundError: if there is no such alias
        RepositoryError: if a repository cannot be used

    """
    holders = {name: _holder(name, repositories) for name in names}
    deleted: dict[str, str] = {}
    for name, holder in holders.items():
        with noting("Deleted", list(deleted)):
            with open_registry(holder) as registry:
                target = registry.delete_alias(name)
            if target is None:
                raise AliasNotFoundError(missing_alias(name, repositories))
        deleted[name] = target
    return deleted


def _holder(name: str, repositories: Sequence[Repository] | None) -> Repository:
    r"""Repository that has an alias, which may be damaged."""

    def query(registry: Registry) -> bool | None:
        return registry.has_alias(name) or None

    searched = _searched(repositories)
    found = first(query, searched)
    if found is None:
        message = missing_alias(name, searched)
        raise AliasNotFoundError(f"{message}{_elsewhere(query, repositories)}")
    return found[0]

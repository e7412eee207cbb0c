r"""Delete models."""

from __future__ import annotations

from audmodel.core import uid as ids
from audmodel.core.api.arguments import chosen
from audmodel.core.errors import InvalidInputError
from audmodel.core.operations.results import DeletedModel
from audmodel.core.repository.repository import Repository
from audmodel.core.uid import ModelId


def delete(
    uid: str | list[str] | tuple[str, ...],
    *,
    repository: Repository | str | None = None,
    aliases: bool = False,
    dry_run: bool = False,
) -> list[DeletedModel]:
    r"""Delete models from a repository.

    The header of a model is deleted first.
    From then on the model does not exist, for all versions of audmodel.
    Its aliases, archive and metadata follow.
    If the process ends in between,
    another call for the same model deletes what is left,
    and so do the next publication of this ID
    and :func:`audmodel.leftovers`.

    Models in caches stay, and can be used from there,
    see :func:`audmodel.remove_cached`.

    Args:
        uid: model ID with version, or several.
            If one of the models cannot be deleted, none is
        repository: repository that holds the models,
            or its label or name in the configuration,
            the first configured one if it is ``None``
        aliases: whether to delete the aliases that point to a model as well.
            Otherwise a model that aliases point to is not deleted
        dry_run: whether to return what would be deleted, and delete nothing

    Returns:
        models that were deleted, with their aliases,
        in the order of ``uid``, each of them once

    Raises:
        TypeError: if an argument is of the wrong type
        ConfigurationError: if the configuration cannot be used
        InvalidIdError: if ``uid`` cannot be a model ID
        InvalidInputError: if ``uid`` is an alias, or lacks the version,
            or no configured repository has the name
        ModelInUseError: if aliases point to a model, and ``aliases`` is not given
        ModelNotFoundError: if a model does not exist
        PublishConflictError: if another process publishes or deletes a model.
            Those that were deleted before are named in a note of the error
        RepositoryError: if a repository cannot be used
        WriteUncertainError: if something may be deleted later

    Examples:
        >>> audmodel.delete("3e120e8d-1.0.0", aliases=True, dry_run=True)[0].aliases
        ['emotion-small']
        >>> [model.uid for model in audmodel.delete("3e120e8d-2.0.0")]
        ['3e120e8d-2.0.0']
        >>> audmodel.exists("3e120e8d-2.0.0")
        False

    """
    from audmodel.core.operations import deleting

    uids = uid if isinstance(uid, list | tuple) else [uid]
    models = [_model(each) for each in uids]
    return deleting.delete(models, chosen(repository), aliases=aliases, dry_run=dry_run)


def _model(uid: str) -> ModelId:
    r"""ID with version, which is that of the same model a moment later."""
    parsed = ids.parse(uid)
    if isinstance(parsed, ModelId):
        return parsed
    if isinstance(parsed, ids.ShortId):
        raise InvalidInputError(
            f"'{uid}' stands for all versions of a model. "
            f"Give the ID of the one to delete, as in '{uid}-1.0.0'; "
            "audmodel.versions() lists the versions."
        )
    raise InvalidInputError(
        f"'{uid}' is an alias. Give the ID of the model to delete, "
        "which audmodel.resolve_alias() returns, "
        "or delete only the alias with audmodel.delete_alias()."
    )

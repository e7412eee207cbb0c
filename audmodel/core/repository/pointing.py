r"""Let aliases point to models that other processes may delete meanwhile."""

from __future__ import annotations

import contextlib

from audmodel.core.errors import ModelNotFoundError
from audmodel.core.errors import PublishConflictError
from audmodel.core.repository.alias_record import AliasMove
from audmodel.core.repository.alias_record import target
from audmodel.core.repository.deletion import check_not_deleted
from audmodel.core.repository.registry import Mover
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId


def set_alias(
    registry: Registry,
    name: str,
    model: ModelId,
    mover: Mover,
    *,
    undoes: AliasMove | None = None,
) -> None:
    r"""Let an alias point to a model, unless the model is deleted meanwhile.

    A process that deletes the model marks its claim,
    and looks for aliases afterwards.
    So either it finds the alias, or the claim is found here.

    Args:
        registry: where both are
        name: name of the alias
        model: ID of the model
        mover: who moves it
        undoes: move that this one undoes, which has to be the last one

    Raises:
        InvalidDocumentError: if a stored record is not valid
        ModelNotFoundError: if the model was deleted meanwhile.
            The alias is as it was before
        PublishConflictError: if another process deletes the model,
            or another move followed the one to undo.
            The alias is as it was before
        RepositoryError: if a record cannot be read or written

    """
    move = registry.set_alias(name, model, mover, undoes=undoes)
    if move is None:
        return
    try:
        check_not_deleted(registry, model)
    except (ModelNotFoundError, PublishConflictError) as error:
        if move.previous is None:
            registry.delete_alias(name, model)
        else:
            _move_back(registry, name, move, mover)
        if isinstance(error, ModelNotFoundError):
            registry.delete_empty_list(model, name)
        raise type(error)(f"{error} The alias '{name}' was not set.") from error


def _move_back(registry: Registry, name: str, move: AliasMove, mover: Mover) -> None:
    r"""Undo a move, unless another process has moved the alias since."""
    before = target({"uid": move.previous}, name)
    with contextlib.suppress(PublishConflictError):
        registry.set_alias(name, before, mover, undoes=move)

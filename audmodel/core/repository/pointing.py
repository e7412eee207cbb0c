r"""Let aliases point to models that other processes may delete meanwhile."""

from __future__ import annotations

from audmodel.core.errors import ModelNotFoundError
from audmodel.core.errors import PublishConflictError
from audmodel.core.repository.deletion import check_not_deleted
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId


def set_alias(registry: Registry, name: str, model: ModelId) -> None:
    r"""Let an alias point to a model, unless the model is deleted meanwhile.

    A process that deletes the model marks its claim,
    and looks for aliases afterwards.
    So either it finds the alias, or the claim is found here.

    Args:
        registry: where both are
        name: name of the alias
        model: ID of the model

    Raises:
        InvalidDocumentError: if a stored record is not valid
        ModelNotFoundError: if the model was deleted meanwhile.
            The alias is as it was before
        PublishConflictError: if another process deletes the model.
            The alias is as it was before
        RepositoryError: if a record cannot be read or written

    """
    before = registry.set_alias(name, model)
    if before == model:
        return
    try:
        check_not_deleted(registry, model)
    except (ModelNotFoundError, PublishConflictError) as error:
        if before is None:
            registry.delete_alias(name, model)
        else:
            registry.set_alias(name, before, expected=model)
        if isinstance(error, ModelNotFoundError):
            registry.delete_empty_list(model)
        raise type(error)(f"{error} The alias '{name}' was not set.") from error

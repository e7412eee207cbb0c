r"""Move aliases, and look at where they pointed before."""

from __future__ import annotations

from collections.abc import Sequence
import datetime

from audmodel.core.errors import AliasNotFoundError
from audmodel.core.errors import InvalidInputError
from audmodel.core.errors import ModelNotFoundError
from audmodel.core.operations import authorship
from audmodel.core.operations import source
from audmodel.core.operations.find import Wanted
from audmodel.core.operations.find import find
from audmodel.core.operations.find import missing_alias
from audmodel.core.repository import alias_record
from audmodel.core.repository import moment
from audmodel.core.repository import pointing
from audmodel.core.repository.alias_record import AliasMove
from audmodel.core.repository.conflicts import check_alias_found
from audmodel.core.repository.lookup import first
from audmodel.core.repository.lookup import open_registry
from audmodel.core.repository.registry import Mover
from audmodel.core.repository.repository import Repository
from audmodel.core.uid import ModelId


def mover(author: object) -> Mover:
    r"""Who moves an alias.

    Args:
        author: what the user gave as author

    Raises:
        TypeError: if it is not a string
        InvalidDataError: if it cannot be stored

    """
    return Mover(authorship.author(author), source.of_job().url)


def set_alias(alias: str, wanted: Wanted, by: Mover) -> None:
    r"""Let an alias point to a model.

    Args:
        alias: name of the alias
        wanted: the model
        by: who moves it

    Raises:
        InvalidDocumentError: if a stored record is not valid
        InvalidInputError: if the alias would not be found,
            and the user did not name the repository
        ModelNotFoundError: if the model does not exist, or is deleted meanwhile
        PublishConflictError: if another process deletes the model
        RepositoryError: if a repository cannot be used

    """
    found = find(wanted, any_archive=True)
    if wanted.repositories is None:
        check_alias_found(alias, found.repository)
    with open_registry(found.repository) as registry:
        pointing.set_alias(registry, alias, found.model, by)


def history(
    alias: str, repositories: Sequence[Repository] | None
) -> tuple[Repository, list[AliasMove]]:
    r"""Moves of an alias, and the repository that has it.

    Args:
        alias: name of the alias
        repositories: repositories to search, all that are configured if it is ``None``

    Returns:
        repository, and moves from first to last

    Raises:
        AliasNotFoundError: if there is no such alias
        InvalidDocumentError: if the record of the alias is not valid
        RepositoryError: if a repository cannot be used

    """
    found = first(lambda registry: registry.alias_history(alias), repositories)
    if found is None:
        raise AliasNotFoundError(missing_alias(alias, repositories))
    return found


def rollback(
    alias: str, repositories: Sequence[Repository] | None, by: Mover
) -> ModelId:
    r"""Undo the last move of an alias.

    Args:
        alias: name of the alias
        repositories: repositories to search, all that are configured if it is ``None``
        by: who moves it

    Returns:
        ID of the model that the alias points to again

    Raises:
        AliasNotFoundError: if there is no such alias
        InvalidDocumentError: if the record of the alias is not valid
        InvalidInputError: if it is not known where the alias pointed to before
        ModelNotFoundError: if that model does not exist any more
        PublishConflictError: if another process moves the alias, or deletes the model,
            at the same moment
        RepositoryError: if a repository cannot be used

    """
    repository, moves = history(alias, repositories)
    model = _before(alias, moves)
    with open_registry(repository) as registry:
        if registry.header(model) is None:
            raise ModelNotFoundError(
                f"The alias '{alias}' pointed to the model '{model}' before, "
                f"which does not exist any more in {repository}. "
                "Choose another model with audmodel.set_alias()."
            )
        pointing.set_alias(registry, alias, model, by, undoes=moves[-1])
    return model


def _before(alias: str, moves: list[AliasMove]) -> ModelId:
    model = alias_record.before(moves)
    if model is None:
        raise InvalidInputError(
            f"It is not known where the alias '{alias}' pointed to "
            f"before '{moves[-1].uid}'{_reason(moves[0])}. "
            "Choose a model with audmodel.set_alias()."
        )
    return alias_record.target({"uid": model}, alias)


def _reason(move: AliasMove) -> str:
    return ", since audmodel 1.x keeps no history" if move.date is None else ""


def target_at(alias: str, moves: Sequence[AliasMove], time: datetime.datetime) -> str:
    r"""Model that an alias pointed to at a time.

    Args:
        alias: name of the alias
        moves: its moves
        time: time, with time zone

    Returns:
        ID of the model

    Raises:
        AliasNotFoundError: if the alias did not exist at that time,
            or it is not known what it pointed to

    """
    done = [
        number
        for number, move in enumerate(moves)
        if move.date is not None and move.date <= time
    ]
    following = moves[done[-1] + 1 :] if done else moves
    is_known = not following or following[0].date is not None
    if done and is_known:
        return moves[done[-1]].uid
    when = moment.text(time)
    if is_known and following[0].previous is None:
        raise AliasNotFoundError(f"The alias '{alias}' did not exist at {when}.")
    raise AliasNotFoundError(
        f"It is not known what the alias '{alias}' pointed to at {when}: "
        f"its history has the last {alias_record.MAX_MOVES} moves by audmodel 2.0, "
        "see audmodel.alias_history()."
    )

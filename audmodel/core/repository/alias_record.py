r"""Record of an alias: the model that it points to, and how it came to do so.

::

    uid: 3e120e8d-2.0.0
    history:
    - uid: 3e120e8d-1.0.0
      date: '2026-01-31T12:00:00Z'
      author: sphinx
    - uid: 3e120e8d-2.0.0
      from: 3e120e8d-1.0.0
      date: '2026-02-01T12:00:00Z'
      author: sphinx
      url: https://example.org/jobs/1

The history is part of the record, so that one conditional write stores both.
Earlier releases read ``uid`` alone, and write nothing else:
they remove the history when they move an alias.
It ends with another model than ``uid`` if something else changed only that.

"""

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
from dataclasses import dataclass
import datetime
from typing import Any

from audmodel.core import uid as ids
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.errors import InvalidIdError
from audmodel.core.repository import moment
from audmodel.core.uid import ModelId


# A record is read whenever its alias is used
MAX_MOVES = 30
_MAX_AUTHOR = 200
_MAX_URL = 500
_HISTORY = "history"


@dataclass(frozen=True)
class AliasMove:
    r"""A move of an alias from one model to another.

    Of a move by audmodel 1.x, or by another program, only ``uid`` is known,
    and ``previous`` if the record tells.

    Args:
        uid: ID of the model that the alias points to from then on
        previous: ID of the model that it pointed to before,
            ``None`` if there was none, or it is not known
        date: when it was moved, in UTC, ``None`` if it is not known
        author: who moved it, ``None`` if it is not known
        url: page of the CI job that moved it, ``None`` if there is none
        rollback: whether it undid an earlier move

    """

    __module__ = "audmodel"

    uid: str
    previous: str | None = None
    date: datetime.datetime | None = None
    author: str | None = None
    url: str | None = None
    rollback: bool = False


def target(record: Mapping[str, Any], name: str) -> ModelId:
    r"""Model that an alias points to.

    Args:
        record: content of the record
        name: name of the alias

    Raises:
        InvalidDocumentError: if it does not name a model ID

    """
    model = _model(record.get("uid"))
    if model is None:
        raise InvalidDocumentError(
            f"The alias '{name}' does not name a model ID: "
            f"{str(record.get('uid'))[:100]!r}."
        )
    return model


def history(record: Mapping[str, Any], name: str) -> list[AliasMove]:
    r"""Moves of an alias, as far as its record knows them.

    Args:
        record: content of the record
        name: name of the alias

    Returns:
        moves from first to last, of which the last one leads to the model
        that the alias points to

    Raises:
        InvalidDocumentError: if the record is not valid

    """
    current = str(target(record, name))
    stored = record.get(_HISTORY, [])
    if not isinstance(stored, list):
        raise _invalid(name)
    moves = [_move(item, name) for item in stored]
    if not moves:
        return [AliasMove(current)]
    if moves[-1].uid != current:
        moves.append(AliasMove(current, moves[-1].uid))
    return moves


def last(record: Mapping[str, Any], name: str) -> AliasMove | None:
    r"""Last move of an alias.

    Args:
        record: content of the record
        name: name of the alias

    Returns:
        move, ``None`` if there is no record, or it is not valid

    """
    with contextlib.suppress(InvalidDocumentError):
        return history(record, name)[-1]
    return None


def moved(record: Mapping[str, Any], name: str, move: AliasMove) -> dict[str, Any]:
    r"""Record after a move.

    Args:
        record: content of the record before, which need not be valid
        name: name of the alias
        move: the move, ``previous`` is filled in

    Returns:
        content of the new record,
        that of ``record`` if the alias points to the model already

    """
    moves: list[AliasMove] = []
    # A history that cannot be read starts anew
    with contextlib.suppress(InvalidDocumentError):
        current = str(target(record, name))
        if current == move.uid:
            return dict(record)
        moves.append(AliasMove(current))
        moves = history(record, name)
    previous = moves[-1].uid if moves else None
    moves.append(dataclasses.replace(move, previous=previous))
    return {"uid": move.uid, _HISTORY: list(map(_stored, moves[-MAX_MOVES:]))}


def before(moves: Sequence[AliasMove]) -> str | None:
    r"""Model to which a rollback leads.

    A rollback after a rollback goes one move further back.

    Args:
        moves: moves of the alias

    Returns:
        ID of the model, ``None`` if it is not known

    """
    undone: list[str] = [moves[0].previous] if moves[0].previous else []
    for move in moves:
        if move.rollback and move.uid in undone:
            while undone[-1] != move.uid:
                undone.pop()
        else:
            undone.append(move.uid)
    return undone[-2] if len(undone) > 1 else None


def _model(value: object) -> ModelId | None:
    if isinstance(value, str):
        with contextlib.suppress(InvalidIdError):
            model = ids.parse(value)
            return model if isinstance(model, ModelId) else None
    return None


def _stored(move: AliasMove) -> dict[str, Any]:
    values = {
        "uid": move.uid,
        "from": move.previous,
        "date": move.date and moment.text(move.date),
        "author": move.author and move.author[:_MAX_AUTHOR],
        "url": move.url and move.url[:_MAX_URL],
        "rollback": move.rollback or None,
    }
    return {key: value for key, value in values.items() if value is not None}


def _move(item: object, name: str) -> AliasMove:
    r"""A move as it is stored."""
    if not isinstance(item, dict):
        raise _invalid(name)
    model, previous = _model(item.get("uid")), _model(item.get("from"))
    date = moment.parse(item.get("date"))
    author, url = item.get("author"), item.get("url")
    if (
        model is None
        or (previous is None) != ("from" not in item)
        or (date is None) != ("date" not in item)
        or not isinstance(author, str | None)
        or not isinstance(url, str | None)
    ):
        raise _invalid(name)
    return AliasMove(
        str(model),
        None if previous is None else str(previous),
        date,
        author,
        url,
        item.get("rollback") is True,
    )


def _invalid(name: str) -> InvalidDocumentError:
    return InvalidDocumentError(
        f"The history of the alias '{name}' is not valid. "
        "The next move of the alias starts a new one."
    )

r"""Records of a repository: those of models, and those of aliases.

The claim of a model is only there while the model is published.
The alias record says which model an alias points to, and to which ones it did.
The list of aliases of a model says only where to look:
it holds all aliases of the model, and maybe some that have moved on.

"""

from __future__ import annotations

from collections.abc import Iterable
import contextlib
from dataclasses import dataclass
import datetime
from functools import partial
import logging
import time
from typing import TYPE_CHECKING
from typing import Any

from audmodel.core import uid
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.errors import PublishConflictError
from audmodel.core.repository import alias_record
from audmodel.core.repository import layout
from audmodel.core.repository.alias_record import AliasMove
from audmodel.core.repository.changes import change_document
from audmodel.core.repository.changes import changed_by_others
from audmodel.core.repository.changes import pause
from audmodel.core.repository.model_records import ModelRecords
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document


if TYPE_CHECKING:
    from audmodel.core.backend.objects import StoredObject


logger = logging.getLogger("audmodel")

# Attempts to let a list agree with an alias that other processes move
_ATTEMPTS = 100


@dataclass(frozen=True)
class Mover:
    r"""Who moves an alias.

    Args:
        author: name, if it is known
        url: page of the CI job, if there is one
        date: when, the time by the clock of the storage if it is ``None``

    """

    author: str | None = None
    url: str | None = None
    date: datetime.datetime | None = None


class Registry(ModelRecords):
    r"""Records of one repository, see :class:`ModelRecords` for its arguments."""

    def alias(self, name: str) -> ModelId | None:
        r"""Model that an alias points to.

        Returns:
            ID of the model,
            or ``None`` if there is no such alias

        Raises:
            InvalidDocumentError: if the alias does not name a model ID
            RepositoryError: if it cannot be read

        """
        record = self._alias_record(name)
        return None if record is None else alias_record.target(record, name)

    def alias_history(self, name: str) -> list[AliasMove] | None:
        r"""Moves of an alias.

        Returns:
            moves from first to last,
            or ``None`` if there is no such alias

        Raises:
            InvalidDocumentError: if the record of the alias is not valid
            RepositoryError: if it cannot be read

        """
        record = self._alias_record(name)
        return None if record is None else alias_record.history(record, name)

    def _alias_record(self, name: str) -> dict[str, Any] | None:
        data = self._read(layout.alias_path(name))
        return None if data is None else document.load(data, f"The alias '{name}'")

    def alias_names(self) -> list[str]:
        r"""Names of all aliases.

        Returns:
            names, in any order

        Raises:
            RepositoryError: if the repository cannot be read

        """
        paths = self.backend.list_objects(layout.ALIASES)
        return sorted({name for path in paths if (name := layout.alias_of(path))})

    def listed_aliases(self, model: ModelId) -> list[str]:
        r"""Aliases that may point to a model.

        Returns:
            all aliases that point to it,
            and maybe some that did so before

        Raises:
            InvalidDocumentError: if the list is not valid
            RepositoryError: if it cannot be read

        """
        data = self._read(layout.list_path(model))
        if data is None:
            return []
        source = f"The list of aliases of {model}"
        return _names(document.load(data, source), source)

    def has_alias(self, name: str) -> bool:
        r"""Whether there is an alias, which may be damaged.

        Raises:
            RepositoryError: if it cannot be read

        """
        return self._stored_alias(name) is not None

    def _stored_alias(self, name: str) -> StoredObject | None:
        return self.backend.read_damaged(layout.alias_path(name), document.MAX_BYTES)

    def set_alias(
        self,
        name: str,
        model: ModelId,
        mover: Mover,
        *,
        is_new: bool = False,
        undoes: AliasMove | None = None,
    ) -> AliasMove | None:
        r"""Let an alias point to a model.

        The list of the model is extended first
        and the list of the previous model is shortened last,
        so that the lists never lack an alias,
        even if the process ends in between.

        Args:
            name: name of the alias
            model: ID of the model, which has to exist
            mover: who moves it
            is_new: whether model and alias are probably new,
                which saves a look at their records
            undoes: move that this one undoes, which has to be the last one

        Returns:
            move, or ``None`` if the alias pointed to the model before

        Raises:
            InvalidDocumentError: if a stored record is not valid
            PublishConflictError: if another move followed the one to undo
            RepositoryError: if a record cannot be read or written

        """
        move = AliasMove(
            str(model),
            date=mover.date or self.now(),
            author=mover.author,
            url=mover.url,
            rollback=undoes is not None,
        )
        self._change_list(model, add=[name], is_new=is_new)
        previous: list[ModelId] = []

        def change(current: dict[str, Any]) -> dict[str, Any]:
            previous.clear()
            if undoes is not None and alias_record.last(current, name) != undoes:
                raise PublishConflictError(
                    f"The alias '{name}' was moved by another process in the meantime, "
                    "and was not rolled back. "
                    "Look at its history before you try again."
                )
            # An alias that names no model is in no list
            with contextlib.suppress(InvalidDocumentError):
                previous.append(alias_record.target(current, name))
            return alias_record.moved(current, name, move)

        path, source = layout.alias_path(name), f"The alias '{name}'"
        try:
            record, _ = change_document(
                self.backend, path, change, "alias", source, is_new=is_new, rebuild=dict
            )
        except PublishConflictError:
            self._settle(model, name)
            raise
        before = previous[0] if previous else None
        self._log_alias(name, before, model)
        if before is not None and before != model:
            self._settle(before, name)
        # Another process may have deleted an alias of this name, or moved it
        if before != model and not (before is None and is_new):
            self._settle(model, name)
        return None if before == model else alias_record.last(record, name)

    def delete_alias(
        self, name: str, model: ModelId | None = None, *, keep_list: bool = False
    ) -> str | None:
        r"""Delete an alias.

        The list of its model is shortened last.

        Args:
            name: name of the alias
            model: model that it has to point to,
                any model if it is not given
            keep_list: whether the list of its model stays as it is

        Returns:
            model that it pointed to, empty if it named none,
            or ``None`` if there is no such alias

        Raises:
            RepositoryError: if it cannot be read or deleted

        """
        for attempt in range(_ATTEMPTS):
            start = time.monotonic()
            stored = self._stored_alias(name)
            if stored is None:
                return None
            target = None
            with contextlib.suppress(InvalidDocumentError):
                record = document.load(stored.data, "An alias")
                target = alias_record.target(record, name)
            if model is not None and target != model:
                return None
            if self.backend.delete_object(layout.alias_path(name), stored.etag):
                self._log_alias(name, target, None)
                if target is not None and not keep_list:
                    self._settle(target, name)
                return "" if target is None else str(target)
            pause(attempt, time.monotonic() - start)
        raise changed_by_others(f"The alias '{name}'", _ATTEMPTS)

    def delete_empty_list(self, model: ModelId, name: str) -> None:
        r"""Delete the list of aliases of a model that does not exist any more.

        Args:
            model: ID of the model
            name: name of an alias that was deleted,
                maybe by a process that found no list

        Raises:
            InvalidDocumentError: if the list is not valid
            RepositoryError: if it cannot be read or deleted

        """
        self._settle(model, name)
        path, source = layout.list_path(model), f"The list of aliases of {model}"
        stored = self.backend.read_object(path, document.MAX_BYTES)
        if stored and not _names(document.load(stored.data, source), source):
            self.backend.delete_object(path, stored.etag)

    def _log_alias(
        self, name: str, before: ModelId | None, after: ModelId | None
    ) -> None:
        logger.info(
            "Alias '%s' in %s: %s -> %s.",
            name,
            self.repository,
            before or "nothing",
            after or "nothing",
        )

    def settle_list(self, model: ModelId, names: Iterable[str]) -> None:
        r"""Let the list of aliases of a model agree with aliases.

        A damaged list is rebuilt.

        Args:
            model: ID of the model
            names: names of aliases that the list lacks, or names wrongly

        Raises:
            InvalidDocumentError: if one of the aliases is not valid
            RepositoryError: if a record cannot be read or written

        """
        self._change_list(model)
        for name in names:
            self._settle(model, name)

    def _settle(self, model: ModelId, name: str) -> None:
        r"""Let a list agree with an alias that another process may move meanwhile.

        A process that changes a list reads the alias afterwards,
        and a process that moves an alias reads both lists,
        so that the last one leaves them in agreement.
        """
        from audmodel.core.backend.errors import DamagedObjectError

        for _ in range(_ATTEMPTS):
            listed: bool | None = None
            # A damaged list is rebuilt when it is changed
            with contextlib.suppress(InvalidDocumentError, DamagedObjectError):
                listed = name in self.listed_aliases(model)
            wanted = self.alias(name) == model
            if listed is wanted:
                return
            if wanted:
                self._change_list(model, add=[name])
            else:
                self._change_list(model, remove=[name])

    def _change_list(
        self,
        model: ModelId,
        *,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        is_new: bool = False,
    ) -> None:
        source = f"The list of aliases of {model}"

        def change(current: dict[str, Any]) -> dict[str, Any]:
            names = {*_names(current, source), *add}
            return {"aliases": sorted(names.difference(remove))}

        change_document(
            self.backend,
            layout.list_path(model),
            change,
            "alias",
            source,
            is_new=is_new,
            rebuild=partial(self._recount, model),
        )

    def _recount(self, model: ModelId) -> dict[str, Any]:
        r"""List of aliases of a model, made from the aliases themselves."""
        names = []
        from audmodel.core.backend.errors import DamagedObjectError

        for name in self.alias_names():
            # One that is damaged points to no model
            with contextlib.suppress(InvalidDocumentError, DamagedObjectError):
                if self.alias(name) == model:
                    names.append(name)
        return {"aliases": names}


def _names(data: dict[str, Any], source: str) -> list[str]:
    names = data.get("aliases", [])
    if not isinstance(names, list):
        raise InvalidDocumentError(f"'aliases' in {source} is not a list.")
    return [name for name in names if isinstance(name, str) and uid.is_alias(name)]

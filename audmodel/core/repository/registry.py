r"""Records of a repository.

A model exists if its header does.
The claim is only there while a model is published.
The alias record says which model an alias points to.
The list of aliases of a model says only where to look:
it holds all aliases of the model, and maybe some that have moved on.

"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import copy
from functools import partial
import logging
import random
import time
from typing import TYPE_CHECKING
from typing import Any

from audmodel.core import uid
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.errors import InvalidIdError
from audmodel.core.repository import header as header_module
from audmodel.core.repository import layout
from audmodel.core.repository.header import Header
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document


if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from audmodel.core.backend.base import ObjectBackend
    from audmodel.core.backend.base import ObjectReader
    from audmodel.core.backend.base import StoredObject


logger = logging.getLogger("audmodel")

# Attempts to change an object that other processes change at the same time
_ATTEMPTS = 100


class Registry:
    r"""Records of one repository.

    Args:
        backend: connection to the repository
        place: the repository, as text for messages

    """

    def __init__(self, backend: ObjectBackend, place: str = "") -> None:
        self.backend = backend
        self.place = place

    # ------------------------------------------------------------ models

    def header(self, model: ModelId) -> tuple[Header, bytes] | None:
        r"""Header of a model.

        Args:
            model: ID of the model

        Returns:
            header and its stored form,
            or ``None`` if the model does not exist

        Raises:
            InvalidDocumentError: if the header is not valid
            RepositoryError: if it cannot be read

        """
        path = layout.record_path(model, "header")
        stored = self.backend.read_object(path, document.MAX_BYTES)
        if stored is None:
            return None
        source = f"The header of model {model}"
        return header_module.parse(stored.data, model, source), stored.data

    def header_url(self, model: ModelId) -> str:
        r"""Where the header of a model is, which no other repository has as well.

        Args:
            model: ID of the model

        """
        return self.backend.object_url(layout.record_path(model, "header"))

    def versions(self, short: str) -> set[str]:
        r"""Versions of a model.

        Args:
            short: short ID of the model

        Returns:
            versions, empty if there is no such model

        Raises:
            RepositoryError: if the repository cannot be read

        """
        folder = layout.records_folder(short)
        return {model.version for model in self._published(folder)}

    def models(self) -> list[ModelId]:
        r"""All models.

        Returns:
            IDs, in any order

        Raises:
            RepositoryError: if the repository cannot be read

        """
        return list(self._published(layout.RECORDS))

    def _published(self, folder: str) -> Iterator[ModelId]:
        r"""Models whose headers are in a folder, which may hold other files as well."""
        for path in self.backend.list_objects(folder):
            if model := layout.model_of_record(path, "header"):
                yield model

    def open_archive(
        self, model: ModelId, header: Header, tmp_root: str
    ) -> AbstractContextManager[ObjectReader | None]:
        r"""Open the archive of a model.

        Args:
            model: ID of the model
            header: header of the model
            tmp_root: folder for temporary files

        Returns:
            context manager that gives a reader,
            or ``None`` if there is no archive

        Raises:
            RepositoryError: if it cannot be opened

        """
        path = layout.archive_path(model, header.location)
        return self.backend.open_object(path, tmp_root=tmp_root)

    # ------------------------------------------------------------ metadata

    def meta(self, model: ModelId) -> tuple[dict[str, Any], bytes] | None:
        r"""Metadata of a model.

        Args:
            model: ID of the model

        Returns:
            metadata and its stored form,
            or ``None`` if there is none

        Raises:
            InvalidDocumentError: if the metadata is not valid
            RepositoryError: if it cannot be read

        """
        path = layout.record_path(model, "meta")
        stored = self.backend.read_object(path, document.MAX_BYTES)
        if stored is None:
            return None
        source = f"The metadata of model {model}"
        return document.load(stored.data, source), stored.data

    def change_meta(
        self, model: ModelId, meta: Mapping[str, Any], *, replace: bool
    ) -> tuple[dict[str, Any], bytes]:
        r"""Change the metadata of a model.

        Args:
            model: ID of the model
            meta: new or changed fields
            replace: whether ``meta`` replaces everything

        Returns:
            the metadata afterwards and its stored form

        Raises:
            InvalidDocumentError: if the stored metadata is not valid,
                and is not replaced
            InvalidDataError: if ``meta`` cannot be stored
            RepositoryError: if it cannot be changed

        """

        def change(current: dict[str, Any]) -> dict[str, Any]:
            return copy.deepcopy(dict(meta)) if replace else merge(current, meta)

        path = layout.record_path(model, "meta")
        source = f"The metadata of model {model}"
        rebuild = dict if replace else None
        result = self._change(path, change, "meta", source, rebuild=rebuild)
        logger.info(
            "Metadata of '%s' in %s %s: %s.",
            model,
            self.place,
            "replaced" if replace else "changed",
            ", ".join(map(repr, meta)) or "no fields",
        )
        return result

    # ------------------------------------------------------------ aliases

    def alias(self, name: str) -> ModelId | None:
        r"""Model that an alias points to.

        Args:
            name: name of the alias

        Returns:
            ID of the model,
            or ``None`` if there is no such alias

        Raises:
            InvalidDocumentError: if the alias does not name a model ID
            RepositoryError: if it cannot be read

        """
        path = layout.alias_path(name)
        stored = self.backend.read_object(path, document.MAX_BYTES)
        return None if stored is None else _target(stored.data, name)

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

        Args:
            model: ID of the model

        Returns:
            all aliases that point to it,
            and maybe some that did so before

        Raises:
            InvalidDocumentError: if the list is not valid
            RepositoryError: if it cannot be read

        """
        path = layout.list_path(model)
        stored = self.backend.read_object(path, document.MAX_BYTES)
        if stored is None:
            return []
        source = f"The list of aliases of {model}"
        return _names(document.load(stored.data, source), source)

    def set_alias(self, name: str, model: ModelId, *, is_new: bool = False) -> None:
        r"""Let an alias point to a model.

        The list of the model is extended first
        and the list of the previous model is shortened last,
        so that the lists never lack an alias,
        even if the process ends in between.

        Args:
            name: name of the alias
            model: ID of the model, which has to exist
            is_new: whether model and alias are probably new,
                which saves a look at their records

        Raises:
            InvalidDocumentError: if a stored record is not valid
            RepositoryError: if a record cannot be read or written

        """
        self._list_alias(model, name, is_new=is_new)
        previous: list[ModelId] = []

        def change(current: dict[str, Any]) -> dict[str, Any]:
            previous.clear()
            # An alias that names no model is in no list
            with contextlib.suppress(InvalidDocumentError):
                previous.append(_target_of(current, name))
            return {"uid": str(model)}

        path, source = layout.alias_path(name), f"The alias '{name}'"
        self._change(path, change, "alias", source, is_new=is_new, rebuild=dict)
        before = str(previous[0]) if previous else "nothing"
        logger.info("Alias '%s' in %s: %s -> %s.", name, self.place, before, model)
        for other in previous:
            if other != model:
                self._settle(other, name)
                self._settle(model, name)

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
        path, source = layout.list_path(model), f"The list of aliases of {model}"

        def change(current: dict[str, Any]) -> dict[str, Any]:
            return {"aliases": sorted({*_names(current, source)})}

        rebuild = partial(self._recount, model)
        self._change(path, change, "alias", source, rebuild=rebuild)
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
                self._list_alias(model, name)
            else:
                self._unlist_alias(model, name)

    def _list_alias(self, model: ModelId, name: str, *, is_new: bool = False) -> None:
        path, source = layout.list_path(model), f"The list of aliases of {model}"

        def change(current: dict[str, Any]) -> dict[str, Any]:
            return {"aliases": sorted({*_names(current, source), name})}

        rebuild = partial(self._recount, model)
        self._change(path, change, "alias", source, is_new=is_new, rebuild=rebuild)

    def _unlist_alias(self, model: ModelId, name: str) -> None:
        path, source = layout.list_path(model), f"The list of aliases of {model}"

        def change(current: dict[str, Any]) -> dict[str, Any]:
            return {"aliases": sorted({*_names(current, source)} - {name})}

        rebuild = partial(self._recount, model)
        self._change(path, change, "alias", source, rebuild=rebuild)

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

    # ------------------------------------------------------------ change

    def _change(
        self,
        path: str,
        change: Callable[[dict[str, Any]], dict[str, Any]],
        label: str,
        source: str,
        *,
        is_new: bool = False,
        rebuild: Callable[[], dict[str, Any]] | None = None,
    ) -> tuple[dict[str, Any], bytes]:
        r"""Read, change and write a document, and lose no concurrent change.

        Args:
            path: path of the document
            change: gives the new content for the current one,
                called again if another process was faster
            label: what the content is, for messages
            source: what the document is, for messages
            is_new: whether to try without reading first
            rebuild: gives the content if the stored one is damaged,
                which is an error if it is not given

        Returns:
            new content and its stored form

        """
        from audmodel.core.backend.errors import HiddenError
        from audmodel.core.backend.errors import RepositoryError

        for attempt in range(_ATTEMPTS):
            start = time.monotonic()
            stored = None
            if attempt or not is_new:
                # If the record is hidden, try to create it
                with contextlib.suppress(HiddenError):
                    stored = self._read(path, may_be_damaged=rebuild is not None)
            try:
                changed = change(_content(stored, source))
            except InvalidDocumentError:
                if rebuild is None:
                    raise
                changed = change(rebuild())
            data = document.dump(changed, label)
            if self._replace(path, data, stored):
                return changed, data
            if attempt or not is_new:
                _pause(attempt, time.monotonic() - start)
        raise RepositoryError(
            f"{source} could not be changed, since other processes changed it "
            f"during each of {_ATTEMPTS} attempts. Try again later."
        )

    def _read(self, path: str, *, may_be_damaged: bool) -> StoredObject | None:
        if may_be_damaged:
            return self.backend.read_damaged(path, document.MAX_BYTES)
        return self.backend.read_object(path, document.MAX_BYTES)

    def _replace(self, path: str, data: bytes, stored: StoredObject | None) -> bool:
        r"""Store a document, unless another process changed it since it was read."""
        if stored is None:
            return self.backend.create_object(path, data)
        if stored.data == data and not stored.is_damaged:
            return True
        return self.backend.replace_object(path, data, stored.tag)


def _pause(attempt: int, duration: float) -> None:
    r"""Wait before a document is changed again.

    Clients whose attempts take long also pause for long,
    since a client that is slower than the pauses of others always loses.
    """
    longest = max(min(0.01 * 2**attempt, 1), duration * min(2**attempt, 2))
    time.sleep(random.uniform(0, longest))  # noqa: S311


def _content(stored: StoredObject | None, source: str) -> dict[str, Any]:
    if stored is None:
        return {}
    if stored.is_damaged:
        raise InvalidDocumentError(f"{source} is damaged.")
    return document.load(stored.data, source)


def merge(current: dict[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    r"""Merge two dictionaries, level by level.

    Args:
        current: dictionary that is extended
        update: new or changed fields

    Returns:
        merged copy

    """
    merged = dict(current)
    for key, value in update.items():
        known = merged.get(key)
        if isinstance(known, dict) and isinstance(value, Mapping):
            merged[key] = merge(known, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _target(content: bytes, name: str) -> ModelId:
    return _target_of(document.load(content, f"The alias '{name}'"), name)


def _target_of(data: dict[str, Any], name: str) -> ModelId:
    target = data.get("uid")
    model = None
    if isinstance(target, str):
        with contextlib.suppress(InvalidIdError):
            model = uid.parse(target)
    if not isinstance(model, ModelId):
        raise InvalidDocumentError(
            f"The alias '{name}' does not name a model ID: {str(target)[:100]!r}."
        )
    return model


def _names(data: dict[str, Any], source: str) -> list[str]:
    names = data.get("aliases", [])
    if not isinstance(names, list):
        raise InvalidDocumentError(f"'aliases' in {source} is not a list.")
    return [name for name in names if isinstance(name, str) and uid.is_alias(name)]

r"""What publishers that died left in a repository.

All of it is harmless: a model exists if its header does.
The next publisher of the same model replaces what it finds.
But it takes room.

"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
import contextlib
import dataclasses
from dataclasses import dataclass
import datetime
from functools import partial

from audmodel.core import claims
from audmodel.core import document
from audmodel.core import uid as ids
from audmodel.core.backend import conditions
from audmodel.core.registry import Registry
from audmodel.core.uid import ModelId
from audmodel.errors import InvalidDocumentError
from audmodel.errors import InvalidIdError
from audmodel.errors import PublishConflictError


_RECORDS = "/_uid/"
_ALIASES = "/_alias/"
_REMOVABLE = {
    "archive": "archive of a model that was not published",
    "metadata": "metadata of a model that was not published",
    "claim": "right to publish of a publisher that is gone",
    "upload": "part of an object that was not stored",
    "list of aliases": "list of aliases of a model that does not exist",
    "probe": "object of a test of the storage",
}


@dataclass(frozen=True)
class Leftover:
    r"""Something that nobody needs.

    Args:
        path: path of the object in the repository
        kind: ``'archive'``, ``'metadata'``, ``'claim'``, ``'upload'``,
            ``'list of aliases'``, ``'probe'``,
            or ``'alias'`` for one whose model does not exist,
            which is reported and never removed
        uid: ID of the model it belongs to, if it belongs to one
        date: when it was stored
        removed: whether it was removed

    """

    __module__ = "audmodel"

    path: str
    kind: str
    uid: str | None
    date: str
    removed: bool = False

    def __str__(self) -> str:
        what = _REMOVABLE.get(self.kind, f"alias of the missing model {self.uid}")
        state = ", removed" if self.removed else ""
        return f"{self.path} ({what}, {self.date}{state})"


@dataclass(frozen=True)
class _Candidate:
    r"""Something that may be left over, and how to remove it."""

    found: Leftover
    model: ModelId | None
    remove: Callable[[], None]


def find(registry: Registry, *, remove: bool, days: int) -> list[Leftover]:
    r"""Find what dead publishers left.

    Args:
        registry: where to look
        remove: whether to remove it
        days: days since it was stored

    Returns:
        what was found, by path

    Raises:
        RepositoryError: if the repository cannot be read or changed

    """
    today = datetime.datetime.now(datetime.UTC).date()
    try:
        latest = today - datetime.timedelta(days)
    except OverflowError:
        return []  # nothing is older than the calendar
    candidates = [
        candidate
        for candidate in _Search(registry).candidates()
        if candidate.found.date <= latest.isoformat()
    ]
    if not remove:
        found = [candidate.found for candidate in candidates]
    else:
        found = _remove(registry, candidates)
    return sorted(found, key=lambda leftover: leftover.path)


def _remove(registry: Registry, candidates: list[_Candidate]) -> list[Leftover]:
    by_model: dict[ModelId | None, list[_Candidate]] = {}
    for candidate in candidates:
        by_model.setdefault(candidate.model, []).append(candidate)
    found = []
    for model, group in by_model.items():
        if model is None:
            for candidate in group:
                candidate.remove()
            done = group
        else:
            done = _remove_of(registry, model, group)
        for candidate in group:
            removed = candidate in done and candidate.found.kind in _REMOVABLE
            found.append(dataclasses.replace(candidate.found, removed=removed))
    return found


def _remove_of(
    registry: Registry, model: ModelId, group: list[_Candidate]
) -> list[_Candidate]:
    r"""Remove what is left of one model, unless somebody publishes it."""
    path = registry.record_path(model, "claim")
    stored = registry.backend.read_object(path, document.MAX_BYTES)
    if stored is not None and claims.is_alive(stored.data):
        return []
    try:
        # Whoever has the claim is alone
        with claims.claimed(registry, model) as claim:
            path = registry.record_path(model, "header")
            if registry.backend.read_object(path, document.MAX_BYTES) is not None:
                # Nothing but claims and uploads is left of a published model
                group = [c for c in group if c.found.kind in ("claim", "upload")]
            for candidate in group:
                claim.fence()
                candidate.remove()
    except PublishConflictError:
        return []
    return group


class _Search:
    r"""Look for what belongs to no model.

    Args:
        registry: where to look

    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._backend = registry.backend
        self._paths = self._backend.list_objects("/")
        self._published = {
            model for path in self._paths if (model := _record(path, "header"))
        }

    def candidates(self) -> Iterator[_Candidate]:
        r"""What may be left over."""
        pointed = yield from self._aliases()
        for path in self._paths:
            if path.startswith(conditions.FOLDER):
                yield from self._object(path, "probe", None)
            elif (model := _archive(path)) or (model := _record(path, "meta")):
                if model not in self._published:
                    kind = "archive" if path.endswith(".zip") else "metadata"
                    yield from self._object(path, kind, model)
            elif model := _record(path, "claim"):
                yield from self._claim(path, model)
            # It is needed if the model is published again
            elif (model := _list(path)) and model not in self._published | pointed:
                yield from self._object(path, "list of aliases", model)
        for upload in self._backend.list_uploads("/"):
            model = None if upload.is_dead else _archive(upload.path)
            # Others may use the bucket for something else
            if upload.is_dead or model:
                yield _Candidate(
                    Leftover(upload.path, "upload", _name(model), upload.date),
                    model,
                    partial(self._backend.abort_upload, upload),
                )

    def _object(
        self, path: str, kind: str, model: ModelId | None
    ) -> Iterator[_Candidate]:
        import audbackend

        # It may be gone by now
        with contextlib.suppress(audbackend.BackendError):
            date = self._backend.date(path)
            yield _Candidate(
                Leftover(path, kind, _name(model), date),
                model,
                lambda: self._backend.delete_object(path),
            )

    def _claim(self, path: str, model: ModelId) -> Iterator[_Candidate]:
        stored = self._backend.read_object(path, document.MAX_BYTES)
        if stored is not None and not claims.is_alive(stored.data):
            for candidate in self._object(path, "claim", model):
                # Whoever took it over gives it up
                yield dataclasses.replace(candidate, remove=lambda: None)

    def _aliases(self) -> Generator[_Candidate, None, set[ModelId]]:
        r"""Aliases of models that do not exist.

        Returns:
            models that have an alias

        """
        pointed: set[ModelId] = set()
        for path in self._paths:
            name = path.removeprefix(_ALIASES).split("/")[0]
            if not path.startswith(_ALIASES) or not ids.is_alias(name):
                continue
            with contextlib.suppress(InvalidDocumentError):
                model = self._registry.alias(name)
                if model is None:
                    continue
                pointed.add(model)
                if model not in self._published:
                    for candidate in self._object(path, "alias", model):
                        yield dataclasses.replace(candidate, remove=lambda: None)
        return pointed


def _name(model: ModelId | None) -> str | None:
    return None if model is None else str(model)


def _archive(path: str) -> ModelId | None:
    r"""Model that an archive belongs to."""
    if path.startswith((_RECORDS, _ALIASES)) or path.count("/") < 4:
        return None
    short, version, name = path.split("/")[-3:]
    model = _model(short, version)
    return model if name == f"{model}.zip" else None


def _record(path: str, kind: str) -> ModelId | None:
    r"""Model that a record belongs to."""
    if not path.startswith(_RECORDS) or path.count("/") != 4:
        return None
    short, version = path.split("/")[2:4]
    model = _model(short, version)
    return model if model and path == Registry.record_path(model, kind) else None


def _list(path: str) -> ModelId | None:
    r"""Model that a list of aliases belongs to."""
    if not path.startswith(_RECORDS) or path.count("/") != 4:
        return None
    name, version = path.split("/")[2:4]
    model = _model(name.removesuffix(".aliases"), version)
    return model if model and path == Registry.list_path(model) else None


def _model(short: str, version: str) -> ModelId | None:
    try:
        model = ids.parse(f"{short}-{version}")
    except InvalidIdError:
        return None
    return model if model == ModelId(short, version) else None

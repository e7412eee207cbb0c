r"""Orphans: objects that no model needs, since the process they are from has died.

A model exists if its header does, so objects without header are not needed.
But not all of them are orphans:
a backup may be about to be restored, a header may be deleted by mistake.
So only objects that the claim of a dead process names are removed,
unless the caller asks for more.

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
import logging

from audmodel.core.backend import conditions
from audmodel.core.backend.objects import Upload
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.errors import PublishConflictError
from audmodel.core.repository import claim_record
from audmodel.core.repository import claims
from audmodel.core.repository import layout
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document


_LIST = "list of aliases"
# Models of objects that are orphans without a header
_MODELS: dict[str, Callable[[str], ModelId | None]] = {
    "archive": layout.model_of_archive,
    "metadata": partial(layout.model_of_record, kind="meta"),
    "signature": layout.model_of_signature,
    _LIST: layout.model_of_list,
}
logger = logging.getLogger("audmodel")

_DESCRIPTIONS = {
    "archive": "archive of a model that was not published",
    "metadata": "metadata of a model that was not published",
    "signature": "signature of a model that does not exist",
    "claim": "claim of a dead process",
    "upload": "unfinished upload of an object",
    _LIST: "list of aliases of a model that does not exist",
    "probe": "object of a check of the storage",
}


@dataclass(frozen=True)
class Leftover:
    r"""Orphan, an object that no model needs.

    Args:
        path: path of the object in the repository
        kind: ``'archive'``, ``'metadata'``, ``'claim'``, ``'upload'``,
            ``'list of aliases'``, ``'signature'``, ``'probe'``,
            or ``'alias'`` for one whose model does not exist,
            which is removed only if the model was being deleted
        uid: ID of the model it belongs to, if it belongs to one
        date: when it was stored
        removed: whether it was removed
        proven: whether it is certain that a process left it that died
            while it published or deleted the model.
            Otherwise it may be part of a backup that is being restored,
            or of a model whose header was lost

    """

    __module__ = "audmodel"

    path: str
    kind: str
    uid: str | None
    date: str
    removed: bool = False
    proven: bool = False

    def __str__(self) -> str:
        what = _DESCRIPTIONS.get(self.kind, f"alias of the missing model {self.uid}")
        state = ", removed" if self.removed else ""
        if not self.proven and not self.removed:
            state = ", not proven to be an orphan"
        return f"{self.path} ({what}, {self.date}{state})"


@dataclass(frozen=True)
class _Candidate:
    r"""Object that may be an orphan, and how to remove it."""

    found: Leftover
    time: datetime.datetime
    model: ModelId | None
    archive: str
    claim: bytes | None
    remove: Callable[[], bool]


def find(
    registry: Registry,
    *,
    remove: bool,
    min_age: datetime.timedelta,
    unproven: bool,
) -> list[Leftover]:
    r"""Find orphans.

    Args:
        registry: where to look
        remove: whether to remove them
        min_age: least time since they were stored
        unproven: whether to remove those as well
            that are not proven to be left by a publisher

    Returns:
        orphans, sorted by path

    Raises:
        RepositoryError: if the repository cannot be read or changed

    """
    try:
        # Without permission to write, the clock of this machine has to do
        now = registry.backend.now() if remove else registry.now()
        latest = now - min_age
    except OverflowError:
        return []  # nothing is older than the calendar
    candidates = [c for c in _Search(registry).candidates() if c.time <= latest]
    found = [candidate.found for candidate in candidates]
    if remove:
        chosen = [
            candidate
            for candidate in candidates
            if candidate.found.proven or (unproven and candidate.found.kind != "alias")
        ]
        removed = _remove(registry, chosen)
        for orphan in sorted(removed, key=lambda orphan: orphan.path):
            logger.info("Removed '%s' from %s.", orphan.path, registry.repository)
        found = [
            dataclasses.replace(orphan, removed=orphan in removed) for orphan in found
        ]
    return sorted(found, key=lambda orphan: orphan.path)


def _remove(registry: Registry, candidates: list[_Candidate]) -> set[Leftover]:
    by_model: dict[ModelId | None, list[_Candidate]] = {}
    for candidate in candidates:
        by_model.setdefault(candidate.model, []).append(candidate)
    removed: set[Leftover] = set()
    for model, group in by_model.items():
        if model is None:
            removed |= {c.found for c in group if c.remove()}
        else:
            removed |= _remove_of(registry, model, group)
    return removed


def _remove_of(
    registry: Registry, model: ModelId, group: list[_Candidate]
) -> set[Leftover]:
    r"""Remove the orphans of one model, unless it is being published."""
    backend = registry.backend
    stored = backend.read_object(layout.record_path(model, "claim"), document.MAX_BYTES)
    if stored is not None and claim_record.is_alive(stored.data):
        return set()
    archive = (stored and claim_record.archive_of(stored.data)) or group[0].archive
    removed = set()
    try:
        # The claim keeps publishers away
        with claims.claimed(registry, model, archive, may_be_published=True) as claim:
            path = layout.record_path(model, "header")
            # Its publisher may have gone on since its claim was read
            if (
                claim.replaced != group[0].claim
                or backend.read_object(path, document.MAX_BYTES) is not None
            ):
                # The model is published: only claims and uploads are orphans
                group = [c for c in group if c.found.kind in ("claim", "upload")]
            for candidate in group:
                claim.fence()
                if candidate.remove():
                    removed.add(candidate.found)
    except PublishConflictError:
        return {orphan for orphan in removed if orphan.kind != "claim"}
    return removed


class _Search:
    r"""Look for objects that belong to no model."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._backend = registry.backend
        self._paths = layout.own_paths(self._backend.list_objects("/"))
        self._published = {
            model
            for path in self._paths
            if (model := layout.model_of_record(path, "header"))
        }
        # Claims that may be of dead publishers
        self._claims: dict[ModelId, bytes] = {}
        # Models whose deletion was not finished, and when it was begun
        self._deletions: dict[ModelId | None, datetime.datetime] = {}

    def candidates(self) -> Iterator[_Candidate]:
        r"""Objects that may be orphans."""
        for path in self._paths:
            if model := layout.model_of_record(path, "claim"):
                yield from self._claim(path, model)
        pointed = yield from self._aliases()
        # A list is needed if the model is published again
        listed = self._published | pointed
        for path in self._paths:
            kind, model = _kind(path)
            needed = listed if kind == _LIST else self._published
            if kind is not None and model not in needed:
                yield from self._object(path, kind, model)
        for upload in self._backend.list_uploads("/"):
            yield from self._upload(upload)

    def _aliases(self) -> Generator[_Candidate, None, set[ModelId]]:
        r"""Aliases of models that are not published, and all models with an alias."""
        pointed: set[ModelId] = set()
        for path in self._paths:
            if (alias := layout.alias_of(path)) and (target := self._target(alias)):
                if target not in self._deletions:
                    pointed.add(target)
                if target not in self._published:
                    yield from self._object(path, "alias", target)
        return pointed

    def _object(
        self, path: str, kind: str, model: ModelId | None
    ) -> Iterator[_Candidate]:
        state = self._backend.stat_object(path)
        if state is None:
            return  # it is gone by now
        proven = self._is_proven(path, kind, model, state.etag)
        yield _Candidate(
            Leftover(path, kind, _name(model), _day(state.time), proven=proven),
            # What a deletion has left is removed together
            self._deletions.get(model, state.time),
            model,
            path,
            self._claims.get(model) if model else None,
            partial(self._backend.delete_object, path, state.etag),
        )

    def _is_proven(
        self, path: str, kind: str, model: ModelId | None, etag: str
    ) -> bool:
        if kind in ("claim", "probe"):
            return True
        if kind == "archive":
            claim = self._claims.get(model) if model else None
            return claim is not None and claim_record.has_left(
                claim, path, etag, self._backend
            )
        return model in self._deletions

    def _claim(self, path: str, model: ModelId) -> Iterator[_Candidate]:
        stored = self._backend.read_object(path, document.MAX_BYTES)
        if stored is None or claim_record.is_alive(stored.data):
            return
        self._claims[model] = stored.data
        for candidate in self._object(path, "claim", model):
            if claim_record.is_deleted_by(stored.data):
                self._deletions[model] = candidate.time
            # The process that takes it over deletes it at the end
            yield dataclasses.replace(candidate, remove=lambda: True)

    def _upload(self, upload: Upload) -> Iterator[_Candidate]:
        model = None if upload.is_dead else layout.model_of_archive(upload.path)
        # The bucket may be used for something else as well
        if not upload.is_dead and model is None:
            return
        claim = self._claims.get(model) if model else None
        proven = upload.is_dead or (
            claim is not None and claim_record.archive_of(claim) == upload.path
        )

        def abort() -> bool:
            self._backend.abort_upload(upload)
            return True

        date = _day(upload.time)
        yield _Candidate(
            Leftover(upload.path, "upload", _name(model), date, proven=proven),
            upload.time,
            model,
            upload.path,
            claim,
            abort,
        )

    def _target(self, alias: str) -> ModelId | None:
        with contextlib.suppress(InvalidDocumentError):
            return self._registry.alias(alias)
        return None


def _day(time: datetime.datetime) -> str:
    return time.astimezone(datetime.UTC).date().isoformat()


def _name(model: ModelId | None) -> str | None:
    return None if model is None else str(model)


def _kind(path: str) -> tuple[str | None, ModelId | None]:
    r"""Kind of an object that may be an orphan, and the model that it belongs to."""
    if path.startswith(conditions.FOLDER):
        return "probe", None
    for kind, model_of in _MODELS.items():
        if model := model_of(path):
            return kind, model
    return None, None

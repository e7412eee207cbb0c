r"""Copy models from one repository to another one, byte by byte.

The objects of a model stay as they are,
so a copy has the same ID, and its header names the same archive.

"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import contextlib
import logging
import time

from audmodel.core.archive import end
from audmodel.core.archive import format
from audmodel.core.archive.passing import Passer
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.copies import CopySource
from audmodel.core.backend.errors import CopyError
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.reader import ObjectReader
from audmodel.core.errors import ArchiveError
from audmodel.core.errors import ArchiveMismatchError
from audmodel.core.errors import AudmodelError
from audmodel.core.errors import ModelExistsError
from audmodel.core.errors import PublishConflictError
from audmodel.core.errors import noting
from audmodel.core.operations import committing
from audmodel.core.operations import moving
from audmodel.core.operations.archives import naming
from audmodel.core.operations.copy_plans import Plan
from audmodel.core.operations.copy_plans import Route
from audmodel.core.operations.copy_plans import has_same
from audmodel.core.operations.copy_plans import no_archive
from audmodel.core.operations.results import CopiedModel
from audmodel.core.process.requests import prefetch_requests
from audmodel.core.process.termination import terminable
from audmodel.core.progress.counters import Counter
from audmodel.core.progress.counters import StartProgress
from audmodel.core.repository import layout
from audmodel.core.repository import pointing
from audmodel.core.repository import signatures
from audmodel.core.repository.claims import Claim
from audmodel.core.repository.claims import claimed
from audmodel.core.repository.header import ArchiveIdentity
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document


logger = logging.getLogger("audmodel")


def carry_out(
    route: Route, plans: Sequence[Plan], start_progress: StartProgress
) -> list[CopiedModel]:
    r"""Copy models: small ones side by side, large ones in parts.

    Args:
        route: from where to where
        plans: what is to be done
        start_progress: called with the number of bytes of each archive to copy,
            gives what counts the bytes that are sent, or copied by the storage

    Returns:
        what was done, in the same order

    Raises:
        ArchiveError: if an archive is missing, damaged,
            or not the one that was published.
            All other models are copied
        ModelExistsError: if another process published a model
        PublishConflictError: if another process publishes or deletes a model
        RepositoryError: if something cannot be read or stored
        WriteUncertainError: if something may be stored later

    """
    large = route.num_workers * format.PART_SIZE
    by = moving.mover(None)
    copies = _Copies(route, plans, start_progress)
    small = [item for item in plans if item.size <= large]
    with contextlib.closing(
        prefetch_requests(copies.copy, small, num_workers=route.num_workers)
    ) as done:
        for _ in done:
            pass
    with noting("Copied", copies.copied):
        for item in plans:
            if item.size > large:
                copies.copy(item, route.num_workers)
            if copies.is_stopped:
                break
            # An alias may be of several models, in turn
            for name in () if item.model in copies.failures else item.names.wanted:
                pointing.set_alias(route.registry, name, item.model, by)
        copies.check()
    return results(route, plans)


class _Copies:
    r"""Copies of models, which go on if archives are damaged.

    Args:
        route: from where to where
        plans: what is to be done
        start_progress: called with the number of bytes of each archive to copy

    """

    def __init__(
        self, route: Route, plans: Sequence[Plan], start_progress: StartProgress
    ) -> None:
        self._route = route
        self._counters = {
            item.model: start_progress(item.size) for item in plans if not item.is_done
        }
        #: IDs of models that were copied
        self.copied: list[str] = []
        #: Why others were not
        self.failures: dict[ModelId, Exception] = {}

    @property
    def is_stopped(self) -> bool:
        r"""Whether an error says that other models cannot be copied either."""
        found = list(self.failures.values())
        return not all(isinstance(error, ArchiveError) for error in found)

    def copy(self, item: Plan, num_workers: int = 1) -> None:
        r"""Copy a model, or what was added to it since it was, and keep its error."""
        if self.is_stopped:
            return
        try:
            if item.is_done:
                # More people may have signed it
                _copy_signatures(self._route, item.model)
                return
            _copy(self._route, item, num_workers, self._counters[item.model])
        except (AudmodelError, OSError) as error:
            # Copies that were begun are completed, and release their claims
            self.failures[item.model] = error
        else:
            self.copied.append(str(item.model))

    def check(self) -> None:
        r"""Raise the error that stopped the others, or the first one, if any."""
        if not self.failures:
            return
        errors = self.failures.values()
        error = min(errors, key=lambda each: isinstance(each, ArchiveError))
        if len(self.failures) > 1:
            error.add_note(f"Not copied: {', '.join(map(str, self.failures))}.")
        raise error


def results(route: Route, plans: Iterable[Plan]) -> list[CopiedModel]:
    r"""What is done if plans are carried out.

    Args:
        route: from where to where
        plans: what is to be done

    """
    return [
        CopiedModel(
            str(item.model),
            route.target,
            item.size,
            not item.is_done,
            item.names.wanted,
            item.names.kept,
        )
        for item in plans
    ]


def _copy(route: Route, item: Plan, num_workers: int, progress: Counter) -> None:
    try:
        _copy_objects(route, item, num_workers, progress)
    except ModelExistsError:
        # Another process may have copied the same model
        if not has_same(route, item.model, item.header, item.content):
            raise


def _copy_objects(
    route: Route, item: Plan, num_workers: int, progress: Counter
) -> None:
    start = time.monotonic()
    model, registry = item.model, route.registry
    path = layout.archive_path(model, item.header.location)
    origin = route.origin.backend
    with origin.open_object(path) as reader:
        if reader is None:
            raise no_archive(route, model, item.header)
        with naming(model, origin.object_url(path)):
            archive = _Archive(
                registry.backend, path, origin, reader, num_workers, progress
            )
            archive.check(item.header.archive)
            has_header = item.has_header
            with (
                terminable(),
                claimed(registry, model, path, may_be_published=has_header) as claim,
            ):
                _store(route, item, claim, archive)
    logger.info(
        "Copied '%s' from %s to %s in %.2f s: an archive of %d bytes, by %s.",
        model,
        route.source,
        route.target,
        time.monotonic() - start,
        item.size,
        archive.how,
    )


def _store(route: Route, item: Plan, claim: Claim, archive: _Archive) -> None:
    if item.has_header:
        _store_lost(route, item, claim, archive)
        return
    model, registry = item.model, route.registry
    committing.store(registry, model, claim, archive, _meta(route, model))
    # Once the copy is there, it is signed
    _copy_signatures(route, model)
    committing.commit(registry, model, item.content, claim, archive)


def _copy_signatures(route: Route, model: ModelId) -> None:
    r"""Copy the signatures of a model."""
    for signature in signatures.read(route.origin.backend, model):
        signatures.store(route.registry.backend, model, signature)


def _store_lost(route: Route, item: Plan, claim: Claim, archive: _Archive) -> None:
    r"""Store the archive of a model that has lost it, or has a truncated one.

    Raises:
        PublishConflictError: if the model was deleted or replaced in the meantime
        RepositoryError: if the archive cannot be stored

    """
    found = route.registry.header(item.model)
    if found is None or found[0].archive != item.header.archive:
        raise PublishConflictError(
            f"The model '{item.model}' in {route.target} was deleted or replaced "
            "in the meantime. Nothing was stored. Try again."
        )
    archive.restore(claim)


def _meta(route: Route, model: ModelId) -> bytes:
    r"""Metadata of a model as it is stored."""
    path = layout.record_path(model, "meta")
    stored = route.origin.backend.read_object(path, document.MAX_BYTES)
    return document.dump({}, "meta") if stored is None else stored.data


class _Archive(committing.StoredArchive):
    r"""Archive that is copied from another repository.

    Args:
        backend: where it is copied to
        path: path of the archive, the same in both repositories
        origin: where it is copied from
        reader: its bytes
        num_workers: number of threads
        progress: counts the bytes that are sent, or copied by the storage

    """

    def __init__(
        self,
        backend: ObjectBackend,
        path: str,
        origin: ObjectBackend,
        reader: ObjectReader,
        num_workers: int,
        progress: Counter,
    ) -> None:
        super().__init__(backend, path)
        self._origin = origin
        self._reader = reader
        self._num_workers = num_workers
        self._progress = progress
        #: Who copied the bytes, for messages
        self.how = ""
        self._end = end.read(reader)

    @property
    def identity(self) -> ArchiveIdentity:
        return ArchiveIdentity(self._reader.size, end.digest(self._end))

    def check(self, expected: ArchiveIdentity | None) -> None:
        r"""Make sure that it is the archive that was published with a header.

        Args:
            expected: what the header says, ``None`` if it says nothing

        Raises:
            ArchiveMismatchError: if it is another one

        """
        if expected not in (None, self.identity):
            raise ArchiveMismatchError(
                "it is not the one that was published with the header"
            )

    def _write(
        self, claim: Claim, check: Callable[[], None], check_commit: Callable[[], None]
    ) -> str | None:
        try:
            etag = self._let_storage_copy(claim, check_commit)
            self.how = "the storage"
        except CopyError as error:
            claim.fence()
            self._progress.restart(self._reader.size)
            logger.info("'%s' is fetched and sent: %s", self.path, error)
            etag = self._pass_on(claim, check, check_commit)
            self.how = f"{self._num_workers} worker(s)"
        if etag is not None and not self.is_identical():
            raise RepositoryError(
                f"The copy of the archive at '{self._backend.object_url(self.path)}' "
                "is not what was copied. Check the storage."
            )
        return etag

    def _let_storage_copy(
        self, claim: Claim, check_commit: Callable[[], None]
    ) -> str | None:
        reader = self._reader
        return self._backend.copy_object(
            self.path,
            CopySource(self.path, reader.etag, reader.size, reader.tail),
            self._origin,
            num_workers=self._num_workers,
            before_commit=check_commit,
            replaces=claim.left,
            new_etag=claim.is_replacement,
            copied=self._progress.copied,
        )

    def _pass_on(
        self,
        claim: Claim,
        check: Callable[[], None],
        check_commit: Callable[[], None],
    ) -> str | None:
        passer = Passer(
            self._reader,
            end.parse(self._end, self._reader.size),
            num_workers=self._num_workers,
        )
        with contextlib.closing(committing.checked(passer.chunks(), check)) as chunks:
            return self._backend.write_object(
                self.path,
                chunks,
                num_workers=self._num_workers,
                before_commit=check_commit,
                replaces=claim.left,
                new_etag=claim.is_replacement,
                sent=self._progress,
                copied=self._progress.copied,
            )

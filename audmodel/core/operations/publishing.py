r"""Publish a model: claim its ID, make its archive, store its objects, commit.

The claim excludes other publishers of the same ID,
since they would store their archive at the same path.

"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import datetime
import logging
import os
import time
import warnings

from audmodel.core import disk
from audmodel.core import uid as ids
from audmodel.core.archive.writer import ArchiveWriter
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.errors import CopyError
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.errors import ArchiveMismatchError
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.errors import InvalidInputError
from audmodel.core.errors import ModelExistsError
from audmodel.core.errors import ModelNotFoundError
from audmodel.core.errors import PublishConflictError
from audmodel.core.home import expand_home
from audmodel.core.operations import committing
from audmodel.core.operations import signing
from audmodel.core.operations.base import Base
from audmodel.core.operations.base import open_base
from audmodel.core.operations.publication import Publication
from audmodel.core.operations.published import is_published
from audmodel.core.operations.suspicious import message
from audmodel.core.process.termination import terminable
from audmodel.core.progress.counters import Counter
from audmodel.core.progress.counters import StartProgress
from audmodel.core.progress.counters import no_progress
from audmodel.core.repository import layout
from audmodel.core.repository import pointing
from audmodel.core.repository import signatures
from audmodel.core.repository.claims import Claim
from audmodel.core.repository.claims import claimed
from audmodel.core.repository.config import is_embedded
from audmodel.core.repository.conflicts import check_alias_found
from audmodel.core.repository.conflicts import check_found
from audmodel.core.repository.conflicts import check_free
from audmodel.core.repository.header import ArchiveIdentity
from audmodel.core.repository.header import Header
from audmodel.core.repository.lookup import open_registry
from audmodel.core.repository.registry import Mover
from audmodel.core.repository.registry import Registry
from audmodel.core.repository.repository import Repository
from audmodel.core.uid import ModelId


logger = logging.getLogger("audmodel")


def publish(publication: Publication, start_progress: StartProgress) -> None:
    r"""Publish a model, or store the archive of an existing one again.

    If a model may exist with the same files, it only gets the alias.

    Args:
        publication: what to publish, and where
        start_progress: called with the number of bytes of the files,
            gives what counts the bytes that are sent, or copied by the storage,
            and learns how many bytes compression saves

    Raises:
        ArchiveError: if the archive of a model that may exist cannot be read
        ArchiveMismatchError: if a repair would store another archive
        FileChangedError: if a file changes in the meantime
        InvalidDocumentError: if the header of a model that exists is not valid
        InvalidInputError: if the alias would not be found,
            or the header does not say which archive to repair
        ModelExistsError: if the model was published before
        ModelNotFoundError: if the model to repair was not published
        PublishConflictError: if another process publishes the model,
            or the header changes during a repair
        RepositoryError: if something cannot be stored
        WriteUncertainError: if something may be stored later

    """
    repository = publication.repository
    if publication.suspicious:
        logger.warning("%s", message(publication.folder.root, publication.suspicious))
    if is_embedded(repository):
        make_embedded(repository)
    if publication.repair:
        with open_registry(repository) as registry:
            _repair(registry, publication, start_progress(publication.size))
        return
    if publication.alias:
        check_alias_found(publication.alias, repository)
    if publication.exist_ok and _exists(publication, start_progress):
        return
    check_found(publication.model, publication.header, repository)
    _warn_of_prerelease(publication.model.version)
    try:
        with open_registry(repository) as registry:
            _publish(registry, publication, start_progress(publication.size))
    except ModelExistsError:
        # Another publisher was faster
        if not (publication.exist_ok and _exists(publication, no_progress)):
            raise


def _exists(publication: Publication, start_progress: StartProgress) -> bool:
    r"""Whether a model exists with the same files. If it does, it gets the alias."""
    model, alias = publication.model, publication.alias
    with open_registry(publication.repository) as registry:
        if not is_published(registry, publication, start_progress):
            return False
        logger.info(
            "'%s' exists with the same files in %s.", model, registry.repository
        )
        if publication.key is not None:
            signing.sign(model, (publication.repository,), publication.key)
        if alias:
            header = publication.header
            by = Mover(header.author, header.provenance.url)
            pointing.set_alias(registry, alias, model, by)
    return True


def _warn_of_prerelease(version: str) -> None:
    if ids.is_prerelease(version):
        warnings.warn(
            f"The version '{version}' counts as newer than the one without suffix, "
            "so an ID without version loads it. "
            "Give candidates a lower number, e.g. '0.9.0', and an alias.",
            stacklevel=4,
        )


def make_embedded(repository: Repository) -> None:
    r"""Make the folder of the repository that needs no configuration.

    Args:
        repository: this repository

    Raises:
        RepositoryError: if the folder cannot be created

    """
    folder = os.path.join(expand_home(repository.host), repository.name)
    try:
        os.makedirs(folder, exist_ok=True)
        disk.sync_names(folder, expand_home("~"))
    except OSError as error:
        raise RepositoryError(
            f"The repository folder '{folder}' cannot be created: {error.strerror}."
            f"{disk.advice(error)} Configure a repository in another folder, "
            "or set HOME to one that can be written to.",
            error,
        ) from error


def _publish(registry: Registry, publication: Publication, progress: Counter) -> None:
    start = time.monotonic()
    model = publication.model
    check_free(registry, model, publication.header)
    path = layout.archive_path(model, publication.header.location)
    with (
        terminable(),
        open_base(registry, publication.base, model, publication.size) as base,
        claimed(registry, model, path) as claim,
    ):
        # The same parts would give the etag of what a dead publisher stored
        known = None if claim.is_replacement else base
        archive = _Archive(registry.backend, path, publication, progress, known)
        # Once everything is stored, nothing but the header may come
        began, now = time.monotonic(), registry.now()
        committing.store(registry, model, claim, archive, publication.meta)
        provenance = dataclasses.replace(
            publication.header.provenance,
            date=now + datetime.timedelta(seconds=time.monotonic() - began),
        )
        header = dataclasses.replace(
            publication.header, archive=archive.identity, provenance=provenance
        )
        content = header.dump()
        with _signed(registry, publication, content, claim):
            committing.commit(registry, model, content, claim, archive)
        _log("Published", registry, publication, archive, start)
        # The claim keeps the model from being deleted before it has its alias
        if publication.alias:
            _set_alias(registry, publication.alias, model, header)


@contextlib.contextmanager
def _signed(
    registry: Registry, publication: Publication, header: bytes, claim: Claim
) -> Iterator[None]:
    r"""Sign a header before it is stored in the block."""
    if publication.key is None:
        yield
        return
    signature = publication.key.sign(header)
    claim.fence()
    path = signatures.store(registry.backend, publication.model, signature)
    try:
        yield
    except (ModelExistsError, PublishConflictError):
        signatures.remove(registry.backend, path)
        raise


def _repair(registry: Registry, publication: Publication, progress: Counter) -> None:
    r"""Store the archive of an existing model again.

    Archives of the same files are the same, byte by byte,
    so nothing but the published archive is ever stored.

    Raises:
        ArchiveMismatchError: if the files do not make the published archive
        InvalidDocumentError: if the header is not valid
        InvalidInputError: if the header does not say which archive it was
        ModelNotFoundError: if the model was not published
        PublishConflictError: if another process publishes the model,
            or the header changes in the meantime
        FileChangedError: if a file changes in the meantime
        RepositoryError: if the archive cannot be stored

    """
    start = time.monotonic()
    model = publication.model
    found = registry.header(model)
    if found is None:
        raise ModelNotFoundError(
            f"A model with ID '{model}' was not published, so it cannot be repaired."
        )
    expected = found[0].archive
    if expected is None:
        raise InvalidInputError(
            f"The model '{model}' was published by an earlier release, "
            "whose headers do not identify the archive. "
            "Restore the archive from a backup."
        )
    path = layout.archive_path(model, found[0].location)
    with terminable(), claimed(registry, model, path, may_be_published=True) as claim:
        # It may have been removed and published anew before the claim was ours
        if registry.header(model) != found:
            raise PublishConflictError(
                f"The header of '{model}' was replaced or removed in the meantime. "
                "Nothing was stored. Try again if the archive still needs a repair."
            )
        archive = _Archive(registry.backend, path, publication, progress)

        def check() -> None:
            if archive.identity != expected:
                raise ArchiveMismatchError(
                    f"The folder gives another archive of '{model}' than the "
                    "published one: its files or 'compression' differ. "
                    "Nothing was stored."
                )

        archive.restore(claim, check)
    _log("Repaired", registry, publication, archive, start)


def _log(
    what: str,
    registry: Registry,
    publication: Publication,
    archive: _Archive,
    start: float,
) -> None:
    logger.info(
        "%s '%s' in %s in %.2f s: %d files of %d bytes, "
        "an archive of %d bytes, by %d worker(s).",
        what,
        publication.model,
        registry.repository,
        time.monotonic() - start,
        len(publication.files),
        publication.size,
        archive.identity.size,
        publication.num_workers,
    )


class _Archive(committing.StoredArchive):
    r"""Archive that is made of the files of a model.

    Args:
        backend: connection to the repository
        path: path of the archive
        publication: what the archive is made of, and how
        progress: counts the bytes that are sent or copied
        base: archive of which the storage copies parts

    """

    def __init__(
        self,
        backend: ObjectBackend,
        path: str,
        publication: Publication,
        progress: Counter,
        base: Base | None = None,
    ) -> None:
        super().__init__(backend, path)
        self._publication = publication
        self._progress = progress
        self._base = base
        self._writer = self._make_writer()

    def _make_writer(self) -> ArchiveWriter:
        return ArchiveWriter(
            self._publication.files,
            compression=self._publication.compression,
            num_workers=self._publication.num_workers,
            enlarge=self._progress.enlarge,
        )

    def _write(
        self, claim: Claim, check: Callable[[], None], check_commit: Callable[[], None]
    ) -> str | None:
        r"""Write the archive, with parts of the base if the storage copies them."""
        if self._base is not None:
            try:
                return self._compose(self._base, claim, check, check_commit)
            except CopyError as error:
                claim.fence()
                logger.info("'%s' is sent as a whole: %s", self.path, error)
                self._progress.restart(self._publication.size)
                self._writer = self._make_writer()
        # Workers end with the upload, even if its error keeps a reference
        with contextlib.closing(committing.checked(self._writer, check)) as chunks:
            return self._backend.write_object(
                self.path,
                chunks,
                tmp_root=self._publication.tmp_root,
                num_workers=self._publication.num_workers,
                before_commit=check_commit,
                replaces=claim.left,
                new_etag=claim.is_replacement,
                sent=self._progress,
                copied=self._progress.copied,
            )

    def _compose(
        self,
        base: Base,
        claim: Claim,
        check: Callable[[], None],
        check_commit: Callable[[], None],
    ) -> str | None:
        with contextlib.closing(
            committing.checked(self._writer.pieces(), check)
        ) as pieces:
            return self._backend.compose_object(
                self.path,
                map(base.chunk, pieces),
                base.source,
                num_workers=self._publication.num_workers,
                before_commit=check_commit,
                replaces=claim.left,
                sent=self._progress,
                copied=self._progress.copied,
            )

    @property
    def identity(self) -> ArchiveIdentity:
        r"""Size and digest of the archive, for the header."""
        return ArchiveIdentity(self._writer.size, self._writer.digest)


def _set_alias(registry: Registry, alias: str, model: ModelId, header: Header) -> None:
    provenance = header.provenance
    by = Mover(header.author, provenance.url, provenance.date)
    try:
        registry.set_alias(alias, model, by, is_new=True)
    except (RepositoryError, InvalidDocumentError) as error:
        error.add_note(
            f"The model '{model}' was published, but its alias '{alias}' was not set. "
            "Set it with audmodel.set_alias()."
        )
        raise

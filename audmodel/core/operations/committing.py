r"""Store the objects of a model under its claim, and commit.

The header is stored last and only if there is none,
so that a model appears completely or not at all.

"""

from __future__ import annotations

import abc
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
import contextlib
import logging
from typing import TypeVar

from audmodel.core.archive import end
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.errors import HiddenError
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import WriteUncertainError
from audmodel.core.errors import ArchiveError
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.errors import ModelExistsError
from audmodel.core.errors import PublishConflictError
from audmodel.core.repository import layout
from audmodel.core.repository.claims import Claim
from audmodel.core.repository.conflicts import check_absent
from audmodel.core.repository.conflicts import exists_message
from audmodel.core.repository.header import ArchiveIdentity
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document


logger = logging.getLogger("audmodel")

Item = TypeVar("Item")


class StoredArchive(abc.ABC):
    r"""Archive that is stored in a repository.

    Args:
        backend: connection to the repository
        path: path of the archive

    """

    def __init__(self, backend: ObjectBackend, path: str) -> None:
        self._backend = backend
        self.path = path
        self.etag = ""

    @property
    @abc.abstractmethod
    def identity(self) -> ArchiveIdentity:
        r"""Size and digest of the archive, known when it is stored."""

    @abc.abstractmethod
    def _write(
        self, claim: Claim, check: Callable[[], None], check_commit: Callable[[], None]
    ) -> str | None:
        r"""Write the archive.

        Args:
            claim: claim of the model
            check: called from time to time, raises an error if the claim is lost
            check_commit: called right before the archive becomes visible

        Returns:
            etag of the archive, ``None`` if another one is there

        """

    def store(
        self, claim: Claim, before_commit: Callable[[], None] = lambda: None
    ) -> None:
        r"""Store the archive, in place of what a dead publisher left.

        Args:
            claim: claim of the model
            before_commit: called when the archive is complete and not visible yet

        Raises:
            PublishConflictError: if the claim is lost,
                or another program stores the archive

        """

        def check_commit() -> None:
            claim.fence()
            before_commit()

        with claim.renewing() as check:
            try:
                etag = self._write(claim, check, check_commit)
            except WriteUncertainError:
                raise
            except RepositoryError:
                # A publisher that took the claim over has removed the upload
                claim.fence()
                raise
        if etag is None:
            raise claim.conflict()
        self.etag = etag

    def restore(
        self, claim: Claim, before_commit: Callable[[], None] = lambda: None
    ) -> None:
        r"""Store the archive of a model whose header is there.

        Args:
            claim: claim of the model
            before_commit: called when the archive is complete and not visible yet

        Raises:
            PublishConflictError: if the claim is lost,
                or another program stores the archive

        """
        if claim.is_deleted:
            # A process that deleted the model died before it deleted the header
            claim.begin_commit()
        self.store(claim, before_commit)

    def is_stored(self) -> bool:
        r"""Whether the archive is there, and not that of another process."""
        try:
            found = self._backend.stat_object(self.path)
            # Some storages change the etag of an object that stays the same,
            # and a response without a body may be that of a proxy
            is_ours = found is not None and found.etag == self.etag
            return is_ours or self.is_identical()
        except HiddenError:
            return False  # it could be looked at

    def is_identical(self) -> bool:
        r"""Whether what is stored has the size and the digest of the archive."""
        with self._backend.open_object(self.path) as reader:
            if reader is None or reader.size != self.identity.size:
                return False
            try:
                return end.digest(end.read(reader)) == self.identity.digest
            except ArchiveError:
                return False


def checked(
    items: Iterable[Item], check: Callable[[], None]
) -> Generator[Item, None, None]:
    r"""Items, with a check before each.

    Args:
        items: what the content is made of
        check: raises an error if the claim is lost

    """
    for item in items:
        check()
        yield item


def store(
    registry: Registry,
    model: ModelId,
    claim: Claim,
    archive: StoredArchive,
    meta: bytes,
) -> None:
    r"""Store all objects of a model except its header, or none.

    Args:
        registry: where to store them
        model: ID of the model
        claim: claim of the model
        archive: archive of the model
        meta: metadata in its stored form

    Raises:
        ModelExistsError: if another publisher was faster
        PublishConflictError: if another process publishes the model
        RepositoryError: if something cannot be stored

    """
    # A publisher that was done just before stored an archive
    if claim.left is not None or claim.is_replacement:
        check_absent(registry, model)
    if claim.is_replacement:
        _abort_uploads(registry, archive.path)
    try:
        _store(model, claim, archive, meta)
    except PublishConflictError:
        # The publisher that was faster may be done
        check_absent(registry, model)
        raise


def _store(model: ModelId, claim: Claim, archive: StoredArchive, meta: bytes) -> None:
    with contextlib.ExitStack() as cleanup:
        cleanup.push(_discarding(claim, archive.path))
        archive.store(claim)
        cleanup.callback(claim.discard, archive.path, archive.etag)
        claim.begin_commit()
        path = layout.record_path(model, "meta")
        cleanup.push(_discarding(claim, path))
        claim.replace(path, meta)
        claim.fence()
        # From here on the outcome is up to the header
        cleanup.pop_all()


def _discarding(claim: Claim, path: str) -> Callable[..., None]:
    r"""Exit callback that deletes an object after an error.

    After a conflict the object may belong to another process,
    and if the outcome is unknown it may be stored later.
    """

    def discard(_: object, error: BaseException | None, __: object) -> None:
        is_taken = isinstance(error, PublishConflictError)
        if not is_taken and not claim.is_ambiguous(error):
            claim.discard(path)

    return discard


def _abort_uploads(registry: Registry, path: str) -> None:
    r"""Abort unfinished uploads of an object that dead publishers left."""
    backend = registry.backend
    try:
        for upload in backend.list_uploads(path):
            if upload.path == path:
                backend.abort_upload(upload)
    except RepositoryError as error:
        logger.warning("Parts of an unfinished upload of '%s' remain: %s", path, error)


def commit(
    registry: Registry,
    model: ModelId,
    header: bytes,
    claim: Claim,
    archive: StoredArchive,
) -> None:
    r"""Store the header, and make sure that it is that of the archive.

    Earlier releases know no claims,
    and the header of a publisher that lost its claim may be stored late.

    Args:
        registry: where to store it
        model: ID of the model
        header: header in its stored form
        claim: claim of the model
        archive: archive that was stored

    Raises:
        ModelExistsError: if another publisher was faster
        PublishConflictError: if another program replaced the archive

    """
    path = layout.record_path(model, "header")
    backend = registry.backend
    if not backend.create_object(path, header) and not _replace_header(
        registry, model, header, claim, archive
    ):
        raise ModelExistsError(exists_message(model))
    if not archive.is_stored():
        # It names an archive that is not there
        stored = backend.read_object(path, document.MAX_BYTES)
        if stored is not None and stored.data == header:
            backend.delete_object(path, stored.etag)
        raise PublishConflictError(
            f"Another process stored an archive of '{model}' at the same moment, "
            "and the model was not published. "
            "Releases before 2.0 do not wait for other publishers. "
            "Let only one process publish a model, and try again."
        )


def _replace_header(
    registry: Registry,
    model: ModelId,
    header: bytes,
    claim: Claim,
    archive: StoredArchive,
) -> bool:
    r"""Replace a header that does not name the archive.

    Raises:
        PublishConflictError: if another publisher took the claim over

    """
    try:
        found = registry.header(model)
    except InvalidDocumentError:
        return False
    if found is None or found[0].archive == archive.identity:
        return False
    if not archive.is_stored():
        return False
    claim.renew()
    path = layout.record_path(model, "header")
    stored = registry.backend.read_object(path, document.MAX_BYTES)
    return (
        stored is not None
        and stored.data == found[1]
        and registry.backend.replace_object(path, header, stored.etag)
    )

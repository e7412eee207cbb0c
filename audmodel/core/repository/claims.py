r"""The right to publish or delete a model, which one process has at a time.

A claim is an object beside the records of the model,
created only if there is none.
Its process renews it, and says where it runs,
so that other processes can tell whether it is alive:
on the same machine at once, elsewhere after a while.

"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
import logging
import threading
import time

from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.errors import HiddenError
from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import WriteUncertainError
from audmodel.core.backend.objects import StoredObject
from audmodel.core.errors import PublishConflictError
from audmodel.core.process.requests import GRACE
from audmodel.core.process.requests import Requests
from audmodel.core.process.workers import start_thread
from audmodel.core.repository import claim_record
from audmodel.core.repository import layout
from audmodel.core.repository.registry import Registry
from audmodel.core.uid import ModelId
from audmodel.core.yaml import document


logger = logging.getLogger("audmodel")

# A publisher renews its claim while it works
RENEW_INTERVAL = 10.0
# A claim that was not renewed for so long was left by a dead publisher
TIMEOUT = 60.0
_POLL_INTERVAL = 1.0


class Claim:
    r"""Right to publish or delete a model, until another process takes it over.

    Args:
        registry: where to publish
        model: ID of the model
        archive: path of the archive that its publisher stores
        found: etag of the archive that was there before
        may_be_published: whether the model may have a header

    """

    def __init__(
        self,
        registry: Registry,
        model: ModelId,
        archive: str,
        found: str | None,
        *,
        may_be_published: bool = False,
    ) -> None:
        self._backend = registry.backend
        self._archive = archive
        self._found = found
        self._may_be_published = may_be_published
        #: Whether the model is being deleted, and its header may be gone
        self.is_deleted = False
        #: Claim of a dead publisher that it replaced
        self.replaced: bytes | None = None
        #: Etag of the archive that its publisher may replace
        self.left = found
        self._lock = threading.Lock()
        self._model = model
        self._path = layout.record_path(model, "claim")
        # All forms that may be stored, as the outcome of a write may be unknown
        self._forms: set[bytes] = set()
        self._renewed = _now()

    def new_form(self) -> bytes:
        r"""Form in which the claim is going to be stored."""
        data = self._data()
        claim_record.own.add(data)
        self._forms.add(data)
        return data

    def _data(self, *, is_left: bool = False) -> bytes:
        return claim_record.dump(
            self._archive,
            self._found,
            may_be_published=self._may_be_published,
            is_deleted=self.is_deleted,
            is_left=is_left,
        )

    def take_over(self, dead: StoredObject) -> bool:
        r"""Store it in place of the claim of a dead process.

        Args:
            dead: claim of that process

        Returns:
            ``False`` if the claim changed or vanished in the meantime

        Raises:
            RepositoryError: if it cannot be stored

        """
        before = self._found, self._may_be_published, self.is_deleted
        data = self._new_form_after(dead.data)
        if self._backend.replace_object(self._path, data, dead.etag):
            return True
        # What it says of the model holds no longer
        self._found, self._may_be_published, self.is_deleted = before
        return False

    def _new_form_after(self, data: bytes) -> bytes:
        if claim_record.archive_of(data) == self._archive:
            # The dead publisher may have stored the archive that is there now
            self._found = claim_record.found_by(data)
            self._may_be_published |= claim_record.is_published_by(data)
            self.is_deleted = claim_record.is_deleted_by(data)
        return self.new_form()

    @property
    def is_replacement(self) -> bool:
        r"""Whether it replaced the claim of a dead publisher."""
        return self.replaced is not None

    def renew(self) -> None:
        r"""Show that the publisher is alive, and make sure the claim is ours.

        Raises:
            PublishConflictError: if another publisher took the claim over
            RepositoryError: if it cannot be renewed

        """
        with self._lock:
            self._renew()

    def begin_commit(self) -> None:
        r"""Show that the model may be published from now on, and renew the claim.

        From now on no object of the model counts as an orphan,
        even if the header is lost later.

        Raises:
            PublishConflictError: if another publisher took the claim over
            RepositoryError: if it cannot be renewed

        """
        with self._lock:
            self._may_be_published = True
            self.is_deleted = False
            self._renew()

    def begin_delete(self) -> None:
        r"""Show that the header is deleted next, and renew the claim.

        From now on the claim stays if its process ends early.
        It proves that everything of the model is an orphan once there is no header,
        and names the archive, so that another process can finish.

        Raises:
            PublishConflictError: if another process took the claim over
            RepositoryError: if it cannot be renewed

        """
        with self._lock:
            self.is_deleted = True
            self._renew()

    def _renew(self) -> None:
        etag = self._probable_etag()
        data = self.new_form()
        if etag is None or not self._backend.replace_object(self._path, data, etag):
            # The storage may compute etags in another way
            stored = self._stored()
            if stored is None:
                raise self.conflict()
            if not self._backend.replace_object(self._path, data, stored.etag):
                raise self.conflict()
        claim_record.own.difference_update(self._forms - {data})
        self._forms = {data}
        self._renewed = _now()

    def _probable_etag(self) -> str | None:
        r"""Etag of the claim, ``None`` if it may be stored in several forms."""
        if len(self._forms) != 1:
            return None
        [data] = self._forms
        return self._backend.etag_of(data)

    @contextmanager
    def renewing(self) -> Iterator[Callable[[], None]]:
        r"""Renew the claim from time to time, however long the block takes.

        Requests inside the block are cancelled if that fails.

        Yields:
            function that raises an error if it failed

        Raises:
            PublishConflictError: if another publisher took the claim over
            RepositoryError: if it cannot be renewed

        """
        requests = Requests()
        is_over = threading.Event()
        has_ended = threading.Event()
        failures: list[Exception] = []

        def run() -> None:
            with requests.here():
                try:
                    while not is_over.wait(RENEW_INTERVAL):
                        self.renew()
                except (PublishConflictError, RepositoryError) as error:
                    failures.append(error)
                    requests.cancel()
                finally:
                    has_ended.set()

        def check() -> None:
            if failures:
                raise failures[0]
            if not has_thread and self._age() > RENEW_INTERVAL:
                self.renew()

        has_thread = False
        with requests.here():
            try:
                # Inside, so that an interrupt right after the start ends the thread
                has_thread = start_thread(run)
                yield check
            except RepositoryError:
                check()
                raise
            finally:
                is_over.set()
                if has_thread and not has_ended.wait(GRACE):
                    requests.cancel()
                    has_ended.wait()
        check()

    def fence(self) -> None:
        r"""Make sure that no other process took the claim over.

        Without conditional writes this is not certain:
        another process may do so right afterwards.
        """
        if self._age() > RENEW_INTERVAL:
            self.renew()
        elif self._may_be_overwritten():
            self._look()

    def _look(self) -> None:
        if self._stored() is None:
            raise self.conflict()

    def _may_be_overwritten(self) -> bool:
        return bool(self._backend.no_conditional_writes) or self._backend.unprotected

    def _stored(self) -> StoredObject | None:
        r"""The claim as it is stored, ``None`` if it is not ours any longer."""
        with contextlib.suppress(HiddenError):
            stored = self._backend.read_object(self._path, document.MAX_BYTES)
            if stored is not None and stored.data in self._forms:
                return stored
        return None

    def replace(self, path: str, data: bytes) -> None:
        r"""Store a small object, also in place of one that a dead publisher left.

        If another process takes the claim over in the meantime,
        then it changes the claim or the object, and nothing is replaced.

        Raises:
            PublishConflictError: if another process stored it

        """
        if self._backend.create_object(path, data):
            return
        stored = self._backend.read_damaged(path, document.MAX_BYTES)
        # This machine may have been paused, so the age of the claim is not known
        self.renew()
        if stored is None or not self._backend.replace_object(path, data, stored.etag):
            raise self.conflict()

    def discard(self, path: str, etag: str | None = None) -> None:
        r"""Delete an object, unless it belongs to another process by now.

        It is called after an error, and raises none of its own.

        Args:
            path: path of the object
            etag: etag of the object, by default of the one that is there

        """
        try:
            if etag is None:
                etag, _ = _look(self._backend, path)
            # No other publisher stored the object while the claim was ours
            if etag is not None and self._stored() is not None:
                self._backend.delete_object(path, etag)
        except RepositoryError as error:
            logger.warning("Could not remove the orphan '%s': %s", path, error)

    def release(self) -> None:
        r"""Delete the claim if it is still ours."""
        claim_record.own.difference_update(self._forms)
        try:
            etag = self._probable_etag()
            # A storage that computes etags in another way did not delete it
            if etag is not None and self._backend.delete_object(self._path, etag):
                return
            stored = self._stored()
            if stored is not None:
                self._backend.delete_object(self._path, stored.etag)
        except RepositoryError as error:
            logger.warning("Could not remove the claim '%s': %s", self._path, error)

    def leave(self) -> None:
        r"""Let the claim expire, as a write of its publisher may be on its way.

        It no longer names the process,
        which may continue without publishing.
        """
        claim_record.own.difference_update(self._forms)
        try:
            stored = self._stored()
            if stored is not None:
                self._backend.replace_object(
                    self._path, self._data(is_left=True), stored.etag
                )
        except RepositoryError as error:
            logger.warning("'%s' expires when this process ends: %s", self._path, error)

    def abandon(self) -> None:
        r"""Let another process take the claim over at once, and finish."""
        claim_record.own.difference_update(self._forms)

    def is_unfinished(self, failure: BaseException | None) -> bool:
        r"""Whether another process has to finish a deletion after an error."""
        if failure is None or not self.is_deleted:
            return False
        if not isinstance(failure, Exception):
            return True  # an interrupted request may still be carried out
        try:
            header = layout.record_path(self._model, "header")
            return self._backend.stat_object(header) is None
        except RepositoryError:
            return True

    def is_ambiguous(self, error: BaseException | None) -> bool:
        r"""Whether a write may still be carried out after an error."""
        return self._backend.has_late_writes and isinstance(error, WriteUncertainError)

    def conflict(self) -> PublishConflictError:
        r"""Error for a publisher that is not the only one."""
        wanted = "still exists" if self.is_deleted else "does not exist"
        return PublishConflictError(
            f"Another process took over the claim of '{self._model}': "
            "it started at the same moment, "
            "or this process did not renew its claim in time. "
            f"Try again if the model {wanted} in a minute."
        )

    def _age(self) -> float:
        return _now() - self._renewed


@contextmanager
def claimed(
    registry: Registry, model: ModelId, archive: str, *, may_be_published: bool = False
) -> Iterator[Claim]:
    r"""Claim a model, so that no other process publishes or deletes it.

    The claim is deleted afterwards,
    unless a write may still be carried out,
    or a deletion was begun and not finished.

    Args:
        registry: where to publish
        model: ID of the model
        archive: path of its archive
        may_be_published: whether the model may have a header,
            so that the claim proves no object to be an orphan

    Raises:
        PublishConflictError: if another process publishes or deletes it
            at the moment
        RepositoryError: if the claim cannot be stored

    """
    path = layout.record_path(model, "claim")
    found, is_hidden = _look(registry.backend, archive)
    claim = Claim(
        registry,
        model,
        archive,
        found,
        may_be_published=may_be_published or is_hidden,
    )
    failure: BaseException | None = None
    try:
        if not registry.backend.create_object(path, claim.new_form()):
            claim.replaced = _acquire(registry, model, path, claim)
            claim.left, _ = _look(registry.backend, archive)
    except BaseException:
        # It may have been stored in spite of the error
        claim.release()
        raise
    try:
        yield claim
    except BaseException as error:
        failure = error
        raise
    finally:
        if claim.is_ambiguous(failure):
            claim.leave()
        elif claim.is_unfinished(failure):
            claim.abandon()
        else:
            claim.release()


def _read(backend: ObjectBackend, path: str) -> StoredObject | None:
    r"""A claim, ``None`` if there is none, or the repository hides it."""
    with contextlib.suppress(HiddenError):
        return backend.read_damaged(path, document.MAX_BYTES)
    return None


def _look(backend: ObjectBackend, path: str) -> tuple[str | None, bool]:
    r"""Etag of an object if there is one, and whether the repository hides that."""
    try:
        state = backend.stat_object(path)
    except HiddenError:
        return None, True
    return None if state is None else state.etag, False


def _acquire(
    registry: Registry, model: ModelId, path: str, claim: Claim
) -> bytes | None:
    r"""Take over the claim of a dead publisher, refuse if it is alive.

    Returns:
        content of that claim, ``None`` if it was deleted in the meantime

    Raises:
        PublishConflictError: if it is alive
        RepositoryError: if the claim cannot be acquired

    """
    seen = _read(registry.backend, path)
    # Only from now on the claim is watched
    start = time.monotonic()
    stored = seen
    announced = False
    while True:
        waited = time.monotonic() - start
        if stored is None:
            # Its publisher is done, or has failed
            if registry.backend.create_object(path, claim.new_form()):
                return None
        elif seen is None or stored.data != seen.data:
            raise _busy(model, stored.data)
        elif (alive := claim_record.is_alive(stored.data)) is False or waited > TIMEOUT:
            if alive:
                raise _busy(model, stored.data)
            if claim.take_over(stored):
                return stored.data
        elif not announced:
            announced = True
            logger.warning(
                "%s started to publish or delete '%s'. "
                "Waiting up to %.0f s to see whether it renews its claim.",
                claim_record.publisher(stored.data),
                model,
                TIMEOUT,
            )
        # A process that acquires or renews the claim changes it before
        if waited > TIMEOUT + RENEW_INTERVAL:
            raise RepositoryError(
                f"Could not claim '{model}': "
                f"'{registry.backend.object_url(path)}' "
                "can be neither stored nor replaced, though no process changes it. "
                "Delete this object if no process publishes the model."
            )
        time.sleep(_POLL_INTERVAL)
        stored = _read(registry.backend, path)


def _busy(model: ModelId, data: bytes) -> PublishConflictError:
    return PublishConflictError(
        f"{claim_record.publisher(data)} "
        f"{'deletes' if claim_record.is_deleted_by(data) else 'publishes'} "
        f"'{model}' at the moment. "
        "Wait until it is done, or stop it."
    )


def _now() -> float:
    r"""Seconds by a clock that runs even while the machine is asleep."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)

r"""Check whether a repository can be reached, how, and what its storage can do.

Nothing is stored unless it is asked for.

"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import datetime
import math
import time

from audmodel.core.backend import conditions
from audmodel.core.backend.access import Access
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.copies import Copying
from audmodel.core.backend.errors import HiddenError
from audmodel.core.backend.errors import OfflineError
from audmodel.core.backend.errors import RepositoryNotFoundError
from audmodel.core.diagnosis import Check
from audmodel.core.diagnosis import Outcome
from audmodel.core.diagnosis import failed
from audmodel.core.diagnosis import ok
from audmodel.core.diagnosis import outcomes
from audmodel.core.diagnosis import unknown
from audmodel.core.diagnosis import warning
from audmodel.core.repository import probe
from audmodel.core.repository.config import check_backend
from audmodel.core.repository.config import is_embedded
from audmodel.core.repository.lookup import open_registry
from audmodel.core.repository.repository import Repository


# Seconds by which clocks may differ. Requests to S3 fail from 15 minutes on
_DIFFERENT = 60.0
_WRONG = 600.0
# Dates of responses are in whole seconds
_PRECISION = 3.0
_TO_TEST = "Name this repository, and ask for a test that writes (--write)."
_COPYING = {
    Copying.NOTHING: "nothing, so new versions are sent as a whole",
    Copying.CERTAIN: "bytes whose digest is known",
    Copying.ALL: "all bytes",
}


class Checkup:
    r"""Checks of one repository.

    Args:
        repository: the repository
        write: whether objects may be stored, and removed again

    """

    def __init__(self, repository: Repository, *, write: bool) -> None:
        self.repository = repository
        self._write = write
        self._is_configured = False
        self.is_readable = False
        r"""Whether objects can be read, as far as it was found out."""

    def checks(self) -> Iterator[Check]:
        r"""Checks, those first that the next ones need."""
        yield "configuration", self._access
        if self._is_configured:
            yield "reachable", self._reach
        if self.is_readable and self._write:
            yield "write", self._probe

    def _access(self) -> Iterator[Outcome]:
        check_backend(self.repository)
        access = self.repository.access()
        self._is_configured = True
        if access is not None:
            yield from _described(access)

    def _reach(self) -> Iterator[Outcome]:
        try:
            with open_registry(self.repository) as registry:
                backend = registry.backend
                yield from outcomes(("reachable", lambda: self._respond(backend)))
                # A wrong clock may be why requests are refused
                yield from outcomes(("clock", lambda: self._compare_clocks(backend)))
                if self.is_readable and not self._write:
                    yield self._known_conditions(backend)
                    yield from _known_copying(backend)
        except OfflineError as error:
            yield unknown("reachable", str(error))
        except RepositoryNotFoundError:
            if not is_embedded(self.repository):
                raise
            yield ok("reachable", "does not exist yet, the first publication makes it")

    def _respond(self, backend: ObjectBackend) -> Iterator[Outcome]:
        start = time.monotonic()
        with contextlib.suppress(HiddenError):  # it is a response
            backend.read_object(conditions.new_path(), 1)
        self.is_readable = True
        seconds = time.monotonic() - start
        yield ok("reachable", f"responded within {math.ceil(1000 * seconds)} ms")

    def _compare_clocks(self, backend: ObjectBackend) -> Iterator[Outcome]:
        ahead = backend.clock_ahead
        if ahead is None and self.is_readable and self._write:
            now = datetime.datetime.now(datetime.UTC)
            ahead = (backend.now() - now).total_seconds()
        if ahead is not None:
            yield _clock(ahead)
        elif self.is_readable:
            yield unknown("clock", "the storage did not tell its time", _TO_TEST)

    def _known_conditions(self, backend: ObjectBackend) -> Outcome:
        name = "conditional writes"
        wrong = backend.known_conditions()
        if wrong is None:
            return unknown(name, "they were not tested yet", _TO_TEST)
        if not wrong:
            return ok(name, "concurrent publishers cannot overwrite each other")
        if backend.no_conditional_writes:
            return warning(name, "the storage has none", wrong)
        seen = f"the storage has none: {wrong}"
        if self.repository.unprotected:
            advice = "Let only one process at a time publish, and change aliases."
            return warning(name, seen, advice)
        return failed(name, seen, "Nothing is published there. Use another storage.")

    def _probe(self) -> Iterator[Outcome]:
        r"""Test the storage, which leaves nothing there."""
        with open_registry(self.repository) as registry:
            backend = registry.backend
            declared = backend.no_conditional_writes
            if declared:
                yield warning("conditional writes", "the storage has none", declared)
            may_fail = declared or self.repository.unprotected
            for check in probe.probe(backend):
                if check.ok:
                    yield ok(check.name, check.seen)
                elif may_fail and check.name in conditions.NAMES:
                    yield warning(check.name, check.seen, check.meaning)
                else:
                    yield failed(check.name, check.seen, check.meaning)


def _described(access: Access) -> Iterator[Outcome]:
    if access.credentials:
        yield ok("credentials", access.credentials)
    else:
        seen = f"none, requests are anonymous. Looked in {access.places}"
        yield ok("credentials", seen)
    if access.authorities:
        seen = f"on, with these certificates: {access.authorities}"
        yield ok("encryption", seen)
    elif access.is_here:
        yield ok("encryption", f"off: '{access.url}' is on this machine")
    else:
        seen = f"off: '{access.url}'. Others on the network can read and change all"
        yield warning("encryption", seen, "Use TLS: write https:// before the host.")
    yield ok("proxy", access.proxy or "none")
    for setting in access.settings:
        yield ok("setting", setting)


def _clock(ahead: float) -> Outcome:
    direction = "ahead of" if ahead > 0 else "behind"
    seen = f"that of the storage is {abs(ahead):.0f} s {direction} that of this machine"
    if abs(ahead) < _DIFFERENT:
        is_same = abs(ahead) < _PRECISION
        return ok("clock", "the same as that of the storage" if is_same else seen)
    advice = "Set the clock of this machine, or that of the storage."
    if abs(ahead) < _WRONG:
        return warning("clock", seen, advice)
    return failed("clock", f"{seen}, and requests may be refused", advice)


def _known_copying(backend: ObjectBackend) -> Iterator[Outcome]:
    if backend.has_copies:
        copying = backend.known_copying()
        if copying is None:
            seen = "it was not tested yet, the first large new version does so"
            yield unknown("copies", seen, _TO_TEST)
        else:
            yield ok("copies", f"the storage copies {_COPYING[copying]}")

r"""Folders that one process at a time fills: a whole model, or some of its files."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
import errno
import os
import secrets
import time

from audmodel.core.cache import locks
from audmodel.core.cache.marker import Marker
from audmodel.core.cache.root import write_error
from audmodel.core.cache.staging import Staging
from audmodel.core.cache.tree import Folder
from audmodel.core.errors import CacheError


# Seconds without a write after which a folder counts as abandoned
_ABANDONED = 600.0
# Seconds after which a use is recorded again
_USED = 60.0


class Slot:
    r"""Folder that one process at a time fills, in a folder beside it.

    Args:
        parent: folder that it is in
        name: name in the names of the lock and of attempts
        folder: name of the folder
        marker: marker of the model, if the folder holds a whole one

    """

    def __init__(
        self, parent: Folder, name: str, folder: str, marker: Marker | None
    ) -> None:
        self.folder = parent.folder(folder)
        r"""Folder of what is finished."""
        self._parent = parent
        self._name = name
        self._marker = marker
        self._is_alone = False

    @contextmanager
    def lock(
        self,
        *,
        timeout: float,
        reentrant: bool = False,
        reenter: bool = True,
        waiting: Callable[[int, int], object] = lambda done, total: None,
    ) -> Iterator[None]:
        r"""Keep other processes from filling the folder.

        A wait is announced with the path of the lock and the time waited.

        Args:
            timeout: seconds to wait, forever if negative
            reentrant: whether no thread of this process waits for it
            reenter: whether to accept a reentrant lock that this process holds
            waiting: called now and then with the progress of the holder,
                if it is known

        Raises:
            LockTimeoutError: if the lock was not free in time
            CacheError: if the lock file cannot be made

        """
        with locks.hold(
            self._parent,
            self._lock_name,
            timeout=timeout,
            reentrant=reentrant,
            reenter=reenter,
            waiting=waiting,
        ) as is_alone:
            self._is_alone = is_alone
            try:
                yield
            finally:
                self._is_alone = False

    @property
    def _lock_name(self) -> str:
        return f".{self._name}.lock"

    def note_progress(self, done: int, total: int) -> None:
        r"""Let those that wait for the lock, which has to be held, see the progress.

        Args:
            done: bytes that are done
            total: bytes of the whole task

        """
        locks.note_progress(self._parent, self._lock_name, done, total)

    def touch(self) -> None:
        r"""Record that the folder is used, by its modification time.

        It needs no lock,
        and is skipped in a cache that cannot be written to.
        """
        with contextlib.suppress(OSError):
            # The clock of another machine may have set it, or this one may be wrong
            if abs(time.time() - self.folder.status().st_mtime) > _USED:
                self.folder.touch()

    def set_aside(self) -> Folder | None:
        r"""Rename the folder in one step, so that it can be deleted.

        If the deletion ends early, the rest counts as an attempt that ended early.
        The lock has to be held.

        Returns:
            the folder, or ``None`` if there is none

        Raises:
            CacheError: if the cache cannot be changed

        """
        name = self._new_attempt()
        try:
            try:
                self._parent.rename(self.folder.name, self._parent, name)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._move_files(self._parent.folder(name))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise write_error(self._parent.root.path, error) from error
        return self._parent.folder(name)

    def _move_files(self, target: Folder) -> None:
        r"""Move the files of the folder one by one, and remove it.

        An overlay file system cannot rename a folder of the image below it.
        """
        self._condemn()
        target.make()
        for item in self.folder.walk():
            if item.is_file:
                target.make(os.path.dirname(item.name))
                self.folder.rename(item.name, target, item.name)
        self._parent.remove(self.folder.name)

    def _condemn(self) -> None:
        r"""Let a folder that is not removed in one step not count as a model."""
        if self._marker is not None:
            self._marker.condemn()

    def remove(self) -> None:
        r"""Remove the folder, whose lock has to be held.

        Raises:
            CacheError: if the cache cannot be changed

        """
        name = self._new_attempt()
        try:
            self._parent.rename(self.folder.name, self._parent, name)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise write_error(self._parent.root.path, error) from error
            # An overlay file system, see above. Files need no copy to be removed
            self._condemn()
            name = self.folder.name
        self._parent.remove(name)

    def stage(self, *others: Slot, private: bool = False) -> Staging:
        r"""Staging folder for this one.

        It stays if the attempt ends early,
        so that the next attempt can continue from there.
        No other user can read or change it.

        Args:
            others: places of the same model.
                Files of attempts to fill them are used as well
            private: whether neither to use folders of other attempts,
                nor to let other attempts use this one,
                even while the lock is held

        Returns:
            folder that no other process uses,
            with the files that earlier attempts left

        """
        self._parent.make()
        if self._marker is not None and self._marker.unverified_head() is not None:
            # All of it that is right need not be fetched again
            self.set_aside()
        left: list[Folder] = []
        borrowed: list[Folder] = []
        if not private:
            left = self._acquire_attempts()
            for other in others:
                borrowed += other.acquire_attempts()
        name = self._new_attempt(private=private)
        self._parent.make_new(name, 0o700)
        return Staging(self._parent, name, self.folder, self._marker, left, borrowed)

    def attempts(self) -> list[Folder]:
        r"""Folders of attempts to fill this one, running or not."""
        prefix = f".{self._name}~"
        # Releases before 2.0 have one folder for attempts to load the whole model
        released = f"{self.folder.name}~"
        return [
            self._parent.folder(name)
            for name in sorted(self._parent.folders())
            if name.startswith(prefix) or name == released
        ]

    def is_left(self, attempt: Folder) -> bool:
        r"""Whether no process uses the folder of an attempt.

        Returns:
            whether the lock is held and excludes other processes,
            or nothing was written to the folder for a while

        """
        name, _, rest = attempt.name.removeprefix(".").partition("~")
        is_private = rest.startswith("~")
        is_alone = self._is_alone and name == self._name
        return (is_alone and not is_private) or self._is_abandoned(attempt)

    def resumable(self) -> list[Folder]:
        r"""Folders of attempts of this user that ended early, to continue from."""
        found = []
        for attempt in self.attempts():
            with contextlib.suppress(OSError):
                # Folders of other users may not be writable
                is_ours = attempt.status().st_uid == os.geteuid()
                if is_ours and self.is_left(attempt):
                    found.append(attempt)
        return found

    def tidy(self) -> None:
        r"""Remove folders that earlier attempts left."""
        for attempt in self.attempts():
            if self.is_left(attempt):
                self._parent.remove(attempt.name)

    def tidy_if_free(self) -> None:
        r"""Remove folders that earlier attempts left, unless a process uses them."""
        if self.attempts():
            with contextlib.suppress(CacheError), self.lock(timeout=0, reenter=False):
                self.tidy()

    def acquire_attempts(self) -> list[Folder]:
        r"""Folders of attempts that ended early, for a load into another place.

        It does not wait for the lock, since they only save work.
        """
        if self.attempts():
            with contextlib.suppress(CacheError), self.lock(timeout=0, reenter=False):
                return self._acquire_attempts()
        return []

    def _acquire_attempts(self) -> list[Folder]:
        r"""Give the folders of attempts that ended early other names.

        As long as the lock is ours, no other process uses them.
        If locks are broken, that process finds its folder gone,
        and starts again in a private one.
        """
        taken = []
        for attempt in self.resumable():
            name = self._new_attempt()
            try:
                self._parent.rename(attempt.name, self._parent, name)
                taken.append(self._parent.folder(name))
            except OSError as error:
                # No process writes to the image below an overlay file system
                if error.errno == errno.EXDEV:
                    taken.append(attempt)
        return taken

    def _is_abandoned(self, folder: Folder) -> bool:
        r"""Whether nothing was written to a folder for a while."""
        try:
            newest = folder.status().st_mtime
        except OSError:
            return False  # it has just been taken away
        times = (item.status.st_mtime for item in folder.walk())
        return self._parent.now() - max([newest, *times]) > _ABANDONED

    def _new_attempt(self, *, private: bool = False) -> str:
        return f".{self._name}~{'~' if private else ''}{secrets.token_hex(8)}"

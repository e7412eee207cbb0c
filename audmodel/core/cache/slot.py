r"""Folders that processes fill: the whole of a model, or some of its files."""

from __future__ import annotations

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


# Seconds after which a folder that no process writes to was left behind
_ABANDONED = 600.0
# Seconds after which a use is worth a note
_USED = 60.0


class Slot:
    r"""Folder that one process at a time fills, in a folder beside it.

    Args:
        parent: folder that it is in
        name: what lock and attempts are named after
        folder: name of the folder
        marker: where it is noted what a model is made of,
            if the folder holds one

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
        self, *, timeout: float, lend: bool = False, borrow: bool = True
    ) -> Iterator[None]:
        r"""Keep other processes from filling the folder.

        A wait is announced with the path of the lock and the time waited.

        Args:
            timeout: seconds to wait, forever if negative
            lend: whether no thread of this process waits for it
            borrow: whether to accept a lock that this process has lent

        Raises:
            LockTimeoutError: if the lock was not free in time
            CacheError: if the lock file cannot be made

        """
        name = f".{self._name}.lock"
        with locks.hold(
            self._parent, name, timeout=timeout, lend=lend, borrow=borrow
        ) as is_alone:
            self._is_alone = is_alone
            try:
                yield
            finally:
                self._is_alone = False

    def touch(self) -> None:
        r"""Remember that the folder is used.

        The time is the one at which it was changed.
        It needs no lock,
        and is skipped in a cache that cannot be written to.
        """
        with contextlib.suppress(OSError):
            # The clock of another machine may have set it, or this one may be wrong
            if abs(time.time() - self.folder.status().st_mtime) > _USED:
                self.folder.touch()

    def set_aside(self) -> Folder | None:
        r"""Take the folder out of sight, as one step, so that it can be deleted.

        Should that end early, it is like the folder of an attempt to fill it.
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
        r"""Keep a folder that does not vanish as one step from being a whole model."""
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
            # See above, and what goes need not be copied out of the image
            self._condemn()
            name = self.folder.name
        self._parent.remove(name)

    def stage(self, *others: Slot, private: bool = False) -> Staging:
        r"""Folder to prepare what goes into this one.

        It stays if the attempt ends early,
        so that the next one can go on from there.
        No other user can look into it, or change it.

        Args:
            others: places of the same model,
                what is needed of attempts to fill them is taken as well
            private: whether to keep away from the folders of others,
                and others from this one,
                even while the lock is held

        Returns:
            folder that no other process works in,
            with what earlier attempts left, if there is something

        """
        self._parent.make()
        if self._marker is not None and self._marker.doubt() is not None:
            # All of it that is right need not be fetched again
            self.set_aside()
        left: list[Folder] = []
        borrowed: list[Folder] = []
        if not private:
            left = self._take_over()
            for other in others:
                borrowed += other.lend()
        name = self._new_attempt(private=private)
        self._parent.make_new(name, 0o700)
        return Staging(self._parent, name, self.folder, self._marker, left, borrowed)

    def attempts(self) -> list[Folder]:
        r"""Folders of attempts to fill this one, running or not.

        Returns:
            folders

        """
        prefix = f".{self._name}~"
        # Releases before 2.0 have one folder for attempts to load the whole model
        released = f"{self.folder.name}~"
        return [
            self._parent.folder(name)
            for name in sorted(self._parent.folders())
            if name.startswith(prefix) or name == released
        ]

    def is_left(self, attempt: Folder) -> bool:
        r"""Whether no process is at work on an attempt to fill this folder.

        Args:
            attempt: folder of an attempt

        Returns:
            whether the lock is held and keeps others away,
            or nothing was written to the folder for a while

        """
        name, _, rest = attempt.name.removeprefix(".").partition("~")
        is_private = rest.startswith("~")
        is_alone = self._is_alone and name == self._name
        return (is_alone and not is_private) or self._is_abandoned(attempt)

    def resumable(self) -> list[Folder]:
        r"""Folders of attempts that ended early, to go on from.

        Returns:
            those whose files this user has made

        """
        found = []
        for attempt in self.attempts():
            with contextlib.suppress(OSError):
                # Who made it may have kept others from writing to it
                is_ours = attempt.status().st_uid == os.geteuid()
                if is_ours and self.is_left(attempt):
                    found.append(attempt)
        return found

    def tidy(self) -> None:
        r"""Remove what earlier attempts left."""
        for attempt in self.attempts():
            if self.is_left(attempt):
                self._parent.remove(attempt.name)

    def tidy_if_free(self) -> None:
        r"""Remove what earlier attempts left, unless a process is at work on it."""
        if self.attempts():
            with contextlib.suppress(CacheError), self.lock(timeout=0, borrow=False):
                self.tidy()

    def lend(self) -> list[Folder]:
        r"""Folders of attempts that ended early, for a load into another place.

        Nothing is waited for, as it only saves work.
        """
        if self.attempts():
            with contextlib.suppress(CacheError), self.lock(timeout=0, borrow=False):
                return self._take_over()
        return []

    def _take_over(self) -> list[Folder]:
        r"""Take over the folders of attempts that ended early.

        As long as the lock is ours, no other process is at work in them.
        Should the lock be broken, the one that is will notice that its folder is gone,
        and keep out of the way.
        """
        taken = []
        for attempt in self.resumable():
            name = self._new_attempt()
            try:
                self._parent.rename(attempt.name, self._parent, name)
                taken.append(self._parent.folder(name))
            except OSError as error:
                # No process is at work in the image below an overlay file system
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

r"""Folders that processes fill: the whole of a model, or some of its files."""

from __future__ import annotations

from collections.abc import Container
from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
import os
import secrets
import shutil
import time

from audmodel.core.cache import locks
from audmodel.core.cache.marker import Marker
from audmodel.core.cache.root import write_error
from audmodel.core.cache.staging import Staging


# Seconds after which a folder that nobody writes to was left behind
_ABANDONED = 600.0
# Seconds after which a use is worth a note
_USED = 60.0


class Slot:
    r"""Folder that one process at a time fills, in a folder beside it.

    Args:
        root: root folder of the cache
        parent: folder that it is in
        name: what lock and attempts are named after
        folder: path of the folder
        marker: where it is noted what a model is made of,
            if the folder holds one

    """

    def __init__(
        self, root: str, parent: str, name: str, folder: str, marker: Marker | None
    ) -> None:
        self.folder = folder
        r"""Folder of what is finished."""
        self._root = root
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
            lend: whether nobody in this process waits for it
            borrow: whether it will do that this process has lent it

        Raises:
            LockTimeoutError: if the lock was not free in time
            CacheError: if the lock file cannot be made

        """
        path = os.path.join(self._parent, f".{self._name}.lock")
        with locks.hold(
            self._root, path, timeout=timeout, lend=lend, borrow=borrow
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
        and in a cache that cannot be written to nobody has to know it.
        """
        with contextlib.suppress(OSError):
            if time.time() - os.stat(self.folder).st_mtime > _USED:
                os.utime(self.folder)

    def set_aside(self) -> str | None:
        r"""Take the folder out of sight, as one step, so that it can be deleted.

        Should that end early, it is like the folder of an attempt to fill it.
        The lock has to be held.

        Returns:
            new path, or ``None`` if there is no such folder

        Raises:
            CacheError: if the cache cannot be changed

        """
        path = self._new_attempt()
        try:
            os.rename(self.folder, path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise write_error(self._root, error) from error
        return path

    def remove(self) -> None:
        r"""Remove the folder, whose lock has to be held.

        Raises:
            CacheError: if the cache cannot be changed

        """
        aside = self.set_aside()
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)

    def stage(self, *, private: bool = False) -> Staging:
        r"""Folder to prepare what goes into this one.

        It stays if the attempt ends early,
        so that the next one can go on from there.

        Args:
            private: whether to keep away from the folders of others,
                and others from this one,
                whatever the lock says

        Returns:
            folder that nobody else works in,
            with what an earlier attempt left, if there is something

        """
        os.makedirs(self._parent, exist_ok=True)
        if self._marker is not None and self._marker.doubt() is not None:
            # All of it that is right need not be fetched again
            self.set_aside()
        path = self._new_attempt(private=private)
        resumed = not private and self._adopt(path)
        if not resumed:
            os.mkdir(path)
        return Staging(path, self.folder, self._marker, resumed)

    def attempts(self) -> list[str]:
        r"""Folders of attempts to fill this one, running or not.

        Returns:
            paths

        """
        prefix = f".{self._name}~"
        with os.scandir(self._parent) as entries:
            return sorted(
                entry.path
                for entry in entries
                if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False)
            )

    def is_left(self, attempt: str) -> bool:
        r"""Whether nobody is at work on an attempt, if it is one to fill this folder.

        Args:
            attempt: path of the folder of an attempt

        Returns:
            whether the lock is held and keeps others away,
            or nobody has written to the folder for a while

        """
        name, _, rest = os.path.basename(attempt).removeprefix(".").partition("~")
        is_private = rest.startswith("~")
        is_alone = self._is_alone and name == self._name
        return (is_alone and not is_private) or _is_abandoned(attempt)

    def resumable(self) -> str | None:
        r"""Folder of an attempt that ended early, to go on from.

        Returns:
            path, or ``None`` if there is none

        """
        for attempt in self.attempts():
            with contextlib.suppress(OSError):
                # Who made it may have kept others from writing to it
                is_ours = os.lstat(attempt).st_uid == os.geteuid()
                if is_ours and self.is_left(attempt):
                    return attempt
        return None

    def tidy(self, keep: Container[str | None] = ()) -> None:
        r"""Remove what earlier attempts left.

        Args:
            keep: paths of those that stay

        """
        for attempt in self.attempts():
            if attempt not in keep and self.is_left(attempt):
                shutil.rmtree(attempt, ignore_errors=True)

    def _adopt(self, path: str) -> bool:
        r"""Take over the folder of an attempt that ended early.

        As long as the lock is ours, nobody else is at work in it.
        Should the lock be broken, whoever is will notice that it is gone,
        and keep out of the way.
        """
        best = self.resumable()
        adopted = False
        if best is not None:
            with contextlib.suppress(OSError):
                os.rename(best, path)
                adopted = True
        self.tidy(keep=(best, path))
        return adopted

    def _new_attempt(self, *, private: bool = False) -> str:
        name = f".{self._name}~{'~' if private else ''}{secrets.token_hex(8)}"
        return os.path.join(self._parent, name)


def _is_abandoned(folder: str) -> bool:
    r"""Whether nobody has written to a folder for a while."""
    newest = 0.0
    with contextlib.suppress(OSError):
        newest = os.lstat(folder).st_mtime
        for root, folders, names in os.walk(folder):
            for name in folders + names:
                status = os.lstat(os.path.join(root, name))
                newest = max(newest, status.st_mtime)
        return time.time() - newest > _ABANDONED
    return False  # it has just been taken away

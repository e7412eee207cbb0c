r"""Put a model from the cache into a folder of the user.

All files are put together in a staging folder inside of it,
and then renamed one by one,
so that each is the old or the new one at any time,
and what was there stays if something fails before.

"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
from contextlib import contextmanager
from dataclasses import dataclass
import errno
import fcntl
import io
import logging
import os
import secrets
import stat
import time
from typing import TypeVar

from audmodel.core import disk
from audmodel.core.archive import comparing
from audmodel.core.archive.format import Member
from audmodel.core.archive.names import find_collisions
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.cache.errors import LockTimeoutError
from audmodel.core.cache.tree import Folder
from audmodel.core.errors import CacheError
from audmodel.core.errors import InvalidInputError
from audmodel.core.home import expand_home
from audmodel.core.operations.local import Local
from audmodel.core.operations.options import LoadOptions
from audmodel.core.process.requests import prefetch_requests
from audmodel.core.selection import listed


logger = logging.getLogger("audmodel")

Result = TypeVar("Result")

# Begins the names of staging folders
_STAGING = ".audmodel~"
# Bytes that are compared at once
_PIECE = 1 << 20
# Seconds between two attempts to lock a folder
_POLL = 0.05
# Errors that say that another process has locked it
_HELD = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK}


@dataclass(frozen=True)
class Target:
    r"""Folder that a user wants a model in.

    Args:
        path: absolute path of the folder, which need not exist
        force: whether to replace files that are there
        hardlinks: whether files get a second name instead of being copied

    """

    path: str
    force: bool
    hardlinks: bool


class _GoneError(Exception):
    r"""A file was removed from the cache in the meantime."""


def check_target(
    to: str, cache_root: str, *, force: bool = False, hardlinks: bool = False
) -> Target:
    r"""Folder that a user wants a model in.

    Raises:
        NotADirectoryError: if it is something else
        TypeError: if it is not a path
        InvalidInputError: if it is empty, or in the cache

    """
    if not isinstance(to, str | os.PathLike):
        raise TypeError(f"'to' has to be a path, not {type(to).__name__}.")
    path = os.fspath(to)
    if not path:
        raise InvalidInputError("'to' is empty. Give the folder for the model.")
    path = os.path.abspath(expand_home(path))
    root = os.path.realpath(cache_root)
    if os.path.commonpath([root, os.path.realpath(path)]) == root:
        raise InvalidInputError(
            f"The folder '{path}' is in the cache '{cache_root}'. "
            "Choose one outside of it as 'to'."
        )
    if os.path.lexists(path) and not os.path.isdir(path):
        raise NotADirectoryError(
            errno.ENOTDIR, "The model cannot be put there, it is no folder", path
        )
    return Target(path, force, hardlinks)


def place(entry: CacheEntry, options: LoadOptions, target: Target) -> bool:
    r"""Put a model that was loaded into a folder.

    Files of the same content stay as they are,
    and so do files that are not part of the model.

    Args:
        entry: place of the model in the cache
        options: which files, how to copy them,
            and how long to wait for another process that uses the folder
        target: the folder

    Returns:
        whether it was done, ``False`` if the model is not in the cache any more

    Raises:
        FileExistsError: if other files are in the folder,
            or something that is not replaced
        LockTimeoutError: if another process uses the folder for longer
        OSError: if something cannot be read or written

    """
    local = Local(entry)
    slot, names = local.slot(options.files), local.select(options.files)
    if slot is None or names is None:
        return False
    work = _Placing(slot.folder, Folder(target.path), names, target, options)
    try:
        os.makedirs(target.path, exist_ok=True)
        with _alone(target.path, options.timeout) as is_alone:
            if is_alone:
                work.tidy()
            count = work.run()
    except _GoneError:
        return False
    except CacheError:
        raise
    except OSError as error:
        if isinstance(error, FileExistsError) and error.filename == target.path:
            raise
        raise OSError(
            error.errno,
            f"The model cannot be put there: {error.strerror}.{disk.advice(error)}",
            error.filename or target.path,
        ) from error
    logger.info(
        "Put '%s' into '%s': %d of %d files, the others were there.",
        entry.model,
        target.path,
        count,
        len(names),
    )
    return True


def check_states(states: Mapping[str, str], target: Target) -> None:
    r"""Raise an error if something is in the way of a file.

    Args:
        states: what is there, by the name of the file
        target: the folder

    Raises:
        FileExistsError: if a file would be replaced without being asked to,
            or something else than a file

    """
    path, names = target.path, list(states)
    blocked = [name for name in names if states[name] == "blocked"]
    if blocked:
        raise FileExistsError(
            errno.EEXIST,
            "It has a folder in the place of a file of the model, "
            f"or a file or link in the place of a folder: {listed(blocked)}. "
            "Remove or rename it",
            path,
        )
    other = [name for name in names if states[name] == "other"]
    if other and not target.force:
        raise FileExistsError(
            errno.EEXIST,
            f"It holds other files than the model: {listed(other)}. "
            "Nothing was changed. Choose another folder, "
            "or replace them with 'force'",
            path,
        )


def check_plan(members: Sequence[Member], target: Target, num_workers: int) -> None:
    r"""Raise the error that a load would raise since something is in the way.

    Args:
        members: files that would be put into the folder
        target: the folder
        num_workers: number of threads

    Raises:
        FileExistsError: if other files are in the folder,
            or something that is not replaced

    """
    folder = Folder(target.path)
    if os.path.isdir(target.path):
        found = comparing.differences(folder, members, num_workers)
        states = {each.member.name: _planned_state(folder, each) for each in found}
        check_states(states, target)


def _planned_state(folder: Folder, difference: comparing.Difference) -> str:
    try:
        mode = folder.status(difference.member.name).st_mode
    except FileNotFoundError:
        return "absent"
    except NotADirectoryError:
        return "blocked"
    if stat.S_ISDIR(mode):
        return "blocked"
    return "again" if difference.problem == "mode" else "other"


class _Placing:
    r"""Files of a model that are put into a folder.

    Args:
        source: folder in the cache
        folder: where they go
        names: names of the files
        target: how they get there
        options: how many threads, and what is told of the progress

    """

    def __init__(
        self,
        source: Folder,
        folder: Folder,
        names: Sequence[str],
        target: Target,
        options: LoadOptions,
    ) -> None:
        self._source = source
        self._folder = folder
        self._names = names
        self._target = target
        self._options = options

    def tidy(self) -> None:
        r"""Remove what earlier attempts left. No other process may use the folder."""
        own = {name.partition("/")[0] for name in self._names}
        for name in self._folder.folders():
            if name.startswith(_STAGING) and name not in own:
                self._folder.remove(name)

    def run(self) -> int:
        r"""Put the files there, and return how many were not there yet."""
        states = dict(zip(self._names, self._each(self._state, self._names)))
        self._check(states)
        missing = [name for name, state in states.items() if state != "there"]
        if not missing:
            return 0
        staging = self._folder.folder(_STAGING + secrets.token_hex(8))
        self._folder.make_new(staging.name, 0o700)
        try:
            self._check_distinct(staging)
            statuses = {name: self._status(name) for name in missing}
            total = sum(status.st_size for status in statuses.values())
            progress = self._options.start_progress(total)

            def bring(name: str) -> int:
                self._bring(name, statuses[name], staging)
                return statuses[name].st_size

            for size in self._each(bring, missing):
                progress(size)
            for name in missing:
                self._folder.make(os.path.dirname(name))
                staging.rename(name, self._folder, name)
            self._folder.sync()
        finally:
            self._folder.remove(staging.name)
        return len(missing)

    def _each(
        self, function: Callable[[str], Result], names: Sequence[str]
    ) -> Iterator[Result]:
        results = prefetch_requests(
            function, names, num_workers=self._options.num_workers
        )
        with contextlib.closing(results):
            yield from results

    # ------------------------------------------------------------ what is there

    def _state(self, name: str) -> str:
        r"""What is there under the name of a file.

        Returns:
            ``'absent'``, ``'there'`` if it is the file,
            ``'again'`` if it has the same content, but something else is wrong,
            ``'other'`` if it is another file or a link,
            or ``'blocked'`` if it is a folder, or in the place of one

        """
        try:
            there = self._folder.status(name)
        except FileNotFoundError:
            return "absent"
        except NotADirectoryError:
            return "blocked"
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EMLINK):
                raise
            return "blocked"
        if not stat.S_ISREG(there.st_mode):
            return "blocked" if stat.S_ISDIR(there.st_mode) else "other"
        wanted = self._status(name)
        is_one_file = (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino)
        if not is_one_file and not self._is_same(name, wanted, there):
            return "other"
        # A copy of the cache must not change with what the user does to it
        is_shared = is_one_file and not self._target.hardlinks
        lacks_mode = wanted.st_mode & ~there.st_mode & stat.S_IXUSR
        return "again" if is_shared or lacks_mode else "there"

    def _is_same(
        self, name: str, wanted: os.stat_result, there: os.stat_result
    ) -> bool:
        r"""Whether two files have the same content."""
        if wanted.st_size != there.st_size:
            return False
        with (
            self._opened(name) as one,
            open(self._folder.open(name), "rb", buffering=0) as other,
        ):
            while True:
                piece = one.read(_PIECE)
                if piece != other.read(_PIECE):
                    return False
                if not piece:
                    return True

    def _check(self, states: dict[str, str]) -> None:
        r"""Raise an error if something is in the way, and tell what else is there."""
        check_states(states, self._target)
        if "other" in states.values():
            extra = sorted(set(self._folder.files()).difference(states))
            if extra:
                logger.warning(
                    "'%s' also holds files that are not part of the model, "
                    "which stay: %s.",
                    self._target.path,
                    listed(extra),
                )

    def _check_distinct(self, staging: Folder) -> None:
        r"""Raise an error if the folder takes two names of files for one.

        Raises:
            FileExistsError: if it does

        """
        for first, second in find_collisions(self._names):
            if not staging.distinguishes(first, second):
                raise FileExistsError(
                    errno.EEXIST,
                    f"{first!r} and {second!r} collide on its file system. "
                    "Choose a folder on a file system that distinguishes them",
                    self._target.path,
                )

    # ------------------------------------------------------------ the cache

    def _status(self, name: str) -> os.stat_result:
        with _in_cache():
            return self._source.status(name)

    @contextmanager
    def _opened(self, name: str) -> Iterator[io.RawIOBase]:
        with _in_cache():
            file = io.FileIO(self._source.open(name))
        with file:
            yield file

    def _bring(self, name: str, status: os.stat_result, staging: Folder) -> None:
        r"""Put a file into the staging folder, and make it durable."""
        staging.make(os.path.dirname(name))
        if self._target.hardlinks:
            self._link(name, staging)
        else:
            mode = 0o777 if status.st_mode & stat.S_IXUSR else 0o666
            with (
                self._opened(name) as source,
                open(staging.open_own(name, mode), "wb", buffering=0) as target,
            ):
                disk.copy(source.fileno(), target.fileno())
        # A power failure must not leave half a file in place of an old one
        staging.sync(name)

    def _link(self, name: str, staging: Folder) -> None:
        try:
            self._source.link(name, staging, name)
        except FileNotFoundError as error:
            raise _GoneError from error
        except OSError as error:
            raise OSError(
                error.errno,
                f"files of the cache '{self._source.root.path}' "
                f"cannot get hard links there: {error.strerror}. "
                "Leave out 'hardlinks' to copy them",
            ) from error


@contextmanager
def _in_cache() -> Iterator[None]:
    r"""Tell a file that is missing in the cache from one in the folder."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _GoneError from error


@contextmanager
def _alone(path: str, timeout: float) -> Iterator[bool]:
    r"""Keep other processes from putting a model into a folder.

    The folder itself is locked, which leaves no lock file behind.

    Args:
        path: path of the folder
        timeout: seconds to wait, forever if negative

    Yields:
        whether it is locked: not every file system can do so

    Raises:
        LockTimeoutError: if another process uses the folder for longer

    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield _lock(fd, path, timeout)
    finally:
        # A child that was forked in the meantime keeps the folder open
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _lock(fd: int, path: str, timeout: float) -> bool:
    start = time.monotonic()
    is_announced = False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _HELD:
                return False
        else:
            return True
        if 0 <= timeout <= time.monotonic() - start:
            raise LockTimeoutError(
                f"Another process puts a model into '{path}' "
                f"for longer than {timeout:g} s. "
                "Wait until it is done, stop it, or allow a longer 'timeout'.",
                path,
            )
        if not is_announced:
            logger.warning(
                "Waiting for another process that puts a model into '%s'.", path
            )
            is_announced = True
        time.sleep(_POLL)

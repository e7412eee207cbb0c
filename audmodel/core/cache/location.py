r"""The way to a folder in a cache, which no other user can divert.

Several users may share a cache,
and each of them can replace a file or a folder of another one at any time,
by a link that leads out of the cache, or by something that blocks.
A path that was checked may be another one when it is used.
So every path is walked from the root of the cache, one folder after the other,
each opened in the one above it and none of them a link.

"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
import errno
import os

from audmodel.core.cache.descriptors import FOLDER


# A folder on the way need not be readable
ON_THE_WAY = getattr(os, "O_PATH", os.O_RDONLY) | FOLDER
# Names of other folders than those below one
_ELSEWHERE = {"", ".", ".."}


class Location:
    r"""Location in a cache of a folder, which need not exist.

    Args:
        root: root folder of the cache
        name: name of the folder below it, empty for the root itself
        pin: a folder on the way, or this one, by the number of its names,
            and the device and inode that it has to have

    """

    def __init__(
        self, root: str, name: str = "", pin: tuple[int, int, int] | None = None
    ) -> None:
        self._root = root
        self._parts = tuple(name.split("/")) if name else ()
        self._pin = pin
        self.path = os.path.join(root, name) if name else root
        r"""Path of the folder, for messages and for users."""

    @contextmanager
    def _opened(
        self, parts: Sequence[str] | None = None, how: int = os.O_RDONLY
    ) -> Iterator[int]:
        r"""Descriptor of this folder, or of one below the root."""
        parts = self._parts if parts is None else parts
        fd = -1
        try:
            _check_below(parts)
            fd = self._descend(parts, how)
            yield fd
        except OSError as error:
            error.filename = os.path.join(self._root, *parts)
            raise
        finally:
            if fd >= 0:
                os.close(fd)

    @contextmanager
    def _above(self, name: str) -> Iterator[tuple[int, str]]:
        r"""Descriptor of the folder that a file or folder is in, and its name there."""
        parts = [*self._parts, *name.split("/")] if name else self._parts
        fd = -1
        try:
            _check_below(parts)
            fd = self._descend(parts[:-1], ON_THE_WAY)
            yield fd, parts[-1]
        except OSError as error:
            error.filename = os.path.join(self._root, *parts)
            del error.filename2
            raise
        finally:
            if fd >= 0:
                os.close(fd)

    def _descend(self, parts: Sequence[str], how: int) -> int:
        r"""Descriptor of a folder below the root."""
        flags = how if not parts else ON_THE_WAY
        # The root is where the user wants it, links on the way to it included
        fd = os.open(self._root, (flags | FOLDER) & ~os.O_NOFOLLOW)
        try:
            for depth, part in enumerate(parts, start=1):
                flags = how if depth == len(parts) else ON_THE_WAY
                below = os.open(part, flags | FOLDER, dir_fd=fd)
                os.close(fd)
                fd = below
                if self._pin is not None and depth == self._pin[0]:
                    status = os.fstat(fd)
                    if self._pin[1:] != (status.st_dev, status.st_ino):
                        raise FileNotFoundError(errno.ENOENT, "It was replaced")
        except BaseException:
            os.close(fd)
            raise
        return fd


def _check_below(parts: Sequence[str]) -> None:
    r"""Raise an error if names lead out of the folder that they begin in."""
    if not _ELSEWHERE.isdisjoint(parts):
        raise OSError(errno.EINVAL, "The name leads out of its folder")

"""Other users, which a test that runs as root can become."""

from __future__ import annotations

from collections.abc import Sequence
import ctypes
import os
from pathlib import Path
import sys
import tempfile

import pytest


NOBODY = 65534
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can become another user"
)
_SET_DUMPABLE = 4


def let_in(path: Path) -> None:
    """Let every user reach a temporary folder, which is private otherwise."""
    for folder in (path, *path.parents):
        if folder.is_relative_to(tempfile.gettempdir()):
            folder.chmod(folder.stat().st_mode | 0o055)


def become(user: int, group: int = NOBODY, groups: Sequence[int] = ()) -> None:
    """Make this process one of another user.

    It imports modules as before, even if the new user cannot reach the folder of
    this Python: the folders are opened before and are named by their descriptors.
    """
    places: list[list[str]] = [sys.path]
    for module in list(sys.modules.values()):
        place = getattr(module, "__path__", None)
        if isinstance(place, list):
            places.append(place)
    for place in places:
        place[:] = [_opened(folder) for folder in place]
    os.setgroups(groups)
    os.setgid(group)
    os.setuid(user)
    # The descriptors of a process that changed its user belong to root otherwise
    ctypes.CDLL(None).prctl(_SET_DUMPABLE, 1, 0, 0, 0)


def _opened(folder: str) -> str:
    if not os.path.isdir(folder):
        return folder
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    return f"/proc/self/fd/{descriptor}"

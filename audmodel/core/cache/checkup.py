r"""Check whether a cache can be used, who can use it, and what it holds.

A lock is tried, and its file is removed again.

"""

from __future__ import annotations

from collections.abc import Iterator
import datetime
from functools import partial
import grp
import os
import pwd
import secrets
import stat

from audmodel.core import disk
from audmodel.core import units
from audmodel.core.cache import eviction
from audmodel.core.cache import locks
from audmodel.core.cache.tree import Folder
from audmodel.core.diagnosis import Check
from audmodel.core.diagnosis import Outcome
from audmodel.core.diagnosis import failed
from audmodel.core.diagnosis import ok
from audmodel.core.diagnosis import unknown
from audmodel.core.diagnosis import warning


# Bytes that are little room for models
_LITTLE = 1_000_000_000
# An attempt to load a model that was not continued for so long
_STALE = datetime.timedelta(days=1)
_PERMISSIONS = "Ask its owner, or choose another cache with AUDMODEL_CACHE_ROOT."


def checks(root: str) -> Iterator[Check]:
    r"""Checks of a cache.

    Args:
        root: its folder

    """
    yield "folder", partial(_folder, root)
    if os.path.isdir(root):
        yield "access", partial(_access, root)
        yield "locks", partial(_locks, root)
    if os.path.isdir(_existing(root)):
        yield "room", partial(_room, root)
        yield "models", partial(_models, root)


def _folder(root: str) -> Iterator[Outcome]:
    if os.path.isdir(root):
        yield ok("folder", f"'{root}'")
    elif os.path.lexists(root):
        advice = "Remove it, or choose another cache with AUDMODEL_CACHE_ROOT."
        yield failed("folder", f"'{root}' is no folder that can be reached", advice)
    elif _can_be_made(root):
        yield ok("folder", f"'{root}' does not exist yet, the first load makes it")
    else:
        yield failed(
            "folder",
            f"'{root}' does not exist, and '{_existing(root)}' cannot be written to",
            "Make it, or choose another cache with AUDMODEL_CACHE_ROOT.",
        )


def _can_be_made(root: str) -> bool:
    existing = _existing(root)
    return os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK)


def _existing(path: str) -> str:
    r"""Path, or the first one above it that exists."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def _access(root: str) -> Iterator[Outcome]:
    status = Folder(root).status()
    mode = stat.S_IMODE(status.st_mode)
    users = _users(mode)
    seen = (
        f"{users}: mode {mode:o}, user {_user(status.st_uid)}, "
        f"group {_group(status.st_gid)}"
    )
    if not os.access(root, os.R_OK | os.X_OK):
        yield failed("access", f"you cannot read it: {seen}", _PERMISSIONS)
    elif not os.access(root, os.W_OK):
        advice = "Models that it holds can be loaded. Any other model cannot."
        yield warning("access", f"you can only read it: {seen}", advice)
    elif mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        advice = f"Let only people you trust write to it: chmod o-w '{root}'"
        yield warning("access", seen, advice)
    elif mode & stat.S_IWGRP and not mode & stat.S_ISGID:
        advice = (
            "Let new folders belong to the same group, if its members share it: "
            f"chmod g+s '{root}'"
        )
        yield warning("access", seen, advice)
    else:
        yield ok("access", seen)


def _users(mode: int) -> str:
    r"""Who can write, as far as the mode tells, which may not be all."""
    if mode & stat.S_IWOTH:
        return "shared by all users of this machine"
    return "shared by a group" if mode & stat.S_IWGRP else "of one user"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _locks(root: str) -> Iterator[Outcome]:
    folder = Folder(root)
    if not os.access(root, os.W_OK):
        yield unknown("locks", "they cannot be tried in a folder without write access")
        return
    name = f".doctor~{secrets.token_hex(8)}.lock"
    try:
        with locks.hold(folder, name, timeout=0) as excludes:
            pass
    finally:
        folder.remove(name)
    advice = "A model may be fetched twice. Its files are right nevertheless."
    if not excludes:
        yield warning("locks", "a lock does not exclude others", advice)
    elif disk.is_shared(root):
        seen = "a lock excludes other processes of this machine"
        yield ok("locks", f"{seen}, and was not tried from another one")
    else:
        yield ok("locks", "a lock excludes other processes")


def _room(root: str) -> Iterator[Outcome]:
    existing = _existing(root)
    kind = disk.file_system(existing) or "of unknown type"
    where = ", which several machines may use" if disk.is_shared(existing) else ""
    yield ok("file system", f"{kind}{where}")
    free = Folder(existing).free()
    seen = f"{units.size(free)} are free"
    if free < _LITTLE:
        advice = "Remove models that are not needed: audmodel cache prune"
        yield warning("room", seen, advice)
    else:
        yield ok("room", seen)


def _models(root: str) -> Iterator[Outcome]:
    models = [found.model for found in eviction.find(root)]
    size = sum(model.size for model in models)
    count = sum(not model.unfinished for model in models)
    yield ok("models", f"{count} with {units.size(size)} together")
    now = datetime.datetime.now(datetime.UTC)
    stale = [
        model for model in models if model.unfinished and now - model.last_used > _STALE
    ]
    if stale:
        names = ", ".join(sorted({model.uid for model in stale})[:5])
        size = sum(model.size for model in stale)
        yield warning(
            "attempts",
            f"{len(stale)} loads were interrupted more than a day ago, "
            f"and left {units.size(size)}: {names}",
            "Load these models again, or remove them: audmodel cache rm UID",
        )
    else:
        yield ok("attempts", "no load was interrupted and forgotten")

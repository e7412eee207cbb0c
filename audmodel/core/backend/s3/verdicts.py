r"""Results of tests of storages, kept from one process to the next.

Each user has files of their own, one for each bucket.
A file that another user could have written is ignored,
and so is one that is old, or of another server at the same place.

"""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from dataclasses import dataclass
import hashlib
import json
import os
import stat
import tempfile
import time


# Seconds after which it is found out again
_LIFETIME = 30 * 24 * 3600
_LARGEST = 8192
# What copies are good for is kept in a file of its own
_COPYING = "copying"


@dataclass(frozen=True)
class Verdict:
    r"""What a storage does.

    Args:
        wrong: what is wrong with conditional writes, empty if nothing is
        compares_deletes: whether it deletes an object
            only if it has the etag of the condition

    """

    wrong: str
    compares_deletes: bool


def recall(*store: str) -> Verdict | None:
    r"""What was found out about a storage.

    Args:
        store: URL, bucket and server, which identify it

    Returns:
        verdict, ``None`` if nothing is known

    """
    data = _load(store)
    wrong, compares = data.get("wrong"), data.get("compares_deletes")
    if not isinstance(wrong, str) or not isinstance(compares, bool):
        return None
    return Verdict(wrong, compares)


def remember(verdict: Verdict, *store: str) -> None:
    r"""Keep what was found out, if there is a home folder for it."""
    _save(store, asdict(verdict))


def recall_copying(*store: str) -> str | None:
    r"""Name of what a storage was found to copy, ``None`` if nothing is known."""
    copying = _load((*store, _COPYING)).get("copying")
    return copying if isinstance(copying, str) else None


def remember_copying(copying: str, *store: str) -> None:
    r"""Keep what a storage copies, if there is a home folder for it."""
    _save((*store, _COPYING), {"copying": copying})


def _load(store: tuple[str, ...]) -> dict[str, object]:
    r"""What is kept about a storage, empty if there is nothing valid."""
    path = _path(store)
    try:
        data = json.loads(_read(path)) if path else None
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(data, dict) or data.get("store") != list(store):
        return {}
    return data


def _save(store: tuple[str, ...], content: dict[str, object]) -> None:
    path = _path(store)
    data = json.dumps({"store": store, **content}).encode()
    if not path or len(data) > _LARGEST:
        return
    folder = os.path.dirname(path)
    temporary = None
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder)
        with open(handle, "wb") as file:
            file.write(data)
        os.rename(temporary, path)
    except OSError:
        # The next process tests the storage again
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _path(store: tuple[str, ...]) -> str:
    r"""Path of the file about a storage, empty without a home folder."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(root):
        return ""
    name = hashlib.sha256("\0".join(store).encode()).hexdigest()[:32]
    return os.path.join(root, "audmodel", "stores", f"{name}.json")


def _read(path: str) -> bytes:
    r"""Content of a recent file that only its user could write."""
    folder = os.lstat(os.path.dirname(path))
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
        found = os.fstat(file.fileno())
        age = time.time() - found.st_mtime
        if not (
            stat.S_ISDIR(folder.st_mode)
            and stat.S_ISREG(found.st_mode)
            and _is_ours(folder)
            and _is_ours(found)
            and -60 < age < _LIFETIME
        ):
            raise PermissionError(path)
        return file.read(_LARGEST)


def _is_ours(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022

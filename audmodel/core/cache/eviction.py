r"""List the models in a cache, and remove them.

To remove a model, its folder is renamed
while its locks are held, and then deleted.
Processes that have opened a file of the model can still read it.

"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
from contextlib import contextmanager
from dataclasses import dataclass
import datetime
import heapq
import logging
import math
import re

from audmodel.core import uid as ids
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.cache.results import CachedModel
from audmodel.core.cache.tree import Folder
from audmodel.core.errors import CacheBusyError
from audmodel.core.errors import CacheError
from audmodel.core.errors import noting
from audmodel.core.uid import ModelId


logger = logging.getLogger("audmodel")

# Finished models, some files of a model, and attempts to load either
_FOLDER = re.compile(
    r"(?P<whole>[^.~+][^~+]*)~?|\.(?P<version>[^~+]+)(?:\+files|(?:\+files)?~.+)"
)


@dataclass(frozen=True)
class Found:
    r"""Folder of a cache that holds files of a model.

    Args:
        entry: place of the model in the cache
        folder: the folder
        model: what users learn about it

    """

    entry: CacheEntry
    folder: Folder
    model: CachedModel


def find(root: str) -> list[Found]:
    r"""Everything that a cache holds of models.

    Returns:
        folders, in the order of the IDs of their models

    Raises:
        CacheError: if the cache cannot be read

    """
    return [found for entry in entries(root) for found in _found(entry)]


def entries(root: str) -> Iterator[CacheEntry]:
    r"""Places of models that a cache may hold something of, as its folders are named.

    Yields:
        places, in the order of the IDs of their models

    Raises:
        CacheError: if the cache cannot be read

    """
    for short in sorted(_folders(Folder(root))):
        if ids.is_short(short):
            matches = map(_FOLDER.fullmatch, _folders(Folder(root, short)))
            versions = {
                match["whole"] or match["version"] for match in matches if match
            }
            for version in ids.sort_versions(set(filter(ids.is_version, versions))):
                yield CacheEntry(root, ModelId(short, version))


def _folders(folder: Folder) -> list[str]:
    try:
        return folder.folders()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CacheError(
            error.errno,
            f"The model cache '{folder.path}' cannot be read: {error.strerror}.",
        ) from error


def _found(entry: CacheEntry) -> Iterator[Found]:
    r"""Folders for one version of a model: of the model, and of attempts to load it."""
    whole, some = _content(entry.whole.folder), _content(entry.partial.folder)
    # Files of a partial load that became part of the whole model count once
    sizes = {**some.sizes, **whole.sizes}
    slot = entry.slot
    if slot is not None:
        model = CachedModel(
            str(entry.model),
            slot.folder.path,
            sum(sizes.values()),
            _time(max(whole.used, some.used)),
            partial=slot is entry.partial,
        )
        yield Found(entry, slot.folder, model)
    for folder in entry.whole.attempts() + entry.partial.attempts():
        left = _content(folder, has_holes=True)
        model = CachedModel(
            str(entry.model),
            folder.path,
            sum(left.sizes.values()),
            _time(max(left.used, left.changed)),
            partial=True,
            unfinished=True,
        )
        yield Found(entry, folder, model)


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds).astimezone()


@dataclass
class _Content:
    r"""Files in a folder, and when they were used.

    Args:
        sizes: bytes of each file, by device and inode
        used: when the folder was changed, which is how a use is noted
        changed: when the last file was changed

    """

    sizes: dict[tuple[int, int], int]
    used: float = 0
    changed: float = 0


def _content(folder: Folder, *, has_holes: bool = False) -> _Content:
    content = _Content({})
    # It may be taken away in the meantime
    with contextlib.suppress(OSError):
        content.used = folder.status().st_mtime
    for item in folder.walk():
        if item.is_file:
            status = item.status
            size = status.st_size
            if has_holes:
                size = min(size, status.st_blocks * 512)
            content.sizes[(status.st_dev, status.st_ino)] = size
            content.changed = max(content.changed, status.st_mtime)
    return content


def prune(
    root: str,
    max_age: datetime.timedelta | None,
    max_size: int | None,
    *,
    dry_run: bool = False,
) -> list[CachedModel]:
    r"""Remove the least recently used models, unless a process loads them.

    Args:
        root: cache folder
        max_age: time that models may be unused
        max_size: bytes that all models may have together,
            0 removes models without content as well
        dry_run: whether to remove nothing

    Returns:
        models that were removed, or would be

    Raises:
        CacheError: if the cache cannot be read or changed

    """
    items = find(root)
    size = sum(item.model.size for item in items)
    # If several machines use the cache, the clock of one may be wrong
    now = _time(Folder(root).now()) if items else _time(0)
    for item in items:
        if item.model.last_used > now and not dry_run:
            # It lies in the future
            with contextlib.suppress(OSError):
                item.folder.touch()
    removed = []
    # A cache of no bytes is empty
    enough = math.inf if max_size is None else max_size or -1
    queue = [(min(item.model.last_used, now), n) for n, item in enumerate(items)]
    heapq.heapify(queue)
    while queue:
        used, number = heapq.heappop(queue)
        item = items[number]
        is_old = max_age is not None and now - used >= max_age
        if not is_old and size <= enough:
            break
        with contextlib.suppress(CacheBusyError), _locked(item):
            latest = min(_last_used(item), now)
            if latest > used:
                # A process has used it since the cache was listed
                heapq.heappush(queue, (latest, number))
                continue
            if not dry_run:
                _remove(item)
            size -= item.model.size
            removed.append(item.model)
    return removed


def remove(items: Sequence[Found], *, dry_run: bool = False) -> None:
    r"""Remove files of models that no process is loading.

    Args:
        items: what to remove
        dry_run: whether to remove nothing

    Raises:
        CacheBusyError: if a process is loading one of the models
        CacheError: if the cache cannot be changed

    """
    removed: list[str] = []
    for found in items:
        with noting("Removed", removed), _locked(found):
            if not dry_run:
                _remove(found)
                removed.append(found.model.uid)


def _remove(found: Found) -> None:
    entry = found.entry
    if found.model.unfinished:
        found.folder.parent.remove(found.folder.name)
    else:
        for slot in (entry.whole, entry.partial):
            slot.remove()
        entry.forget()
    logger.info("Removed '%s' from the cache '%s'.", entry.model, entry.root)


def _last_used(found: Found) -> datetime.datetime:
    r"""When a model was used, as far as it is known by now."""
    folders = [found.folder]
    if not found.model.unfinished:
        folders = [found.entry.whole.folder, found.entry.partial.folder]
    latest = found.model.last_used
    for folder in folders:
        with contextlib.suppress(OSError):
            latest = max(latest, _time(folder.status().st_mtime))
    return latest


@contextmanager
def _locked(found: Found) -> Iterator[None]:
    r"""Lock a model, unless a process is loading it."""
    entry, model = found.entry, found.model
    slots = (entry.whole, entry.partial)
    try:
        with (
            entry.whole.lock(timeout=0),
            entry.partial.lock(timeout=0, reenter=False),
        ):
            if model.unfinished and not any(
                slot.is_left(found.folder) for slot in slots
            ):
                raise _busy(model)
            yield
    except CacheBusyError as error:
        raise _busy(model) from error


def _busy(model: CachedModel) -> CacheBusyError:
    return CacheBusyError(
        f"The model '{model.uid}' in '{model.path}' cannot be removed, "
        "since a process is loading it. Wait until it is done, or stop it."
    )

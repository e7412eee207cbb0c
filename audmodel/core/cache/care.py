r"""List the models in a cache, and remove them.

To remove a model, its folder is renamed
while its locks are held, and then deleted.
Processes that have opened a file of the model can still read it.

"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
from contextlib import contextmanager
from dataclasses import dataclass
import datetime
import heapq
import logging
import os
import re

from audmodel.core import uid as ids
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.cache.results import CachedModel
from audmodel.core.cache.tree import Folder
from audmodel.core.errors import CacheBusyError
from audmodel.core.errors import CacheError
from audmodel.core.uid import ModelId


logger = logging.getLogger("audmodel")

# Finished models, some files of a model, and attempts to load either
_FOLDER = re.compile(
    r"(?P<whole>[^.~+][^~+]*)~?|\.(?P<version>[^~+]+)(?:\+files|(?:\+files)?~.+)"
)


def cached(root: str) -> list[CachedModel]:
    r"""Everything that a cache holds of models.

    Args:
        root: cache folder

    Returns:
        models, in the order of their IDs

    Raises:
        CacheError: if the cache cannot be read

    """
    found: list[CachedModel] = []
    for short in sorted(_folders(Folder(root))):
        if ids.is_short(short):
            matches = map(_FOLDER.fullmatch, _folders(Folder(root, short)))
            versions = {
                match["whole"] or match["version"] for match in matches if match
            }
            for version in ids.sort_versions(set(filter(ids.is_version, versions))):
                found += _models(CacheEntry(root, ModelId(short, version)))
    return found


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


def _models(entry: CacheEntry) -> Iterator[CachedModel]:
    r"""Entries for one version of a model: the model, and attempts to load it."""
    whole, some = _content(entry.whole.folder), _content(entry.partial.folder)
    # Files of a partial load that became part of the whole model count once
    sizes = {**some.sizes, **whole.sizes}
    slot = entry.slot
    if slot is not None:
        yield CachedModel(
            str(entry.model),
            slot.folder.path,
            sum(sizes.values()),
            _time(max(whole.used, some.used)),
            partial=slot is entry.partial,
        )
    for folder in entry.whole.attempts() + entry.partial.attempts():
        left = _content(folder, has_holes=True)
        yield CachedModel(
            str(entry.model),
            folder.path,
            sum(left.sizes.values()),
            _time(max(left.used, left.changed)),
            partial=True,
            unfinished=True,
        )


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
        max_size: bytes that all models may have together
        dry_run: whether to remove nothing

    Returns:
        models that were removed, or would be

    Raises:
        CacheError: if the cache cannot be read or changed

    """
    models = cached(root)
    size = sum(model.size for model in models)
    # If several machines use the cache, the clock of one may be wrong
    now = _time(Folder(root).now()) if models else _time(0)
    for model in models:
        if model.last_used > now and not dry_run:
            _use_now(root, model)
    removed = []
    queue = [(min(m.last_used, now), number) for number, m in enumerate(models)]
    heapq.heapify(queue)
    while queue:
        used, number = heapq.heappop(queue)
        model = models[number]
        is_old = max_age is not None and now - used >= max_age
        if not is_old and (max_size is None or size <= max_size):
            break
        with contextlib.suppress(CacheBusyError), _locked(root, model) as entry:
            latest = min(_last_used(entry, model), now)
            if latest > used:
                # A process has used it since the cache was listed
                heapq.heappush(queue, (latest, number))
                continue
            if not dry_run:
                _remove(entry, model)
            size -= model.size
            removed.append(model)
    return removed


def remove(root: str, model: CachedModel) -> None:
    r"""Remove a model that no process is loading.

    Args:
        root: cache folder
        model: what to remove

    Raises:
        CacheBusyError: if a process is loading the model
        CacheError: if the cache cannot be changed

    """
    with _locked(root, model) as entry:
        _remove(entry, model)


def _remove(entry: CacheEntry, model: CachedModel) -> None:
    if model.unfinished:
        attempt = _folder(entry.root, model)
        attempt.parent.remove(attempt.name)
    else:
        for slot in (entry.whole, entry.partial):
            slot.remove()
        entry.forget()
    logger.info("Removed '%s' from the cache '%s'.", model.uid, entry.root)


def _use_now(root: str, model: CachedModel) -> None:
    r"""Set the last use of a model to now, if it lies in the future."""
    with contextlib.suppress(OSError):
        _folder(root, model).touch()


def _last_used(entry: CacheEntry, model: CachedModel) -> datetime.datetime:
    r"""When a model was used, as far as it is known by now."""
    folders = [_folder(entry.root, model)]
    if not model.unfinished:
        folders = [entry.whole.folder, entry.partial.folder]
    latest = model.last_used
    for folder in folders:
        with contextlib.suppress(OSError):
            latest = max(latest, _time(folder.status().st_mtime))
    return latest


def _folder(root: str, model: CachedModel) -> Folder:
    return Folder(root, os.path.relpath(model.path, root).replace(os.sep, "/"))


@contextmanager
def _locked(root: str, model: CachedModel) -> Iterator[CacheEntry]:
    r"""Lock a model, unless a process is loading it."""
    parsed = ids.parse(model.uid)
    assert isinstance(parsed, ModelId)
    entry = CacheEntry(root, parsed)
    slots = (entry.whole, entry.partial)
    try:
        with (
            entry.whole.lock(timeout=0),
            entry.partial.lock(timeout=0, borrow=False),
        ):
            attempt = _folder(entry.root, model)
            if model.unfinished and not any(slot.is_left(attempt) for slot in slots):
                raise _busy(model)
            yield entry
    except CacheBusyError as error:
        raise _busy(model) from error


def _busy(model: CachedModel) -> CacheBusyError:
    return CacheBusyError(
        f"The model '{model.uid}' in '{model.path}' cannot be removed, "
        "since a process is loading it. Wait until it is done, or stop it."
    )

r"""Load several models, with workers that they share."""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import dataclasses
import logging
import time

from audmodel.core.archive import format
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.errors import CacheBusyError
from audmodel.core.operations import loading
from audmodel.core.operations.archives import find_directory
from audmodel.core.operations.find import Found
from audmodel.core.operations.find import Wanted
from audmodel.core.operations.find import confirm
from audmodel.core.operations.find import find
from audmodel.core.operations.local import Local
from audmodel.core.operations.noting import noted
from audmodel.core.operations.options import LoadOptions
from audmodel.core.process.requests import prefetch_requests
from audmodel.core.progress.announced import Announced
from audmodel.core.uid import ModelId


logger = logging.getLogger("audmodel")
# Seconds that are worth a message
_LONG_WAIT = 0.5


def log_cached(entry: CacheEntry) -> None:
    r"""Log that the model was in the cache.

    Args:
        entry: place in the cache

    """
    logger.info("Loaded '%s' from the cache '%s'.", entry.model, entry.root)


def load(found: Found, options: LoadOptions) -> str:
    r"""Load a model, unless another process is faster.

    Args:
        found: the model
        options: which files, how, and how long to wait for another process

    Returns:
        path of the folder that holds the files

    Raises:
        LockTimeoutError: if another process loads the model for longer
        ArchiveError: if the archive is damaged, or not the published one
        CacheError: if the cache cannot be written to
        FileNotInModelError: if a pattern matches no file
        RepositoryError: if the archive cannot be read

    """
    entry = found.entry
    slot = entry.whole if options.files is None else entry.partial
    start = time.monotonic()
    waiting = options.start_progress.waiting
    with slot.lock(timeout=options.timeout, waiting=waiting):
        waited = time.monotonic() - start
        if waited > _LONG_WAIT:
            logger.info(
                "Waited %.1f s for another process that used '%s'.",
                waited,
                entry.model,
            )
        # Another process may have loaded it while this one waited
        path = Local(entry).path(options.files)
        if path is not None:
            log_cached(entry)
            return path
        path = loading.load(found, noted(options, slot))
        if options.files is None:
            slot.tidy()
            entry.partial.tidy_if_free()
        return path


def load_all(models: Sequence[Wanted], options: LoadOptions) -> dict[ModelId, str]:
    r"""Load models: small ones side by side, large ones in parts.

    A model that another process loads has to wait
    until all others are done.
    No thread ever waits for one lock while it holds another,
    so that processes that load the same models in another order
    cannot wait for each other forever.

    Args:
        models: the models
        options: which files of each model, how long to wait for another process,
            and the number of threads for all models together

    Returns:
        paths of the folders that hold the files

    Raises:
        LockTimeoutError: if another process loads a model for longer
        ArchiveError: if an archive is damaged, or not the published one
        CacheError: if the cache cannot be written to
        FileNotInModelError: if a pattern matches no file of a model
        InvalidDocumentError: if the header of a model is not valid
        ModelNotFoundError: if a model does not exist,
            in which case nothing is fetched
        RepositoryError: if a repository cannot be used

    """
    num_workers = options.num_workers

    def prepare(wanted: Wanted) -> tuple[Found, int]:
        found = find(wanted)
        identity = found.header.archive
        if identity is None:
            return found, find_directory(wanted).compressed_size
        return found, identity.size

    paths: dict[ModelId, str] = {}
    missing = [each for each in models if not _find_cached(each, options, paths)]
    with contextlib.closing(
        prefetch_requests(prepare, missing, num_workers=num_workers)
    ) as prepared:
        sized = list(prepared)
    # A large one keeps as many workers busy as it has parts
    limit = num_workers * format.PART_SIZE
    small = [found for found, size in sized if size <= limit]
    large = [found for found, size in sized if size > limit]
    announced = {
        found.model: Announced(options.start_progress, size) for found, size in sized
    }
    busy: list[Found] = []

    def load_one(found: Found, options: LoadOptions) -> None:
        progress = announced[found.model]
        own = dataclasses.replace(options, start_progress=progress)
        paths[found.model] = load(found, own)
        progress.end()

    def attempt(found: Found, workers: int) -> None:
        at_once = dataclasses.replace(options, num_workers=workers, timeout=0)
        try:
            load_one(found, at_once)
        except CacheBusyError:
            busy.append(found)

    with contextlib.closing(
        prefetch_requests(lambda item: attempt(item, 1), small, num_workers=num_workers)
    ) as results:
        for _ in results:
            pass
    for found in large:
        attempt(found, num_workers)
    for found in busy:
        load_one(found, options)
    return paths


def _find_cached(
    wanted: Wanted, options: LoadOptions, paths: dict[ModelId, str]
) -> bool:
    r"""Add the path of a model that is in the cache, and tell whether it is."""
    confirm(wanted)
    path = Local(wanted.entry).path(options.files)
    if path is not None:
        log_cached(wanted.entry)
        paths[wanted.model] = path
    return path is not None

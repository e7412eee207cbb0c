r"""Load several models, with workers that they share."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
from dataclasses import dataclass

from audmodel.core import loading
from audmodel.core.archive import format
from audmodel.core.backend.connections import prefetch_requests
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.find import find
from audmodel.core.find import find_directory
from audmodel.core.header import Header
from audmodel.core.repository import Repository
from audmodel.core.uid import ModelId


@dataclass(frozen=True)
class Task:
    r"""Model that is to be loaded.

    Args:
        entry: place in the cache
        place: repository that holds it
        header: header of the model
        patterns: which files, all of them if it is ``None``

    """

    entry: CacheEntry
    place: Repository
    header: Header
    patterns: Sequence[str] | None

    @property
    def cached_path(self) -> str | None:
        r"""Folder of what is asked for, if all of it is in the cache."""
        return loading.cached_path(self.entry, self.patterns)


StartProgress = Callable[[int], loading.Progress]


def task(entry: CacheEntry, patterns: Sequence[str] | None) -> Task:
    r"""Find out what is needed to load a model.

    Args:
        entry: place in the cache
        patterns: which files, all of them if it is ``None``

    Returns:
        task

    Raises:
        InvalidDocumentError: if the header of the model is not valid
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    """
    _, place, header = find(str(entry.model), entry.root)
    return Task(entry, place, header, patterns)


def load(
    task: Task, *, timeout: float, num_workers: int, start_progress: StartProgress
) -> str:
    r"""Load a model, unless another process is faster.

    Args:
        task: what to load
        timeout: seconds to wait for another process, forever if negative
        num_workers: number of threads
        start_progress: called with the number of bytes of the files,
            gives a function that is called with the bytes that are done

    Returns:
        path of the folder that holds the files

    Raises:
        filelock.Timeout: if another process loads the model for longer
        ArchiveError: if the archive is damaged, or not the published one
        CacheError: if the cache cannot be written to
        FileNotInModelError: if a pattern matches no file
        RepositoryError: if the archive cannot be read

    """
    from audmodel.core.lookup import open_registry

    entry = task.entry
    slot = entry.whole if task.patterns is None else entry.partial
    with slot.lock(timeout=timeout):
        # Another process may have loaded it while this one waited
        path = task.cached_path
        if path is not None:
            return path
        with open_registry(task.place) as registry:
            path = loading.load(
                registry,
                task.header,
                entry,
                task.patterns,
                num_workers=num_workers,
                start_progress=start_progress,
            )
        slot.tidy()
        return path


def load_all(
    entries: Sequence[CacheEntry],
    patterns: Sequence[str] | None,
    *,
    timeout: float,
    num_workers: int,
    start_progress: StartProgress,
) -> dict[ModelId, str]:
    r"""Load models: small ones side by side, large ones in parts.

    A model that another process loads has to wait
    until all others are done.
    No thread ever waits for one lock while it holds another,
    so that processes that load the same models in another order
    cannot wait for each other forever.

    Args:
        entries: places in the cache
        patterns: which files, all of them if it is ``None``
        timeout: seconds to wait for another process, forever if negative
        num_workers: number of threads for all models together
        start_progress: called with the number of bytes of the files of each model,
            gives a function that is called with the bytes that are done

    Returns:
        paths of the folders that hold the files

    Raises:
        filelock.Timeout: if another process loads a model for longer
        ArchiveError: if an archive is damaged, or not the published one
        CacheError: if the cache cannot be written to
        FileNotInModelError: if a pattern matches no file of a model
        InvalidDocumentError: if the header of a model is not valid
        ModelNotFoundError: if a model does not exist,
            in which case nothing is fetched
        RepositoryError: if a repository cannot be used

    """
    import filelock

    def prepare(entry: CacheEntry) -> tuple[Task, bool]:
        found = task(entry, patterns)
        identity = found.header.archive
        if identity is not None:
            size = identity.size
        else:
            size = find_directory(str(entry.model), entry.root).size
        # It keeps as many workers busy as it has parts
        return found, size > num_workers * format.PART_SIZE

    paths: dict[ModelId, str] = {}
    missing: list[CacheEntry] = []
    for entry in entries:
        path = loading.cached_path(entry, patterns)
        if path is None:
            missing.append(entry)
        else:
            paths[entry.model] = path
    with contextlib.closing(
        prefetch_requests(prepare, missing, num_workers=num_workers)
    ) as prepared:
        tasks = list(prepared)
    small = [found for found, is_large in tasks if not is_large]
    large = [found for found, is_large in tasks if is_large]
    busy: list[Task] = []

    def attempt(task: Task, workers: int) -> None:
        try:
            paths[task.entry.model] = load(
                task, timeout=0, num_workers=workers, start_progress=start_progress
            )
        except filelock.Timeout:
            busy.append(task)

    with contextlib.closing(
        prefetch_requests(lambda task: attempt(task, 1), small, num_workers=num_workers)
    ) as results:
        for _ in results:
            pass
    for item in large:
        attempt(item, num_workers)
    for item in busy:
        paths[item.entry.model] = load(
            item,
            timeout=timeout,
            num_workers=num_workers,
            start_progress=start_progress,
        )
    return paths

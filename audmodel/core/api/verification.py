r"""Is a model what was published?"""

from __future__ import annotations

from audmodel.core.cache.entry import CacheEntry
from audmodel.core.errors import InvalidInputError
from audmodel.core.operations.find import find
from audmodel.core.operations.find import resolve
from audmodel.core.operations.results import Verification
from audmodel.core.process.workers import check_num_workers
from audmodel.core.process.workers import check_timeout
from audmodel.core.repository.config import cache_folder


def verify(
    uid: str,
    *,
    repair: bool = False,
    remote: bool = False,
    cache_root: str | None = None,
    timeout: float | None = 14400,
    num_workers: int | None = 1,
    verbose: bool = False,
) -> Verification:
    r"""Compare a model to what was published.

    Each file in the cache is read
    and compared to the digests in the directory of the archive,
    or to its CRC-32 if the model was published by an earlier release.
    Of a model of which only some files were loaded, these are compared.

    Args:
        uid: model ID or alias.
            Without version it is the latest version
        repair: whether to fetch what is damaged or missing,
            of large files only the parts that are.
            A file is replaced as one step,
            and who has opened it before goes on reading the old one
        remote: whether to read what the repository holds,
            without storing it, instead of what is in the cache
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``
        timeout: seconds to wait for another process
            that loads or repairs the same model,
            forever if negative or ``None``
        num_workers: number of parallel workers,
            with 1 everything happens in the calling thread,
            ``None`` chooses a number for the machine
        verbose: whether to show a progress bar

    Returns:
        what is damaged

    Raises:
        TypeError: if ``uid`` is not a string
        ValueError: if ``num_workers`` is not a positive integer
        ArchiveError: if the archive is missing, or not the published one,
            or its directory is damaged
        CacheError: if the cache cannot be written to
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if both ``repair`` and ``remote`` are set
        LockTimeoutError: if another process is at work on the model
            for longer than ``timeout``
        ModelNotFoundError: if the model does not exist
        NotCachedError: if the model is not in the cache
        RepositoryError: if a repository cannot be used

    Examples:
        >>> root = audmodel.load("3e120e8d-1.0.0")
        >>> audmodel.verify("3e120e8d-1.0.0").ok
        True
        >>> os.remove(os.path.join(root, "readme.txt"))
        >>> result = audmodel.verify("3e120e8d-1.0.0")
        >>> [(file.path, file.problem) for file in result.damaged]
        [('readme.txt', 'missing')]
        >>> audmodel.verify("3e120e8d-1.0.0", repair=True).ok
        True

    """
    from audmodel.core.operations import verification
    from audmodel.core.operations.archives import find_directory
    from audmodel.core.progress import progress_bar

    num_workers = check_num_workers(num_workers)
    timeout = check_timeout(timeout)
    if repair and remote:
        raise InvalidInputError(
            "What a repository holds cannot be repaired. "
            "Use either 'repair' or 'remote'."
        )
    cache_root = cache_folder(cache_root)
    model = resolve(uid, cache_root)
    entry = CacheEntry(cache_root, model)
    with progress_bar(f"Verify {model}", verbose=verbose) as start_progress:
        if remote:
            return verification.verify_remote(
                find(model, cache_root, any_archive=True),
                num_workers=num_workers,
                start_progress=start_progress,
            )
        verification.slot_of(entry)  # before a repository is asked
        directory = find_directory(str(model), cache_root)
        result, differences = verification.verify(
            entry, directory, num_workers=num_workers, start_progress=start_progress
        )
    if not differences or not repair:
        return result
    found = find(model, cache_root, any_archive=True)
    slot = verification.slot_of(found.entry)
    with slot.lock(timeout=timeout):
        return verification.repair(found, slot, num_workers=num_workers)

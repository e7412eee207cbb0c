r"""What loading or publishing would move."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import datetime

from audmodel.core.api.models import publication
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.operations.find import resolve
from audmodel.core.operations.results import Transfer
from audmodel.core.process.workers import check_num_workers
from audmodel.core.repository.config import cache_folder
from audmodel.core.repository.repository import Repository
from audmodel.core.selection import check_patterns


def plan_load(
    uid: str,
    *,
    files: str | Iterable[str] | None = None,
    cache_root: str | None = None,
    num_workers: int | None = 1,
) -> Transfer:
    r"""What :func:`audmodel.load` would fetch.

    Nothing but the directory of the archive is fetched,
    and kept in the cache.
    What is in the cache is looked at,
    so that the numbers are those of the load that comes next.
    They are of the archive,
    next to which a few small records are read,
    and exact unless files that are there have to be looked at once more:
    after a power failure, and if they belong to somebody else.

    Args:
        uid: model ID or alias.
            Without version it is the latest version
        files: pattern or patterns of files, see :func:`audmodel.load`
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``
        num_workers: number of parallel workers of the load,
            of which the number of requests depends

    Returns:
        files and bytes that are missing in the cache,
        and what it takes to fetch them

    Raises:
        TypeError: if ``uid`` or a pattern is not a string
        ValueError: if ``num_workers`` is not a positive integer
        ArchiveError: if the archive is damaged or not the published one
        ConfigurationError: if the configuration cannot be used
        FileNotInModelError: if a pattern matches no file
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> transfer = audmodel.plan_load("3e120e8d-1.0.0")
        >>> transfer.files, transfer.size, transfer.requests
        (4, 16454, 1)
        >>> root = audmodel.load("3e120e8d-1.0.0")
        >>> audmodel.plan_load("3e120e8d-1.0.0").bytes
        0

    """
    from audmodel.core.operations import planning

    patterns = None if files is None else check_patterns(files)
    num_workers = check_num_workers(num_workers)
    cache_root = cache_folder(cache_root)
    entry = CacheEntry(cache_root, resolve(uid, cache_root))
    return planning.load(entry, patterns, num_workers)


def plan_publish(
    root: str,
    name: str,
    params: Mapping[str, object],
    version: str,
    *,
    repository: Repository | None = None,
    alias: str | None = None,
    author: str | None = None,
    compression: int = 1,
    date: datetime.date | str | None = None,
    meta: Mapping[str, object] | None = None,
    subgroup: str | None = None,
) -> Transfer:
    r"""What :func:`audmodel.publish` would send.

    Everything is checked that is checked before a model is published,
    and nothing is stored.
    Files are not compressed for this,
    so bytes and requests are an estimate for files that do not shrink.

    Args:
        root: see :func:`audmodel.publish`, as all other arguments
        name: name of the model
        params: parameters of the model
        version: version of the model
        repository: where to publish
        alias: alias that points to the model afterwards
        author: name of the author
        compression: compression level
        date: date of publication
        meta: metadata
        subgroup: subgroup of the model

    Returns:
        files and bytes that would be read,
        and what it takes to send them

    Raises:
        FileNotFoundError: if ``root`` is not a folder
        TypeError: if an argument is of the wrong type
        ConfigurationError: if the configuration cannot be used,
            or names no repository
        InvalidDataError: if ``params``, ``meta`` or ``author`` hold something
            that cannot be stored
        InvalidFolderError: if ``root`` holds no files,
            or something that cannot be published
        InvalidInputError: if another argument is not valid
        ModelExistsError: if the repository, or one that is searched before,
            holds the model already,
            or another model with the same short ID
        RepositoryError: if the repository cannot be used

    Examples:
        >>> transfer = audmodel.plan_publish(
        ...     "my-model",
        ...     "onnx",
        ...     {"sampling_rate": 16000},
        ...     "1.0.0",
        ... )
        >>> transfer.uid, transfer.files, transfer.size, transfer.exact
        ('7a704d69-1.0.0', 4, 16454, False)

    """
    from audmodel.core.operations import planning

    planned, place = publication(
        root,
        name,
        params,
        version,
        repository=repository,
        alias=alias,
        author=author,
        compression=compression,
        date=date,
        meta=meta,
        subgroup=subgroup,
        tmp_root=None,
    )
    return planning.publish(planned, place)

r"""Tell in advance what is fetched or sent."""

from __future__ import annotations

from collections.abc import Sequence
import contextlib

from audmodel.core import loading
from audmodel.core.archive import comparing
from audmodel.core.archive import encoding
from audmodel.core.archive import forecast
from audmodel.core.archive import format
from audmodel.core.backend.base import TAIL
from audmodel.core.backend.base import ObjectBackend
from audmodel.core.backend.errors import RepositoryNotFoundError
from audmodel.core.cache import CacheEntry
from audmodel.core.config import is_embedded
from audmodel.core.find import find
from audmodel.core.lookup import open_registry
from audmodel.core.publishing import Publication
from audmodel.core.publishing import check_absent
from audmodel.core.repository import Repository
from audmodel.core.results import Transfer


# Requests for header, claim and metadata, each looked at or stored,
# and for an alias
_RECORDS = 8
_ALIAS = 2


def load(
    entry: CacheEntry, patterns: Sequence[str] | None, num_workers: int
) -> Transfer:
    r"""What loading a model would fetch.

    Args:
        entry: place in the cache
        patterns: which files, all of them if it is ``None``
        num_workers: number of workers of the load

    Returns:
        files that are missing, and what it takes to fetch them

    Raises:
        ArchiveError: if the archive is damaged, or not the published one
        FileNotInModelError: if a pattern matches no file
        RepositoryError: if a repository cannot be used

    """
    uid = str(entry.model)
    if loading.cached_path(entry, patterns) is not None:
        return Transfer(uid, 0, 0, 0, 0, exact=True)
    _, place, header = find(uid, entry.root)
    with open_registry(place) as registry:
        has_ranges = isinstance(registry.backend, ObjectBackend)
        with loading.open_archive(registry, header, entry) as (archive, directory):
            size = archive.size
    if patterns is None:
        known = comparing.right_files(entry.partial_folder, directory.members, 1)
        files = [file for file in directory.files() if file.name not in known]
    else:
        files = loading.absent(
            entry.partial_folder, loading.selected(directory, patterns, entry.model)
        )
    raw = sum(file.size for file in files)
    if not has_ranges:
        return Transfer(uid, len(files), raw, size, 1, exact=True)
    # It comes with the end of the archive
    tail = size - min(TAIL, size)
    ranges = [(tail, size)]
    if directory.offset < tail:
        ranges.append((directory.offset, tail))
    names = {file.name for file in files}
    staging = _staging(entry, is_partial=patterns is not None)
    ranges += [
        (start, stop)
        for start, stop in forecast.ranges(directory, names, staging, num_workers)
        if start < tail
    ]
    total = sum(stop - start for start, stop in ranges)
    return Transfer(uid, len(files), raw, total, len(ranges), exact=True)


def _staging(entry: CacheEntry, *, is_partial: bool) -> str | None:
    r"""Folder from which the next load will go on."""
    lock = entry.lock_partial if is_partial else entry.lock
    # Who cannot get the lock cannot load either
    with contextlib.suppress(OSError), lock(timeout=0):
        return entry.resumable(partial=is_partial)
    return None


def publish(publication: Publication, place: Repository) -> Transfer:
    r"""What publishing a model would send.

    Args:
        publication: what is to be published
        place: where

    Returns:
        files that would be read, and an estimate of what it takes to send them

    Raises:
        ModelExistsError: if the model was published before
        RepositoryError: if the repository cannot be used

    """
    try:
        with open_registry(place) as registry:
            check_absent(registry, publication.model)
    except RepositoryNotFoundError:
        # It is made when something is published
        if not is_embedded(place):
            raise
    files = publication.files
    raw = sum(file.size for file in files)
    total = raw + format.END_SIZE
    for file in files:
        total += encoding.local_header_length(file.name, file.size)
        total += encoding.record_length(file.name, file.size)
    requests = _RECORDS + (_ALIAS if publication.alias else 0)
    return Transfer(
        str(publication.model),
        len(files),
        raw,
        total,
        requests + _uploads(total, place),
        exact=False,
    )


def _uploads(size: int, place: Repository) -> int:
    r"""Requests that store an archive."""
    if place.backend not in ("s3", "minio"):
        return 1
    from audmodel.core.backend import s3_upload

    parts = 0
    while size > 0:
        size -= s3_upload.part_size(parts)
        parts += 1
    # What has several parts is begun, completed, and given its checksum
    return parts if parts == 1 else parts + 3

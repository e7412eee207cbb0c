r"""Compute in advance what a load fetches, and a publication sends."""

from __future__ import annotations

from collections.abc import Sequence
import contextlib

from audmodel.core.archive import comparing
from audmodel.core.archive import encoding
from audmodel.core.archive import end
from audmodel.core.archive import format
from audmodel.core.archive.dry_run import dry_run
from audmodel.core.archive.writer import ArchiveWriter
from audmodel.core.backend.errors import RepositoryNotFoundError
from audmodel.core.backend.reader import TAIL
from audmodel.core.cache.slot import Slot
from audmodel.core.cache.staging import is_reused
from audmodel.core.cache.staging import resumable_files
from audmodel.core.cache.tree import Folder
from audmodel.core.operations import seeds
from audmodel.core.operations.archives import find_directory
from audmodel.core.operations.archives import open_archive
from audmodel.core.operations.base import open_base
from audmodel.core.operations.find import Wanted
from audmodel.core.operations.find import confirm
from audmodel.core.operations.find import find
from audmodel.core.operations.loading import check_same
from audmodel.core.operations.local import Local
from audmodel.core.operations.local import absent
from audmodel.core.operations.local import remains
from audmodel.core.operations.local import selected
from audmodel.core.operations.options import LoadOptions
from audmodel.core.operations.placing import Target
from audmodel.core.operations.placing import check_plan
from audmodel.core.operations.publication import Publication
from audmodel.core.operations.published import is_published
from audmodel.core.operations.results import PublishPlan
from audmodel.core.operations.results import Transfer
from audmodel.core.process.workers import check_num_workers
from audmodel.core.progress.counters import no_progress
from audmodel.core.repository.config import is_embedded
from audmodel.core.repository.conflicts import check_found
from audmodel.core.repository.conflicts import check_free
from audmodel.core.repository.lookup import open_registry
from audmodel.core.repository.registry import Registry


# Requests for header, claim and metadata, each looked at or stored,
# for the time, and for an alias
_RECORDS = 9
_ALIAS = 2


def load_to(wanted: Wanted, options: LoadOptions, target: Target) -> Transfer:
    r"""What a load would fetch that puts a model into a folder as well.

    Args:
        wanted: the model
        options: which files the load would load, and how
        target: the folder, which is compared with the model

    Returns:
        files that are missing in the cache, and what it takes to fetch them

    Raises:
        ArchiveError: if the archive is damaged, or not the published one
        FileExistsError: if other files are in the folder
        FileNotInModelError: if a pattern matches no file
        RepositoryError: if a repository cannot be used

    """
    confirm(wanted)
    directory = find_directory(wanted)
    members: Sequence[format.Member] = directory.files()
    if options.files is not None:
        members = selected(directory, options.files, wanted.model)
    check_plan(members, target, options.num_workers)
    return load(wanted, options)


def load(wanted: Wanted, options: LoadOptions) -> Transfer:
    r"""Files, bytes and requests that a load of a model would fetch.

    Args:
        wanted: the model
        options: which files the load would load, and how

    Returns:
        files that are missing, and what it takes to fetch them

    Raises:
        ArchiveError: if the archive is damaged, or not the published one
        FileNotInModelError: if a pattern matches no file
        RepositoryError: if a repository cannot be used

    """
    confirm(wanted)
    entry = wanted.entry
    uid = str(entry.model)
    local, patterns = Local(entry), options.files
    if local.slot(patterns) is not None:
        return Transfer(uid, 0, 0, 0, 0, exact=True)
    with open_archive(find(wanted)) as archive:
        check_same(archive)
        has_ranges = archive.backend.has_ranges
        directory, size = archive.directory, archive.reader.size
        is_other = archive.is_other
    files: Sequence[format.Member] = directory.files()
    slot, other = entry.whole, entry.partial
    if patterns is not None:
        slot, other = entry.partial, entry.whole
        files = selected(directory, patterns, entry.model)
        if not is_other:
            files = absent(slot.folder, files)
    elif local.is_finished:
        files = local.missing
    known = comparing.right_files(other.folder, files, 1)
    # Files from before a power failure, or of another user,
    # are checked again by the load
    is_exact = not entry.needs_check and all(
        is_reused(other.folder, file.name, executable=file.executable)
        for file in files
        if file.name in known
    )
    files = [file for file in files if file.name not in known]
    raw = sum(file.size for file in files)
    # It comes with the end of the archive
    tail = size - min(TAIL, size)
    ranges = [(tail, size), *end.ranges(directory, size, size - tail)]
    names = {file.name for file in files}
    left = _left(entry.whole) + _left(entry.partial)
    if patterns is None and entry.needs_check:
        left.append(entry.whole.folder)
    # A load of some files forgets those of another archive first
    folders = [other.folder if is_other else slot.folder, other.folder]
    found = remains(folders, files)
    found |= {name: at for name, (_, at) in resumable_files(left, names).items()}
    expected = dry_run(
        directory,
        names,
        found.get if found else None,
        seeds.find(archive, names),
        options.num_workers,
    )
    copied = expected.copied
    if not has_ranges:
        return Transfer(uid, len(files), raw, size, 1, exact=True, copied=copied)
    ranges += [(start, stop) for start, stop in expected.ranges if start < tail]
    total = sum(stop - start for start, stop in ranges)
    return Transfer(uid, len(files), raw, total, len(ranges), is_exact, copied)


def _left(slot: Slot) -> list[Folder]:
    r"""Folders from which the next load will continue."""
    # A user that cannot get the lock cannot load either
    with contextlib.suppress(OSError), slot.lock(timeout=0):
        return slot.resumable()
    return []


def publish(publication: Publication) -> PublishPlan:
    r"""Files, bytes and requests that a publication would send.

    Args:
        publication: what is to be published, and where

    Returns:
        files that would be read, and an estimate of what it takes to send them

    Raises:
        ArchiveError: if the archive of a model that may exist cannot be read
        ModelExistsError: if the model was published before,
            with other files if it may exist
        RepositoryError: if the repository cannot be used

    """
    files = publication.files
    total = publication.size + format.END_SIZE
    for file in files:
        total += encoding.local_header_length(file.name, file.size)
        total += encoding.record_length(file.name)
        total += format.PART.size * -(-file.size // format.PART_SIZE)
    repository = publication.repository
    alias = _ALIAS if publication.alias else 0
    if publication.exist_ok and _exists(publication):
        return _plan(publication, 0, alias)
    requests = _RECORDS + alias
    check_found(publication.model, publication.header, repository)
    try:
        with open_registry(repository) as registry:
            check_free(registry, publication.model, publication.header)
            total, count = _write(registry, publication, total)
            requests += count
    except RepositoryNotFoundError:
        # It is made when a model is published
        if not is_embedded(repository):
            raise
        requests += 1
    return _plan(publication, total, requests)


def _plan(publication: Publication, size: int, requests: int) -> PublishPlan:
    r"""What is sent, and what of the folder is left out."""
    return PublishPlan(
        str(publication.model),
        len(publication.files),
        publication.size,
        size,
        requests,
        exact=False,
        excluded=tuple(publication.folder.excluded),
        suspicious=tuple(publication.suspicious),
    )


def _exists(publication: Publication) -> bool:
    r"""Whether the model exists with the same files."""
    try:
        with open_registry(publication.repository) as registry:
            return is_published(registry, publication, no_progress)
    except RepositoryNotFoundError:
        if not is_embedded(publication.repository):
            raise
        return False


def _write(registry: Registry, publication: Publication, size: int) -> tuple[int, int]:
    r"""Bytes and requests that store an archive.

    Args:
        registry: where it is stored
        publication: what is to be published
        size: estimated size of the archive

    """
    backend = registry.backend
    opened = open_base(
        registry, publication.base, publication.model, publication.size, is_dry=True
    )
    with opened as base:
        if base is None:
            return size, backend.write_requests(size)
        # Which parts the base has is known only after they were read
        writer = ArchiveWriter(
            publication.files,
            compression=publication.compression,
            num_workers=check_num_workers(None),
        )
        with contextlib.closing(writer.pieces()) as pieces:
            return backend.compose_requests(map(base.chunk, pieces))

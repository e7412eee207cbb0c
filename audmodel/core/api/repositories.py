r"""Check, audit and tidy up repositories."""

from __future__ import annotations

import datetime

from audmodel.core.api.arguments import age
from audmodel.core.api.arguments import one_repository
from audmodel.core.process.workers import check_num_workers
from audmodel.core.progress.report import Reporter
from audmodel.core.progress.views import ShowProgress
from audmodel.core.repository.repository import Repository


TYPE_CHECKING = False
if TYPE_CHECKING:
    from audmodel.core.repository.audit import Finding
    from audmodel.core.repository.orphans import Leftover
    from audmodel.core.repository.probe import RepositoryReport


def audit_repository(
    repository: Repository | str,
    *,
    repair: bool = False,
    num_workers: int | None = 1,
    verbose: bool = False,
    progress: ShowProgress | None = None,
) -> list[Finding]:
    r"""Find out whether the records of a repository are complete and consistent.

    The audit lists the whole repository once,
    and reads its headers, metadata and aliases, but no archives.
    It checks whether each model has an archive and metadata,
    whether the model of each alias exists,
    whether all records can be read,
    and whether the list of aliases of each model agrees with the aliases.
    To verify archives, see :func:`audmodel.verify` with ``remote=True``;
    to find orphans, see :func:`audmodel.leftovers`.

    Args:
        repository: the repository, or its label or name in the configuration
        repair: whether to rebuild lists of aliases
            that do not agree with the aliases.
            Nothing else can be repaired from the repository itself:
            each finding says what to do.
            To store a lost archive again,
            publish the same folder with ``repair=True``
        num_workers: number of records that are read at the same time,
            ``None`` chooses a number for the machine
        verbose: whether to show a progress bar
        progress: function or bar that is told of the progress, see :doc:`/progress`

    Returns:
        findings, sorted by path, and whether they were repaired

    Raises:
        TypeError: if ``repository`` is neither a repository nor a name
        ValueError: if ``num_workers`` is not a positive integer
        ConfigurationError: if the configuration cannot be used
        InvalidInputError: if no configured repository has the name
        RepositoryError: if the repository cannot be read,
            or, with ``repair``, changed

    Examples:
        >>> audmodel.audit_repository(repository)
        []

    """
    from audmodel.core.repository import audit
    from audmodel.core.repository.lookup import open_registry

    reporter = Reporter(verbose=verbose, progress=progress)
    num_workers = check_num_workers(num_workers)
    with (
        open_registry(one_repository(repository)) as registry,
        reporter.report("Read records", "records") as start_progress,
    ):
        return audit.find(
            registry,
            repair=repair,
            num_workers=num_workers,
            start_progress=start_progress,
        )


def check_repository(repository: Repository | str) -> RepositoryReport:
    r"""Test whether a storage meets the requirements of audmodel.

    The check tests the storage:
    if many writers create the same object at the same moment,
    exactly one has to succeed,
    and the same holds for writers that replace it;
    an object that was replaced or deleted in the meantime
    must not be replaced;
    a new object can be read and listed at once,
    a large one in ranges;
    and a deleted object is gone at once.
    The objects of the check are removed again.

    An S3 storage that fails the first of these tests
    has no conditional writes.
    audmodel refuses to publish to it
    unless the repository is marked as ``unprotected``.

    Args:
        repository: the repository, which has to exist,
            or its label or name in the configuration.
            The credentials have to allow writing and deleting

    Returns:
        report with the verdict ``ok``,
        and ``checks`` that say what was observed and what it means;
        ``str()`` gives a text

    Raises:
        TypeError: if ``repository`` is neither a repository nor a name
        ConfigurationError: if its backend is not known,
            or the configuration cannot be used
        InvalidInputError: if no configured repository has the name
        RepositoryError: if the repository cannot be used

    Examples:
        >>> report = audmodel.check_repository(repository)
        >>> report.ok
        True

    """
    from audmodel.core.repository import probe
    from audmodel.core.repository.lookup import open_registry

    with open_registry(one_repository(repository)) as registry:
        backend = registry.backend
        return probe.RepositoryReport(
            registry.repository, probe.probe(backend), backend.no_conditional_writes
        )


def leftovers(
    repository: Repository | str,
    *,
    remove: bool = False,
    min_age: datetime.timedelta | float = datetime.timedelta(days=7),
    unproven: bool = False,
) -> list[Leftover]:
    r"""Find orphans in a repository: objects that dead processes left.

    Orphans belong to no model, but take up space.
    They are archives and metadata of models that were never committed,
    or not deleted to the end,
    claims, unfinished uploads, temporary files,
    and lists of aliases of models that do not exist.
    Aliases that point to missing models are reported,
    and removed only if the model was being deleted together with them.

    ``remove`` deletes only objects that the claim of a dead process names,
    that a dead process of this file system was writing,
    or that a test of the storage left.
    Any other object without a header is reported as not ``proven``, and is kept:
    a backup may be about to be restored,
    a header may have been deleted by mistake,
    a publisher may have died just before the model was published,
    and audmodel 1.5.3 stores no claims.
    A repository inside a folder of this one is ignored.

    Objects that are in use are never removed:
    before an object of a model is removed,
    the claim of the model is acquired,
    and the header is read to make sure that the model does not exist.
    An object that changed since it was found is kept.

    Args:
        repository: the repository, or its label or name in the configuration
        remove: whether to remove the orphans
        min_age: report only objects that were stored at least this long ago,
            by the clock of the storage, as seconds if it is a number.
            In a folder the time of the last change of the file counts as well
        unproven: whether to remove objects that are not ``proven`` as well.
            Check the list first, and never do this while a backup is restored

    Returns:
        orphans, sorted by path, and whether they were removed

    Raises:
        TypeError: if an argument is of the wrong type
        ConfigurationError: if the configuration cannot be used
        InvalidInputError: if ``min_age`` is negative,
            or no configured repository has the name
        RepositoryError: if the repository cannot be read,
            or, with ``remove``, changed

    Examples:
        >>> audmodel.leftovers(repository)
        []

    """
    from audmodel.core.repository import orphans
    from audmodel.core.repository.lookup import open_registry

    oldest = age(min_age, "min_age")
    with open_registry(one_repository(repository)) as registry:
        return orphans.find(registry, remove=remove, min_age=oldest, unproven=unproven)

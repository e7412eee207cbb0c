r"""What there is to know about a repository, and to tidy up."""

from __future__ import annotations

from audmodel.core.errors import InvalidInputError
from audmodel.core.process.workers import check_num_workers
from audmodel.core.repository.repository import Repository
from audmodel.core.repository.repository import check_type


TYPE_CHECKING = False
if TYPE_CHECKING:
    from audmodel.core.repository.audit import Finding
    from audmodel.core.repository.leftovers import Leftover
    from audmodel.core.repository.probe import RepositoryReport


def audit_repository(
    repository: Repository,
    *,
    repair: bool = False,
    num_workers: int | None = 1,
    verbose: bool = False,
) -> list[Finding]:
    r"""Find out whether everything in a repository fits together.

    The whole repository is listed once,
    and its headers, metadata and aliases are read, but no archives:
    whether each model has its archive and its metadata,
    and each alias its model,
    whether all records can be read,
    and whether the lists of the aliases of models
    agree with the aliases.
    For what is in archives see :func:`audmodel.verify` with ``remote=True``,
    for what nobody needs :func:`audmodel.leftovers`.

    Args:
        repository: the repository
        repair: whether to make lists of aliases anew
            that do not agree with the aliases.
            Nothing else can be repaired from the repository itself:
            what was found says what to do.
            An archive that is lost is stored again
            by publishing the same folder with ``repair=True``
        num_workers: number of records that are read at the same time,
            ``None`` chooses a number for the machine
        verbose: whether to show a progress bar

    Returns:
        what does not fit together, by path, and whether it was repaired

    Raises:
        TypeError: if ``repository`` is not a repository
        ValueError: if ``num_workers`` is not a positive integer
        ConfigurationError: if the configuration cannot be used
        RepositoryError: if the repository cannot be read,
            or, with ``repair``, changed

    Examples:
        >>> audmodel.audit_repository(repository)
        []

    """
    from audmodel.core.progress import progress_bar
    from audmodel.core.repository import audit
    from audmodel.core.repository.lookup import open_registry

    num_workers = check_num_workers(num_workers)
    with (
        open_registry(check_type(repository)) as registry,
        progress_bar("Read records", verbose=verbose, unit="") as start_progress,
    ):
        return audit.find(
            registry,
            repair=repair,
            num_workers=num_workers,
            start_progress=start_progress,
        )


def check_repository(repository: Repository) -> RepositoryReport:
    r"""Find out whether a storage does what audmodel relies on.

    It is put to the test:
    of many writers that create the same object at the same moment
    exactly one has to succeed,
    and likewise of those that replace it;
    what was replaced or deleted in the meantime must not be replaced;
    what was written has to be read and listed at once,
    in ranges if it is large;
    and what was deleted has to be gone.
    All that is stored for this is removed again.

    Publishing to an S3 storage that fails the first of these tests
    is refused, unless the repository is marked as ``unprotected``.

    Args:
        repository: the repository, which has to exist.
            The credentials have to allow writing and deleting

    Returns:
        report with the verdict ``ok``,
        and ``checks`` that say what was seen and what it means;
        ``str()`` puts it into words

    Raises:
        TypeError: if ``repository`` is not a repository
        ConfigurationError: if its backend is not known
        RepositoryError: if it cannot be used

    Examples:
        >>> report = audmodel.check_repository(repository)
        >>> report.ok
        True

    """
    from audmodel.core.repository import probe
    from audmodel.core.repository.lookup import open_registry

    with open_registry(check_type(repository)) as registry:
        backend = registry.backend
        return probe.RepositoryReport(
            repr(repository), probe.probe(backend), backend.weakness
        )


def leftovers(
    repository: Repository,
    *,
    remove: bool = False,
    days: int = 7,
    unproven: bool = False,
) -> list[Leftover]:
    r"""Find what publishers that died left in a repository.

    No model is made of it, but it takes room:
    archives and metadata of models that were never committed,
    claims, unfinished uploads, temporary files,
    and lists of aliases of models that do not exist.
    Aliases of models that do not exist are reported and never removed.

    Removed is only what a claim of a dead publisher accounts for,
    what a dead process of this file system was writing,
    and what a test of the storage left.
    What else has no header is reported as not ``proven``, and stays:
    a backup may be about to be restored,
    a header may have been deleted by mistake,
    a publisher may have died when the model was all but published,
    and earlier versions of audmodel leave no claims.
    Another repository in a folder of this one is not looked at.

    What is alive is never touched:
    what belongs to a model is removed
    by a process that took the right to publish this model,
    after it made sure that the model does not exist,
    and only if it is still what was found.

    Args:
        repository: the repository
        remove: whether to remove what is found
        days: look only for what was stored so many times 24 hours ago,
            or earlier, by the clock of the storage.
            In a folder the time of the last change of the file counts as well
        unproven: whether to remove also what is not proven.
            Look at it first, and never do it while a backup is restored

    Returns:
        what was found, by path, and whether it was removed

    Raises:
        TypeError: if an argument is of the wrong type
        ValueError: if ``days`` is negative
        ConfigurationError: if the configuration cannot be used
        RepositoryError: if the repository cannot be read,
            or, with ``remove``, changed

    Examples:
        >>> audmodel.leftovers(repository)
        []

    """
    from audmodel.core.repository import leftovers
    from audmodel.core.repository.lookup import open_registry

    if isinstance(days, bool) or not isinstance(days, int):
        raise TypeError(f"'days' has to be an integer, not {days!r}.")
    if days < 0:
        raise InvalidInputError(f"'days' must not be negative, but is {days}.")
    with open_registry(check_type(repository)) as registry:
        return leftovers.find(registry, remove=remove, days=days, unproven=unproven)

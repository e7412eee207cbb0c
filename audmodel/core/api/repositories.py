r"""What there is to know about a repository, and to tidy up."""

from __future__ import annotations

from audmodel.core.repository import Repository
from audmodel.core.repository import check_type


TYPE_CHECKING = False
if TYPE_CHECKING:
    from audmodel.core.probe import RepositoryReport


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
    from audmodel.core import probe
    from audmodel.core.lookup import open_registry

    with open_registry(check_type(repository)) as registry:
        backend = registry.backend
        return probe.RepositoryReport(
            repr(repository), probe.probe(backend), backend.weakness
        )

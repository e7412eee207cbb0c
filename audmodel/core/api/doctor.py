r"""Find out what keeps an installation from working."""

from __future__ import annotations

from audmodel.core.api.arguments import chosen
from audmodel.core.errors import InvalidInputError
from audmodel.core.repository.config import cache_folder
from audmodel.core.repository.repository import Repository


TYPE_CHECKING = False
if TYPE_CHECKING:
    from audmodel.core.operations.doctor import DoctorReport


def doctor(
    repository: Repository | str | None = None,
    *,
    write: bool = False,
    measure: bool = False,
    cache_root: str | None = None,
) -> DoctorReport:
    r"""Check installation, settings, cache and repositories.

    A check that fails ends none of the others, and says what to do.
    A host or a network share that hangs costs 20 seconds,
    and a minute with ``write`` or ``measure``.
    The report holds no secret,
    so it can be sent to people who help.

    Nothing is stored in a repository without ``write``,
    and of each repository only some records,
    and the directory of one archive, are read.
    In the cache, a lock is tried, and its file is removed again.

    Args:
        repository: the only repository to check,
            or its label or name in the configuration.
            All that are configured are checked if it is ``None``
        write: whether to test the storage of ``repository``
            as :func:`audmodel.check_repository` does,
            which stores small objects and removes them again
        measure: whether to measure how many workers each repository keeps busy.
            This takes a few seconds for each, and reads up to 260 MB
            of the archive of one of its models
        cache_root: cache folder, the default one if it is ``None``

    Returns:
        report with the verdict ``ok``,
        and ``diagnoses`` that say what was found, and what to do;
        ``str()`` gives a text

    Raises:
        TypeError: if ``repository`` is neither a repository nor a name
        ConfigurationError: if ``repository`` is a name,
            and the configuration cannot be used
        InvalidInputError: if no configured repository has the name,
            or there is ``write``, but no ``repository``

    Examples:
        >>> report = audmodel.doctor(repository)
        >>> report.ok
        True

    """
    from audmodel.core.operations import doctor

    if write and repository is None:
        raise InvalidInputError(
            "Give 'repository' together with 'write', "
            "so that nothing is stored where it is not meant to be."
        )
    root = None if cache_root is None else cache_folder(cache_root)
    return doctor.examine(chosen(repository), root, write=write, measure=measure)

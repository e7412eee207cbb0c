r"""Build a catalogue: static pages that show the models of a repository."""

from __future__ import annotations

import os
import warnings

from audmodel.core.api.arguments import one_repository
from audmodel.core.errors import InvalidInputError
from audmodel.core.operations.results import Catalog
from audmodel.core.process.workers import check_num_workers
from audmodel.core.progress.report import Reporter
from audmodel.core.progress.views import ShowProgress
from audmodel.core.repository.config import cache_folder
from audmodel.core.repository.repository import Repository


def build_catalog(
    repository: Repository | str,
    output: str | os.PathLike[str] | None = None,
    *,
    publish: bool = False,
    title: str | None = None,
    rebuild: bool = False,
    cache_root: str | None = None,
    num_workers: int | None = None,
    verbose: bool = False,
    progress: ShowProgress | None = None,
) -> Catalog:
    r"""Build static pages that show all models of a repository.

    They list and search all models,
    and have one page for each, with its versions side by side,
    its aliases and their history, and its ``README.md``.
    They need no server and no network:
    open them as files, or put them on any web server.

    Only what changed since the last time is written:
    all headers, metadata and aliases are read,
    but archives only of models whose page changes.
    Nothing is read from the pages, which can be built again at any time.

    Several processes may build the same catalogue,
    and publish models, at the same time.
    A process that finds that another one was faster starts again.

    The extra ``audmodel[catalog]`` installs the packages that this function needs.

    Args:
        repository: the repository, or its label or name in the configuration
        output: folder for the pages, which is made if it is missing.
            It has to be empty, or to hold a catalogue
        publish: whether to store the pages in the repository itself,
            in the folder ``_catalog``, instead of ``output``.
            Who may write there may change them
        title: title of the pages, the label or name of the repository by default
        rebuild: whether to write all pages anew
        cache_root: cache folder, the default one if it is ``None``.
            Headers that are in it are not read again
        num_workers: number of records and archives that are read at the same time,
            ``None`` chooses a number for the machine
        verbose: whether to show a progress bar
        progress: function or bar that is told of the progress, see :doc:`/progress`

    Returns:
        where the pages are, how many there are, and how many changed

    Raises:
        TypeError: if an argument is of the wrong type
        ValueError: if ``num_workers`` is not a positive integer,
            neither or both of ``output`` and ``publish`` are given,
            or the folder holds other files
        ConfigurationError: if the configuration cannot be used
        InvalidInputError: if no configured repository has the name
        MissingPackageError: if a package is not installed
        RepositoryError: if the repository cannot be read,
            or the pages cannot be written

    Examples:
        >>> catalog = audmodel.build_catalog(repository, "site")
        >>> catalog.models, catalog.pages
        (2, 1)
        >>> audmodel.build_catalog(repository, "site").written
        0

    """
    import contextlib

    from audmodel.core.operations import site
    from audmodel.core.operations.options import LoadOptions
    from audmodel.core.repository import layout
    from audmodel.core.repository.lookup import open_registry
    from audmodel.core.site.pages import check_packages

    reporter = Reporter(verbose=verbose, progress=progress)
    repository = one_repository(repository)
    num_workers = check_num_workers(num_workers)
    if (output is None) != publish:
        raise InvalidInputError(
            "Give either 'output', a folder for the pages, or 'publish=True'."
        )
    if not isinstance(title, str | None):
        raise TypeError(f"'title' has to be a string, not {title!r}.")
    check_packages()
    with contextlib.ExitStack() as stack:
        registry = stack.enter_context(open_registry(repository))
        if output is None:
            place = site.Place(registry.backend, layout.CATALOG)
        else:
            place = stack.enter_context(site.open_folder(os.fspath(output)))
        start_progress = stack.enter_context(
            reporter.report("Build catalogue", "records")
        )
        result, problems = site.build(
            registry,
            place,
            title or repository.label or repository.name,
            cache_folder(cache_root),
            LoadOptions(num_workers=num_workers, start_progress=start_progress),
            rebuild=rebuild,
        )
    for problem in problems:
        warnings.warn(f"{problem} It is left out.", stacklevel=2)
    return result

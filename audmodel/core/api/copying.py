r"""Copy models from one repository to another one."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

from audmodel.core import uid as ids
from audmodel.core.api.arguments import model_filter
from audmodel.core.api.arguments import one_repository
from audmodel.core.errors import InvalidInputError
from audmodel.core.operations.results import CopiedModel
from audmodel.core.process.workers import check_num_workers
from audmodel.core.progress.report import Reporter
from audmodel.core.progress.views import ShowProgress
from audmodel.core.repository.config import cache_folder
from audmodel.core.repository.repository import Repository


TYPE_CHECKING = False
if TYPE_CHECKING:
    from audmodel.core.operations.copy_plans import Route


def copy(
    uid: str | list[str] | tuple[str, ...],
    source: Repository | str,
    target: Repository | str,
    *,
    aliases: bool = False,
    move_aliases: bool = False,
    repair: bool = False,
    dry_run: bool = False,
    num_workers: int | None = 1,
    verbose: bool = False,
    progress: ShowProgress | None = None,
) -> list[CopiedModel]:
    r"""Copy models from one repository to another one.

    Header, metadata and archive of a model are copied as they are,
    so a copy has the same ID and the same digests.
    A storage that holds both repositories copies the archives itself
    if it can.
    Otherwise several workers fetch, check and send them in parts.
    A model appears in the target as a whole or not at all,
    and one that the target has already is not copied again,
    so a copy that was interrupted continues when it is repeated.
    If its archive in the target is missing, or has another size,
    the archive is stored again.

    Args:
        uid: model ID or alias of the source, or several.
            Without version it is the latest version.
            If the source lacks one of the models, none is copied
        source: repository that has the models,
            or its label or name in the configuration
        target: repository that gets them, which has to exist, given in the same way
        aliases: whether to set the aliases of the models in the target as well.
            An alias that points to another model there stays as it is,
            and a warning is given
        move_aliases: whether to set them, and to move those as well
        repair: whether to read the archives of the models in the target,
            as :func:`audmodel.verify` does with ``remote=True``,
            and to store those again that are damaged
        dry_run: whether to return what would be copied, and copy nothing
        num_workers: number of parallel workers,
            ``None`` chooses a number for the machine
        verbose: whether to show a progress bar
        progress: function or bar that is told of the progress, see :doc:`/progress`

    Returns:
        models, in the order of ``uid``, each of them once,
        whether they were copied, and which aliases were set, or kept

    Raises:
        TypeError: if an argument is of the wrong type
        ValueError: if ``num_workers`` is not a positive integer
        AliasNotFoundError: if the source does not have an alias
        ArchiveError: if an archive is missing, damaged,
            or not the one that was published.
            All other models are copied first
        ConfigurationError: if a backend is not known,
            or the configuration cannot be used
        InvalidDocumentError: if a header is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if both repositories are the same,
            or no configured repository has the name
        ModelExistsError: if the target has another model of the same ID
        ModelNotFoundError: if the source does not have a model
        PublishConflictError: if another process publishes or deletes a model
        RepositoryError: if a repository cannot be used
        WriteUncertainError: if something may be stored later

    Examples:
        >>> os.mkdir("team")
        >>> team = audmodel.Repository("team", os.getcwd(), "file-system")
        >>> [model.copied for model in audmodel.copy("3e120e8d", repository, team)]
        [True]
        >>> [model.copied for model in audmodel.copy("3e120e8d", repository, team)]
        [False]

    """
    from audmodel.core.operations import copy_plans
    from audmodel.core.operations import copying

    reporter = Reporter(verbose=verbose, progress=progress)
    uids = uid if isinstance(uid, list | tuple) else [uid]
    wanted = [ids.parse(each) for each in uids]
    start, end = one_repository(source), one_repository(target)
    has_names = aliases or move_aliases
    with _route(
        start, end, num_workers, moves_aliases=move_aliases, repairs=repair
    ) as route:
        models = [copy_plans.resolve(route, each) for each in wanted]
        names = copy_plans.lacking_aliases(route, models) if has_names else {}
        plans = copy_plans.plan(route, models, names)
        if dry_run:
            return copying.results(route, plans)
        label = f"Copy {len(plans)} model{'' if len(plans) == 1 else 's'}"
        with reporter.report(label) as start_progress:
            return copying.carry_out(route, plans, start_progress)


def sync(
    source: Repository | str,
    target: Repository | str,
    *,
    name: str | None = None,
    subgroup: str | None = None,
    params: Mapping[str, Any] | None = None,
    alias: str | None = None,
    author: str | None = None,
    both: bool = False,
    aliases: bool = False,
    move_aliases: bool = False,
    dry_run: bool = False,
    cache_root: str | None = None,
    num_workers: int | None = 1,
    verbose: bool = False,
    progress: ShowProgress | None = None,
) -> list[CopiedModel]:
    r"""Copy all models to another repository that it lacks.

    Both repositories are listed.
    Models whose header and archive the target has are left alone.
    Only the sizes of archives are compared.
    Nothing is deleted.
    See :func:`audmodel.copy` for the way in which models are copied,
    and :func:`audmodel.models` for the arguments that select some of them.

    Args:
        source: repository that has models,
            or its label or name in the configuration
        target: repository that gets those that it lacks, which has to exist,
            given in the same way
        name: name of the models, or pattern
        subgroup: subgroup of the models, or pattern
        params: parameters of the models, and their values
        alias: alias that points to the models, or pattern
        author: author of the models, or pattern
        both: whether to copy models of the target to the source as well
        aliases: whether to set the aliases of the models as well.
            An alias that points to another model in the target stays as it is,
            and a warning is given
        move_aliases: whether to set them, and to move those as well.
            It cannot be combined with ``both``
        dry_run: whether to return what would be copied, and copy nothing
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``.
            Headers that are in it are not read again
        num_workers: number of parallel workers,
            ``None`` chooses a number for the machine
        verbose: whether to show a progress bar
        progress: function or bar that is told of the progress, see :doc:`/progress`

    Returns:
        models that were copied,
        or have aliases that were set, or kept

    Raises:
        TypeError: if an argument is of the wrong type
        ValueError: if ``num_workers`` is not a positive integer
        ArchiveError: if an archive is missing, damaged,
            or not the one that was published.
            All other models are copied first
        ConfigurationError: if a backend is not known,
            or the configuration cannot be used
        InvalidDataError: if ``params`` hold something that cannot be stored
        InvalidDocumentError: if a header is not valid
        InvalidInputError: if both repositories are the same,
            no configured repository has the name,
            or ``move_aliases`` is combined with ``both``
        ModelExistsError: if the target has another model of the same ID
        PublishConflictError: if another process publishes or deletes a model
        RepositoryError: if a repository cannot be used
        WriteUncertainError: if something may be stored later

    Examples:
        >>> copied = audmodel.sync(repository, team, subgroup="emotion.*")
        >>> [model.uid for model in copied]
        ['3e120e8d-1.0.0']
        >>> audmodel.sync(repository, team)
        []

    """
    from audmodel.core.operations import syncing

    if both and move_aliases:
        raise InvalidInputError(
            "With 'both', no alias can be moved, "
            "since none of the repositories goes first. Leave out one of them."
        )
    reporter = Reporter(verbose=verbose, progress=progress)
    wanted = model_filter(
        name=name, subgroup=subgroup, params=params, alias=alias, author=author
    )
    root = cache_folder(cache_root)
    done: list[CopiedModel] = []
    ways = [(one_repository(source), one_repository(target))]
    for start, end in [*ways, ways[0][::-1]] if both else ways:
        with (
            _route(start, end, num_workers, moves_aliases=move_aliases) as route,
            reporter.report(f"Copy to {end.name}") as start_progress,
        ):
            done += syncing.sync(
                route,
                wanted,
                root,
                aliases=aliases or move_aliases,
                dry_run=dry_run,
                start_progress=start_progress,
            )
    return done


@contextmanager
def _route(
    source: Repository,
    target: Repository,
    num_workers: int | None,
    *,
    moves_aliases: bool,
    repairs: bool = False,
) -> Iterator[Route]:
    from audmodel.core.operations.copy_plans import open_route

    workers = check_num_workers(num_workers)
    if source == target:
        raise InvalidInputError(
            f"{source} cannot be copied to itself. Give two repositories."
        )
    with open_route(
        source,
        target,
        moves_aliases=moves_aliases,
        num_workers=workers,
        repairs=repairs,
    ) as route:
        yield route

r"""Copy what another repository lacks, or has lost."""

from __future__ import annotations

import warnings

from audmodel.core.operations import catalogue
from audmodel.core.operations import copy_plans
from audmodel.core.operations import copying
from audmodel.core.operations.copy_plans import Route
from audmodel.core.operations.results import CopiedModel
from audmodel.core.progress.counters import StartProgress
from audmodel.core.progress.counters import no_progress
from audmodel.core.uid import ModelId


def sync(
    route: Route,
    wanted: catalogue.Filter,
    cache_root: str,
    *,
    aliases: bool,
    dry_run: bool,
    start_progress: StartProgress,
) -> list[CopiedModel]:
    r"""Copy models to a repository that lacks them.

    Args:
        route: from where to where
        wanted: which models
        cache_root: cache folder, which has some of the headers
        aliases: whether to set aliases as well
        dry_run: whether to copy nothing
        start_progress: called with the number of bytes of all archives to copy,
            gives what counts the bytes that are sent, or copied by the storage

    Returns:
        models that were, or would be, copied,
        or have aliases that the target lacks

    Raises:
        ArchiveError: if an archive is missing, damaged,
            or not the one that was published
        InvalidDocumentError: if a header is not valid
        ModelExistsError: if the target has another model of the same ID
        PublishConflictError: if another process publishes or deletes a model
        RepositoryError: if a repository cannot be used
        WriteUncertainError: if something may be stored later

    """
    models = _wanted(route, wanted, cache_root)
    names = copy_plans.lacking_aliases(route, models) if aliases else {}
    lacking = {*copy_plans.missing(route, models), *names}
    plans = [
        each
        for each in copy_plans.plan(route, sorted(lacking), names)
        if not each.is_done or each.model in names
    ]
    if dry_run:
        return copying.results(route, plans)
    return copying.carry_out(route, plans, start_progress)


def _wanted(route: Route, wanted: catalogue.Filter, cache_root: str) -> list[ModelId]:
    r"""Models of the source that match."""
    if wanted == catalogue.Filter(params={}):
        return route.origin.models()
    found = catalogue.read(
        route.origin,
        wanted,
        cache_root,
        num_workers=route.num_workers,
        start_progress=no_progress,
    )
    for problem in found.problems:
        warnings.warn(f"{problem} It is left out.", stacklevel=2)
    return list(found.headers)

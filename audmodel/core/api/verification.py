r"""Verify models in the cache and in repositories."""

from __future__ import annotations

import dataclasses
from typing import overload

from audmodel.core.api.arguments import load_options
from audmodel.core.api.arguments import shown
from audmodel.core.api.arguments import wanted_models
from audmodel.core.errors import InvalidInputError
from audmodel.core.operations.results import Verification
from audmodel.core.progress.report import Reporter
from audmodel.core.progress.views import ShowProgress
from audmodel.core.repository.repository import Repository


@overload
def verify(
    uid: str,
    *,
    repair: bool = False,
    remote: bool = False,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    timeout: float | None = 14400,
    num_workers: int | None = 1,
    verbose: bool = False,
    progress: ShowProgress | None = None,
) -> Verification: ...


@overload
def verify(
    uid: list[str] | tuple[str, ...],
    *,
    repair: bool = False,
    remote: bool = False,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    timeout: float | None = 14400,
    num_workers: int | None = 1,
    verbose: bool = False,
    progress: ShowProgress | None = None,
) -> list[Verification]: ...


def verify(
    uid: str | list[str] | tuple[str, ...],
    *,
    repair: bool = False,
    remote: bool = False,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    timeout: float | None = 14400,
    num_workers: int | None = 1,
    verbose: bool = False,
    progress: ShowProgress | None = None,
) -> Verification | list[Verification]:
    r"""Compare a model with the published one, or several.

    Each file in the cache is read
    and compared with the digests in the directory of the archive,
    or to its CRC-32 if the model was published by an earlier release.
    If only some files of the model were loaded, only these are compared.

    Args:
        uid: model ID or alias.
            Without version it is the latest version.
            Nothing is read if one of the models of a list
            does not exist, or is not in the cache
        repair: whether to fetch files that are damaged or missing.
            Of large files only the damaged parts are fetched.
            A file is replaced in one step,
            and programs that have opened the old file can still read it
        remote: whether to verify the archive in the repository,
            without storing it, instead of the files in the cache
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``
        timeout: seconds to wait for another process
            that loads or repairs the same model,
            forever if negative or ``None``
        num_workers: number of parallel workers,
            with 1 everything happens in the calling thread,
            ``None`` chooses a number for the machine
        verbose: whether to show a progress bar
        progress: function or bar that is told of the progress, see :doc:`/progress`

    Returns:
        result, with the damaged files.
        A list of results, in the same order, if ``uid`` is a list

    Raises:
        TypeError: if an argument is of the wrong type
        ValueError: if ``num_workers`` is not a positive integer
        ArchiveError: if the archive is missing, or not the published one,
            or its directory is damaged
        CacheError: if the cache cannot be written to
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if both ``repair`` and ``remote`` are set,
            or no configured repository has the name
        LockTimeoutError: if another process uses the model
            for longer than ``timeout``
        ModelNotFoundError: if the model does not exist
        NotCachedError: if the model is not in the cache,
            or was removed from it in the meantime
        RepositoryError: if a repository cannot be used
        UntrustedModelError: if a signature is needed that the model lacks

    Examples:
        >>> root = audmodel.load("3e120e8d-1.0.0")
        >>> audmodel.verify("3e120e8d-1.0.0").ok
        True
        >>> os.remove(os.path.join(root, "readme.txt"))
        >>> result = audmodel.verify("3e120e8d-1.0.0")
        >>> [(file.path, file.problem) for file in result.damaged]
        [('readme.txt', 'missing')]
        >>> audmodel.verify("3e120e8d-1.0.0", repair=True).ok
        True

    """
    from audmodel.core.operations import verification

    reporter = Reporter(verbose=verbose, progress=progress)
    options = load_options(num_workers=num_workers, timeout=timeout)
    if repair and remote:
        raise InvalidInputError(
            "Only a model in the cache can be repaired. "
            "Use either 'repair' or 'remote'."
        )
    uids = uid if isinstance(uid, list | tuple) else [uid]
    wanted = wanted_models(uids, cache_root, repository)
    models = {each.model: each for each in wanted}
    with reporter.report(f"Verify {shown(models)}") as start_progress:
        options = dataclasses.replace(options, start_progress=start_progress)
        chosen = list(models.values())
        results = (
            verification.verify_all_remote(chosen, options)
            if remote
            else verification.verify_all(chosen, options, repairs=repair)
        )
    by_model = dict(zip(models, results, strict=True))
    found = [by_model[each.model] for each in wanted]
    return found if isinstance(uid, list | tuple) else found[0]

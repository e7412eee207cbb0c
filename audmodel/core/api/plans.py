r"""Dry runs of loading and publishing."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
import datetime
from typing import Literal
from typing import overload

from audmodel.core.api.arguments import base_model
from audmodel.core.api.arguments import check_one_folder
from audmodel.core.api.arguments import load_options
from audmodel.core.api.arguments import one_repository
from audmodel.core.api.arguments import wanted_model
from audmodel.core.api.arguments import wanted_models
from audmodel.core.errors import InvalidInputError
from audmodel.core.operations.results import PublishPlan
from audmodel.core.operations.results import Transfer
from audmodel.core.repository.repository import Repository


@overload
def plan_load(
    uid: str,
    *,
    files: str | Iterable[str] | None = None,
    to: str | None = None,
    force: bool = False,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    num_workers: int | None = 1,
) -> Transfer: ...


@overload
def plan_load(
    uid: list[str] | tuple[str, ...],
    *,
    files: str | Iterable[str] | None = None,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    num_workers: int | None = 1,
) -> list[Transfer]: ...


def plan_load(
    uid: str | list[str] | tuple[str, ...],
    *,
    files: str | Iterable[str] | None = None,
    to: str | None = None,
    force: bool = False,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    num_workers: int | None = 1,
) -> Transfer | list[Transfer]:
    r"""What :func:`audmodel.load` would fetch: a dry run.

    Only the directory of the archive is fetched, and kept in the cache.
    Files and parts that are in the cache do not count,
    so the numbers are those of the next load.
    Parts that other models in the cache have are read and compared,
    since the load copies them.
    They count only the archive; a load also reads a few small records.
    They are exact unless the load has to verify files in the cache again:
    after a power failure, and if the files belong to another user.

    Args:
        uid: model ID or alias.
            Without version it is the latest version.
            Each model of a list is planned as if it was loaded alone
        files: pattern or patterns of files, see :func:`audmodel.load`
        to: folder that the load would put the model into.
            Its files are compared with the model, and none is changed.
            What the load would copy there is not counted, as it is not fetched
        force: whether the load would replace other files in ``to``
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``
        num_workers: number of parallel workers of the load,
            which determines the number of requests

    Returns:
        files and bytes that are missing in the cache,
        and the bytes and requests that fetch them.
        A list, in the same order, if ``uid`` is a list

    Raises:
        FileExistsError: if other files are in ``to``,
            or something that is never replaced
        TypeError: if an argument is of the wrong type
        ValueError: if ``num_workers`` is not a positive integer
        ArchiveError: if the archive is damaged or not the published one
        ConfigurationError: if the configuration cannot be used
        FileNotInModelError: if a pattern matches no file
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if ``to`` is in the cache, or ``uid`` is a list,
            or no configured repository has the name
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used
        UntrustedModelError: if a signature is needed that the model lacks

    Examples:
        >>> transfer = audmodel.plan_load("3e120e8d-1.0.0")
        >>> transfer.files, transfer.size, transfer.requests
        (4, 16454, 1)
        >>> root = audmodel.load("3e120e8d-1.0.0")
        >>> audmodel.plan_load("3e120e8d-1.0.0").bytes
        0

    """
    from audmodel.core.operations import planning

    options = load_options(files=files, num_workers=num_workers)
    if isinstance(uid, list | tuple):
        check_one_folder(to)
        models = wanted_models(uid, cache_root, repository)
        return [planning.load(wanted, options) for wanted in models]
    wanted = wanted_model(uid, cache_root, repository)
    if to is not None:
        from audmodel.core.operations.placing import check_target

        target = check_target(to, wanted.entry.root, force=force)
        return planning.load_to(wanted, options, target)
    if force:
        raise InvalidInputError("'force' needs a folder as 'to'.")
    return planning.load(wanted, options)


def plan_publish(
    root: str,
    name: str,
    params: Mapping[str, object],
    version: str,
    *,
    repository: Repository | str | None = None,
    alias: str | None = None,
    author: str | None = None,
    compression: int = 1,
    date: datetime.date | str | None = None,
    meta: Mapping[str, object] | None = None,
    subgroup: str | None = None,
    base: str | None = "newest",
    exist_ok: bool = False,
    exclude: str | Iterable[str] | None = None,
    suspicious: Literal["warn", "refuse", "allow"] = "warn",
    source: Mapping[str, str] | None = None,
) -> PublishPlan:
    r"""What :func:`audmodel.publish` would send.

    The arguments and the folder are checked as for publishing,
    and nothing is stored.
    If there is a model that has parts of the same content,
    files are read and compressed to find out what would be sent.
    Otherwise they are not,
    and bytes and requests are estimated as if files did not shrink.

    Args:
        root: folder that holds the files of the model,
            see :func:`audmodel.publish` for all arguments
        name: name of the model
        params: parameters of the model
        version: version of the model
        repository: where to publish
        alias: alias that points to the model afterwards
        author: name of the author
        compression: compression level
        date: date of publication
        meta: metadata
        subgroup: subgroup of the model
        base: model that may have parts of the same content
        exist_ok: whether the model may exist with the same files,
            which are read and compared
        exclude: pattern or patterns of files that are left out
        suspicious: what to do about what is seldom meant to be published.
            No warning is logged: the result names it
        source: what the model was made from

    Returns:
        files and bytes that would be read,
        the bytes and requests that would be sent,
        and what would be left out

    Raises:
        FileNotFoundError: if ``root`` is not a folder
        TypeError: if an argument is of the wrong type
        ArchiveError: if, with ``exist_ok``,
            the archive of the model is missing or damaged
        ConfigurationError: if the configuration cannot be used,
            or names no repository
        FileChangedError: if a file changes in the meantime
        InvalidDataError: if ``params``, ``meta`` or ``author`` hold something
            that cannot be stored
        InvalidDocumentError: if, with ``exist_ok``,
            the header of the model is not valid
        InvalidFolderError: if ``root`` holds no files,
            something that cannot be published,
            or, with ``suspicious='refuse'``, what is seldom meant to be
        InvalidIdError: if ``base`` cannot be a model ID
        InvalidInputError: if another argument is not valid
        ModelExistsError: if the repository, or one that is searched before,
            holds the model already,
            or another model with the same short ID
        ModelNotFoundError: if the repository does not hold the ``base``
        RepositoryError: if the repository cannot be used

    Examples:
        >>> transfer = audmodel.plan_publish(
        ...     "my-model",
        ...     "onnx",
        ...     {"sampling_rate": 16000},
        ...     "1.0.0",
        ... )
        >>> transfer.uid, transfer.files, transfer.size, transfer.exact
        ('7a704d69-1.0.0', 4, 16454, False)
        >>> audmodel.plan_publish(
        ...     "my-model", "onnx", {}, "1.0.0", exclude="*.txt"
        ... ).excluded
        ('readme.txt',)

    """
    from audmodel.core.operations import planning
    from audmodel.core.operations import publication

    planned = publication.prepare(
        root,
        name,
        params,
        version,
        repository=None if repository is None else one_repository(repository),
        alias=alias,
        author=author,
        compression=compression,
        date=date,
        meta=meta,
        subgroup=subgroup,
        base=base_model(base),
        exist_ok=exist_ok,
        exclude=exclude,
        suspicious=suspicious,
        source=source,
    )
    return planning.publish(planned)

r"""The public functions."""

from __future__ import annotations

from collections.abc import Mapping
import datetime
import os
from typing import Any

from audmodel.core import uid as ids
from audmodel.core.cache import CacheEntry
from audmodel.core.config import config
from audmodel.core.config import is_embedded
from audmodel.core.repository import Repository
from audmodel.core.uid import Alias
from audmodel.core.uid import ModelId
from audmodel.core.uid import ShortId
from audmodel.errors import AliasNotFoundError
from audmodel.errors import ConfigurationError
from audmodel.errors import InvalidIdError
from audmodel.errors import InvalidInputError
from audmodel.errors import ModelNotFoundError


TYPE_CHECKING = False
if TYPE_CHECKING:
    from audmodel.core.header import Header


def aliases(
    uid: str,
    *,
    cache_root: str | None = None,
    verbose: bool = False,
) -> list[str]:
    r"""Aliases that point to a model.

    Args:
        uid: model ID or alias
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        names of aliases in alphabetical order

    Raises:
        TypeError: if ``uid`` is not a string
        InvalidDocumentError: if a stored record is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.aliases("3e120e8d-1.0.0")
        ['emotion-small']

    """
    from audmodel.core.lookup import open_registry

    model, place, _ = _find(uid, cache_root)
    with open_registry(place) as registry:
        names = registry.listed_aliases(model)
    return sorted(name for name in names if _alias_target(name) == model)


def author(uid: str, *, cache_root: str | None = None) -> str:
    r"""Author of a model.

    Args:
        uid: model ID or alias
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``

    Returns:
        name of the author

    Raises:
        TypeError: if ``uid`` is not a string
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.author("3e120e8d-1.0.0")
        'sphinx'

    """
    return _header(uid, cache_root).author


def date(uid: str, *, cache_root: str | None = None) -> str:
    r"""Publication date of a model.

    Args:
        uid: model ID or alias
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``

    Returns:
        date as ``'yyyy-mm-dd'``

    Raises:
        TypeError: if ``uid`` is not a string
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.date("3e120e8d-1.0.0")
        '2026-01-01'

    """
    return str(_header(uid, cache_root).date)


def exists(uid: str) -> bool:
    r"""Whether a model exists.

    Args:
        uid: model ID or alias

    Returns:
        ``True`` if a repository holds the model,
        ``False`` if none does, or ``uid`` cannot be a model ID or an alias

    Raises:
        TypeError: if ``uid`` is not a string
        InvalidDocumentError: if the header of the model is not valid
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.exists("3e120e8d-1.0.0")
        True
        >>> audmodel.exists("3e120e8d-9.0.0")
        False

    """
    from audmodel.core.lookup import first

    try:
        model = _resolve(uid)
    except (InvalidIdError, ModelNotFoundError):
        return False
    return first(lambda registry: registry.header(model)) is not None


def header(
    uid: str,
    *,
    cache_root: str | None = None,
    verbose: bool = False,
) -> dict[str, Any]:
    r"""Header of a model.

    A header never changes.
    It is kept in the cache.

    Args:
        uid: model ID or alias
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        dictionary with author, date, name, parameters, subgroup, and version

    Raises:
        TypeError: if ``uid`` is not a string
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.header("3e120e8d-1.0.0")["name"]
        'onnx'

    """
    return _header(uid, cache_root).public()


def latest_version(uid: str) -> str:
    r"""Latest version of a model.

    Args:
        uid: model ID, with or without version, or alias

    Returns:
        version

    Raises:
        TypeError: if ``uid`` is not a string
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.latest_version("3e120e8d")
        '2.0.0'

    """
    ids.parse(uid)
    found = versions(uid)
    if not found:
        raise ModelNotFoundError(_missing(uid))
    return found[-1]


def legacy_uid(
    name: str,
    params: Mapping[str, object],
    version: str,
    *,
    subgroup: str | None = None,
    private: bool = False,
) -> str:
    r"""Model ID of the first generation.

    Args:
        name: name of the model
        params: parameters of the model, in their original order
        version: version of the model
        subgroup: subgroup of the model
        private: whether the model was in the private repository

    Returns:
        model ID with 36 characters

    Examples:
        >>> audmodel.legacy_uid("test", {"sampling_rate": 16000}, "1.0.0")
        '56bf9221-fa70-62b6-9e7f-baaf7ae94726'

    """
    return ids.legacy_id(name, params, version, subgroup, private)


def load(
    uid: str,
    *,
    cache_root: str | None = None,
    timeout: float = 14400,
    num_workers: int | None = 1,
    verbose: bool = False,
) -> str:
    r"""Load a model.

    A model that is in the cache is returned
    without looking at a repository.
    Otherwise it is fetched by several workers in parts,
    each of which is inflated, verified, and written to its place.
    The folder appears in the cache when all of it is there.
    A load that ended early is continued by the next one.

    Args:
        uid: model ID or alias.
            Without version it is the latest version
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``
        timeout: seconds to wait for another process
            that loads the same model,
            forever if negative
        num_workers: number of parallel workers,
            with 1 everything happens in the calling thread,
            ``None`` chooses a number for the machine
        verbose: whether to show a progress bar

    Returns:
        path of the folder of the model

    Raises:
        TypeError: if ``uid`` is not a string
        ValueError: if ``num_workers`` is not a positive integer
        filelock.Timeout: if another process loads the model
            for longer than ``timeout``
        ArchiveError: if the archive is damaged or not the published one
        CacheError: if the cache cannot be written to
        DiskFullError: if the disk has less room than the model needs
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> root = audmodel.load("3e120e8d-1.0.0", num_workers=4)
        >>> sorted(os.listdir(root))
        ['log', 'model.onnx', 'model.yaml', 'readme.txt']

    """
    num_workers = _check_num_workers(num_workers)
    model = _resolve(uid)
    entry = CacheEntry(cache_root, model)
    if entry.is_complete:
        return entry.folder

    from audmodel.core import loading
    from audmodel.core.lookup import open_registry
    from audmodel.core.progress import progress_bar

    model, place, header = _find(str(model), cache_root)
    with entry.lock(timeout=timeout):
        # Another process may have loaded it while this one waited
        if not entry.is_complete:
            with (
                open_registry(place) as registry,
                progress_bar(f"Load {model}", verbose=verbose) as start_progress,
            ):
                loading.load(
                    registry,
                    model,
                    header,
                    entry,
                    num_workers=num_workers,
                    start_progress=start_progress,
                )
    return entry.folder


def meta(
    uid: str,
    *,
    cache_root: str | None = None,
    verbose: bool = False,
) -> dict[str, Any]:
    r"""Metadata of a model.

    Args:
        uid: model ID or alias
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        metadata as it is in the repository

    Raises:
        TypeError: if ``uid`` is not a string
        InvalidDocumentError: if the stored metadata is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.meta("3e120e8d-1.0.0")
        {'model': {'cnn10': {'learning-rate': 0.01}}}

    """
    from audmodel.core.lookup import open_registry

    model, place, _ = _find(uid, cache_root)
    with open_registry(place) as registry:
        found = registry.meta(model)
    data, content = found if found is not None else ({}, b"{}\n")
    _keep_meta(CacheEntry(cache_root, model), content)
    return data


def name(uid: str, *, cache_root: str | None = None, verbose: bool = False) -> str:
    r"""Name of a model.

    Args:
        uid: model ID or alias
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        name

    Raises:
        TypeError: if ``uid`` is not a string
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.name("3e120e8d-1.0.0")
        'onnx'

    """
    return _header(uid, cache_root).name


def parameters(
    uid: str, *, cache_root: str | None = None, verbose: bool = False
) -> dict[str, Any]:
    r"""Parameters of a model.

    Args:
        uid: model ID or alias
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        parameters

    Raises:
        TypeError: if ``uid`` is not a string
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.parameters("3e120e8d-1.0.0")["sampling_rate"]
        16000

    """
    return dict(_header(uid, cache_root).parameters)


def publish(
    root: str,
    name: str,
    params: Mapping[str, object],
    version: str,
    *,
    repository: Repository | None = None,
    alias: str | None = None,
    author: str | None = None,
    compression: int = 1,
    date: datetime.date | str | None = None,
    meta: Mapping[str, object] | None = None,
    subgroup: str | None = None,
    tmp_root: str | None = None,
    num_workers: int | None = 1,
    verbose: bool = False,
) -> str:
    r"""Publish a model.

    The model ID follows from ``name``, ``params``, ``subgroup``,
    and ``version``.
    Everything is checked before anything is stored,
    and a model appears in the repository as a whole or not at all.

    Hidden files and executable files stay what they are.
    Links to files are published as the file they link to.
    Empty folders are left out.

    Args:
        root: folder that holds the files of the model
        name: name of the model, e.g. the framework that runs it
        params: parameters of the model,
            what another model has to differ in to be another model
        version: version of the model, e.g. ``'1.0.0'`` or ``'1.0.0-prod'``
        repository: where to publish,
            the first one of ``audmodel.config.REPOSITORIES`` if it is ``None``
        alias: alias that points to the model afterwards
        author: name of the author, the user's name if it is ``None``
        compression: 0 stores files as they are,
            1 compresses what shrinks by a tenth or more,
            2 to 9 compress whatever shrinks;
            higher is slower, and smaller or equal
        date: date of publication, today if it is ``None``
        meta: metadata, can be changed later
        subgroup: subgroup of the model, e.g. ``'emotion.cnn'``
        tmp_root: folder for temporary files,
            used for backends that take nothing but files
        num_workers: number of parallel workers,
            with 1 everything happens in the calling thread,
            ``None`` chooses a number for the machine
        verbose: whether to show a progress bar

    Returns:
        model ID

    Raises:
        FileNotFoundError: if ``root`` is not a folder
        TypeError: if an argument is of the wrong type
        ValueError: if ``num_workers`` is not a positive integer
        ConfigurationError: if no repository is configured
        FileChangedError: if a file changes while it is published
        InvalidFolderError: if ``root`` holds no files,
            or something that cannot be published
        InvalidInputError: if another argument is not valid
        ModelExistsError: if the repository holds the model already
        PublishConflictError: if somebody else publishes it at the moment
        RepositoryError: if the repository cannot be used

    Examples:
        >>> audmodel.publish(
        ...     "my-model",
        ...     "onnx",
        ...     {"sampling_rate": 16000},
        ...     "1.0.0",
        ... )
        '7a704d69-1.0.0'

    """
    num_workers = _check_num_workers(num_workers)
    if isinstance(compression, bool) or not isinstance(compression, int):
        raise TypeError(f"'compression' has to be an integer, not {compression!r}.")
    if not 0 <= compression <= 9:
        raise InvalidInputError(
            f"'compression' has to be between 0 and 9, not {compression}."
        )
    author = author or None
    date = date or None
    if author is not None and not isinstance(author, str):
        raise TypeError(f"'author' has to be a string, not {author!r}.")
    if date is not None and not isinstance(date, datetime.date | str):
        raise TypeError(f"'date' has to be a date, not {date!r}.")
    ids.check_version(version)
    ids.check_location(name, subgroup or "")
    if alias:
        ids.check_alias(alias)

    from audmodel.core import document
    from audmodel.core import folder
    from audmodel.core import publishing
    from audmodel.core.header import Header
    from audmodel.core.lookup import open_registry
    from audmodel.core.progress import progress_bar

    meta_content = document.dump(meta if meta is not None else {}, "meta")
    document.dump(params, "params")
    _check_ordered(params)
    model = ModelId(ids.short_id(name, params, subgroup), version)
    header = Header(
        author if author is not None else _user(),
        date if date is not None else datetime.date.today(),
        name,
        params,
        subgroup or "",
        version,
        None,
    )
    header.dump()
    files = folder.scan(root)
    publication = publishing.Publication(
        model, header, meta_content, files, alias or None, compression, tmp_root
    )
    place = _publish_repository(repository)
    if alias:
        _check_not_hidden(alias, place)
    with (
        open_registry(place) as registry,
        progress_bar(f"Publish {model}", verbose=verbose) as start_progress,
    ):
        progress = start_progress(sum(file.size for file in files))
        publishing.publish(
            registry, publication, num_workers=num_workers, progress=progress
        )
    return str(model)


def repository(uid: str, *, cache_root: str | None = None) -> Repository:
    r"""Repository that holds a model.

    Args:
        uid: model ID or alias
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``

    Returns:
        first configured repository that holds the model

    Raises:
        TypeError: if ``uid`` is not a string
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.repository("3e120e8d-1.0.0").name
        'models'

    """
    return _find(uid, cache_root)[1]


def resolve_alias(
    alias: str,
    *,
    cache_root: str | None = None,
    verbose: bool = False,
) -> str:
    r"""Model ID that an alias points to.

    Args:
        alias: name of the alias
        cache_root: accepted for compatibility,
            an alias is never taken from the cache
        verbose: accepted for compatibility, nothing is shown

    Returns:
        model ID

    Raises:
        TypeError: if ``alias`` is not a string
        AliasNotFoundError: if there is no such alias
        InvalidDocumentError: if the alias does not name a model ID
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.resolve_alias("emotion-small")
        '3e120e8d-1.0.0'

    """
    if not isinstance(alias, str):
        raise TypeError(f"An alias has to be a string, not {type(alias).__name__}.")
    target = _alias_target(alias) if ids.is_alias(alias) else None
    if target is None:
        raise AliasNotFoundError(
            f"An alias with name {alias[:150]!r} does not exist in {_places()}."
        )
    return str(target)


def set_alias(
    alias: str,
    uid: str,
    *,
    cache_root: str | None = None,
    verbose: bool = False,
) -> None:
    r"""Let an alias point to a model.

    An alias that points to another model is moved.

    Args:
        alias: name of the alias:
            up to 128 letters, digits, ``'.'``, ``'_'``, or ``'-'``
            that do not look like a model ID
        uid: model ID or other alias.
            Without version it is the latest version
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Raises:
        TypeError: if an argument is not a string
        InvalidDocumentError: if a stored record is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if ``alias`` is not a valid name,
            or a repository that comes before the one of the model
            holds an alias of this name
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.set_alias("emotion-small", "3e120e8d-1.0.0")
        >>> audmodel.resolve_alias("emotion-small")
        '3e120e8d-1.0.0'

    """
    from audmodel.core.lookup import open_registry

    ids.check_alias(alias)
    model, place, _ = _find(uid, cache_root)
    _check_not_hidden(alias, place)
    with open_registry(place) as registry:
        registry.set_alias(alias, model)


def subgroup(uid: str, *, cache_root: str | None = None, verbose: bool = False) -> str:
    r"""Subgroup of a model.

    Args:
        uid: model ID or alias
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        subgroup, empty if there is none

    Raises:
        TypeError: if ``uid`` is not a string
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.subgroup("3e120e8d-1.0.0")
        'emotion.cnn'

    """
    return _header(uid, cache_root).subgroup


def uid(
    name: str,
    params: Mapping[str, object],
    version: str | None = None,
    *,
    subgroup: str | None = None,
) -> str:
    r"""Model ID for given arguments.

    The order of the parameters does not matter.

    Args:
        name: name of the model
        params: parameters of the model
        version: version of the model
        subgroup: subgroup of the model

    Returns:
        model ID,
        without version if ``version`` is ``None``

    Raises:
        InvalidInputError: if the names of ``params`` cannot be sorted

    Examples:
        >>> audmodel.uid("onnx", {"sampling_rate": 16000}, "1.0.0")
        '7a704d69-1.0.0'

    """
    short = ids.short_id(name, params, subgroup)
    return short if version is None else f"{short}-{version}"


def update_meta(
    uid: str,
    meta: Mapping[str, object],
    *,
    replace: bool = False,
    cache_root: str | None = None,
    verbose: bool = False,
) -> dict[str, Any]:
    r"""Change the metadata of a model.

    Changes of several processes at the same time are all kept,
    as long as they are of different fields.

    Args:
        uid: model ID or alias
        meta: fields that are added or changed,
            nested dictionaries are merged level by level
        replace: whether ``meta`` replaces all fields
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        metadata after the change

    Raises:
        TypeError: if ``uid`` is not a string
        InvalidDocumentError: if the stored metadata is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if ``meta`` cannot be stored
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.update_meta("3e120e8d-1.0.0", {"loss": 0.2})
        {'model': {'cnn10': {'learning-rate': 0.01}}, 'loss': 0.2}

    """
    from audmodel.core import document
    from audmodel.core.lookup import open_registry

    document.dump(meta, "meta")
    model, place, _ = _find(uid, cache_root)
    with open_registry(place) as registry:
        data, content = registry.change_meta(model, meta, replace=replace)
    _keep_meta(CacheEntry(cache_root, model), content)
    return data


def url(
    uid: str,
    *,
    type: str = "model",
    cache_root: str | None = None,
    verbose: bool = False,
) -> str:
    r"""Location of a model in its repository.

    Args:
        uid: model ID or alias
        type: ``'model'`` for the archive, ``'header'``, or ``'meta'``
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        URL, or path on the file system

    Raises:
        TypeError: if ``uid`` is not a string
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if ``type`` is not one of the values above
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.url("3e120e8d-1.0.0", type="header")
        '...header.yaml'

    """
    from audmodel.core.lookup import open_registry

    if type not in ("model", "header", "meta"):
        raise InvalidInputError(
            f"'type' has to be one of 'model', 'header', 'meta', not {type!r}."
        )
    model, place, header = _find(uid, cache_root)
    with open_registry(place) as registry:
        if type == "model":
            path = registry.archive_path(model, header.location)
        else:
            path = registry.record_path(model, type)
        return registry.backend.object_url(path)


def version(uid: str, *, cache_root: str | None = None, verbose: bool = False) -> str:
    r"""Version of a model.

    Args:
        uid: model ID or alias
        cache_root: cache folder,
            :func:`audmodel.default_cache_root` if it is ``None``
        verbose: accepted for compatibility, nothing is shown

    Returns:
        version

    Raises:
        TypeError: if ``uid`` is not a string
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.version("emotion-small")
        '1.0.0'

    """
    return _header(uid, cache_root).version


def versions(uid: str, *, cache_root: str | None = None) -> list[str]:
    r"""Versions of a model.

    Args:
        uid: model ID, with or without version, or alias
        cache_root: accepted for compatibility,
            versions are never taken from the cache

    Returns:
        versions from oldest to newest,
        empty if the model does not exist,
        or ``uid`` cannot be a model ID or an alias

    Raises:
        TypeError: if ``uid`` is not a string
        InvalidDocumentError: if an alias does not name a model ID
        RepositoryError: if a repository cannot be used

    Examples:
        >>> audmodel.versions("3e120e8d")
        ['1.0.0', '2.0.0']

    """
    try:
        parsed = ids.parse(uid)
    except InvalidIdError:
        return []
    if isinstance(parsed, Alias):
        target = _alias_target(parsed.name)
        if target is None:
            return []
        return _versions(target.short)
    return _versions(parsed.short)


# ---------------------------------------------------------------- helpers


def _alias_target(name: str) -> ModelId | None:
    from audmodel.core.lookup import first

    found = first(lambda registry: registry.alias(name))
    return None if found is None else found[1]


def _check_not_hidden(alias: str, place: Repository) -> None:
    r"""Raise an error if an alias would never be found."""
    from audmodel.core.lookup import first

    repositories = config.REPOSITORIES
    position = repositories.index(place) if place in repositories else 0
    found = first(lambda registry: registry.alias(alias), repositories[:position])
    if found is not None:
        raise InvalidInputError(
            f"The alias '{alias}' exists in {found[0]}, which comes before {place}. "
            "Choose another name, or change the order of the repositories."
        )


def _check_num_workers(num_workers: int | None) -> int:
    if num_workers is None:
        # Waiting for a link takes no core
        return min(16, 4 * (os.cpu_count() or 1))
    if (
        isinstance(num_workers, bool)
        or not isinstance(num_workers, int)
        or num_workers < 1
    ):
        raise InvalidInputError(
            f"'num_workers' has to be a positive integer or None, not {num_workers!r}."
        )
    return num_workers


def _find(uid: str, cache_root: str | None) -> tuple[ModelId, Repository, Header]:
    r"""ID, repository, and header of a model."""
    from audmodel.core.lookup import first

    model = _resolve(uid)
    found = first(lambda registry: registry.header(model))
    if found is None:
        raise ModelNotFoundError(_missing(uid))
    place, (header, content) = found
    _keep_header(CacheEntry(cache_root, model), content)
    return model, place, header


def _header(uid: str, cache_root: str | None) -> Header:
    r"""Header of a model, from the cache if it is there."""
    from audmodel.core import document
    from audmodel.core import header as header_module
    from audmodel.errors import InvalidDocumentError

    model = _resolve(uid)
    entry = CacheEntry(cache_root, model)
    content = entry.read(entry.header_file, document.MAX_BYTES)
    if content is not None:
        try:
            return header_module.parse(content, model, f"'{entry.header_file}'")
        except InvalidDocumentError:
            pass  # it is fetched again
    return _find(str(model), cache_root)[2]


def _keep_header(entry: CacheEntry, content: bytes) -> None:
    if entry.read(entry.header_file, len(content)) != content:
        entry.write(entry.header_file, content)


def _keep_meta(entry: CacheEntry, content: bytes) -> None:
    if entry.read(entry.meta_file, len(content)) != content:
        entry.write(entry.meta_file, content)


def _missing(uid: str) -> str:
    return f"A model with ID '{uid}' does not exist in {_places()}."


def _places() -> str:
    if not config.REPOSITORIES:
        return "any repository, since none is configured"
    return " or ".join(str(repository) for repository in config.REPOSITORIES)


def _check_ordered(params: Mapping[str, object]) -> None:
    r"""Raise an error if the model ID would differ between processes."""
    values: list[object] = [params]
    while values:
        value = values.pop()
        if isinstance(value, set | frozenset):
            raise InvalidInputError(
                "'params' must not hold sets, whose order differs between processes "
                "and with it the model ID. Use sorted lists."
            )
        if isinstance(value, Mapping):
            values += value.values()
        elif isinstance(value, list | tuple):
            values += value


def _publish_repository(repository: Repository | None) -> Repository:
    r"""Repository to publish to, made if it is the embedded one."""
    if repository is None:
        if not config.REPOSITORIES:
            raise ConfigurationError(
                "No repository is configured to publish to. "
                "Give one as 'repository', or list one in ~/.config/audmodel.yaml."
            )
        repository = config.REPOSITORIES[0]
    if not isinstance(repository, Repository):
        raise TypeError(
            f"'repository' has to be an audmodel.Repository, not {repository!r}."
        )
    if is_embedded(repository):
        host = os.path.expanduser(repository.host)
        os.makedirs(os.path.join(host, repository.name), exist_ok=True)
    return repository


def _resolve(uid: str) -> ModelId:
    r"""ID of one version of a model for any kind of ID."""
    parsed = ids.parse(uid)
    if isinstance(parsed, ModelId):
        return parsed
    if isinstance(parsed, ShortId):
        found = _versions(parsed.short)
        if not found:
            raise ModelNotFoundError(_missing(uid))
        return ModelId(parsed.short, found[-1])
    target = _alias_target(parsed.name)
    if target is None:
        raise ModelNotFoundError(_missing(uid))
    return target


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user without a name, as in many containers
        return str(os.getuid())


def _versions(short: str) -> list[str]:
    from audmodel.core.lookup import each

    found = each(lambda registry: registry.versions(short))
    return ids.sort_versions(set().union(*found))

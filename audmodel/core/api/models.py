r"""Publish and load models."""

from __future__ import annotations

from collections.abc import Mapping
import datetime
import os

from audmodel.core import uid as ids
from audmodel.core.cache import CacheEntry
from audmodel.core.config import config
from audmodel.core.config import is_embedded
from audmodel.core.find import check_not_hidden
from audmodel.core.find import find
from audmodel.core.find import resolve
from audmodel.core.repository import Repository
from audmodel.core.repository import check_type
from audmodel.core.uid import ModelId
from audmodel.core.workers import check_num_workers
from audmodel.errors import ConfigurationError
from audmodel.errors import InvalidInputError


TYPE_CHECKING = False
if TYPE_CHECKING:
    pass


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
    num_workers = check_num_workers(num_workers)
    model = resolve(uid)
    entry = CacheEntry(cache_root, model)
    if entry.is_complete or entry.verify():
        return entry.folder

    from audmodel.core import loading
    from audmodel.core.lookup import open_registry
    from audmodel.core.progress import progress_bar

    model, place, header = find(str(model), cache_root)
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
        entry.tidy()
    return entry.folder


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
    num_workers = check_num_workers(num_workers)
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
        check_not_hidden(alias, place)
    with (
        open_registry(place) as registry,
        progress_bar(f"Publish {model}", verbose=verbose) as start_progress,
    ):
        progress = start_progress(sum(file.size for file in files))
        publishing.publish(
            registry, publication, num_workers=num_workers, progress=progress
        )
    return str(model)


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
    check_type(repository)
    if is_embedded(repository):
        host = os.path.expanduser(repository.host)
        os.makedirs(os.path.join(host, repository.name), exist_ok=True)
    return repository


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user without a name, as in many containers
        return str(os.getuid())

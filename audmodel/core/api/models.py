r"""Publish and load models."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import datetime
import logging
import os
from typing import Literal
from typing import overload

from audmodel.core.api.arguments import base_model
from audmodel.core.api.arguments import check_one_folder
from audmodel.core.api.arguments import load_options
from audmodel.core.api.arguments import one_repository
from audmodel.core.api.arguments import shown
from audmodel.core.api.arguments import wanted_model
from audmodel.core.api.arguments import wanted_models
from audmodel.core.errors import CacheError
from audmodel.core.errors import InvalidInputError
from audmodel.core.operations.find import Wanted
from audmodel.core.operations.find import confirm
from audmodel.core.operations.find import find
from audmodel.core.process.workers import check_num_workers
from audmodel.core.progress.report import Reporter
from audmodel.core.progress.views import ShowProgress
from audmodel.core.repository.repository import Repository


TYPE_CHECKING = False
if TYPE_CHECKING:
    from audmodel.core.operations.options import LoadOptions
    from audmodel.core.operations.placing import Target

logger = logging.getLogger("audmodel")

# Attempts to copy a model that is removed from the cache meanwhile
_ATTEMPTS = 10


@overload
def load(
    uid: str,
    *,
    files: str | Iterable[str] | None = None,
    to: str | None = None,
    force: bool = False,
    hardlinks: bool = False,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    timeout: float | None = 14400,
    num_workers: int | None = 1,
    verbose: bool = False,
    progress: ShowProgress | None = None,
) -> str: ...


@overload
def load(
    uid: list[str] | tuple[str, ...],
    *,
    files: str | Iterable[str] | None = None,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    timeout: float | None = 14400,
    num_workers: int | None = 1,
    verbose: bool = False,
    progress: ShowProgress | None = None,
) -> list[str]: ...


def load(
    uid: str | list[str] | tuple[str, ...],
    *,
    files: str | Iterable[str] | None = None,
    to: str | None = None,
    force: bool = False,
    hardlinks: bool = False,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    timeout: float | None = 14400,
    num_workers: int | None = 1,
    verbose: bool = False,
    progress: ShowProgress | None = None,
) -> str | list[str]:
    r"""Load a model, or several.

    If the model is in the cache, no repository is used.
    Otherwise several workers fetch it in parts,
    and inflate, verify, and write each part.
    The folder appears in the cache when it is complete.
    The next load continues one that was interrupted.

    Args:
        uid: model ID or alias.
            Without version it is the latest version.
            The models of a list share the workers:
            small models are loaded at the same time, large ones in parts,
            and nothing is fetched if one of them does not exist
        files: pattern or patterns of the files that are needed,
            the whole model if it is ``None``.
            A pattern is compared with the path of each file,
            with ``'/'`` between folders:
            ``*`` stands for any characters, those between folders included,
            ``?`` for one character, ``[abc]`` for one of several,
            ``[!abc]`` for any other,
            and a pattern that ends with ``'/'``
            for everything in a folder.
            Case matters.
            Each pattern has to match a file
        to: folder that the model is put into as well,
            made if it does not exist.
            Files are copied from the cache,
            and share its blocks on the disk if the file system can (reflinks).
            Those that are there with the same content stay,
            and so do files that are not part of the model.
            Other content is an error, before anything is changed
        force: whether to replace files in ``to`` that have other content,
            each in one step.
            Folders and links to folders are never replaced
        hardlinks: whether files in ``to`` are second names of those in the cache,
            which takes no room.
            A change of such a file changes the model in the cache
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``
        timeout: seconds to wait for another process
            that loads the same model,
            forever if negative or ``None``
        num_workers: number of parallel workers,
            with 1 everything happens in the calling thread,
            ``None`` chooses a number for the machine
        verbose: whether to show a progress bar
        progress: function or bar that is told of the progress, see :doc:`/progress`

    Returns:
        path of the folder of the model.
        With ``files`` it may be another folder,
        which holds all files of the model that were loaded in this way.
        With ``to`` it is this folder.
        A list of paths, in the same order, if ``uid`` is a list

    Raises:
        FileExistsError: if other files are in ``to``,
            or something that is never replaced
        OSError: if ``to`` cannot be written to
        TypeError: if an argument is of the wrong type
        ValueError: if ``num_workers`` is not a positive integer
        ArchiveError: if the archive is damaged or not the published one
        CacheError: if the cache cannot be written to
        ConfigurationError: if the configuration cannot be used
        DiskFullError: if the disk has less room than the model needs
        FileNotInModelError: if a pattern matches no file
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if ``to`` is in the cache, or ``uid`` is a list,
            or no configured repository has the name
        LockTimeoutError: if another process loads the model,
            or puts one into ``to``, for longer than ``timeout``
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used
        UntrustedModelError: if a signature is needed that the model lacks

    Examples:
        >>> root = audmodel.load("3e120e8d-1.0.0", num_workers=4)
        >>> sorted(os.listdir(root))
        ['log', 'model.onnx', 'model.yaml', 'readme.txt']
        >>> root = audmodel.load("3e120e8d-1.0.0", files=["*.yaml", "log/"])
        >>> roots = audmodel.load(["3e120e8d-1.0.0", "3e120e8d-2.0.0"])
        >>> [os.path.basename(root) for root in roots]
        ['1.0.0', '2.0.0']
        >>> root = audmodel.load("3e120e8d-1.0.0", to="deployed", force=True)
        >>> root == os.path.abspath("deployed")
        True

    """
    reporter = Reporter(verbose=verbose, progress=progress)
    options = load_options(files=files, num_workers=num_workers, timeout=timeout)
    if isinstance(uid, list | tuple):
        check_one_folder(to)
        models = wanted_models(uid, cache_root, repository)
        return _load_all(models, options, reporter)
    wanted = wanted_model(uid, cache_root, repository)
    if to is not None:
        from audmodel.core.operations.placing import check_target

        target = check_target(to, wanted.entry.root, force=force, hardlinks=hardlinks)
        return _load_to(wanted, options, target, reporter)
    if force or hardlinks:
        raise InvalidInputError("'force' and 'hardlinks' need a folder as 'to'.")
    return _load(wanted, options, reporter)


def _load(wanted: Wanted, options: LoadOptions, reporter: Reporter) -> str:
    r"""Load a model into the cache."""
    from audmodel.core.operations.local import Local

    confirm(wanted)
    entry = wanted.entry
    path = Local(entry).path(options.files)
    if path is None:
        from audmodel.core.operations import batch

        found = find(wanted)
        with reporter.report(f"Load {entry.model}") as start_progress:
            options = dataclasses.replace(options, start_progress=start_progress)
            path = batch.load(found, options)
    else:
        logger.info("Loaded '%s' from the cache '%s'.", entry.model, entry.root)
    return path


def _load_to(
    wanted: Wanted, options: LoadOptions, target: Target, reporter: Reporter
) -> str:
    r"""Load a model, and put it into a folder."""
    from audmodel.core.operations.placing import place

    entry = wanted.entry
    for _ in range(_ATTEMPTS):
        _load(wanted, options, reporter)
        with reporter.report(f"Copy {entry.model}") as start_progress:
            copying = dataclasses.replace(options, start_progress=start_progress)
            # It may have been removed from the cache in the meantime
            if place(entry, copying, target):
                return target.path
    raise CacheError(
        f"Files of the model '{entry.model}' in the cache '{entry.root}' were removed "
        f"{_ATTEMPTS} times while they were copied, or are no regular files. "
        "Load it again with another 'cache_root'."
    )


def _load_all(
    wanted: list[Wanted], options: LoadOptions, reporter: Reporter
) -> list[str]:
    r"""Load several models."""
    from audmodel.core.operations import batch

    models = {each.model: each for each in wanted}
    with reporter.report(f"Load {shown(models)}") as start_progress:
        options = dataclasses.replace(options, start_progress=start_progress)
        paths = batch.load_all(list(models.values()), options)
    return [paths[each.model] for each in wanted]


def publish(
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
    tmp_root: str | None = None,
    num_workers: int | None = 1,
    verbose: bool = False,
    progress: ShowProgress | None = None,
    repair: bool = False,
    base: str | None = "newest",
    exist_ok: bool = False,
    exclude: str | Iterable[str] | None = None,
    suspicious: Literal["warn", "refuse", "allow"] = "warn",
    source: Mapping[str, str] | None = None,
    sign: str | os.PathLike[str] | None = None,
    passphrase: Callable[[], str] | None = None,
) -> str:
    r"""Publish a model.

    The model ID follows from ``name``, ``params``, ``subgroup``,
    and ``version``.
    Everything is checked before anything is stored,
    and a model appears in the repository as a whole or not at all.

    Hidden files are published, and executable files stay executable.
    A link to a file is published as the file.
    Empty folders are left out.

    Args:
        root: folder that holds the files of the model
        name: name of the model, e.g. the framework that runs it
        params: parameters of the model.
            With name and subgroup they identify the model
        version: version of the model, e.g. ``'1.0.0'`` or ``'1.0.0-prod'``.
            A version with a suffix counts as newer than the one without,
            even with a suffix like ``-rc1``, which gives a warning
        repository: where to publish,
            or its label or name in the configuration,
            the first one of ``audmodel.config.REPOSITORIES`` if it is ``None``
        alias: alias that points to the model afterwards
        author: name of the author, the user's name if it is ``None``
        compression: 0 stores files as they are,
            1 compresses files that shrink by three tenths or more,
            2 to 9 compress all files that shrink.
            A higher level is slower, and gives an archive that is no larger
        date: day of publication, e.g. ``'2026-01-31'``,
            today if it is ``None``
        meta: metadata, which can be changed later
        subgroup: subgroup of the model, e.g. ``'emotion.cnn'``
        tmp_root: folder for temporary files, created if it does not exist,
            used for Artifactory and backends that can only store files
        num_workers: number of parallel workers,
            with 1 everything happens in the calling thread,
            ``None`` chooses a number for the machine
        verbose: whether to show a progress bar
        progress: function or bar that is told of the progress, see :doc:`/progress`
        repair: whether to store only the archive of an existing model again,
            since it was lost or damaged, see :func:`audmodel.audit_repository`.
            Files and ``compression`` have to be those of the publication;
            the records of the model do not change
        base: model in the same repository that has parts of the same content,
            as ID with or without version.
            The storage copies such parts, and they are not sent.
            ``'newest'`` stands for the newest version
            of the model that is published,
            ``None`` for no model: everything is sent.
            What is stored does not depend on it.
            It is not used below 32 MiB, and with ``repair``
        exist_ok: whether the model may exist in the repository
            with the same files.
            Then nothing is stored but the ``alias``,
            and metadata, author and date stay as they are.
            Names, sizes, digests and executable bits of the files
            are compared with the directory of the archive;
            those of models of earlier releases by their CRC-32
        exclude: pattern or patterns of files and folders that are left out,
            in the syntax of ``.gitignore``,
            in addition to those in the file ``.audmodelignore`` of the folder,
            which is never published
        suspicious: what to do if the folder holds what is seldom meant to be
            published, such as credentials or ``.git``:
            ``'warn'`` logs a warning before anything is stored,
            ``'refuse'`` raises an error,
            ``'allow'`` does not look for it
        source: what the model was made from:
            a dictionary with ``'commit'``, ``'url'``, or both,
            see :func:`audmodel.provenance`.
            If it is ``None``, the variables of common CI systems tell,
            with ``{}`` nothing is stored
        sign: file of the key that signs the model,
            see :func:`audmodel.sign`
        passphrase: returns the passphrase of an encrypted key

    Returns:
        model ID

    Raises:
        FileNotFoundError: if ``root`` is not a folder
        TypeError: if an argument is of the wrong type
        ValueError: if ``num_workers`` is not a positive integer
        ArchiveError: if, with ``exist_ok``,
            the archive of the model is missing or damaged
        ArchiveMismatchError: if, with ``repair``,
            the folder gives another archive than the published one
        ConfigurationError: if the configuration cannot be used,
            or names no repository
        FileChangedError: if a file changes while it is published
        InvalidDataError: if ``params``, ``meta`` or ``author`` hold something
            that cannot be stored
        InvalidDocumentError: if, with ``exist_ok`` or ``repair``,
            the header of the model is not valid
        InvalidFolderError: if ``root`` holds no files,
            something that cannot be published,
            or, with ``suspicious='refuse'``, what is seldom meant to be
        InvalidIdError: if ``base`` cannot be a model ID
        InvalidInputError: if another argument is not valid
        ModelExistsError: if the repository, or one that is searched before,
            holds the model already,
            or another model with the same short ID.
            With ``exist_ok`` the message names the files that differ
        ModelNotFoundError: if the repository does not hold the ``base``,
            or if, with ``repair``, the model was not published
        PublishConflictError: if another process publishes the model
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
    from audmodel.core.operations import publication
    from audmodel.core.operations import publishing
    from audmodel.core.operations import signing

    num_workers = check_num_workers(num_workers)
    reporter = Reporter(verbose=verbose, progress=progress)
    key = None if sign is None else signing.load_key(os.fspath(sign), passphrase)
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
        tmp_root=tmp_root,
        num_workers=num_workers,
        repair=repair,
        base=base_model(base),
        exist_ok=exist_ok,
        exclude=exclude,
        suspicious=suspicious,
        source=source,
        sign=key,
    )
    with reporter.report(f"Publish {planned.model}") as start_progress:
        publishing.publish(planned, start_progress)
    return str(planned.model)

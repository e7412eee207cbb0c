r"""Use files of a model before all of it is there."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
import contextlib
import dataclasses
import os

from audmodel.core.api.arguments import load_options
from audmodel.core.api.arguments import wanted_model
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.operations.find import confirm
from audmodel.core.operations.find import find
from audmodel.core.process.workers import check_positive
from audmodel.core.progress.report import Reporter
from audmodel.core.progress.views import ShowProgress
from audmodel.core.repository.repository import Repository
from audmodel.core.repository.repository import anchored


TYPE_CHECKING = False
if TYPE_CHECKING:
    from audmodel.core.operations.find import Found
    from audmodel.core.operations.opening import OpenedFile
    from audmodel.core.operations.options import LoadOptions


def open(
    uid: str,
    file: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    timeout: float | None = 14400,
    num_workers: int | None = 1,
) -> OpenedFile:
    r"""Open a file of a model without loading the model.

    A file that is in the cache is opened there.
    Otherwise only the parts that are read are fetched,
    4 MiB each,
    and each part is verified before its bytes are returned.
    With more than one worker,
    the parts that one call needs are fetched in parallel,
    and sequential reading fetches parts ahead.

    The file is an :class:`io.BufferedReader`
    that has an attribute ``size`` in bytes,
    and should be closed.
    It can be used like any binary file,
    e.g. by :class:`zipfile.ZipFile`, ``numpy.load()``, or ``torch.load()``.
    It keeps 16 MiB of the bytes that were read,
    and up to ``num_workers + 1`` parts that were fetched ahead.
    Several threads may read from it, but share its position.
    After an error the position is unknown,
    and reading raises an :class:`OSError`
    until ``seek()`` sets a position from the start or the end of the file.

    In archives of earlier releases,
    a file larger than 4 MiB can only be verified as a whole.
    Such a file is loaded into the cache first,
    as with ``files`` of :func:`audmodel.load`.

    Args:
        uid: model ID or alias.
            Without version it is the latest version
        file: path of the file in the model,
            with ``'/'`` between folders
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``
        timeout: seconds to wait for another process
            that loads a file which has to be loaded first,
            forever if negative or ``None``
        num_workers: number of parallel workers,
            with 1 everything happens in the calling thread,
            ``None`` chooses a number for the machine

    Returns:
        binary file, opened for reading.
        Reading raises ``ArchiveError`` if a part is damaged,
        and ``RepositoryError`` if it cannot be fetched

    Raises:
        TypeError: if an argument is of the wrong type
        ValueError: if ``num_workers`` is not a positive integer
        ArchiveError: if the archive is damaged or not the published one
        CacheError: if a file has to be loaded,
            and the cache cannot be written to
        ConfigurationError: if the configuration cannot be used
        FileNotInModelError: if the model has no such file
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if no configured repository has the name
        LockTimeoutError: if another process loads the file
            for longer than ``timeout``
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used
        UntrustedModelError: if a signature is needed that the model lacks

    Examples:
        >>> with audmodel.open("3e120e8d-1.0.0", "model.yaml") as file:
        ...     file.readline()
        b'input: melspec\n'
        >>> with audmodel.open("3e120e8d-1.0.0", "model.onnx") as file:
        ...     position = file.seek(-3, os.SEEK_END)
        ...     file.size, file.read()
        (16384, b'\xfd\xfe\xff')

    """
    options = load_options(num_workers=num_workers, timeout=timeout)
    if not isinstance(file, str):
        raise TypeError(f"'file' has to be a string, not {type(file).__name__}.")
    wanted = wanted_model(uid, cache_root, repository)
    entry = wanted.entry

    from audmodel.core.operations import opening

    opening.check_path(file, entry.model)
    return opening.open_file(wanted, file, options)


def readme(
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    timeout: float | None = 14400,
) -> str:
    r"""Model card: the text of the file ``README.md`` of a model.

    Unless the model is in the cache, only this file is fetched.

    Args:
        uid: model ID or alias.
            Without version it is the latest version
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``
        timeout: seconds to wait for another process
            that loads the file, if it has to be loaded first,
            forever if negative or ``None``

    Returns:
        first MiB of the file as text,
        in which bytes that are not UTF-8 are replaced,
        empty if the model has no ``README.md``

    Raises:
        TypeError: if an argument is of the wrong type
        ArchiveError: if the archive is damaged or not the published one
        CacheError: if the file has to be loaded,
            and the cache cannot be written to
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if no configured repository has the name
        LockTimeoutError: if another process loads the file
            for longer than ``timeout``
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used
        UntrustedModelError: if a signature is needed that the model lacks

    Examples:
        >>> audmodel.readme("3e120e8d-1.0.0")
        ''

    """
    options = load_options(num_workers=1, timeout=timeout)
    wanted = wanted_model(uid, cache_root, repository)

    from audmodel.core.operations import opening

    return opening.readme(wanted, options)


def quick_readme(
    uid: str,
    *,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
) -> str:
    r"""What :func:`readme` returns, unless the whole archive would be fetched for it.

    Args:
        uid: model ID or alias
        repository: the only repository to search, if any
        cache_root: cache folder

    Returns:
        text, empty if there is none, or the storage gives no ranges

    """
    options = load_options(num_workers=1)
    wanted = wanted_model(uid, cache_root, repository)

    from audmodel.core.operations import opening

    return opening.readme(wanted, options, needs_ranges=True)


def stream(
    uid: str,
    *,
    files: str | Iterable[str] | None = None,
    ahead: int = 64,
    repository: Repository | str | None = None,
    cache_root: str | None = None,
    timeout: float | None = 14400,
    num_workers: int | None = 1,
    verbose: bool = False,
    progress: ShowProgress | None = None,
) -> Generator[str, None, None]:
    r"""Load a model and use each file as soon as it is there.

    Files come in the order of the archive,
    which is that of their names.
    Each is complete and verified,
    and its path stays valid after the iteration has ended,
    unless the model is removed from the cache.
    A file that is removed before it is given is fetched.
    With more than one worker later files are loaded in the meantime.
    A consumer that is slow slows down loading.

    When the iteration is complete, the model is in the cache,
    as after :func:`audmodel.load`.
    Leaving the ``for`` loop early, or calling ``close()`` of the generator,
    stops loading.
    Files and parts that were loaded by then are not fetched again.

    Until the iteration ends,
    other processes that stream the same model,
    or load some of its files, wait.
    The process itself does not wait:
    it may load other files of the model during the iteration.

    Args:
        uid: model ID or alias.
            Without version it is the latest version
        files: pattern or patterns of the files that are needed,
            see :func:`audmodel.load`,
            all files if it is ``None``
        ahead: largest number of files that are begun
            before they are asked for
        repository: the only repository to search, or its label or name,
            all that are configured if it is ``None``
        cache_root: cache folder, the default one if it is ``None``
        timeout: seconds to wait for another process
            that loads the same files,
            forever if negative or ``None``
        num_workers: number of parallel workers,
            with 1 everything happens in the calling thread,
            ``None`` chooses a number for the machine
        verbose: whether to show a progress bar
        progress: function or bar that is told of the progress, see :doc:`/progress`

    Returns:
        generator of paths of files.
        It raises what :func:`audmodel.load` does
        when a file cannot be loaded, or a pattern matches none

    Raises:
        TypeError: if an argument is of the wrong type
        ValueError: if ``num_workers`` or ``ahead`` is not a positive integer
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if the header of the model is not valid
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if no configured repository has the name
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used
        UntrustedModelError: if a signature is needed that the model lacks

    Examples:
        >>> for path in audmodel.stream("3e120e8d-1.0.0", num_workers=4):
        ...     print(os.path.basename(path), os.path.getsize(path))
        eval.yaml 10
        model.onnx 16384
        model.yaml 31
        readme.txt 29

    """
    reporter = Reporter(verbose=verbose, progress=progress)
    options = load_options(files=files, num_workers=num_workers, timeout=timeout)
    options = dataclasses.replace(options, ahead=check_positive("ahead", ahead))
    wanted = wanted_model(uid, cache_root, repository)
    if repository is not None:
        # The current folder may be another one when the first file is asked for
        wanted = dataclasses.replace(
            wanted, repositories=tuple(map(anchored, wanted.repositories or ()))
        )
    entry = wanted.entry
    confirm(wanted)

    from audmodel.core.operations.local import Local

    def fetch(found: Found) -> Generator[str, None, None]:
        return _stream(found, options, reporter)

    paths = Local(entry).paths(options.files)
    if paths is not None:
        cached = (path for path in paths)
        return _existing(entry, cached, lambda: fetch(find(wanted)))
    found = find(wanted)
    # The current folder may be another one when the first file is asked for
    found = dataclasses.replace(found, repository=anchored(found.repository))
    return _existing(entry, fetch(found), lambda: fetch(found))


def _existing(
    entry: CacheEntry,
    paths: Generator[str, None, None],
    fetch: Callable[[], Generator[str, None, None]],
) -> Generator[str, None, None]:
    r"""Paths of files, of which those are fetched that were removed in the meantime."""
    folder = entry.whole.folder.parent
    given: set[str] = set()
    while True:
        with contextlib.closing(paths):
            for path in paths:
                # It may be in another folder of the model by then
                relative = os.path.relpath(path, folder.path)
                name = relative.partition(os.sep)[2]
                if name in given:
                    continue
                if not folder.has(relative):
                    break
                given.add(name)
                yield path
            else:
                return
        paths = fetch()


def _stream(
    found: Found, options: LoadOptions, reporter: Reporter
) -> Generator[str, None, None]:
    from audmodel.core.operations import loading
    from audmodel.core.operations.local import Local
    from audmodel.core.operations.noting import noted

    slot = found.entry.partial
    with (
        reporter.report(f"Stream {found.model}") as start_progress,
        slot.lock(
            timeout=options.timeout, reentrant=True, waiting=start_progress.waiting
        ),
    ):
        # Another process may have loaded it while this one waited
        paths = Local(found.entry).paths(options.files)
        if paths is not None:
            yield from paths
            return
        options = dataclasses.replace(options, start_progress=start_progress)
        loaded = loading.stream(found, noted(options, slot))
        # 'yield from' would pass errors that a consumer throws to the loader
        with contextlib.closing(loaded):
            for path in loaded:  # noqa: UP028
                yield path

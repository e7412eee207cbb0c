r"""Look something up in the configured repositories."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING
from typing import Generic
from typing import TypeVar
import warnings

from audmodel.core.process.workers import start_thread
from audmodel.core.repository import outages
from audmodel.core.repository.config import check_backend
from audmodel.core.repository.config import config
from audmodel.core.repository.config import is_embedded
from audmodel.core.repository.registry import Registry
from audmodel.core.repository.repository import Repository


if TYPE_CHECKING:
    from concurrent.futures import Future

    from audmodel.core.process.requests import Requests


Result = TypeVar("Result")


@contextmanager
def open_registry(repository: Repository) -> Iterator[Registry]:
    r"""Open the registry of a repository.

    Raises:
        ConfigurationError: if its backend is not known
        RepositoryError: if it does not exist, or cannot be reached

    """
    check_backend(repository)
    with repository.connect() as backend:
        yield Registry(backend, repr(repository))


def configured() -> list[Repository]:
    r"""Repositories that are configured, each of them once."""
    return list(dict.fromkeys(config.REPOSITORIES))


def first(
    query: Callable[[Registry], Result | None],
    repositories: Sequence[Repository] | None = None,
) -> tuple[Repository, Result] | None:
    r"""First result, in the order of the repositories.

    Args:
        query: searches one repository,
            returns ``None`` if another one may have the result
        repositories: repositories to search,
            all that are configured if it is ``None``

    Returns:
        repository and its result,
        or ``None`` if no repository has one

    Raises:
        RepositoryError: if a repository that comes before the first result
            cannot be used,
            or none can be reached

    """
    if repositories is None:
        repositories = configured()
    with contextlib.closing(_results(repositories, query)) as results:
        for repository, result in results:
            if result is not None:
                return repository, result
    return None


def each(
    query: Callable[[Registry], Result | None],
    repositories: Sequence[Repository] | None = None,
) -> list[tuple[Repository, Result]]:
    r"""Results of several repositories, in their order.

    Args:
        query: searches one repository,
            returns ``None`` if it has no result
        repositories: repositories to search,
            all that are configured if it is ``None``

    Raises:
        RepositoryError: if a repository cannot be used,
            or none can be reached

    """
    if repositories is None:
        repositories = configured()
    results = _results(repositories, query)
    return [
        (repository, result) for repository, result in results if result is not None
    ]


def _results(
    repositories: Sequence[Repository],
    query: Callable[[Registry], Result | None],
) -> Generator[tuple[Repository, Result | None], None, None]:
    r"""Results of repositories in their order, with remote ones searched at once.

    A repository that cannot be reached is skipped with a warning,
    unless all of them are.
    So is one whose host did not respond a moment ago,
    unless it is at another address now, or there is no other one.
    A remote one while ``AUDMODEL_OFFLINE`` is set,
    and one that does not say whether it has the result,
    is an error, unless another one has the result.
    """
    from audmodel.core.backend.errors import HiddenError
    from audmodel.core.backend.errors import OfflineError
    from audmodel.core.backend.errors import RepositoryNotFoundError
    from audmodel.core.backend.errors import RepositoryUnreachableError

    may_skip = any(not outages.skipped_for(repository) for repository in repositories)

    def search(repository: Repository) -> Result | None:
        seconds = outages.skipped_for(repository)
        if seconds and may_skip and not outages.has_moved(repository):
            raise RepositoryUnreachableError(
                f"{repository} did not respond a moment ago, "
                f"and is tried again in {seconds:.0f} s."
            )
        try:
            with outages.recorded(repository), open_registry(repository) as found:
                return query(found)
        except RepositoryNotFoundError:
            # It is made when a model is published
            if is_embedded(repository):
                return None
            raise

    unreachable: list[RepositoryUnreachableError] = []
    unknown: list[OfflineError | HiddenError] = []
    with contextlib.closing(_run(repositories, search)) as results:
        for repository, result in results:
            try:
                yield repository, result()
            except (OfflineError, HiddenError) as error:
                unknown.append(error)
            except RepositoryUnreachableError as error:
                unreachable.append(error)
                if len(unreachable) == len(repositories):
                    raise
                warnings.warn(f"{error} It is left out.", stacklevel=2)
    # No repository that was searched has it, but one of the others may
    if unknown:
        raise unknown[0]


def _run(
    repositories: Sequence[Repository],
    search: Callable[[Repository], Result | None],
) -> Generator[tuple[Repository, Callable[[], Result | None]], None, None]:
    r"""Functions that get or wait for the result of each repository."""
    position = 0
    # Folders respond at once, and may save requests to the others
    while position < len(repositories) and (
        repositories[position].backend == "file-system"
        or position == len(repositories) - 1
    ):
        repository = repositories[position]
        yield repository, partial(search, repository)
        position += 1
    remaining = repositories[position:]
    if remaining:
        from audmodel.core.process.requests import Requests

        requests = Requests()
        waiting = [_Awaited(partial(search, each), requests) for each in remaining]
        for repository, awaited in zip(remaining, waiting, strict=True):
            yield repository, awaited.result


class _Awaited(Generic[Result]):
    r"""The result of one repository, which is searched in a thread.

    A lookup that has its result does not wait for a host that is down,
    nor does the end of the process.

    Args:
        search: gets the result
        requests: requests to the repositories

    """

    def __init__(self, search: Callable[[], Result | None], requests: Requests) -> None:
        from concurrent.futures import Future

        future: Future[Result | None] = Future()
        self._search = search
        self._requests = requests
        has_thread = start_thread(partial(_deliver, search, requests, future))
        self._future = future if has_thread else None

    def result(self) -> Result | None:
        r"""Wait for the result, or for what went wrong."""
        from audmodel.parallel.waiting import result_of

        if self._future is None:
            return self._search()
        try:
            return result_of(self._future)
        except BaseException:
            # A lookup that is interrupted wants none of the results
            if not self._future.done():
                self._requests.cancel()
            raise


def _deliver(
    search: Callable[[], Result | None],
    requests: Requests,
    future: Future[Result | None],
) -> None:
    try:
        with requests.here():
            future.set_result(search())
    # It is raised where the result is waited for
    except BaseException as error:  # noqa: BLE001
        future.set_exception(error)
    finally:
        # The traceback of an exception would refer to this frame and back
        del future

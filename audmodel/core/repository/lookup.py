r"""Ask the configured repositories."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
from contextlib import contextmanager
from functools import partial
from typing import TypeVar
import warnings

from audmodel.core.process.workers import start_thread
from audmodel.core.repository import silence
from audmodel.core.repository.config import check_backend
from audmodel.core.repository.config import config
from audmodel.core.repository.config import is_embedded
from audmodel.core.repository.registry import Registry
from audmodel.core.repository.repository import Repository


Answer = TypeVar("Answer")


@contextmanager
def open_registry(repository: Repository) -> Iterator[Registry]:
    r"""Open the registry of a repository.

    Args:
        repository: the repository

    Yields:
        registry

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
    question: Callable[[Registry], Answer | None],
    repositories: Sequence[Repository] | None = None,
) -> tuple[Repository, Answer] | None:
    r"""First answer, in the order of the repositories.

    Args:
        question: asks one repository,
            gives ``None`` if another one may have the answer
        repositories: repositories to ask,
            all that are configured if it is ``None``

    Returns:
        repository and its answer,
        or ``None`` if no repository has one

    Raises:
        RepositoryError: if a repository that comes before the first answer
            cannot be used,
            or none can be reached

    """
    if repositories is None:
        repositories = configured()
    with contextlib.closing(_ask(repositories, question)) as answers:
        for repository, answer in answers:
            if answer is not None:
                return repository, answer
    return None


def each(
    question: Callable[[Registry], Answer | None],
    repositories: Sequence[Repository] | None = None,
) -> list[tuple[Repository, Answer]]:
    r"""Answers of several repositories, in their order.

    Args:
        question: asks one repository,
            gives ``None`` if it has no answer
        repositories: repositories to ask,
            all that are configured if it is ``None``

    Returns:
        repositories and their answers

    Raises:
        RepositoryError: if a repository cannot be used,
            or none can be reached

    """
    if repositories is None:
        repositories = configured()
    answers = _ask(repositories, question)
    return [(place, answer) for place, answer in answers if answer is not None]


def _ask(
    repositories: Sequence[Repository],
    question: Callable[[Registry], Answer | None],
) -> Generator[tuple[Repository, Answer | None], None, None]:
    r"""Answers of repositories in their order, with remote ones asked at once.

    A repository that cannot be reached is passed over with a warning,
    unless all of them are.
    So is one whose host gave no answer a moment ago,
    unless it is at another address now, or there is no other one to ask.
    One that must not be asked is an error,
    unless another one has the answer.
    """
    from audmodel.core.backend.errors import OfflineError
    from audmodel.core.backend.errors import RepositoryNotFoundError
    from audmodel.core.backend.errors import RepositoryUnreachableError

    may_rest = any(not silence.rest(repository) for repository in repositories)

    def ask(repository: Repository) -> Answer | None:
        rest = silence.rest(repository)
        if rest and may_rest and not silence.has_moved(repository):
            raise RepositoryUnreachableError(
                f"{repository} gave no answer a moment ago, "
                f"and is asked again in {rest:.0f} s."
            )
        try:
            with silence.noticed(repository), open_registry(repository) as found:
                return question(found)
        except RepositoryNotFoundError:
            # It is made when something is published
            if is_embedded(repository):
                return None
            raise

    unreachable: list[RepositoryUnreachableError] = []
    offline: list[OfflineError] = []
    with contextlib.closing(_run(repositories, ask)) as results:
        for repository, result in results:
            try:
                yield repository, result()
            except OfflineError as error:
                offline.append(error)
            except RepositoryUnreachableError as error:
                unreachable.append(error)
                if len(unreachable) == len(repositories):
                    raise
                warnings.warn(f"{error} It is left out.", stacklevel=2)
    # Those that answered do not have it, which says nothing about the others
    if offline:
        raise offline[0]


def _run(
    repositories: Sequence[Repository],
    ask: Callable[[Repository], Answer | None],
) -> Generator[tuple[Repository, Callable[[], Answer | None]], None, None]:
    r"""Functions that give or wait for the answer of each repository."""
    position = 0
    # Folders answer at once, and may save asking the others
    while position < len(repositories) and (
        repositories[position].backend == "file-system"
        or position == len(repositories) - 1
    ):
        repository = repositories[position]
        yield repository, partial(ask, repository)
        position += 1
    remaining = repositories[position:]
    if not remaining:
        return
    from concurrent.futures import Future

    from audmodel.core.process.requests import Requests
    from audmodel.parallel.waiting import result_of

    requests = Requests()

    def run(repository: Repository, future: Future[Answer | None]) -> None:
        try:
            with requests.here():
                future.set_result(ask(repository))
        # It is raised where somebody waits for it
        except BaseException as error:  # noqa: BLE001
            future.set_exception(error)
        finally:
            # The traceback of an exception would refer to this frame and back
            del future

    def start(repository: Repository) -> Future[Answer | None] | None:
        future: Future[Answer | None] = Future()
        # Whoever has an answer does not wait for a host that is down,
        # nor does the end of the process
        return future if start_thread(partial(run, repository, future)) else None

    def wait(
        repository: Repository, future: Future[Answer | None] | None
    ) -> Answer | None:
        if future is None:
            return ask(repository)
        try:
            return result_of(future)
        except BaseException:
            # Who was interrupted does not want any of the answers
            if not future.done():
                requests.end()
            raise

    futures = [start(repository) for repository in remaining]
    for repository, future in zip(remaining, futures, strict=True):
        yield repository, partial(wait, repository, future)

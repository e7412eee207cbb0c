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
from audmodel.core.repository import silence
from audmodel.core.repository.config import check_backend
from audmodel.core.repository.config import config
from audmodel.core.repository.config import is_embedded
from audmodel.core.repository.registry import Registry
from audmodel.core.repository.repository import Repository


if TYPE_CHECKING:
    from concurrent.futures import Future

    from audmodel.core.process.requests import Requests


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

    A repository that cannot be reached is skipped with a warning,
    unless all of them are.
    So is one whose host did not respond a moment ago,
    unless it is at another address now, or there is no other one to ask.
    A remote one while ``AUDMODEL_OFFLINE`` is set,
    and one that does not say whether it has the answer,
    is an error, unless another one has the answer.
    """
    from audmodel.core.backend.errors import HiddenError
    from audmodel.core.backend.errors import OfflineError
    from audmodel.core.backend.errors import RepositoryNotFoundError
    from audmodel.core.backend.errors import RepositoryUnreachableError

    may_rest = any(not silence.rest(repository) for repository in repositories)

    def ask(repository: Repository) -> Answer | None:
        rest = silence.rest(repository)
        if rest and may_rest and not silence.has_moved(repository):
            raise RepositoryUnreachableError(
                f"{repository} did not respond a moment ago, "
                f"and is tried again in {rest:.0f} s."
            )
        try:
            with silence.noticed(repository), open_registry(repository) as found:
                return question(found)
        except RepositoryNotFoundError:
            # It is made when a model is published
            if is_embedded(repository):
                return None
            raise

    unreachable: list[RepositoryUnreachableError] = []
    unknown: list[OfflineError | HiddenError] = []
    with contextlib.closing(_run(repositories, ask)) as results:
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
    # No repository that gave an answer has it, but one of the others may
    if unknown:
        raise unknown[0]


def _run(
    repositories: Sequence[Repository],
    ask: Callable[[Repository], Answer | None],
) -> Generator[tuple[Repository, Callable[[], Answer | None]], None, None]:
    r"""Functions that give or wait for the answer of each repository."""
    position = 0
    # Folders respond at once, and may save requests to the others
    while position < len(repositories) and (
        repositories[position].backend == "file-system"
        or position == len(repositories) - 1
    ):
        repository = repositories[position]
        yield repository, partial(ask, repository)
        position += 1
    remaining = repositories[position:]
    if remaining:
        from audmodel.core.process.requests import Requests

        requests = Requests()
        answers = [_Awaited(partial(ask, each), requests) for each in remaining]
        for repository, awaited in zip(remaining, answers, strict=True):
            yield repository, awaited.result


class _Awaited(Generic[Answer]):
    r"""The answer of one repository, which is asked in a thread.

    A lookup that has its answer does not wait for a host that is down,
    nor does the end of the process.

    Args:
        ask: gives the answer
        requests: what the repositories are asked

    """

    def __init__(self, ask: Callable[[], Answer | None], requests: Requests) -> None:
        from concurrent.futures import Future

        future: Future[Answer | None] = Future()
        self._ask = ask
        self._requests = requests
        has_thread = start_thread(partial(_answer, ask, requests, future))
        self._future = future if has_thread else None

    def result(self) -> Answer | None:
        r"""Wait for the answer, or for what went wrong."""
        from audmodel.parallel.waiting import result_of

        if self._future is None:
            return self._ask()
        try:
            return result_of(self._future)
        except BaseException:
            # A lookup that is interrupted wants none of the answers
            if not self._future.done():
                self._requests.end()
            raise


def _answer(
    ask: Callable[[], Answer | None],
    requests: Requests,
    future: Future[Answer | None],
) -> None:
    try:
        with requests.here():
            future.set_result(ask())
    # It is raised where the answer is waited for
    except BaseException as error:  # noqa: BLE001
        future.set_exception(error)
    finally:
        # The traceback of an exception would refer to this frame and back
        del future

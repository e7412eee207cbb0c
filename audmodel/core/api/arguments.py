r"""Turn arguments of users into what operations take."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import datetime
from typing import Literal

from audmodel.core import uid as ids
from audmodel.core.cache.entry import CacheEntry
from audmodel.core.errors import InvalidInputError
from audmodel.core.operations.find import Wanted
from audmodel.core.operations.find import resolve
from audmodel.core.operations.options import LoadOptions
from audmodel.core.process.workers import check_num_workers
from audmodel.core.process.workers import check_timeout
from audmodel.core.repository.config import cache_folder
from audmodel.core.repository.config import config
from audmodel.core.repository.repository import Repository
from audmodel.core.selection import check_patterns


TYPE_CHECKING = False
if TYPE_CHECKING:
    from audmodel.core.operations.catalogue import Filter


def one_repository(repository: Repository | str) -> Repository:
    r"""Repository that a user names.

    Args:
        repository: a repository, or a text that stands for one

    Returns:
        repository

    Raises:
        TypeError: if it is neither
        ConfigurationError: if the configuration cannot be used
        InvalidInputError: if no configured repository has the name

    """
    from audmodel.core.repository import notation

    known = config.REPOSITORIES if isinstance(repository, str) else ()
    return notation.find(repository, known)


def chosen(repository: Repository | str | None) -> tuple[Repository, ...] | None:
    r"""Repositories to search.

    Args:
        repository: the only one that the user wants to be searched, if any

    Returns:
        repositories, ``None`` for all that are configured,
        see :func:`one_repository` for errors

    """
    return None if repository is None else (one_repository(repository),)


def wanted_model(
    uid: str, cache_root: str | None, repository: Repository | str | None
) -> Wanted:
    r"""Model that a user asks for.

    Args:
        uid: model ID or alias.
            Without version it is the latest version
        cache_root: cache folder, the default one if it is ``None``
        repository: the only repository to search, if any

    Returns:
        its place in the cache, and where to look for it

    Raises:
        TypeError: if an argument is of the wrong type
        ConfigurationError: if the configuration cannot be used
        InvalidDocumentError: if an alias does not name a model ID
        InvalidIdError: if ``uid`` cannot be a model ID or an alias
        InvalidInputError: if no configured repository has the name
        ModelNotFoundError: if the model does not exist
        RepositoryError: if a repository cannot be used

    """
    repositories = chosen(repository)
    root = cache_folder(cache_root)
    model = resolve(ids.parse(uid), root, repositories)
    return Wanted(CacheEntry(root, model), repositories)


def wanted_models(
    uids: Sequence[str], cache_root: str | None, repository: Repository | str | None
) -> list[Wanted]:
    r"""Models that a user asks for.

    Args:
        uids: model IDs or aliases, each of which is looked up once
        cache_root: cache folder, the default one if it is ``None``
        repository: the only repository to search, if any

    Returns:
        models in the same order, see :func:`wanted_model` for errors

    """
    repositories = chosen(repository)
    root = cache_folder(cache_root)
    parsed = [ids.parse(uid) for uid in uids]
    found = {
        uid: Wanted(CacheEntry(root, resolve(uid, root, repositories)), repositories)
        for uid in dict.fromkeys(parsed)
    }
    return [found[uid] for uid in parsed]


def moment(time: datetime.datetime | str, name: str) -> datetime.datetime:
    r"""Moment that a user gives.

    Args:
        time: time, or its text in ISO format
        name: name of the argument, for messages

    Returns:
        time in UTC

    Raises:
        TypeError: if it is neither
        InvalidInputError: if it is no time, or has no time zone

    """
    if isinstance(time, str):
        try:
            time = datetime.datetime.fromisoformat(time)
        except ValueError:
            raise InvalidInputError(
                f"'{name}' has to be a time like '2026-01-31T12:00:00Z', "
                f"not {str(time)[:50]!r}."
            ) from None
    if not isinstance(time, datetime.datetime):
        raise TypeError(f"'{name}' has to be a datetime or a string, not {time!r}.")
    if time.tzinfo is None:
        raise InvalidInputError(
            f"'{name}' has to have a time zone, which '{time.isoformat()}' lacks. "
            f"By the clock of this machine it is '{time.astimezone().isoformat()}'."
        )
    return time.astimezone(datetime.UTC)


def age(time: datetime.timedelta | float, name: str) -> datetime.timedelta:
    r"""Age that a user gives.

    Args:
        time: time, as seconds if it is a number
        name: name of the argument, for messages

    Raises:
        TypeError: if it is neither
        InvalidInputError: if it is negative, or too long

    """
    if isinstance(time, int | float) and not isinstance(time, bool):
        try:
            time = datetime.timedelta(seconds=time)
        except (OverflowError, ValueError) as error:
            raise InvalidInputError(f"'{name}' cannot be {time}.") from error
    if not isinstance(time, datetime.timedelta):
        raise TypeError(f"'{name}' has to be a timedelta or seconds, not {time!r}.")
    if time < datetime.timedelta():
        raise InvalidInputError(f"'{name}' must not be negative, but is {time}.")
    return time


def base_model(
    base: str | None,
) -> ids.ModelId | ids.ShortId | Literal["newest"] | None:
    r"""Model that has parts of the same content as one that is published.

    Args:
        base: ID with or without version, ``'newest'``, or ``None``

    Returns:
        parsed ID

    Raises:
        TypeError: if ``base`` is not a string
        InvalidIdError: if ``base`` cannot be a model ID
        InvalidInputError: if it is an alias

    """
    if base is None:
        return None
    if base == "newest":
        return "newest"
    found = ids.parse(base)
    if isinstance(found, ids.Alias):
        raise InvalidInputError(
            f"'base' has to be a model ID, 'newest' or None, not {base!r}."
        )
    return found


def model_filter(
    *,
    name: str | None,
    subgroup: str | None,
    params: Mapping[str, object] | None,
    alias: str | None,
    author: str | None,
) -> Filter:
    r"""Which models of a repository are wanted.

    Args:
        name: name of a model, or pattern
        subgroup: subgroup of a model, or pattern
        params: parameters of a model, and their values
        alias: alias that points to a model, or pattern
        author: author of a model, or pattern

    Raises:
        TypeError: if an argument is of the wrong type
        InvalidDataError: if ``params`` hold something that cannot be stored

    """
    from audmodel.core.operations.catalogue import Filter
    from audmodel.core.yaml import document

    patterns = {"name": name, "subgroup": subgroup, "alias": alias, "author": author}
    for label, value in patterns.items():
        if not isinstance(value, str | None):
            raise TypeError(f"'{label}' has to be a string, not {value!r}.")
    if not isinstance(params, Mapping | None):
        raise TypeError(f"'params' has to be a dictionary, not {params!r}.")
    stored = document.stored_form(params or {}, "params")
    return Filter(name, subgroup, stored, alias, author)


def load_options(
    *,
    files: str | Iterable[str] | None = None,
    num_workers: int | None,
    timeout: float | None = None,
) -> LoadOptions:
    r"""How a user wants a model to be loaded.

    Args:
        files: pattern or patterns of the files, the whole model if it is ``None``
        num_workers: number of workers, ``None`` chooses one for the machine
        timeout: seconds to wait for another process, ``None`` is forever

    Returns:
        checked options, which show no progress

    Raises:
        TypeError: if an argument is of the wrong type
        InvalidInputError: if an argument is not allowed

    """
    return LoadOptions(
        num_workers=check_num_workers(num_workers),
        timeout=check_timeout(timeout),
        files=None if files is None else check_patterns(files),
    )


def check_one_folder(to: str | None) -> None:
    r"""Raise an error if several models are to be put into a folder.

    Raises:
        InvalidInputError: if there is a folder

    """
    if to is not None:
        raise InvalidInputError(
            "'to' is the folder of one model, and 'uid' is a list. "
            "Load each model with a folder of its own."
        )


def shown(models: Collection[ids.ModelId]) -> str:
    r"""Models, as the progress of a call names them.

    Args:
        models: IDs, each of them once

    """
    return f"{len(models)} models" if len(models) != 1 else str(*models)

r"""Read many records of a repository, some of which may be damaged."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from typing import TypeVar

from audmodel.core.backend.errors import RepositoryError
from audmodel.core.backend.errors import RepositoryUnreachableError
from audmodel.core.errors import InvalidDocumentError
from audmodel.core.process.requests import prefetch_requests


Item = TypeVar("Item")
Record = TypeVar("Record")


def read_records(
    read: Callable[[Item], Record], items: Iterable[Item], *, num_workers: int
) -> list[tuple[Item, Record | str]]:
    r"""Records, or what is wrong with them.

    Args:
        read: reads one record
        items: what to call it with
        num_workers: number of records that are read at the same time

    Returns:
        record, or message of its error, for each item

    Raises:
        RepositoryUnreachableError: if the repository does not respond

    """

    def attempt(item: Item) -> tuple[Item, Record | str]:
        try:
            return item, read(item)
        except RepositoryUnreachableError:
            raise  # nothing else can be read either
        except (InvalidDocumentError, RepositoryError) as error:
            return item, str(error)

    return list(prefetch_requests(attempt, items, num_workers=num_workers))

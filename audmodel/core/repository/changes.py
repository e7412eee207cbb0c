r"""Changes of small documents that other processes change at the same time."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import contextlib
import copy
import random
import time
from typing import TYPE_CHECKING
from typing import Any

from audmodel.core.errors import InvalidDocumentError
from audmodel.core.yaml import document


if TYPE_CHECKING:
    from audmodel.core.backend.base import ObjectBackend
    from audmodel.core.backend.errors import RepositoryError
    from audmodel.core.backend.objects import StoredObject


# Attempts to change an object that other processes change at the same time
_ATTEMPTS = 100


def change_document(
    backend: ObjectBackend,
    path: str,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    label: str,
    source: str,
    *,
    is_new: bool = False,
    rebuild: Callable[[], dict[str, Any]] | None = None,
) -> tuple[dict[str, Any], bytes]:
    r"""Read, change and write a document, and lose no concurrent change.

    Args:
        backend: where it is stored
        path: path of the document
        change: gives the new content for the current one,
            called again if another process was faster
        label: what the content is, for messages
        source: what the document is, for messages
        is_new: whether to try without reading first
        rebuild: gives the content if the stored one is damaged,
            which is an error if it is not given

    Returns:
        new content and its stored form

    Raises:
        InvalidDataError: if the new content cannot be stored
        InvalidDocumentError: if the stored content is not valid,
            and cannot be rebuilt
        RepositoryError: if it cannot be read or written

    """
    from audmodel.core.backend.errors import HiddenError

    read = backend.read_object if rebuild is None else backend.read_damaged
    for attempt in range(_ATTEMPTS):
        start = time.monotonic()
        stored = None
        if attempt or not is_new:
            # If the record is hidden, try to create it
            with contextlib.suppress(HiddenError):
                stored = read(path, document.MAX_BYTES)
        try:
            changed = change(_content(stored, source))
        except InvalidDocumentError:
            if rebuild is None:
                raise
            changed = change(rebuild())
        data = document.dump(changed, label)
        if _replace(backend, path, data, stored):
            return changed, data
        if attempt or not is_new:
            pause(attempt, time.monotonic() - start)
    raise changed_by_others(source, _ATTEMPTS)


def changed_by_others(source: str, attempts: int) -> RepositoryError:
    r"""Error for an object that other processes change all the time.

    Args:
        source: what the object is, for messages
        attempts: number of attempts to change it

    """
    from audmodel.core.backend.errors import RepositoryError

    return RepositoryError(
        f"{source} could not be changed, since other processes changed it "
        f"during each of {attempts} attempts. Try again later."
    )


def _replace(
    backend: ObjectBackend, path: str, data: bytes, stored: StoredObject | None
) -> bool:
    r"""Store a document, unless another process changed it since it was read."""
    if stored is None:
        return backend.create_object(path, data)
    if stored.data == data and not stored.is_damaged:
        return True
    return backend.replace_object(path, data, stored.etag)


def pause(attempt: int, duration: float) -> None:
    r"""Wait before an object is changed again.

    Clients whose attempts take long also pause for long,
    since a client that is slower than the pauses of others always loses.

    Args:
        attempt: number of the attempt that failed, from 0
        duration: seconds that it took

    """
    longest = max(min(0.01 * 2**attempt, 1), duration * min(2**attempt, 2))
    time.sleep(random.uniform(0, longest))  # noqa: S311


def _content(stored: StoredObject | None, source: str) -> dict[str, Any]:
    if stored is None:
        return {}
    if stored.is_damaged:
        raise InvalidDocumentError(f"{source} is damaged.")
    return document.load(stored.data, source)


def merge(current: dict[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    r"""Merge two dictionaries, level by level."""
    merged = dict(current)
    for key, value in update.items():
        known = merged.get(key)
        if isinstance(known, dict) and isinstance(value, Mapping):
            merged[key] = merge(known, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged

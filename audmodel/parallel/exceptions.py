"""Exceptions for several callers."""

from __future__ import annotations

from collections.abc import Iterator
import copy
from typing import TypeVar


Error = TypeVar("Error", bound=BaseException)


def own_copies(error: Error) -> Iterator[Error]:
    """An exception, and then copies of it without end.

    Each caller may raise one of them from another exception, or add notes,
    and the traceback grows on its way through the callers.

    Args:
        error: exception

    Yields:
        exceptions of its type, with its message, attributes, notes,
        cause, context, and traceback

    """
    # Before the first caller changes it
    original = _copy(error)
    yield error
    while True:
        yield _copy(original)


def _copy(error: Error) -> Error:
    try:
        copied = copy.copy(error)
    except Exception:  # noqa: BLE001
        # Many exceptions take other arguments than they say
        copied = None
    if type(copied) is not type(error):
        copied = type(error).__new__(type(error), *error.args)
    # It may have made other ones of those that it was given
    copied.args = error.args
    vars(copied).update(vars(error))
    if hasattr(error, "__notes__"):
        copied.__notes__ = list(error.__notes__)
    copied.__cause__ = error.__cause__
    copied.__context__ = error.__context__
    copied.__suppress_context__ = error.__suppress_context__
    return copied.with_traceback(error.__traceback__)

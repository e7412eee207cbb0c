"""Exceptions for several callers."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import types
from typing import Any
from typing import TypeVar


Error = TypeVar("Error", bound=BaseException)


def own_copies(error: Error) -> Iterator[Error]:
    """An exception, and then copies of it without end.

    Each caller may raise one of them from another exception, or add notes,
    and the traceback grows on its way through the callers.
    The same holds for exceptions that belong to it:
    members of a group, cause, context, and those in attributes.

    Yields:
        exceptions of its type, with its message, attributes, notes,
        cause, context, and traceback.
        They share nothing that is an exception, a list, a dictionary or a set.
        Other objects are shared,
        and so is an exception whose type does not allow a copy

    """
    # Before the first caller changes it
    original = _Copies().of(error)
    yield error
    while True:
        yield _Copies().of(original)


class _Copies:
    """Copies of an exception and of what belongs to it, one of each."""

    def __init__(self) -> None:
        # The originals are kept, so that their numbers stay theirs
        self._found: dict[int, tuple[Any, Any]] = {}
        self._unfinished: list[tuple[BaseException, BaseException]] = []

    def of(self, error: Error) -> Error:
        copied: Error = self._begin(error)
        # A loop, as a chain of contexts may be long
        while self._unfinished:
            self._finish(*self._unfinished.pop())
        return copied

    def _begin(self, error: Any) -> Any:
        """The copy of an exception, which gets what belongs to it later."""
        if id(error) in self._found:
            return self._found[id(error)][1]
        if isinstance(error, BaseExceptionGroup):
            members = [self._begin(member) for member in error.exceptions]
            copied = _new(error, error.message, members)
        else:
            copied = _bare_copy(error)
        self._found[id(error)] = error, copied
        if copied is not error:
            self._unfinished.append((error, copied))
        return copied

    def _finish(self, error: BaseException, copied: BaseException) -> None:
        """Give a copy what belongs to the exception."""
        # Its constructor may have made other ones of those that it was given
        copied.args = self._own(error.args)
        vars(copied).update(self._own(vars(error)))
        for slot in _slots(type(error)):
            # One that was never set has no value
            with contextlib.suppress(AttributeError):
                slot.__set__(copied, self._own(slot.__get__(error)))
        copied.__cause__ = self._own(error.__cause__)
        copied.__context__ = self._own(error.__context__)
        copied.__suppress_context__ = error.__suppress_context__
        copied.__traceback__ = error.__traceback__

    def _own(self, value: Any) -> Any:
        """The copy of what belongs to an exception, or itself if it is shared."""
        if isinstance(value, BaseException):
            return self._begin(value)
        if id(value) in self._found:
            return self._found[id(value)][1]
        copied: Any
        if type(value) is list:
            self._found[id(value)] = value, (copied := [])
            copied += map(self._own, value)
        elif type(value) is dict:
            self._found[id(value)] = value, (copied := {})
            copied.update({key: self._own(item) for key, item in value.items()})
        elif type(value) is tuple:
            copied = tuple(map(self._own, value))
        elif type(value) is set:
            copied = set(map(self._own, value))
        else:
            copied = value
        return copied


def _slots(kind: type) -> list[Any]:
    """Places of attributes that vars() does not know."""
    return [
        value
        for base in kind.__mro__
        if "__slots__" in vars(base)
        for value in vars(base).values()
        if isinstance(value, types.MemberDescriptorType)
    ]


def _bare_copy(error: Any) -> Any:
    try:
        # As copy.copy() does, but for what other packages register for pickles,
        # which may leave out a part of an exception
        make, arguments, *state = error.__reduce_ex__(4)
        copied = make(*arguments)
        if state and state[0] is not None:
            copied.__setstate__(state[0])
    except Exception:  # noqa: BLE001
        # Many exceptions take other arguments than they say
        copied = None
    return copied if type(copied) is type(error) else _new(error, *error.args)


def _new(error: Any, *arguments: Any) -> Any:
    """An exception of the same type, made without its constructor."""
    group = isinstance(error, BaseExceptionGroup)
    make = BaseExceptionGroup.__new__ if group else type(error).__new__
    try:
        return make(type(error), *arguments)
    except Exception:  # noqa: BLE001
        # The callers share it, which is better than none for them
        return error

"""What travels between a process and the one that has started it."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple
from typing import TypeAlias


Message: TypeAlias = bytes


class Outcome(NamedTuple):
    """What became of a call."""

    result: Any = None
    error: BaseException | None = None
    # The process does not know what the call refers to
    is_unknown: bool = False

    def get(self) -> Any:
        """Result of the call.

        Raises:
            BaseException: what the call raised

        """
        if self.error is None:
            return self.result
        raise self.error


def serialize(value: Any) -> Message:
    """Bytes of a value.

    Functions and classes are taken along by name,
    or as a whole where they have none that could be imported,
    like lambdas and closures.

    Raises:
        Exception: if it cannot be pickled

    """
    from multiprocessing.reduction import ForkingPickler

    try:
        # A view of its buffer would be in the frames of an error of sending,
        # which Python 3.13 cannot free in the right order
        return bytes(ForkingPickler.dumps(value))
    except Exception:  # noqa: BLE001
        # There is no common class of what pickling raises
        return by_value(value)


def by_value(value: Any) -> Message:
    """Bytes of a value, including functions and classes of the main module.

    Raises:
        Exception: if it cannot be pickled

    """
    import cloudpickle

    message: bytes = cloudpickle.dumps(value)
    return message


def reply_of_error(error: BaseException, *, is_unknown: bool = False) -> Message:
    """Bytes of what a call raised.

    Args:
        error: what it raised
        is_unknown: whether the call itself could not be unpickled

    """
    import traceback

    try:
        # On its own, as that may fail
        pickled = bytes(serialize(error))
    except Exception:  # noqa: BLE001
        # The words below still arrive
        pickled = b""
    summary = "".join(traceback.format_exception_only(error)).strip()
    description = "".join(traceback.format_exception(error))
    return serialize((None, (pickled, summary, description, is_unknown)))


def outcome_of(reply: bytes) -> Outcome:
    """Read a reply.

    Args:
        reply: bytes of ``(result, None)``, or of :func:`reply_of_error`

    Returns:
        what became of the call.
        If the result cannot be unpickled,
        its error is what that raised;
        if an exception cannot, a ``RuntimeError`` that describes it

    Raises:
        KeyboardInterrupt: if this thread is interrupted

    """
    import pickle

    try:
        # It comes from a process that this one has started
        result, failure = pickle.loads(reply)  # noqa: S301
    except KeyboardInterrupt:
        raise
    except BaseException as unreadable:  # noqa: BLE001
        return Outcome(error=unreadable)
    if failure is None:
        return Outcome(result)
    pickled, summary, description, is_unknown = failure
    try:
        error = pickle.loads(pickled)  # noqa: S301
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001
        # Many exceptions take other arguments than they say
        error = None
    if not isinstance(error, BaseException):
        error = RuntimeError(f"A process raised {summary}")
    error.__cause__ = _InProcessError(description)
    return Outcome(error=error, is_unknown=is_unknown)


class _InProcessError(Exception):
    """Shows where in a process an exception was raised."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'

r"""Errors of libraries, without the secrets that they refer to.

They refer to signed requests, to connections,
and to proxies with their passwords,
and so do the variables of the frames in their tracebacks.
Tools that collect errors record all of this.

"""

from __future__ import annotations

from collections.abc import Callable
import re
import traceback
from types import FrameType
from typing import Any
from typing import TypeVar

from audmodel.core.backend.http import credentials


Result = TypeVar("Result")


def translated(
    call: Callable[[], Result],
    kinds: tuple[type[Exception], ...],
    meaning: Callable[[Exception], Exception],
) -> Result:
    r"""Result of a call, with errors of ours in place of those of libraries.

    They do not refer to those as context, whose frames know secrets.

    Args:
        call: function to call
        kinds: errors of libraries that it may raise
        meaning: returns the error to raise in place of one of them

    Returns:
        result of ``call``

    """
    try:
        return call()
    except kinds as error:
        failure = meaning(error)
    try:
        # Outside of the handler, so that it has no context
        raise failure
    finally:
        # An error that refers to itself by its traceback keeps all frames
        del failure


def without_secrets(error: Exception) -> Exception:
    r"""Error of the same class and message that refers to nothing.

    The variables of the frames that raised the original are cleared.

    Args:
        error: error of a library

    Returns:
        error without traceback, context and attributes,
        except for errno, and the error of an S3 storage

    """
    _clear_frames(error)
    kind = type(error)
    # Every class has other arguments
    copy = kind.__new__(kind)
    copy.__dict__.update(dict.fromkeys(vars(error)))
    copy.args = (_redacted(str(error)),)
    if isinstance(error, OSError) and error.errno is not None:
        copy.errno = error.errno  # type: ignore[attr-defined]
        copy.strerror = error.strerror  # type: ignore[attr-defined]
    arguments = getattr(error, "kwargs", None)
    if isinstance(arguments, dict):
        # Errors of botocore are unpickled by making their message anew
        copy.kwargs = {  # type: ignore[attr-defined]
            name: _redacted(str(value)) for name, value in arguments.items()
        }
    if hasattr(error, "operation_name"):
        copy.operation_name = error.operation_name  # type: ignore[attr-defined]
        copy.response = _response(error.response)  # type: ignore[attr-defined]
    return copy


def _clear_frames(error: BaseException) -> None:
    r"""Clear the variables of all functions that an error has ended.

    Those of libraries refer to the error, and keep each other alive.
    """
    cause: BaseException | None = error
    while cause is not None:
        for raised, _ in traceback.walk_tb(cause.__traceback__):
            frame: FrameType | None = raised
            # A frame further up may have caught it, and raised it again
            while frame is not None:
                try:
                    frame.clear()
                except RuntimeError:
                    break  # it is running, as are those that called it
                frame = frame.f_back
        cause = cause.__context__


def _redacted(text: str) -> str:
    r"""Text without secrets, also those that URLs hold."""
    text = re.sub(r"(?<=//)[^/@\s'\"]+@", "***@", text)
    # The query of a redirect may hold a signature that gives access
    text = re.sub(r"\?[^\s'\"()<>]+", "?***", text)
    return credentials.redact(text)


def _response(response: dict[str, Any]) -> dict[str, Any]:
    r"""Fields of a response to keep: others may quote a signature."""
    said = response.get("Error", {})
    metadata = response.get("ResponseMetadata", {})
    return {
        "Error": {
            name: _redacted(str(said[name]))
            for name in ("Code", "Message")
            if name in said
        },
        "ResponseMetadata": {
            name: metadata[name]
            for name in ("HTTPStatusCode", "HostId", "RequestId")
            if name in metadata
        },
    }

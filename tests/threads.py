"""Replace a function in one thread."""

from __future__ import annotations

from collections.abc import Callable
import threading
from typing import ParamSpec
from typing import TypeVar


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def only_here(
    function: Callable[Arguments, Result],
    replacement: Callable[Arguments, Result],
) -> Callable[Arguments, Result]:
    """A function that is another one in this thread.

    Threads of servers, which may outlive their test for a moment, keep the first one.

    """
    here = threading.current_thread()

    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        is_here = threading.current_thread() is here
        return (replacement if is_here else function)(*args, **kwargs)

    return call

"""Wait for threads without missing a signal.

Python runs the handler of a signal in the main thread,
between two steps of the interpreter.
A signal interrupts a wait of that thread,
but not if it comes a moment before the wait begins:
then its handler would run when the wait is over.
So waits are short here, and repeated.

"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from typing import TypeVar


if TYPE_CHECKING:
    from concurrent.futures import Future


Result = TypeVar("Result")

# Seconds by which a signal may be late
LATE = 0.2


def wait_for(event: threading.Event) -> None:
    """Wait until an event is set.

    Args:
        event: event

    """
    while not event.wait(LATE):
        pass


def result_of(future: Future[Result]) -> Result:
    """Result of a call, which is waited for.

    Args:
        future: stands for the call

    Returns:
        what the call returned

    Raises:
        Exception: what the call raised

    """
    from concurrent.futures import wait

    try:
        while not future.done():
            # Unlike the future itself, it raises nothing
            wait([future], LATE)
        return future.result()
    finally:
        # The traceback of an exception would refer to this frame and back
        del future

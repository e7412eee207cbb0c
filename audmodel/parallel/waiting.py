"""Wait for threads without missing a signal.

Python runs the handler of a signal in the main thread,
between two steps of the interpreter.
A signal interrupts a wait of that thread,
but not if it comes a moment before the wait begins:
then its handler would run when the wait is over.
So waits are short here, and repeated.

"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import math
import threading
import time
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar


if TYPE_CHECKING:
    from concurrent.futures import Future


Result = TypeVar("Result")

# Seconds by which a signal may be late
LATE = 0.2


def wait_for(event: threading.Event) -> None:
    """Wait until an event is set."""
    while not event.wait(LATE):
        pass


def result_of(future: Future[Result]) -> Result:
    """Result of a call, which is waited for.

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


def wait_for_all(futures: Iterable[Future[Any]]) -> None:
    """Wait until all calls have ended."""
    from concurrent.futures import wait

    left = list(futures)
    while left := [future for future in left if not future.done()]:
        wait(left, LATE)


def carry_out(
    calls: Iterable[Callable[[], Any]],
    submit: Callable[[Callable[[], Any], list[Future[Any]]], None],
    stop: Callable[[list[Future[Any]], bool], None],
    on_success: Callable[[int], Any],
    timeout: float | None,
) -> list[Any]:
    """Results of calls, none of which runs any more when this ends.

    Args:
        calls: the calls
        submit: starts a call, and adds its future to a list
        stop: ends calls that run,
            at once if its second argument says so
        on_success: called with the number of each call that has succeeded
        timeout: time in seconds for all calls.
            If ``None`` there is no limit

    Returns:
        results in the order of the calls

    Raises:
        BaseException: what a call raised,
            of several failures that of the first call in order.
            Calls that have not started are cancelled
        TimeoutError: if the calls were not done in time

    """
    futures: list[Future[Any]] = []
    at_once = True
    try:
        for call in calls:
            submit(call, futures)
        is_overdue = not _wait_for_success(futures, on_success, timeout)
        at_once = is_overdue
    except Exception:
        # Of what starts calls: others may come to their end
        at_once = False
        raise
    finally:
        # A future that is cancelled may never be reported as done,
        # so only the others are waited for
        running = [future for future in futures if not future.cancel()]
        stop(running, at_once)
    if is_overdue:
        raise TimeoutError(f"The call was not done within {timeout} seconds.")
    # Which of several failures is raised does not depend on timing
    failures = (future.exception() for future in running)
    failure = next((error for error in failures if error is not None), None)
    if failure is None:
        return [future.result() for future in futures]
    try:
        raise failure
    finally:
        # The traceback would refer to this frame and back
        del failure


def _wait_for_success(
    futures: list[Future[Any]],
    on_success: Callable[[int], Any],
    timeout: float | None,
) -> bool:
    """Wait until all calls have succeeded, or one has failed, if that is in time."""
    from concurrent.futures import FIRST_COMPLETED
    from concurrent.futures import wait

    end = math.inf if timeout is None else time.monotonic() + timeout
    number_of = {future: number for number, future in enumerate(futures)}
    left = set(futures)
    while left:
        seconds = end - time.monotonic()
        done, left = wait(left, min(LATE, max(seconds, 0)), FIRST_COMPLETED)
        for future in done:
            if future.exception() is not None:
                return True
            on_success(number_of[future])
        if left and seconds <= 0:
            return False
    return True

"""Threads that carry out calls."""

from __future__ import annotations

from collections.abc import Callable
import functools
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar


if TYPE_CHECKING:
    from concurrent.futures import Future


Result = TypeVar("Result")


class Threads:
    """Threads that start when calls need them.

    Args:
        number: largest number of threads
        name: what their names begin with
        initializer: called in each thread before its first call

    Raises:
        RuntimeError: if Python exits

    """

    def __init__(
        self,
        number: int,
        name: str,
        initializer: Callable[[], Any] | None = None,
    ) -> None:
        try:
            # Imported here as it costs more than the rest of the package
            from concurrent.futures import ThreadPoolExecutor
        except RuntimeError as error:
            raise _explained(error) from error
        self._executor = ThreadPoolExecutor(number, name, initializer)

    def submit(self, function: Callable[..., Result], *args: Any) -> Future[Result]:
        """Call a function in one of the threads.

        Raises:
            RuntimeError: if Python exits, or the system allows no thread

        """
        call = [functools.partial(function, *args)]
        try:
            return self._executor.submit(_take, call)
        except RuntimeError as error:
            # The next thread would still make it, if the system allows one then
            call.clear()
            raise _explained(error) from error

    def shut_down(self) -> None:
        """Wait for all calls, and end the threads."""
        self._executor.shutdown()


def _take(call: list[functools.partial[Result]]) -> Result:
    return call.pop()()


def _explained(error: RuntimeError) -> RuntimeError:
    return RuntimeError(
        f"No thread can be started: {error}. "
        f"While Python exits, as in an atexit handler, it starts none: "
        f"do such work before, or call the function without workers, "
        f"as MultiWorker does with n_processes=1."
    )

"""Workers of a step, each of which handles one batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
import functools
from typing import TYPE_CHECKING
from typing import Any

from audmodel.parallel.processes import ProcessPool
from audmodel.parallel.steps import BaseTask
from audmodel.parallel.steps import BaseTaskHandler
from audmodel.parallel.threads import Threads


if TYPE_CHECKING:
    from concurrent.futures import Future


class ThreadWorker:
    """Handles one batch at a time in a thread."""

    def __init__(self, handler: BaseTaskHandler) -> None:
        self.handler = handler
        self.thread = Threads(1, "audmodel-flow")

    def start(self) -> Future[Any]:
        """Get the handler ready."""
        return self.thread.submit(self.handler.on_start)

    def submit(self, tasks: Sequence[BaseTask], limit: float | None) -> Future[Any]:
        """Handle a batch.

        Args:
            tasks: batch
            limit: time in seconds after which a process is ended.
                A thread cannot be

        """
        return self.thread.submit(self.handler.handle, *tasks)

    def error_of(self, future: Future[Any]) -> Exception | None:
        """What to raise for the tasks of a batch."""
        error = future.exception()
        if error is None:
            return None
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            return error
        # Raised as it is, it would end the event loop,
        # or look as if the caller had been cancelled
        wrapped = RuntimeError(f"{type(self.handler).__name__} raised {error!r}.")
        wrapped.__cause__ = error
        return wrapped

    def shut_down(self) -> None:
        """Wait for what is handled, and end the worker."""
        self.thread.shut_down()


class ProcessWorker(ThreadWorker):
    """Handles one batch at a time in a process of its own.

    The thread talks to the process.
    When the process dies, another one takes its place with the next batch,
    so nothing is lost but the batch that was in it.

    """

    def __init__(self, handler: BaseTaskHandler) -> None:
        super().__init__(handler)
        self.processes = ProcessPool(1)

    def start(self) -> Future[Any]:
        """Start a process, and get the handler ready in it."""
        return self.thread.submit(self._in_process, self.handler, [])

    def submit(self, tasks: Sequence[BaseTask], limit: float | None) -> Future[Any]:
        """Handle a batch in the process."""
        return self.thread.submit(self._handle, tasks, limit)

    def shut_down(self) -> None:
        """Wait for what is handled, and end thread and process."""
        try:
            super().shut_down()
        finally:
            self.processes.close()

    def _handle(self, tasks: Sequence[BaseTask], limit: float | None) -> None:
        if limit is not None:
            # The time for a new process, and to load a model, does not count
            self._get_ready()
        states = self._in_process(None, tasks, limit)
        if states is None:
            self._get_ready()
            states = self._in_process(None, tasks, limit)
        for task, state in zip(tasks, states):
            _set_state(task, state)

    def _get_ready(self) -> None:
        # The handler travels once to each process, as it may be large
        if self._in_process(None, []) is None:
            self._in_process(self.handler, [])

    def _in_process(
        self,
        handler: BaseTaskHandler | None,
        tasks: Sequence[BaseTask],
        limit: float | None = None,
    ) -> Any:
        call = functools.partial(_handle_in_process, handler, tasks)
        return self.processes.run([call], timeout=limit)[0]


# Handler of a process that was started for one.
_handler: BaseTaskHandler | None = None


def _handle_in_process(
    handler: BaseTaskHandler | None,
    tasks: Sequence[BaseTask],
) -> list[Any] | None:
    """Handle a batch.

    Args:
        handler: handler, if this process may not have it
        tasks: batch, empty to get ready for the first one

    Returns:
        what the tasks have become,
        ``None`` if the handler is missing

    """
    global _handler
    if _handler is None:
        if handler is None:
            return None
        handler.on_start()
        _handler = handler
    if tasks:
        _handler.handle(*tasks)
    return [task.__getstate__() for task in tasks]


def _set_state(task: BaseTask, state: Any) -> None:
    """Give a task the state of its copy, as unpickling does."""
    if hasattr(task, "__setstate__"):
        task.__setstate__(state)
        return
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    vars(task).update(attributes or {})
    for name, value in (slots or {}).items():
        object.__setattr__(task, name, value)

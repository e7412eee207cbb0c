"""Serve a model to many callers at once, in batches."""

from __future__ import annotations

from collections.abc import Callable
import os
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar

from audmodel.parallel.arguments import duration
from audmodel.parallel.arguments import integer
from audmodel.parallel.arguments import positive_int
from audmodel.parallel.handling import ProcessWorker
from audmodel.parallel.handling import ThreadWorker
from audmodel.parallel.steps import BaseTask
from audmodel.parallel.steps import BaseTaskHandler
from audmodel.parallel.steps import FlowStep
from audmodel.parallel.threads import Threads
from audmodel.parallel.traffic import Traffic
from audmodel.parallel.waiting import result_of


if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import TracebackType


Task = TypeVar("Task", bound=BaseTask)


class NotRunningError(RuntimeError):
    """A flow was asked to process a task before its start or after its end."""


class Flow:
    """Handlers in a row, which tasks pass through in batches.

    Each step has workers of its own,
    so while a step handles a batch,
    the step before it handles the next one,
    and the event loop is free.

    A flow belongs to the event loop that first calls :meth:`process`.
    It can be started once.

    Args:
        *steps: steps in the order in which tasks pass them.
            A handler on its own is a step with a batch size of one
        max_tasks: largest number of tasks that are inside of the flow,
            waiting for a batch or in one.
            Further callers of :meth:`process` wait in front of it,
            by priority, and then first come, first served.
            If ``None``, two batches for each worker of each step:
            one that is handled and one that fills up

    Raises:
        TypeError: if a step is neither a :class:`FlowStep`
            nor a :class:`BaseTaskHandler`
        ValueError: if there is no step,
            or ``max_tasks`` is not a positive integer

    Examples:
        >>> import asyncio
        >>> class Text(BaseTask):
        ...     def __init__(self, text):
        ...         self.text = text
        >>> class Measure(BaseTaskHandler):
        ...     def handle(self, *tasks):
        ...         for task in tasks:
        ...             task.length = len(task.text)
        >>> async def main():
        ...     async with Flow(FlowStep(Measure(), batch_size=8)) as flow:
        ...         tasks = [Text("a"), Text("bc")]
        ...         await asyncio.gather(*(flow.process(task) for task in tasks))
        ...         return [task.length for task in tasks]
        >>> asyncio.run(main())
        [1, 2]

    """

    def __init__(
        self,
        *steps: FlowStep | BaseTaskHandler,
        max_tasks: int | None = None,
    ) -> None:
        if not steps:
            raise ValueError("A flow needs at least one step.")
        self.steps = tuple(_as_step(step) for step in steps)
        if max_tasks is None:
            max_tasks = sum(2 * s.batch_size * s.num_workers for s in self.steps)
        self.max_tasks = positive_int("max_tasks", max_tasks)
        self._state = "not started"
        self._process_id = os.getpid()
        self._workers: list[list[ThreadWorker]] = []
        self._traffic: Traffic | None = None

    def start(self) -> None:
        """Start the workers, and wait until all are ready.

        This includes :meth:`BaseTaskHandler.on_start` of all handlers,
        and blocks the calling thread.
        ``async with`` does the same without blocking the event loop.

        Raises:
            Exception: if ``on_start`` of a handler raises it;
                all workers are stopped before
            RuntimeError: if the flow was started before,
                or no thread can be started, as while Python exits

        """
        if self._state != "not started":
            raise RuntimeError(
                f"This flow is {self._state}. A flow can be started only once."
            )
        self._state = "starting"
        self._process_id = os.getpid()
        try:
            ready: list[Future[Any]] = []
            for step in self.steps:
                worker_class = ProcessWorker if step.process else ThreadWorker
                workers = [worker_class(step.handler) for _ in range(step.num_workers)]
                self._workers.append(workers)
                # Threads share one handler, which is started once
                to_start = workers if step.process else workers[:1]
                ready += [worker.start() for worker in to_start]
            for future in ready:
                result_of(future)
        except BaseException:
            self._shut_down()
            raise
        self._state = "running"

    async def process(
        self,
        task: Task,
        timeout: float | None = None,
        *,
        priority: int = 0,
    ) -> Task:
        """Pass a task through all steps.

        Waits for a place if there are ``max_tasks`` tasks in the flow.
        If the caller is cancelled or the time is over,
        a task that waits leaves the flow;
        one that is being handled is handled to the end of its batch
        and goes no further.
        Its neighbours notice neither.

        If a process handles a batch
        for longer than the longest timeout of its tasks,
        it hangs, and nothing waits for it any more.
        It is ended, and another one takes its place with the next batch.
        A thread cannot be ended.

        Args:
            task: task, which gets its results as attributes
            timeout: time in seconds after which the caller gives up,
                waiting for a place included.
                If ``None`` there is no limit
            priority: wherever tasks wait, those of higher priority go first,
                and those of one priority in order.
                Lower ones may wait for as long as higher ones arrive

        Returns:
            the task

        Raises:
            Exception: if a handler raised it for the batch of the task
            NotRunningError: if the flow was not started,
                :meth:`stop` was called,
                or this process is a fork of the one that started it
            RuntimeError: if the flow belongs to another event loop,
                a handler raised what cannot be passed on as it is,
                like ``SystemExit``,
                or no thread can be started, as while Python exits
            TimeoutError: if the task was not finished in time
            TypeError: if ``task`` is no :class:`BaseTask`
            ValueError: if ``timeout`` is not a finite number of at least zero,
                or ``priority`` is not an integer

        """
        import asyncio

        if not isinstance(task, BaseTask):
            raise TypeError(f"task must be a BaseTask object, but is {task!r}.")
        seconds = None if timeout is None else duration("timeout", timeout)
        priority = integer("priority", priority)
        if self._state != "running":
            raise NotRunningError(
                f"This flow is {self._state}. It takes tasks "
                f"after start(), or inside of 'async with', and until stop()."
            )
        if os.getpid() != self._process_id:
            raise NotRunningError(
                "This flow runs in another process, of which this one is a fork. "
                "Start a flow of its own here."
            )
        traffic = self._current_traffic()
        try:
            async with asyncio.timeout(seconds) as limit:
                await traffic.process(task, seconds, priority)
        except TimeoutError:
            # A handler may raise one as well
            if limit.expired():
                raise TimeoutError(
                    f"The task was not finished within {timeout} seconds."
                ) from None
            raise
        return task

    async def stop(self) -> None:
        """Finish all tasks that were accepted, and end the workers.

        A task is accepted when :meth:`process` was called
        before this function was,
        even if it still waits for a place.
        Batches do not wait for further tasks any more.
        A flow that is stopped, or was never started, stays as it is.

        Raises:
            RuntimeError: if the flow belongs to another event loop

        """
        if self._state not in ("running", "stopping"):
            return
        if os.getpid() != self._process_id:
            # A fork has none of the workers
            self._state = "stopped"
            return
        traffic = self._current_traffic()
        self._state = "stopping"
        async with traffic.stop_lock:
            await traffic.drain()
            if self._state == "stopping":
                await _beside_loop(self._shut_down)

    async def __aenter__(self) -> Flow:
        """Start the flow without blocking the event loop.

        Returns:
            the flow

        """
        was_running = self._state == "running"
        try:
            await _beside_loop(self.start)
        except BaseException:
            # Cancelled, but start() has come to its end nevertheless
            if self._state == "running" and not was_running:
                self._shut_down()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Finish what was accepted, and stop the flow."""
        await self.stop()

    def _current_traffic(self) -> Traffic:
        import asyncio

        loop = asyncio.get_running_loop()
        if self._traffic is None or self._traffic.loop.is_closed():
            # All calls that waited for a task ended with the event loop
            self._traffic = Traffic(loop, self.steps, self._workers, self.max_tasks)
        if self._traffic.loop is not loop:
            raise RuntimeError("This flow belongs to another event loop.")
        return self._traffic

    def _shut_down(self) -> None:
        for workers in self._workers:
            for worker in workers:
                worker.shut_down()
        self._state = "stopped"


def _as_step(step: FlowStep | BaseTaskHandler) -> FlowStep:
    if isinstance(step, BaseTaskHandler):
        return FlowStep(step)
    if not isinstance(step, FlowStep):
        raise TypeError(f"step must be a FlowStep object, but is {step!r}.")
    return step


async def _beside_loop(function: Callable[[], None]) -> None:
    """Call a function in a thread, and come back only when it has ended."""
    import asyncio

    try:
        threads = Threads(1, "audmodel-flow")
        work = asyncio.wrap_future(threads.submit(function))
    except RuntimeError:
        # It ends what was started, or finds out itself that there are no threads
        function()
        return
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
    finally:
        threads.shut_down()

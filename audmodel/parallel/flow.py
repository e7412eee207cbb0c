"""Serve a model to many callers at once, in batches."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import contextlib
import functools
import itertools
import os
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar

from audmodel.parallel.arguments import duration
from audmodel.parallel.arguments import positive_int
from audmodel.parallel.exceptions import own_copies
from audmodel.parallel.processes import ProcessPool
from audmodel.parallel.waiting import result_of


if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future
    from types import TracebackType


Task = TypeVar("Task", bound="BaseTask")


class NotRunningError(RuntimeError):
    """A flow was asked to process a task before its start or after its end."""


class BaseTask:
    """What travels through a flow.

    A subclass has whatever attributes the handlers of a flow read and set.

    Examples:
        >>> class Text(BaseTask):
        ...     def __init__(self, text):
        ...         self.text = text
        ...         self.length = None

    """


class BaseTaskHandler:
    """What a step of a flow does with tasks.

    A subclass implements :meth:`handle`,
    and :meth:`on_start` if something has to be there before,
    like a model.

    Examples:
        >>> class Measure(BaseTaskHandler):
        ...     def handle(self, *tasks):
        ...         for task in tasks:
        ...             task.length = len(task.text)

    """

    def on_start(self) -> None:
        """Prepare for the first batch.

        Called once when the flow starts,
        in the thread that handles the first batch.
        With more than one worker,
        batches that are handled at the same time have other threads.
        A step with ``process=True`` calls it once in each of its processes,
        which is where a model belongs that is to be loaded there.

        """

    def handle(self, *tasks: Any) -> None:
        """Handle a batch of tasks.

        Called in a thread or process of its step,
        with at least one task and at most ``batch_size``.
        Results are attributes of the tasks,
        a return value is ignored.
        An exception is raised for each task of the batch, and for no other.
        Each caller gets a copy of its own.

        Args:
            *tasks: tasks in the order in which they arrived

        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement handle(*tasks)."
        )


class FlowStep:
    """A handler, and how its tasks are put together.

    A batch is made when a worker of the step is free,
    of the tasks that wait at this moment,
    up to ``batch_size``.
    It does not wait for more tasks
    unless ``batch_timeout`` is given.

    Args:
        handler: handler of the tasks
        batch_size: largest number of tasks in a batch
        batch_timeout: how long in seconds a task may wait
            for others to fill its batch
        num_workers: number of batches that are handled at the same time.
            With more than one,
            threads call the same handler concurrently,
            processes each have their own
        process: if ``True`` the handler runs in processes
            instead of threads.
            They start as those of :class:`MultiWorker` do.
            Handler and tasks must be picklable;
            their classes may be those of a notebook.
            A script has to guard its main part
            with ``if __name__ == "__main__":``.
            What the handler sets on a task is copied back

    Raises:
        TypeError: if ``handler`` is no :class:`BaseTaskHandler`,
            or its ``handle`` is a coroutine function
        ValueError: if ``batch_size`` or ``num_workers``
            is not a positive integer,
            or ``batch_timeout`` is not a finite number of at least zero

    """

    def __init__(
        self,
        handler: BaseTaskHandler,
        batch_size: int = 1,
        batch_timeout: float = 0,
        *,
        num_workers: int = 1,
        process: bool = False,
    ) -> None:
        import inspect

        if not isinstance(handler, BaseTaskHandler):
            raise TypeError(
                f"handler must be a BaseTaskHandler object, but is {handler!r}."
            )
        if inspect.iscoroutinefunction(handler.handle):
            raise TypeError(
                f"{type(handler).__name__}.handle() must be a plain function, "
                f"as it does not run on the event loop."
            )
        self.handler = handler
        self.batch_size = positive_int("batch_size", batch_size)
        self.batch_timeout = duration("batch_timeout", batch_timeout)
        self.num_workers = positive_int("num_workers", num_workers)
        self.process = process


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
            first come, first served.
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
        self._workers: list[list[_ThreadWorker]] = []
        self._traffic: _Traffic | None = None

    def start(self) -> None:
        """Start the workers, and wait until all are ready.

        This includes :meth:`BaseTaskHandler.on_start` of all handlers,
        and blocks the calling thread.
        ``async with`` does the same without blocking the event loop.

        Raises:
            Exception: whatever ``on_start`` of a handler raises,
                after all workers were ended again
            RuntimeError: if the flow was started before

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
                worker_class = _ProcessWorker if step.process else _ThreadWorker
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

    async def process(self, task: Task, timeout: float | None = None) -> Task:
        """Pass a task through all steps.

        Waits for a place if there are ``max_tasks`` tasks in the flow.
        If the caller is cancelled or the time is over,
        a task that waits leaves the flow;
        one that is being handled is handled to the end of its batch
        and goes no further.
        Its neighbours notice neither.

        Args:
            task: task, which gets its results as attributes
            timeout: time in seconds after which the caller gives up,
                waiting for a place included.
                If ``None`` there is no limit

        Returns:
            the task

        Raises:
            Exception: whatever a handler raised for the batch of the task
            NotRunningError: if the flow was not started,
                :meth:`stop` was called,
                or this process is a fork of the one that started it
            RuntimeError: if the flow belongs to another event loop,
                or a handler raised what cannot be passed on as it is,
                like ``SystemExit``
            TimeoutError: if the task was not finished in time
            TypeError: if ``task`` is no :class:`BaseTask`
            ValueError: if ``timeout`` is not a finite number of at least zero

        """
        import asyncio

        if not isinstance(task, BaseTask):
            raise TypeError(f"task must be a BaseTask object, but is {task!r}.")
        if timeout is not None:
            duration("timeout", timeout)
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
            async with asyncio.timeout(timeout) as limit:
                await traffic.process(task)
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
            await traffic.end()
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

    def _current_traffic(self) -> _Traffic:
        import asyncio

        loop = asyncio.get_running_loop()
        if self._traffic is None or self._traffic.loop.is_closed():
            # Everybody who waited for a task has gone with the event loop
            self._traffic = _Traffic(loop, self.steps, self._workers, self.max_tasks)
        if self._traffic.loop is not loop:
            raise RuntimeError("This flow belongs to another event loop.")
        return self._traffic

    def _shut_down(self) -> None:
        for workers in self._workers:
            for worker in workers:
                worker.shut_down()
        self._state = "stopped"


class _Job:
    """A task on its way."""

    __slots__ = ("done", "line", "since", "task")

    def __init__(self, task: BaseTask, done: asyncio.Future[None]) -> None:
        self.task = task
        self.done = done
        # Where it waits, and since when
        self.line: _Line | None = None
        self.since = 0.0


class _Line:
    """What waits in front of a step, and who is free to handle it."""

    def __init__(self, step: FlowStep, workers: Iterable[_ThreadWorker]) -> None:
        self.step = step
        # The first to go comes last
        self.free = list(workers)[::-1]
        self.next: _Line | None = None
        # In order, and who gives up can be taken out at once
        self.waiting: dict[_Job, None] = {}
        self.timer: asyncio.TimerHandle | None = None
        self.scheduled = False


class _Traffic:
    """Tasks of one event loop on their way through the steps.

    Everything happens in callbacks of the event loop that never wait,
    so there is neither a lock nor a task in the background.

    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        steps: Iterable[FlowStep],
        workers: Iterable[Iterable[_ThreadWorker]],
        max_tasks: int,
    ) -> None:
        import asyncio

        self.loop = loop
        self.stop_lock = asyncio.Lock()
        self._places = asyncio.Semaphore(max_tasks)
        self._idle = asyncio.Event()
        self._ending = False
        self._calls = 0
        self._batches = 0
        self._lines = [_Line(step, group) for step, group in zip(steps, workers)]
        for line, next_line in zip(self._lines, self._lines[1:]):
            line.next = next_line

    async def process(self, task: BaseTask) -> None:
        """Wait for a place, and then until the task has passed all steps."""
        self._calls += 1
        try:
            await self._places.acquire()
            job = _Job(task, self.loop.create_future())
            self._enter(self._lines[0], job)
            try:
                await job.done
            finally:
                # It waits no longer, unless the caller gives up
                if job.line is not None:
                    del job.line.waiting[job]
                    self._places.release()
        finally:
            self._calls -= 1
            self._check_idle()

    async def end(self) -> None:
        """Wait until nothing is on its way any more."""
        self._ending = True
        for line in self._lines:
            self._schedule(line)
        while self._calls or self._batches:
            self._idle.clear()
            await self._idle.wait()

    def _check_idle(self) -> None:
        if not self._calls and not self._batches:
            self._idle.set()

    def _enter(self, line: _Line, job: _Job) -> None:
        job.line = line
        job.since = self.loop.time()
        line.waiting[job] = None
        self._schedule(line)

    def _schedule(self, line: _Line) -> None:
        # Tasks that arrive in one round of the event loop share a batch,
        # without any of them having to wait for it
        if not line.scheduled:
            line.scheduled = True
            self.loop.call_soon(self._make_batches, line)

    def _make_batches(self, line: _Line) -> None:
        line.scheduled = False
        if line.timer is not None:
            line.timer.cancel()
            line.timer = None
        step = line.step
        while line.free and line.waiting:
            if len(line.waiting) < step.batch_size and not self._ending:
                due = next(iter(line.waiting)).since + step.batch_timeout
                if self.loop.time() < due:
                    line.timer = self.loop.call_at(due, self._make_batches, line)
                    return
            batch = list(itertools.islice(line.waiting, step.batch_size))
            for job in batch:
                del line.waiting[job]
                job.line = None
            self._hand_out(line, line.free.pop(), batch)

    def _hand_out(self, line: _Line, worker: _ThreadWorker, batch: list[_Job]) -> None:
        from concurrent.futures import Future

        self._batches += 1
        future: Future[Any]
        try:
            future = worker.submit([job.task for job in batch])
        except Exception as error:  # noqa: BLE001
            # No more threads or processes to be had
            future = Future()
            future.set_exception(error)

        def hand_back(future: Future[Any]) -> None:
            # Runs in a thread of the worker.
            # When the event loop is closed, nobody waits for the outcome
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(
                    self._take_back, line, worker, batch, future
                )

        future.add_done_callback(hand_back)

    def _take_back(
        self,
        line: _Line,
        worker: _ThreadWorker,
        batch: list[_Job],
        future: Future[Any],
    ) -> None:
        self._batches -= 1
        error = worker.error_of(future)
        errors = own_copies(error) if error is not None else None
        line.free.append(worker)
        self._schedule(line)
        for job in batch:
            given_up = job.done.done()
            if errors is None and line.next is not None and not given_up:
                self._enter(line.next, job)
                continue
            self._places.release()
            if not given_up:
                if errors is None:
                    job.done.set_result(None)
                else:
                    job.done.set_exception(next(errors))
        self._check_idle()


class _ThreadWorker:
    """Handles one batch at a time in a thread."""

    def __init__(self, handler: BaseTaskHandler) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self.handler = handler
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="audmodel-flow")

    def start(self) -> Future[Any]:
        return self.thread.submit(self.handler.on_start)

    def submit(self, tasks: Sequence[BaseTask]) -> Future[Any]:
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
        self.thread.shutdown(wait=True)


class _ProcessWorker(_ThreadWorker):
    """Handles one batch at a time in a process of its own.

    The thread talks to the process.
    When the process dies, another one takes its place with the next batch,
    so nothing is lost but the batch that was in it.

    """

    def __init__(self, handler: BaseTaskHandler) -> None:
        super().__init__(handler)
        self.processes = ProcessPool(1)

    def start(self) -> Future[Any]:
        return self.thread.submit(self._in_process, self.handler, [])

    def submit(self, tasks: Sequence[BaseTask]) -> Future[Any]:
        return self.thread.submit(self._handle, tasks)

    def shut_down(self) -> None:
        try:
            super().shut_down()
        finally:
            self.processes.close()

    def _handle(self, tasks: Sequence[BaseTask]) -> None:
        # The handler travels once to each process, as it may be large
        states = self._in_process(None, tasks)
        if states is None:
            states = self._in_process(self.handler, tasks)
        for task, state in zip(tasks, states):
            _set_state(task, state)

    def _in_process(
        self,
        handler: BaseTaskHandler | None,
        tasks: Sequence[BaseTask],
    ) -> Any:
        call = functools.partial(_handle_in_process, handler, tasks)
        return self.processes.run([call])[0]


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


def _as_step(step: FlowStep | BaseTaskHandler) -> FlowStep:
    if isinstance(step, BaseTaskHandler):
        return FlowStep(step)
    if not isinstance(step, FlowStep):
        raise TypeError(f"step must be a FlowStep object, but is {step!r}.")
    return step


async def _beside_loop(function: Callable[[], None]) -> None:
    """Call a function in a thread, and come back only when it has ended."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, thread_name_prefix="audmodel-flow") as executor:
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(executor, function)
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise

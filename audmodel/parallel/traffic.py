"""Tasks on their way through the steps of a flow."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Iterable
import contextlib
from typing import TYPE_CHECKING
from typing import Any

from audmodel.parallel.exceptions import own_copies
from audmodel.parallel.handling import ThreadWorker
from audmodel.parallel.steps import BaseTask
from audmodel.parallel.steps import FlowStep


if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future


class _Job:
    """A task that is being processed."""

    __slots__ = ("done", "priority", "queue", "since", "task", "timeout")

    def __init__(
        self,
        task: BaseTask,
        timeout: float | None,
        priority: int,
        done: asyncio.Future[None],
    ) -> None:
        self.task = task
        self.timeout = timeout
        self.priority = priority
        self.done = done
        # Where it waits, and since when
        self.queue: _Queue | None = None
        self.since = 0.0


class _Queue:
    """Tasks that wait, by priority, and then in order."""

    def __init__(self) -> None:
        # A task whose caller gives up can be taken out at once
        self._jobs: dict[int, OrderedDict[_Job, None]] = {}
        self._priorities: list[int] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, job: _Job) -> None:
        if job.priority not in self._jobs:
            self._jobs[job.priority] = OrderedDict()
            bisect.insort(self._priorities, job.priority)
        self._jobs[job.priority][job] = None
        self._length += 1
        job.queue = self

    def remove(self, job: _Job) -> None:
        jobs = self._jobs[job.priority]
        del jobs[job]
        self._length -= 1
        job.queue = None
        if not jobs:
            del self._jobs[job.priority]
            index = bisect.bisect_left(self._priorities, job.priority)
            del self._priorities[index]

    def pop(self) -> _Job:
        job = next(iter(self._jobs[self._priorities[-1]]))
        self.remove(job)
        return job

    def since(self) -> float:
        """When the first one came."""
        return min(next(iter(jobs)).since for jobs in self._jobs.values())


class _Line:
    """Tasks that wait for a step, and workers that are free to handle them."""

    def __init__(self, step: FlowStep, workers: Iterable[ThreadWorker]) -> None:
        self.step = step
        # The first to go comes last
        self.free = list(workers)[::-1]
        self.next: _Line | None = None
        self.queue = _Queue()
        self.timer: asyncio.TimerHandle | None = None
        self.scheduled = False


class Traffic:
    """Tasks of one event loop on their way through the steps.

    Everything happens in callbacks of the event loop that never wait,
    so there is neither a lock nor a task in the background.

    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        steps: Iterable[FlowStep],
        workers: Iterable[Iterable[ThreadWorker]],
        max_tasks: int,
    ) -> None:
        import asyncio

        self.loop = loop
        self.stop_lock = asyncio.Lock()
        self._places = max_tasks
        self._entrance = _Queue()
        self._idle = asyncio.Event()
        self._ending = False
        self._calls = 0
        self._batches = 0
        self._lines = [_Line(step, group) for step, group in zip(steps, workers)]
        for line, next_line in zip(self._lines, self._lines[1:]):
            line.next = next_line

    async def process(
        self,
        task: BaseTask,
        timeout: float | None,
        priority: int,
    ) -> None:
        """Wait for a place, and then until the task has passed all steps."""
        job = _Job(task, timeout, priority, self.loop.create_future())
        self._calls += 1
        self._entrance.add(job)
        self._admit()
        try:
            await job.done
        finally:
            # It waits no longer, unless the caller gives up
            if job.queue is self._entrance:
                self._entrance.remove(job)
            elif job.queue is not None:
                job.queue.remove(job)
                self._free_place()
            self._calls -= 1
            self._check_idle()

    async def drain(self) -> None:
        """Wait until no task is being processed any more."""
        self._ending = True
        for line in self._lines:
            self._schedule(line)
        while self._calls or self._batches:
            self._idle.clear()
            await self._idle.wait()

    def _check_idle(self) -> None:
        if not self._calls and not self._batches:
            self._idle.set()

    def _admit(self) -> None:
        while self._places and self._entrance:
            self._places -= 1
            self._enter(self._lines[0], self._entrance.pop())

    def _free_place(self) -> None:
        self._places += 1
        self._admit()

    def _enter(self, line: _Line, job: _Job) -> None:
        job.since = self.loop.time()
        line.queue.add(job)
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
        while line.free and line.queue:
            if len(line.queue) < step.batch_size and not self._ending:
                due = line.queue.since() + step.batch_timeout
                if self.loop.time() < due:
                    line.timer = self.loop.call_at(due, self._make_batches, line)
                    return
            size = min(step.batch_size, len(line.queue))
            batch = [line.queue.pop() for _ in range(size)]
            self._hand_out(line, line.free.pop(), batch)

    def _hand_out(self, line: _Line, worker: ThreadWorker, batch: list[_Job]) -> None:
        from concurrent.futures import Future

        self._batches += 1
        future: Future[Any]
        try:
            future = worker.submit([job.task for job in batch], _limit(batch))
        except Exception as error:  # noqa: BLE001
            # No more threads or processes to be had
            future = Future()
            future.set_exception(error)

        def hand_back(future: Future[Any]) -> None:
            # Runs in a thread of the worker.
            # When the event loop is closed, no call waits for the result
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(
                    self._take_back, line, worker, batch, future
                )

        future.add_done_callback(hand_back)

    def _take_back(
        self,
        line: _Line,
        worker: ThreadWorker,
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
            self._free_place()
            if not given_up:
                if errors is None:
                    job.done.set_result(None)
                else:
                    job.done.set_exception(next(errors))
        self._check_idle()


def _limit(batch: list[_Job]) -> float | None:
    """For how many seconds a batch may be handled, ``None`` for any time.

    After that the callers of all its tasks have given up.
    Their wait for the batch does not count,
    so that under load handlers are not ended which are in time.

    """
    timeouts = [job.timeout for job in batch if job.timeout is not None]
    return max(timeouts) if len(timeouts) == len(batch) else None

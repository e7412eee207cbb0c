"""Tasks on their way through the steps of a flow."""

from __future__ import annotations

from collections.abc import Iterable
import contextlib
import itertools
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

    def __init__(self, step: FlowStep, workers: Iterable[ThreadWorker]) -> None:
        self.step = step
        # The first to go comes last
        self.free = list(workers)[::-1]
        self.next: _Line | None = None
        # In order, and who gives up can be taken out at once
        self.waiting: dict[_Job, None] = {}
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

    def _hand_out(self, line: _Line, worker: ThreadWorker, batch: list[_Job]) -> None:
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
            self._places.release()
            if not given_up:
                if errors is None:
                    job.done.set_result(None)
                else:
                    job.done.set_exception(next(errors))
        self._check_idle()

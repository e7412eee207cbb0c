"""What travels through a flow, and what its steps do with it."""

from __future__ import annotations

from typing import Any

from audmodel.parallel.arguments import duration
from audmodel.parallel.arguments import positive_int


class BaseTask:
    """What travels through a flow.

    A subclass has the attributes that the handlers of a flow read and set.

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

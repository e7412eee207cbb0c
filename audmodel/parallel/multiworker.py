"""Fan a function out over a list."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import contextvars
import functools
import os
from typing import TYPE_CHECKING
from typing import Any
from typing import Generic
from typing import ParamSpec

from audmodel.parallel import bars
from audmodel.parallel.arguments import duration
from audmodel.parallel.arguments import positive_int
from audmodel.parallel.parts import BatchedArgument
from audmodel.parallel.parts import Call
from audmodel.parallel.parts import name_of
from audmodel.parallel.parts import split
from audmodel.parallel.processes import ProcessPool
from audmodel.parallel.processes import explain_dead_worker
from audmodel.parallel.reductions import reduce_results
from audmodel.parallel.waiting import carry_out
from audmodel.parallel.waiting import wait_for_all


if TYPE_CHECKING:
    from concurrent.futures import Executor
    from concurrent.futures import Future
    from types import TracebackType


Arguments = ParamSpec("Arguments")


class MultiWorker(Generic[Arguments]):
    """Context in which a function over a list runs on several workers.

    The context gives back a callable with the signature of the function.
    When it is called,
    the list in the batched argument is split into chunks,
    one for each worker,
    whose lengths differ by at most one element.
    The function is called once with each chunk
    and with all other arguments as they are.
    A list that is shorter than the number of workers
    has as many chunks as elements,
    and for an empty list the function is not called at all.

    By default the workers are processes of this machine,
    which start when a call needs them, and serve the following ones.
    None is a fork of the program.
    They import the main module,
    so a script has to guard its main part
    with ``if __name__ == "__main__":``.
    Arguments and results must be picklable.
    The function may be a lambda or a closure as well,
    or one of a notebook.
    With an executor, its workers do the work,
    which is how a function grows past one machine.

    The function sees no context variables of the caller,
    as those cannot be sent to another process.

    Args:
        function: function to call, or a method
        n_processes: number of workers.
            With ``1``, and neither executor nor timeout,
            the function is called in the calling process.
            If ``None``, the number of processors of the machine
        batched_arg: name of the argument with the list to split.
            If ``None``, the first parameter of the function,
            ``self`` of methods passed over
        verbose: if ``True`` show a progress bar over the elements of the list
        reduction: makes one value of the list of what the calls returned,
            like :func:`flatten_reduction`.
            If it has a parameter ``weights``
            it gets the lengths of the chunks in it.
            If ``None`` the list itself is returned,
            with one result for each chunk, in order
        executor: executor that runs the calls instead of own processes.
            It is not shut down,
            and the workers behind it need this package.
            The list is still split into ``n_processes`` chunks
        initializer: called without arguments in each process before its first call,
            for example to load a model, or to choose a GPU
            by :func:`worker_number`.
            What it raises, the call raises
        timeout: time in seconds for a call, the start of processes included.
            Processes that are not done by then are killed,
            and the call raises a ``TimeoutError``.
            With an executor, chunks that run are not waited for,
            as it cannot kill them.
            If ``None`` there is no limit

    Raises:
        TypeError: if ``function``, ``reduction`` or ``initializer``
            cannot be called,
            or ``executor`` cannot submit
        ValueError: if ``n_processes`` is not a positive integer,
            if ``timeout`` is not a finite number of at least zero,
            if there is an ``initializer`` for an ``executor``,
            if the function has no parameter ``batched_arg``,
            or no parameter that could hold the list,
            or does not tell its parameters

    Examples:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from audmodel.parallel import flatten_reduction
        >>> def double(numbers):
        ...     return [2 * number for number in numbers]
        >>> with ThreadPoolExecutor() as executor:
        ...     with MultiWorker(
        ...         double,
        ...         n_processes=2,
        ...         reduction=flatten_reduction,
        ...         executor=executor,
        ...     ) as parallel_double:
        ...         parallel_double([1, 2, 3])
        [2, 4, 6]

    """

    def __init__(
        self,
        function: Callable[Arguments, Any],
        n_processes: int | None,
        batched_arg: str | None = None,
        verbose: bool = False,
        reduction: Callable[..., Any] | None = None,
        executor: Executor | None = None,
        *,
        initializer: Callable[[], Any] | None = None,
        timeout: float | None = None,
    ) -> None:
        import inspect

        if not callable(function):
            raise TypeError(f"function must be callable, but is {function!r}.")
        if reduction is not None and not callable(reduction):
            raise TypeError(f"reduction must be callable, but is {reduction!r}.")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be callable, but is {initializer!r}.")
        if initializer is not None and executor is not None:
            raise ValueError(
                "An executor starts its workers itself: "
                "give the initializer to the executor."
            )
        if executor is not None and not callable(getattr(executor, "submit", None)):
            raise TypeError(f"executor must be an executor, but is {executor!r}.")
        if n_processes is None:
            n_processes = os.cpu_count() or 1
        try:
            signature = inspect.signature(function)
        except ValueError as error:
            raise ValueError(
                f"The parameters of {function!r} are not known. "
                f"Call it from a function of your own, and pass that."
            ) from error
        self.function = function
        self.n_processes = positive_int("n_processes", n_processes)
        self.verbose = verbose
        self.reduction = reduction
        self.executor = executor
        self.initializer = initializer
        self.timeout = None if timeout is None else duration("timeout", timeout)
        self._batched = BatchedArgument(function, signature, batched_arg)
        self._pool: ProcessPool | None = None
        self._must_initialize = False
        self._entered = False

    def __enter__(self) -> Callable[Arguments, Any]:
        """Open the context.

        Returns:
            callable with the signature of the function.
            It raises what the function raises;
            of several failed chunks the first in the order of the list counts,
            chunks that have not started are cancelled,
            and those that run are waited for.
            An interrupt ends own processes at once.
            It raises a ``TimeoutError`` if the call was not done in time,
            a ``BrokenProcessPool`` error if a process died,
            a ``ValueError`` if the batched argument is no list,
            and a ``RuntimeError`` after the context was left,
            or while Python exits, when no thread can be started

        Raises:
            RuntimeError: if the context is open already,
                or no thread can be started for the processes,
                as while Python exits

        """
        if self._entered:
            raise RuntimeError("This MultiWorker is already in use.")
        if self.executor is None and (self.n_processes > 1 or self.timeout is not None):
            self._pool = ProcessPool(self.n_processes, self.initializer)
        self._must_initialize = self.initializer is not None
        self._entered = True

        @functools.wraps(self.function)
        def parallel_function(
            *args: Arguments.args,
            **kwargs: Arguments.kwargs,
        ) -> Any:
            return self._call(args, kwargs)

        return parallel_function

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the context, and end processes that it started.

        Waits for calls of other threads that these processes carry out.

        """
        # In this order, the opposite of that in _call()
        self._entered = False
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        pool = self._pool
        if not self._entered:
            raise RuntimeError(
                "The function runs in parallel only inside of the with block."
            )
        bound = self._batched.signature.bind(*args, **kwargs)
        parts = split(self._batched.of(bound), self.n_processes)
        calls = [
            Call(self.function, *self._batched.replaced(bound, part)) for part in parts
        ]
        lengths = [len(part) for part in parts]
        with self._progress(sum(lengths)) as advance:
            results = self._results(pool, calls, lambda n: advance(lengths[n]))
        if self.reduction is None:
            return results
        return reduce_results(self.reduction, results, lengths)

    def _results(
        self,
        pool: ProcessPool | None,
        calls: Sequence[Call],
        on_success: Callable[[int], Any],
    ) -> list[Any]:
        if pool is not None:
            return pool.run(calls, on_success, self.timeout)
        if self.executor is not None:
            return _run_on(self.executor, calls, on_success, self.timeout)
        if self._must_initialize and self.initializer is not None:
            self.initializer()
            self._must_initialize = False
        results = []
        for number, call in enumerate(calls):
            # As in a process
            results.append(contextvars.Context().run(call))
            on_success(number)
        return results

    @contextlib.contextmanager
    def _progress(self, total: int) -> Iterator[Callable[[int], Any]]:
        if not self.verbose:
            yield lambda _: None
            return
        with bars.progress_bar(total=total, desc=name_of(self.function)) as bar:
            yield bar.update


def _run_on(
    executor: Executor,
    calls: Sequence[Call],
    on_success: Callable[[int], Any],
    timeout: float | None,
) -> list[Any]:
    """Results of calls that an executor carries out."""

    def submit(call: Callable[[], Any], futures: list[Future[Any]]) -> None:
        futures.append(executor.submit(call))

    def stop(futures: list[Future[Any]], at_once: bool) -> None:
        if not at_once:
            wait_for_all(futures)

    try:
        return carry_out(calls, submit, stop, on_success, timeout)
    except Exception as error:
        explain_dead_worker(error)
        raise

"""A function over a list runs on several workers as if it ran on one."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import Executor
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
import contextvars
import functools
import inspect
import multiprocessing
import os
from pathlib import Path
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from audmodel.parallel import MultiWorker
from audmodel.parallel import ReductionComposition
from audmodel.parallel import average_reduction
from audmodel.parallel import bars
from audmodel.parallel import flatten_reduction
from audmodel.parallel import max_reduction
from audmodel.parallel import string_concatenation_reduction
from audmodel.parallel import sum_reduction
from audmodel.parallel import worker_number


def same(items: list[Any]) -> list[Any]:
    return list(items)


def mean(items: list[float]) -> float:
    return sum(items) / len(items)


def call_with(
    items: list[int],
    /,
    offset: int,
    *others: int,
    factor: int = 1,
    **more: int,
) -> list[Any]:
    return [(item * factor + offset, others, more) for item in items]


def keyword_only(*, scale: int = 1, items: list[int]) -> list[int]:
    return [item * scale for item in items]


def anything(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def only_keywords(**kwargs: Any) -> Any:
    return kwargs


def with_default(items: list[int] = [1, 2, 3], scale: int = 1) -> list[int]:  # noqa: B006
    return [item * scale for item in items]


def with_positional_defaults(scale: int = 2, items: list[int] = [1, 2], /) -> Any:  # noqa: B006
    return [item * scale for item in items]


def no_parameters() -> None:
    """Cannot take a list."""


def process_ids(items: list[Any]) -> list[tuple[int, str | None]]:
    return [
        (os.getpid(), multiprocessing.get_start_method(allow_none=True)) for _ in items
    ]


def fail(items: list[int]) -> None:
    raise KeyError(items[0])


def die(items: list[int]) -> None:
    os._exit(3)


class Scaler:
    def __init__(self, scale: int) -> None:
        self.scale = scale

    def apply(self, items: list[int], offset: int = 0) -> list[int]:
        return [item * self.scale + offset for item in items]

    def __call__(self, items: list[int]) -> list[int]:
        return self.apply(items)

    @classmethod
    def double(cls, items: list[int]) -> list[int]:
        return cls(2).apply(items)

    @staticmethod
    def halve(items: list[int]) -> list[int]:
        return [item // 2 for item in items]

    def lonely(self) -> None:
        """Cannot take a list."""


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


# Arguments -----------------------------------------------------------------


@pytest.mark.sample(2)
@pytest.mark.parametrize("value", [0, -2, True, 1.0, "2"])
def test_number_of_processes_is_checked(value: Any) -> None:
    with pytest.raises(ValueError, match=f"n_processes must .* {value!r}"):
        MultiWorker(same, value)


@pytest.mark.parametrize("name", ["function", "reduction"])
def test_functions_must_be_callable(name: str) -> None:
    arguments: dict[str, Any] = {"function": same, "n_processes": 2, name: "text"}
    with pytest.raises(TypeError, match=f"{name} must be callable, but is 'text'"):
        MultiWorker(**arguments)


def test_executor_must_submit() -> None:
    with pytest.raises(TypeError, match="executor must be an executor, but is 4"):
        MultiWorker(same, 2, executor=4)  # type: ignore[arg-type]


@pytest.mark.sample(1)
@pytest.mark.parametrize("function", [no_parameters, only_keywords, Scaler.lonely])
def test_function_needs_a_parameter_for_the_list(function: Any) -> None:
    with pytest.raises(ValueError, match=r"\(\) has no parameter"):
        MultiWorker(function, 2)


def test_function_must_tell_its_parameters() -> None:
    with pytest.raises(ValueError, match="Call it from a function of your own"):
        MultiWorker(max, 2)


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("function", "name"),
    [(same, "things"), (call_with, "others"), (same, ""), (Scaler(2).apply, "self")],
)
def test_batched_argument_must_exist(function: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"batched_arg must .* but is '{name}'"):
        MultiWorker(function, 2, batched_arg=name)


@pytest.mark.sample(1)
@pytest.mark.parametrize("value", [(1, 2), "text", {1}, None, range(3), iter([1])])
def test_batched_argument_must_be_a_list(
    value: Any,
    threads: ThreadPoolExecutor,
) -> None:
    with (
        MultiWorker(same, 2, executor=threads) as parallel_same,
        pytest.raises(ValueError, match="'items' must be a list, but is"),
    ):
        parallel_same(value)


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), (([1],), {}), (([1], 2), {"offset": 3}), ((), {"items": [1]})],
)
def test_wrong_arguments_are_refused_as_by_the_function(
    args: Any,
    kwargs: Any,
    threads: ThreadPoolExecutor,
) -> None:
    with pytest.raises(TypeError) as expected:
        inspect.signature(call_with).bind(*args, **kwargs)
    with MultiWorker(call_with, 2, executor=threads) as parallel_call:
        with pytest.raises(TypeError) as raised:
            parallel_call(*args, **kwargs)
        assert str(raised.value) == str(expected.value)


@pytest.mark.parametrize(("batched_arg", "missing"), [(None, "args"), ("x", "x")])
def test_list_may_be_missing_among_variable_arguments(
    batched_arg: str | None,
    missing: str,
    threads: ThreadPoolExecutor,
) -> None:
    with (
        MultiWorker(anything, 2, batched_arg, executor=threads) as parallel_anything,
        pytest.raises(TypeError, match=f"missing the argument '{missing}'"),
    ):
        parallel_anything()


# Failures ------------------------------------------------------------------


def test_callable_works_only_inside_of_the_context() -> None:
    with MultiWorker(same, 1) as parallel_same:
        assert parallel_same([1]) == [[1]]
    with pytest.raises(RuntimeError, match="only inside of the with block"):
        parallel_same([1])


def test_context_cannot_be_entered_twice_at_a_time() -> None:
    worker = MultiWorker(same, 1)
    with worker, pytest.raises(RuntimeError, match="already in use"):
        worker.__enter__()
    with worker as parallel_same:
        assert parallel_same([1]) == [[1]]


@pytest.mark.parametrize("verbose", [True, False])
def test_first_failure_in_the_order_of_the_list_is_raised(
    verbose: bool,
    threads: ThreadPoolExecutor,
) -> None:
    later_has_failed = threading.Event()

    def fail_in_reverse(items: list[int]) -> None:
        if items == [0]:
            assert later_has_failed.wait(10)
        else:
            later_has_failed.set()
        raise KeyError(items[0])

    worker = MultiWorker(fail_in_reverse, 2, verbose=verbose, executor=threads)
    with worker as parallel_fail, pytest.raises(KeyError, match="0"):
        parallel_fail([0, 1])


def test_failure_cancels_what_waits_and_waits_for_what_runs() -> None:
    both_run = threading.Barrier(2)
    started = []
    finished = []

    def first_fails(items: list[int]) -> None:
        started.extend(items)
        if items[0] < 2:
            both_run.wait(10)
        if items == [0]:
            raise KeyError(0)
        time.sleep(0.05)
        finished.extend(items)

    with (
        ThreadPoolExecutor(2) as executor,
        MultiWorker(first_fails, 50, executor=executor) as parallel_fail,
    ):
        with pytest.raises(KeyError):
            parallel_fail(list(range(50)))
        assert 1 in finished
        assert sorted([0, *finished]) == sorted(started)
        assert len(started) < 10


def test_failure_to_submit_leaves_nothing_running() -> None:
    class Reluctant(ThreadPoolExecutor):
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            if len(submitted) == 2:
                raise RuntimeError("no more")
            submitted.append(super().submit(function, *args, **kwargs))
            return submitted[-1]

    submitted: list[Future[Any]] = []
    with (
        Reluctant(1) as executor,
        MultiWorker(same, 3, executor=executor) as parallel_same,
    ):
        with pytest.raises(RuntimeError, match="no more"):
            parallel_same([1, 2, 3])
        assert all(future.done() for future in submitted)


def test_futures_that_never_report_their_cancellation_do_not_block() -> None:
    class Remote(Executor):
        """Like Dask's, nobody tells the futures that they were cancelled."""

        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            futures.append(future)
            if len(futures) == 1:
                future.set_exception(KeyError("first"))
            return future

    futures: list[Future[Any]] = []
    with (
        MultiWorker(same, 3, executor=Remote()) as parallel_same,
        pytest.raises(KeyError, match="first"),
    ):
        parallel_same([1, 2, 3])
    assert [future.cancelled() for future in futures] == [False, True, True]


# Splitting -----------------------------------------------------------------


@pytest.mark.sample(6)
@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 7, 8, 9, 100])
@pytest.mark.parametrize("n_processes", [1, 2, 3, 4, 8])
def test_every_element_is_processed_exactly_once_and_in_order(
    length: int,
    n_processes: int,
    threads: ThreadPoolExecutor,
) -> None:
    elements = [str(number) for number in range(length)]
    with MultiWorker(same, n_processes, executor=threads) as parallel_same:
        parts = parallel_same(elements)
    assert [element for part in parts for element in part] == elements
    assert len(parts) == min(length, n_processes)
    if parts:
        lengths = [len(part) for part in parts]
        assert min(lengths) >= 1
        assert max(lengths) - min(lengths) <= 1


def test_function_is_not_called_for_an_empty_list(threads: ThreadPoolExecutor) -> None:
    with MultiWorker(fail, 2, executor=threads) as parallel_fail:
        assert parallel_fail([]) == []
    with MultiWorker(fail, 2, reduction=sum_reduction) as parallel_sum:
        assert parallel_sum([]) == 0
    with (
        MultiWorker(fail, 2, reduction=average_reduction) as parallel_average,
        pytest.raises(ValueError, match="no results"),
    ):
        parallel_average([])


@pytest.mark.parametrize("n_processes", [1, 3])
def test_list_of_the_caller_is_left_alone(
    n_processes: int,
    threads: ThreadPoolExecutor,
) -> None:
    def empty(items: list[int]) -> None:
        items.clear()

    items = [1, 2, 3]
    with MultiWorker(empty, n_processes, executor=threads) as parallel_empty:
        parallel_empty(items)
    assert items == [1, 2, 3]


# Signatures ----------------------------------------------------------------


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "function",
    [same, call_with, keyword_only, Scaler(2).apply, Scaler.apply, Scaler.double],
)
def test_callable_has_the_signature_of_the_function(
    function: Callable[..., Any],
    threads: ThreadPoolExecutor,
) -> None:
    worker = MultiWorker(
        function,
        2,
        batched_arg="items",
        executor=threads,
    )
    with worker as parallel_function:
        assert inspect.signature(parallel_function) == inspect.signature(function)
        assert parallel_function.__name__ == function.__name__
        assert parallel_function.__doc__ == function.__doc__


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("function", "batched_arg", "args", "kwargs", "expected"),
    [
        (same, None, [], {"items": [1, 2, 3]}, [1, 2, 3]),
        (
            call_with,
            None,
            [[1, 2, 3], 10, 7, 8],
            {"factor": 2, "more": 5},
            [(n * 2 + 10, (7, 8), {"more": 5}) for n in (1, 2, 3)],
        ),
        (call_with, "items", [[1], 1], {}, [(2, (), {})]),
        (keyword_only, "items", [], {"items": [1, 2, 3], "scale": 2}, [2, 4, 6]),
        (with_default, None, [], {"scale": 3}, [3, 6, 9]),
        (with_positional_defaults, "items", [], {}, [2, 4]),
        (Scaler(3).apply, None, [[1, 2, 3]], {"offset": 1}, [4, 7, 10]),
        (Scaler.apply, None, [Scaler(3), [1, 2, 3]], {}, [3, 6, 9]),
        (Scaler(3), None, [[1, 2, 3]], {}, [3, 6, 9]),
        (Scaler.double, None, [[1, 2, 3]], {}, [2, 4, 6]),
        (Scaler.halve, None, [[2, 4, 6]], {}, [1, 2, 3]),
        (functools.partial(Scaler(3).apply, offset=1), None, [[1, 2]], {}, [4, 7]),
        (functools.partial(with_default, scale=2), None, [[1, 2]], {}, [2, 4]),
    ],
)
def test_list_is_found_among_the_arguments(
    function: Any,
    batched_arg: str | None,
    args: list[Any],
    kwargs: dict[str, Any],
    expected: list[Any],
    threads: ThreadPoolExecutor,
) -> None:
    worker = MultiWorker(
        function,
        2,
        batched_arg=batched_arg,
        reduction=flatten_reduction,
        executor=threads,
    )
    with worker as parallel_function:
        assert parallel_function(*args, **kwargs) == expected


def test_list_may_be_the_first_of_variable_arguments(
    threads: ThreadPoolExecutor,
) -> None:
    with MultiWorker(anything, 2, executor=threads) as parallel_anything:
        assert parallel_anything([1, 2], 3, key=4) == [
            (([1], 3), {"key": 4}),
            (([2], 3), {"key": 4}),
        ]


def test_list_may_be_a_variable_keyword_argument(threads: ThreadPoolExecutor) -> None:
    with MultiWorker(anything, 2, "items", executor=threads) as parallel_anything:
        assert parallel_anything(3, items=[1, 2], key=4) == [
            ((3,), {"items": [1], "key": 4}),
            ((3,), {"items": [2], "key": 4}),
        ]


# Reductions ----------------------------------------------------------------


@pytest.mark.sample(1)
@pytest.mark.parametrize("n_processes", [1, 2, 3, 7])
def test_average_is_that_of_all_elements(
    n_processes: int,
    threads: ThreadPoolExecutor,
) -> None:
    numbers = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    for reduction in (average_reduction, ReductionComposition([average_reduction])):
        worker = MultiWorker(
            mean,
            n_processes,
            reduction=reduction,
            executor=threads,
        )
        with worker as parallel_mean:
            assert parallel_mean(numbers) == pytest.approx(mean(numbers), rel=1e-12)


def test_average_of_flattened_elements_is_plain(threads: ThreadPoolExecutor) -> None:
    reduction = ReductionComposition([flatten_reduction, average_reduction])
    with MultiWorker(same, 2, reduction=reduction, executor=threads) as parallel_same:
        assert parallel_same([1, 2, 6]) == 3


def test_any_callable_is_a_reduction(threads: ThreadPoolExecutor) -> None:
    with MultiWorker(same, 2, reduction=len, executor=threads) as parallel_same:
        assert parallel_same([1, 2, 3]) == 2


def test_own_reduction_gets_the_lengths_of_the_parts(
    threads: ThreadPoolExecutor,
) -> None:
    def keep(results: list[Any], *, weights: list[int]) -> Any:
        return results, weights

    with MultiWorker(same, 2, reduction=keep, executor=threads) as parallel_same:
        assert parallel_same([1, 2, 3]) == ([[1, 2], [3]], [2, 1])


# Progress ------------------------------------------------------------------


@pytest.mark.sample(1)
@pytest.mark.parametrize("n_processes", [1, 2])
@pytest.mark.parametrize("verbose", [True, False])
def test_progress_counts_elements(
    n_processes: int,
    verbose: bool,
    threads: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = []
    progress_bar = bars.progress_bar

    def keep_bar(**kwargs: Any) -> Any:
        kept.append(progress_bar(**kwargs))
        return kept[-1]

    monkeypatch.setattr(bars, "progress_bar", keep_bar)
    executor = threads if n_processes > 1 else None
    worker = MultiWorker(same, n_processes, verbose=verbose, executor=executor)
    with worker as parallel_same:
        parallel_same(list(range(7)))
    assert [(bar.n, bar.total) for bar in kept] == [(7, 7)] * verbose
    assert ("same" in capsys.readouterr().err) == verbose


# Processes -----------------------------------------------------------------


def test_processes_share_the_work() -> None:
    worker = MultiWorker(process_ids, 2, reduction=flatten_reduction)
    with worker as parallel_ids:
        ids = parallel_ids(list(range(5)))
        # The same processes serve every call
        assert set(parallel_ids(list(range(4)))) <= set(ids)
    assert os.getpid() not in {process for process, _ in ids}
    # A copy of a process with threads may hang
    assert {method for _, method in ids} == {"spawn"}


def test_one_worker_needs_no_process() -> None:
    with MultiWorker(process_ids, 1) as parallel_ids:
        assert parallel_ids([0])[0][0][0] == os.getpid()


def test_number_of_processes_is_chosen_for_the_machine() -> None:
    assert MultiWorker(same, None).n_processes == os.cpu_count()


def test_methods_work_in_processes() -> None:
    with MultiWorker(Scaler(3).apply, 2, reduction=max_reduction) as parallel_apply:
        assert parallel_apply([1, 2, 3], offset=1) == [10]


def test_exception_of_a_process_is_raised_and_the_pool_goes_on() -> None:
    with MultiWorker(fail, 2) as parallel_fail:
        with pytest.raises(KeyError, match="5"):
            parallel_fail([5, 6])
        with pytest.raises(KeyError, match="7"):
            parallel_fail([7, 8])


def test_what_cannot_be_pickled_is_said() -> None:
    lock = threading.Lock()
    with (
        MultiWorker(lambda items: lock, 2) as parallel_lock,
        pytest.raises(TypeError, match="cannot pickle"),
    ):
        parallel_lock([1, 2])


def test_death_of_a_process_is_explained() -> None:
    with (
        MultiWorker(die, 2) as parallel_die,
        pytest.raises(BrokenProcessPool) as raised,
    ):
        parallel_die([1, 2])
    assert "__main__" in "".join(raised.value.__notes__)


# Workers -------------------------------------------------------------------


settings: dict[str, int] = {}


def remember_number() -> None:
    settings["number"] = 10 * worker_number()


def numbers(items: list[Any]) -> list[tuple[int, int]]:
    time.sleep(0.3)
    return [(settings["number"], worker_number()) for _ in items]


def die_once(items: list[Path]) -> list[tuple[int, int]]:
    path = items[0]
    if path.exists():
        path.unlink()
        os._exit(3)
    return numbers(items)


def fail_to_start() -> None:
    raise OSError("no model")


def sleep(items: list[float]) -> list[int]:
    for seconds in items:
        time.sleep(seconds)
    return [os.getpid()]


def test_workers_know_their_number_and_are_initialized() -> None:
    worker = MultiWorker(
        numbers, 3, reduction=flatten_reduction, initializer=remember_number
    )
    with worker as parallel_numbers:
        for _ in range(2):
            assert sorted(parallel_numbers([1, 2, 3])) == [(0, 0), (10, 1), (20, 2)]
    assert worker_number() == 0
    assert settings == {}


def test_one_worker_is_initialized_in_the_calling_process() -> None:
    worker = MultiWorker(
        numbers, 1, reduction=flatten_reduction, initializer=remember_number
    )
    try:
        with worker as parallel_numbers:
            for _ in range(2):
                assert parallel_numbers([1, 2]) == [(0, 0)] * 2
                settings["number"] = 0
    finally:
        settings.clear()


def test_process_in_place_of_another_has_its_number(tmp_path: Path) -> None:
    worker = MultiWorker(die_once, 2, initializer=remember_number)
    (tmp_path / "b").touch()
    with worker as parallel_die:
        with pytest.raises(BrokenProcessPool):
            parallel_die([tmp_path / "a", tmp_path / "b"])
        results = parallel_die([tmp_path / "a", tmp_path / "b"])
    assert sorted(results) == [[(0, 0)], [(10, 1)]]


def test_failure_of_an_initializer_is_raised() -> None:
    with MultiWorker(same, 2, initializer=fail_to_start) as parallel_same:
        for _ in range(2):
            with pytest.raises(OSError, match="no model"):
                parallel_same([1, 2])


def test_initializer_is_checked(threads: ThreadPoolExecutor) -> None:
    with pytest.raises(TypeError, match="initializer must be callable, but is 3"):
        MultiWorker(same, 2, initializer=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give the initializer to the executor"):
        MultiWorker(same, 2, executor=threads, initializer=remember_number)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", True])
def test_timeout_is_checked(value: Any) -> None:
    with pytest.raises(ValueError, match="timeout must be a number of seconds"):
        MultiWorker(same, 2, timeout=value)


@pytest.mark.sample(1)
@pytest.mark.parametrize("n_processes", [1, 2])
def test_processes_that_hang_are_killed(n_processes: int) -> None:
    worker = MultiWorker(sleep, n_processes, timeout=60)
    with worker as parallel_sleep:
        pids = parallel_sleep([0.3] * n_processes)
        assert os.getpid() not in [pid for (pid,) in pids]
        worker.timeout = 0.5
        start = time.monotonic()
        with pytest.raises(TimeoutError, match=r"not done within 0\.5 seconds"):
            parallel_sleep([0.0, 60.0][-n_processes:])
        assert 0.5 <= time.monotonic() - start < 30
        worker.timeout = 60
        # The next call has new processes
        others = parallel_sleep([0.0] * n_processes)
        assert set(map(tuple, others)) != set(map(tuple, pids))


def test_executor_is_not_waited_for_in_vain(threads: ThreadPoolExecutor) -> None:
    end = threading.Event()

    def hang(items: list[int]) -> None:
        assert end.wait(30)

    worker = MultiWorker(hang, 2, executor=threads, timeout=0.1)
    with worker as parallel_hang, pytest.raises(TimeoutError, match="was not done"):
        parallel_hang([1, 2])
    end.set()


def test_timeout_of_the_function_is_its_own(threads: ThreadPoolExecutor) -> None:
    def fail(items: list[int]) -> None:
        raise TimeoutError("mine")

    worker = MultiWorker(fail, 2, executor=threads, timeout=10)
    with worker as parallel_fail, pytest.raises(TimeoutError, match="mine"):
        parallel_fail([1, 2])


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


def read_variable(items: list[int]) -> str:
    value = variable.get("default")
    variable.set("by the function")
    return value


@pytest.mark.parametrize("n_processes", [1, 2])
def test_context_variables_are_the_same_for_any_number_of_workers(
    n_processes: int,
) -> None:
    token = variable.set("of the caller")
    try:
        with MultiWorker(read_variable, n_processes) as parallel_read:
            assert set(parallel_read([1, 2])) == {"default"}
        assert variable.get() == "of the caller"
    finally:
        variable.reset(token)


def start_processes(items: list[int]) -> str:
    with MultiWorker(same, 2) as parallel_same:
        try:
            parallel_same(items)
        except RuntimeError as error:
            return str(error)
    return "started"


def test_daemonic_process_is_told_that_it_must_not_start_others() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        error = pool.apply(start_processes, ([1, 2],))
    assert error.startswith("A daemonic process")
    assert "n_processes=1" in error


# What processes cannot import ----------------------------------------------


NOTEBOOK = """\
import threading, time
from audmodel.parallel import MultiWorker, flatten_reduction

threading.Thread(target=time.sleep, args=(60,), daemon=True).start()

class OddError(Exception):
    pass

class Sample:
    def __init__(self, value):
        self.value = value

def check(samples):
    if any(sample.value == 13 for sample in samples):
        raise OddError("unlucky")
    return [Sample(factor * sample.value) for sample in samples]

factor = 2
samples = [Sample(value) for value in (1, 2, 3)]
with MultiWorker(check, 2, reduction=flatten_reduction) as parallel_check:
    results = parallel_check(samples)
    # The same process once more
    results += parallel_check(samples)
    try:
        parallel_check([Sample(13)])
    except OddError as error:
        print(error)
print([sample.value for sample in results], {type(sample) for sample in results})
"""


def test_function_and_classes_of_a_notebook() -> None:
    # Like there, the main module has no file, and there are threads
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", NOTEBOOK],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "unlucky",
        "[2, 4, 6, 2, 4, 6] {<class '__main__.Sample'>}",
    ]


def test_lambda_and_closure() -> None:
    factor = 3

    def multiply(items: list[int]) -> list[int]:
        return [factor * item for item in items]

    for function in (multiply, lambda items: [factor * item for item in items]):
        worker = MultiWorker(function, 2, reduction=flatten_reduction)
        with worker as parallel_multiply:
            assert parallel_multiply([1, 2]) == [3, 6]


GUARDED = """\
from audmodel.parallel import MultiWorker

if __name__ == "__main__":
    def double(items):
        return [2 * item for item in items]

    with MultiWorker(double, 2) as parallel_double:
        print(parallel_double([1, 2]))
"""


def test_function_of_the_guarded_part_of_a_script(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(GUARDED)
    result = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert (result.stdout, result.stderr) == ("[[2], [4]]\n", "")


SCRIPT = """\
from audmodel.parallel import MultiWorker, string_concatenation_reduction

def shout(words):
    return "".join(word.upper() for word in words)

{guard}
    with MultiWorker(
        shout, n_processes=2, reduction=string_concatenation_reduction
    ) as parallel_shout:
        print(parallel_shout(["a", "b", "c"]))
"""


@pytest.mark.parametrize("is_guarded", [True, False])
def test_function_of_a_script(is_guarded: bool, tmp_path: Path) -> None:
    guard = 'if __name__ == "__main__":' if is_guarded else "if True:"
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(guard=guard))
    result = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    if is_guarded:
        assert (result.stdout, result.stderr) == ("ABC\n", "")
    else:
        assert result.returncode == 1
        assert "must be in 'if __name__ == \"__main__\":'" in result.stderr
        # Of this process, and of one that has imported the script
        assert result.stderr.count(", in <module>\n") == 2


def test_given_executor_stays_open(threads: ThreadPoolExecutor) -> None:
    reduction = string_concatenation_reduction
    worker = MultiWorker("-".join, 2, reduction=reduction, executor=threads)
    with worker as parallel_join:
        assert parallel_join(["a", "b", "c"]) == "a-bc"
    future = threads.submit(int, "3")
    wait([future])
    assert future.result() == 3

"""Results are computed ahead, in order, and never too many of them."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import contextvars
import gc
import itertools
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from typing import Any
import weakref

import pytest

from audmodel.parallel import prefetch


def identity(item: Any) -> Any:
    return item


def worker_threads() -> list[str]:
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("audmodel-prefetch")
    ]


class Gate:
    """A function whose calls wait until they are let through."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.finished: list[int] = []
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, item: int) -> int:
        self.started.append(item)
        self.entered.release()
        assert self.open.wait(10)
        self.finished.append(item)
        return item


# Arguments -----------------------------------------------------------------


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", ["num_workers", "ahead"])
@pytest.mark.parametrize("value", [0, -1, True, False, 1.0, "2", [2]])
def test_numbers_are_checked_at_the_call(name: str, value: Any) -> None:
    with pytest.raises(
        ValueError, match=f"{name} must .* {value!r}".replace("[", r"\[")
    ):
        prefetch(identity, [1], **{name: value})


def test_num_workers_is_checked_before_ahead_is_derived() -> None:
    with pytest.raises(ValueError, match="num_workers"):
        prefetch(identity, [1], num_workers="many")  # type: ignore[arg-type]


def test_ahead_is_checked_with_one_worker_too() -> None:
    with pytest.raises(ValueError, match="ahead"):
        prefetch(identity, [1], num_workers=1, ahead=0)


def test_function_must_be_callable() -> None:
    with pytest.raises(TypeError, match="function must be callable, but is 3"):
        prefetch(3, [1])  # type: ignore[arg-type]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_items_must_be_iterable(num_workers: int) -> None:
    with pytest.raises(TypeError, match="not iterable"):
        prefetch(identity, 3, num_workers=num_workers)  # type: ignore[arg-type]


def test_number_of_workers_is_chosen_for_the_machine() -> None:
    assert list(prefetch(identity, range(9), num_workers=None)) == list(range(9))


# Failures ------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [1, 2, 5])
@pytest.mark.parametrize("ahead", [1, 3, None])
def test_exception_appears_at_the_place_of_its_item(
    num_workers: int,
    ahead: int | None,
) -> None:
    def fail_at_3(item: int) -> int:
        if item == 3:
            raise KeyError(item)
        return item

    results = prefetch(fail_at_3, range(9), num_workers=num_workers, ahead=ahead)
    assert list(itertools.islice(results, 3)) == [0, 1, 2]
    with pytest.raises(KeyError, match="3"):
        next(results)
    assert list(results) == []


@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_exception_of_items_comes_after_the_results_before_it(num_workers: int) -> None:
    def broken_items() -> Iterator[int]:
        yield 0
        yield 1
        raise OSError("no more items")

    results = prefetch(identity, broken_items(), num_workers=num_workers)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(OSError, match="no more items"):
        next(results)
    assert list(results) == []


def test_first_of_several_failures_counts() -> None:
    def broken_items() -> Iterator[int]:
        yield 0
        yield 1
        raise OSError

    def fail_at_1(item: int) -> int:
        return 1 // (1 - item)

    results = prefetch(fail_at_1, broken_items(), num_workers=3)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_stop_iteration_of_the_function_does_not_pass_as_the_end(
    num_workers: int,
) -> None:
    def stop(_: int) -> int:
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        list(prefetch(stop, [1, 2], num_workers=num_workers))


class Interrupted:
    """Items that end with what the handler of a signal may raise."""

    def __init__(self, error: BaseException) -> None:
        self.items = [1, 0]
        self.error = error

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if not self.items:
            raise self.error
        return self.items.pop()


INTERRUPTIONS = [KeyboardInterrupt(), SystemExit(1), GeneratorExit()]


@pytest.mark.parametrize("error", INTERRUPTIONS, ids=repr)
def test_interruption_while_items_are_read_is_not_deferred(
    error: BaseException,
) -> None:
    aborted = threading.Event()

    def call(_: int) -> None:
        assert aborted.wait(10)

    results = prefetch(call, Interrupted(error), num_workers=3, on_abort=aborted.set)
    with pytest.raises(type(error)) as raised:
        next(results)
    assert raised.value is error
    assert list(results) == []
    assert worker_threads() == []


@pytest.mark.parametrize("error", INTERRUPTIONS, ids=repr)
def test_interruption_with_one_worker_comes_after_the_results(
    error: BaseException,
) -> None:
    results = prefetch(identity, Interrupted(error), num_workers=1)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(type(error)):
        next(results)


def test_failure_keeps_nothing_alive() -> None:
    class Result:
        pass

    references = []

    def fail_at_1(item: int) -> Result:
        if item == 1:
            raise ValueError
        result = Result()
        references.append(weakref.ref(result))
        return result

    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ValueError):  # noqa: PT011
            for _ in prefetch(fail_at_1, range(4)):
                pass
        del _
        assert [reference() for reference in references] == [None] * len(references)
    finally:
        gc.enable()


# Leaving early -------------------------------------------------------------


def leave_by_closing(results: Any) -> None:
    results.close()


def leave_by_throwing(results: Any) -> None:
    with pytest.raises(InterruptedError):
        results.throw(InterruptedError)


@pytest.mark.parametrize("leave", [leave_by_closing, leave_by_throwing])
def test_leaving_cancels_what_waits_and_waits_for_what_runs(
    leave: Callable[[Any], None],
) -> None:
    gate = Gate()
    items = itertools.chain([-1], itertools.count())
    results = prefetch(
        lambda item: item if item < 0 else gate(item),
        items,
        num_workers=2,
        ahead=8,
    )
    assert next(results) == -1
    for _ in range(2):
        assert gate.entered.acquire(timeout=10)
    assert len(worker_threads()) == 2
    threading.Timer(0.05, gate.open.set).start()
    leave(results)
    assert sorted(gate.started) == sorted(gate.finished) == [0, 1]
    assert worker_threads() == []
    assert list(results) == []


def test_leaving_the_loop_leaves_no_thread() -> None:
    for result in prefetch(identity, itertools.count(), num_workers=4):
        if result == 20:
            break
    assert worker_threads() == []


def test_exception_in_the_loop_leaves_no_thread() -> None:
    def consume() -> None:
        for _ in prefetch(identity, itertools.count()):
            raise RuntimeError("of the consumer")

    with pytest.raises(RuntimeError, match="of the consumer"):
        consume()
    assert worker_threads() == []


def test_generator_may_be_collected_by_its_own_worker() -> None:
    class Holder:
        results: Any

    collected = threading.Event()
    holder = Holder()
    reference = weakref.ref(holder)

    def collect(item: int) -> int:
        if item == 1:
            assert dropped.wait(10)
            gc.collect()
            collected.set()
        return item

    dropped = threading.Event()
    gc.disable()
    try:
        holder.results = prefetch(collect, itertools.count(), ahead=2)
        # Ties the generator into a cycle that only the collector can undo
        holder.results = itertools.chain([holder], holder.results)
        next(holder.results)
        assert next(holder.results) == 0
        del holder
        dropped.set()
        assert collected.wait(10)
        assert reference() is None
    finally:
        gc.enable()
    end = time.monotonic() + 10
    while worker_threads() and time.monotonic() < end:
        time.sleep(0.001)


@pytest.mark.parametrize("leave", [leave_by_closing, leave_by_throwing])
def test_long_calls_are_told_to_stop_and_no_other_starts(
    leave: Callable[[Any], None],
) -> None:
    gate = Gate()
    aborts = []

    def abort() -> None:
        aborts.append(sorted(gate.finished))
        gate.open.set()

    results = prefetch(
        lambda item: gate(item) if item else None,
        itertools.count(),
        ahead=8,
        on_abort=abort,
    )
    assert next(results) is None
    for _ in range(2):
        assert gate.entered.acquire(timeout=10)
    leave(results)
    results.close()
    assert aborts == [[]]
    assert sorted(gate.finished) == [1, 2]


def test_failure_tells_other_calls_to_stop() -> None:
    stop = threading.Event()

    def fail_at_0(item: int) -> bool:
        return 1 // item > 0 and stop.wait(10)

    with pytest.raises(ZeroDivisionError):
        list(prefetch(fail_at_0, range(2), on_abort=stop.set))
    assert stop.is_set()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_nobody_is_told_to_stop_at_the_end(num_workers: int) -> None:
    aborts: list[None] = []
    results = prefetch(
        identity,
        range(9),
        num_workers=num_workers,
        on_abort=lambda: aborts.append(None),
    )
    assert list(results) == list(range(9))
    assert aborts == []


def test_failure_to_tell_leaves_no_thread() -> None:
    def fail() -> None:
        raise OSError("cannot abort")

    results = prefetch(identity, itertools.count(), on_abort=fail)
    next(results)
    with pytest.raises(OSError, match="cannot abort"):
        results.close()
    assert worker_threads() == []


def test_interpreter_ends_while_a_generator_is_open() -> None:
    script = (
        "import itertools; from audmodel.parallel import prefetch;"
        "results = prefetch(abs, itertools.count(), num_workers=3);"
        "print(next(results))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (result.stdout, result.stderr) == ("0\n", "")


# Work ----------------------------------------------------------------------


@pytest.mark.sample(6)
@pytest.mark.parametrize("num_workers", [1, 2, 7])
@pytest.mark.parametrize("ahead", [1, 2, 50, None])
@pytest.mark.parametrize("length", [0, 1, 2, 20])
def test_results_come_in_order(
    num_workers: int, ahead: int | None, length: int
) -> None:
    def square_later(item: int) -> int:
        time.sleep(0.0005 * (item % 3))
        return item * item

    results = prefetch(
        square_later,
        range(length),
        num_workers=num_workers,
        ahead=ahead,
    )
    assert list(results) == [item * item for item in range(length)]
    assert worker_threads() == []


def test_one_worker_is_the_calling_thread_and_computes_on_demand() -> None:
    calls = []

    def note(item: int) -> int:
        calls.append((item, threading.current_thread()))
        return item

    results = prefetch(note, itertools.count(), num_workers=1, ahead=5)
    assert calls == []
    assert next(results) == 0
    assert calls == [(0, threading.current_thread())]
    assert next(results) == 1
    assert len(calls) == 2


def test_nothing_happens_before_the_first_result_is_asked_for() -> None:
    calls: list[int] = []
    items = iter([1, 2, 3])
    results = prefetch(calls.append, items)
    assert worker_threads() == []
    assert calls == []
    results.close()
    assert list(items) == [1, 2, 3]


def test_workers_run_at_the_same_time() -> None:
    together = threading.Barrier(3)
    results = prefetch(lambda _: together.wait(10), range(6), num_workers=3)
    assert sorted(results) == [0, 0, 1, 1, 2, 2]


# Threads that the system does not allow ---------------------------------------


@pytest.fixture
def few_threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many more threads can be started."""
    left = [0]
    start = threading.Thread.start

    def start_one(thread: threading.Thread) -> None:
        if not left[0]:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)
    return left


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_it_goes_on_with_the_threads_there_are(
    few_threads: list[int], allowed: int
) -> None:
    few_threads[0] = allowed
    calls = []

    def call(item: int) -> int:
        calls.append(item)
        time.sleep(0.002)
        return 2 * item

    results = list(prefetch(call, range(50), num_workers=4))
    assert results == [2 * item for item in range(50)]
    # No call is made twice
    assert sorted(calls) == list(range(50))
    assert worker_threads() == []


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_all_threads_are_busy(few_threads: list[int], allowed: int) -> None:
    few_threads[0] = allowed
    together = threading.Barrier(allowed + 1)
    results = prefetch(lambda _: together.wait(10), range(6), num_workers=4)
    assert sorted(results) == sorted(list(range(allowed + 1)) * (6 // (allowed + 1)))


def test_an_interruption_with_few_threads_is_not_late(few_threads: list[int]) -> None:
    few_threads[0] = 1
    gate = threading.Event()

    def interrupted(item: int) -> None:
        if item:
            gate.set()
            raise KeyboardInterrupt
        # The first one is at work in the only thread
        assert gate.wait(10)
        time.sleep(0.3)

    with pytest.raises(KeyboardInterrupt):
        next(prefetch(interrupted, range(3), num_workers=3))


@pytest.mark.parametrize("allowed", [0, 1])
def test_failure_with_few_threads(few_threads: list[int], allowed: int) -> None:
    few_threads[0] = allowed
    results = prefetch(lambda item: 1 // item, [1, 1, 0, 1], num_workers=3)
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert worker_threads() == []


def test_items_are_read_in_the_thread_of_the_consumer() -> None:
    readers = []

    def items() -> Iterator[int]:
        for item in range(5):
            readers.append(threading.current_thread())
            yield item

    assert list(prefetch(identity, items())) == list(range(5))
    assert set(readers) == {threading.current_thread()}


# The bound -----------------------------------------------------------------


@pytest.mark.parametrize(("num_workers", "ahead"), [(2, None), (2, 1), (3, 2), (2, 9)])
def test_no_more_than_ahead_are_started_and_not_taken(
    num_workers: int,
    ahead: int | None,
) -> None:
    bound = ahead or 2 * num_workers
    lock = threading.Lock()
    started = taken = excess = 0

    def count(item: int) -> int:
        nonlocal started, excess
        with lock:
            started += 1
            excess = max(excess, started - taken - bound)
        return item

    reads = 0

    def items() -> Iterator[int]:
        nonlocal reads, excess
        for item in range(300):
            reads += 1
            with lock:
                excess = max(excess, reads - taken - bound)
            yield item

    for result in prefetch(count, items(), num_workers=num_workers, ahead=ahead):
        with lock:
            taken += 1
        if result % 50 == 0:
            # Workers that could go too far would do so now
            time.sleep(0.01)
    assert taken == 300
    assert excess <= 0


@pytest.mark.thorough
def test_slow_consumer_of_ten_thousand_items_needs_flat_memory() -> None:
    size = 100_000
    alive = most = 0
    lock = threading.Lock()

    class Chunk:
        def __init__(self) -> None:
            nonlocal alive, most
            self.data = bytes(size)
            with lock:
                alive += 1
                most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            with lock:
                alive -= 1

    tracemalloc.start()
    try:
        peaks = []
        before, _ = tracemalloc.get_traced_memory()
        results = prefetch(lambda _: Chunk(), range(10_000), num_workers=2)
        for number, _ in enumerate(results, start=1):
            # The workers need a fraction of this for a chunk
            time.sleep(0.00005)
            if number % 1000 == 0:
                peaks.append(tracemalloc.get_traced_memory()[1] - before)
                tracemalloc.reset_peak()
        del _
    finally:
        tracemalloc.stop()
    assert alive == 0
    # Four ahead, and the one that the consumer has in hand until it gets the next
    assert most <= 5
    assert len(peaks) == 10
    assert max(peaks) < 8 * size


def test_taken_result_is_not_kept() -> None:
    class Result:
        pass

    results = prefetch(lambda _: Result(), itertools.count())
    reference = weakref.ref(next(results))
    assert reference() is None
    results.close()


# Context and forks ---------------------------------------------------------


variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_calls_see_the_context_of_who_asks_for_results(num_workers: int) -> None:
    def read_and_set(item: int) -> int:
        value = variable.get()
        variable.set(100)
        return value

    def ask() -> None:
        results = prefetch(read_and_set, range(4), num_workers=num_workers, ahead=1)
        for number in range(1, 4):
            variable.set(number)
            assert next(results) == number
        results.close()
        # What a call sets stays its own
        assert variable.get() == 3

    contextvars.copy_context().run(ask)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.parametrize("num_workers", [1, 2])
def test_fork_does_not_wait_for_threads_that_it_does_not_have(num_workers: int) -> None:
    script = f"""
import os, warnings
from audmodel.parallel import prefetch

# Of forks next to threads
warnings.simplefilter("ignore")
results = prefetch(str, range(5), num_workers={num_workers})
assert next(results) == "0"
process = os.fork()
if process:
    # One after the other, so that lines do not mix
    os.waitpid(process, 0)
try:
    print(*results)
except RuntimeError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert result.stderr == ""
    of_fork, of_parent = result.stdout.splitlines()
    assert of_parent == "1 2 3 4"
    if num_workers == 1:
        assert of_fork == "1 2 3 4"
    else:
        assert "of which this one is a fork" in of_fork

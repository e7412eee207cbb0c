"""Tasks of many callers pass through handlers in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Coroutine
import concurrent.futures
from concurrent.futures.process import BrokenProcessPool
import copyreg
import math
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time
import traceback
from typing import Any

import psutil
import pytest

from audmodel.parallel import BaseTask
from audmodel.parallel import BaseTaskHandler
from audmodel.parallel import Flow
from audmodel.parallel import FlowStep
from audmodel.parallel import NotRunningError


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end, where nothing may be left on the event loop."""

    async def main() -> Any:
        async with asyncio.timeout(60):
            result = await coroutine
        for _ in range(3):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return asyncio.run(main())


class Number(BaseTask):
    def __init__(self, value: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.value = value
        self.result: Any = None


class Add(BaseTaskHandler):
    def __init__(self, summand: int = 0) -> None:
        self.summand = summand
        self.batches: list[list[int]] = []

    def handle(self, *tasks: Number) -> None:
        self.batches.append([task.value for task in tasks])
        for task in tasks:
            task.value += self.summand
            task.result = task.value


class Gated(BaseTaskHandler):
    """Holds each batch until it is let through."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Semaphore(0)
        self.permits = threading.Semaphore(0)

    def handle(self, *tasks: Number) -> None:
        self.batches.append([task.value for task in tasks])
        self.entered.release()
        assert self.permits.acquire(timeout=10)
        for task in tasks:
            if task.value < 0:
                raise KeyError(task.value)
            task.result = task.value

    async def has_entered(self) -> None:
        while not self.entered.acquire(blocking=False):
            await asyncio.sleep(0.0005)


class Raise(BaseTaskHandler):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def handle(self, *tasks: Number) -> None:
        raise self.error


class FailingStart(BaseTaskHandler):
    def on_start(self) -> None:
        raise OSError("no model")


class Model(BaseTaskHandler):
    """Loads something on start that the calling process does not have."""

    def __init__(self) -> None:
        self.starts = 0
        self.place: Any = None

    def on_start(self) -> None:
        self.starts += 1
        self.place = os.getpid(), threading.get_ident()

    def handle(self, *tasks: Number) -> None:
        for task in tasks:
            task.result = (
                self.starts,
                self.place == (os.getpid(), threading.get_ident()),
                os.getpid(),
            )


class Trouble(BaseTaskHandler):
    """Does what the task says, in whatever process it is."""

    def __init__(self, fail_on_start: Path) -> None:
        self.starts = 0
        self.fail_on_start = fail_on_start

    def on_start(self) -> None:
        self.starts += 1
        if self.fail_on_start.exists():
            raise OSError("no model")

    def handle(self, *tasks: Number) -> None:
        for task in tasks:
            if task.value < 0:
                os._exit(3)
            if task.value == 0:
                raise KeyError("zero")
            if task.value == 99:
                signal.raise_signal(signal.SIGINT)
            task.result = self.starts, os.getpid()


class TwoArgumentsError(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"real cause {first} {second}")


class Unloadable:
    """Can be pickled, but not unpickled."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class Unwieldy(Model):
    """Raises or returns what cannot be unpickled."""

    def handle(self, *tasks: Number) -> None:
        super().handle(*tasks)
        for task in tasks:
            if task.value == 0:
                raise TwoArgumentsError(1, 2)
            if task.value < 0:
                task.result = Unloadable()


class Slotted(BaseTask):
    __slots__ = ("extra", "value")

    extra: str

    def __init__(self, value: int) -> None:
        self.value = value
        self.result: Any = None


class Guarded(Number):
    """Not all of it may travel."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"value": self.value, "result": self.result}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["value"] == 13:
            raise ValueError("unlucky")
        self.__dict__.update(state)


class SetExtra(BaseTaskHandler):
    def handle(self, *tasks: Any) -> None:
        for task in tasks:
            task.value += 1
            task.extra = "extra"
            task.result = "result"


async def gather(flow: Flow, values: Any, **kwargs: Any) -> list[Any]:
    return await asyncio.gather(
        *(flow.process(Number(value), **kwargs) for value in values),
        return_exceptions=True,
    )


def start_all(flow: Flow, values: Any, **kwargs: Any) -> list[asyncio.Task[Number]]:
    return [
        asyncio.create_task(flow.process(Number(value), **kwargs)) for value in values
    ]


# Mistakes ------------------------------------------------------------------


def test_flow_needs_a_step() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        Flow()


@pytest.mark.parametrize("step", [None, Add, "step"])
def test_step_must_be_a_step(step: Any) -> None:
    with pytest.raises(TypeError, match="step must be a FlowStep object, but is"):
        Flow(step)


@pytest.mark.parametrize("handler", [None, Add, print])
def test_handler_must_be_a_handler(handler: Any) -> None:
    with pytest.raises(TypeError, match="handler must be a BaseTaskHandler object"):
        FlowStep(handler)


def test_handler_must_not_be_a_coroutine_function() -> None:
    class Async(BaseTaskHandler):
        async def handle(self, *tasks: Number) -> None:  # type: ignore[override]
            """Would never be awaited."""

    with pytest.raises(TypeError, match=r"Async.handle\(\) must be a plain function"):
        FlowStep(Async())


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", ["batch_size", "num_workers"])
@pytest.mark.parametrize("value", [0, -1, True, 2.0, None])
def test_sizes_of_a_step_are_checked(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a positive integer"):
        FlowStep(Add(), **{name: value})


@pytest.mark.sample(2)
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, True, "1", None])
def test_batch_timeout_is_checked(value: Any) -> None:
    with pytest.raises(ValueError, match=f"batch_timeout must .* but is {value!r}"):
        FlowStep(Add(), batch_timeout=value)


@pytest.mark.parametrize("value", [0, True, 1.5])
def test_max_tasks_is_checked(value: Any) -> None:
    with pytest.raises(ValueError, match="max_tasks must be a positive integer"):
        Flow(Add(), max_tasks=value)


@pytest.mark.parametrize("task", [None, 1, Number])
def test_task_must_be_a_task(task: Any) -> None:
    async def main() -> None:
        async with Flow(Add()) as flow:
            with pytest.raises(TypeError, match="task must be a BaseTask object"):
                await flow.process(task)

    run(main())


@pytest.mark.sample(2)
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, True, "1"])
def test_timeout_is_checked(value: Any) -> None:
    async def main() -> None:
        async with Flow(Add()) as flow:
            with pytest.raises(ValueError, match="timeout must be a number of seconds"):
                await flow.process(Number(1), timeout=value)

    run(main())


def test_handler_must_implement_handle() -> None:
    async def main() -> None:
        async with Flow(BaseTaskHandler()) as flow:
            with pytest.raises(NotImplementedError, match="BaseTaskHandler must"):
                await flow.process(Number(1))

    run(main())


# Start and stop ------------------------------------------------------------


def test_flow_takes_no_task_before_its_start() -> None:
    async def main() -> None:
        flow = Flow(Add())
        with pytest.raises(NotRunningError, match="is not started"):
            await flow.process(Number(1))
        # Nothing to stop
        await flow.stop()
        async with flow:
            await flow.process(Number(1))

    run(main())


def test_flow_takes_no_task_after_its_end() -> None:
    async def main() -> None:
        async with Flow(Add()) as flow:
            pass
        with pytest.raises(NotRunningError, match="is stopped"):
            await flow.process(Number(1))
        await flow.stop()
        with pytest.raises(RuntimeError, match=r"is stopped.* only once"):
            flow.start()

    run(main())


def test_flow_cannot_be_started_twice() -> None:
    async def main() -> None:
        async with Flow(Add()) as flow:
            with pytest.raises(RuntimeError, match=r"is running.* only once"):
                flow.start()
            with pytest.raises(RuntimeError, match=r"is running.* only once"):
                await flow.__aenter__()
            # Which it does not mind
            await flow.process(Number(1))

    run(main())


@pytest.mark.parametrize("process", [False, True])
def test_failing_start_is_raised_and_leaves_nothing(process: bool) -> None:
    async def main() -> None:
        flow = Flow(Add(), FlowStep(FailingStart(), process=process))
        with pytest.raises(OSError, match="no model"):
            async with flow:
                pytest.fail("must not get here")  # pragma: no cover
        with pytest.raises(RuntimeError, match="is stopped"):
            flow.start()
        await flow.stop()

    run(main())


def test_failing_start_without_event_loop() -> None:
    flow = Flow(FailingStart())
    with pytest.raises(OSError, match="no model"):
        flow.start()


def test_start_waits_until_handlers_are_ready() -> None:
    class Slow(BaseTaskHandler):
        ready = False

        def on_start(self) -> None:
            time.sleep(0.02)
            self.ready = True

        def handle(self, *tasks: Number) -> None:
            """Not called."""

    async def main() -> None:
        handler = Slow()
        flow = Flow(handler)
        flow.start()
        assert handler.ready
        await flow.stop()

    run(main())


def test_start_does_not_block_the_event_loop_in_a_context() -> None:
    class Blocked(Add):
        def on_start(self) -> None:
            assert released.wait(10)

    async def release() -> None:
        released.set()

    async def main() -> None:
        releasing = asyncio.create_task(release())
        async with Flow(Blocked()) as flow:
            await flow.process(Number(1))
        await releasing

    released = threading.Event()
    run(main())


@pytest.mark.parametrize("fails", [False, True])
def test_cancelled_start_leaves_nothing(fails: bool) -> None:
    class Blocked(Add):
        def on_start(self) -> None:
            entered.set()
            assert released.wait(10)
            if fails:
                raise OSError("no model")

    async def enter(flow: Flow) -> None:
        async with flow:
            pytest.fail("must not get here")  # pragma: no cover

    async def main() -> None:
        flow = Flow(Blocked())
        entering = asyncio.create_task(enter(flow))
        while not entered.is_set():
            await asyncio.sleep(0.001)
        entering.cancel()
        await asyncio.sleep(0)
        assert not entering.done()
        released.set()
        with pytest.raises(asyncio.CancelledError):
            await entering
        with pytest.raises(NotRunningError, match="is stopped"):
            await flow.process(Number(1))

    entered, released = threading.Event(), threading.Event()
    run(main())


def test_stop_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    async def main() -> None:
        handler = Gated()
        flow = Flow(FlowStep(handler, batch_size=2), Add(), max_tasks=3)
        flow.start()
        accepted = start_all(flow, range(8))
        await handler.has_entered()
        stopping = asyncio.create_task(flow.stop())
        await asyncio.sleep(0)
        with pytest.raises(NotRunningError, match="is stopping"):
            await flow.process(Number(9))
        also_stopping = asyncio.create_task(flow.stop())
        handler.permits.release(10)
        tasks = await asyncio.gather(*accepted)
        assert [task.result for task in tasks] == list(range(8))
        await asyncio.gather(stopping, also_stopping)

    run(main())


def test_stop_may_be_cancelled_and_called_again() -> None:
    async def main() -> None:
        handler = Gated()
        flow = Flow(handler)
        flow.start()
        accepted = start_all(flow, [1])
        await handler.has_entered()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await flow.stop()
        handler.permits.release()
        await flow.stop()
        assert (await accepted[0]).result == 1

    run(main())


def test_stop_does_not_wait_for_batches_to_fill() -> None:
    async def main() -> None:
        flow = Flow(FlowStep(Add(), batch_size=9, batch_timeout=1000))
        flow.start()
        accepted = start_all(flow, [1, 2])
        await asyncio.sleep(0.001)
        await flow.stop()
        assert [task.result() is not None for task in accepted] == [True, True]

    run(main())


def test_exception_in_the_context_stops_the_flow() -> None:
    async def fail_in(flow: Flow) -> None:
        async with flow:
            await flow.process(Number(1))
            raise ZeroDivisionError

    async def main() -> None:
        flow = Flow(Add())
        with pytest.raises(ZeroDivisionError):
            await fail_in(flow)
        with pytest.raises(NotRunningError):
            await flow.process(Number(1))

    run(main())


def test_flow_may_be_started_before_the_event_loop() -> None:
    flow = Flow(Add(1))
    flow.start()

    async def main() -> Any:
        task = await flow.process(Number(1))
        await flow.stop()
        return task.result

    assert run(main()) == 2


def test_flow_belongs_to_one_event_loop() -> None:
    def other_loop() -> None:
        for use in (flow.stop, lambda: flow.process(Number(2))):
            with pytest.raises(RuntimeError, match="another event loop"):
                asyncio.run(use())
        refused.set()

    async def main() -> None:
        async with flow:
            await flow.process(Number(1))
            thread = threading.Thread(target=other_loop)
            thread.start()
            while thread.is_alive():
                await asyncio.sleep(0.001)
            thread.join()

    refused = threading.Event()
    flow = Flow(Add())
    run(main())
    assert refused.is_set()


def test_flow_survives_its_event_loop() -> None:
    handler = Gated()
    flow = Flow(handler)
    flow.start()

    async def leave_it() -> None:
        start_all(flow, [1])
        await handler.has_entered()

    async def go_on() -> Any:
        handler.permits.release(2)
        task = await flow.process(Number(2))
        await flow.stop()
        return task.result

    asyncio.run(leave_it())
    assert run(go_on()) == 2
    assert handler.batches == [[1], [2]]


# Failures of handlers ------------------------------------------------------


def test_exception_reaches_exactly_the_tasks_of_its_batch() -> None:
    async def main() -> None:
        handler = Gated()
        handler.permits.release(100)
        async with Flow(FlowStep(handler, batch_size=2), Add()) as flow:
            results = await gather(flow, [1, 2, -3, 4, 5, 6])
        assert handler.batches == [[1, 2], [-3, 4], [5, 6]]
        kinds = [type(result) for result in results]
        assert kinds == [Number, Number, KeyError, KeyError, Number, Number]

    run(main())


def _with_notes(error: Exception) -> Exception:
    error.add_note("of the handler")
    error.__cause__ = KeyError("cause")
    error.extra = [1]  # type: ignore[attr-defined]
    return error


def _without_attributes(error: Exception) -> tuple[Any, ...]:
    return _made_without_init, (type(error), error.args)


def _made_without_init(kind: type[Exception], arguments: Any) -> Exception:
    return kind.__new__(kind, *arguments)


@pytest.mark.parametrize("registered", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: ValueError("text", 2),
        lambda: KeyError("key"),
        lambda: FileNotFoundError(2, "no such file", "model.onnx"),
        lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid byte"),
        lambda: TwoArgumentsError(1, 2),
        lambda: ExceptionGroup("several", [KeyError(1), OSError(2)]),
        lambda: SystemExit(3),
    ],
    ids=["args", "key", "errno", "unicode", "init", "group", "exit"],
)
def test_each_caller_of_a_batch_gets_an_exception_of_its_own(
    make: Callable[[], Exception], registered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = make()
    if registered:
        # As packages do that pickle tracebacks
        monkeypatch.setitem(copyreg.dispatch_table, type(error), _without_attributes)

    async def main() -> None:
        handler = Raise(_with_notes(error))
        async with Flow(FlowStep(handler, batch_size=4)) as flow:
            errors = await gather(flow, [1, 2, 3, 4])
        assert len({id(error) for error in errors}) == 4
        assert len({repr(error) for error in errors}) == 1
        assert len({str(error) for error in errors}) == 1
        first, *others = errors
        first.add_note("of the first caller")
        first.__context__ = ValueError("of the first caller")
        for other in others:
            assert type(other) is type(first)
            assert repr(other.__cause__) == repr(first.__cause__)
            assert other.__context__ is not first.__context__
            assert "of the first caller" not in getattr(other, "__notes__", [])
            assert getattr(other, "filename", None) == getattr(first, "filename", None)
            text = "".join(traceback.format_exception(other))
            assert "in handle\n" in text
            if not isinstance(error, SystemExit):
                assert other.__notes__ == ["of the handler"]
                assert other.extra == [1]

    run(main())


class UnusualError(Exception):
    """Its type allows no copy."""

    def __new__(cls, *, code: int) -> UnusualError:
        return super().__new__(cls)

    def __init__(self, *, code: int) -> None:
        self.code = code


def _linked_error() -> Exception:
    """An exception of a group, with others in all places, and a cycle."""
    member = ValueError("member", ["argument"])
    error = ExceptionGroup("group", [ExceptionGroup("inner", [member])])
    error.__cause__ = KeyError("cause")
    error.__context__ = OSError("context")
    error.__context__.__context__ = member
    member.__context__ = error
    error.found = {"list": [RuntimeError("found")]}  # type: ignore[attr-defined]
    return error


def _belonging(error: Any) -> list[Any]:
    inner = error.exceptions[0]
    return [
        error,
        error.args[1],
        inner,
        inner.exceptions[0],
        inner.exceptions[0].args[1],
        error.__cause__,
        error.__context__,
        error.found,
        error.found["list"],
        error.found["list"][0],
    ]


async def _two_errors(error: Exception) -> list[Any]:
    async with Flow(FlowStep(Raise(error), batch_size=2)) as flow:
        return await gather(flow, [1, 2])


def test_copies_for_callers_share_nothing_that_they_may_change() -> None:
    first, second = run(_two_errors(_linked_error()))
    for one, other in zip(_belonging(first), _belonging(second)):
        assert repr(one) == repr(other)
        assert one is not other
    for error in (first, second):
        member = error.exceptions[0].exceptions[0]
        assert error.args[1] == list(error.exceptions)
        assert error.__context__.__context__ is member
        assert member.__context__ is error
    first.exceptions[0].add_note("of the first caller")
    first.found["list"].append("of the first caller")
    assert "of the first caller" not in "".join(traceback.format_exception(second))
    assert len(second.found["list"]) == 1


class SlotsError(Exception):
    """Keeps what it knows where vars() does not find it."""

    __slots__ = ("__hidden", "found", "missing")

    def __init__(self, found: object) -> None:
        super().__init__()
        self.found = found
        self.__hidden = [found]

    def __str__(self) -> str:
        return f"{self.found} {self.__hidden}"


class MoreSlotsError(SlotsError):
    __slots__ = ("more",)
    more: int


@pytest.mark.parametrize("kind", [SlotsError, MoreSlotsError])
def test_copies_have_what_is_in_slots(kind: type[SlotsError]) -> None:
    error = kind(["x"])
    if isinstance(error, MoreSlotsError):
        error.more = 5
    first, second = run(_two_errors(error))
    assert str(first) == str(second) == "['x'] [['x']]"
    assert first.found is not second.found
    assert getattr(second, "more", 5) == 5
    assert not hasattr(second, "missing")


def test_copies_of_a_long_chain_of_exceptions() -> None:
    error = last = ValueError(0)
    for number in range(5000):
        last.__context__ = ValueError(number)
        last = last.__context__
    first, second = run(_two_errors(error))
    while first is not None:
        assert first is not second
        first, second = first.__context__, second.__context__
    assert second is None


def test_exception_that_cannot_be_copied_reaches_all_callers() -> None:
    error = UnusualError(code=3)
    assert run(_two_errors(error)) == [error, error]
    with_cause = ValueError()
    with_cause.__cause__ = error
    assert [e.__cause__ for e in run(_two_errors(with_cause))] == [error, error]


def test_copies_share_what_is_neither_exception_nor_container() -> None:
    error = ValueError()
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    first, second = run(_two_errors(error))
    assert first.lock is second.lock


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "error",
    [
        SystemExit(1),
        KeyboardInterrupt(),
        StopIteration(1),
        asyncio.CancelledError(),
        GeneratorExit(),
    ],
)
def test_what_would_disturb_the_event_loop_is_wrapped(error: BaseException) -> None:
    async def main() -> None:
        async with Flow(Raise(error)) as flow:
            with pytest.raises(RuntimeError, match="Raise raised") as raised:
                await flow.process(Number(1))
            assert raised.value.__cause__ is error

    run(main())


@pytest.mark.parametrize(
    "error",
    [TimeoutError("mine"), concurrent.futures.CancelledError("mine")],
)
def test_timeout_of_a_handler_stays_its_own(error: Exception) -> None:
    async def main() -> None:
        async with Flow(Raise(error)) as flow:
            with pytest.raises(type(error), match="mine"):
                await flow.process(Number(1), timeout=50)

    run(main())


def test_lack_of_processes_reaches_the_tasks(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def no_pipe(*args: Any, **kwargs: Any) -> Any:
        raise OSError("too many open files")

    async def main() -> None:
        step = FlowStep(Trouble(tmp_path / "fail"), process=True)
        async with Flow(step) as flow, asyncio.timeout(30):
            with monkeypatch.context() as patch:
                patch.setattr("multiprocessing.connection.Pipe", no_pipe)
                died, refused = await gather(flow, [-1, 1])
            assert isinstance(died, BrokenProcessPool)
            assert str(refused) == "too many open files"
            assert (await flow.process(Number(1))).result[0] == 1

    run(main())


def test_lack_of_threads_reaches_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        handler = Add()
        # The second worker gets its thread with its first batch
        async with Flow(FlowStep(handler, num_workers=2)) as flow:

            def no_threads(self: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", no_threads)
                handled, refused = await gather(flow, [1, 2])
            assert handled.result == 1
            assert str(refused).startswith(
                "No thread can be started: can't start new thread."
            )
            assert [task.result for task in await gather(flow, [3, 4])] == [3, 4]
        # The one that was refused is not handled later
        assert sorted(handler.batches) == [[1], [3], [4]]

    run(main())


# Batches -------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 8, 20])
def test_batches_are_what_waits_up_to_their_size(batch_size: int) -> None:
    async def main() -> None:
        handler = Add()
        flow = Flow(FlowStep(handler, batch_size=batch_size), max_tasks=100)
        async with flow:
            await gather(flow, range(7))
        expected = [
            list(range(7))[start : start + batch_size]
            for start in range(0, 7, batch_size)
        ]
        assert handler.batches == expected

    run(main())


def test_lonely_task_does_not_wait_for_others() -> None:
    async def main() -> None:
        handler = Add()
        async with Flow(FlowStep(handler, batch_size=100)) as flow:
            assert (await flow.process(Number(1), timeout=10)).result == 1
        assert handler.batches == [[1]]

    run(main())


def test_what_arrives_during_a_batch_is_the_next_one() -> None:
    async def main() -> None:
        handler = Gated()
        async with Flow(FlowStep(handler, batch_size=8)) as flow:
            tasks = start_all(flow, [1])
            await handler.has_entered()
            tasks += start_all(flow, [2, 3])
            await asyncio.sleep(0.001)
            tasks += start_all(flow, [4])
            await asyncio.sleep(0.001)
            handler.permits.release(2)
            await asyncio.gather(*tasks)
        assert handler.batches == [[1], [2, 3, 4]]

    run(main())


def test_batch_timeout_allows_to_wait_for_a_full_batch() -> None:
    async def main() -> None:
        handler = Add()
        async with Flow(FlowStep(handler, batch_size=3, batch_timeout=1000)) as flow:
            tasks = start_all(flow, [1, 2])
            await asyncio.sleep(0.002)
            assert handler.batches == []
            tasks += start_all(flow, [3])
            await asyncio.gather(*tasks)
        assert handler.batches == [[1, 2, 3]]

    run(main())


def test_batch_timeout_is_no_longer_than_it_says() -> None:
    async def main() -> None:
        handler = Add()
        loop = asyncio.get_running_loop()
        async with Flow(FlowStep(handler, batch_size=9, batch_timeout=0.03)) as flow:
            start = loop.time()
            tasks = start_all(flow, [1, 2])
            await asyncio.sleep(0.01)
            tasks += start_all(flow, [3])
            # Who leaves does not prolong the wait of others
            tasks[0].cancel()
            await asyncio.wait(tasks, timeout=10)
            assert 0.02 <= loop.time() - start < 5
        assert handler.batches == [[2, 3]]

    run(main())


def test_time_in_front_of_a_busy_step_counts_for_the_batch_timeout() -> None:
    async def main() -> None:
        handler = Gated()
        async with Flow(FlowStep(handler, batch_size=2, batch_timeout=0.01)) as flow:
            tasks = start_all(flow, [1, 2])
            await handler.has_entered()
            tasks += start_all(flow, [3])
            await asyncio.sleep(0.02)
            handler.permits.release(2)
            start = time.monotonic()
            await asyncio.gather(*tasks)
            assert time.monotonic() - start < 5
        assert handler.batches == [[1, 2], [3]]

    run(main())


# Several steps and workers -------------------------------------------------


def test_task_passes_all_steps_and_comes_back() -> None:
    async def main() -> None:
        first, second, third = Add(1), Add(10), Add(100)
        flow = Flow(
            FlowStep(first, batch_size=4),
            second,
            FlowStep(third, batch_size=2, batch_timeout=0.001),
        )
        async with flow:
            task = Number(0)
            assert await flow.process(task) is task
            assert task.result == 111
            results = await gather(flow, range(50))
        assert [task.value for task in results] == [111 + value for value in range(50)]
        assert max(len(batch) for batch in first.batches) <= 4
        assert max(len(batch) for batch in second.batches) == 1
        assert max(len(batch) for batch in third.batches) <= 2

    run(main())


def test_steps_overlap() -> None:
    together = threading.Barrier(2)

    class Meet(BaseTaskHandler):
        def handle(self, *tasks: Number) -> None:
            for task in tasks:
                if task.value == self.met:
                    together.wait(10)

        def __init__(self, met: int) -> None:
            self.met = met

    async def main() -> None:
        # The second task is in the first step
        # while the first task is in the second step
        async with Flow(Meet(1), Meet(0)) as flow:
            results = await gather(flow, [0, 1])
        assert [type(result) for result in results] == [Number, Number]

    run(main())


def test_workers_of_a_step_run_at_the_same_time() -> None:
    together = threading.Barrier(3)

    class Meet(BaseTaskHandler):
        def handle(self, *tasks: Number) -> None:
            together.wait(10)

    async def main() -> None:
        async with Flow(FlowStep(Meet(), num_workers=3)) as flow:
            results = await gather(flow, range(6))
        assert [type(result) for result in results] == [Number] * 6

    run(main())


def test_event_loop_is_free_while_a_handler_works() -> None:
    async def main() -> None:
        handler = Gated()
        async with Flow(handler) as flow:
            tasks = start_all(flow, [1])
            await handler.has_entered()
            for _ in range(10):
                await asyncio.sleep(0)
            assert not tasks[0].done()
            handler.permits.release()
            assert (await tasks[0]).result == 1

    run(main())


@pytest.mark.parametrize("num_workers", [1, 3])
def test_model_is_loaded_once_and_where_it_is_used(num_workers: int) -> None:
    async def main() -> None:
        handler = Model()
        async with Flow(FlowStep(handler, num_workers=num_workers)) as flow:
            for _ in range(2):
                task = await flow.process(Number(1))
                assert task.result == (1, True, os.getpid())
            await gather(flow, range(20))
        assert handler.starts == 1

    run(main())


# Callers that give up ------------------------------------------------------


async def time_out(flow: Flow, value: int) -> None:
    with pytest.raises(TimeoutError, match=r"not finished within 0.001 seconds"):
        await flow.process(Number(value), timeout=0.001)


async def be_cancelled(flow: Flow, value: int) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(0.001, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await flow.process(Number(value))
    task.uncancel()


@pytest.mark.parametrize("give_up", [time_out, be_cancelled])
def test_who_gives_up_does_not_disturb_neighbours(
    give_up: Callable[[Flow, int], Awaitable[None]],
) -> None:
    async def main() -> None:
        handler = Gated()
        second = Add()
        async with Flow(FlowStep(handler, batch_size=2), second, max_tasks=4) as flow:
            # One that is handled with a neighbour
            neighbours = start_all(flow, [0])
            await asyncio.gather(give_up(flow, 1), handler.has_entered())
            assert handler.batches == [[0, 1]]
            # One that waits for a batch, next to a neighbour
            neighbours += start_all(flow, [2])
            await give_up(flow, 3)
            neighbours += start_all(flow, [4])
            await asyncio.sleep(0)
            # One that waits for a place
            await give_up(flow, 5)
            handler.permits.release(2)
            results = await asyncio.gather(*neighbours)
            # All places are free again
            handler.permits.release(4)
            results += await gather(flow, [6, 7, 8, 9])
        assert [task.result for task in results] == [0, 2, 4, 6, 7, 8, 9]
        assert handler.batches[:2] == [[0, 1], [2, 4]]
        # Who has given up goes no further
        assert not {1, 3, 5} & {value for batch in second.batches for value in batch}

    run(main())


def test_failure_of_a_batch_that_nobody_waits_for_is_silent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        handler = Gated()
        async with Flow(handler) as flow:
            await asyncio.gather(time_out(flow, -1), handler.has_entered())
            handler.permits.release()

    run(main())
    assert caplog.records == []


def test_time_that_is_over_at_once() -> None:
    async def main() -> None:
        async with Flow(Add()) as flow:
            with pytest.raises(TimeoutError):
                await flow.process(Number(1), timeout=0)

    run(main())


# The bound -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([FlowStep(Add())], 2),
        ([FlowStep(Add(), batch_size=8, num_workers=3), FlowStep(Add())], 50),
    ],
)
def test_default_bound(steps: list[FlowStep], expected: int) -> None:
    assert Flow(*steps).max_tasks == expected


def test_flow_is_bounded_and_fair() -> None:
    inside = most = 0
    lock = threading.Lock()

    class Enter(BaseTaskHandler):
        def handle(self, *tasks: Number) -> None:
            nonlocal inside, most
            with lock:
                inside += len(tasks)
                most = max(most, inside)

    class Leave(Add):
        def handle(self, *tasks: Number) -> None:
            nonlocal inside
            super().handle(*tasks)
            time.sleep(0.0002)
            with lock:
                inside -= len(tasks)

    async def main() -> None:
        leave = Leave()
        flow = Flow(FlowStep(Enter(), batch_size=8), leave, max_tasks=5)
        async with flow:
            await gather(flow, range(200))
        assert [value for batch in leave.batches for value in batch] == list(range(200))

    run(main())
    assert 1 < most <= 5


# Processes -----------------------------------------------------------------


def test_processes_load_their_own_model_and_give_tasks_back() -> None:
    async def main() -> None:
        handler = Model()
        step = FlowStep(handler, num_workers=2, process=True)
        async with Flow(step, Add(1)) as flow:
            tasks = await asyncio.gather(*start_all(flow, range(8)))
        assert handler.starts == 0
        assert [task.value for task in tasks] == [value + 1 for value in range(8)]

    run(main())


def test_process_is_another_one_and_starts_once() -> None:
    async def main() -> None:
        async with Flow(FlowStep(Model(), process=True)) as flow:
            results = [(await flow.process(Number(1))).result for _ in range(3)]
        assert len(set(results)) == 1
        starts, same_place, process = results[0]
        assert (starts, same_place) == (1, True)
        assert process != os.getpid()

    run(main())


def test_process_that_fails_or_dies_takes_only_its_batch_along(tmp_path: Path) -> None:
    fail_on_start = tmp_path / "fail"

    async def main() -> None:
        async with Flow(FlowStep(Trouble(fail_on_start), process=True)) as flow:
            _, process = (await flow.process(Number(1))).result
            # An interrupt is for the flow to decide on
            assert (await flow.process(Number(99))).result == (1, process)
            # A failure is not the end of it
            with pytest.raises(KeyError, match="zero"):
                await flow.process(Number(0))
            assert (await flow.process(Number(1))).result == (1, process)
            # It dies with a batch
            died, *others = await gather(flow, [-1, 1, 2])
            assert isinstance(died, BrokenProcessPool)
            assert "process ended" in died.__notes__[0]
            starts, other_process = others[0].result
            assert starts == 1
            assert other_process != process
            assert others[1].result == (starts, other_process)
            # It dies while it has nothing to do
            os.kill(other_process, signal.SIGKILL)
            await asyncio.sleep(0.1)
            starts, process = (await flow.process(Number(1))).result
            assert starts == 1
            assert process != other_process
            # The next one fails to start, but gets another chance
            fail_on_start.touch()
            assert isinstance((await gather(flow, [-1]))[0], BrokenProcessPool)
            with pytest.raises(OSError, match="no model"):
                await flow.process(Number(1))
            fail_on_start.unlink()
            assert (await flow.process(Number(1))).result[0] == 1

    run(main())


def test_state_of_tasks_travels_as_they_want_it_to() -> None:
    async def main() -> None:
        async with Flow(FlowStep(SetExtra(), process=True)) as flow:
            slotted = await flow.process(Slotted(1))
            assert (slotted.value, slotted.result) == (2, "result")
            assert slotted.extra == "extra"
            guarded = await flow.process(Guarded(1))
            assert (guarded.value, guarded.result) == (2, "result")
            assert guarded.lock.acquire(blocking=False)
            # Like 13
            with pytest.raises(ValueError, match="unlucky"):
                await flow.process(Guarded(12))
            # No attribute at all
            with pytest.raises(AttributeError, match="value"):
                await flow.process(BaseTask())

    run(main())


def test_what_cannot_be_unpickled_fails_alone() -> None:
    async def main() -> None:
        async with Flow(FlowStep(Unwieldy(), process=True)) as flow:
            before = (await flow.process(Number(1))).result
            with pytest.raises(RuntimeError, match="real cause 1 2") as raised:
                await flow.process(Number(0))
            assert "in handle\n" in str(raised.value.__cause__)
            with pytest.raises(ValueError, match="no number"):
                await flow.process(Number(-1))
            task = Number(1)
            task.result = Unloadable()
            with pytest.raises(ValueError, match="no number"):
                await flow.process(task)
            # The model is still there
            assert (await flow.process(Number(1))).result == before

    run(main())


def test_task_that_cannot_be_pickled_fails_alone() -> None:
    async def main() -> None:
        task = Number(1)
        task.result = threading.Lock()
        async with Flow(FlowStep(Add(1), process=True)) as flow:
            with pytest.raises(TypeError, match="pickle"):
                await flow.process(task)
            assert (await flow.process(Number(1))).result == 2

    run(main())


def test_handler_that_cannot_be_pickled_fails_at_start() -> None:
    handler = Gated()
    flow = Flow(FlowStep(handler, process=True))
    with pytest.raises(TypeError, match="pickle"):
        flow.start()


NOTEBOOK = """\
import asyncio
from audmodel.parallel import BaseTask, BaseTaskHandler, Flow, FlowStep

class Text(BaseTask):
    def __init__(self, text):
        self.text = text

class Shout(BaseTaskHandler):
    def on_start(self):
        self.end = "!"

    def handle(self, *tasks):
        for task in tasks:
            task.text = task.text.upper() + self.end

async def main():
    async with Flow(FlowStep(Shout(), process=True)) as flow:
        for text in ("a", "b"):
            print((await flow.process(Text(text))).text)

asyncio.run(main())
"""


def test_handler_and_tasks_of_a_notebook() -> None:
    # Like there, the main module has no file
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", NOTEBOOK],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.stdout, result.stderr) == ("A!\nB!\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_fork_has_no_flow() -> None:
    code = """
import asyncio, os, warnings
from audmodel.parallel import BaseTask, BaseTaskHandler, Flow, NotRunningError

class Nothing(BaseTaskHandler):
    def handle(self, *tasks):
        pass

# Of forks next to threads
warnings.simplefilter("ignore")
flow = Flow(Nothing())
flow.start()
process = os.fork()

async def main():
    await flow.process(BaseTask())
    await flow.stop()

async def try_in_vain():
    try:
        await flow.process(BaseTask())
    except NotRunningError as error:
        print(type(error).__name__)
    await flow.stop()

asyncio.run(main() if process else try_in_vain())
if process:
    print(os.waitpid(process, 0)[1])
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        NotRunningError.__name__,
        "0",
    ]


# Priorities ----------------------------------------------------------------


@pytest.mark.parametrize("value", [None, True, 0.5, "1"])
def test_priority_is_checked(value: Any) -> None:
    async def main() -> None:
        async with Flow(Add()) as flow:
            with pytest.raises(ValueError, match="priority must be an integer"):
                await flow.process(Number(1), priority=value)

    run(main())


@pytest.mark.parametrize("max_tasks", [1, 2, 100])
def test_higher_priority_goes_first_wherever_tasks_wait(max_tasks: int) -> None:
    async def main() -> None:
        handler = Gated()
        async with Flow(handler, max_tasks=max_tasks) as flow:
            tasks = start_all(flow, [0])
            await handler.has_entered()
            for value, priority in ((1, 5), (2, 0), (3, -1), (4, 7), (5, 0), (6, 7)):
                tasks += start_all(flow, [value], priority=priority)
                await asyncio.sleep(0)
            handler.permits.release(7)
            await asyncio.gather(*tasks)
        assert handler.batches == [[0], [4], [6], [1], [2], [5], [3]]

    run(main())


def test_batch_takes_the_highest_priorities() -> None:
    async def main() -> None:
        handler = Gated()
        async with Flow(FlowStep(handler, batch_size=2)) as flow:
            tasks = start_all(flow, [0, 0])
            await handler.has_entered()
            tasks += start_all(flow, [1])
            tasks += start_all(flow, [2, 3], priority=1)
            handler.permits.release(3)
            await asyncio.gather(*tasks)
        assert handler.batches == [[0, 0], [2, 3], [1]]

    run(main())


def test_task_that_gives_up_at_the_entrance_takes_no_place() -> None:
    async def main() -> None:
        handler = Gated()
        async with Flow(handler, max_tasks=1) as flow:
            tasks = start_all(flow, [0])
            await handler.has_entered()
            (lost,) = start_all(flow, [1], priority=1)
            tasks += start_all(flow, [2])
            await asyncio.sleep(0)
            lost.cancel()
            handler.permits.release(2)
            await asyncio.gather(*tasks)
            with pytest.raises(asyncio.CancelledError):
                await lost
        assert handler.batches == [[0], [2]]

    run(main())


def test_batch_timeout_counts_for_low_priorities() -> None:
    async def main() -> None:
        handler = Add()
        step = FlowStep(handler, batch_size=3, batch_timeout=0.3)
        async with Flow(step) as flow:
            start = time.monotonic()
            tasks = start_all(flow, [1])
            await asyncio.sleep(0.2)
            tasks += start_all(flow, [2], priority=1)
            await asyncio.gather(*tasks)
            assert time.monotonic() - start < 0.45
        assert handler.batches == [[2, 1]]

    run(main())


# Limits of processes -------------------------------------------------------


class Hang(BaseTaskHandler):
    """Takes as many seconds as a task says, and some to start."""

    def on_start(self) -> None:
        time.sleep(0.4)

    def handle(self, *tasks: Number) -> None:
        for task in tasks:
            time.sleep(task.value)
            task.result = os.getpid()


def test_process_that_hangs_ends_when_all_its_tasks_are_late() -> None:
    async def main() -> None:
        async with Flow(FlowStep(Hang(), process=True)) as flow:
            before = (await flow.process(Number(0))).result
            late = asyncio.create_task(flow.process(Number(60), timeout=0.3))
            await asyncio.sleep(0.1)
            others = start_all(flow, [0, 0], timeout=20)
            with pytest.raises(TimeoutError, match=r"not finished within 0\.3 seconds"):
                await late
            pids = {task.result for task in await asyncio.gather(*others)}
            assert len(pids) == 1
            assert before not in pids

    run(main())


def test_process_is_not_ended_as_long_as_one_task_waits_for_it() -> None:
    async def main() -> None:
        step = FlowStep(Hang(), batch_size=3, process=True)
        async with Flow(step) as flow:
            before = (await flow.process(Number(0))).result
            late = start_all(flow, [0, 0.5], timeout=0.2)
            (patient,) = start_all(flow, [0.1])
            assert (await patient).result == before
            outcomes = await asyncio.gather(*late, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [TimeoutError] * 2
            assert (await flow.process(Number(0))).result == before

    run(main())


@pytest.mark.thorough
def test_time_to_wait_and_to_start_a_process_does_not_end_it() -> None:
    async def main() -> None:
        async with Flow(FlowStep(Hang(), process=True)) as flow:
            first = (await flow.process(Number(0))).result
            # Its turn comes shortly before it gives up
            busy = start_all(flow, [0.3])
            late = start_all(flow, [0.25], timeout=0.4)
            outcomes = await asyncio.gather(*busy, *late, return_exceptions=True)
            assert isinstance(outcomes[1], TimeoutError)
            assert (await flow.process(Number(0), timeout=10)).result == first
            process = psutil.Process(first)
            process.kill()
            while process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                await asyncio.sleep(0.001)
            outcome = await asyncio.gather(
                flow.process(Number(0), timeout=0.3), return_exceptions=True
            )
            assert isinstance(outcome[0], TimeoutError)
            # Started for the task that has given up, and not ended with it
            second = (await flow.process(Number(0))).result
            assert (await flow.process(Number(0))).result == second != first

    run(main())

"""Work in parallel while Python exits, when it starts no threads any more."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


PROGRAM = """
import asyncio, atexit, os, signal, sys, threading, time
from functools import partial
from statistics import fmean

from audmodel.parallel import BaseTask, BaseTaskHandler, Flow, FlowStep, MultiWorker
from audmodel.parallel import prefetch

class Handler(BaseTaskHandler):
    def handle(self, *tasks):
        for task in tasks:
            task.result = 1

def call_workers(n_processes=2):
    with MultiWorker(fmean, n_processes) as parallel_mean:
        print(*parallel_mean([1, 2]))

def pass_through_flow():
    async def main():
        async with Flow(Handler()) as flow:
            print((await flow.process(BaseTask())).result)
    asyncio.run(main())

class Synchronous:
    def submit(self, call):
        from concurrent.futures import Future
        future = Future()
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)
        return future

def call_executor(values=[1, 2]):
    with MultiWorker(fmean, 2, executor=Synchronous()) as parallel_mean:
        print(*parallel_mean(values))

def at_exit(work):
    def report():
        try:
            work()
        except Exception as error:
            print(type(error).__name__, error)
    {start}

"""
STARTS = {
    "atexit": "atexit.register(report)",
    "outlive": """
    def outlive():
        threading.main_thread().join()
        report()
    threading.Thread(target=outlive).start()
""",
}
REFUSAL = (
    "RuntimeError No thread can be started: {}. While Python exits, "
    "as in an atexit handler, it starts none: do such work before, or call "
    "the function without workers, as MultiWorker does with n_processes=1."
)
# What Python says before and after it has imported its executors
UNKNOWN = REFUSAL.format("can't register atexit after shutdown")
KNOWN = REFUSAL.format("cannot schedule new futures after interpreter shutdown")


@pytest.fixture(params=STARTS)
def start(request: pytest.FixtureRequest) -> str:
    return STARTS[request.param].strip()


def output(start: str, code: str) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(start=start) + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


@pytest.mark.sample(2)
@pytest.mark.parametrize("work", ["call_workers", "pass_through_flow"])
def test_first_work_in_parallel_says_that_there_are_no_threads(
    start: str, work: str
) -> None:
    assert output(start, f"at_exit({work})") == [UNKNOWN]


@pytest.mark.sample(2)
@pytest.mark.parametrize("work", ["call_workers", "pass_through_flow"])
def test_later_work_in_parallel_says_that_there_are_no_threads(
    start: str, work: str
) -> None:
    first, second = output(start, f"{work}()\nat_exit({work})")
    assert not first.startswith("RuntimeError")
    assert second == KNOWN


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("work", "results"),
    [
        ("partial(call_workers, 1)", "1.5"),
        ("call_executor", "1.0 2.0"),
        ("lambda: print(*prefetch(float, [1, 2]))", "1.0 2.0"),
    ],
)
def test_work_without_threads_of_its_own_is_done(
    start: str, work: str, results: str
) -> None:
    assert output(start, f"at_exit({work})") == [results]


@pytest.mark.sample(1)
def test_error_of_an_executor_is_raised_as_it_is(start: str) -> None:
    (line,) = output(start, "at_exit(partial(call_executor, ['a']))")
    assert line.startswith("TypeError")


@pytest.mark.sample(1)
def test_context_that_was_entered_before_is_left(start: str) -> None:
    code = """
worker = MultiWorker(fmean, 2)
parallel_mean = worker.__enter__()
print(*parallel_mean([1, 2]))
def work():
    try:
        parallel_mean([1, 2])
    finally:
        worker.__exit__(None, None, None)
        print("left")
at_exit(work)
"""
    *lines, error = output(start, code)
    assert lines == ["1.0 2.0", "left"]
    assert error.startswith("RuntimeError No thread can be started")


@pytest.mark.sample(1)
def test_flow_that_was_started_before_is_stopped(start: str) -> None:
    code = """
flow = Flow(FlowStep(Handler(), num_workers=2))
flow.start()
async def main():
    try:
        await flow.process(BaseTask())
    finally:
        await flow.stop()
        print("stopped")
at_exit(lambda: asyncio.run(main()))
"""
    first, second = output(start, code)
    assert first == "stopped"
    assert second.startswith("RuntimeError No thread can be started")


@pytest.mark.skipif(os.name == "nt", reason="there is no such signal")
def test_process_that_dies_meanwhile_is_named() -> None:
    code = """
from audmodel.parallel.processes import ProcessPool
pool = ProcessPool(1)
(process_id,) = pool.run([os.getpid])

def call():
    threading.Timer(0.5, os.kill, [process_id, signal.SIGKILL]).start()
    pool.run([partial(time.sleep, 50)])

def report():
    try:
        call()
    except Exception as error:
        print(type(error).__name__)
threading.Thread(target=report).start()
while pool._idle:
    time.sleep(0.001)
"""
    assert output("", code) == ["BrokenProcessPool"]

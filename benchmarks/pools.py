# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "audmodel>=2.0",
#     "loky>=3.5",
#     "psutil>=5.9",
# ]
#
# [tool.uv.sources]
# audmodel = { path = "..", editable = true }
# ///
"""Compare the process pool of this package with those of Python and joblib.

Each case runs in a fresh program, the pools by turns,
and what programs leave behind is looked for by their session.
Run it with ``uv run benchmarks/pools.py``, on Linux.

"""

from __future__ import annotations

# Processes import this module, so others that take long are imported where needed
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import functools
import json
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING
from typing import Any


if TYPE_CHECKING:
    import concurrent.futures
    import subprocess

    import psutil


Call = Callable[[], Any]
# Carries out calls, one for each process, in so many seconds if it can
Run = Callable[[list[Call], float | None], list[Any]]
Result = dict[str, float | str]


# Pools -----------------------------------------------------------------------


def carry_out(calls: list[Call]) -> list[Any]:
    return [call() for call in calls]


@contextlib.contextmanager
def open_ours(num_processes: int, timeout: float | None = None) -> Iterator[Run]:
    from audmodel.parallel import MultiWorker
    from audmodel.parallel import flatten_reduction

    with MultiWorker(
        carry_out,
        num_processes,
        reduction=flatten_reduction,
        timeout=300 if timeout is None else timeout,
    ) as parallel:
        yield lambda calls, _: list(parallel(calls))


@contextlib.contextmanager
def open_executor(executor: concurrent.futures.Executor) -> Iterator[Run]:
    def run(calls: list[Call], timeout: float | None) -> list[Any]:
        futures = [executor.submit(call) for call in calls]
        return [future.result(timeout) for future in futures]

    with executor:
        yield run


def open_pool(name: str, num_processes: int, timeout: float | None = None) -> Any:
    if name == "audmodel":
        return open_ours(num_processes, timeout)
    import concurrent.futures
    import importlib
    import multiprocessing

    if name == "loky":
        loky = importlib.import_module("loky")
        return open_executor(loky.ProcessPoolExecutor(num_processes))
    return open_executor(
        concurrent.futures.ProcessPoolExecutor(
            num_processes, mp_context=multiprocessing.get_context(name)
        )
    )


POOLS = ["audmodel", "fork", "forkserver", "spawn", "loky"]


# What processes do -----------------------------------------------------------


def nothing() -> None:
    pass


def touch(path: str) -> None:
    with open(path, "w", encoding="utf-8"):
        pass


def meet(folder: str, number: int) -> None:
    """Come back when so many processes are there."""
    touch(f"{folder}/{os.getpid()}")
    while len(os.listdir(folder)) < number:
        time.sleep(0.001)


def large(size: int) -> bytes:
    return bytes(size)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DiesSoon:
    """Pickled last, so that the process dies while it sends the whole."""

    def __reduce__(self) -> Any:
        timer = threading.Timer(0.05, die)
        timer.daemon = True
        timer.start()
        return int, ()


def die_while_sending() -> Any:
    return bytes(500_000_000), DiesSoon()


def sleep(path: str) -> None:
    touch(path)
    time.sleep(1000)


def take_lock() -> None:
    # Only a fork has it
    lock = getattr(sys, "lock_of_the_program", None)
    if lock is not None:
        with lock:
            pass


# Cases, each in a program of its own -----------------------------------------


def start(pool: str, num_processes: int) -> Result:
    """Time to open a pool, until all of its processes are there."""
    import tempfile

    seconds = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            calls = [functools.partial(meet, folder, num_processes)] * num_processes
            begin = time.perf_counter()
            with open_pool(pool, num_processes) as run:
                run(calls, None)
                seconds.append(time.perf_counter() - begin)
    name = f"{num_processes} processes"
    return {
        f"start, {name}, ms": 1000 * seconds[0],
        f"again, {name}, ms": 1000 * seconds[1],
    }


def call(pool: str, num_processes: int) -> Result:
    import statistics

    calls = [nothing] * num_processes
    seconds = []
    with open_pool(pool, num_processes) as run:
        for _ in range(300):
            begin = time.perf_counter()
            run(calls, None)
            seconds.append(time.perf_counter() - begin)
    return {
        f"call, {num_processes} processes, ms": 1000 * statistics.median(seconds[50:])
    }


def large_result(pool: str, size: int) -> Result:
    import resource

    with open_pool(pool, 2) as run:
        run([nothing], None)
        begin = time.perf_counter()
        (result,) = run([functools.partial(large, size)], None)
        seconds = time.perf_counter() - begin
        assert len(result) == size
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"2.2 GB, s": seconds, "2.2 GB, memory of the caller, GB": gigabytes}


def _death(pool: str, name: str, function: Call) -> Result:
    with open_pool(pool, 2) as run:
        run([nothing], None)
        begin = time.perf_counter()
        try:
            run([function], None)
        except Exception as error:  # noqa: BLE001
            outcome = type(error).__name__
        else:
            outcome = "no error"
        seconds = time.perf_counter() - begin
        print(json.dumps({f"{name}, s": seconds, name: outcome}), flush=True)
        try:
            run([nothing], None)
        except Exception:  # noqa: BLE001
            return {f"{name}, next call": "fails"}
        return {f"{name}, next call": "works"}


def killed_in_a_call(pool: str) -> Result:
    return _death(pool, "killed in a call", die)


def killed_while_sending(pool: str) -> Result:
    return _death(pool, "killed while it sends", die_while_sending)


def hangs(pool: str) -> Result:
    """A call takes longer than it should."""
    hang = functools.partial(sleep, os.devnull)
    with open_pool(pool, 1, timeout=2) as run:
        # Started, and ready
        run([nothing], 2)
        for call, name in ((hang, "hangs, it"), (nothing, "hangs, next call")):
            try:
                run([call], 2)
                outcome = "works"
            except TimeoutError:
                outcome = "TimeoutError"
            print(json.dumps({name: outcome}), flush=True)
    return {"hangs, end of the program": "in time"}


def beside_a_thread(pool: str) -> Result:
    """A thread of the program has a lock most of the time, which calls need."""

    lock = threading.Lock()
    vars(sys)["lock_of_the_program"] = lock

    def hold() -> None:
        while True:
            with lock:
                time.sleep(0.01)

    threading.Thread(target=hold, daemon=True).start()
    time.sleep(0.1)
    with open_pool(pool, 4) as run:
        run([take_lock] * 4, None)
    return {"lock of a thread": "works"}


def sleeping(pool: str, folder: str) -> Result:
    """For what happens from outside, while two of four processes work."""
    import tempfile

    with open_pool(pool, 4) as run:
        with tempfile.TemporaryDirectory() as place:
            run([functools.partial(meet, place, 4)] * 4, None)
        run([functools.partial(sleep, f"{folder}/{name}") for name in "ab"], None)
    return {}


CASES: dict[str, Callable[[str], Result]] = {
    "start 2": functools.partial(start, num_processes=2),
    "start 16": functools.partial(start, num_processes=16),
    "call 2": functools.partial(call, num_processes=2),
    "call 16": functools.partial(call, num_processes=16),
    "large": functools.partial(large_result, size=2_200_000_000),
    "killed in a call": killed_in_a_call,
    "killed while it sends": killed_while_sending,
    "hangs": hangs,
    "lock of a thread": beside_a_thread,
}
# Of cases that end with a hang, what is said of it
HANGS = {
    "killed while it sends": "killed while it sends",
    "hangs": "hangs, end of the program",
    "lock of a thread": "lock of a thread",
}
PATIENCE = {"large": 300.0, "start 16": 100.0}


# From outside ----------------------------------------------------------------


def left_of(session: int) -> list[psutil.Process]:
    """Processes of a session that still run."""
    import psutil

    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            is_alive = process.status() != psutil.STATUS_ZOMBIE
            if os.getsid(process.pid) == session and is_alive:
                left.append(process)
    return left


@contextlib.contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    import subprocess

    with subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            for left in left_of(process.pid):
                left.kill()


def measured(case: str, pool: str) -> Result:
    import subprocess

    result: Result = {}
    with program("--run", case, pool) as process:
        try:
            output, errors = process.communicate(timeout=PATIENCE.get(case, 12.0))
        except subprocess.TimeoutExpired:
            for left in left_of(process.pid):
                left.kill()
            output, errors = process.communicate()
            result = {HANGS[case]: "HANGS"} if case in HANGS else {case: "HANGS"}
        else:
            if process.returncode != 0:
                raise RuntimeError(f"{case}, {pool}: {errors}")
    for line in output.splitlines():
        result = {**json.loads(line), **result}
    return result


def ended(case: str, pool: str) -> Result:
    """Ctrl-C in a terminal, or the death of a program, while processes work."""
    import subprocess
    import tempfile

    with (
        tempfile.TemporaryDirectory() as folder,
        program("--sleep", folder, pool) as process,
    ):
        while len(os.listdir(folder)) < 2:
            time.sleep(0.01)
        time.sleep(0.3)
        begin = time.perf_counter()
        if case == "Ctrl-C":
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        seconds = time.perf_counter() - begin
        time.sleep(2)
        left = len(left_of(process.pid))
        for each in left_of(process.pid):
            each.kill()
        tracebacks = process.communicate()[1].count("Traceback")
    result: Result = {f"{case}, processes left": str(left)}
    if case == "Ctrl-C":
        result["Ctrl-C, s"] = seconds
        result["Ctrl-C, tracebacks of processes"] = str(max(tracebacks - 1, 0))
    return result


OUTSIDE = ["Ctrl-C", "killed program"]


def summary(values: list[float | str]) -> str:
    from collections import Counter
    import statistics

    numbers = [value for value in values if isinstance(value, float | int)]
    if len(numbers) == len(values):
        low, middle, high = min(numbers), statistics.median(numbers), max(numbers)
        return f"{middle:.3g} ({low:.3g} to {high:.3g})"
    counts = Counter(map(str, values)).most_common()
    if len(counts) == 1:
        return counts[0][0]
    return ", ".join(f"{count}x {value}" for value, count in counts)


def main() -> None:
    import argparse

    parser = argparse.ArgumentParser(description="Compare process pools.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pools", nargs="+", default=POOLS, choices=POOLS)
    parser.add_argument("--only", default="", help="part of the name of a case")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--sleep", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        case, pool = arguments.run
        print(json.dumps(CASES[case](pool)), flush=True)
        return
    if arguments.sleep:
        folder, pool = arguments.sleep
        sleeping(pool, folder)
        return
    for case in [*CASES, *OUTSIDE]:
        if arguments.only not in case:
            continue
        results: dict[str, list[Result]] = {pool: [] for pool in arguments.pools}
        for number in range(arguments.rounds):
            for turn in range(len(arguments.pools)):
                pool = arguments.pools[(number + turn) % len(arguments.pools)]
                look = ended if case in OUTSIDE else measured
                results[pool].append(look(case, pool))
        names = dict.fromkeys(n for rs in results.values() for r in rs for n in r)
        for name in names:
            for pool, rounds in results.items():
                values = [result[name] for result in rounds if name in result]
                print(
                    f"{name:36} {pool:12} {summary(values) if values else '-'}",
                    flush=True,
                )


if __name__ == "__main__":
    main()

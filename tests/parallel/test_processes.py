"""Processes start in one way, and end in every case."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
import contextlib
import functools
import gc
import multiprocessing
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
import os
from pathlib import Path
import signal
import struct
import subprocess
import sys
from threading import Lock
from threading import Timer
import time
from typing import Any

import psutil
import pytest

from audmodel.parallel import MultiWorker
from audmodel.parallel import flatten_reduction
from audmodel.parallel import sum_reduction
from audmodel.parallel.processes import ProcessPool
from audmodel.parallel.processes import _Worker


class OddError(Exception):
    """Is something else when it was unpickled."""

    def __reduce__(self) -> Any:
        return str, ("no exception",)


class LeavingError(Exception):
    """Ends the program that unpickles it."""

    def __reduce__(self) -> Any:
        return sys.exit, (5,)


class WorseError(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"real cause {first} {second}")


def same(items: list[Any]) -> list[Any]:
    return items


def total(items: list[int]) -> int:
    return sum(items)


def add_in_processes(items: list[list[int]]) -> int:
    with MultiWorker(total, 2, reduction=sum_reduction) as parallel_total:
        return sum(parallel_total(numbers) for numbers in items)


def die_for(items: list[int]) -> list[int]:
    if 3 in items:
        os._exit(3)
    return items


def raise_worse(items: list[int]) -> None:
    raise WorseError(1, 2)


def raise_odd(items: list[int]) -> None:
    raise OddError


def raise_leaving(items: list[int]) -> None:
    raise LeavingError("real cause")


def raise_lock(items: list[int]) -> None:
    raise ValueError("real cause", Lock())


class Unloadable:
    """Can be pickled, but not unpickled."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class Leaving:
    """Ends the program that unpickles it."""

    def __reduce__(self) -> Any:
        return sys.exit, (6,)


def return_leaving(items: list[int]) -> Any:
    return Leaving()


def return_unloadable(items: list[int]) -> Any:
    return Unloadable()


def return_lambda(items: list[int]) -> Any:
    return lambda: items


def return_lock(items: list[int]) -> Any:
    return Lock()


def leave(items: list[int]) -> None:
    sys.exit(4)


def leave_a_process(path: Path) -> None:
    process = os.fork()
    if process == 0:
        time.sleep(20)
        os._exit(0)
    path.write_text(str(process))


def die_and_leave_a_process(paths: list[Path]) -> None:
    for path in paths:
        leave_a_process(path)
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_a_message(path: Path) -> None:
    leave_a_process(path)
    pipes = [item for item in gc.get_objects() if isinstance(item, Connection)]
    (number,) = [pipe.fileno() for pipe in pipes if not pipe.closed]
    # The length of a message, and a part of it
    os.write(number, struct.pack("!i", 1_000_000) + b"x" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt_and_sleep(must_interrupt: bool) -> None:
    if must_interrupt:
        program = multiprocessing.parent_process()
        assert program is not None
        assert program.pid is not None
        os.kill(program.pid, signal.SIGUSR1)
    time.sleep(20)


def memory(data: bytes) -> int:
    return int(psutil.Process().memory_info().rss)


def fail(leaving: bool) -> None:
    if leaving:
        raise LeavingError
    time.sleep(0.3)
    raise ValueError("of the other call")


def slowly(items: list[int]) -> list[int]:
    time.sleep(0.2)
    return items


def ended() -> float:
    """Moment by a clock that all processes share."""
    time.sleep(0.2)
    return time.monotonic()


# In this process -----------------------------------------------------------


def test_large_arguments_and_results_pass() -> None:
    items = [os.urandom(3_000_000) for _ in range(4)]
    with MultiWorker(same, 2, reduction=flatten_reduction) as parallel_same:
        assert parallel_same(items) == items


def test_pool_goes_on_when_a_process_has_died() -> None:
    worker = MultiWorker(die_for, 2, reduction=flatten_reduction)
    with worker as parallel_die:
        for _ in range(2):
            with pytest.raises(BrokenProcessPool, match="ended with code 3"):
                parallel_die([1, 2, 3, 4])
            assert parallel_die([1, 2]) == [1, 2]


def test_process_that_died_while_idle_is_replaced() -> None:
    with MultiWorker(same, 2) as parallel_same:
        parallel_same([1, 2])
        # Only ours, other tests of this process may have a server running
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        assert parallel_same([1, 2]) == [[1], [2]]


def test_process_that_died_a_moment_before_a_call_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with MultiWorker(same, 2) as parallel_same:
        parallel_same([1, 2])
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        with monkeypatch.context() as patch:
            patch.setattr(_Worker, "_is_idle", lambda *_: True)
            with pytest.raises(BrokenProcessPool, match="ended with code -9"):
                parallel_same([1, 2])
        assert parallel_same([1, 2]) == [[1], [2]]


def test_death_is_noticed_though_what_a_process_started_goes_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "process"
    try:
        with MultiWorker(die_and_leave_a_process, 2) as parallel_die:
            start = time.monotonic()
            with pytest.raises(BrokenProcessPool, match="ended with code -9"):
                parallel_die([path])
            assert time.monotonic() - start < 10
    finally:
        os.kill(int(path.read_text()), signal.SIGKILL)


def test_death_in_the_middle_of_a_message_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "process"
    pool = ProcessPool(1)
    try:
        start = time.monotonic()
        with pytest.raises(BrokenProcessPool, match="ended with code -9"):
            pool.run([functools.partial(die_in_a_message, path)])
        assert time.monotonic() - start < 10
    finally:
        os.kill(int(path.read_text()), signal.SIGKILL)
        pool.close()


def test_death_in_the_middle_of_a_call_that_is_sent_is_noticed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "process"
    pool = ProcessPool(1)
    try:
        pool.run([functools.partial(leave_a_process, path)])
        (process,) = multiprocessing.active_children()
        # It does not read any more
        psutil.Process(process.pid).suspend()
        monkeypatch.setattr(BaseProcess, "is_alive", lambda _: True)
        Timer(0.3, process.kill).start()
        start = time.monotonic()
        with pytest.raises(BrokenProcessPool, match="ended with code -9"):
            pool.run([functools.partial(memory, bytes(10_000_000))])
        assert time.monotonic() - start < 10
    finally:
        os.kill(int(path.read_text()), signal.SIGKILL)
        pool.close()


def test_other_calls_end_though_an_exception_ends_programs() -> None:
    pool = ProcessPool(2)
    calls = [functools.partial(fail, leaving) for leaving in (False, True)]
    # The first call in order, though the second one fails before
    with pytest.raises(ValueError, match="of the other call"):
        pool.run(calls)
    pool.close()


def test_what_a_call_was_given_is_in_memory_once() -> None:
    size = 100_000_000
    pool = ProcessPool(1)
    (before,) = pool.run([functools.partial(memory, b"")])
    (during,) = pool.run([functools.partial(memory, bytes(size))])
    assert size / 2 < during - before < size * 1.5
    (child,) = multiprocessing.active_children()
    process = psutil.Process(child.pid)
    end = time.monotonic() + 5
    while process.memory_info().rss - before > size / 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    pool.close()


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Let SIGUSR1 do what Ctrl-C does."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.sample(1)
@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("then", ["call", "close"])
def test_second_interrupt_loses_no_process(
    then: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kill = BaseProcess.kill
    again = [KeyboardInterrupt]

    def interrupted(process: BaseProcess) -> None:
        if again:
            raise again.pop()
        kill(process)

    pool = ProcessPool(2)
    pool.run([functools.partial(slowly, [number]) for number in range(2)])
    calls = [functools.partial(interrupt_and_sleep, last) for last in (False, True)]
    start = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(BaseProcess, "kill", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.run(calls)
    assert not again
    if then == "call":
        assert pool.run([functools.partial(same, [1])] * 4) == [[1]] * 4
    pool.close()
    assert time.monotonic() - start < 10
    assert not multiprocessing.active_children()


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (raise_worse, RuntimeError, "raised .*WorseError: real cause 1 2$"),
        (raise_lock, RuntimeError, "raised ValueError: .*real cause"),
        (raise_odd, RuntimeError, "raised .*OddError$"),
        (raise_leaving, RuntimeError, "raised .*LeavingError: real cause$"),
        (return_leaving, SystemExit, "6"),
        (return_lock, TypeError, "pickle"),
        (return_unloadable, ValueError, "no number"),
        (leave, SystemExit, "4"),
    ],
)
def test_what_cannot_come_back_is_said(
    function: Any,
    error: type[BaseException],
    text: str,
) -> None:
    with MultiWorker(function, 2) as parallel_function:
        for _ in range(2):
            with pytest.raises(error, match=text):
                parallel_function([1, 2])


@pytest.mark.parametrize("function", [leave, raise_worse])
def test_exception_shows_where_it_was_raised(function: Any) -> None:
    with (
        MultiWorker(function, 2) as parallel_function,
        pytest.raises((SystemExit, RuntimeError)) as raised,
    ):
        parallel_function([1, 2])
    assert f"in {function.__name__}\n" in str(raised.value.__cause__)


def test_threads_share_the_processes() -> None:
    worker = MultiWorker(same, 3, reduction=flatten_reduction)
    with worker as parallel_same, ThreadPoolExecutor(8) as executor:
        lists = [list(range(number % 7)) for number in range(200)]
        assert list(executor.map(parallel_same, lists)) == lists


def test_end_waits_for_calls_of_other_threads() -> None:
    pool = ProcessPool(2)
    calls = [ended, ended]
    with ThreadPoolExecutor(3) as executor:
        futures = [
            executor.submit(pool.run, calls)
            # More than processes, so that some wait for others
            for _ in range(3)
        ]
        while len(pool._futures) < 6:
            time.sleep(0.001)
        pool.close()
        closed = time.monotonic()
        moments = [moment for future in futures for moment in future.result()]
        assert len(moments) == 6
        assert max(moments) <= closed
    pool.close()
    with pytest.raises(RuntimeError, match="have ended"):
        pool.run(calls)


def test_context_left_while_other_threads_call() -> None:
    with ThreadPoolExecutor(3) as executor:
        with MultiWorker(slowly, 2) as parallel_slowly:
            futures = [executor.submit(parallel_slowly, [1, 2]) for _ in range(3)]
            time.sleep(0.2)
        assert [future.result() for future in futures] == [[[1], [2]]] * 3
        with pytest.raises(RuntimeError, match="only inside of the with block"):
            parallel_slowly([1, 2])


def test_processes_may_have_processes() -> None:
    worker = MultiWorker(add_in_processes, 2, reduction=sum_reduction)
    with worker as parallel_add:
        assert parallel_add([[1, 2], [3, 4], [5]]) == 15


def test_pool_nobody_closes_ends() -> None:
    parallel_same = MultiWorker(same, 2).__enter__()
    assert parallel_same([1, 2]) == [[1], [2]]


# In processes that start them ----------------------------------------------


HEAD = """\
import multiprocessing
import os
import signal
import sys
import threading
import time
import _thread

from audmodel.parallel import MultiWorker, flatten_reduction

def same(items):
    return items

def kinds(items):
    return [type(multiprocessing.current_process()).__name__ for _ in items]

def sleep(items):
    for item in items:
        with open(item, "w") as file:
            file.write(str(os.getpid()))
        os.rename(item, item + ".started")
    time.sleep(60)

def random_numbers(items):
    import random
    import numpy
    time.sleep(0.2)
    return [random.random(), numpy.random.random()]

if __name__ == "__main__":
"""


def start(
    code: str,
    folder: Path,
    *arguments: str,
    options: tuple[str, ...] = (),
) -> subprocess.Popen[str]:
    path = folder / "script.py"
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    path.write_text(HEAD + lines)
    return subprocess.Popen(
        [sys.executable, "-W", "error", *options, str(path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        start_new_session=True,
    )


def output(code: str, folder: Path) -> str:
    with start(code, folder) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    return stdout.strip()


THREAD = "threading.Thread(target=time.sleep, args=(2,), daemon=True).start()\n"
HIDDEN_THREAD = "_thread.start_new_thread(time.sleep, (2,))\n"
SET = "multiprocessing.set_start_method({!r})\n"


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "code",
    [
        pytest.param("", id="one thread"),
        pytest.param("import numpy\n", id="numpy"),
        pytest.param(THREAD, id="threads"),
        pytest.param(HIDDEN_THREAD, id="threads unknown to Python"),
        pytest.param(SET.format("forkserver"), id="forkserver"),
        pytest.param(SET.format("fork"), id="fork"),
    ],
)
def test_processes_always_start_in_the_same_way(code: str, tmp_path: Path) -> None:
    code += """\
with MultiWorker(kinds, 2, reduction=flatten_reduction) as parallel_kinds:
    print(*set(parallel_kinds([1, 2])))
"""
    assert output(code, tmp_path) == "WorkerProcess"


@pytest.mark.thorough
def test_random_numbers_differ(tmp_path: Path) -> None:
    code = """\
import numpy
with MultiWorker(random_numbers, 3, reduction=flatten_reduction) as parallel_random:
    print(len(set(parallel_random([1, 2, 3]))))
"""
    assert output(code, tmp_path) == "6"


def test_short_calls_do_not_start_more_processes_than_they_need(
    tmp_path: Path,
) -> None:
    code = """\
with MultiWorker(same, 300, reduction=flatten_reduction) as parallel_same:
    for _ in range(10):
        assert parallel_same([1]) == [1]
    print(len(multiprocessing.active_children()))
"""
    assert output(code, tmp_path) == "1"


# Each process imports the program before it reads what it was sent
MEETING = """\
import os
import sys
import threading
import time

from audmodel.parallel import MultiWorker

def meet():
    open(f"{os.getpid()}.process", "w").close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if sum(name.endswith(".process") for name in os.listdir()) == 2:
            return True
        time.sleep(0.01)
    return False

MET = __name__ != "__main__" and meet()

def have_met(items):
    return MET

if __name__ == "__main__":
    threading.Thread(target=time.sleep, args=(2,), daemon=True).start()
    # More than a pipe holds
    items = [bytes(1_000_000)] * 2
    with MultiWorker(have_met, 2) as parallel_have_met:
        print(parallel_have_met(items))
"""


def test_processes_start_at_the_same_time(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(MEETING)
    result = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert (result.stdout, result.stderr) == ("[True, True]\n", "")


PRINTING = """\
import os
import sys

from audmodel.parallel import MultiWorker

def show(items):
    print("out", *items)
    print("error", *items, end=" ", file=sys.stderr)
    if items == ["close"]:
        sys.stdout.close()
    if items == ["raise"]:
        raise ValueError

if __name__ == "__main__":
    with MultiWorker(show, 2) as parallel_show:
        parallel_show(["first", "second"])
        print("between", flush=True)
        try:
            parallel_show(["raise"])
        except ValueError:
            pass
        parallel_show(["close"])
"""


def test_what_processes_print_is_there_when_a_call_ends(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(PRINTING)
    env = {**os.environ, "PYTHONPATH": os.getcwd()}
    # Text is kept until there is enough of it
    env.pop("PYTHONUNBUFFERED", None)
    result = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=env,
    )
    lines = result.stdout.splitlines()
    assert sorted(lines[:2]) == ["out first", "out second"]
    assert lines[2:] == ["between", "out raise", "out close"]
    assert result.stderr.split()[-4:] == ["error", "raise", "error", "close"]


@pytest.mark.usefixtures("unmeasured")
def test_fork_of_a_user_has_no_processes(tmp_path: Path) -> None:
    code = """\
import warnings

# Of forks next to threads
warnings.simplefilter("ignore")
with MultiWorker(same, 2) as parallel_same:
    parallel_same([1, 2])
    process = os.fork()
    if process == 0:
        try:
            parallel_same([1, 2])
        except RuntimeError as error:
            print(error, flush=True)
    else:
        assert os.waitpid(process, 0)[1] == 0
        print(parallel_same([1, 2]))
if process == 0:
    os._exit(0)
"""
    assert output(code, tmp_path).splitlines() == [
        "The processes have ended, or are those of a parent.",
        "[[1], [2]]",
    ]


@pytest.mark.parametrize("thread", ["", THREAD])
def test_program_ends_though_a_context_was_not_left(
    thread: str,
    tmp_path: Path,
) -> None:
    code = thread + "parallel_same = MultiWorker(same, 2).__enter__()\n"
    assert output(code + "print(parallel_same([1, 2]))", tmp_path) == "[[1], [2]]"


@pytest.mark.usefixtures("unmeasured")
def test_program_ends_though_a_thread_goes_on_to_call(tmp_path: Path) -> None:
    code = """\
import functools
from multiprocessing.util import Finalize
from audmodel.parallel.processes import ProcessPool

def call():
    while True:
        try:
            pool.run([functools.partial(time.sleep, 0.05)] * 4)
        except Exception as error:
            errors.add(type(error).__name__)
            time.sleep(0.001)

def report():
    time.sleep(0.3)
    print("RuntimeError" in errors, errors - {"BrokenProcessPool", "RuntimeError"})

errors = set()
# Between the end of the pool and the wait for processes that are left
Finalize(None, report, exitpriority=5)
pool = ProcessPool(2)
threading.Thread(target=call, daemon=True).start()
time.sleep(0.3)
"""
    assert output(code, tmp_path) == "True set()"


@pytest.mark.parametrize("thread", ["", THREAD])
def test_main_module_may_have_no_file(thread: str, tmp_path: Path) -> None:
    code = f"""\
import threading, time
from statistics import fmean
from audmodel.parallel import MultiWorker
{thread}
with MultiWorker(fmean, 2) as parallel_mean:
    print(parallel_mean([1, 3]))
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert (result.stdout, result.stderr) == ("[1.0, 3.0]\n", "")


@pytest.fixture
def sleeping(
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A program, two processes of which sleep."""
    code = f"""\
{request.param}
with MultiWorker(sleep, 2) as parallel_sleep:
    try:
        parallel_sleep(sys.argv[1:])
    except KeyboardInterrupt:
        print("interrupted")
    print(parallel_sleep([]))
"""
    paths = [tmp_path / name for name in "ab"]
    with start(code, tmp_path, *map(str, paths)) as process:
        processes = []
        try:
            for path in paths:
                started = path.with_name(path.name + ".started")
                while not started.exists():
                    assert process.poll() is None
                    time.sleep(0.01)
                processes.append(psutil.Process(int(started.read_text())))
            yield process, processes
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.sample(1)
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("sleeping", ["", THREAD], indirect=True)
@pytest.mark.parametrize("to_all", [True, False])
def test_interrupt_ends_the_processes(sleeping: Any, to_all: bool) -> None:
    process, processes = sleeping
    if to_all:
        # As a terminal does
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=10)
    assert (stdout, stderr) == ("interrupted\n[]\n", "")
    assert not psutil.wait_procs(processes, timeout=5)[1]


@pytest.mark.usefixtures("unmeasured")
def test_interrupt_of_the_end_ends_calls_of_other_threads(tmp_path: Path) -> None:
    code = """\
outcomes = []

def call(parallel_sleep, path):
    try:
        parallel_sleep([path])
    except Exception as error:
        outcomes.append(type(error).__name__)

threads = []
try:
    with MultiWorker(sleep, 2) as parallel_sleep:
        for path in sys.argv[1:]:
            threads.append(threading.Thread(target=call, args=(parallel_sleep, path)))
            threads[-1].start()
        # The third one waits for one of the two processes
        while sum(os.path.exists(path + ".started") for path in sys.argv[1:]) < 2:
            time.sleep(0.01)
        time.sleep(0.1)
        print("leaving", flush=True)
except KeyboardInterrupt:
    for thread in threads:
        thread.join()
    print(*sorted(outcomes))
"""
    paths = [str(tmp_path / name) for name in "abc"]
    with start(code, tmp_path, *paths) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "leaving\n"
        # A moment to begin to wait
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=10)
    assert stdout == "BrokenProcessPool BrokenProcessPool RuntimeError\n"
    assert stderr == ""


@pytest.mark.usefixtures("unmeasured")
def test_interrupt_at_any_point_loses_no_process(tmp_path: Path) -> None:
    code = """\
import functools
from audmodel.parallel.processes import ProcessPool

def trace(frame, event, argument):
    global lines
    code = frame.f_code
    if not code.co_filename.endswith(("processes.py", "waiting.py")):
        return None
    if event == "line":
        lines -= 1
        if lines == 0:
            raise KeyboardInterrupt
    return trace

signal.alarm(30)
pool = ProcessPool(1)
calls = [functools.partial(same, [number]) for number in range(2)]
interrupts = 0
while True:
    lines = interrupts + 1
    try:
        sys.settrace(trace)
        pool.run(calls)
    except KeyboardInterrupt:
        interrupts += 1
    else:
        break
    finally:
        sys.settrace(None)
    assert pool.run(calls) == [[0], [1]]
pool.close()
print(interrupts > 50)
"""
    assert output(code, tmp_path) == "True"


def test_idle_processes_end_with_a_program_that_is_killed(tmp_path: Path) -> None:
    code = """\
with MultiWorker(same, 2) as parallel_same, MultiWorker(same, 2) as other:
    parallel_same([1, 2])
    other([1, 2])
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(60)
"""
    with start(code, tmp_path) as process:
        try:
            assert process.stdout is not None
            pids = process.stdout.readline().split()
            processes = [psutil.Process(int(pid)) for pid in pids]
            assert processes
            process.kill()
            assert not psutil.wait_procs(processes, timeout=5)[1]
        finally:
            os.killpg(process.pid, signal.SIGKILL)

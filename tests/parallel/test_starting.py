"""The process that workers are forked from changes nothing but the time."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import subprocess
import sys
import zipfile

import psutil
import pytest

from tests.conftest import ROOT


pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere processes start from scratch"
)


HEAD = """\
import os, sys, time, threading, multiprocessing
import psutil
from audmodel.parallel import MultiWorker, flatten_reduction

def call(items):
    return [eval(item) for item in items]

def sleep(items):
    time.sleep(60)

def is_server(process):
    try:
        return "parallel.server" in " ".join(process.cmdline())
    except psutil.ZombieProcess:
        return False

def servers():
    return list(filter(is_server, psutil.Process().children()))

"""


def start(code: str, folder: Path) -> subprocess.Popen[str]:
    path = folder / "script.py"
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    path.write_text(HEAD + 'if __name__ == "__main__":\n' + lines)
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def output(code: str, folder: Path) -> list[str]:
    with start(code, folder) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    return stdout.splitlines()


def test_later_pools_need_no_further_start_of_python(tmp_path: Path) -> None:
    code = """\
parents = set()
for _ in range(3):
    with MultiWorker(call, 2, reduction=flatten_reduction) as parallel_call:
        parents |= set(parallel_call(["os.getppid()"] * 2))
print(parents == {server.pid for server in servers()})
"""
    assert output(code, tmp_path) == ["True"]


def test_workers_have_nothing_of_the_program_or_of_each_other(tmp_path: Path) -> None:
    code = """\
kept = [os.open(os.devnull, os.O_RDONLY) for _ in range(50)]
for number in kept:
    os.set_inheritable(number, True)
parallel_call = MultiWorker(call, 1, reduction=flatten_reduction, timeout=50)
questions = ["len(os.listdir('/proc/self/fd'))", "threading.active_count()"]
questions.append("multiprocessing.parent_process().pid")
with parallel_call as first:
    alone = first(questions)
    worker = MultiWorker(call, 4, reduction=flatten_reduction)
    with worker as parallel_call:
        parallel_call(["1"] * 4)
        with MultiWorker(call, 1, reduction=flatten_reduction, timeout=50) as last:
            print(alone == last(questions), alone[0] < 20)
            print(alone[1:] == [1, os.getpid()])
"""
    assert output(code, tmp_path) == ["True True", "True"]


CHANGES = {
    "variable": (
        "os.environ['AUDMODEL_PROBE'] = 'x'",
        "os.environ.get('AUDMODEL_PROBE')",
        "x",
    ),
    "umask": ("os.umask(0o027)", "os.umask(0)", str(0o027)),
    "folder": ("os.chdir('/usr')", "os.getcwd()", "/usr"),
    "limit": (
        "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
        "__import__('resource').getrlimit(__import__('resource').RLIMIT_CORE)",
        "(0, 0)",
    ),
    "processors": (
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])",
        "len(os.sched_getaffinity(0))",
        "1",
    ),
    "priority": ("os.nice(3)", "os.nice(0)", str(os.nice(0) + 3)),
    "signals": (
        "import signal; signal.signal(signal.SIGUSR2, signal.SIG_IGN)",
        "__import__('signal').getsignal(__import__('signal').SIGUSR2) == 1",
        "True",
    ),
    "import path": ("sys.path.append('/nowhere')", "sys.path[-1]", "/nowhere"),
    "arguments": ("sys.argv.append('x')", "sys.argv[-1]", "x"),
}


@pytest.mark.sample(3)
@pytest.mark.parametrize("change", CHANGES)
def test_worker_sees_what_has_changed_since_the_first_one(
    change: str, tmp_path: Path
) -> None:
    action, question, answer = CHANGES[change]
    code = f"""\
question = {question!r}
for _ in range(2):
    with MultiWorker(call, 1, reduction=flatten_reduction, timeout=50) as parallel_call:
        print(parallel_call([question])[0])
    {action}
"""
    before, after = output(code, tmp_path)
    assert (before != answer, after) == (True, answer)


def test_pools_before_and_after_a_change_go_on(tmp_path: Path) -> None:
    code = """\
question = ["os.environ.get('AUDMODEL_PROBE')"] * 2
first = MultiWorker(call, 2, reduction=flatten_reduction)
second = MultiWorker(call, 2, reduction=flatten_reduction)
with first as call_first:
    who = ["(time.sleep(0.2), os.getpid())[1]"] * 2
    workers = call_first(who)
    os.environ["AUDMODEL_PROBE"] = "x"
    with second as call_second:
        print(call_first(question), call_second(question), len(servers()))
        print(sorted(call_first(who)) == sorted(workers))
end = time.monotonic() + 10
while len(servers()) > 1 and time.monotonic() < end:
    time.sleep(0.01)
print(len(servers()))
"""
    assert output(code, tmp_path) == ["[None, None] ['x', 'x'] 2", "True", "1"]


def test_output_goes_where_that_of_the_program_goes(tmp_path: Path) -> None:
    code = f"""\
question = "print('to the file', flush=True)"
with MultiWorker(call, 1, timeout=50) as parallel_call:
    parallel_call(["print('to the pipe', flush=True)"])
file = os.open({str(tmp_path / "file")!r}, os.O_WRONLY | os.O_CREAT)
os.dup2(file, 1)
with MultiWorker(call, 1, timeout=50) as parallel_call:
    parallel_call([question])
"""
    assert output(code, tmp_path) == ["to the pipe"]
    assert (tmp_path / "file").read_text() == "to the file\n"


def test_program_may_have_closed_its_output(tmp_path: Path) -> None:
    code = """\
os.close(1)
with MultiWorker(call, 2, reduction=flatten_reduction) as parallel_call:
    answers = parallel_call(["1 + 1", "print('lost')"])
print(answers, file=sys.stderr)
sys.stdout = None
"""
    with start(code, tmp_path) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert (stdout, stderr) == ("", "[2, None]\n")


def test_program_goes_on_when_the_server_was_killed(tmp_path: Path) -> None:
    code = """\
from concurrent.futures.process import BrokenProcessPool
def kill_server():
    time.sleep(0.5)
    servers()[0].kill()

with MultiWorker(call, 2, reduction=flatten_reduction) as parallel_call:
    print(parallel_call(["1", "2"]))
    workers = multiprocessing.active_children()
    threading.Thread(target=kill_server).start()
    try:
        parallel_call(["time.sleep(60)"] * 2)
    except BrokenProcessPool as error:
        print(error)
    print(parallel_call(["3", "4"]))
    # The system may leave those without a parent as zombies
    pids = [worker.pid for worker in workers if psutil.pid_exists(worker.pid)]
    print([pid for pid in pids if psutil.Process(pid).status() != "zombie"])
"""
    assert output(code, tmp_path) == [
        "[1, 2]",
        "A process ended with code -9.",
        "[3, 4]",
        "[]",
    ]


def test_exit_codes_are_those_of_the_processes(tmp_path: Path) -> None:
    code = """\
from concurrent.futures.process import BrokenProcessPool
with MultiWorker(call, 1, timeout=50) as parallel_call:
    for item in ("os._exit(3)", "os.kill(os.getpid(), 15)", "os.abort()"):
        try:
            parallel_call([item])
        except BrokenProcessPool as error:
            print(error)
"""
    assert output(code, tmp_path) == [
        "A process ended with code 3.",
        "A process ended with code -15.",
        "A process ended with code -6.",
    ]


def test_nothing_piles_up(tmp_path: Path) -> None:
    code = """\
def count():
    (server,) = servers()
    return psutil.Process().num_fds(), server.num_fds(), server.children()

def fan_out():
    with MultiWorker(call, 4) as parallel_call:
        parallel_call(["1"] * 4)

def settled():
    # The server learns of the end of its processes a moment later
    end = time.monotonic() + 10
    while count()[2] and time.monotonic() < end:
        time.sleep(0.01)
    return count()

fan_out()
before = settled()
for _ in range(10):
    fan_out()
end = time.monotonic() + 10
while settled() != before and time.monotonic() < end:
    time.sleep(0.01)
print(count() == before, before[2])
"""
    assert output(code, tmp_path) == ["True []"]


@pytest.mark.sample(1)
@pytest.mark.parametrize("has_fork", [False, True])
@pytest.mark.parametrize("num_busy", [0, 1, 2])
def test_nothing_is_left_of_a_program_that_was_killed(
    num_busy: int, has_fork: bool, tmp_path: Path
) -> None:
    code = f"""\
with MultiWorker(call, 2) as parallel_call:
    parallel_call(["1", "2"])
    if {has_fork} and os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    children = psutil.Process().children(recursive=True)
    if {has_fork}:
        children = [p for p in children if p.cmdline() != psutil.Process().cmdline()]
    print(*(child.pid for child in children), flush=True)
    # In the middle of a call, or between calls
    parallel_call(["time.sleep(60)"] * {num_busy}) or time.sleep(60)
"""
    with start(code, tmp_path) as process:
        assert process.stdout is not None
        pids = process.stdout.readline().split()
        forks = psutil.Process(process.pid).children()
        try:
            # A server, two workers, and a process of multiprocessing
            processes = [psutil.Process(int(pid)) for pid in pids]
            assert len(processes) == 4
            others = [
                p for p in processes if "resource_tracker" not in " ".join(p.cmdline())
            ]
            process.kill()
            assert not psutil.wait_procs(others, timeout=5)[1]
        finally:
            for fork in forks:
                if fork.is_running():
                    fork.send_signal(signal.SIGKILL)


MAIN = """\
from audmodel.parallel import MultiWorker, flatten_reduction

def double(items):
    return [2 * item for item in items]

if __name__ == "__main__":
    with MultiWorker(double, 2, reduction=flatten_reduction) as parallel_double:
        print(parallel_double([1, 2, 3]))
"""


@pytest.mark.sample(2)
@pytest.mark.parametrize("kind", ["script", "module", "zip", "-c", "standard input"])
def test_any_main_module(kind: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(MAIN)
    with zipfile.ZipFile(tmp_path / "program.zip", "w") as archive:
        archive.writestr("__main__.py", MAIN)
    arguments = {
        "script": [str(script)],
        "module": ["-m", "program"],
        "zip": [str(tmp_path / "program.zip")],
        "-c": ["-c", MAIN],
        "standard input": [],
    }[kind]
    result = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        input=MAIN if kind == "standard input" else "",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (result.stdout, result.stderr) == ("[2, 4, 6]\n", "")


def test_error_of_the_main_module_reaches_the_call(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        f"import os\nos.chdir({str(tmp_path)!r})\n" + MAIN + "\n"
        "if __name__ != '__main__':\n    raise SystemExit('not twice')\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.stderr.splitlines()[-1] == (
        "RuntimeError: A process could not import the main module of the program: "
        "not twice (SystemExit). "
        "What a script does must be in 'if __name__ == \"__main__\":'."
    )


FAILING_FORK = """\
import errno, os, socket, sys
from audmodel.parallel import forks, server

def fork():
    raise OSError(errno.EAGAIN, "no more")

theirs, ours = socket.socketpair(type=socket.SOCK_SEQPACKET)
status, their_status = socket.socketpair()
server.request(ours, their_status.fileno(), their_status.fileno(), [], [])
their_status.close()
ours.close()
os.fork = fork
server.main(theirs.detach())
try:
    forks._number_of_process(status)
except BlockingIOError as error:
    print(error.errno == errno.EAGAIN)
"""


def test_limit_of_processes_is_the_error_of_the_one_call() -> None:
    result = subprocess.run(
        [sys.executable, "-c", FAILING_FORK],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert (result.stdout, result.stderr) == ("True\n", "")

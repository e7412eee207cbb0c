"""Watch calls to the operating system, kill a process at one, or let one fail.

A server imports everything once.
What is to be watched runs in a fork of it,
to which ``strace`` is attached before it starts,
so that its first call is number one in each run.
This takes hundredths of a second,
which is what makes it possible to try every call.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
import json
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from types import TracebackType
from typing import Any

import audmodel
from tests.conftest import ROOT
from tests.parts import skip_without


# Calls that change what is on the disk. Not every machine has all of them.
CHANGING = (
    "open",
    "openat",
    "creat",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "copy_file_range",
    "sendfile",
    "fallocate",
    "ftruncate",
    "truncate",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "chmod",
    "fchmod",
    "fchmodat",
    "utimensat",
)
# Calls that make it durable
SYNCING = ("fsync", "fdatasync", "syncfs", "sync_file_range")

_CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
_UNFINISHED = " <unfinished ...>"

_SERVER = """
import ctypes, json, mmap, os, signal, sys, time
import audmodel
for name in json.loads(sys.argv[1]):
    __import__(name)
try:
    allow = ctypes.CDLL(None).prctl
except AttributeError:
    allow = lambda *args: None
answer = mmap.mmap(-1, 1 << 20)
for line in sys.stdin:
    request = json.loads(line)
    answer[:4] = bytes(4)
    wait, go = os.pipe()
    ready, tell = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(go)
        os.close(ready)
        # Let any process of this user attach, where only parents may
        allow(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        # Nothing before is to be counted
        os.write(tell, b"x")
        os.read(wait, 1)
        args = request["args"]
        try:
            audmodel.config.CACHE_ROOT = args["cache_root"]
            audmodel.config.REPOSITORIES = [
                audmodel.Repository(*values) for values in args["repositories"]
            ]
            scope = {"args": args, "audmodel": audmodel, "os": os, "time": time}
            exec(request["code"], scope)
            if request["after"]:
                # It ends the process without a word to Python
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, request["after"])
            result = {"result": scope["main"]()}
        except BaseException as error:
            result = {
                "error": type(error).__name__,
                "message": str(error),
                "bases": [base.__name__ for base in type(error).__mro__],
            }
        content = json.dumps(result).encode()
        answer[4 : 4 + len(content)] = content
        answer[:4] = len(content).to_bytes(4, "big")
        os._exit(0)
    os.close(wait)
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    print(pid, flush=True)
    command = sys.stdin.readline()
    os.write(go, b"x")
    os.close(go)
    _, status = os.waitpid(pid, 0)
    length = int.from_bytes(answer[:4], "big")
    content = json.loads(answer[4 : 4 + length]) if length else {}
    print(json.dumps([status, content]), flush=True)
"""

# What a call of audmodel imports only when it is needed.
# To look for a module may open folders, depending on what others write there,
# and calls to the operating system are known by their numbers
MODULES = (
    *(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "audmodel" / "core").rglob("*.py"))
        if path.name != "__init__.py"
    ),
    "concurrent.futures.thread",
    "decimal",
    "encodings.ascii",
    "filelock",
    "getpass",
    "shutil",
    "uuid",
)


@dataclass(frozen=True)
class Call:
    """One call to the operating system.

    Attributes:
        thread: ID of the thread
        name: name of the call
        number: which call of this name of this thread it was, from 1
        text: arguments and result

    """

    thread: int
    name: str
    number: int
    text: str

    @property
    def is_changing(self) -> bool:
        """Whether the call may change what is on the disk."""
        if self.name in ("open", "openat"):
            return "O_CREAT" in self.text or "O_TRUNC" in self.text
        return self.name in CHANGING

    @property
    def failed(self) -> bool:
        return re.search(r"= -1 E\w+", self.text) is not None

    @property
    def point(self) -> tuple[str, int]:
        """Where to kill a process to stop it just before this call."""
        return self.name, self.number


@dataclass(frozen=True)
class Run:
    """What became of a process.

    Attributes:
        status: status as of ``waitpid()``
        result: what the code returned
        error: name of the class of the exception it raised
        message: message of the exception
        bases: names of the classes that the exception derives from
        calls: calls to the operating system, if they were watched

    """

    status: int
    result: Any = None
    error: str | None = None
    message: str = ""
    bases: Sequence[str] = ()
    calls: Sequence[Call] = ()

    @property
    def was_killed(self) -> bool:
        deadly = (signal.SIGKILL, signal.SIGALRM)
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) in deadly


class Tracer:
    """Run code whose calls to the operating system are watched, or fail.

    Args:
        environment: additional environment variables
        folder: folder for temporary files
        python: Python that runs the code
        modules: what is imported before

    """

    def __init__(
        self,
        environment: dict[str, str],
        folder: Path,
        *,
        python: Path = Path(sys.executable),
        modules: Sequence[str] = MODULES,
    ) -> None:
        self._folder = folder
        program = shutil.which("strace")
        if program is None:
            # It fails calls, and kills processes at them
            skip_without("strace")
        self._strace = program
        self._server = subprocess.Popen(
            [python, "-c", _SERVER, json.dumps(modules)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={
                **os.environ,
                "PYTHONDONTWRITEBYTECODE": "1",
                "HOME": str(folder),
                **environment,
            },
        )

    def __enter__(self) -> Tracer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.communicate()

    def run(
        self,
        code: str,
        *,
        inject: str | None = None,
        watch: Iterable[str] = (),
        after: float | None = None,
        started: Callable[[int], None] = lambda process: None,
        **arguments: Any,
    ) -> Run:
        """Run the body of a function with the variables args, audmodel, os, time.

        Args:
            code: body of a function
            inject: what happens to which call,
                as in ``strace -e inject=...``
            watch: names of calls to watch
            after: seconds after which the process is killed
            started: called with the ID of the process before it does anything
            **arguments: arguments of the code

        Returns:
            what became of it

        """
        arguments.setdefault("cache_root", audmodel.default_cache_root())
        arguments["repositories"] = [
            (repository.name, repository.host, repository.backend)
            for repository in audmodel.config.REPOSITORIES
        ]
        body = textwrap.indent(textwrap.dedent(code), "    ")
        code = f"def main():\n{body}\n"
        self._send(json.dumps({"code": code, "args": arguments, "after": after}))
        pid = int(self._receive())
        started(pid)
        log = self._folder / "log"
        command = [self._strace, "-f", "-qq", "-y", "-s", "0", "-p", str(pid)]
        traced = [*watch]
        if inject is not None:
            traced.append(inject.partition(":")[0])
            command += ["-e", f"inject={inject}"]
        tracer = None
        if traced:
            names = ",".join(f"?{name}" for name in ",".join(traced).split(","))
            command += ["-e", f"trace={names}", "-e", "signal=none"]
            command += ["-o", str(log) if watch else os.devnull]
            tracer = subprocess.Popen(command)
            _wait_until_attached(pid, tracer)
        self._send("go")
        status, answer = json.loads(self._receive())
        if tracer is not None:
            tracer.wait(timeout=60)
        calls = read_log(log.read_text()) if watch else ()
        return Run(status, calls=calls, **answer)

    def _send(self, line: str) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(line + "\n")
        self._server.stdin.flush()

    def _receive(self) -> str:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, "the server has ended"
        return line


def _wait_until_attached(pid: int, tracer: subprocess.Popen[bytes]) -> None:
    status = Path(f"/proc/{pid}/status")
    deadline = time.monotonic() + 60
    while "TracerPid:\t0\n" in status.read_text():
        assert time.monotonic() < deadline
        assert tracer.poll() is None, "strace cannot attach to a process"
        time.sleep(0.0005)


def read_log(text: str) -> list[Call]:
    """Calls in the order in which they returned.

    Args:
        text: what ``strace -f`` wrote

    Returns:
        calls

    """
    calls: list[Call] = []
    numbers: dict[tuple[int, str], int] = {}
    begun: dict[int, tuple[int, str]] = {}
    for line in text.splitlines():
        if match := _RESUMED.match(line):
            thread = int(match[1])
            if thread not in begun:
                continue
            number, start = begun.pop(thread)
            calls.append(Call(thread, match[2], number, start + match[3]))
        elif match := _CALL.match(line):
            thread, name, rest = int(match[1]), match[2], match[3]
            number = numbers[thread, name] = numbers.get((thread, name), 0) + 1
            if rest.endswith(_UNFINISHED):
                begun[thread] = (number, rest.removesuffix(_UNFINISHED))
            else:
                calls.append(Call(thread, name, number, rest))
    return calls

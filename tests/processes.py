"""Other processes, with this audmodel and with the released one."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import textwrap
from typing import Any

import pytest

import audmodel
from audmodel.core.backend.reader import FileReader


ROOT = Path(__file__).parent.parent
# Arguments of the code come as JSON, its result goes back the same way.
_PROGRAM = """\
import json, os, sys, time
args = json.loads(sys.argv[1])
import audmodel
audmodel.config.CACHE_ROOT = args["cache_root"]
audmodel.config.REPOSITORIES = [
    audmodel.Repository(*values) for values in args["repositories"]
]
def barrier(name):
    # Wait for all processes that were started together
    open(os.path.join(args["folder"], f"{{name}}-{{args['number']}}"), "w").close()
    while True:
        names = [entry.rpartition("-")[0] for entry in os.listdir(args["folder"])]
        if names.count(str(name)) == args["count"]:
            return
        time.sleep(0.001)
def main():
{code}
result = main()
sys.stdout.write(json.dumps(result))
"""


class Process:
    """Code that runs in a Python process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def result(self, timeout: float = 60) -> Any:
        """What the code returned."""
        output, errors = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, errors
        # Shown if the test fails
        sys.stderr.write(errors)
        return json.loads(output)

    def errors(self, timeout: float = 60) -> str:
        """What it wrote to stderr before it failed."""
        _, errors = self.process.communicate(timeout=timeout)
        assert self.process.returncode != 0
        return errors


class Interpreter:
    """Run code in processes of their own, configured as this one."""

    def __init__(self, python: str | Path, environment: dict[str, str]) -> None:
        self._python = str(python)
        self._environment = environment
        self._started: list[subprocess.Popen[str]] = []

    def start(self, code: str, **arguments: Any) -> Process:
        """Run the body of a function with the variables args, json, os, sys, time."""
        code = textwrap.indent(textwrap.dedent(code), "    ")
        arguments["cache_root"] = audmodel.default_cache_root()
        arguments["repositories"] = [
            (repository.name, repository.host, repository.backend)
            for repository in audmodel.config.REPOSITORIES
        ]
        process = subprocess.Popen(
            [self._python, "-c", _PROGRAM.format(code=code), json.dumps(arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=os.environ["HOME"],
            env={**os.environ, **self._environment},
            start_new_session=True,
        )
        self._started.append(process)
        return Process(process)

    def run(self, code: str, **arguments: Any) -> Any:
        return self.start(code, **arguments).result()

    def start_many(self, code: str, count: int, **arguments: Any) -> list[Process]:
        """Run code in several processes, which may wait for each other.

        The code may call barrier(name), and finds its number in args.
        """
        folder = tempfile.mkdtemp(dir=os.environ["HOME"])
        return [
            self.start(code, folder=folder, number=number, count=count, **arguments)
            for number in range(count)
        ]

    def run_many(self, code: str, count: int, **arguments: Any) -> list[Any]:
        processes = self.start_many(code, count, **arguments)
        return [process.result() for process in processes]

    def stop(self) -> None:
        for process in self._started:
            if process.returncode is None:
                # Its forks have its output open as well
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def python() -> Iterator[Interpreter]:
    """Processes with this audmodel."""
    interpreter = Interpreter(sys.executable, {"PYTHONPATH": str(ROOT)})
    yield interpreter
    interpreter.stop()


@pytest.fixture
def released(released_python: Path) -> Iterator[Interpreter]:
    """Processes with the released audmodel."""
    interpreter = Interpreter(released_python, {"PYTHONSAFEPATH": "1"})
    yield interpreter
    interpreter.stop()


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each request for a range of an archive."""
    counts: list[int] = []
    readinto = FileReader._readinto

    def count(self: FileReader, offset: int, view: memoryview) -> None:
        counts.append(len(view))
        readinto(self, offset, view)

    monkeypatch.setattr(FileReader, "_readinto", count)
    return counts

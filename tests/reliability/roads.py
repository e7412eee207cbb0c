"""Ask the same of audmodel by several roads, and compare what comes back.

A road is a backend with a cache of its own,
and the Python function, the command line in this process, or in one of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import datetime
import io
import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any
from typing import NamedTuple

import audmodel
from audmodel import errors
from audmodel.cli import main
from tests.processes import ROOT
from tests.reliability.conftest import patience


# Exit codes that the documentation names, by the class of the error
CODES: tuple[tuple[type[Exception], int], ...] = (
    (errors.NotCachedError, 1),
    (errors.CacheError, 6),
    (errors.ModelExistsError, 5),
    (errors.ModelInUseError, 5),
    (errors.ArchiveError, 3),
    (errors.InvalidDocumentError, 3),
    (errors.RepositoryError, 4),
    (errors.AudmodelError, 1),
)
DAMAGED = 3


class Outcome(NamedTuple):
    """What came back, without what differs between roads by nature."""

    code: int
    value: Any
    message: str = ""


@dataclasses.dataclass
class World:
    """Repository on some backend, and a cache for it."""

    name: str
    repository: audmodel.Repository
    cache: Path

    @property
    def other(self) -> audmodel.Repository:
        """Repository to copy to."""
        host = self.cache.parent / f"other-{self.name}"
        (host / "copies").mkdir(parents=True, exist_ok=True)
        return audmodel.Repository("copies", str(host), "file-system")

    @property
    def folder(self) -> Path:
        """Folder to put models into."""
        return self.cache.parent / f"folder-{self.name}"

    def enter(self) -> None:
        audmodel.config.REPOSITORIES = [self.repository]
        audmodel.config.CACHE_ROOT = str(self.cache)

    def plain(self, value: Any) -> Any:
        """Data as JSON has it, without the place of repository and cache."""
        if isinstance(value, str):
            for known, shown in (
                (str(self.repository), "<repository>"),
                (str(self.cache), "<cache>"),
                (str(self.folder), "<folder>"),
                (self.repository.host, "<host>"),
                (self.repository.name, "<repository>"),
            ):
                value = value.replace(known, shown)
            return value
        if isinstance(value, Mapping):
            return {str(key): self.plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(item) for item in value]
        if isinstance(value, audmodel.Repository):
            return "<repository>"
        if isinstance(value, datetime.date):
            return value.isoformat()
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self.plain(record(value))
        return value


def record(value: Any) -> dict[str, Any]:
    """Fields of a result."""
    return {
        field.name: getattr(value, field.name) for field in dataclasses.fields(value)
    }


# Options that are not the same for all repositories
CACHE = "--cache-root"
REPOSITORY = "--repository"
SOURCE = "--from"
TARGET = "--to"
FOLDER = "--to-folder"


def notation(repository: audmodel.Repository) -> str:
    """Repository as the command line takes it."""
    return f"{repository.backend}:{repository.host}:{repository.name}"


class Call(NamedTuple):
    """One question, for Python and for the command line."""

    python: Callable[[], Any]
    command: Sequence[str] = ()
    # What the command line says, as Python says it
    read: Callable[[Any], Any] = lambda data: data


def ask(world: World, call: Call, road: str) -> Outcome:
    """Take one road."""
    world.enter()
    if road == "python" or not call.command:
        return _ask_python(world, call)
    repository = world.repository
    options = {
        CACHE: [CACHE, str(world.cache)],
        REPOSITORY: [REPOSITORY, notation(repository)],
        SOURCE: [SOURCE, notation(repository)],
        TARGET: [TARGET, notation(world.other)],
        FOLDER: ["--to", str(world.folder)],
    }
    arguments = ["--json"]
    for word in call.command:
        arguments += options.get(word, [word])
    # The words of the command come first
    words = [*arguments[1:], arguments[0]]
    is_alone = road == "process" and repository.backend == "file-system"
    run = _run if is_alone and REPOSITORY in call.command else _main
    code, output, log = run(words)
    if output:
        return Outcome(code, world.plain(call.read(json.loads(output))))
    _, _, message = log.rpartition(": error: ")
    return Outcome(code, None, world.plain(message.strip()))


def _ask_python(world: World, call: Call) -> Outcome:
    try:
        value = call.python()
    except errors.AudmodelError as error:
        code = next(code for kind, code in CODES if isinstance(error, kind))
        text = error.strerror if isinstance(error, OSError) else None
        return Outcome(code, None, world.plain(text or str(error)))
    value = world.plain(value)
    is_damaged = isinstance(value, dict) and value.get("ok") is False
    return Outcome(DAMAGED if is_damaged else 0, value)


def _main(words: list[str]) -> tuple[int, str, str]:
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
        content = out.buffer.getvalue()
    return code, content.decode(), err.getvalue()


def _run(words: list[str]) -> tuple[int, str, str]:
    result = subprocess.run(
        [sys.executable, "-m", "audmodel", *words],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        timeout=patience(),
    )
    return result.returncode, result.stdout, result.stderr

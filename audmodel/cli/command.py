r"""Commands and their results."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


OK = 0
FAILED = 1
USAGE = 2
DAMAGED = 3
REPOSITORY = 4
CONFLICT = 5
CACHE = 6
INTERNAL = 70
INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143

EXIT_CODES = {
    OK: "done",
    FAILED: "no such model, alias or file, or an argument that is not valid",
    USAGE: "command line that is not valid",
    DAMAGED: "damaged archive, record, or model in the cache, "
    "or model that no trusted signer has signed",
    REPOSITORY: "repository that does not respond, does not exist, or denies access",
    CONFLICT: "model that exists already, that another process publishes or deletes, "
    "or that aliases point to",
    CACHE: "cache that is in use, denies access, or is full",
    INTERNAL: "error in audmodel itself, please report it",
    INTERRUPTED: "interrupted by Ctrl-C",
    BROKEN_PIPE: "output to a closed pipe",
    TERMINATED: "ended by SIGTERM",
}


class UsageError(Exception):
    r"""Arguments that do not go together."""


@dataclass(frozen=True)
class Result:
    r"""Result of a command.

    Args:
        data: for programs, shown as JSON
        text: for people, without line break at the end
        code: exit code
        verbatim: whether no character of the text is escaped,
            as in paths that a shell reads

    """

    data: object
    text: str
    code: int = OK
    verbatim: bool = False


@dataclass(frozen=True)
class Command:
    r"""One command.

    Args:
        name: words that call it, e.g. ``'alias set'``
        summary: what it does, in one line
        add_arguments: adds its arguments to a parser
        run: runs it
        example: a command line
        description: details, in one paragraph

    """

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], object]
    run: Callable[[argparse.Namespace], Result]
    example: str
    description: str = ""

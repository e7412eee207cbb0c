r"""Run a command, and show its result, messages and errors."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
from contextlib import contextmanager
import logging
import os
import signal
import sys
import traceback
from typing import NoReturn
import warnings

from audmodel.cli import command as commands
from audmodel.cli import completion
from audmodel.cli import output
from audmodel.cli import parser
from audmodel.core.process.termination import terminable
from audmodel.errors import AliasNotFoundError
from audmodel.errors import ModelNotFoundError


# The first class in the order of inheritance decides.
# Names are used since importing the errors of repositories takes long.
_CODES = {
    "ArchiveError": commands.DAMAGED,
    "InvalidDocumentError": commands.DAMAGED,
    "UntrustedModelError": commands.DAMAGED,
    "RepositoryError": commands.REPOSITORY,
    "ModelExistsError": commands.CONFLICT,
    "ModelInUseError": commands.CONFLICT,
    "PublishConflictError": commands.CONFLICT,
    "CacheError": commands.CACHE,
    "NotCachedError": commands.FAILED,
    "AudmodelError": commands.FAILED,
    "OSError": commands.FAILED,
}
# Messages name what a program calls, and here the command that does the same
_COMMANDS = {
    "alias_history": "alias log",
    "copy": "copy",
    "delete": "delete",
    "delete_alias": "alias rm",
    "resolve_alias": "alias resolve",
    "set_alias": "alias set",
    "sign": "sign",
    "update_meta": "meta update",
    "versions": "versions",
}


def run() -> NoReturn:
    r"""Run the command line of this process, and end it."""
    if completion.VARIABLE in os.environ:
        completion.complete(parser.build())
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    with terminable():
        code = main()
    try:
        sys.stdout.flush()
    except (AttributeError, OSError):
        _abandon(1)
    if code == commands.INTERRUPTED:
        # A shell runs the next command of a script unless a signal ended this one
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    r"""Run one command.

    Args:
        argv: arguments, those of the process if it is ``None``

    Returns:
        exit code

    """
    try:
        args = parser.build().parse(argv)
    except SystemExit as end:
        return int(end.code or 0)
    args.verbose = (args.verbose or _is_terminal(sys.stderr)) and not args.quiet
    name = f"audmodel {args.command.name}"
    try:
        with _messages(name, quiet=args.quiet):
            return _run(args)
    except KeyboardInterrupt:
        _say(name, "interrupted")
        return commands.INTERRUPTED
    except commands.UsageError as error:
        with contextlib.suppress(SystemExit):
            args.parser.error(str(error))
        return commands.USAGE
    # Unexpected errors are bugs of audmodel: only they show a traceback
    except Exception as error:  # noqa: BLE001
        code = _code(error)
        if args.debug or code == commands.INTERNAL:
            _show(output.printable_lines(traceback.format_exc().rstrip("\n")))
        if code == commands.INTERNAL:
            _say(name, "error: This is a bug of audmodel, please report it.")
        else:
            _say(name, f"error: {_message(error)}")
        return code


def _run(args: argparse.Namespace) -> int:
    if sys.stdout is None:
        raise OSError("The result cannot be written: stdout is closed.")
    try:
        result: commands.Result = args.command.run(args)
    except (ModelNotFoundError, AliasNotFoundError) as error:
        raise type(error)(f"{error}{_suggestion(args)}") from error
    text = _text(result, as_json=args.json)
    try:
        output.write(f"{text}\n" if text else "")
    except BrokenPipeError:
        _abandon(1)
        return commands.BROKEN_PIPE
    except OSError as error:
        _abandon(1)
        raise OSError(f"The result cannot be written: {error.strerror}.") from error
    return result.code


def _suggestion(args: argparse.Namespace) -> str:
    r"""Suggestion for an ID or alias that does not exist."""
    from audmodel.core.repository.suggestions import similar_model

    given = getattr(args, "uid", None) or getattr(args, "alias", None) or []
    texts = [given] if isinstance(given, str) else given
    found = (similar_model(text, args.lookup) for text in texts)
    return next(filter(None, found), "")


def _text(result: commands.Result, *, as_json: bool) -> str:
    if as_json:
        return output.to_json(result.data)
    if result.verbatim:
        return result.text
    return output.printable_lines(_with_commands(result.text))


def _code(error: Exception) -> int:
    r"""Exit code for an error."""
    names = (base.__name__ for base in type(error).__mro__)
    return next((_CODES[name] for name in names if name in _CODES), commands.INTERNAL)


def _with_commands(text: str) -> str:
    r"""Text that names commands in place of functions."""
    for function, command in _COMMANDS.items():
        text = text.replace(f"audmodel.{function}()", f"'audmodel {command}'")
    return text


def _message(error: Exception) -> str:
    r"""Message of an error, without error number and in one line."""
    if isinstance(error, OSError) and error.strerror is not None:
        file = "" if error.filename is None else f": '{error.filename}'"
        text = f"{error.strerror}{file}"
    else:
        text = str(error)
    text = " ".join([text, *getattr(error, "__notes__", ())])
    return text.replace("\n", " ").strip() or type(error).__name__


@contextmanager
def _messages(name: str, *, quiet: bool) -> Iterator[None]:
    r"""Show warnings and log messages on stderr."""
    handler = _Handler(name)
    logger = logging.getLogger("audmodel")
    propagate = logger.propagate
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if quiet else "always", UserWarning)
        warnings.showwarning = lambda message, *_, **__: _say(
            name, f"warning: {message}"
        )
        handler.setLevel(logging.ERROR if quiet else logging.WARNING)
        logger.addHandler(handler)
        logger.propagate = False
        try:
            yield
        finally:
            logger.propagate = propagate
            logger.removeHandler(handler)


class _Handler(logging.Handler):
    r"""Shows log messages like other messages."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._command = name

    def emit(self, record: logging.LogRecord) -> None:
        _say(self._command, f"{record.levelname.lower()}: {record.getMessage()}")


def _say(name: str, text: str) -> None:
    r"""Show a message on stderr, in one line."""
    _show(f"{name}: {output.printable(_with_commands(text))}")


def _show(text: str) -> None:
    r"""Show printable text on stderr, and ignore a stderr that is broken."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _abandon(2)


def _is_terminal(stream: object) -> bool:
    return stream is not None and bool(getattr(stream, "isatty", bool)())


def _abandon(descriptor: int) -> None:
    r"""Discard buffered output, so that Python does not change the exit code."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
